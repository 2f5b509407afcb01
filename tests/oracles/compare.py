"""Error of the queueing formulas against the compiled simulator over random clusters, by load.

``python -m tests.oracles.compare --cases 240`` prints the tables of docs/explanation/queueing.md, section 11 (three
minutes on two cores), and with ``--write`` puts them there. The simulator runs strict pools under the policy
``split`` and colocated designs under ``mixed``, with measured curves. ``--keep FILE`` stores the simulations, so that a
changed formula is compared again within half a minute.
"""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import numpy as np

from tests.oracles.cases import METRICS, QUANTILES, Array, Case, random_case, simulated_percentiles

PAGE = Path(__file__).parents[2] / "docs" / "queueing.md"
BEGIN, END = "<!-- tests/oracles/compare.py: begin -->", "<!-- tests/oracles/compare.py: end -->"
LOADS = (0.0, 0.5, 0.7, 0.85, 1.0)
OVERLOADS = (0.3, 0.7, 0.85, 0.95, 1.0, 1.05, 1.25)
AIM = (0.05, 0.15)  # median and P95 of the size of an error, up to this load:
AIM_LOAD = 0.85
SIMULATED_S = 400.0
REQUESTS = (40_000, 120_000)  # of one set
SETS = 3

Rows = np.ndarray[tuple[int], np.dtype[np.bool_]]


def numbered_case(number: tuple[int, int, bool]) -> Case:
    """The k-th random case of a seed; near or beyond its capacity if requested."""
    seed, k, loaded = number
    rng = np.random.default_rng([seed, k])
    return random_case(rng, 0.85, 1.25) if loaded else random_case(rng)


def simulate(case: Case) -> tuple[Array, Array | None, str]:
    """Simulated percentiles (S, 6, 3) of each set; of the first with links that transfers do not share (1, 6, 3; None
    for a mixed pool); and why the case is unstable."""
    requests = float(np.clip(SIMULATED_S * case.rate_rps, *REQUESTS))
    found = simulated_percentiles(case, requests / case.rate_rps, 1, SETS)
    if case.token_machine is None:
        return found.percentiles, None, found.unstable
    apart = simulated_percentiles(case, requests / case.rate_rps, 1, 1, share_links=False)
    return found.percentiles, apart.percentiles, found.unstable


def evaluate(case: Case) -> tuple[Array, Array]:
    """Load (3,) of the pool that decides each metric, and percentiles (6, 3), by the formulas."""
    analytic = case.analytic()
    return np.array([analytic.load_of(metric) for metric in ("ttft", "tbt", "e2e")]), analytic.percentiles()


class Comparison:
    """Cases with the simulated percentiles and the formulas'.

    ``loads`` (C, 3) are by metric; ``sets`` (C, S, 6, 3) are simulated percentiles, ``said`` (C, 6, 3) the formulas',
    ``apart`` (C, 6, 3) the percentiles of the first set with links not shared (NaN for mixed pools), ``unstable`` (C,)
    says whether the simulator finds no steady state.
    """

    def __init__(self, cases: Sequence[Case], seen: Sequence[tuple[Array, Array | None, str]], said: Sequence) -> None:
        self.cases = cases
        self.mixed = np.array([case.token_machine is None for case in cases])
        self.sets = np.array([each[0] for each in seen])
        self.apart = np.array([each[0][0] * np.nan if each[1] is None else each[1][0] for each in seen])
        self.unstable = np.array([bool(each[2]) for each in seen])
        self.loads = np.array([load for load, _ in said])
        self.said = np.array([percentiles for _, percentiles in said])
        self.seen = self.sets.mean(axis=1)
        self.errors = self.said / self.seen - 1.0
        self.noise = self.sets.std(axis=1, ddof=1) / np.sqrt(self.sets.shape[1]) / self.seen
        self.predicted = np.isfinite(self.said).all(axis=(1, 2))
        # An error is of a steady state that both have.
        self.compared = np.isfinite(self.errors) & ~self.unstable[:, None, None]
        self.metric_loads = np.tile(self.loads, 2)[:, :, None] + np.zeros(len(QUANTILES))

    def table(self, kind: str, rows: Rows) -> Iterable[str]:
        """Markdown: per percentile and load, the median error, the median size of it, and its 95th percentile."""
        yield "| | " + " | ".join(f"load {a:g}-{b:g}" for a, b in pairwise(LOADS)) + " |"
        yield "|---" * len(LOADS) + "|"
        for m, (metric, unit) in enumerate(METRICS):
            if unit != kind:
                continue
            for q, quantile in enumerate(QUANTILES):
                cells = []
                for low, high in pairwise(LOADS):
                    load = self.loads[:, m % 3]
                    inside = rows & (load >= low) & (load < high) & self.compared[:, m, q]
                    cells.append(cell(self.errors[inside, m, q], high <= AIM_LOAD))
                yield f"| {metric.upper()} P{100 * quantile:g} | " + " | ".join(cells) + " |"
        counts = [np.sum(rows & (self.loads[:, 2] >= a) & (self.loads[:, 2] < b)) for a, b in pairwise(LOADS)]
        yield "| clusters (by E2E's load) | " + " | ".join(map(str, counts)) + " |"

    def summary(self) -> Iterable[str]:
        """Markdown: sizes of all errors up to the load of the aim and beyond it, and the simulator's own noise."""
        above = f"load {AIM_LOAD:g}-0.95"
        yield f"| | to load {AIM_LOAD:g}: median | P95 | the simulator's own noise | {above}: median | P95 |"
        yield "|---|---|---|---|---|---|"
        within = self.metric_loads < AIM_LOAD
        for title, rows in (("strict pools", ~self.mixed), ("mixed pools", self.mixed), ("all", self.mixed | True)):
            cells = []
            for where in (within, ~within):
                chosen = self.compared & where & rows[:, None, None]
                size = np.abs(self.errors[chosen])
                cells += [f"{np.median(size):.1%}", f"{np.quantile(size, 0.95):.1%}"] if size.size else ["-", "-"]
                if where is within:
                    noise = self.noise[chosen]
                    cells.append(f"{np.median(noise):.1%}, P95 {np.quantile(noise, 0.95):.1%}")
            yield f"| {title} | " + " | ".join(cells) + " |"

    def beyond_aim(self) -> Iterable[str]:
        """The cells of all tables up to the load of the aim that miss it."""
        for title, rows in (("strict", ~self.mixed), ("mixed", self.mixed)):
            for m, (metric, unit) in enumerate(METRICS):
                for q, quantile in enumerate(QUANTILES):
                    for low, high in pairwise([load for load in LOADS if load <= AIM_LOAD]):
                        load = self.loads[:, m % 3]
                        size = np.abs(self.errors[rows & (load >= low) & (load < high) & self.compared[:, m, q], m, q])
                        if size.size and (np.median(size) > AIM[0] or np.quantile(size, 0.95) > AIM[1]):
                            yield (
                                f"{title} {metric.upper()} P{100 * quantile:g} {unit} load {low:g}-{high:g}: "
                                f"median {np.median(size):.1%}, P95 {np.quantile(size, 0.95):.1%} ({size.size})"
                            )

    def links(self) -> Iterable[str]:
        """Markdown: increase of percentiles in seconds when transfers share the links."""
        yield "| strict pools, seconds | median | P95 | largest |"
        yield "|---|---|---|---|"
        change = self.sets[:, 0] / self.apart - 1.0
        for m, (metric, kind) in enumerate(METRICS):
            if kind == "seconds" and metric != "ttft":
                for q, quantile in enumerate(QUANTILES):
                    values = np.abs(change[~self.mixed & ~self.unstable, m, q])
                    sizes = np.median(values), np.quantile(values, 0.95), values.max()
                    yield f"| {metric.upper()} P{100 * quantile:g} | " + " | ".join(f"{x:.1%}" for x in sizes) + " |"

    def shared_errors(self) -> str:
        """Errors of strict pools against the simulator with links that are not shared."""
        unshared = self.seen * self.apart / self.sets[:, 0]
        errors = np.abs(self.said / unshared - 1.0)
        chosen = self.compared & (self.metric_loads < AIM_LOAD) & ~self.mixed[:, None, None]
        return f"median {np.median(errors[chosen]):.1%}, P95 {np.quantile(errors[chosen], 0.95):.1%}"

    def stability(self) -> Iterable[str]:
        """Markdown: share of cases without a steady state in the simulator, by the load that the formulas give."""
        yield "| the formulas' load | " + " | ".join(f"{a:g}-{b:g}" for a, b in pairwise(OVERLOADS)) + " |"
        yield "|---" * len(OVERLOADS) + "|"
        for title, rows in (("strict pools", ~self.mixed), ("mixed pools", self.mixed)):
            cells = []
            for low, high in pairwise(OVERLOADS):
                inside = rows & (self.loads[:, 2] >= low) & (self.loads[:, 2] < high)
                cells.append(f"{np.sum(self.unstable[inside])} of {np.sum(inside)}")
            yield f"| {title}: unstable in the simulator | " + " | ".join(cells) + " |"


def cell(errors: Array, aimed: bool) -> str:
    """One cell of a table; bold where the aim holds and is missed."""
    if not errors.size:
        return "-"
    size = np.abs(errors)
    text = f"{np.median(errors):+.1%} {np.median(size):.1%} {np.quantile(size, 0.95):.1%}"
    return f"**{text}**" if aimed and (np.median(size) > AIM[0] or np.quantile(size, 0.95) > AIM[1]) else text


def kept_or(
    keep: Path | None, make: Callable[[], tuple[list[Case], list[tuple[Array, Array | None, str]]]]
) -> tuple[list[Case], list[tuple[Array, Array | None, str]]]:
    """Cases with their simulations, from a file if it exists; else computed and stored."""
    if keep and keep.exists():
        kept = json.loads(keep.read_text(encoding="utf-8"))
        seen = [(np.array(e["seen"]), np.array(e["apart"]) if e["apart"] else None, e["unstable"]) for e in kept]
        return [Case(**entry["case"]) for entry in kept], seen
    cases, seen = make()
    if keep:
        kept = [
            {"case": asdict(case), "seen": s.tolist(), "apart": None if a is None else a.tolist(), "unstable": u}
            for case, (s, a, u) in zip(cases, seen, strict=True)
        ]
        keep.write_text(json.dumps(kept), encoding="utf-8")
    return cases, seen


def report(found: Comparison, loaded: Comparison, command: str) -> Iterable[str]:
    """Markdown lines: everything for docs/explanation/queueing.md."""
    today, mixed = datetime.date.today().isoformat(), int(np.sum(found.mixed))
    beyond, unstable = int(np.sum(~found.predicted)), int(np.sum(found.unstable))
    yield f"`{command}`, {today}: {len(found.cases)} clusters, {mixed} of them mixed pools,"
    yield f"the busier pool's load uniform in 0.3 to 0.95, {SETS} request sets each. For {beyond} mixed pools (load"
    yield f"above 0.85) no latency is predicted, and {unstable} clusters are unstable in the simulator; neither are"
    yield "in the tables."
    yield ""
    yield from found.summary()
    for title, rows in (("Strict pools", ~found.mixed), ("Mixed pools", found.mixed)):
        for kind in ("slowdown", "seconds"):
            yield ""
            yield f"### {title}, {kind}"
            yield ""
            yield from found.table(kind, rows)
    yield ""
    yield "### Shared links"
    yield ""
    yield "Transfers on one link slow each other down in the simulator; the formulas leave that out. What it changes:"
    yield ""
    yield from found.links()
    yield ""
    yield f"Against the simulator without sharing, the formulas' errors up to load 0.85 are {found.shared_errors()}."
    yield ""
    yield "### Stability"
    yield ""
    yield f"With {len(loaded.cases) - len(found.cases)} further clusters at loads of 0.85 to 1.25"
    yield "(`simulation.stability.stability`, all sets of a cluster together):"
    yield ""
    yield from loaded.stability()
    yield ""
    yield "Up to a load of 1 no cluster that the formulas call stable is unstable in the simulator. Beyond 1.05 strict"
    yield "pools are unstable in both; for mixed pools the formulas' capacity is on the safe side: some still keep up,"
    yield "others grow by less than the 3 % of the time that count as unstable."


def main() -> None:
    """Simulate, evaluate, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=240)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="file of simulated percentiles: read if it is there, else written")
    parser.add_argument("--worst", type=int, default=0, help="list this many of the largest errors")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/explanation/queueing.md")
    options = parser.parse_args()
    with ProcessPoolExecutor(options.jobs) as executor:

        def made() -> tuple[list[Case], list[tuple[Array, Array | None, str]]]:
            numbers = [(options.seed, k, k >= options.cases) for k in range(options.cases + options.cases // 2)]
            cases = list(executor.map(numbered_case, numbers, chunksize=4))
            return cases, list(executor.map(simulate, cases))

        cases, seen = kept_or(options.keep, made)
        said = list(executor.map(evaluate, cases, chunksize=4))
    found = Comparison(*(each[: options.cases] for each in (cases, seen, said)))
    loaded = Comparison(cases, seen, said)
    lines = list(report(found, loaded, f"python -m tests.oracles.compare --cases {options.cases}"))
    print("\n".join(lines))
    print("\nMissing the aim:", *found.beyond_aim(), sep="\n  ")
    if options.write:
        page = PAGE.read_text(encoding="utf-8")
        before, after = page[: page.index(BEGIN) + len(BEGIN)], page[page.index(END) :]
        PAGE.write_text("\n".join([before, "", *lines, "", after]), encoding="utf-8")
    size = np.abs(np.where(found.compared & (found.metric_loads < AIM_LOAD), found.errors, 0.0))
    order = np.argsort(-size.ravel())[: options.worst]
    for c, m, q in zip(*np.unravel_index(order, size.shape), strict=True):
        load, noise = found.loads[c, m % 3], found.noise[c, m, q]
        what = f"{METRICS[m]} P{100 * QUANTILES[q]:g}"
        print(f"{found.errors[c, m, q]:+.1%} (noise {noise:.1%}) {what} load {load:.2f} {found.cases[c]}")


if __name__ == "__main__":
    main()
