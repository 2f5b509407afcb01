"""A picture of a run: work and batches of every replica over time, and the number of requests in the cluster.

Time is cut into columns, each of which shows a mean, so that a picture of hours or of a thousand machines stays as
small and as quick as one of a minute.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from provisioner.report.theme import LIGHT, Spec, config
from provisioner.simulation.records import MIXED, PROMPTS, TOKENS

if TYPE_CHECKING:
    import altair as alt

    from provisioner.simulation.run import Run

Floats = NDArray[np.float64]

COLUMNS: Final = 600  # of a picture: at 120 s, 200 ms each
_CELLS: Final = 12_000  # columns x rows at most, as far as 120 columns
_MOST_ROWS: Final = 60  # with more replicas, neighbours of a pool share a row
_SHADES: Final = 5  # of a cell, by the share of its time at work
_WIDTH: Final = 1000
_ROW: Final = 14

# Apart for the colour-blind and, from dark to light, in black and white.
COLOURS: Final = {PROMPTS: "#12315f", MIXED: "#cc5c00", TOKENS: "#f2c84b"}
_NAMES: Final = {PROMPTS: "prompts", MIXED: "mixed", TOKENS: "tokens"}
_BATCHES: Final = ("#dde7f3", "#5d91c4", "#061c38")  # one request to the largest batch
_DOWN: Final = "#9a9a9a"


def busy_s(start_s: Floats, end_s: Floats, edges_s: Floats, weight: Floats | float = 1.0) -> Floats:
    """Time in s between neighbouring edges (n + 1,) that stretches cover, each times its weight. Shape (n,).

    The stretches are in order and do not overlap.

    >>> busy_s(np.array([0.0, 2.0]), np.array([1.0, 5.0]), np.array([0.0, 2.0, 4.0, 6.0])).tolist()
    [1.0, 2.0, 1.0]
    """
    if not start_s.size:
        return np.zeros(edges_s.size - 1)
    covered_s = (end_s - start_s) * weight
    until_end = np.cumsum(covered_s)
    at_ends = np.column_stack((until_end - covered_s, until_end)).ravel()
    return np.diff(np.interp(edges_s, np.column_stack((start_s, end_s)).ravel(), at_ends))


def raster(run: Run, columns: int = COLUMNS) -> tuple[Floats, Floats, Floats]:
    """Edges of the columns in s (columns + 1,), share of time by kind of work, and mean batch of that time.

    Shapes (kinds, replicas, columns) and (replicas, columns); the batch is NaN where nothing runs.
    """
    stretches = run.timeline
    end_s = max(float(run.clock["now_s"]), float(stretches["end_s"].max(initial=0.0)), 1e-9)
    edges_s = np.linspace(0.0, end_s, columns + 1)
    stretches = stretches[np.lexsort((stretches["start_s"], stretches["replica"]))]
    replicas = np.split(stretches, np.searchsorted(stretches["replica"], np.arange(1, run.replicas.size)))
    by_kind = [[own[own["kind"] == kind] for own in replicas] for kind in sorted(COLOURS)]
    busy = np.array([[busy_s(of["start_s"], of["end_s"], edges_s) for of in kind] for kind in by_kind])
    work = np.array([busy_s(own["start_s"], own["end_s"], edges_s, own["batch"]) for own in replicas])
    shares = busy * (columns / end_s)
    with np.errstate(divide="ignore", invalid="ignore"):
        return edges_s, shares, np.where(shares.sum(axis=0) > 1e-6, work / busy.sum(axis=0), np.nan)


def in_cluster(run: Run, times_s: Floats) -> NDArray[np.int64]:
    """Requests that have arrived and are not complete, at each time."""
    arrived = np.searchsorted(np.sort(run.requests["arrival_s"]), times_s, side="right")
    last_s = run.requests["last_s"]
    left = np.searchsorted(np.sort(last_s[~np.isnan(last_s)]), times_s, side="right")
    return np.asarray(arrived - left)


def _rows(run: Run) -> tuple[NDArray[np.int64], list[str]]:
    """First replica and name of each row: a replica, or neighbouring ones of a pool where there are many."""
    per_row = -(-run.replicas.size // _MOST_ROWS)
    machines = [run.cluster.machine_names[machine] for machine in run.replicas["machine"]]
    first, names, at = [], [], 0
    for pool in run.cluster.pools:
        until = at + pool.replicas
        for start in range(at, until, per_row):
            one, last = machines[start], machines[min(start + per_row, until) - 1]
            first.append(start)
            names.append(one if one == last else f"{one}-{last.rpartition(':')[2]}")
        at = until
    return np.array(first), names


def _mean(values: Floats, first: NDArray[np.int64]) -> Floats:
    """Means over the replicas of each row; those without a value are left out. The last two axes are kept."""
    known = ~np.isnan(values)
    total = np.add.reduceat(np.where(known, values, 0.0), first, axis=-2)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(total / np.add.reduceat(known, first, axis=-2, dtype=np.float64))


def figure(run: Run) -> alt.VConcatChart:
    """Return the picture as a chart of Altair: requests in the cluster, work and batches of every machine."""
    import altair as alt

    from provisioner.report.charts import data

    first, names = _rows(run)
    edges_s, shares, batch = raster(run, min(COLUMNS, max(_CELLS // len(names), 120)))
    end_s = float(edges_s[-1])
    centres_s = (edges_s[1:] + edges_s[:-1]) / 2.0
    load = [
        {"from_s": round(float(t), 6), "requests": int(n)}
        for t, n in zip(centres_s, in_cluster(run, centres_s), strict=True)
    ]
    work = _work(_mean(shares, first), edges_s) + _failed(run, first, end_s)
    sizes = _batches(_mean(batch, first), edges_s)
    largest = max([2.0, *(cell["batch"] for cell in sizes)])

    x = alt.X("from_s:Q", title="time, s", scale=alt.Scale(domain=[0.0, end_s], nice=False))
    named = f"{json.dumps(names)}[datum.value]"
    axis = alt.Axis(labelFontSize=9, labelLimit=120, labelOverlap=True, labelExpr=named)
    y = alt.Y("row:O", title=None, axis=axis, scale=alt.Scale(domain=list(range(len(names))), padding=0))
    colours = alt.Scale(domain=[*_NAMES.values(), "failed"], range=[*COLOURS.values(), _DOWN])
    legend = alt.Legend(title="iterations of (paler: part of the time idle)", columns=4)
    kind = alt.Color("kind:N", scale=colours, legend=legend)
    share = alt.Opacity("share:Q", scale=alt.Scale(domain=[0, 1], range=[0, 1]), legend=None)
    shade = alt.Scale(type="log", domain=[1.0, math.sqrt(largest), largest], range=list(_BATCHES), clamp=True)
    gradient = alt.Legend(title="requests in an iteration", gradientLength=300, format="~r")
    size = alt.Color("batch:Q", scale=shade, legend=gradient)
    tall = min(max(_ROW * len(names), 90), 600)
    requests = alt.Chart(data(load)).mark_area(color="#9aa2ab", interpolate="step")
    cell: Spec = {"x": x, "x2": "to_s:Q", "y": y}
    marks = _window(run, end_s)
    panels = [
        alt.layer(part, *marks).properties(width=_WIDTH, height=height, title=title)
        for title, height, part in (
            ("requests in the cluster", 80, requests.encode(x=x, y=alt.Y("requests:Q", title=None))),
            ("what machines do", tall, alt.Chart(data(work)).mark_rect().encode(**cell, color=kind, opacity=share)),
            ("batches", tall, alt.Chart(data(sizes)).mark_rect().encode(**cell, color=size)),
        )
    ]
    pools = " + ".join(f"{pool.machines} {pool.perf.machine.name} ({pool.role})" for pool in run.cluster.pools)
    model, policy = run.cluster.pools[0].perf.model.name, run.cluster.policy.name
    title = f"{pools}, {model}, policy {policy}: {run.prepared.requests.description}"
    whole = alt.vconcat(*panels, title=alt.TitleParams(title), description=title, padding=16, config=config(LIGHT))
    drawn: alt.VConcatChart = whole.resolve_scale(color="independent")
    return drawn


def _work(shares: Floats, edges_s: Floats) -> list[Spec]:
    """Cells of the kind of work that takes most of their time, with the share at work; equal neighbours are one."""
    kinds = shares.argmax(axis=0)
    levels = np.ceil(shares.sum(axis=0) * _SHADES - 1e-6).astype(int)
    return [
        cell | {"kind": _NAMES[code % 10], "share": code // 10 / _SHADES}
        for cell, code in _stretches(np.where(levels > 0, 10 * levels + kinds, 0), edges_s)
    ]


def _batches(batch: Floats, edges_s: Floats) -> list[Spec]:
    """Cells with their mean batch, to a tenth of its size; equal neighbours are one."""
    levels = np.where(np.isnan(batch), 0, np.rint(8 * np.log2(np.maximum(np.nan_to_num(batch), 1.0))) + 1).astype(int)
    return [cell | {"batch": round(2.0 ** ((level - 1) / 8), 2)} for cell, level in _stretches(levels, edges_s)]


def _stretches(codes: NDArray[np.int64], edges_s: Floats) -> Iterator[tuple[Spec, int]]:
    """Every stretch of equal codes above 0 as a cell, with its code."""
    at_s = [round(edge_s, 4) for edge_s in edges_s.tolist()]
    for row, line in enumerate(codes):
        starts = np.flatnonzero(np.diff(line, prepend=-1))
        for start, end in zip(starts, [*starts[1:], line.size], strict=True):
            if line[start] > 0:
                yield {"row": row, "from_s": at_s[start], "to_s": at_s[end]}, int(line[start])


def _failed(run: Run, first: NDArray[np.int64], end_s: float) -> list[Spec]:
    """Cells of machines out of service, with the share of a row's replicas that they are."""
    cells = Counter(
        (int(np.searchsorted(first, replica, side="right")) - 1, outage.at_s, outage.until_s)
        for outage in run.cluster.outages
        for replica in np.flatnonzero(run.replicas["machine"] == outage.machine)
        if outage.at_s < end_s
    )
    sizes = np.diff(first, append=run.replicas.size)
    return [
        {
            "row": row,
            "from_s": at_s,
            "to_s": end_s if until_s is None else min(until_s, end_s),
            "kind": "failed",
            "share": failed / int(sizes[row]),
        }
        for (row, at_s, until_s), failed in cells.items()
    ]


def _window(run: Run, end_s: float) -> list[alt.Chart]:
    """Dashed lines where the measured window begins and ends, unless it is the whole run."""
    import altair as alt

    from provisioner.report.charts import data

    moments = ((float(run.clock["from_s"]), "measured from"), (float(run.clock["until_s"]), "to"))
    rows = [{"from_s": at_s, "label": f"{text} {at_s:.4g} s"} for at_s, text in moments if 0.0 < at_s < end_s]
    if not rows:
        return []
    base = alt.Chart(data(rows)).encode(x="from_s:Q")
    name = base.mark_text(style="label", baseline="bottom", dy=-2).encode(y=alt.value(0), text="label:N")
    return [base.mark_rule(strokeDash=[4, 3]), name]
