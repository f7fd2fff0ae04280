"""The observers of the embedded source: invented names, with every trap of the real `observers.csv`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Observer:
    """One row of `observers.csv`; `name` is often empty, and the login stands in for it then."""

    observer_id: int
    login: str
    name: str


# No real persons: names after habitats, birds and weather. Non-ASCII letters, quotes of both kinds, a lone
# quote.
_PEOPLE: tuple[tuple[str, str], ...] = (
    ("meadow_lantern", ""),
    ("bergwiese_ökö", "Öko vom Bergwiesenrain"),
    ("mossandmist", 'Fern "Moss" Underbough'),
    ("dawn-chorus", "Dawn O'Chorus"),
    ("rainy_trail", ""),
    ("mesange_bleue", "Étoile Mésange-Bleue"),
    ("zielona_laka", "Łąka Zielińska-Polna"),
    ("nandu_del_sur", "Ñandú del Sur"),
    ("pondskater9", ""),
    ("kusamushi", "草むら 虫子"),
    ("lesnaya_tropa", "Лесная Тропа"),
    ("quiet.heron", ""),
    ("barkbeetle", 'The "Bark" Beetle'),
    ("aubepine", "Marsh D'Aubépine"),
    ("saltmarsh_sal", ""),
    ("fjordvind", "Bjørk Åsfjell"),
    ("thistledown", ""),
    ("yaprak", "Yaprak Gölgeli"),
    ("stonefly", ""),
    ("oak_gall", "Gall 'Oakley' Inkwell"),
    ("cloudberry", ""),
    ("agua_clara", "Água Clara do Brejo"),
    ("cottonwoodie", ""),
    ("hoverfan", "Hover Fan Club"),
    ("petrichor_", "Petrichor"),
    ("lichenette", ""),
    ("sixinch", '"Six Inch Ruler'),
    ("polygonia", ""),
    ("kestrelish", "Kestrel Ish"),
    ("duneplover", ""),
    ("nightheron", ""),
    ("mycelia_m", "Mycelia M."),
    ("tidepool", ""),
    ("vlinderveld", "Vlinder 't Veld"),
    ("sedgewick", ""),
    ("hawthorn_h", ""),
    ("opalwing", ""),
    ("limberpine", "Limber Pine"),
    ("marigoldie", ""),
    ("jukka_suo", "Suo Jäkälä"),
)

OBSERVERS: tuple[Observer, ...] = tuple(
    Observer(1201 + 137 * number, login, name) for number, (login, name) in enumerate(_PEOPLE)
)
MISSING_OBSERVER = 990_099
RENAMED_OBSERVER = (OBSERVERS[28].observer_id, "Kestrel Windhover")  # in the second month
