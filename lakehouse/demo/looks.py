"""What each taxon of the embedded source looks like: a form, its colours, the ground it is seen on.

The forms are drawn by `insects`, `animals` and `plants`; a look is data, so that one form serves many species
that can still be told apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Colour = tuple[int, int, int]


def _hex(code: str) -> Colour:
    return int(code[:2], 16), int(code[2:4], 16), int(code[4:], 16)


@dataclass(frozen=True, slots=True)
class Look:
    """The drawing parameters of one taxon.

    Parameters
    ----------
    form
        The name of a function in one of those modules.
    ground
        The name of a palette in `GROUNDS`.
    colours
        As many as the form takes: body, second colour, accents.
    traits
        Numbers and words the form understands (`petals`, `tails`, ...).
    """

    form: str
    ground: str
    colours: tuple[Colour, ...]
    traits: dict[str, float] = field(default_factory=dict)


def _look(form: str, ground: str, colours: str, **traits: float) -> Look:
    return Look(form, ground, tuple(_hex(code) for code in colours.split()), traits)


# Two or three dark-to-light colours per ground, blurred into one another.
GROUNDS: dict[str, tuple[Colour, ...]] = {
    "meadow": (_hex("35582a"), _hex("6b8f3c"), _hex("a9bf5f"), _hex("d9c86a")),
    "flowers": (_hex("3f6b35"), _hex("7ea04a"), _hex("c98fb5"), _hex("e7d27c")),
    "leaves": (_hex("1f3d22"), _hex("2f6130"), _hex("5c8f45"), _hex("93b864")),
    "bark": (_hex("3a2c22"), _hex("5d4736"), _hex("86694e"), _hex("a88d70")),
    "litter": (_hex("3b2a1c"), _hex("6e4b2c"), _hex("96703f"), _hex("5d6a33")),
    "moss": (_hex("26381c"), _hex("445f28"), _hex("6f8c35"), _hex("4b3b27")),
    "sand": (_hex("8c7353"), _hex("b59a72"), _hex("d3bd95"), _hex("a2835c")),
    "stone": (_hex("4b4c4a"), _hex("737470"), _hex("9a9a93"), _hex("6a6f5a")),
    "sky": (_hex("7fa6cc"), _hex("a9c6df"), _hex("d3e2ec"), _hex("93b3d1")),
    "water": (_hex("2c4f5c"), _hex("47727c"), _hex("7ba2a3"), _hex("3d5e4c")),
    "marsh": (_hex("6b6a3c"), _hex("938c52"), _hex("b9b07a"), _hex("7b8f86")),
    "lawn": (_hex("3f6f2c"), _hex("5a8f37"), _hex("7cae48"), _hex("4c7d33")),
    "rainforest": (_hex("12261a"), _hex("1f4029"), _hex("37603a"), _hex("5a3f26")),
    "dusk": (_hex("23283a"), _hex("3b4358"), _hex("62617a"), _hex("2f3a3a")),
}

LOOKS: dict[int, Look] = {
    # Bees, hoverfly, ants, wasps.
    47219: _look("bee", "flowers", "c98a2b 3a2616 d9a441", stripes=4, slim=0.82),
    55637: _look("bee", "flowers", "d98a3a 6b5a4a c96f25", stripes=5, slim=1.08, fuzzy=1),
    52774: _look("bee", "meadow", "efd24a 17140f f3dc62", stripes=2, slim=1.14, fuzzy=1),
    52775: _look("bee", "leaves", "e6c440 191511 f4f0e4", stripes=3, slim=1.2, fuzzy=1),
    270393: _look("bee", "flowers", "f0d94a 14130f 1fae7a", stripes=6, slim=0.68),
    1581468: _look("bee", "meadow", "2fb58c 11614c 38c9a0", stripes=3, slim=0.7),
    52482: _look("hoverfly", "leaves", "f2a52e 1d1610 8a5a2a", stripes=5),
    47338: _look("ant", "sand", "a3401f 2a1a15 b5502a"),
    47340: _look("ant", "stone", "2e2723 1c1815 3c332d"),
    47963: _look("wasp", "bark", "a9742f 3b2413 e4c24d", tail=1.7),
    47964: _look("wasp", "bark", "c79a3c 5b3413 f3e07a", tail=1.2),
    # Butterflies and moths: ground colour, border, marks.
    48662: _look("butterfly", "flowers", "ea7d1c 17110d fbf6ea", veins=1, border=0.2, dots=1),
    49133: _look("butterfly", "leaves", "2b1d1a e2461f fafafa", band=1, border=0.06),
    52592: _look("butterfly", "litter", "6d5030 e9d79b 2a1c10", patches=7, eyes=1, border=0.05),
    55653: _look("butterfly", "meadow", "7d5a34 d98a35 22160d", band=0.7, eyes=1, border=0.08),
    47226: _look("butterfly", "leaves", "f4dd45 16130f 3f6fd1", tiger=1, tails=0.5, border=0.16),
    55626: _look("butterfly", "lawn", "f4f2e2 3a3a38 d9dcae", tips=1, eyes=0.6),
    55401: _look("butterfly", "flowers", "f9f8ef 101010 e5e6b5", tips=1.8, eyes=1.3),
    47916: _look("butterfly", "dusk", "b7e0a2 8c4f78 f2e2a6", tails=1.6, eyes=0.9, border=0.04),
    48094: _look("butterfly", "bark", "f6e06a f08bb0 f7e9a8", band=1.5, border=0.14, small=1),
    # Dragonflies: body, wing marks, eyes.
    47934: _look("dragonfly", "water", "5a6f95 2a2320 dfe7f2", marks=1, width=1.15),
    47817: _look("dragonfly", "marsh", "d2401f e06a2a b93417", marks=0.6, width=1.15),
    81495: _look("dragonfly", "sky", "7a6a58 1f1a18 f4f5f7", marks=3, width=1.05),
    47975: _look("dragonfly", "stone", "3f78d6 18181c 6aa2f0", width=0.6, closed=1),
    # Beetles: wing cases, marks, head.
    47877: _look("beetle", "leaves", "4a4030 d8c68a c94f2a", stripe=1, long=1.5),
    47962: _look("beetle", "leaves", "e0a62c 1c3f8a 1b2f6b", halves=1, long=1.6, horns=1),
    # Spiders and scorpion: abdomen, marks, legs.
    50867: _look("spider", "meadow", "f2d95a 191510 d9c9a0", bands=5, size=1.25, web=1),
    52628: _look("spider", "leaves", "b0713a f5ead0 8a5a30", cross=1, size=1.2, web=1),
    53809: _look("spider", "bark", "23211f f3f3f0 2f2c29", cross=0.6, stout=1, fangs=1),
    47382: _look("spider", "stone", "141214 d81f1f 1c191b", hourglass=1, size=1.35),
    53605: _look("spider", "sand", "2a63c9 e2521f 6b4a30", bands=4, stout=1, size=1.2),
    52576: _look("scorpion", "stone", "7a3f22 4a2413 95552f"),
    # Birds: back, breast, bill, head.
    12727: _look("bird", "lawn", "6d6a63 cf5a2a e8b63a 3b3936", ring=1),
    12716: _look("bird", "lawn", "1d1c1e 242325 ee9d23 1a191b", ring=1),
    13982: _look("bird", "leaves", "7a5a3a 8f959c 3a332e 85898f", streaks=1, small=1),
    6930: _look("duck", "water", "8d8a84 5a3a2a e3c63c 1f7a4a"),
    34: _look("crane", "marsh", "f3f3ee f8f8f4 4a3f35 c8321f"),
    41: _look("crane", "meadow", "8c9298 a5abb0 5a5248 24262a"),
    7: _look("crane", "water", "5e4a38 8a7257 c9a15f 6e5843", short=1, streaks=1),
    # Mammals: fur, marks, muzzle.
    40232: _look("mammal", "litter", "1f1b1b f1efea b5746e", chest=1),
    40167: _look("mammal", "moss", "b58a58 f5efe2 d69a93", spots=1),
    # Frogs: skin, marks, legs.
    21141: _look("frog", "rainforest", "f3d322 151515 2a55c9", saddle=1),
    21150: _look("frog", "rainforest", "f5d21f 121212 e2bd1a", bands=3),
    21217: _look("frog", "litter", "f2bf2a f7d455 e0a91c"),
    21028: _look("frog", "litter", "6b5237 b99a68 55402a", stripe=1),
    # Flowers: petals, centre, second.
    47602: _look("flower", "lawn", "f6c915 e2a10c f9dc4f", petals=38, thin=1, rows=3),
    52913: _look("flower", "meadow", "7fa0e8 4a62b5 a7bdf2", petals=17, square=1),
    47192: _look("flower", "moss", "f8f6ea 9fae5a 6c8a3e", petals=4, broad=1, leafy=1),
    47697: _look("flower", "meadow", "b674c9 e9e07a 9a5bb0", petals=4, broad=0.8, many=6),
    47435: _look("flower", "lawn", "f4c61f d96a1c f8dc50", petals=5, many=5, lean=1),
    52765: _look("spike", "lawn", "7a56b8 4f5f35 9d7fd0"),
    47888: _look("slipper", "leaves", "f08a24 b8391a f9b356", spur=1),
    47588: _look("slipper", "moss", "e08aa8 a3486e 7a5a3a", pouch=1),
    47215: _look("slipper", "litter", "c85fa5 f2e3c4 7d3a72", pouch=0.6),
    47779: _look("iris", "water", "f7d51d a86b12 fbe463"),
    # Leaves.
    47850: _look("leafspray", "sky", "3f6a34 24471f 7b5a38", spiny=1, size=1.0),
    81309: _look("leafspray", "stone", "5a7f4d 2f4a29 8a6a4a", spiny=0.5, size=0.8),
    1473163: _look("leafspray", "bark", "4f8a3f 1f5a2a a3824a", spiny=1.5, size=1.25),
    47751: _look("fern", "moss", "4f9440 2b5a24 7dbb58"),
    # Fungi: cap, stem, marks.
    48715: _look("mushroom", "moss", "d3261c f4efe2 fbf8ee", dots=1, dome=0.9, ring=1),
    48706: _look("mushroom", "litter", "b5301f efe6d2 f2dc9a", dots=0.6, dome=0.55, ring=1),
    52135: _look("mushroom", "litter", "a9b06a eef0dc c9cf98", dome=0.8, ring=1),
    9000001: _look("mushroom", "moss", "8a7fa8 e6e0ea cfc6de", dome=0.6),
    47347: _look("mushroom", "moss", "f0ac22 f2bb45 d98f14", funnel=1),
    47392: _look("mushroom", "lawn", "f1ece0 f6f3ea b59a7a", tall=1, shaggy=1),
    48701: _look("mushroom", "litter", "8a5328 ead9b5 b98a52", dome=1.0, stout=1),
    49158: _look("icicles", "bark", "f7f2e4 e2d6b8 fffdf5"),
    48716: _look("cups", "litter", "ef6a1a f8944a c94f10"),
}
