"""A grid as a report: for sizes the optimum, the frontier and a map; for an input the values at which clusters pass."""

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Final

from provisioner.options import DURATION_S, SweepOptions, VaryOptions
from provisioner.report.document import Block, Code, Column, Document, KeyNumber, KeyNumbers, Table, listing, table
from provisioner.report.numbers import milliseconds, per_cent, simulated, whole
from provisioner.report.tables import Cell, Row
from provisioner.report.views.grid_charts import STATE, charts, cumulative, drawn_batches, lines, plain
from provisioner.report.views.view import View, amount, bounds, criteria_columns, over, report, scheduler, total_cells
from provisioner.results.cluster import Cluster
from provisioner.results.grid import Grid, GridPoint, PointLatency, Varied
from provisioner.specs.criteria import CRITERIA, OF_CLUSTERS, CriterionName
from provisioner.specs.metrics import METRICS
from provisioner.specs.roles import ROLES
from provisioner.specs.units import format_seconds
from provisioner.spelling import spelled

_COUNTED: Final = {
    "pass": "passing",
    "undecided": "undecided",
    "fail": "missing a limit",
    "unstable": "unstable",
    "stuck": "leaving requests unserved",
    "infeasible": "that cannot serve these requests",
}
_TITLE: Final = {"rate": "Latency against load", "cv": "Latency against burstiness", "slo": "Limits scaled"}

# Rows of the frontier that a terminal shows, and the width and height of a map as text.
_SHOWN_FRONTIER: Final = 20
_MAP_COLUMNS: Final = 90
_MAP_ROWS: Final = 60
_WIDE: Final = 44  # columns of a map that are set apart, at most

# Signs of a map.
_OPTIMUM, _FRONTIER = "*", "o"
_SIGN: Final = {"pass": "+", "fail": "-", "undecided": "?", "unstable": "~", "stuck": "#", "infeasible": "x"}

_TOTALS: Final[tuple[CriterionName, ...]] = ("machines", "cost", "power")
_BATCHES: Final = (1, 4, 16, 64, 256)
_LONGEST_HEADER: Final = 5  # a longer name of the input would push a table beyond the edge of a terminal


def document(grid: Grid, inputs: bool = False) -> Document:
    """The report of a grid. ``inputs`` adds every option, and the whole frontier."""
    if grid.varied is None:
        headline, subject, blocks = _sizes_report(grid, inputs)
    else:
        headline, subject, blocks = _input_report(grid, grid.varied)
    subtitle = f"{subject}, {f'SLO {grid.slo}' if grid.limits else 'no latency limits'}."
    rule = "stable, and every percentile within its limit"
    if grid.sets > 1:
        seeds = grid.varied is not None and grid.varied.name == "seeds"
        mean = f"the mean over {'its' if seeds else grid.sets} request sets"
        rule = f"stable, and of every percentile the one-sided 95 % upper bound of {mean} is within its limit"
    method = [("passes", rule)]
    if grid.objective is not None:
        best = f"{CRITERIA[grid.objective].short}; then by cost, power, machines, and the largest slack"
        method += [
            ("optimum", best),
            ("policy", f"{grid.policy} (docs/reference/simulation.md)"),
            *scheduler(grid.policy),
        ]
    method += [("assumptions", grid.assumptions), ("prices", grid.prices), ("seed", str(grid.seed))]
    options = SweepOptions if grid.varied is None else VaryOptions
    return report(grid, headline, subtitle, blocks, method, options, inputs)


def _span(values: Sequence[float]) -> str:
    """Values as a phrase: one, a run with its step, or all of them.

    >>> _span((1, 2, 3, 4)), _span((30.0, 40.0, 50.0)), _span((7,)), _span((1, 2, 4))
    ('1 to 4', '30 to 50 by 10', '7', '1, 2, 4')
    """
    steps = {float(f"{after - before:.9g}") for before, after in pairwise(values)}
    if len(steps) == 1 and len(values) > 2:
        step = steps.pop()
        return f"{plain(values[0])} to {plain(values[-1])}" + ("" if step == 1 else f" by {step:g}")
    listed = [plain(value) for value in values]
    return ", ".join(listed if len(listed) <= 12 else [*listed[:5], "...", listed[-1]])


def _sizes_report(grid: Grid, inputs: bool) -> tuple[str, str, tuple[Block, ...]]:
    """The optimum, or that there is none, the sizes that were swept, and the blocks."""
    first = grid.clusters[0]
    headline = f"{first.design}: no cluster of the {len(grid.points):,} swept passes"
    if grid.optimum is not None:
        headline = grid.clusters[grid.optimum].headline
    spans = " x ".join(f"{_span(sizes)} {pool.role}" for pool, sizes in zip(first.pools, grid.sizes, strict=True))
    blocks = (
        _key_numbers(grid),
        *(() if grid.optimum is None else (_latency_table(grid, grid.points[grid.optimum]),)),
        _frontier_table(grid, len(grid.frontier) if inputs else _SHOWN_FRONTIER),
        _bindings_table(grid),
        *_text_map(grid),
    )
    return headline, f"Swept: {spans} machines, {grid.workload} on {grid.model}, {grid.load}", blocks


def _key_numbers(grid: Grid) -> KeyNumbers:
    """The optimum's totals, its binding limit, and the number of clusters that pass."""
    if grid.optimum is None:
        served = [(k, point) for k, point in enumerate(grid.points) if point.state != "infeasible"]
        ratios = {k: math.inf if point.worst_ratio is None else point.worst_ratio for k, point in served}
        k, nearest = min(served, key=lambda pair: (not pair[1].stable, ratios[pair[0]]))
        numbers = [KeyNumber("nearest", f"{grid.clusters[k].sizes}: {nearest.why}")]
    else:
        best = grid.points[grid.optimum]
        numbers = [amount(name, best.totals) for name in OF_CLUSTERS]
        if best.worst is not None:
            numbers.append(KeyNumber("least slack", f"{_slack(best.worst)} %", f"({best.worst.label})"))
    counts = [f"{count:,} {_COUNTED[state]}" for state, count in grid.states.items()]
    numbers.append(KeyNumber("clusters", f"{len(grid.points):,} simulated whole: {', '.join(counts)}"))
    if grid.frontier:
        what = "cluster passes" if len(grid.frontier) == 1 else "clusters pass"
        numbers.append(KeyNumber("frontier", f"{len(grid.frontier):,} {what} where no smaller one swept does"))
    return KeyNumbers(tuple(numbers))


def _slack(latency: PointLatency | None) -> str:
    """The slack of a percentile to its limit, in %; empty without a limit."""
    over_limit = None if latency is None else latency.over_limit
    return "" if over_limit is None else simulated(1.0 - over_limit, per_cent)


def _latency_table(grid: Grid, point: GridPoint) -> Table:
    """One row per percentile of the optimum, beside its limit; the nearest to it stands out."""
    limits = {limit.name: limit.format(limit.value) for limit in grid.limits}
    return listing(
        f"Latency at the optimum{over(grid)}",
        point.latency,
        (Column("latency"), lambda latency: latency.label),
        (Column("ms", True), lambda latency: simulated(latency.seconds, milliseconds)),
        (Column("slowdown, x", True), lambda latency: simulated(latency.slowdown)),
        (Column("limit", True), lambda latency: limits.get(latency.name, "")),
        (Column("slack, %", True), _slack),
        strong=lambda latency: latency.name == point.binding,
    )


def _frontier_table(grid: Grid, most: int) -> Table:
    """One row per cluster that passes where no smaller one does, at ``most`` around the optimum, which stands out."""
    at = grid.frontier.index(grid.optimum) if grid.optimum in grid.frontier else 0
    left_out = max(len(grid.frontier) - most, 0)
    begin = min(max(at - most // 2, 0), left_out)
    more = f" ({left_out:,} more in the files of {spelled('out')})" if left_out else ""
    roles = list(enumerate(pool.role for pool in grid.clusters[0].pools))
    return listing(
        f"Frontier: they pass, and no smaller one swept does{more}",
        grid.frontier[begin : begin + most],
        *((Column(role, True), lambda k, j=j: whole(grid.clusters[k].pools[j].machines)) for j, role in roles),
        *criteria_columns(_TOTALS, lambda k: grid.points[k].totals, machines="machines"),
        (Column("slack, %", True), lambda k: _slack(grid.points[k].worst)),
        (Column("nearest limit"), lambda k: "" if (worst := grid.points[k].worst) is None else worst.label),
        *(
            (Column(f"{role} busy, %", True), lambda k, j=j: per_cent(grid.points[k].pools[j].utilization))
            for j, role in roles
        ),
        strong=lambda k: k == grid.optimum,
    )


def _bindings_table(grid: Grid) -> Table:
    """One row per limit: the number of clusters in which it is the nearest, having the largest ratio."""
    states = [state for state in grid.states if state != "infeasible"]
    columns = (Column("limit"), Column("", True), *(Column(STATE[state], True) for state in states))
    rows = []
    for limit in grid.limits:
        counts = grid.bindings[limit.name]
        shown = (whole(counts[state]) if state in counts else "" for state in states)
        rows.append((limit.label, limit.format(limit.value), *shown))
    return Table("Clusters by nearest limit (with the largest value for its limit)", columns, tuple(rows))


def _text_map(grid: Grid) -> list[Block]:
    """Every cluster as one character, where there are two pools and room for them."""
    if len(grid.sizes) != 2 or min(map(len, grid.sizes)) < 2:
        return []
    rows, columns = grid.sizes
    if len(columns) > _MAP_COLUMNS or len(rows) > _MAP_ROWS:
        return []
    signs = [
        METRICS[point.worst.metric].sign if point.state == "fail" and point.worst else _SIGN[point.state]
        for point in grid.points
    ]
    for k in grid.frontier:
        signs[k] = _FRONTIER
    if grid.optimum is not None:
        signs[grid.optimum] = _OPTIMUM
    apart = " " if len(columns) <= _WIDE else ""
    digits = len(str(columns[-1]))
    margin = max(len(str(rows[-1])), digits)
    by_row = zip(rows, lines(signs, len(columns)), strict=True)
    drawn = [f"{size:>{margin}} |{apart}{apart.join(line)}" for size, line in by_row][::-1]
    drawn.append(f"{'':{margin}} +{'-' * (len(columns) * (1 + len(apart)) + len(apart))}")
    for place in range(digits):  # numbers of columns are read downwards
        drawn.append(f"{'':{margin}}  {apart}{apart.join(f'{n:>{digits}}'[place] for n in columns)}".rstrip())
    up, right = (pool.role for pool in grid.clusters[0].pools)
    meanings = {_OPTIMUM: "optimum", _FRONTIER: "frontier", _SIGN["pass"]: STATE["pass"]}
    meanings |= {metric.sign: f"misses {metric.label} most" for metric in METRICS.values()}
    meanings |= {sign: STATE[state] for state, sign in _SIGN.items()}
    used = [f"{sign} {text}" for sign, text in meanings.items() if sign in signs]
    legend = ["   ".join(used[k : k + 4]) for k in range(0, len(used), 4)]
    return [Code(f"Map: {up} machines upwards, {right} machines to the right", "\n".join([*drawn, "", *legend]))]


def _input_report(grid: Grid, varied: Varied) -> tuple[str, str, tuple[Block, ...]]:
    """The values at which each cluster passes, the input that was varied with the load, and the blocks."""
    parts = [f"{cluster} passes {_passes(grid, k)}" for k, cluster in enumerate(grid.clusters)]
    load = grid.load
    if varied.name == "rate" and grid.question.get("trace") is None:
        duration_s = grid.question.get("duration_s")
        load = f"for {format_seconds(duration_s if isinstance(duration_s, float | int) else DURATION_S)} each"
    title = _TITLE.get(varied.name, f"Latency against {varied.what}")
    clusters = listing(
        f"Clusters, and the {varied.label} at which they pass",
        range(len(grid.clusters)),
        (Column("cluster"), lambda k: str(grid.clusters[k])),
        *criteria_columns(_TOTALS, lambda k: grid.of(k)[0].totals, machines="machines"),
        (Column("passes at", words=True), lambda k: _passes(grid, k).removeprefix("at ")),
        (Column("nearest that does not", words=True), lambda k: _beyond(grid, k)),
    )
    header = varied.name if len(varied.name) <= _LONGEST_HEADER else "value"
    points = (_points_table(grid, k, header) for k in range(len(grid.clusters)))
    subject = f"Varied: {varied.label}, {_span(grid.values)}; {grid.workload} on {grid.model}, {load}"
    return f"{title}: {'; '.join(parts)}", subject, (clusters, *points, _batches_table(grid, header))


def _passes(grid: Grid, k: int) -> str:
    spans = [
        plain(span.first) if span.first == span.last else f"{plain(span.first)} to {plain(span.last)}"
        for span in grid.spans(k)
    ]
    return f"at {', '.join(spans)}" if spans else "nowhere"


def _beyond(grid: Grid, k: int) -> str:
    """The nearest point at which a cluster does not pass: after the last that passes, or before it."""
    points = grid.of(k)
    last = max((j for j, point in enumerate(points) if point.state == "pass"), default=-1)
    failing = [j for j, point in enumerate(points) if point.state != "pass"]
    if not failing:
        return "none"
    at = next((j for j in failing if j > last), failing[-1])
    why = points[at].why if points[at].state in ("fail", "undecided") else STATE[points[at].state]
    return f"{plain(grid.values[at])}: {why}"


def _points_table(grid: Grid, k: int, header: str) -> Table:
    """One row per value of the input: whether the cluster passes, the binding limit, and every limited percentile."""
    limits = {limit.name: limit for limit in grid.limits}
    first = next((point.latency for point in grid.of(k) if point.latency), ())
    shown = [latency for latency in first if latency.name in limits] if limits else list(first)
    kinds = {limit.kind for limit in limits.values()} or {"slowdown"}

    def of(point: GridPoint, name: str) -> str:
        latency, limit = next((each for each in point.latency if each.name == name), None), limits.get(name)
        if latency is None:
            return ""
        if limit is not None and limit.kind == "seconds":
            return simulated(latency.seconds, milliseconds)
        text = simulated(latency.slowdown)
        return f"{text}x" if "seconds" in kinds and math.isfinite(latency.slowdown) else text

    unit = "slowdowns" if kinds == {"slowdown"} else "ms" if kinds == {"seconds"} else "ms, or slowdowns with an x"
    return listing(
        f"{grid.clusters[k]}: percentiles ({unit}); worst is the largest over its limit",
        grid.of(k),
        (Column(header, True), lambda point: plain(point.value or 0)),
        (Column("state"), lambda point: point.state),
        (Column("worst", True), lambda point: simulated(point.worst_ratio)),
        *(
            (Column(f"{METRICS[each.metric].label} {each.percentile:g}", True), partial(of, name=each.name))
            for each in shown
        ),
        strong=lambda point: point.state != "pass",
    )


def _batches_table(grid: Grid, header: str) -> Table:
    """One row per cluster, pool and value drawn: the share of time in which a pool works, and its batches."""
    columns = (
        Column("cluster"),
        Column("role"),
        *(Column(name, True) for name in (header, "idle", *map(str, _BATCHES), "median", "largest")),
    )
    rows = []
    for k, cluster in enumerate(grid.clusters):
        for position, pool in enumerate(cluster.pools):
            for value, upto in drawn_batches(grid, k, position):
                shares = (f"{100.0 * upto[min(n, len(upto) - 1)]:.1f}" for n in (0, *_BATCHES))
                half = 0.5 * (upto[-1] - upto[0])
                median = next((n for n, share in enumerate(upto) if n and share - upto[0] >= half), 0)
                rows.append((str(cluster), pool.role, plain(value), *shares, whole(median), whole(len(upto) - 1)))
    return table("Share of time, %, with at most N requests in an iteration; median while at work", columns, rows)


def point_rows(grid: Grid) -> list[Row]:
    """One row per point: the cluster and the value, totals, the state, percentiles, and the work of the pools."""
    roles = [role for role in ROLES if any(role == pool.role for cluster in grid.clusters for pool in cluster.pools)]
    columns: dict[str, Cell] = {name: None for point in grid.points for name in _measured(point)}
    rows: list[Row] = []
    for k, cluster in enumerate(grid.clusters):
        machines: dict[str, int] = {pool.role: pool.machines for pool in cluster.pools}
        for point in grid.of(k):
            row = _place(grid, cluster, point) | {f"{role}_machines": machines.get(role) for role in roles}
            row |= total_cells(point.totals) | {"state": point.state}
            if grid.varied is None:
                row |= {"frontier": k in grid.frontier, "optimum": k == grid.optimum}
            rows.append(row | columns | _measured(point) | {"why": point.why, "note": point.note})
    return rows


def _place(grid: Grid, cluster: Cluster, point: GridPoint) -> dict[str, Cell]:
    """The columns of a cluster and, over an input, of its value."""
    if grid.varied is None:
        return {"design": cluster.design}
    return {"cluster": point.cluster, "design": cluster.design, grid.varied.column: point.value}


def _measured(point: GridPoint) -> dict[str, Cell]:
    """The columns of a simulated point; an infeasible point has those of its verdict alone."""
    row: dict[str, Cell] = {name: getattr(point, name) for name in ("slo_met", "stable", "worst_ratio", "binding")}
    row["missed"] = ",".join(latency.name for latency in point.latency if latency.met == "fail")
    for latency in point.latency:
        for unit, name in (("s", "seconds"), ("slowdown", "slowdown")):
            interval = getattr(latency, f"{name}_range")
            row[f"{latency.name}_{unit}"] = getattr(latency, name)
            row |= bounds(f"{latency.name}_{unit}", interval) if interval else {}
    for pool in point.pools:
        row |= {f"{pool.role}_utilization": pool.utilization, f"{pool.role}_mean_batch": pool.mean_batch}
    if point.state != "infeasible":
        served = ("offered_rps", "throughput_rps", "requests", "unfinished")
        row |= {name: getattr(point, name) for name in served}
    return row


def occupancy_rows(grid: Grid) -> list[Row]:
    """One row per point, pool and batch: the share of the pool's time with that number of requests in an iteration.

    ``batch`` is 0 while idle; ``cumulative`` is the share of time with at most that number.
    """
    return [
        {
            "cluster": point.cluster,
            **_place(grid, cluster, point),
            "role": pool.role,
            "batch": batch,
            "time_share": pool.batch_time_share[batch],
            "cumulative": total,
        }
        for k, cluster in enumerate(grid.clusters)
        for point in grid.of(k)
        for pool in point.pools
        for batch, total in enumerate(cumulative(pool.batch_time_share))
    ]


VIEW: Final = View(Grid, document, charts, {"points": point_rows, "occupancy": occupancy_rows})
