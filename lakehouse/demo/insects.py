"""The forms of insects seen from above; the animal looks along +x and is about two units long."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lakehouse.demo.looks import Look
from lakehouse.demo.pen import Form, Pen, Point, legs, shade


def bee(pen: Pen, look: Look) -> None:
    """A bee from above: banded abdomen, furry thorax, glassy wings."""
    body, dark, chest = look.colours
    slim = look.traits.get("slim", 1.0)
    legs(pen, shade(dark, -0.2), (0.0, 0.2, 0.38), 0.62 * slim + 0.1)
    pen.blob(-0.52, 0, 0.62, 0.36 * slim, body)
    bands = int(look.traits["stripes"])
    for k in range(bands):
        x = -0.98 + 0.8 * (k + 0.5) / bands
        half = 0.34 * slim * math.sqrt(max(0.02, 1 - ((x + 0.52) / 0.62) ** 2))
        pen.oval(x, 0, 0.24 / bands, half, dark, alpha=225)
    if look.traits.get("fuzzy"):
        pen.fuzz(-0.52, 0, 0.58, 0.34 * slim, body, 60)
        pen.fuzz(0.22, 0, 0.26, 0.26 * slim, chest, 50)
    pen.blob(0.22, 0, 0.33, 0.31 * slim, chest)
    pen.blob(0.62, 0, 0.17, 0.2 * slim, dark)
    for side in (1, -1):
        pen.oval(0.68, 0.13 * side * slim, 0.09, 0.07, (20, 16, 14))
        pen.line([(0.75, 0.06 * side), (0.98, 0.2 * side)], dark, 0.03)
        pen.oval(-0.12, 0.46 * side, 0.58, 0.17, (236, 238, 236), turn=0.42 * -side, alpha=112)
        pen.oval(-0.3, 0.3 * side, 0.38, 0.12, (224, 228, 230), turn=0.25 * -side, alpha=105)
        pen.line([(0.2, 0.18 * side), (-0.65, 0.66 * side)], (70, 58, 46), 0.015, 150)


def hoverfly(pen: Pen, look: Look) -> None:
    """A hoverfly: large eyes, one pair of wings held out, a flat banded abdomen."""
    body, dark, chest = look.colours
    for side in (1, -1):
        pen.oval(0.02, 0.62 * side, 0.22, 0.56, (232, 236, 240), turn=0.35 * side, alpha=120)
    pen.blob(-0.5, 0, 0.56, 0.25, body)
    for k in range(int(look.traits["stripes"])):
        pen.oval(-0.92 + 0.19 * k, 0, 0.035 + 0.02 * (k % 2), 0.235, dark, alpha=235)
    pen.blob(0.2, 0, 0.27, 0.25, chest)
    for side in (1, -1):
        pen.blob(0.55, 0.12 * side, 0.15, 0.16, (122, 44, 26))


def wasp(pen: Pen, look: Look) -> None:
    """A slender ichneumon with a long ovipositor."""
    body, dark, mark = look.colours
    tail = look.traits["tail"]
    pen.line([(-0.8, 0), (-0.8 - tail * 0.6, 0.08), (-0.8 - tail, -0.04)], dark, 0.025)
    legs(pen, mark, (-0.1, 0.12, 0.3), 0.75, 0.035)
    for k in range(6):
        pen.blob(-0.85 + 0.14 * k, 0, 0.11, 0.1 + 0.012 * (k % 3), mark if k % 2 else body)
    pen.blob(0.18, 0, 0.26, 0.16, body)
    pen.blob(0.52, 0, 0.12, 0.14, mark)
    for side in (1, -1):
        pen.oval(-0.22, 0.34 * side, 0.5, 0.12, (228, 222, 205), turn=-0.3 * side, alpha=115)
        pen.line([(0.6, 0.05 * side), (0.95, 0.14 * side), (1.25, 0.3 * side)], dark, 0.02)


def ant(pen: Pen, look: Look) -> None:
    """An ant, and often a few behind it."""
    body, dark, leg = look.colours
    friends = [(float(pen.rng.uniform(-1.7, 1.7)), float(pen.rng.uniform(-1.2, 1.2))) for _ in range(3)]
    for at in [*friends, (0.0, 0.0)]:
        size = 1.0 if at == (0.0, 0.0) else 0.55
        own = pen.inside(at, size, 0.0 if size == 1 else float(pen.rng.uniform(0, math.tau)))
        legs(own, leg, (-0.08, 0.08, 0.22), 0.6, 0.04)
        own.blob(-0.52, 0, 0.36, 0.25, dark)
        own.blob(-0.12, 0, 0.09, 0.08, body)
        own.blob(0.12, 0, 0.25, 0.14, body)
        own.blob(0.52, 0, 0.19, 0.18, body)
        for side in (1, -1):
            own.line([(0.64, 0.06 * side), (0.82, 0.3 * side), (1.06, 0.26 * side)], leg, 0.03)


_FORE = [
    (0.06, 0.03),
    (0.42, 0.3),
    (0.62, 0.74),
    (0.6, 1.0),
    (0.3, 1.02),
    (-0.02, 0.82),
    (-0.16, 0.4),
    (-0.1, 0.05),
]
_HIND = [(-0.06, 0.04), (-0.06, 0.5), (-0.2, 0.78), (-0.52, 0.8), (-0.76, 0.58), (-0.72, 0.28), (-0.4, 0.06)]


def _inset(points: Sequence[Point], by: float) -> list[Point]:
    x = sum(p[0] for p in points) / len(points)
    y = sum(p[1] for p in points) / len(points)
    return [(x + (px - x) * (1 - by), y + (py - y) * (1 - by)) for px, py in points]


def butterfly(pen: Pen, look: Look) -> None:
    """A butterfly or moth with open wings; its traits choose border, veins, bands, eyes and tails."""
    ground, border, mark = look.colours
    traits = look.traits
    spread = float(pen.rng.uniform(0.8, 1.05)) * (0.9 if traits.get("small") else 1)
    for side in (1, -1):
        fore = [(x, y * side * spread) for x, y in _FORE]
        hind = [(x, y * side * spread) for x, y in _HIND]
        if tails := traits.get("tails"):
            tail = [(-0.5, 0.68), (-0.78 - 0.45 * tails, 0.62), (-0.8 - 0.5 * tails, 0.5), (-0.66, 0.4)]
            pen.shape([(x, y * side * spread) for x, y in tail], ground if tails > 1 else border)
        for wing, tone in ((hind, shade(ground, -0.1)), (fore, ground)):
            pen.shape(wing, border if traits.get("border") else shade(ground, -0.25))
            pen.shape(_inset(wing, traits.get("border", 0.04)), tone)
            pen.shape(_inset(wing, 0.45), shade(tone, 0.1), 150)
        if traits.get("veins"):
            for x, y in (*_FORE[2:6], *_HIND[2:6]):
                pen.line([(0.0, 0.08 * side), (x * 0.95, y * 0.95 * side * spread)], border, 0.035)
        if traits.get("dots"):
            for x, y in (*_FORE[2:6], *_HIND[1:6]):
                pen.oval(x * 0.93, y * 0.93 * side * spread, 0.03, 0.03, mark)
        if band := traits.get("band"):
            across = [(0.34, 0.34), (0.36, 0.56), (0.02, 0.72), (-0.04, 0.5)]
            pen.shape([(x, y * side * spread) for x, y in across], border, round(min(1.0, band) * 235))
            edge = [(-0.58, 0.3), (-0.66, 0.6), (-0.52, 0.76), (-0.44, 0.6)]
            pen.shape([(x, y * side * spread) for x, y in edge], border, round(min(1.0, band) * 235))
            pen.oval(0.46, 0.78 * side * spread, 0.06, 0.06, mark)
        for k in range(int(traits.get("patches", 0))):
            angle = k * 2.4
            pen.oval(
                0.2 - 0.08 * k + 0.16 * math.cos(angle),
                (0.66 - 0.02 * k) * side * spread,
                0.08,
                0.06,
                border,
                angle,
            )
        if tips := traits.get("tips"):
            tip = [(0.6, 1.0), (0.62, 0.74), (0.6 - 0.14 * tips, 0.72), (0.5 - 0.18 * tips, 1.0)]
            pen.shape([(x, y * side * spread) for x, y in tip], border)
        if traits.get("tiger"):
            for k in range(4):
                x = 0.3 - 0.17 * k
                pen.line([(x, 0.14 * side), (x + 0.22, (0.72 - 0.06 * k) * side * spread)], border, 0.06)
            pen.oval(-0.6, 0.45 * side * spread, 0.09, 0.07, mark)
        if eyes := traits.get("eyes"):
            for x, y in ((0.26, 0.7), (-0.45, 0.5)):
                dark = border if traits.get("tips") else (26, 20, 18)
                pen.oval(x, y * side * spread, 0.075 * eyes, 0.075 * eyes, dark)
                if not traits.get("tips"):
                    pen.oval(x, y * side * spread, 0.028 * eyes, 0.028 * eyes, (248, 246, 236))
        pen.line([(0.32, 0.02 * side), (0.72, 0.2 * side)], (36, 28, 24), 0.022)
    pen.blob(-0.06, 0, 0.42, 0.075, shade(border if traits.get("border", 0) > 0.1 else ground, -0.3))


def dragonfly(pen: Pen, look: Look) -> None:
    """A dragonfly, or a damselfly with narrow wings held back."""
    body, wing_mark, eye = look.colours
    width = look.traits["width"]
    closed = look.traits.get("closed", 0)
    for side in (1, -1):
        for root, reach, lean in ((0.3, 1.12, 0.12), (0.12, 1.02, -0.2)):
            turn = (math.pi / 2 - lean * 1.2 + closed * 1.15) * side
            length = reach * 0.5
            x, y = root + length * math.cos(turn), length * math.sin(turn)
            pen.oval(x, y, length, 0.15 * width, (226, 232, 236), turn, alpha=118)
            for k in range(math.ceil(look.traits.get("marks", 0))):
                part = 0.25 + 0.32 * k
                tone = wing_mark if k != 1 or look.traits["marks"] < 3 else shade(wing_mark, 0.05)
                pen.oval(
                    root + 2 * length * part * math.cos(turn),
                    2 * length * part * math.sin(turn),
                    0.13 + 0.1 * (look.traits["marks"] <= 1),
                    0.12 * width,
                    tone,
                    turn,
                    alpha=205,
                )
            pen.line(
                [(root, 0), (root + 1.9 * length * math.cos(turn), 1.9 * length * math.sin(turn))],
                body,
                0.014,
            )
    for k in range(8):
        pen.blob(
            -0.98 + 0.13 * k, 0, 0.1, 0.075 * width + 0.004 * k, body if k % 2 or not closed else wing_mark
        )
    pen.blob(0.24, 0, 0.24, 0.15 * width, shade(body, -0.12))
    for side in (1, -1):
        pen.blob(0.54, 0.09 * side, 0.11, 0.11, eye)


def beetle(pen: Pen, look: Look) -> None:
    """A beetle from above: wing cases that meet in a line."""
    case, mark, head = look.colours
    long = look.traits.get("long", 1.0)
    legs(pen, shade(mark, -0.6), (-0.1, 0.15, 0.4), 0.62, 0.05)
    pen.blob(-0.25, 0, 0.5 * long, 0.36, case)
    if look.traits.get("halves"):
        pen.blob(-0.55, 0, 0.44, 0.32, mark)
    if look.traits.get("stripe"):
        for side in (1, -1):
            pen.oval(-0.25, 0.3 * side, 0.44 * long, 0.035, mark)
            pen.oval(-0.2, 0.12 * side, 0.3 * long, 0.025, mark, 0.08 * side, 190)
    pen.line([(-0.25 - 0.5 * long, 0), (0.25, 0)], shade(case, -0.6), 0.025)
    pen.blob(0.46, 0, 0.2, 0.29, head)
    pen.blob(0.7, 0, 0.12, 0.16, (34, 28, 26))
    for side in (1, -1):
        tip = 1.5 if look.traits.get("horns") else 1.05
        pen.line([(0.76, 0.06 * side), (0.9, 0.3 * side), (tip - 0.1, 0.5 * side)], (30, 26, 24), 0.035)


FORMS: dict[str, Form] = {
    "bee": bee,
    "hoverfly": hoverfly,
    "wasp": wasp,
    "ant": ant,
    "butterfly": butterfly,
    "dragonfly": dragonfly,
    "beetle": beetle,
}
