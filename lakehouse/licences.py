"""The licences iNaturalist Open Data may carry, as facts: code in the dump, SPDX id, URL, title, what they
allow.

Source: the exporter's list (inaturalist/iNaturalistAPI `lib/open_data_archive.js`): CC licences are version
4.0, CC0 is 1.0. Anything else is refused, never assumed.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Licence:
    """One licence: `code` as the dump writes it, `spdx` (None where SPDX has no id), `url`, `title`."""

    code: str
    spdx: str | None
    url: str
    title: str

    @property
    def attribution(self) -> str:
        """The attribution line iNaturalist asks for, with `{creator}` where the photographer's name goes."""
        if self.code == "CC0":
            return "{creator}, no rights reserved (CC0)"
        if self.code == "PD":
            return "{creator}, no known copyright restrictions (public domain)"
        return f"© {{creator}}, some rights reserved ({self.code})"

    @property
    def commercial(self) -> bool:
        """Whether commercial use is allowed."""
        return "NC" not in self.code

    @property
    def derivatives(self) -> bool:
        """Whether adaptations may be shared."""
        return "ND" not in self.code


def _cc(code: str, title: str) -> Licence:
    slug = code.removeprefix("CC-").lower()
    return Licence(code, f"{code}-4.0", f"https://creativecommons.org/licenses/{slug}/4.0/", title)


LICENCES: dict[str, Licence] = {
    licence.code: licence
    for licence in (
        Licence(
            "CC0",
            "CC0-1.0",
            "https://creativecommons.org/publicdomain/zero/1.0/",
            "Creative Commons Zero 1.0 Universal",
        ),
        Licence("PD", None, "https://creativecommons.org/publicdomain/mark/1.0/", "Public Domain Mark 1.0"),
        _cc("CC-BY", "Creative Commons Attribution 4.0"),
        _cc("CC-BY-SA", "Creative Commons Attribution-ShareAlike 4.0"),
        _cc("CC-BY-ND", "Creative Commons Attribution-NoDerivatives 4.0"),
        _cc("CC-BY-NC", "Creative Commons Attribution-NonCommercial 4.0"),
        _cc("CC-BY-NC-SA", "Creative Commons Attribution-NonCommercial-ShareAlike 4.0"),
        _cc("CC-BY-NC-ND", "Creative Commons Attribution-NonCommercial-NoDerivatives 4.0"),
    )
}

# Names for what a team usually wants. `open` is what the Open Definition calls open; `noncommercial` adds
# what
# may be adapted and shared for any other than a commercial purpose; `all-cc` everything that may be shared.
PROFILES: dict[str, tuple[str, ...]] = {
    "open": tuple(code for code, part in LICENCES.items() if part.commercial and part.derivatives),
    "noncommercial": tuple(code for code, part in LICENCES.items() if part.derivatives),
    "all-cc": tuple(LICENCES),
}


def attribution(code: str, creator: str) -> str:
    """The attribution line of a photo; raises KeyError for an unknown licence, which must never get this
    far."""
    return LICENCES[code].attribution.replace("{creator}", creator)
