"""The taxa of the embedded source: facts, copied from iNaturalist Open Data, and how many photographs each
gets.

`taxa.tsv` beside this module is in the exact format of the bucket's `taxa.csv`. Every row in it is real (id,
ancestry, rank, name, active) but one: 9000001, a provisional name in double quotes as iNaturalist's curators
write them. Some ids stand in ancestry paths without a row of their own (1266534, 1597677, 1581466, 414448,
...), as in the real export.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

HEADER = ("taxon_id", "ancestry", "rank_level", "rank", "name", "active")

# Names the tests, the campaign files and the documentation can rely on.
HOMONYM = ("Prunella", 13982, 52765)  # accentors (Aves) and self-heals (Plantae), both active genera
INACTIVE = 21028  # Colostethus alacris
QUOTED = 9000001  # Amanita "sp-demo01"
HYBRID = 1473163  # Quercus agrifolia × wislizeni
SUBSPECIES = (48706, 47964)  # Amanita muscaria muscaria, Megarhyssa macrurus icterosticta
VARIETY = 81309  # Quercus agrifolia oxyadenia
MISSING = 9000404  # an id that observations name and taxa.csv does not have

# What the second month's taxa.csv changes. The first month carries a common misspelling and an older
# placement; the second is today's iNaturalist but for the last, which is fiction.
RENAMED = (47779, "Iris pseudoacorus", "Iris pseudacorus")
MOVED = (53809, 53810, 1362557)  # Phidippus audax: from the genus into the complex Phidippus audax
DEACTIVATED = 47338  # Formica aserva


@dataclass(frozen=True, slots=True)
class Taxon:
    """One row of `taxa.csv`, every field as it is written there."""

    taxon_id: int
    ancestry: str
    rank_level: str
    rank: str
    name: str
    active: str

    @property
    def path(self) -> tuple[int, ...]:
        """The ids from the root down to this taxon."""
        return (*(int(part) for part in self.ancestry.split("/") if part), self.taxon_id)


@dataclass(frozen=True, slots=True)
class Share:
    """How much of the bucket one taxon gets: a weight (0: nothing in the first month), and where it lives."""

    taxon_id: int
    weight: int
    region: str


def _shares(region: str, weights: Mapping[int, int]) -> tuple[Share, ...]:
    return tuple(Share(taxon_id, weight, region) for taxon_id, weight in weights.items())


# A long tail on purpose: a dataset of equal classes would hide what a real one is like.
SHARES: tuple[Share, ...] = (
    *_shares(
        "north america",
        {
            47219: 150,  # Apis mellifera
            48662: 118,  # Danaus plexippus
            12727: 84,  # Turdus migratorius
            52774: 40,  # Bombus fervidus
            270393: 30,  # Agapostemon angelicus
            1581468: 26,  # Agapostemon texanus
            47226: 34,  # Papilio rutulus
            47916: 26,  # Actias luna
            48094: 18,  # Dryocampa rubicunda
            47934: 38,  # Libellula luctuosa
            47817: 22,  # Libellula saturata
            81495: 24,  # Libellula pulchella
            47975: 18,  # Argia apicalis
            47877: 10,  # Photuris versicolor
            47962: 9,  # Desmocerus palliatus
            53809: 30,  # Phidippus audax
            47382: 18,  # Latrodectus hesperus
            52576: 7,  # Uroctonus mordax
            47963: 5,  # Megarhyssa macrurus
            47964: 6,  # Megarhyssa macrurus icterosticta
            47338: 8,  # Formica aserva
            47340: 7,  # Tapinoma sessile
            34: 20,  # Grus americana
            7: 12,  # Aramus guarauna
            47215: 12,  # Calypso bulbosa
            47588: 18,  # Cypripedium acaule
            47888: 22,  # Impatiens capensis
            47192: 18,  # Cornus canadensis
            47850: 28,  # Quercus agrifolia
            81309: 5,  # Quercus agrifolia oxyadenia
            1473163: 6,  # Quercus agrifolia × wislizeni
            47751: 13,  # Polystichum munitum
            49158: 10,  # Hericium erinaceus
            9000001: 2,  # Amanita "sp-demo01"
        },
    ),
    *_shares(
        "europe",
        {
            55637: 92,  # Bombus pascuorum
            52775: 9,  # Bombus (only to genus)
            47602: 80,  # Taraxacum officinale
            12716: 56,  # Turdus merula
            49133: 46,  # Vanessa atalanta
            48715: 48,  # Amanita muscaria
            48706: 7,  # Amanita muscaria muscaria
            52482: 34,  # Episyrphus balteatus
            52592: 22,  # Pararge aegeria
            55653: 20,  # Maniola jurtina
            55626: 20,  # Pieris rapae
            55401: 16,  # Pieris brassicae
            50867: 24,  # Argiope bruennichi
            52628: 24,  # Araneus diadematus
            6930: 44,  # Anas platyrhynchos
            41: 16,  # Grus grus
            13982: 4,  # Prunella, the birds (only to genus)
            52765: 6,  # Prunella, the plants (only to genus)
            47779: 22,  # Iris pseudacorus
            47435: 14,  # Lotus corniculatus
            47697: 8,  # Hesperis matronalis
            52913: 18,  # Cichorium intybus
            52135: 14,  # Amanita phalloides
            47347: 16,  # Cantharellus cibarius
            47392: 12,  # Coprinus comatus
            48716: 7,  # Aleuria aurantia
            48701: 0,  # Boletus edulis: new in the second month
        },
    ),
    *_shares(
        "south america",
        {
            21141: 12,  # Dendrobates tinctorius
            21150: 9,  # Dendrobates leucomelas
            21217: 6,  # Phyllobates terribilis
            21028: 4,  # Colostethus alacris (inactive)
        },
    ),
    *_shares(
        "australia",
        {
            40232: 10,  # Sarcophilus harrisii
            40167: 3,  # Dasyurus viverrinus
            53605: 1,  # Maratus volans
        },
    ),
)

NEW_IN_MONTH_TWO = 48701

# A wrong identification is corrected to a relative: (as first identified, as corrected).
RELABELS: tuple[tuple[int, int], ...] = (
    (270393, 1581468),
    (1581468, 270393),
    (55637, 52774),
    (47934, 81495),
    (47817, 47934),
    (55626, 55401),
    (48715, 52135),
    (12716, 12727),
)


@cache
def taxa(month: int = 1) -> dict[int, Taxon]:
    """Every row of the given month's `taxa.csv`, by id."""
    text = files("lakehouse.demo").joinpath("taxa.tsv").read_text(encoding="utf-8")
    lines = text.splitlines()
    if tuple(lines[0].split("\t")) != HEADER:
        raise ValueError(f"taxa.tsv has the header {lines[0]!r}, not that of the bucket's taxa.csv")
    rows = {}
    for line in lines[1:]:
        number, *rest = line.split("\t")
        rows[int(number)] = Taxon(int(number), *rest)
    if month == 1:
        taxon_id, earlier, _ = RENAMED
        rows[taxon_id] = replace(rows[taxon_id], name=earlier)
        taxon_id, parent, _ = MOVED
        rows[taxon_id] = replace(rows[taxon_id], ancestry="/".join(map(str, rows[parent].path)))
    else:
        rows[DEACTIVATED] = replace(rows[DEACTIVATED], active="false")
    return rows
