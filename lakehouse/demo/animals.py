"""The forms of spiders, birds, mammals and frogs."""

from __future__ import annotations

import math

from lakehouse.demo.looks import Look
from lakehouse.demo.pen import Form, Pen, legs, shade


def spider(pen: Pen, look: Look) -> None:
    """A spider from above, in its web if it makes one."""
    body, mark, leg = look.colours
    traits = look.traits
    if traits.get("web"):
        for k in range(14):
            angle = k * math.tau / 14
            pen.line([(0, 0), (3.2 * math.cos(angle), 3.2 * math.sin(angle))], (240, 243, 245), 0.01, 120)
        for radius in (0.9, 1.25, 1.6, 1.95, 2.3):
            ring = [
                (radius * math.cos(k * math.tau / 14), radius * math.sin(k * math.tau / 14))
                for k in range(15)
            ]
            pen.line(ring, (240, 243, 245), 0.01, 110)
    stout = 0.72 if traits.get("stout") else 1.0
    size = traits.get("size", 1.0)
    for number, (reach, lean) in enumerate(((0.95, 0.85), (0.85, 0.3), (0.75, -0.25), (0.95, -0.85))):
        jitter = float(pen.rng.normal(0, 0.05))
        for side in (1, -1):
            root = 0.42 - 0.1 * number
            knee = (root + lean * 0.45 + jitter, 0.55 * reach * stout * side)
            foot = (root + lean * 1.05, reach * stout * side)
            wide = 0.085 if stout < 1 else 0.05
            pen.line([(root, 0.1 * side), knee, foot], leg, wide)
            pen.line([knee, ((knee[0] + foot[0]) / 2, (knee[1] + foot[1]) / 2)], shade(leg, -0.4), wide)
    pen.blob(-0.38, 0, 0.44 * size, 0.36 * size, body)
    bands = int(traits.get("bands", 0))
    for k in range(bands):
        x = -0.38 + 0.44 * size * (-0.8 + 1.6 * (k + 0.5) / bands)
        half = 0.34 * size * math.sqrt(max(0.05, 1 - ((x + 0.38) / (0.44 * size)) ** 2))
        pen.oval(x, 0, 0.16 * size / bands, half, mark, alpha=230)
    if cross := traits.get("cross"):
        for k in range(5):
            pen.oval(-0.62 + 0.13 * k, 0, 0.05, 0.04 * cross, mark)
        for side in (1, -1):
            pen.oval(-0.36, 0.13 * side, 0.045, 0.07 * cross, mark)
            pen.oval(-0.52, 0.16 * side, 0.05, 0.04 * cross, mark)
    if traits.get("hourglass"):
        pen.shape(
            [(-0.6, -0.14), (-0.6, 0.14), (-0.4, 0.02), (-0.2, 0.14), (-0.2, -0.14), (-0.4, -0.02)], mark
        )
    pen.blob(0.2, 0, 0.27, 0.24, shade(leg, -0.1))
    for side in (1, -1):
        pen.oval(0.4, 0.08 * side, 0.045, 0.045, (12, 12, 12))
        if traits.get("fangs"):
            pen.blob(0.5, 0.09 * side, 0.09, 0.06, (40, 170, 140))


def scorpion(pen: Pen, look: Look) -> None:
    """A scorpion with raised tail and claws."""
    body, dark, light = look.colours
    legs(pen, light, (-0.25, -0.1, 0.05, 0.2), 0.6, 0.05)
    for k in range(5):
        angle = 0.5 * k
        pen.blob(-0.72 - 0.26 * math.cos(angle * 0.8) * k * 0.55, 0.09 * k * k * 0.5, 0.16, 0.11, dark)
    pen.line([(-1.05, 0.75), (-0.85, 0.98)], dark, 0.06)
    pen.blob(-0.15, 0, 0.58, 0.25, body)
    for side in (1, -1):
        pen.line([(0.3, 0.16 * side), (0.55, 0.5 * side), (0.85, 0.42 * side)], body, 0.11)
        pen.blob(1.02, 0.4 * side, 0.24, 0.14, light)
        pen.line([(1.15, 0.42 * side), (1.34, 0.34 * side)], dark, 0.06)


def bird(pen: Pen, look: Look) -> None:
    """A songbird from the side, standing."""
    back, breast, bill, head = look.colours
    size = 0.85 if look.traits.get("small") else 1.0
    own = pen.inside((0, 0), size)
    for x in (-0.02, 0.2):
        own.line([(x, 0.42), (x + 0.04, 0.86), (x + 0.2, 0.9)], shade(bill, -0.35), 0.04)
    own.shape([(-0.5, -0.02), (-1.35, 0.42), (-1.25, 0.56), (-0.42, 0.3)], shade(back, -0.3))
    own.blob(-0.05, 0.06, 0.66, 0.46, back, 0.22)
    own.blob(0.2, 0.16, 0.42, 0.36, breast, 0.3)
    own.shape([(0.25, -0.22), (-0.2, -0.22), (-0.98, 0.36), (-0.4, 0.34), (0.1, 0.16)], shade(back, -0.18))
    for k in range(4):
        own.line([(0.08 - 0.16 * k, -0.1 + 0.05 * k), (-0.5 - 0.1 * k, 0.3)], shade(back, 0.16), 0.022)
    if look.traits.get("streaks"):
        for k in range(9):
            x = -0.5 + 0.11 * k
            own.line([(x, 0.22 + 0.04 * (k % 3)), (x + 0.08, 0.34)], shade(back, -0.5), 0.028)
    own.blob(0.52, -0.4, 0.29, 0.27, head)
    own.shape([(0.74, -0.48), (1.12, -0.37), (0.74, -0.3)], bill)
    if look.traits.get("ring"):
        own.oval(0.6, -0.45, 0.075, 0.075, bill)
    own.oval(0.6, -0.45, 0.045, 0.045, (12, 12, 12))
    own.oval(0.615, -0.465, 0.014, 0.014, (250, 250, 250))


def duck(pen: Pen, look: Look) -> None:
    """A drake on the water."""
    back, breast, bill, head = look.colours
    pen.oval(0, 0.5, 1.3, 0.1, (225, 236, 238), alpha=90)
    pen.shape([(-0.9, 0.1), (-1.32, -0.14), (-0.8, 0.36)], (240, 240, 236))
    pen.blob(-0.1, 0.2, 0.92, 0.36, back)
    pen.blob(0.52, 0.16, 0.36, 0.32, breast)
    pen.shape([(0.3, 0.0), (-0.75, 0.02), (-0.95, 0.2), (-0.2, 0.3)], shade(back, 0.25))
    pen.shape([(-0.45, 0.1), (-0.75, 0.1), (-0.8, 0.22), (-0.5, 0.24)], (52, 78, 170))
    pen.shape([(0.5, -0.35), (0.78, -0.3), (0.72, 0.1), (0.42, 0.06)], head)
    pen.oval(0.58, 0.0, 0.17, 0.045, (245, 245, 240), 0.1)
    pen.blob(0.68, -0.42, 0.26, 0.23, head)
    pen.shape([(0.88, -0.46), (1.26, -0.34), (1.22, -0.24), (0.86, -0.3)], bill)
    pen.oval(0.74, -0.48, 0.04, 0.04, (10, 10, 10))
    pen.oval(0, 0.62, 1.1, 0.09, shade(back, -0.35), alpha=80)


def crane(pen: Pen, look: Look) -> None:
    """A tall wading bird: long legs, long neck."""
    back, breast, bill, crown = look.colours
    neck = 0.62 if look.traits.get("short") else 1.0
    for x, knee in ((-0.12, -0.1), (0.08, 0.2)):
        pen.line([(x, 0.2), (knee, 0.68), (x + 0.02, 1.16), (x + 0.18, 1.18)], shade(bill, -0.3), 0.04)
    pen.shape([(-0.35, -0.12), (-0.95, 0.4), (-0.72, 0.48), (-0.2, 0.28)], shade(back, -0.35))
    pen.blob(-0.12, 0.02, 0.56, 0.33, back, 0.25)
    if look.traits.get("streaks"):
        for k in range(10):
            pen.oval(-0.5 + 0.08 * k, -0.02 + 0.1 * (k % 3), 0.05, 0.022, (236, 228, 210), 0.4)
    bend = float(pen.rng.uniform(-0.08, 0.14))
    path = [(0.28, -0.06), (0.52 + bend, -0.34 * neck), (0.4 + bend, -0.72 * neck), (0.54, -0.98 * neck)]
    pen.line(path, shade(breast, -0.15), 0.17)
    pen.line(path, breast, 0.11)
    pen.blob(0.58, -1.02 * neck, 0.16, 0.13, breast)
    pen.oval(0.56, -1.1 * neck, 0.12, 0.055, crown)
    pen.shape([(0.68, -1.08 * neck), (1.12, -0.96 * neck), (0.68, -0.96 * neck)], bill)
    pen.oval(0.63, -1.04 * neck, 0.026, 0.026, (10, 10, 10))


def mammal(pen: Pen, look: Look) -> None:
    """A four-legged mammal from the side."""
    fur, mark, skin = look.colours
    pen.line([(-0.7, -0.05), (-1.1, 0.12), (-1.45, -0.02)], shade(fur, -0.15), 0.15)
    for x in (-0.52, -0.28, 0.3, 0.52):
        step = float(pen.rng.uniform(-0.1, 0.1))
        pen.line([(x, 0.2), (x + step, 0.62)], shade(fur, -0.25), 0.17)
        pen.oval(x + step + 0.05, 0.66, 0.13, 0.06, shade(fur, -0.4))
    pen.blob(0, 0, 0.82, 0.4, fur, 0.04)
    if look.traits.get("chest"):
        pen.oval(0.52, 0.16, 0.09, 0.2, mark, 0.5)
        pen.oval(-0.5, -0.16, 0.18, 0.06, mark, 0.3)
    if look.traits.get("spots"):
        for k in range(22):
            angle, radius = k * 2.39996, math.sqrt((k + 0.5) / 22)
            pen.oval(
                0.68 * radius * math.cos(angle), -0.03 + 0.3 * radius * math.sin(angle), 0.055, 0.045, mark
            )
    for x in (0.62, 0.88):
        pen.blob(x, -0.5, 0.11, 0.15, shade(skin, -0.1))
    pen.blob(0.78, -0.22, 0.33, 0.28, fur)
    pen.blob(1.06, -0.14, 0.16, 0.12, shade(fur, 0.12))
    pen.oval(1.19, -0.16, 0.05, 0.045, shade(skin, -0.35))
    pen.oval(0.84, -0.3, 0.045, 0.045, (8, 8, 8))
    pen.oval(0.855, -0.315, 0.014, 0.014, (250, 250, 250))


def frog(pen: Pen, look: Look) -> None:
    """A frog from above, legs folded."""
    skin, mark, leg = look.colours
    for side in (1, -1):
        pen.line(
            [(-0.5, 0.2 * side), (-0.2, 0.72 * side), (-0.82, 0.66 * side), (-0.6, 0.98 * side)], leg, 0.17
        )
        pen.line([(0.3, 0.28 * side), (0.42, 0.68 * side), (0.74, 0.74 * side)], leg, 0.13)
        for toe in (-0.16, 0.0, 0.16):
            pen.line([(0.74, 0.74 * side), (0.94, (0.76 + toe) * side)], leg, 0.045)
            pen.line([(-0.6, 0.98 * side), (-0.4, (1.02 + toe) * side)], leg, 0.045)
    pen.blob(-0.12, 0, 0.66, 0.42, skin)
    pen.blob(0.46, 0, 0.36, 0.34, skin)
    if look.traits.get("saddle"):
        pen.oval(-0.15, 0, 0.42, 0.22, mark)
        pen.oval(-0.02, 0, 0.14, 0.12, skin)
        pen.oval(0.3, 0, 0.1, 0.26, mark)
        for side in (1, -1):
            pen.oval(-0.42, 0.24 * side, 0.14, 0.09, mark)
    bands = int(look.traits.get("bands", 0))
    for k in range(bands):
        x = -0.55 + 0.48 * k
        pen.oval(x, 0, 0.12, 0.33 - 0.02 * k, mark)
        pen.oval(x + 0.24, 0.16 * (-1) ** k, 0.07, 0.08, mark)
    if look.traits.get("stripe"):
        for side in (1, -1):
            pen.oval(-0.02, 0.26 * side, 0.6, 0.045, mark, -0.12 * side)
        for k in range(7):
            pen.oval(-0.5 + 0.13 * k, 0.1 * (-1) ** k, 0.045, 0.035, shade(skin, -0.45))
    for side in (1, -1):
        pen.blob(0.56, 0.25 * side, 0.1, 0.09, shade(skin, -0.2))
        pen.oval(0.58, 0.27 * side, 0.06, 0.05, (10, 10, 10))


FORMS: dict[str, Form] = {
    "spider": spider,
    "scorpion": scorpion,
    "bird": bird,
    "duck": duck,
    "crane": crane,
    "mammal": mammal,
    "frog": frog,
}
