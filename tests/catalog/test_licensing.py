"""The licence of a dataset is that of its photographs, never a wider one."""

from __future__ import annotations

from itertools import combinations

import pytest

from lakehouse.catalog.licensing import dataset_licence
from lakehouse.errors import CatalogError
from lakehouse.licences import LICENCES

MIXTURES = [set(codes) for size in (1, 2, 3) for codes in combinations(LICENCES, size)]


@pytest.mark.parametrize(
    "codes,ckan_id,huggingface",
    [
        ({"CC0"}, "cc-zero", "cc0-1.0"),
        ({"PD"}, "other-pd", "other"),
        ({"CC0", "PD"}, "other-pd", ["cc0-1.0", "other"]),
        ({"CC0", "CC-BY"}, "cc-by", ["cc0-1.0", "cc-by-4.0"]),
        ({"CC-BY-SA", "CC-BY"}, "cc-by-sa", ["cc-by-4.0", "cc-by-sa-4.0"]),
        ({"CC-BY-NC", "CC0"}, "cc-nc", ["cc0-1.0", "cc-by-nc-4.0"]),
        ({"CC-BY-NC-ND"}, "cc-nc", "cc-by-nc-nd-4.0"),
        ({"CC-BY-SA", "CC-BY-NC"}, "other-nc", ["cc-by-sa-4.0", "cc-by-nc-4.0"]),
        ({"CC-BY-ND"}, "other-closed", "cc-by-nd-4.0"),
    ],
)
def test_each_mixture_is_said_in_the_catalogues_words(
    codes: set[str], ckan_id: str, huggingface: str | list[str]
) -> None:
    licence = dataset_licence(codes)
    assert (licence.ckan_id, licence.huggingface) == (ckan_id, huggingface)
    assert set(licence.codes) == codes


@pytest.mark.parametrize("codes", MIXTURES, ids=lambda codes: "+".join(sorted(codes)))
def test_no_mixture_is_claimed_wider_than_its_parts(codes: set[str]) -> None:
    licence = dataset_licence(codes)
    assert licence.commercial == all("NC" not in code for code in codes)
    assert licence.derivatives == all("ND" not in code for code in codes)
    assert not (licence.ckan_id in ("cc-zero", "other-pd") and codes - {"CC0", "PD"})
    assert not (licence.ckan_id == "cc-by" and codes - {"CC0", "PD", "CC-BY"})
    assert ("nc" in licence.ckan_id) == (not licence.commercial)
    assert licence.spdx.count(" AND ") == len(codes) - 1


def test_an_unknown_licence_stops_everything() -> None:
    with pytest.raises(CatalogError, match=r"unknown licences \(all-rights\)"):
        dataset_licence({"CC0", "all-rights"})


def test_no_licence_at_all_stops_everything() -> None:
    with pytest.raises(CatalogError, match="no licence"):
        dataset_licence(())


@pytest.mark.parametrize(
    "codes,possible",
    [
        ({"CC0", "CC-BY"}, True),
        ({"CC-BY", "CC-BY-NC"}, True),
        ({"CC-BY-SA", "CC-BY"}, True),
        ({"CC-BY-NC-SA", "CC-BY-NC", "CC-BY"}, True),
        ({"CC-BY-SA", "CC-BY-NC"}, False),
        ({"CC-BY-SA", "CC-BY-NC-SA"}, False),
        ({"CC-BY-ND"}, False),
        ({"CC0", "CC-BY-NC-ND"}, False),
    ],
)
def test_one_adaptation_of_all_is_promised_only_where_one_licence_fits(
    codes: set[str], possible: bool
) -> None:
    assert dataset_licence(codes).one_adaptation is possible


@pytest.mark.parametrize("codes", MIXTURES, ids=lambda codes: "+".join(sorted(codes)))
def test_more_photographs_never_widen_what_is_allowed(codes: set[str]) -> None:
    fewer = dataset_licence(codes)
    for code in LICENCES:
        more = dataset_licence(codes | {code})
        for promise in ("commercial", "derivatives", "one_adaptation"):
            assert getattr(more, promise) <= getattr(fewer, promise), (code, promise)
        assert more.share_alike >= fewer.share_alike
