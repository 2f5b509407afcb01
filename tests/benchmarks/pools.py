"""Time of specs and curves, of the analytic model and of the integer program, for docs/reference/performance.md.

``python -m tests.benchmarks.pools`` prints it.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import perf_counter

import numpy as np

from provisioner.loading.setting import load_setting
from provisioner.options import PlanOptions
from provisioner.perf.curves import load_curve_set
from provisioner.planning.candidates import DesignLatency, LatencyInputs
from provisioner.planning.setting import Setting
from provisioner.queueing.mixed_stage import MixedStage
from provisioner.specs import catalog
from provisioner.specs.catalog import Catalog

SIZES = np.arange(1, 201)


def median_ms(run: Callable[[], object], runs: int = 7) -> float:
    """Median time of a call in ms, after one that is not counted."""
    run()
    times = []
    for _ in range(runs):
        start = perf_counter()
        run()
        times.append(perf_counter() - start)
    return 1e3 * median(times)


def all_sizes(setting: Setting, position: int, metric: str) -> None:
    """The share of requests beyond a limit at all sizes of one pool, from nothing."""
    question = LatencyInputs(setting.traffic, setting.slo, setting.reference, setting.replicas)
    stage = DesignLatency(question, setting.designs[0]).stages[position]
    if isinstance(stage, MixedStage):
        stage.exceedance(metric, "slowdown", 3.0, SIZES)
    else:
        stage.exceedance("slowdown", 3.0, SIZES)


def read_specs() -> None:
    """Read machines, models and the price lists."""
    known = Catalog()
    assert known.machines and known.models and known.price_list("2026")


def main() -> None:
    """Print a line for each measurement."""
    print(f"machines, models and price lists read: {median_ms(read_specs):.0f} ms")
    curves = load_curve_set(catalog.model("llama2-70b"), catalog.machine("dgx-a100"), 8)
    batch = np.linspace(1.0, 500.0, 100_000)
    took = median_ms(lambda: curves.decode_s(batch, 1500.0 * batch))
    print(f"a decode curve at 100,000 points: {took:.1f} ms")
    for design, position, metric in (
        ("splitwise-hh", 0, "ttft"),
        ("splitwise-hh", 1, "tbt"),
        ("baseline-h100", 0, "ttft"),
        ("baseline-h100", 0, "tbt"),
        ("baseline-h100", 0, "e2e"),
    ):
        setting = load_setting(PlanOptions(slo="p99", designs=(design,)))
        slot = setting.designs[0].slots[position]
        took = median_ms(lambda s=setting, k=position, m=metric: all_sizes(s, k, m))  # type: ignore[misc]
        print(f"sizes 1..200 of a {slot.role} pool, {metric.upper()}: {took:.0f} ms")
    search = load_setting(PlanOptions(slo="p99")).search()
    took = median_ms(lambda: search.best(tuple(search.candidates), "cost"))
    print(f"integer program over all {len(search.candidates)} designs, ties broken: {took:.0f} ms")


if __name__ == "__main__":
    main()
