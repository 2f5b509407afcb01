"""Charts before they have a format: their values, with axes, units and the text of each point.

Views build them from results. ``charts`` draws them with Vega-Lite for pages, notebooks and files, so that all show
the same, and ``chart_text`` puts them into words and tables.
"""

from dataclasses import dataclass
from typing import Literal

Values = tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis: its quantity with the unit, such as "rate (requests/s)"."""

    label: str
    logarithmic: bool = False
    from_zero: bool = False


@dataclass(frozen=True, slots=True)
class Series:
    """Points that belong together. A ``y`` of None is a point without a value: a gap in its line.

    ``low`` and ``high`` bound the values (a confidence interval), ``notes`` say more about each point.
    """

    name: str
    x: tuple[float, ...]
    y: Values
    low: Values = ()
    high: Values = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """A straight line at a value of an axis: a limit, a switch point."""

    value: float
    label: str
    axis: Literal["x", "y"] = "y"


@dataclass(frozen=True, slots=True)
class LineChart:
    """Curves over a number; ``steps`` where the value holds until the next point."""

    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    rules: tuple[Rule, ...] = ()
    steps: bool = False
    points: bool = True


@dataclass(frozen=True, slots=True)
class Bars:
    """A value for each group; None where there is none. ``notes`` say more about each, also why there is none."""

    name: str
    values: Values
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BarChart:
    """Horizontal bars in groups; from ``base`` to both sides where that is given, as in a tornado.

    ``strong`` are the positions of the groups that stand out; the others are paler then.
    """

    title: str
    groups: tuple[str, ...]
    value: Axis
    bars: tuple[Bars, ...]
    rules: tuple[Rule, ...] = ()
    base: float = 0.0
    strong: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Mark:
    """A cell that stands out, by its row and column: the optimum is a ``star``, one of the frontier a ``dot``."""

    row: int
    column: int
    symbol: Literal["star", "dot", "cross"]
    label: str = ""


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Values over two axes, ``values[row][column]`` with ``rows`` from the bottom up; None where there is none.

    ``middle`` is where the colours divide (a limit: below it is good), ``notes`` say more about each cell, ``outlined``
    names the cells (row, column) inside the outline, such as those that pass, and ``outline`` what they are.
    """

    title: str
    x: Axis
    y: Axis
    value: Axis
    columns: tuple[float | str, ...]
    rows: tuple[float | str, ...]
    values: tuple[Values, ...]
    notes: tuple[tuple[str, ...], ...] = ()
    middle: float | None = None
    marks: tuple[Mark, ...] = ()
    outlined: frozenset[tuple[int, int]] = frozenset()
    outline: str = ""


Chart = LineChart | BarChart | HeatMap


def note(part: Series | Bars, k: int) -> str:
    """The note of a point or a group, if it has one."""
    return part.notes[k] if part.notes else ""
