"""The licence of a dataset, derived from the licences of its photographs and never wider than any of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lakehouse.errors import CatalogError
from lakehouse.licences import LICENCES, Licence

_FREE = {"CC0", "PD"}
_BY = _FREE | {"CC-BY"}
_SHARE_ALIKE = _BY | {"CC-BY-SA"}
# "Creative Commons Non-Commercial (Any)" holds every NC licence, and works that ask for less than they do.
_NON_COMMERCIAL = _BY | {"CC-BY-NC", "CC-BY-NC-SA", "CC-BY-NC-ND"}


@dataclass(frozen=True, slots=True)
class DatasetLicence:
    """What may be done with a dataset as a whole: all `parts`, in the order of `lakehouse.licences`.

    `ckan_id` and `huggingface` are how the two catalogues say it; a catalogue that has no word for a
    mixture is told the narrower "other", with every part listed beside it.
    """

    parts: tuple[Licence, ...]
    ckan_id: str
    huggingface: str | list[str]

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes of the parts, such as `CC-BY`."""
        return tuple(part.code for part in self.parts)

    @property
    def urls(self) -> list[str]:
        """The URLs of the parts."""
        return [part.url for part in self.parts]

    @property
    def spdx(self) -> str:
        """An SPDX expression that names every part (`AND`: each holds for its photographs)."""
        return " AND ".join(part.spdx or f"LicenseRef-{part.code}" for part in self.parts)

    @property
    def commercial(self) -> bool:
        """Whether every photograph may be used commercially."""
        return all(part.commercial for part in self.parts)

    @property
    def derivatives(self) -> bool:
        """Whether adaptations of every photograph may be shared."""
        return all(part.derivatives for part in self.parts)

    @property
    def share_alike(self) -> bool:
        """Whether adaptations of some photograph must carry its licence."""
        return any(_share_alike(part) for part in self.parts)

    @property
    def one_adaptation(self) -> bool:
        """Whether a single adapted work may be made of all photographs together (a collage, not a "
        "collection).

        Not with a NoDerivatives licence among them; and a ShareAlike licence asks for itself, which no work
        can give that holds photographs with narrower terms, or with another ShareAlike licence. Source: CC
        licences 4.0, BY-SA section 3(b), BY-NC-SA section 3(b), and CC's chart of adapter's licences.
        """
        alike = [part for part in self.parts if _share_alike(part)]
        commercial = {part.commercial for part in alike}
        if not self.derivatives or len(commercial) > 1:
            return False
        return self.commercial or commercial != {True}


def _share_alike(part: Licence) -> bool:
    return "SA" in part.code.split("-")


def dataset_licence(codes: Iterable[str]) -> DatasetLicence:
    """The licence of a dataset whose photographs carry `codes`.

    Raises
    ------
    CatalogError
        There is no licence at all, or one that is not known: nothing is published then.
    """
    present = set(codes)
    unknown = sorted(str(code) for code in present - set(LICENCES))
    if unknown:
        raise CatalogError(
            f"the dataset holds photographs under unknown licences ({', '.join(unknown)}), so nothing may "
            f"be said of its licence; known are {', '.join(LICENCES)}; build it again with known licences "
            "only"
        )
    if not present:
        raise CatalogError("the dataset names no licence; an empty dataset cannot be published")
    parts = tuple(licence for code, licence in LICENCES.items() if code in present)
    return DatasetLicence(parts, _ckan_id(present), _huggingface(parts))


def _ckan_id(codes: set[str]) -> str:
    """CKAN's own licence id; the narrowest that all of `codes` fit, or the "other" of the right kind."""
    if codes == {"CC0"}:
        return "cc-zero"
    if codes <= _FREE:
        return "other-pd"
    if codes <= _BY:
        return "cc-by"
    if codes <= _SHARE_ALIKE:
        return "cc-by-sa"
    if codes <= _NON_COMMERCIAL:
        return "cc-nc"
    # ShareAlike or NoDerivatives beside NonCommercial has no id of its own; NoDerivatives alone is not open
    # at all.
    return "other-nc" if any("NC" in code for code in codes) else "other-closed"


def _huggingface(parts: tuple[Licence, ...]) -> str | list[str]:
    # The Hub's identifiers are SPDX ids in lower case; it has none for the Public Domain Mark.
    names = [(part.spdx or "other").lower() for part in parts]
    return names[0] if len(names) == 1 else names
