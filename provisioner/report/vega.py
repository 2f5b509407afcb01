"""Data and numbers as Vega-Lite takes them."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterable, Sequence
from typing import Final

import altair as alt

from provisioner.report.theme import Spec

NAME_WIDTH: Final = 24
"""Characters on a line of a name beside bars or cells."""

TEXT: Final[Spec] = {"tooltip": alt.Tooltip("text:N"), "description": alt.Description("text:N")}
"""The channels that show the text of a mark."""


def data(rows: Iterable[Spec]) -> alt.InlineData:
    """Return records as the data of a chart."""
    return alt.InlineData(values=list(rows))


def known(value: float | None) -> float | None:
    """Return a value that JSON and a chart can hold: neither NaN nor infinite."""
    return value if value is not None and math.isfinite(value) else None


def finite(values: Iterable[float | None]) -> list[float]:
    """Return the values that a chart can draw."""
    return [value for value in values if value is not None and math.isfinite(value)]


def named_axis(names: Iterable[str], lines: int) -> Spec:
    """Return the look of an axis of positions from 0 that shows names, long ones on several lines."""
    wrapped = [
        textwrap.wrap(name, NAME_WIDTH, max_lines=lines, placeholder=" ...", break_on_hyphens=False) for name in names
    ]
    return {"labelExpr": f"{json.dumps(wrapped)}[datum.value]", "ticks": False, "domain": False}


def number_format(values: Sequence[float]) -> str:
    """Return the format of the numbers on an axis: without a power of ten, if they are neither tiny nor huge."""
    return ",~r" if all(1e-4 <= abs(value) < 1e9 for value in values if value) else "~g"
