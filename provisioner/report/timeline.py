"""A picture of a run: what every replica did when, in batches of what size, and how many requests were in the cluster.

Time is cut into columns, each showing the mean of what happened in it, so that a picture of hours or of a thousand
machines stays as small and as quick as one of a minute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from provisioner.report.records import machine_labels
from provisioner.simulation.records import MIXED, PROMPTS, TOKENS

if TYPE_CHECKING:
    from provisioner.simulation.run import Run

Floats = NDArray[np.float64]

COLUMNS: Final = 1600  # of a picture: at 120 s, 75 ms each
_CELLS: Final = 4_000_000  # columns x replicas at most, as far as 200 columns
_DPI: Final = 150
_WIDTH_IN: Final = 12.0
_ROW_IN: Final = 0.11
_PANEL_IN: Final = (1.6, 6.0)  # least and most height of the machines
_NAMED_ROWS: Final = 60  # with more, machines are not named one by one

# Apart for the colour-blind and, from dark to light, in black and white.
COLOURS: Final = {PROMPTS: "#12315f", MIXED: "#cc5c00", TOKENS: "#f2c84b"}
_NAMES: Final = {PROMPTS: "prompts", MIXED: "mixed", TOKENS: "tokens"}
_BATCHES: Final = ("#dde7f3", "#5d91c4", "#061c38")  # one request to the largest batch
_DOWN: Final = "#9a9a9a"


def busy_s(start_s: Floats, end_s: Floats, edges_s: Floats) -> Floats:
    """Time in s between neighbouring edges (n + 1,) that stretches cover; those in order and apart. Shape (n,).

    >>> busy_s(np.array([0.0, 2.0]), np.array([1.0, 5.0]), np.array([0.0, 2.0, 4.0, 6.0])).tolist()
    [1.0, 2.0, 1.0]
    """
    if not start_s.size:
        return np.zeros(edges_s.size - 1)
    before = np.searchsorted(start_s, edges_s, side="right")
    total = np.concatenate(([0.0], np.cumsum(end_s - start_s)))[before]
    beyond = np.where(before > 0, np.maximum(end_s[before - 1] - edges_s, 0.0), 0.0)
    return np.diff(total - beyond)


def raster(run: Run, columns: int = COLUMNS) -> tuple[Floats, Floats, Floats]:
    """Edges of the columns in s (columns + 1,), share of time by kind of work, and mean batch of that time.

    Shapes (kinds, replicas, columns) and (replicas, columns); the batch is NaN where nothing runs.
    """
    stretches = run.timeline
    end_s = max(float(run.clock["now_s"]), float(stretches["end_s"].max()) if stretches.size else 0.0, 1e-9)
    edges_s = np.linspace(0.0, end_s, columns + 1)
    width_s = end_s / columns
    order = np.lexsort((stretches["start_s"], stretches["replica"]))
    stretches = stretches[order]
    bounds = np.searchsorted(stretches["replica"], np.arange(run.replicas.size + 1))
    shares = np.zeros((len(COLOURS), run.replicas.size, columns))
    work = np.zeros((run.replicas.size, columns))
    for r in range(run.replicas.size):
        own = stretches[bounds[r] : bounds[r + 1]]
        for kind in COLOURS:
            these = own[own["kind"] == kind]
            shares[kind, r] = busy_s(these["start_s"], these["end_s"], edges_s) / width_s
        work[r] = _weighted(own, edges_s) / width_s
    busy = shares.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        batch = np.where(busy > 1e-6, work / busy, np.nan)
    return edges_s, shares, batch


def _weighted(stretches: NDArray[Any], edges_s: Floats) -> Floats:
    """The integral of the batch between neighbouring edges, in requests x s."""
    if not stretches.size:
        return np.zeros(edges_s.size - 1)
    start_s, end_s, batch = stretches["start_s"], stretches["end_s"], stretches["batch"].astype(np.float64)
    before = np.searchsorted(start_s, edges_s, side="right")
    total = np.concatenate(([0.0], np.cumsum((end_s - start_s) * batch)))[before]
    last = np.maximum(before - 1, 0)
    beyond = np.where(before > 0, np.maximum(end_s[last] - edges_s, 0.0) * batch[last], 0.0)
    return np.diff(total - beyond)


def in_cluster(run: Run, times_s: Floats) -> NDArray[np.int64]:
    """Requests that have arrived and are not complete, at each time."""
    arrived = np.searchsorted(np.sort(run.requests["arrival_s"]), times_s, side="right")
    last_s = run.requests["last_s"]
    left = np.searchsorted(np.sort(last_s[~np.isnan(last_s)]), times_s, side="right")
    return np.asarray(arrived - left)


def figure(run: Run) -> Any:
    """The picture as a matplotlib figure."""
    from matplotlib.colors import LinearSegmentedColormap, LogNorm, to_rgb
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch, Rectangle

    rows = run.replicas.size
    edges_s, shares, batch = raster(run, min(COLUMNS, max(_CELLS // rows, 200)))
    end_s = float(edges_s[-1])
    machines_in = min(max(rows * _ROW_IN, _PANEL_IN[0]), _PANEL_IN[1])
    picture = Figure(figsize=(_WIDTH_IN, 2 * machines_in + 2.6), layout="constrained")
    above, middle, below = picture.subplots(3, 1, sharex=True, height_ratios=(1.1, machines_in, machines_in))

    centres_s = (edges_s[1:] + edges_s[:-1]) / 2.0
    above.fill_between(centres_s, in_cluster(run, centres_s), step="mid", color="#b5b5b5", linewidth=0)
    above.set_ylabel("requests\nin the cluster")
    above.set_ylim(bottom=0)
    picture.suptitle(_title(run), fontsize=11)

    white = np.ones(3)
    colour = np.tile(white, (rows, edges_s.size - 1, 1))
    for kind, name in COLOURS.items():
        colour -= shares[kind][:, :, None] * (white - np.array(to_rgb(name)))
    extent = (0.0, end_s, rows, 0.0)
    # rows wider than a pixel have sharp edges; of more rows than pixels, none is left out
    smooth: Any = "nearest" if rows < _DPI * machines_in else "antialiased"
    middle.imshow(np.clip(colour, 0.0, 1.0), aspect="auto", extent=extent, interpolation=smooth)
    legend = [Patch(facecolor=name, edgecolor="black", linewidth=0.4, label=_NAMES[k]) for k, name in COLOURS.items()]
    legend.append(Patch(facecolor="white", edgecolor="black", linewidth=0.4, label="idle"))

    largest = max(float(np.nanmax(batch)) if np.isfinite(batch).any() else 1.0, 2.0)
    shown = below.imshow(
        batch,
        aspect="auto",
        extent=extent,
        interpolation=smooth,
        cmap=LinearSegmentedColormap.from_list("batches", _BATCHES),
        norm=LogNorm(1.0, largest),
    )
    bar = picture.colorbar(shown, cax=below.inset_axes((1.015, 0.05, 0.012, 0.9)))
    bar.set_label("requests in an iteration")
    ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100, 200, 500) if tick <= largest]
    bar.set_ticks(ticks, labels=[str(tick) for tick in ticks])
    bar.ax.minorticks_off()

    down = _down(run, end_s)
    for axes in (middle, below):
        for row, since_s, until_s in down:
            axes.add_patch(
                Rectangle((since_s, row), until_s - since_s, 1, facecolor=_DOWN, edgecolor="black", hatch="///", lw=0.3)
            )
        _name_rows(axes, run)
    if down:
        legend.append(Patch(facecolor=_DOWN, edgecolor="black", linewidth=0.3, hatch="///", label="failed"))
    middle.legend(handles=legend, loc="upper left", bbox_to_anchor=(1.005, 1.0), frameon=False, title="iterations of")
    middle.set_ylabel("what machines do")
    below.set_ylabel("batches")
    below.set_xlabel("time, s")
    below.set_xlim(0.0, end_s)
    _mark_window(run, (above, middle, below), end_s)
    return picture


def _title(run: Run) -> str:
    pools = " + ".join(f"{pool.machines} {pool.perf.machine.name} ({pool.role})" for pool in run.cluster.pools)
    model = run.cluster.pools[0].perf.model.name
    return f"{pools}, {model}, policy {run.cluster.policy.name}: {run.prepared.requests.description}"


def _down(run: Run, end_s: float) -> list[tuple[int, float, float]]:
    """Rows of replicas with the times from and until which their machines are out of service."""
    return [
        (int(row), outage.at_s, end_s if outage.until_s is None else min(outage.until_s, end_s))
        for outage in run.cluster.outages
        for row in np.flatnonzero(run.replicas["machine"] == outage.machine)
        if outage.at_s < end_s
    ]


def _name_rows(axes: Any, run: Run) -> None:
    """Lines between pools, and names of machines or, of many, of pools."""
    machines = run.replicas["machine"]
    labels = machine_labels(run.cluster)
    first = np.flatnonzero(np.diff(machines, prepend=-1))
    last = np.append(first[1:], machines.size)
    if len(labels) <= _NAMED_ROWS:
        axes.set_yticks((first + last) / 2.0, labels, fontsize=6)
        axes.tick_params(axis="y", length=0)
    at, middles, names = 0, [], []
    for pool in run.cluster.pools:
        middles.append(at + pool.replicas / 2.0)
        names.append(f"{pool.role}\n{pool.machines:,} {pool.perf.machine.name}")
        at += pool.replicas
        if at < machines.size:
            axes.axhline(at, color="black", linewidth=0.8)
    if len(labels) > _NAMED_ROWS:
        axes.set_yticks(middles, names, fontsize=8)


def _mark_window(run: Run, panels: tuple[Any, ...], end_s: float) -> None:
    """Dashed lines where the measured window begins and ends, unless it is the whole run."""
    for moment_s, text in ((float(run.clock["from_s"]), "measured from"), (float(run.clock["until_s"]), "to")):
        if 0.0 < moment_s < end_s:
            for axes in panels:
                axes.axvline(moment_s, color="black", linewidth=0.7, linestyle=(0, (4, 3)))
            panels[0].annotate(
                f"{text} {moment_s:.4g} s",
                (moment_s, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=7,
            )


def write_timeline(run: Run, kind: str, path: str) -> None:
    """Write the picture as ``png``, ``svg`` or ``pdf``."""
    from matplotlib import rc_context

    with rc_context({"svg.fonttype": "none", "hatch.linewidth": 0.4, "svg.hashsalt": "timeline"}):
        figure(run).savefig(path, format=kind, dpi=_DPI, metadata=_undated(kind))


def _undated(kind: str) -> dict[str, Any]:
    """Metadata without the time, so that one run always gives the same file."""
    return {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})
