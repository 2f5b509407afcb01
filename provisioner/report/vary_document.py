"""Clusters over an input as a report and as pictures: where each passes, every percentile, how large batches are."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

from provisioner.options import DURATION_S
from provisioner.report.chart import Axis, Chart, LineChart, Rule, Series
from provisioner.report.command_line import simulate_command
from provisioner.report.document import Block, Column, Document, Facts, Table, table
from provisioner.report.numbers import dollars, kilowatts, milliseconds, significant, whole
from provisioner.report.sweep_document import (
    STATE,
    Cell,
    evidence_blocks,
    inputs_blocks,
    limit_label,
    limits_by_name,
    number,
    passing_rule,
    percentile_names,
    plain,
    point_lines,
    program_facts,
    span,
    typed_range,
)
from provisioner.specs.metrics import METRICS
from provisioner.specs.units import format_seconds

_TITLE: Final = {"rate": "Latency against load", "cv": "Latency against burstiness", "slo": "Limits scaled"}
# Values whose batches are drawn, evenly spaced over all: more lines would cover each other.
_DRAWN_VALUES: Final = 5
_BATCHES: Final = (1, 4, 16, 64, 256)
_LONGEST_HEADER: Final = 5


def vary_document(found: Any, *, inputs: bool = False) -> Document:
    """The report of a ``Variation``. ``inputs`` adds every option."""
    blocks: list[Block] = [clusters_table(found)]
    blocks += [points_table(found, k) for k in range(len(found.clusters))]
    blocks.append(batches_table(found))
    over = "its request sets" if found.name == "seeds" else ""
    facts = (("passes", passing_rule(found.sets, over)), *program_facts(found))
    blocks += evidence_blocks(found, Facts("How this was computed", facts))
    if inputs:
        blocks += inputs_blocks(found.question, vary_command(found.question), "study")
    return Document(headline(found), subtitle(found), tuple(blocks))


def headline(found: Any) -> str:
    """Where each cluster passes."""
    parts = [f"{cluster.name} passes {_passes(found, k)}" for k, cluster in enumerate(found.clusters)]
    return f"{_TITLE.get(found.name, f'Latency against {found.varied.what}')}: {'; '.join(parts)}"


def _passes(found: Any, k: int) -> str:
    spans = [plain(low) if low == high else f"{plain(low)} to {plain(high)}" for low, high in found.spans(k)]
    return f"at {', '.join(spans)}" if spans else "nowhere"


def subtitle(found: Any) -> str:
    """What was varied, in a sentence."""
    judged = f"SLO {found.slo.name}" if found.slo.limits else "no latency limits"
    duration_s = found.question["options"].get("duration_s")
    at = found.load
    if found.name == "rate" and found.question["options"].get("trace") is None:
        at = f"for {format_seconds(DURATION_S if duration_s is None else duration_s)} each"
    return f"Varied: {found.label}, {span(found.values)}; {found.workload} on {found.model}, {at}, {judged}."


def clusters_table(found: Any) -> Table:
    """One row per cluster: its totals, where it passes, and what binds first beyond that."""
    columns = (
        Column("cluster"),
        Column("machines", True),
        Column("$/h", True),
        Column("kW", True),
        Column("passes at", words=True),
        Column("nearest that does not", words=True),
    )
    rows = []
    for k, cluster in enumerate(found.clusters):
        first = found.of(k)[0]
        passes = _passes(found, k).removeprefix("at ")
        rows.append(
            (
                cluster.name,
                whole(first["machines"]),
                dollars(first["cost_usd_per_h"], sign=False),
                kilowatts(first["power_w"]),
                passes,
                _beyond(found, k),
            )
        )
    return table(f"Clusters, and the {found.label} at which they pass", columns, rows)


def _beyond(found: Any, k: int) -> str:
    """The nearest point at which a cluster does not pass: after the last that passes, or before it."""
    points = found.of(k)
    passing = [j for j, point in enumerate(points) if point["state"] == "pass"]
    failing = [j for j, point in enumerate(points) if point["state"] != "pass"]
    if not failing:
        return "none"
    after = [j for j in failing if not passing or j > passing[-1]]
    at = after[0] if after else failing[-1]
    why = points[at]["why"] if points[at]["state"] in ("fail", "undecided") else STATE[points[at]["state"]]
    return f"{plain(found.values[at])}: {why}"


def points_table(found: Any, k: int) -> Table:
    """One row per value of the input: whether the cluster passes, what binds, and every limited percentile."""
    points = found.of(k)
    limits = limits_by_name(found.slo.limits)
    names = list(limits) or next((percentile_names(point) for point in points if percentile_names(point)), [])
    columns = (
        Column(_header(found), True),
        Column("state"),
        Column("worst", True),
        *(Column(_short(name), True) for name in names),
    )
    rows = []
    for value, point in zip(found.values, points, strict=True):
        cells = (_shown(point, name, limits) for name in names)
        rows.append((plain(value), point["state"], number(point.get("worst_ratio")), *cells))
    strong = [j for j, point in enumerate(points) if point["state"] != "pass"]
    units = {limit.kind for limit in limits.values()} or {"slowdown"}
    of = "slowdowns" if units == {"slowdown"} else "ms" if units == {"seconds"} else "ms, or slowdowns with an x"
    return table(
        f"{found.clusters[k].name}: percentiles ({of}); worst is the largest over its limit", columns, rows, strong
    )


def _header(found: Any) -> str:
    """The input above its column; a long name would push the table beyond the edge of a terminal."""
    return found.name if len(found.name) <= _LONGEST_HEADER else "value"


def _short(name: str) -> str:
    metric, _, percentile = name.partition("_p")
    return f"{METRICS[metric].label} {percentile}"


def _shown(point: Cell, name: str, limits: Mapping[str, Any]) -> str:
    limit = limits.get(name)
    if limit is not None and limit.kind == "seconds":
        return number(point.get(f"{name}_s"), milliseconds)
    mixed = any(each.kind == "seconds" for each in limits.values())
    return number(point.get(f"{name}_slowdown"), (lambda x: f"{significant(x)}x") if mixed else significant)


def batches_table(found: Any) -> Table:
    """One row per cluster, pool and value drawn: how much of its time a pool works, and at which batches."""
    columns = (
        Column("cluster"),
        Column("role"),
        Column(_header(found), True),
        Column("idle", True),
        *(Column(f"{n}", True) for n in _BATCHES),
        Column("median", True),
        Column("largest", True),
    )
    rows = []
    for k, cluster in enumerate(found.clusters):
        for role, _, _ in cluster.pools:
            for j in drawn_values(len(found.values)):
                shares = found.occupancy[k * len(found.values) + j].get(role)
                if shares:
                    rows.append((cluster.name, role, plain(found.values[j]), *_batches(shares)))
    return table("Share of time, %, with at most so many requests in an iteration; median while at work", columns, rows)


def _batches(shares: Sequence[float]) -> tuple[str, ...]:
    total = [min(each, 1.0) for each in accumulate(shares)]
    upto = [f"{100.0 * total[min(n, len(total) - 1)]:.1f}" for n in (0, *_BATCHES)]
    busy = total[-1] - total[0]
    half = next((n for n, each in enumerate(total) if n and each - total[0] >= 0.5 * busy), 0)
    return (*upto, whole(half), whole(len(shares) - 1))


def drawn_values(count: int) -> list[int]:
    """Positions of a few values, evenly spaced from the first to the last.

    >>> drawn_values(23), drawn_values(3)
    ([0, 6, 11, 16, 22], [0, 1, 2])
    """
    if count <= _DRAWN_VALUES:
        return list(range(count))
    return [round(k * (count - 1) / (_DRAWN_VALUES - 1)) for k in range(_DRAWN_VALUES)]


def vary_command(question: Mapping[str, Any]) -> str:
    """The ``provision sweep --vary`` command of a study's question, with its defaults written out."""
    bare = {name: None for name in ("design", "prompt_machines", "token_machines", "mixed_machines")}
    typed = shlex.split(simulate_command({**question["options"], **bare}))[2:]
    for cluster in question["clusters"]:
        typed += ["--cluster", cluster]
    typed += ["--vary", f"{question['vary']}={typed_range(question['values'])}", "--prices", str(question["prices"])]
    return shlex.join(["provision", "sweep", *typed])


# --- pictures ---------------------------------------------------------------------------------------------


def vary_charts(found: Any) -> tuple[Chart, ...]:
    """Curves over the input: the largest percentile over its limit, the percentiles of each metric, and batches.

    One cluster: a picture of each metric with its percentiles. Several: one of each percentile with the clusters.
    """
    charts: list[Chart] = []
    if found.slo.limits:
        charts.append(_worst(found))
    names = next((percentile_names(point) for point in found.points if percentile_names(point)), [])
    if len(found.clusters) == 1:
        for metric in METRICS.values():
            of_metric = [name for name in names if name.startswith(f"{metric.name}_")]
            charts += [_latency(found, of_metric, metric.label)] if of_metric else []
    else:
        charts += [_latency(found, [name], limit_label(name)) for name in names]
    return (*charts, *_occupancy(found))


def _served(found: Any) -> str:
    """The workload and the model, as titles have them."""
    return f"{found.workload} on {found.model}"


def _worst(found: Any) -> LineChart:
    series = []
    for k, cluster in enumerate(found.clusters):
        points = found.of(k)
        y = tuple(_drawn(point.get("worst_ratio")) for point in points)
        series.append(Series(cluster.name, found.values, y, notes=_notes(found, k)))
    return LineChart(
        title=f"{_served(found)}: largest percentile over its limit against {found.varied.what}",
        x=Axis(found.label),
        y=Axis("largest percentile over its limit", logarithmic=True),
        series=tuple(series),
        rules=(Rule(1.0, "limit"),),
    )


def _drawn(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) or value <= 0.0 else value


def _notes(found: Any, k: int) -> tuple[str, ...]:
    return tuple(
        "\n".join([f"{found.clusters[k].name}, {found.name} {plain(value)}", *point_lines(point, found.slo.limits)])
        for value, point in zip(found.values, found.of(k), strict=True)
    )


def _latency(found: Any, names: Sequence[str], title: str) -> LineChart:
    """Percentiles against the input with their limits: in the kind of the limits, slowdowns where there are none."""
    limits = limits_by_name(found.slo.limits)
    kinds = {limits[name].kind for name in names if name in limits}
    unit = "s" if kinds == {"seconds"} else "slowdown"
    alone = len(found.clusters) == 1
    series, rules = [], []
    for k, cluster in enumerate(found.clusters):
        points = found.of(k)
        for name in names:
            column = f"{name}_{unit}"
            low = tuple(_drawn(point.get(f"{column}_low")) for point in points) if found.sets > 1 else ()
            high = tuple(_drawn(point.get(f"{column}_high")) for point in points) if found.sets > 1 else ()
            y = tuple(_drawn(point.get(column)) for point in points)
            shown = limit_label(name) if alone else cluster.name
            series.append(Series(shown, found.values, y, low, high, _notes(found, k)))
    for name in names:
        limit = limits.get(name)
        if limit is None or (limit.kind == "seconds") != (unit == "s"):
            continue
        label = f"{limit_label(name)} limit"
        if found.name == "slo":  # the limit itself varies
            series.append(Series(label, found.values, tuple(limit.value * value for value in found.values)))
        else:
            rules.append(Rule(limit.value, f"{label} {limit.format(limit.value)}"))
    what = "(s)" if unit == "s" else "slowdown (x)"
    where = f", {found.clusters[0].name}" if alone else ""
    return LineChart(
        title=f"{title} against {found.varied.what}{where}, {_served(found)}",
        x=Axis(found.label),
        y=Axis(f"{title} {what}", logarithmic=True),
        series=tuple(series),
        rules=tuple(rules),
    )


def _occupancy(found: Any) -> list[LineChart]:
    """For each cluster and pool the share of time with at most so many requests in an iteration, at a few values."""
    charts = []
    for k, cluster in enumerate(found.clusters):
        for role, machine, _ in cluster.pools:
            series = []
            for j in drawn_values(len(found.values)):
                shares = found.occupancy[k * len(found.values) + j].get(role)
                if shares:
                    total = tuple(min(each, 1.0) for each in accumulate(shares))
                    series.append(
                        Series(f"{found.name} {plain(found.values[j])}", tuple(map(float, range(len(total)))), total)
                    )
            if series:
                charts.append(
                    LineChart(
                        title=f"{cluster.name}: batches of {role} machines ({machine}), {_served(found)}",
                        x=Axis("requests in an iteration at most (0: idle)"),
                        y=Axis("share of time", from_zero=True),
                        series=tuple(series),
                        steps=True,
                        points=False,
                    )
                )
    return charts
