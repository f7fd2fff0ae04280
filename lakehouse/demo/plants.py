"""The forms of flowers, leaves and fungi; up is -y."""

from __future__ import annotations

import math

from lakehouse.demo.looks import Look
from lakehouse.demo.pen import Form, Pen, Point, shade

_STEM = (92, 128, 58)


def _petal(pen: Pen, look: Look, angle: float, inner: float, outer: float, half: float, tone: float) -> None:
    colour = shade(look.colours[0], tone)
    x, y = (inner + outer) / 2 * math.cos(angle), (inner + outer) / 2 * math.sin(angle)
    long = (outer - inner) / 2
    if look.traits.get("square"):
        corners: list[Point] = [
            (inner, -half * 0.5),
            (outer, -half),
            (outer * 1.03, 0),
            (outer, half),
            (inner, half * 0.5),
        ]
        cos, sin = math.cos(angle), math.sin(angle)
        pen.shape([(cx * cos - cy * sin, cx * sin + cy * cos) for cx, cy in corners], colour)
    else:
        pen.oval(x, y, long, half, shade(colour, -0.16), angle)
        pen.oval(x * 1.03, y * 1.03, long * 0.86, half * 0.78, colour, angle)
    pen.line(
        [((inner + 0.05) * math.cos(angle), (inner + 0.05) * math.sin(angle)), (x, y)],
        shade(look.colours[2], -0.22),
        0.015,
        130,
    )


def _head(pen: Pen, look: Look) -> None:
    """One flower seen from above, the centre at the origin."""
    petals = int(look.traits["petals"])
    turn = float(pen.rng.uniform(0, math.tau))
    thin = look.traits.get("thin", 0)
    for row in range(int(look.traits.get("rows", 1))):
        outer = 1.0 - 0.24 * row
        half = 0.07 if thin else look.traits.get("broad", 0.6) * outer * math.tan(math.pi / petals) * 0.62
        if look.traits.get("lean"):
            half *= 0.8
        for k in range(petals):
            wobble = float(pen.rng.normal(0, 0.03))
            angle = turn + (k + row * 0.5) * math.tau / petals + wobble
            _petal(pen, look, angle, 0.08, outer * (1 - abs(wobble)), half, 0.08 * row + wobble)
    pen.blob(0, 0, 0.2, 0.2, look.colours[1])
    for k in range(16):
        angle, radius = k * 2.39996, 0.16 * math.sqrt(k / 16)
        pen.oval(
            radius * math.cos(angle), radius * math.sin(angle), 0.024, 0.024, shade(look.colours[1], 0.35)
        )


def flower(pen: Pen, look: Look) -> None:
    """A flower, or several on their stems."""
    many = int(look.traits.get("many", 1))
    if look.traits.get("leafy"):
        for k in range(6):
            angle = k * math.tau / 6 + 0.3
            pen.oval(
                0.95 * math.cos(angle), 0.95 * math.sin(angle), 0.62, 0.3, shade(look.colours[2], -0.1), angle
            )
            pen.line(
                [
                    (0.4 * math.cos(angle), 0.4 * math.sin(angle)),
                    (1.5 * math.cos(angle), 1.5 * math.sin(angle)),
                ],
                shade(look.colours[2], -0.35),
                0.02,
            )
    heads: list[tuple[float, float, float]] = [(0.0, 0.0, 1.0)]
    if many > 1:
        heads = [
            (
                0.72 * math.cos(k * 2.39996) * math.sqrt(k / many) * 1.3,
                0.72 * math.sin(k * 2.39996) * math.sqrt(k / many) * 1.3,
                0.5,
            )
            for k in range(many)
        ]
    for x, y, size in heads:
        pen.line([(x, y), (x * 0.5 + 0.1, 1.3), (0.15, 2.6)], _STEM, 0.07 * size + 0.02)
    for x, y, size in heads:
        _head(pen.inside((x, y), size), look)


def spike(pen: Pen, look: Look) -> None:
    """A mint's spike: whorls of lipped flowers on a square stem."""
    petal, calyx, light = look.colours
    pen.line([(0, -0.9), (0.05, 2.6)], _STEM, 0.1)
    for side in (1, -1):
        pen.oval(0.5 * side, 1.1, 0.5, 0.17, shade(_STEM, -0.1), 0.5 * -side)
    for row in range(6):
        y = 0.75 - 0.3 * row
        wide = 0.55 - 0.06 * row
        pen.blob(0, y, wide * 0.7, 0.17, calyx)
        for k in range(4):
            x = wide * (k - 1.5) / 1.5
            pen.blob(x, y - 0.08, 0.15, 0.18, petal)
            pen.oval(x * 1.2, y + 0.04, 0.09, 0.06, light)


def slipper(pen: Pen, look: Look) -> None:
    """An orchid or balsam: a pouch under a few narrow petals, hanging on a bent stem."""
    main, spots, side_colour = look.colours
    pouch = look.traits.get("pouch", 0.8)
    pen.line([(0, -0.5), (0.2, -0.85), (0.28, 0.4), (0.2, 2.6)], _STEM, 0.08)
    for side in (1, -1):
        turn = 0.5 * side + float(pen.rng.normal(0, 0.08))
        pen.oval(0.55 * side, -0.3, 0.58, 0.14, side_colour, -turn)
        pen.oval(0.5 * side, -0.32, 0.46, 0.07, shade(side_colour, 0.25), -turn)
        if look.traits.get("spur"):
            pen.blob(0.34 * side, 0.34, 0.4, 0.26, main, 0.5 * side)
    pen.oval(0, -0.75, 0.15, 0.42, side_colour)
    pen.blob(0, 0.2, 0.36, 0.6 * max(0.7, pouch), main)
    if look.traits.get("spur"):
        pen.line([(0, 0.7), (0.22, 0.95), (0.42, 0.8)], main, 0.09)
    else:
        pen.line([(0, -0.25), (0.01, 0.7)], shade(main, -0.45), 0.045)
    for k in range(12):
        angle, radius = k * 2.39996, math.sqrt(k / 12)
        pen.oval(
            0.22 * radius * math.cos(angle),
            0.2 + 0.36 * radius * math.sin(angle),
            0.032,
            0.025,
            spots,
            0,
            210,
        )


def iris(pen: Pen, look: Look) -> None:
    """A yellow flag: three falls, three standards, sword leaves."""
    main, mark, light = look.colours
    for k in range(5):
        x = -0.9 + 0.45 * k + float(pen.rng.normal(0, 0.06))
        pen.shape(
            [(x, 2.6), (x + 0.16, 2.6), (x + 0.25 * (k - 2) * 0.6, -0.6)], shade(_STEM, 0.1 * (k % 2) - 0.15)
        )
    pen.line([(0, 0.2), (0.05, 2.6)], _STEM, 0.1)
    for angle in (math.pi / 2, math.pi * 0.93, math.pi * 0.07):
        x, y = 0.62 * math.cos(angle), 0.52 * math.sin(angle) + 0.05
        pen.blob(x, y, 0.52, 0.36, main, angle)
        for k in (-1, 0, 1):
            pen.line([(x * 0.5, y * 0.5), (x * 1.15 + 0.06 * k, y * 1.1 + 0.05 * k)], mark, 0.025)
    for angle in (-1.1, -2.05, -1.57):
        pen.blob(0.42 * math.cos(angle), 0.48 * math.sin(angle), 0.4, 0.16, light, angle)
    pen.blob(0, 0, 0.2, 0.16, shade(main, 0.2))


def leafspray(pen: Pen, look: Look) -> None:
    """A twig of oak leaves, and an acorn or two."""
    leaf, dark, acorn = look.colours
    spiny, size = look.traits["spiny"], look.traits["size"]
    pen.line([(-1.6, 0.5), (-0.3, 0.1), (1.5, -0.35)], (92, 72, 54), 0.06)
    for k in range(9):
        x = -1.2 + 0.3 * k
        side = 1 if k % 2 else -1
        turn = side * float(pen.rng.uniform(0.5, 1.1)) - 0.2
        own = pen.inside((x, 0.25 - 0.25 * (x + 0.3)), 0.62 * size, turn)
        tone = float(pen.rng.uniform(-0.18, 0.14))
        points: list[Point] = []
        for step in range(17):
            angle = step * math.pi / 16
            tooth = 1.0 + 0.1 * spiny * (step % 2)
            points.append((0.55 + 0.55 * -math.cos(angle) * tooth, 0.36 * math.sin(angle) * tooth))
        own.shape([*points, *[(px, -py) for px, py in reversed(points)]], shade(leaf, tone))
        own.shape([*points[:9], (0.55, 0.0)], shade(leaf, tone + 0.1 if tone < 0.1 else 0.2), 110)
        own.line([(0, 0), (1.02, 0)], shade(dark, 0.35), 0.035)
        for vein in range(4):
            for up in (1, -1):
                own.line([(0.25 + 0.2 * vein, 0), (0.4 + 0.2 * vein, 0.22 * up)], shade(dark, 0.2), 0.018)
    for k in range(int(pen.rng.integers(1, 3))):
        pen.blob(0.1 + 0.5 * k, 0.3 - 0.1 * k, 0.15, 0.24, acorn, 0.3)
        pen.blob(0.1 + 0.5 * k, 0.12 - 0.1 * k, 0.17, 0.11, shade(acorn, -0.3), 0.3)


def fern(pen: Pen, look: Look) -> None:
    """Fern fronds rising from one crown."""
    frond, dark, light = look.colours
    for k in range(5):
        turn = -1.05 + 0.52 * k + float(pen.rng.normal(0, 0.1))
        own = pen.inside((0, 1.0), 1.0, turn)
        tone = frond if k % 2 else shade(frond, -0.15)
        own.line([(0, 0), (0.06, -1.1), (0.0, -2.0)], dark, 0.035)
        for step in range(20):
            y = -0.15 - 0.093 * step
            reach = 0.42 * math.sin(math.pi * (step + 2) / 23)
            for side in (1, -1):
                own.oval(0.5 * reach * side, y - 0.08 * reach, reach * 0.55, 0.036, tone, -0.3 * side)
        own.oval(0, -2.0, 0.04, 0.08, light)


def mushroom(pen: Pen, look: Look) -> None:
    """A capped mushroom, often with a smaller one beside it."""
    cap, stem, mark = look.colours
    traits = look.traits
    others = [(float(pen.rng.choice((-1, 1))) * float(pen.rng.uniform(0.9, 1.3)), 0.45, 0.55)]
    for x, y, size in [*others[: int(pen.rng.integers(0, 2))], (0.0, 0.0, 1.0)]:
        own = pen.inside((x, y), size)
        wide = 0.3 if traits.get("stout") else 0.16
        own.blob(0, 0.62, wide * 1.25, 0.6, stem)
        own.oval(0.02, 1.05, wide * 1.6, 0.14, shade(stem, -0.2))
        if traits.get("funnel"):
            own.shape([(-0.85, -0.3), (0.85, -0.3), (0.24, 0.5), (-0.24, 0.5)], shade(cap, -0.12))
            for k in range(9):
                own.line([(-0.8 + 0.2 * k, -0.22), (-0.2 + 0.05 * k, 0.6)], shade(stem, -0.22), 0.03)
            own.blob(0, -0.3, 0.92, 0.26, cap)
            own.oval(0, -0.3, 0.5, 0.11, mark)
            continue
        if traits.get("tall"):
            own.blob(0, -0.3, 0.4, 0.85, cap)
            for k in range(26):
                row, angle = k // 4, k * 1.9
                own.oval(
                    0.28 * math.sin(angle), -0.95 + 0.22 * row, 0.12, 0.05, shade(mark, 0.2 * (k % 3)), 0.4
                )
            own.oval(0, 0.46, 0.36, 0.07, shade(cap, -0.55))
            continue
        dome = traits["dome"]
        own.oval(0, 0.06, 0.92, 0.17, shade(stem, -0.3))
        points = [(math.cos(a * math.pi / 20), -math.sin(a * math.pi / 20)) for a in range(21)]
        for grow, tone in ((1.0, -0.22), (0.93, 0.0), (0.7, 0.12), (0.38, 0.26)):
            lift = (1 - grow) * 0.35
            own.shape([(px * grow, 0.08 - lift + py * dome * grow) for px, py in points], shade(cap, tone))
        if dots := traits.get("dots"):
            for k in range(15):
                angle, radius = k * 2.39996, math.sqrt((k + 0.5) / 15)
                x_dot = 0.85 * radius * math.cos(angle)
                y_dot = 0.02 - dome * 0.5 + dome * 0.44 * radius * math.sin(angle)
                own.oval(x_dot, y_dot, 0.085 * dots + 0.01, 0.06 * dots + 0.01, mark)
        if traits.get("ring"):
            own.oval(0, 0.34, wide * 1.7, 0.09, shade(stem, 0.3))


def icicles(pen: Pen, look: Look) -> None:
    """A lion's mane: a cushion of hanging spines."""
    body, shadow, light = look.colours
    pen.blob(0, -0.2, 0.95, 0.72, body)
    for row in range(6):
        for k in range(13):
            x = -0.86 + 0.145 * k + 0.07 * (row % 2)
            y = -0.6 + 0.2 * row - 0.28 * (1 - x * x) + 0.15
            tone = light if (k + row) % 2 else shade(shadow, 0.05 * row)
            pen.shape(
                [(x - 0.07, y), (x + 0.07, y), (x + float(pen.rng.normal(0, 0.02)), y + 0.5)], tone, 235
            )


def cups(pen: Pen, look: Look) -> None:
    """A cluster of orange cups."""
    inner, rim, outer = look.colours
    for k in range(6):
        angle, radius = k * 2.39996 + 0.5, 0.8 * math.sqrt(k / 6)
        x, y = radius * math.cos(angle), radius * math.sin(angle)
        size = float(pen.rng.uniform(0.4, 0.62))
        pen.blob(x, y + 0.07, size, size * 0.8, outer)
        pen.oval(x, y, size, size * 0.72, rim, 0.3 * k)
        pen.oval(x, y + 0.02, size * 0.86, size * 0.6, inner, 0.3 * k)
        pen.oval(x + 0.03, y + 0.07, size * 0.55, size * 0.36, shade(inner, -0.2), 0.3 * k)
        pen.oval(x - 0.1 * size, y - 0.2 * size, size * 0.24, size * 0.1, shade(rim, 0.35), 0.3 * k, 150)


FORMS: dict[str, Form] = {
    "flower": flower,
    "spike": spike,
    "slipper": slipper,
    "iris": iris,
    "leafspray": leafspray,
    "fern": fern,
    "mushroom": mushroom,
    "icicles": icicles,
    "cups": cups,
}
