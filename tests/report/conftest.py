"""Plans made by hand, so that reports are tested on values that a reader can see."""

from dataclasses import replace
from typing import Any

import pytest

from provisioner.options import PlanOptions
from provisioner.options.command import command_of, plan_question
from provisioner.results.cluster import Pool
from provisioner.results.plan import Alternative, LatencyFigure, Plan, PlanPool
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
                    binding=metric == "ttft" and limited,
                )
            )
    return tuple(figures)


def make_plan(**changes: Any) -> Plan:
    options = PlanOptions(slo="p99")
    question = plan_question({name: getattr(options, name) for name in PlanOptions.__dataclass_fields__}, 70.0)
    plan = Plan(
        design="Splitwise-HA",
        pools=(
            PlanPool(
                role="prompt",
                machine="dgx-h100",
                tensor_parallel=8,
                gpus_per_machine=8,
                replicas=15,
                utilization=0.8376,
                cost_usd_per_h=478.8,
                power_w=153_000.0,
                binding=("TTFT P99",),
            ),
            PlanPool(
                role="token",
                machine="dgx-a100",
                tensor_parallel=8,
                gpus_per_machine=8,
                replicas=2,
                utilization=0.41,
                cost_usd_per_h=44.64,
                power_w=13_000.0,
                binding=("capacity",),
                mean_batch=34.25,
                link_load=0.12,
            ),
        ),
        objective="cost",
        model="llama2-70b",
        workload="coding",
        slo="p99",
        engine="vllm (an engine)",
        rate_rps=70.0,
        planned_rate_rps=70.0,
        cost_usd_per_h=523.44,
        cost_usd_per_million_tokens=0.9764,
        cost_usd_per_million_output_tokens=74.5,
        power_w=166_000.0,
        latency=_figures(),
        alternatives=(
            Alternative(
                design="Splitwise-AA",
                pools=(Pool("prompt", "dgx-a100", 8, 8, 27), Pool("token", "dgx-a100", 8, 8, 2)),
                cost_usd_per_h=647.28,
                power_w=188_500.0,
                reason="23.7 % more cost",
            ),
            Alternative(design="Baseline-A100", reason="TTFT P99 of 6x is out of reach"),
        ),
        sources=("curves: one source, 2024", "prices: a list (2026-09-20)"),
        warnings=("14.9 % of the requests are longer than the model was trained for",),
        question=question,
        command=command_of("plan", question, PlanOptions),
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
