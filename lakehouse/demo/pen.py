"""A pen for the embedded source's photographs: shapes in a unit space, moved, scaled and turned."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw

from lakehouse.demo.looks import Colour, Look

Point = tuple[float, float]
_CIRCLE = [(math.cos(k * math.tau / 22), math.sin(k * math.tau / 22)) for k in range(22)]
_COARSE = _CIRCLE[::2]


def shade(colour: Colour, by: float) -> Colour:
    """The colour, darker (by < 0) or lighter (by > 0)."""
    goal = 255 if by > 0 else 0
    mixed = [round(part + (goal - part) * abs(by)) for part in colour]
    return mixed[0], mixed[1], mixed[2]


class Pen:
    """Draws in unit coordinates onto an image: moved, scaled and turned."""

    def __init__(
        self, image: Image.Image, at: Point, scale: float, turn: float, rng: np.random.Generator
    ) -> None:
        # Blending costs several times what plain filling does, so only what is translucent is blended.
        self._solid, self._glaze = ImageDraw.Draw(image), ImageDraw.Draw(image, "RGBA")
        self.at, self.scale, self.rng = at, scale, rng
        self.cos, self.sin = math.cos(turn), math.sin(turn)

    def inside(self, at: Point, scale: float = 1.0, turn: float = 0.0) -> Pen:
        """A pen for a part: its origin at `at` of this one's space."""
        pen = copy.copy(self)
        pen.at, pen.scale = self.pixel(*at), self.scale * scale
        cos, sin = math.cos(turn), math.sin(turn)
        pen.cos, pen.sin = self.cos * cos - self.sin * sin, self.sin * cos + self.cos * sin
        return pen

    def pixel(self, x: float, y: float) -> Point:
        """Where a point of the unit space lies in the image."""
        return (
            self.at[0] + self.scale * (x * self.cos - y * self.sin),
            self.at[1] + self.scale * (x * self.sin + y * self.cos),
        )

    def shape(self, points: Sequence[Point], colour: Colour, alpha: int = 255) -> None:
        """A filled polygon."""
        self._fill([self.pixel(x, y) for x, y in points], colour, alpha)

    def _fill(self, pixels: list[Point], colour: Colour, alpha: int) -> None:
        if alpha == 255:
            self._solid.polygon(pixels, fill=colour)
        else:
            self._glaze.polygon(pixels, fill=(*colour, alpha))

    def line(self, points: Sequence[Point], colour: Colour, width: float, alpha: int = 255) -> None:
        """A line of a width in unit coordinates."""
        wide = max(1, round(width * self.scale))
        pixels = [self.pixel(x, y) for x, y in points]
        joint = "curve" if wide > 4 else None
        if alpha == 255:
            self._solid.line(pixels, fill=colour, width=wide, joint=joint)
        else:
            self._glaze.line(pixels, fill=(*colour, alpha), width=wide, joint=joint)

    def oval(
        self, x: float, y: float, rx: float, ry: float, colour: Colour, turn: float = 0.0, alpha: int = 255
    ) -> None:
        """A flat ellipse."""
        # Centre and half axes in pixels first: this is the innermost loop of the drawing.
        cos, sin = math.cos(turn), math.sin(turn)
        along, across = self.scale * rx, self.scale * ry
        ax, ay = along * (cos * self.cos - sin * self.sin), along * (cos * self.sin + sin * self.cos)
        bx, by = across * (-sin * self.cos - cos * self.sin), across * (-sin * self.sin + cos * self.cos)
        px, py = self.pixel(x, y)
        circle = _CIRCLE if along + across > 12 else _COARSE
        points = [(px + c * ax + s * bx, py + c * ay + s * by) for c, s in circle]
        self._fill(points, colour, alpha)

    def blob(self, x: float, y: float, rx: float, ry: float, colour: Colour, turn: float = 0.0) -> None:
        """An ellipse that looks round: darker rim, a light spot up in the image whatever the turn."""
        up_x, up_y = -self.sin, -self.cos
        self.oval(x, y, rx, ry, shade(colour, -0.32), turn)
        small = min(rx, ry)
        for size, lift, light in ((0.88, 0.08, 0.0), (0.62, 0.2, 0.14), (0.32, 0.34, 0.32)):
            self.oval(
                x + up_x * small * lift,
                y + up_y * small * lift,
                rx * size,
                ry * size,
                shade(colour, light),
                turn,
            )

    def fuzz(self, x: float, y: float, rx: float, ry: float, colour: Colour, count: int = 46) -> None:
        """Short hairs all around an ellipse."""
        for angle, length in zip(
            self.rng.uniform(0, math.tau, count), self.rng.uniform(0.06, 0.16, count), strict=True
        ):
            c, s = math.cos(angle), math.sin(angle)
            tip = (x + (rx + length) * c, y + (ry + length) * s)
            self.line([(x + rx * 0.8 * c, y + ry * 0.8 * s), tip], shade(colour, float(length)), 0.02)


def mirrored(points: Sequence[Point]) -> list[Point]:
    """The same shape on the other side of the x axis."""
    return [(x, -y) for x, y in points]


def legs(pen: Pen, colour: Colour, roots: Sequence[float], reach: float, width: float = 0.045) -> None:
    """Jointed legs on both sides, seen from above; the animal looks along +x."""
    middle = (len(roots) - 1) / 2
    for number, root in enumerate(roots):
        lean = (middle - number) / max(middle, 0.5) * 0.55 + float(pen.rng.normal(0, 0.06))
        knee = (root + lean * reach * 0.7, reach * 0.62)
        foot = (root + lean * reach * 1.5, reach)
        for side in (1, -1):
            pen.line(
                [(root, 0.05 * side), (knee[0], knee[1] * side), (foot[0], foot[1] * side)], colour, width
            )


Form = Callable[[Pen, Look], None]
