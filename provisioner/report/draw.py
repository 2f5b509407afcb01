"""Charts drawn by matplotlib: for notebooks, PNG and SVG. Nothing here uses or changes pyplot's current figure."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from provisioner.report.chart import BarChart, Chart, HeatMap, LineChart, Mark, Series
from provisioner.report.palette import NO_VALUE, Style, colour_at, ink_on, style, tint
from provisioner.report.scales import (
    Scale,
    Shades,
    at_foot,
    bar_rules,
    bar_scale,
    brief,
    finite,
    hidden_number,
    line_scales,
    merged,
    number,
    shades,
    shared_rows,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

_WIDTH_IN: Final = 8.0
_DPI: Final = 150
_MARKED_POINTS: Final = 40  # with more, a curve has marks at some of its points only
_NAMED_BARS: Final = 40  # with more, bars have no numbers beside them
_FEW_COLUMNS: Final = 7  # as wide as one needs; more share the width
_NUMBERED_CELLS: Final = 120  # with more, cells have no numbers in them
_RULES: Final = ((5, 2), (1.5, 1.5), (8, 2, 1.5, 2))  # dashes of lines at values
_LABEL: Final = 34  # characters of a line of a long name
_SVG: Final[dict[Any, Any]] = {"svg.fonttype": "none", "svg.hashsalt": "provisioner", "hatch.linewidth": 0.6}


def draw(chart: Chart, axes: Axes | None = None) -> Axes:
    """Draw a chart on matplotlib axes, on those of a new figure (``.figure``) when none are given.

    The legend is put below a new figure; on given axes it stands inside, below them for a heat map.
    """
    if axes is None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(_WIDTH_IN, height_in(chart)), layout="constrained")
        axes = figure.add_subplot()
        _draw(chart, axes, figure)
        _attach_canvas(figure)
    else:
        _draw(chart, axes, None)
    return axes


def figure_file(charts: Sequence[Chart], kind: str) -> Callable[[str], None]:
    """What writes all of the charts, one below the other, to a file as ``png`` or ``svg``."""

    def write(path: str) -> None:
        from matplotlib import rc_context

        with rc_context(_SVG):
            metadata: dict[str, Any] = {"svg": {"Date": None}}.get(kind, {})
            figure_of(charts).savefig(path, format=kind, dpi=_DPI, metadata=metadata)

    return write


def figure_of(charts: Sequence[Chart]) -> Figure:
    """All of the charts in one figure, one below the other."""
    from matplotlib.figure import Figure

    heights = [height_in(chart) for chart in charts] or [1.0]
    figure = Figure(figsize=(_WIDTH_IN, sum(heights)), layout="constrained", facecolor="white")
    if len(charts) == 1:
        _draw(charts[0], figure.add_subplot(), figure)
    elif charts:
        parts: Any = figure.subfigures(len(charts), 1, height_ratios=heights)
        for chart, part in zip(charts, parts, strict=True):
            _draw(chart, part.add_subplot(), part)
    _attach_canvas(figure)
    return figure


def _attach_canvas(figure: Figure) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)


def height_in(chart: Chart) -> float:
    """The height of a picture in inches that is 8 inches wide."""
    title = 0.22 * len(_title(chart))
    legend = 0.22 * math.ceil(sum(len(name) + 8 for name in _legend_names(chart)) / 100.0)
    match chart:
        case LineChart():
            return 3.9 + title + legend
        case BarChart():
            if not lies(chart):
                return 3.6 + title + legend
            rows = 1 if shared_rows(chart) else max(len(chart.bars), 1)
            lines = sum(max(rows * 0.24, 0.17 * len(_wrapped(name))) + 0.14 for name in chart.groups)
            return min(max(lines, 0.6), 24.0) + 0.9 + title + legend
        case HeatMap():
            turned = 1.1 if _column_names(chart)[1] else 0.15
            return _cells_in(chart) + 0.8 + title + legend + turned


def _cells_in(chart: HeatMap) -> float:
    """The height of all rows of cells in inches."""
    return min(max(0.34 * len(chart.rows), 0.8), 6.2)


def lies(chart: BarChart, characters: int = 92) -> bool:
    """Whether bars lie: asked for, or because the names of the groups would not fit side by side."""
    longest = max((len(line) for name in chart.groups for line in textwrap.wrap(name, 14)), default=0)
    rows = max((len(textwrap.wrap(name, 14)) for name in chart.groups), default=0)
    return chart.horizontal or rows > 3 or longest > 16 or (longest + 1.5) * len(chart.groups) > characters


def _legend_names(chart: Chart) -> list[str]:
    match chart:
        case LineChart():
            return [series.name for series in chart.series if series.name]
        case BarChart():
            return [bars.name for bars in chart.bars if bars.name]
        case HeatMap():
            marks = [f"{symbol} {label}" for symbol, label in mark_names(chart.marks)]
            return [*marks, *([chart.outline] if chart.outlined else []), "no value"]


def mark_names(marks: Sequence[Mark]) -> list[tuple[str, str]]:
    """The symbols of a heat map with what they say, for a legend; many different labels of a symbol as one."""
    known: dict[str, dict[str, None]] = {}
    for mark in marks:
        known.setdefault(mark.symbol, {})[mark.label] = None
    return [
        (symbol, label)
        for symbol, labels in known.items()
        for label in (labels if len(labels) <= 3 else [f"{next(iter(labels))} and {len(labels) - 1} others"])
        if label
    ]


def _title(chart: Chart) -> list[str]:
    """Lines of a title as wide as the axes, which names beside horizontal bars make narrower."""
    return textwrap.wrap(chart.title, 72 if isinstance(chart, BarChart) and chart.horizontal else 90)


def _wrapped(text: str) -> list[str]:
    """A long name on at most three lines."""
    return textwrap.wrap(text, _LABEL, max_lines=3, placeholder=" ...", break_on_hyphens=False) or [""]


def _draw(chart: Chart, axes: Axes, own: Figure | SubFigure | None) -> None:
    from matplotlib.text import Text

    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.set_title("\n".join(_title(chart)), loc="left", fontsize=11)
    match chart:
        case LineChart():
            handles = _lines(chart, axes)
        case BarChart():
            handles = _bars(chart, axes)
        case HeatMap():
            handles = _cells(chart, axes)
    handles = [handle for handle in handles if handle.get_label()]
    shown: list[Any] = [axes]
    if handles:
        shown.append(_legend(axes, handles, own, below=isinstance(chart, HeatMap)))
    for text in (text for each in shown for text in each.findobj(Text)):
        text.set_parse_math(False)  # what stands between two dollar signs is no formula


def _legend(axes: Axes, handles: list[Any], own: Figure | SubFigure | None, below: bool) -> Any:
    columns = _columns([handle.get_label() for handle in handles])
    look: dict[str, Any] = {"fontsize": 8.5, "handlelength": 3.4, "handles": handles}
    if own is not None:
        return own.legend(loc="outside lower left", ncols=columns, frameon=False, **look)
    if below:
        return axes.legend(loc="upper left", bbox_to_anchor=(0, -0.16), ncols=min(columns, 2), frameon=False, **look)
    return axes.legend(loc="best", framealpha=0.85, **look)


def _columns(labels: Sequence[str]) -> int:
    """As many columns of a legend as fit side by side, each as wide as its longest label."""
    for columns in range(min(len(labels), 5), 1, -1):
        rows, longer = divmod(len(labels), columns)
        starts = [k * rows + min(k, longer) for k in range(columns + 1)]
        if sum(max(map(len, labels[a:b])) + 9 for a, b in pairwise(starts)) <= 106:
            return columns
    return 1


def _fit(axes: Axes, which: str, found: Scale) -> None:
    """Give an axis its scale: ends, ticks and their labels."""
    name = f"set_{which}"
    if found.logarithmic:
        if math.isinf(found.threshold):
            getattr(axes, f"{name}scale")("log")
        else:
            getattr(axes, f"{name}scale")("symlog", linthresh=found.threshold, linscale=0.6)
    getattr(axes, f"{name}lim")(found.low, found.high)
    getattr(axes, f"{name}ticks")(found.ticks, labels=found.labels, fontsize=9)
    getattr(axes, f"{name}ticks")([], minor=True)


def _name_axes(axes: Axes, across: str, up: str, tall_in: float) -> None:
    """Names of the axes, broken into lines where they are longer than the axis is."""
    axes.set_xlabel("\n".join(textwrap.wrap(across, 84)))
    axes.set_ylabel("\n".join(textwrap.wrap(up, max(int(11.5 * tall_in), 14))))


def _no_values(axes: Axes, text: str = "no values") -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color="#555555", style="italic")


def _lines(chart: LineChart, axes: Axes) -> list[Any]:
    from matplotlib.lines import Line2D

    across, up = line_scales(chart)
    _fit(axes, "x", across)
    _fit(axes, "y", up)
    _name_axes(axes, chart.x.label, chart.y.label, 3.0)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    handles: list[Any] = []
    unbounded = 0
    for position, series in enumerate(chart.series):
        look = style(position)
        dashes = (0, look.dashes) if look.dashes else "-"
        every = max(1, math.ceil(len(series.x) / _MARKED_POINTS))
        known: dict[str, Any] = {
            "color": look.light,
            "linewidth": 1.6,
            "linestyle": dashes,
            "markersize": 5,
            "mew": 0,
        }
        shown = [
            y if y is not None and math.isfinite(y) and math.isfinite(x) else math.nan
            for x, y in zip(series.x, series.y, strict=True)
        ]
        mark = look.mark if chart.points or len(finite(shown)) <= 1 else "None"
        style_of_line: Any = {"drawstyle": "steps-post"} if chart.steps else {}
        axes.plot(series.x, shown, marker=mark, markevery=every, zorder=3, **known, **style_of_line)
        handles.append(Line2D([], [], marker=mark, label=series.name, **known))
        _bounds(axes, series, shown, look)
        endless = [x for x, y in zip(series.x, series.y, strict=True) if y is not None and y == math.inf]
        if endless:
            heights = [1.0 - 0.035 * unbounded] * len(endless)
            top = axes.get_xaxis_transform()
            axes.plot(endless, heights, "^", color=look.light, transform=top, clip_on=False, zorder=4)
            unbounded += 1
    if unbounded:
        handles.append(Line2D([], [], marker="^", color="#555555", linestyle="", label="at the top: unbounded"))
    if not any(finite(series.y) for series in chart.series) and not unbounded:
        _no_values(axes)
    for rule in merged(chart.rules, "y"):
        axes.axhline(rule.value, color="#333333", linewidth=1.0, linestyle=(0, (7, 3)), zorder=2)
    _name_levels(axes, [(rule.value, rule.label) for rule in merged(chart.rules, "y")], up)
    _name_uprights(chart, axes)
    return handles


def _bounds(axes: Axes, series: Series, shown: Sequence[float], look: Style) -> None:
    """The bounds of values: bars where there are few, a band where there are many."""
    if not series.low or not series.high:
        return
    known = [
        (x, low, high)
        for x, y, low, high in zip(series.x, shown, series.low, series.high, strict=True)
        if not math.isnan(y) and len(finite([low, high])) == 2
    ]
    if not known:
        return
    xs, lows, highs = zip(*known, strict=True)
    if len(known) <= _MARKED_POINTS:
        axes.vlines(xs, lows, highs, color=look.light, linewidth=0.9, zorder=2.5)
        for ends in (lows, highs):
            axes.plot(xs, ends, "_", color=look.light, markersize=5, markeredgewidth=0.9, zorder=2.5)
    else:
        axes.fill_between(xs, lows, highs, color=look.light, alpha=0.18, linewidth=0, zorder=1.5)


def _name_levels(axes: Axes, levels: Sequence[tuple[float, str]], up: Scale) -> None:
    """Labels of level lines to the right of the axes, moved apart where they would overlap."""
    named = [(up.at(value), text) for value, text in levels if text]
    for (at, text), place in zip(named, spread([at for at, _ in named], 0.055), strict=True):
        bent = abs(place - at) > 0.01
        axes.annotate(
            "\n".join(textwrap.wrap(text, 28, max_lines=2, placeholder=" ...")),
            xy=(1.0, at),
            xytext=(1.03 if bent else 1.01, place),
            xycoords="axes fraction",
            fontsize=8,
            va="center",
            ha="left",
            color="#333333",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": "#999999", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 0}
            if bent
            else None,
        )


def spread(places: Sequence[float], apart: float) -> list[float]:
    """Places in rising order, moved so that neighbours are at least so far apart, each as little as may be.

    >>> spread([0.1, 0.5], 0.1), [round(place, 2) for place in spread([0.5, 0.5], 0.1)]
    ([0.1, 0.5], [0.45, 0.55])
    """
    groups: list[list[float]] = []  # middle, members
    for place in places:
        groups.append([place, 1.0])
        while len(groups) > 1:
            (first, many), (second, more) = groups[-2:]
            if second - first >= apart * (many + more) / 2.0 - 1e-12:
                break
            groups[-2:] = [[(first * many + second * more) / (many + more), many + more]]
    return [middle + apart * (k - (many - 1) / 2.0) for middle, many in groups for k in range(int(many))]


def _name_uprights(chart: LineChart, axes: Axes) -> None:
    """Upright lines with their labels along them, where there are fewer points."""
    for rule in merged(chart.rules, "x"):
        foot = at_foot(chart, rule.value)
        axes.axvline(rule.value, color="#333333", linewidth=1.0, linestyle=(0, (2, 2)), zorder=2)
        axes.annotate(
            textwrap.shorten(rule.label, 44, placeholder=" ..."),
            xy=(rule.value, 0.0 if foot else 1.0),
            xycoords=axes.get_xaxis_transform(),
            xytext=(-2, 3 if foot else -3),
            textcoords="offset points",
            rotation=90,
            ha="right",
            va="bottom" if foot else "top",
            fontsize=8,
            color="#333333",
            bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.6},
            zorder=4,
        )


def _bars(chart: BarChart, axes: Axes) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    flat = lies(chart)
    count = len(chart.bars) * len(chart.groups)
    named = count <= _NAMED_BARS
    found = bar_scale(chart, (0.12 if flat else 0.08) if named else 0.04)
    start = chart.base if not found.logarithmic or found.low <= chart.base <= found.high else found.low
    rows = 1 if shared_rows(chart) else max(len(chart.bars), 1)
    thick = 0.8 / rows
    handles: list[Any] = []
    for position, bars in enumerate(chart.bars):
        look = style(position)
        fill = tint(look.light, 0.22 if look.hatch else 0.75)
        paint: dict[str, Any] = {"facecolor": fill, "edgecolor": look.light, "hatch": look.hatch, "linewidth": 0.9}
        for group, value in enumerate(bars.values):
            place = group + (0.0 if rows == 1 else (position - (rows - 1) / 2.0) * thick)
            if value is None or math.isnan(value):
                _no_bar(axes, flat, place, start, look)
                continue
            end = min(max(value, found.low), found.high)
            if flat:
                axes.barh(place, end - start, left=start, height=thick * 0.94, zorder=2, **paint)
            else:
                axes.bar(place, end - start, bottom=start, width=thick * 0.94, zorder=2, **paint)
            if named and not hidden_number(chart, group, value):
                _value_of_bar(axes, chart, flat, place, end, value)
        handles.append(Patch(label=bars.name, **paint))
    _fit(axes, "x" if flat else "y", found)
    _groups(chart, axes, flat)
    _name_axes(axes, chart.value.label if flat else "", "" if flat else chart.value.label, 3.0)
    axes.grid(axis="x" if flat else "y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    (axes.axvline if flat else axes.axhline)(start, color="black", linewidth=0.8, zorder=3)
    handles += _rules_of_bars(chart, axes, flat, found)
    if not count:
        _no_values(axes)
    if any(value is None or math.isnan(value) for bars in chart.bars for value in bars.values):
        handles.append(Line2D([], [], marker="x", linestyle="", color="#333333", label="no value"))
    return handles


def _no_bar(axes: Axes, flat: bool, place: float, start: float, look: Style) -> None:
    """A cross at the base, where there is no value."""
    axes.annotate(
        "x none" if flat else "x",
        (start, place) if flat else (place, start),
        xytext=(4, 0) if flat else (0, 4),
        textcoords="offset points",
        ha="left" if flat else "center",
        va="center" if flat else "bottom",
        fontsize=8.5,
        weight="bold",
        color=look.light,
    )


def _rules_of_bars(chart: BarChart, axes: Axes, flat: bool, found: Scale) -> list[Any]:
    """Lines at values: named beside bars that stand, in the legend of bars that lie."""
    from matplotlib.lines import Line2D

    handles: list[Any] = []
    rules = bar_rules(chart)
    for position, rule in enumerate(rules):
        look: dict[str, Any] = {"color": "#333333", "lw": 1.1, "ls": (0, _RULES[position % len(_RULES)])}
        (axes.axvline if flat else axes.axhline)(rule.value, zorder=3, **look)
        if flat:
            handles.append(Line2D([], [], label=rule.label, **look))
    if not flat:
        _name_levels(axes, [(rule.value, rule.label) for rule in rules], found)
    return handles


def _value_of_bar(axes: Axes, chart: BarChart, flat: bool, place: float, end: float, value: float) -> None:
    """The number of a bar at its end, on the side away from the base."""
    away = 1 if value >= chart.base else -1
    axes.annotate(
        brief(value, [rule.value for rule in bar_rules(chart)]),
        (end, place) if flat else (place, end),
        xytext=(3 * away, 0) if flat else (0, 2 * away),
        textcoords="offset points",
        ha=("left" if away > 0 else "right") if flat else "center",
        va="center" if flat else ("bottom" if away > 0 else "top"),
        fontsize=7.5,
        zorder=5,
    )


def _groups(chart: BarChart, axes: Axes, flat: bool) -> None:
    places = list(range(len(chart.groups)))
    if flat:
        axes.set_yticks(places, ["\n".join(_wrapped(name)) for name in chart.groups], fontsize=9)
        axes.set_ylim(len(places) - 0.45 if places else 0.5, -0.55)
        axes.tick_params(axis="y", length=0)
    else:
        axes.set_xticks(places, ["\n".join(textwrap.wrap(name, 14)) for name in chart.groups], fontsize=9)
        axes.set_xlim(-0.6, max(len(places), 1) - 0.4)
        axes.tick_params(axis="x", length=0)


def _cells(chart: HeatMap, axes: Axes) -> list[Any]:
    from matplotlib.collections import PolyCollection
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    rows, columns = len(chart.rows), len(chart.columns)
    _name_axes(axes, chart.x.label, chart.y.label, _cells_in(chart))
    if not rows or not columns:
        axes.set_xticks([])
        axes.set_yticks([])
        _no_values(axes)
        return []
    how = shades(chart)
    colours: dict[tuple[int, int], str] = {
        (r, c): colour_at(how.at(value), how.divided)
        for r, row in enumerate(chart.values)
        for c, value in enumerate(row)
        if value is not None and not math.isnan(value)
    }
    square = {(r, c): [(c, r), (c + 1, r), (c + 1, r + 1), (c, r + 1)] for r in range(rows) for c in range(columns)}
    empty = [corners for place, corners in square.items() if place not in colours]
    thin = 0.3 if rows * columns <= 600 else 0.0
    cells = PolyCollection(
        [square[place] for place in colours],
        facecolors=list(colours.values()),
        edgecolors="white" if thin else "face",
        linewidths=thin or 0.15,
    )
    axes.add_collection(cells, autolim=False)
    handles: list[Any] = []
    if empty:
        paint: dict[str, Any] = {"facecolor": "#efefef", "edgecolor": "#8a8a8a", "hatch": NO_VALUE[0] + "/"}
        axes.add_collection(PolyCollection(empty, linewidths=0.2, **paint), autolim=False)
        handles.append(Patch(label="no value", linewidth=0.4, **paint))
    if any(math.isinf(value) for row in chart.values for value in row if value is not None):
        handles.append(Patch(label="unbounded", facecolor=colour_at(1.0, how.divided), edgecolor="black"))
    axes.set_xlim(0, columns)
    axes.set_ylim(0, rows)
    for side in ("top", "right"):
        axes.spines[side].set_visible(True)
    names, turned = _column_names(chart)
    turn: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if turned else {}
    axes.set_xticks([k + 0.5 for k, _ in names], labels=[name for _, name in names], fontsize=8, **turn)
    shown = thinned(chart.rows, 24)
    axes.set_yticks(
        [k + 0.5 for k in shown], labels=["\n".join(_wrapped(cell_label(chart.rows[k]))) for k in shown], fontsize=8
    )
    axes.tick_params(length=2)
    if columns <= _FEW_COLUMNS:
        axes.set_box_aspect(_cells_in(chart) / (0.95 * columns))
    numbered = rows * columns <= _NUMBERED_CELLS and columns <= 14
    if numbered:
        for (r, c), colour in colours.items():
            text = brief(chart.values[r][c], [chart.middle])
            axes.text(c + 0.5, r + 0.5, text, ha="center", va="center", fontsize=7.5, color=ink_on(colour))
    handles += _outline(chart, axes)
    for mark in chart.marks:
        _mark(axes, mark, rows, columns, numbered)
    for symbol, label in mark_names(chart.marks):
        handles.append(Line2D([], [], linestyle="", label=label, **_symbol(symbol, 9.0)))
    if how.scale is not None:
        _colour_bar(chart, axes, how)
    return handles


def cell_label(label: float | str) -> str:
    """The name of a row or column."""
    return label if isinstance(label, str) else number(label)


def thinned(labels: Sequence[float | str], most: int) -> list[int]:
    """Positions of at most ``most`` of the names, evenly spaced: of numbers the round ones, else from the first.

    >>> thinned([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], 4), thinned(list("abcde"), 3)
    ([1, 3, 5], [0, 2, 4])
    """
    count = len(labels)
    every = next((k for k in (1, 2, 5, 10, 20, 25, 50, 100, 200, 500) if count <= k * most), max(1, count // most))
    first = 0
    if every > 1:
        numbers = [label for label in labels if not isinstance(label, str)]
        if len(numbers) == count and count > 2 * every:
            step = numbers[every] - numbers[0]
            first = next((k for k in range(every) if step and abs(numbers[k] % step) < 1e-9 * abs(step)), 0)
    return list(range(first, count, every))


def _column_names(chart: HeatMap) -> tuple[list[tuple[int, str]], bool]:
    """The columns that are named, and whether their names have to be turned to fit."""
    short = all(len(cell_label(label)) <= 3 for label in chart.columns)
    shown = thinned(chart.columns, 26 if short else 12)
    texts = [cell_label(chart.columns[k]) for k in shown]
    room = 11 if len(chart.columns) <= _FEW_COLUMNS else 84 // max(len(shown), 1)
    wrapped = [textwrap.wrap(text, max(room, 3), break_long_words=False) or [""] for text in texts]
    if any(len(lines) > 3 or max(map(len, lines)) > room for lines in wrapped):
        return [(k, textwrap.shorten(text, 26, placeholder=" ...")) for k, text in zip(shown, texts, strict=True)], True
    return [(k, "\n".join(lines)) for k, lines in zip(shown, wrapped, strict=True)], False


def edges(cells: frozenset[tuple[int, int]]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """The sides of cells (row, column) beyond which there is none of them, as points (x, y); joined where they go on.

    >>> edges(frozenset({(0, 0), (0, 1)}))
    [((0, 0), (2, 0)), ((0, 1), (2, 1)), ((0, 0), (0, 1)), ((2, 0), (2, 1))]
    """
    level = {(r + up, c) for r, c in cells for up, beside in ((0, r - 1), (1, r + 1)) if (beside, c) not in cells}
    upright = {(c + on, r) for r, c in cells for on, beside in ((0, c - 1), (1, c + 1)) if (r, beside) not in cells}
    lines = [((begin, at), (end, at)) for at, begin, end in _joined(level)]
    return lines + [((at, begin), (at, end)) for at, begin, end in _joined(upright)]


def _joined(sides: set[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Unit sides (line, from) as stretches (line, from, to)."""
    found: list[tuple[int, int, int]] = []
    for at, begin in sorted(sides):
        if found and found[-1][0] == at and found[-1][2] == begin:
            found[-1] = (at, found[-1][1], begin + 1)
        else:
            found.append((at, begin, begin + 1))
    return found


def _outline(chart: HeatMap, axes: Axes) -> list[Any]:
    from matplotlib.collections import LineCollection
    from matplotlib.lines import Line2D

    inside = {(r, c) for r, c in chart.outlined if 0 <= r < len(chart.rows) and 0 <= c < len(chart.columns)}
    if not inside:
        return []
    lines = edges(frozenset(inside))
    for colour, wide in (("white", 4.0), ("black", 2.0)):
        axes.add_collection(
            LineCollection(lines, colors=colour, linewidths=wide, capstyle="projecting", clip_on=False, zorder=3)
        )
    return [Line2D([], [], color="black", linewidth=2.0, label=chart.outline)]


def _symbol(symbol: str, size: float) -> dict[str, Any]:
    """How a mark looks: white with a black edge, so that it shows on every colour."""
    name = {"star": "*", "dot": "o", "cross": "X"}[symbol]
    scaled = size * {"star": 1.5, "dot": 0.75, "cross": 1.0}[symbol]
    return {"marker": name, "markersize": scaled, "markerfacecolor": "white", "markeredgecolor": "black", "mew": 0.9}


def _mark(axes: Axes, mark: Mark, rows: int, columns: int, numbered: bool) -> None:
    """A mark in the middle of its cell, or in the corner where the middle has a number."""
    size = 7.0 if numbered else min(max(260.0 / max(rows, columns, 1), 4.5), 10.0)
    x, y = (0.86, 0.72) if numbered else (0.5, 0.5)
    level = 6 if mark.symbol == "star" else 5
    axes.plot(
        [mark.column + x], [mark.row + y], linestyle="", zorder=level, clip_on=False, **_symbol(mark.symbol, size)
    )


def _colour_bar(chart: HeatMap, axes: Axes, how: Shades) -> None:
    """The colours with their values, drawn from the same places as the cells."""
    assert how.scale is not None
    low, high = how.ends
    steps = 200
    wide = 0.25 / _WIDTH_IN
    bar = axes.inset_axes((1.0 + wide, 0.0, wide, 1.0))
    for k in range(steps):
        middle = low + (k + 0.5) / steps * (high - low)
        bar.axhspan(k / steps, (k + 1) / steps, color=colour_at(middle, how.divided), linewidth=0)
    bar.set_xlim(0, 1)
    bar.set_ylim(0, 1)
    bar.set_xticks([])
    bar.yaxis.tick_right()
    bar.yaxis.set_label_position("right")
    places = bar_ticks(how, 0.17 / _cells_in(chart))
    bar.set_yticks([place for place, _ in places], labels=[text for _, text in places], fontsize=8)
    letters = max(int(12.5 * _cells_in(chart)), 16)
    bar.set_ylabel("\n".join(textwrap.wrap(chart.value.label, letters)), fontsize=9)
    if how.middle is not None and low < 0.5 < high:
        bar.axhline(0.5, color="black", linewidth=1.2)


def bar_ticks(how: Shades, apart: float = 0.06) -> list[tuple[float, str]]:
    """Values beside the colours: their places from 0 to 1, and texts; the limit always, others where there is room."""
    assert how.scale is not None
    low, high = how.ends
    wanted = [] if how.middle is None else [how.middle]
    wanted += [*how.scale.ticks, how.scale.low, how.scale.high]
    texts = dict(zip(how.scale.ticks, how.scale.labels, strict=True))
    kept: list[tuple[float, str]] = []
    for value in wanted:
        place = (how.at(value) - low) / (high - low)
        if all(abs(place - other) >= apart for other, _ in kept):
            kept.append((place, texts.get(value, brief(value))))
    return sorted(kept)
