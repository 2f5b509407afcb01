"""Plans made by hand, so that reports are tested on values that a reader can see."""

from dataclasses import replace
from typing import Any

import pytest

from provisioner.options import PlanOptions
from provisioner.planning.plan import Alternative, LatencyFigure, Plan, PoolPlan
from provisioner.specs.metrics import PREDICTED, REPORTED_PERCENTILES
from provisioner.specs.slo import LatencyLimit


def _figures() -> tuple[LatencyFigure, ...]:
    figures = []
    for step, metric in enumerate(PREDICTED):
        for position, percentile in enumerate(REPORTED_PERCENTILES):
            limited = percentile == 99.0
            limit = LatencyLimit(metric, percentile, 6.0, "slowdown") if limited else None
            figures.append(
                LatencyFigure(
                    metric=metric,
                    percentile=percentile,
                    seconds=0.1 * 10**step * (position + 1),
                    slowdown=1.5 * (position + 1),
                    limit=limit,
                    slack=0.25 if limited else None,
                    binding=metric == "ttft" and limited,
                )
            )
    return tuple(figures)


def make_plan(**changes: Any) -> Plan:
    question = {name: getattr(PlanOptions(), name) for name in PlanOptions.__dataclass_fields__}
    plan = Plan(
        design="Splitwise-HA",
        pools=(
            PoolPlan(
                role="prompt",
                machine="dgx-h100",
                machines=15,
                tensor_parallel=8,
                replicas=15,
                utilization=0.8376,
                cost_usd_per_h=478.8,
                power_w=153_000.0,
                requests="all requests",
                binding=("TTFT P99",),
            ),
            PoolPlan(
                role="token",
                machine="dgx-a100",
                machines=2,
                tensor_parallel=8,
                replicas=2,
                utilization=0.41,
                cost_usd_per_h=44.64,
                power_w=13_000.0,
                requests="all requests",
                binding=("capacity",),
                mean_batch=34.25,
                link_load=0.12,
            ),
        ),
        objective="cost",
        model="llama2-70b",
        workload="coding",
        slo="p99",
        rate_rps=70.0,
        planned_rate_rps=70.0,
        cost_usd_per_h=523.44,
        cost_usd_per_million_tokens=0.9764,
        cost_usd_per_million_output_tokens=74.5,
        power_w=166_000.0,
        machines=17,
        latency=_figures(),
        alternatives=(
            Alternative(
                "Splitwise-AA",
                True,
                (("prompt", "dgx-a100", 27), ("token", "dgx-a100", 2)),
                647.28,
                188_500.0,
                29,
                None,
                "23.7 % more cost",
            ),
            Alternative("Baseline-A100", False, (), None, None, None, None, "TTFT P99 of 6x is out of reach"),
        ),
        sources=("curves: one source, 2024", "prices: a list (2026-09-20)"),
        warnings=("14.9 % of the requests are longer than the model was trained for",),
        question=question | {"slo": "p99"},
        method="analytic: queueing formulas, not simulated",
        solver="HiGHS",
        gap=0.0,
        seed=0,
        versions={"provisioner": "0.1.0", "numpy": "2.4.6", "python": "3.11.7"},
    )
    return replace(plan, **changes)


@pytest.fixture
def plan() -> Plan:
    return make_plan()
