"""Colours, lines, marks and hatches of pictures: apart for the colour-blind, and without any colour.

Neighbours differ in more than colour: curves in dashes and marks, bars in hatches, cells of a heat map in lightness.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sin
from typing import Final

LIGHT: Final = ("#0b4f9e", "#dd6b00", "#111111", "#0c8a74", "#c0559e", "#5e560a")
"""Of series on white; those after the sixth begin again with other dashes, marks and hatches."""
DARK: Final = ("#4f9ff0", "#ff7d26", "#f5f5f5", "#0f9d7c", "#eaa3e4", "#e6d84a")
"""The same on a dark page."""

# Lengths of dash, gap, dash, gap in widths of the line; the first is solid.
_DASHES: Final = (
    (),
    (4.0, 1.8),
    (1.2, 1.4),
    (6.0, 1.6, 1.2, 1.6),
    (8.0, 2.5),
    (3.0, 1.2, 1.2, 1.2, 1.2, 1.2),
    (2.4, 3),
)


def _polygon(corners: int, turn: float, inner: float = 1.0) -> tuple[tuple[float, float], ...]:
    """Corners around a circle of radius 1, y downwards; those between at ``inner`` of it, for a star."""
    steps = corners if inner == 1.0 else 2 * corners
    radii = [1.0 if k % 2 == 0 or inner == 1.0 else inner for k in range(steps)]
    return tuple(
        (round(r * sin(2 * pi * k / steps + turn), 3), round(-r * cos(2 * pi * k / steps + turn), 3))
        for k, r in enumerate(radii)
    )


_CROSS: Final = ((-1, -0.4), (-0.4, -1), (0, -0.6), (0.4, -1), (1, -0.4), (0.6, 0), (1, 0.4), (0.4, 1))
_PLUS: Final = ((-0.35, -1), (0.35, -1), (0.35, -0.35), (1, -0.35), (1, 0.35), (0.35, 0.35), (0.35, 1), (-0.35, 1))

# Names in matplotlib, and corners within a circle of radius 1 (none: the circle).
MARKS: Final[dict[str, tuple[tuple[float, float], ...]]] = {
    "o": (),
    "s": ((-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)),
    "^": _polygon(3, 0.0),
    "D": _polygon(4, 0.0),
    "v": _polygon(3, pi),
    "X": (*_CROSS, (0.0, 0.6), (-0.4, 1.0), (-1.0, 0.4), (-0.6, 0.0)),
    "P": (*_PLUS, (-0.35, 0.35), (-1.0, 0.35), (-1.0, -0.35), (-0.35, -0.35)),
    "<": _polygon(3, -pi / 2),
    "p": _polygon(5, 0.0),
    ">": _polygon(3, pi / 2),
    "h": _polygon(6, 0.0),
    "*": _polygon(5, 0.0, 0.42),
}

# Hatches in matplotlib, and strokes in a tile of 8 x 8 for SVG.
_HATCHES: Final = (
    ("", ""),
    ("////", "M-2,2L2,-2M0,8L8,0M6,10L10,6"),
    ("....", "M2,2h.01M6,6h.01"),
    ("\\\\\\\\", "M-2,6L2,10M0,0L8,8M6,-2L10,2"),
    ("----", "M0,2H8M0,6H8"),
    ("xxxx", "M0,8L8,0M0,0L8,8"),
    ("||||", "M2,0V8M6,0V8"),
    ("++++", "M0,4H8M4,0V8"),
)
NO_VALUE: Final = ("////", "M-2,2L2,-2M0,8L8,0M6,10L10,6")


@dataclass(frozen=True, slots=True)
class Style:
    """How one of several series looks: colour on white and on a dark page, dashes, mark, hatch, in two languages."""

    light: str
    dark: str
    dashes: tuple[float, ...]
    mark: str
    hatch: str
    strokes: str


def style(position: int) -> Style:
    """The look of a series by its position; the first forty-two differ in dashes or colour, all twelve marks too."""
    hatch, strokes = _HATCHES[position % len(_HATCHES)]
    colour = position % len(LIGHT)
    return Style(
        light=LIGHT[colour],
        dark=DARK[colour],
        dashes=_DASHES[position % len(_DASHES)],
        mark=tuple(MARKS)[position % len(MARKS)],
        hatch=hatch,
        strokes=strokes,
    )


# From small values to large, ever darker, so that black and white keeps the order. Where a limit divides the values,
# the colour changes from blue to orange and the lightness jumps.
PLAIN: Final = ("#f3f8fd", "#8fbbe0", "#3f7fb8", "#12437a", "#04142b")
BELOW: Final = ("#f6fafd", "#bcd9ee", "#7db4dd")
ABOVE: Final = ("#d9641c", "#9c2f10", "#5c0f0a", "#240404")


def colour_at(position: float, divided: bool) -> str:
    """The colour of a cell at 0..1 of the range; of one divided by a limit, that is at 0.5 and belongs below.

    >>> colour_at(0.0, True), colour_at(0.5, True), colour_at(1.0, False)
    ('#f6fafd', '#7db4dd', '#04142b')
    """
    position = min(max(position, 0.0), 1.0)
    if not divided:
        return _between(PLAIN, position)
    return _between(BELOW, 2.0 * position) if position <= 0.5 else _between(ABOVE, 2.0 * position - 1.0)


def _between(stops: tuple[str, ...], position: float) -> str:
    place = position * (len(stops) - 1)
    k = min(int(place), len(stops) - 2)
    mixed = (round(a + (place - k) * (b - a)) for a, b in zip(channels(stops[k]), channels(stops[k + 1]), strict=True))
    return "#" + "".join(f"{value:02x}" for value in mixed)


def channels(colour: str) -> tuple[int, int, int]:
    """Red, green and blue of ``#rrggbb``, 0 to 255."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def luminance(colour: str) -> float:
    """Relative luminance, 0 for black to 1 for white (WCAG 2.2).

    >>> luminance("#000000"), luminance("#ffffff")
    (0.0, 1.0)
    """
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in channels(colour))]
    return round(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2], 6)


def ink_on(colour: str) -> str:
    """Black or white, whichever is read better on a colour."""
    return "#000000" if luminance(colour) > 0.179 else "#ffffff"


def tint(colour: str, share: float) -> str:
    """A colour mixed with white, with a ``share`` of it left."""
    return "#" + "".join(f"{round(255 - share * (255 - value)):02x}" for value in channels(colour))
