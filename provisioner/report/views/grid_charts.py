"""The charts of a grid: distances to the limits, latency over an input, and batches."""

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate, groupby
from typing import Final, TypeVar

from provisioner.report.chart import Axis, Chart, HeatMap, LineChart, Mark, Rule, Series, Values
from provisioner.report.numbers import milliseconds, simulated
from provisioner.results.grid import Grid, GridPoint, PointLatency, Varied
from provisioner.specs.metrics import METRICS
from provisioner.specs.units import format_cost, format_power

T = TypeVar("T")

STATE: Final = {
    "pass": "passes",
    "undecided": "undecided",
    "fail": "misses a limit",
    "unstable": "unstable",
    "stuck": "never served",
    "infeasible": "cannot serve",
}
"""Each state of a point as a phrase."""

_OVER_LIMIT: Final = "largest percentile over its limit"
_DRAWN_VALUES: Final = 5  # values whose batches are drawn, evenly spaced over all: more lines would cover each other


def charts(grid: Grid) -> Mapping[str, Chart]:
    """The charts of a grid by name.

    Of sizes, a map over two or a curve over one: the largest percentile over its limit, of all and of each metric;
    without limits the time at work. Over an input that too, then percentiles by metric, or with several clusters each
    of its own, and batches.
    """
    if grid.varied is not None:
        return _over_input(grid, grid.varied)
    several = [k for k, sizes in enumerate(grid.sizes) if len(sizes) > 1]
    if len(several) == 2:
        return _maps(grid)
    return {"worst": _curve(grid, several[0] if several else len(grid.sizes) - 1)}


def plain(value: float) -> str:
    """A value of a range: a whole number with all its digits, another with six.

    >>> plain(1048576), plain(30.0), plain(1 / 3)
    ('1048576', '30', '0.333333')
    """
    return str(value) if isinstance(value, int) else f"{value:g}"


def drawn_values(count: int) -> list[int]:
    """Positions of a few values, evenly spaced from the first to the last.

    >>> drawn_values(23), drawn_values(3)
    ([0, 6, 11, 16, 22], [0, 1, 2])
    """
    drawn = min(count, _DRAWN_VALUES)
    return [round(k * (count - 1) / max(drawn - 1, 1)) for k in range(drawn)]


def cumulative(shares: Sequence[float]) -> tuple[float, ...]:
    """Shares of time with at most each number of requests, of those with exactly that number."""
    return tuple(min(total, 1.0) for total in accumulate(shares))


def lines(cells: Sequence[T], width: int) -> tuple[tuple[T, ...], ...]:
    """Cells of a map line by line.

    >>> lines("abcdef", 3)
    (('a', 'b', 'c'), ('d', 'e', 'f'))
    """
    return tuple(tuple(cells[k : k + width]) for k in range(0, len(cells), width))


def drawn_batches(grid: Grid, cluster: int, pool: int) -> list[tuple[float, tuple[float, ...]]]:
    """A few values, each with the share of a pool's time with at most 0, 1, ... requests in an iteration."""
    points = [(grid.values[j], grid.of(cluster)[j].pools) for j in drawn_values(len(grid.values))]
    return [(value, cumulative(pools[pool].batch_time_share)) for value, pools in points if pools]


def _positive(value: float | None) -> float | None:
    """A value that a logarithmic axis can show."""
    return None if value is None or not math.isfinite(value) or value <= 0.0 else value


def _over_limit(point: GridPoint, *metrics: str) -> float | None:
    """The largest percentile of some metrics over its limit, where a logarithmic axis can show it."""
    worst = point.worst_of(metrics)
    return None if worst is None else _positive(worst.over_limit)


def _maps(grid: Grid) -> Mapping[str, Chart]:
    metrics = dict.fromkeys(limit.metric for limit in grid.limits)
    if not metrics:
        what = f"share of {grid.clusters[0].pools[0].role} machines' time at work"
        busy = [point.pools[0].utilization if point.pools else None for point in grid.points]
        return {"busy": _map(grid, what, busy, None)}
    maps = {"worst": _map(grid, _OVER_LIMIT, [_over_limit(point, *metrics) for point in grid.points], 1.0)}
    for metric in metrics if len(metrics) > 1 else ():
        what = f"largest {METRICS[metric].label} percentile over its limit"
        maps[metric] = _map(grid, what, [_over_limit(point, metric) for point in grid.points], 1.0, metric)
    return maps


def _map(grid: Grid, what: str, values: Sequence[float | None], middle: float | None, metric: str = "") -> HeatMap:
    """A map of one number of every cluster; its notes have the percentiles of one metric, or of all."""
    rows, columns = grid.sizes
    width = len(columns)
    smallest = "frontier: no smaller one passes"
    marks = [Mark(*divmod(k, width), "dot", smallest) for k in grid.frontier if k != grid.optimum]
    if grid.optimum is not None:
        cost = format_cost(grid.points[grid.optimum].totals.cost_usd_per_h)
        label = f"optimum: {grid.clusters[grid.optimum].sizes}, {cost}"
        marks.append(Mark(*divmod(grid.optimum, width), "star", label))
    up, right = grid.clusters[0].pools
    return HeatMap(
        title=f"{grid.clusters[0].design}, {grid.workload} on {grid.model}: {what}",
        x=Axis(f"{right.role} machines ({right.machine})"),
        y=Axis(f"{up.role} machines ({up.machine})"),
        value=Axis(what, logarithmic=middle is not None),
        columns=columns,
        rows=rows,
        values=lines(values, width),
        notes=lines([_size_note(grid, k, metric) for k in range(len(grid.points))], width),
        middle=middle,
        marks=tuple(marks),
        outlined=frozenset(divmod(k, width) for k, point in enumerate(grid.points) if point.state == "pass"),
        outline="passes" if middle is None else "passes: stable, and every limit met",
    )


def _curve(grid: Grid, varied: int) -> LineChart:
    """The largest percentile of each metric over its limit against the machines of one pool."""
    pool = grid.clusters[0].pools[varied]
    x = tuple(float(size) for size in grid.sizes[varied])
    fixed = [f"{other.machines} {other.role}" for k, other in enumerate(grid.clusters[0].pools) if k != varied]
    rules = [Rule(1.0, "limit")] if grid.limits else []
    if grid.optimum is not None:
        best = grid.clusters[grid.optimum].pools[varied].machines
        rules.append(Rule(float(best), f"optimum: {best}", "x"))
    what, axis = _OVER_LIMIT, Axis(_OVER_LIMIT, logarithmic=True)
    metrics = dict.fromkeys(limit.metric for limit in grid.limits)
    curves = {METRICS[name].label: [_over_limit(point, name) for point in grid.points] for name in metrics}
    if not grid.limits:
        what, axis = "time at work", Axis("share of time at work", from_zero=True)
        curves = {pool.role: [point.pools[varied].utilization if point.pools else None for point in grid.points]}
    notes = tuple(_size_note(grid, k) for k in range(len(grid.points)))
    return LineChart(
        f"{', '.join([grid.clusters[0].design, *fixed, f'{grid.workload} on {grid.model}'])}: {what}",
        Axis(f"{pool.role} machines ({pool.machine})"),
        axis,
        tuple(Series(name, x, tuple(values), notes=notes) for name, values in curves.items()),
        tuple(rules),
    )


def _size_note(grid: Grid, k: int, metric: str = "") -> str:
    totals = grid.points[k].totals
    head = f"{grid.clusters[k].sizes}: {format_cost(totals.cost_usd_per_h)}, {format_power(totals.power_w)}"
    return _note(grid, grid.points[k], head, metric)


def _note(grid: Grid, point: GridPoint, head: str, metric: str = "") -> str:
    """A point in lines: its head, its state and why, every percentile, or those of a metric, beside its limit."""
    limits = {limit.name: f" (limit {limit.format(limit.value)})" for limit in grid.limits}
    state = f"{STATE[point.state]}: {point.why}" if point.why and not metric else STATE[point.state]
    figures = (
        f"{latency.label} {simulated(latency.seconds, milliseconds)} ms, {simulated(latency.slowdown)}x"
        f"{limits.get(latency.name, '')}"
        for latency in point.latency
        if metric in ("", latency.metric)
    )
    return "\n".join([head, state, *figures])


def _over_input(grid: Grid, varied: Varied) -> Mapping[str, Chart]:
    notes = []
    for k, cluster in enumerate(grid.clusters):
        heads = (f"{cluster}, {varied.name} {plain(value)}" for value in grid.values)
        notes.append(tuple(_note(grid, *each) for each in zip(grid.of(k), heads, strict=True)))
    drawn: dict[str, Chart] = {}
    if grid.limits:
        drawn["worst"] = LineChart(
            title=f"{grid.workload} on {grid.model}: {_OVER_LIMIT} against {varied.what}",
            x=Axis(varied.label),
            y=Axis(_OVER_LIMIT, logarithmic=True),
            series=tuple(
                Series(str(of), grid.values, tuple(_positive(p.worst_ratio) for p in grid.of(k)), notes=notes[k])
                for k, of in enumerate(grid.clusters)
            ),
            rules=(Rule(1.0, "limit"),),
        )
    shown = next((point.latency for point in grid.points if point.latency), ())
    groups = [(latency.name, latency.label, [latency]) for latency in shown]
    if len(grid.clusters) == 1:
        by_metric = groupby(shown, key=lambda latency: latency.metric)
        groups = [(name, METRICS[name].label, list(of_metric)) for name, of_metric in by_metric]
    drawn |= {name: _latency(grid, varied, percentiles, title, notes) for name, title, percentiles in groups}
    return drawn | _occupancy(grid, varied)


def _latency(
    grid: Grid, varied: Varied, shown: Sequence[PointLatency], title: str, notes: Sequence[tuple[str, ...]]
) -> LineChart:
    """Percentiles against the input with their limits: in the kind of the limits, slowdowns where there are none."""
    names = [latency.name for latency in shown]
    limits = [limit for limit in grid.limits if limit.name in names]
    kind = "seconds" if {limit.kind for limit in limits} == {"seconds"} else "slowdown"
    alone = len(grid.clusters) == 1
    series = []
    for k, cluster in enumerate(grid.clusters):
        for latency in shown:
            curves = _curves(grid.of(k), latency.name, kind)
            series.append(Series(latency.label if alone else str(cluster), grid.values, **curves, notes=notes[k]))
    rules = []
    for limit in (limit for limit in limits if limit.kind == kind):
        if varied.name == "slo":  # the limit itself varies
            scaled = tuple(limit.value * value for value in grid.values)
            series.append(Series(f"{limit.label} limit", grid.values, scaled))
        else:
            rules.append(Rule(limit.value, f"{limit.label} limit {limit.format(limit.value)}"))
    where = f", {grid.clusters[0]}" if alone else ""
    return LineChart(
        title=f"{title} against {varied.what}{where}, {grid.workload} on {grid.model}",
        x=Axis(varied.label),
        y=Axis(f"{title} {'(s)' if kind == 'seconds' else 'slowdown (x)'}", logarithmic=True),
        series=tuple(series),
        rules=tuple(rules),
    )


def _curves(points: Sequence[GridPoint], name: str, kind: str) -> dict[str, Values]:
    """One percentile at every point, in s or as a slowdown, and its intervals if there are any."""
    at_points = [next((latency for latency in point.latency if latency.name == name), None) for point in points]
    curves = {"y": tuple(_positive(getattr(at, kind, None)) for at in at_points)}
    intervals = [getattr(at, f"{kind}_range", None) for at in at_points]
    if any(intervals):
        low, high = zip(*(interval or (None, None) for interval in intervals), strict=True)
        curves |= {"low": tuple(map(_positive, low)), "high": tuple(map(_positive, high))}
    return curves


def _occupancy(grid: Grid, varied: Varied) -> dict[str, Chart]:
    """The share of time with at most a number of requests in an iteration, of each pool at a few values."""
    drawn: dict[str, Chart] = {}
    for k, cluster in enumerate(grid.clusters):
        for position, pool in enumerate(cluster.pools):
            of = f"{pool.role} machines ({pool.machine})"
            if batches := drawn_batches(grid, k, position):
                drawn[f"batches: {cluster}, {pool.role}"] = LineChart(
                    title=f"{cluster}: batches of {of}, {grid.workload} on {grid.model}",
                    x=Axis("requests in an iteration at most (0: idle)"),
                    y=Axis("share of time", from_zero=True),
                    series=tuple(
                        Series(f"{varied.name} {plain(value)}", tuple(map(float, range(len(total)))), total)
                        for value, total in batches
                    ),
                    steps=True,
                    points=False,
                )
    return drawn
