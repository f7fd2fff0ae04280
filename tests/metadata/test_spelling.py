from __future__ import annotations

import pytest

from lakehouse.metadata.spelling import readings


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("Quercus robur L.", "quercus robur"),
        ("Apis mellifera Linnaeus, 1758", "apis mellifera"),
        ("Parus  major\u00a0(Linnaeus, 1758)", "parus major"),
        ("QUERCUS ROBUR", "quercus robur"),
        ("quercus_robur", "quercus robur"),
        ("Abies alba Mill. ex Loudon", "abies alba"),
        ("Acer saccharum subsp. nigrum", "acer saccharum nigrum"),
        ("Acer saccharum Marshall subsp. nigrum (F. Michx.) Desmarais", "acer saccharum nigrum"),
        ("Achillea millefolium var. lanulosa (Nutt.) Piper", "achillea millefolium lanulosa"),
        ("Aster alpinus f. albus", "aster alpinus albus"),
        ("Carex nigra Hook. f. ex Boott", "carex nigra"),
        ("Passer domesticus domesticus", "passer domesticus domesticus"),
        ("Aedes (Stegomyia) aegypti (L.)", "aedes aegypti"),
        ("Mentha x piperita L.", "mentha × piperita"),
        ("Mentha ×piperita", "mentha × piperita"),
        ("×Triticosecale rimpaui", "× triticosecale rimpaui"),
        ("Polygonia c-album", "polygonia c-album"),
        ("Ilex aquifolium de Vries", "ilex aquifolium"),
        ("Quercus spp.", "quercus"),
        ("Apidae Latreille, 1802", "apidae"),
        ("Apidae", "apidae"),
    ],
)
def test_a_name_is_read_without_what_is_not_the_name(written: str, read: str) -> None:
    assert readings(written)[-1] == read


@pytest.mark.parametrize("unsure", ["Quercus sp.", "Quercus sp. 2", "Quercus cf. robur", "Rana aff. una"])
def test_a_name_that_is_not_sure_is_read_as_it_stands(unsure: str) -> None:
    assert readings(unsure) == [unsure.lower()]


def test_nothing_is_read_from_nothing() -> None:
    assert readings("  ") == []
