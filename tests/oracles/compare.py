"""Error of the queueing formulas against the event-by-event simulation over random clusters, by load.

``python -m tests.oracles.compare --cases 240`` prints the tables of docs/queueing.md (about ten minutes on two cores);
``--keep FILE`` stores what was simulated, so that a changed formula is compared again within a minute.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import numpy as np

from tests.oracles.cases import METRICS, QUANTILES, Array, Case, random_case, simulated

LOADS = (0.0, 0.5, 0.7, 0.85, 1.0)
SIMULATED_S = 400.0
REQUESTS = (40_000, 160_000)


def simulate(case: Case) -> Array:
    """Simulated percentiles (6, 3) over 400 s, or as many requests as make them steady."""
    count = int(np.clip(SIMULATED_S * case.rate_rps, *REQUESTS))
    return simulated(case, count, seed=1)


def evaluate(case: Case) -> tuple[Array, Array]:
    """Load (3,) of what decides each metric, and percentiles (6, 3), by the formulas."""
    analytic = case.analytic()
    return np.array([analytic.load_of(metric) for metric in ("ttft", "tbt", "e2e")]), analytic.percentiles()


def _cell(errors: Array) -> str:
    if not errors.size:
        return "-"
    size = np.abs(errors)
    return f"{np.median(errors):+.1%} {np.median(size):.1%} {np.quantile(size, 0.95):.1%}"


def table(kind: str, loads: Array, errors: Array) -> Iterable[str]:
    """Markdown rows: per percentile and load, the median error, the median size of it, and its 95th percentile.

    ``loads`` (C, 3) by metric, ``errors`` (C, 6, 3) relative.
    """
    yield "| | " + " | ".join(f"load {a:g}-{b:g}" for a, b in pairwise(LOADS)) + " |"
    yield "|---" * len(LOADS) + "|"
    for m, (metric, unit) in enumerate(METRICS):
        if unit != kind:
            continue
        for q, quantile in enumerate(QUANTILES):
            cells = []
            for low, high in pairwise(LOADS):
                inside = (loads[:, m % 3] >= low) & (loads[:, m % 3] < high) & np.isfinite(errors[:, m, q])
                cells.append(_cell(errors[inside, m, q]))
            yield f"| {metric.upper()} P{100 * quantile:g} | " + " | ".join(cells) + " |"
    counts = [np.sum((loads[:, 2] >= a) & (loads[:, 2] < b)) for a, b in pairwise(LOADS)]
    yield "| clusters (by E2E's load) | " + " | ".join(map(str, counts)) + " |"


def main() -> None:
    """Simulate, evaluate, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=240)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="file of simulated percentiles: read if it is there, else written")
    parser.add_argument("--worst", type=int, default=0, help="list this many of the largest errors")
    options = parser.parse_args()
    with ProcessPoolExecutor(options.jobs) as executor:
        if options.keep and options.keep.exists():
            kept = json.loads(options.keep.read_text(encoding="utf-8"))
            cases = [Case(**entry["case"]) for entry in kept]
            seen = np.array([entry["percentiles"] for entry in kept])
        else:
            rng = np.random.default_rng(options.seed)
            cases = [random_case(rng) for _ in range(options.cases)]
            seen = np.array(list(executor.map(simulate, cases)))
            if options.keep:
                kept = [{"case": asdict(c), "percentiles": p.tolist()} for c, p in zip(cases, seen, strict=True)]
                options.keep.write_text(json.dumps(kept), encoding="utf-8")
        said = list(executor.map(evaluate, cases, chunksize=4))
    loads = np.array([load for load, _ in said])
    errors = np.array([percentiles for _, percentiles in said]) / seen - 1.0
    mixed = np.array([case.token_machine is None for case in cases])
    for title, rows in (("Strict pools", ~mixed), ("Mixed pools", mixed)):
        for kind in ("slowdown", "seconds"):
            print(f"\n{title}, {kind}: median error, median and P95 of its size\n")
            print("\n".join(table(kind, loads[rows], errors[rows])))
    stable = np.tile(loads, 2)[:, :, None] < 0.85 + np.zeros(3)
    for title, rows in (("strict pools", ~mixed), ("mixed pools", mixed), ("all", mixed | ~mixed)):
        size = np.abs(errors[rows][stable[rows]])
        print(f"\n{title} up to load 0.85: median {np.median(size):.1%}, P95 {np.quantile(size, 0.95):.1%}")
    order = np.argsort(-np.abs(np.where(stable, errors, 0.0)).ravel())[: options.worst]
    for c, m, q in zip(*np.unravel_index(order, errors.shape), strict=True):
        print(f"{errors[c, m, q]:+.1%} {METRICS[m]} P{100 * QUANTILES[q]:g} load {loads[c, m % 3]:.2f} {cases[c]}")


if __name__ == "__main__":
    main()
