"""The pictures of a plan and of a simulation: the numbers of their tables, and nothing left out."""

from __future__ import annotations

import textwrap
from dataclasses import replace
from math import inf, nan
from typing import Any

import pytest

from provisioner.errors import InputError
from provisioner.options import SimulateOptions
from provisioner.report.chart import BarChart, LineChart
from provisioner.report.page import page
from provisioner.report.views.registry import charts, document
from provisioner.results.plan import Plan
from provisioner.results.simulation import Interval, LatencyResult, Simulation
from provisioner.specs.slo import LatencyLimit
from tests.simulation.test_result import pool as simulated_pool


def bar_charts(found: Plan | Simulation) -> list[BarChart]:
    return [chart for chart in charts(found).values() if isinstance(chart, BarChart)]


def test_latencies_of_a_plan_are_over_their_limits(plan: Plan) -> None:
    chart = bar_charts(plan)[0]
    assert chart.title == "Predicted latency over its limit: Splitwise-HA 15 + 2, coding on llama2-70b at 70 requests/s"
    assert chart.groups == ("TTFT P99", "TBT P99", "E2E P99")
    assert chart.bars[0].values == (0.75, 0.75, 0.75)  # 4.5 of 6
    assert chart.bars[0].notes[0] == "4.5x of 6x, one fewer misses"
    assert [(rule.value, rule.label) for rule in chart.rules] == [(1.0, "limit")]


def test_a_limit_in_seconds_is_compared_in_seconds(plan: Plan) -> None:
    limit = LatencyLimit("ttft", 99.0, 1.2, "seconds")
    first = replace(plan.latency[2], limit=limit, seconds_range=(0.25, 0.35))
    chart = bar_charts(replace(plan, latency=(first,)))[0]
    assert chart.bars[0].values == (pytest.approx(0.25),)  # 0.3 s of 1.2 s
    assert chart.bars[0].notes == ("300 ms of 1.2 s, interval 250 ms to 350 ms, one fewer misses",)


def test_a_plan_without_limits_shows_its_slowdowns(plan: Plan) -> None:
    free = tuple(replace(figure, limit=None) for figure in plan.latency)
    chart = bar_charts(replace(plan, latency=free))[0]
    assert len(chart.groups) == 9 and chart.rules == ()
    assert chart.bars[0].values[:3] == (1.5, 3.0, 4.5)


def test_designs_without_a_plan_stay(plan: Plan) -> None:
    chart = bar_charts(plan)[1]
    assert chart.groups == ("Splitwise-HA (this plan)", "Splitwise-AA", "Baseline-A100")
    assert chart.bars[0].values == (523.44, 647.28, None)
    assert chart.bars[0].notes == (
        "this plan: 15 prompt + 2 token",
        "27 prompt + 2 token: 23.7 % more cost",
        "no plan: TTFT P99 of 6x is out of reach",
    )


@pytest.mark.parametrize(
    ("objective", "first", "count"),
    [("power", (166.0, 188.5, None), 3), ("machines", (17, 29, None), 3), ("throughput", (70.0, None, None), 3)],
)
def test_designs_are_compared_by_the_objective_and_by_cost(
    plan: Plan, objective: str, first: tuple[float | None, ...], count: int
) -> None:
    charts = bar_charts(replace(plan, objective=objective))
    assert len(charts) == count
    assert charts[1].bars[0].values == first
    assert charts[2].value.label == "cost ($/h)"


def interval(mean: float, low: float | None = None, high: float | None = None) -> Interval:
    return Interval(mean, low, high, (mean,))


def simulation(*latency: LatencyResult) -> Simulation:
    pool = simulated_pool("prompt", "dgx-h100", 2, 0.75, 0.0, 1.4, (0.25, 0.5, 0.0, 0.25))
    return Simulation(
        design="Splitwise-HH",
        pools=(pool, replace(pool, role="token", batch_time_share=(1.0,))),
        latency=latency,
        model="llama2-70b",
        workload="coding",
        slo="p99",
        engine="vllm (an engine)",
        slo_met=False,
        stable=True,
        instability="",
        requests=100,
        sets=1,
        rate_rps=5.0,
        throughput_rps=5.0,
        throughput_tokens_per_s=100.0,
        policy="splitwise",
        assumptions="measured",
        wall_s=0.1,
        moves=0,
        preemptions=0,
        restarts=0,
        unfinished=0,
        sources=("a source",),
        warnings=(),
        question={name: getattr(SimulateOptions(), name) for name in SimulateOptions.__dataclass_fields__},
        seed=0,
        load="5 requests/s",
    )


LIMIT = LatencyLimit("ttft", 99.0, 6.0, "slowdown")


def test_latencies_of_a_simulation_are_over_their_limits() -> None:
    found = simulation(
        LatencyResult("ttft", 99.0, interval(1.0), interval(3.0, -0.5, 4.5), LIMIT, "pass"),
        LatencyResult("tbt", 99.0, interval(-inf), interval(-inf), LIMIT, "pass"),
        LatencyResult("e2e", 99.0, interval(inf), interval(inf), LIMIT, "fail"),
        LatencyResult("e2e", 50.0, interval(1.0), interval(nan)),
    )
    chart = bar_charts(found)[0]
    assert chart.groups == ("TTFT P99", "TBT P99", "E2E P99")
    assert chart.bars[0].values == (0.5, None, inf)
    assert chart.bars[0].notes == ("3x (0x to 4.5x) of 6x: met", "no request has it", "never of 6x: missed")


def test_a_simulation_without_limits_shows_its_slowdowns() -> None:
    found = simulation(
        LatencyResult("ttft", 99.0, interval(0.25), interval(3.0)),
        LatencyResult("tbt", 99.0, interval(-inf), interval(-inf)),
        LatencyResult("e2e", 99.0, interval(inf), interval(inf)),
    )
    chart = bar_charts(found)[0]
    assert chart.bars[0].values == (3.0, None, inf)
    assert chart.bars[0].notes == ("250.0 ms", "no request has it", "never")


def test_batches_are_cumulative_by_share_of_time() -> None:
    _, chart = charts(simulation(LatencyResult("ttft", 99.0, interval(1.0), interval(3.0), LIMIT, "pass"))).values()
    assert isinstance(chart, LineChart) and chart.steps
    assert [(series.name, series.x, series.y) for series in chart.series] == [
        ("prompt, 2 dgx-h100", (0.0, 1.0, 3.0), (25.0, 75.0, 100.0)),
        ("token, 2 dgx-h100", (0.0,), (100.0,)),
    ]


def test_results_draw_and_write_themselves(plan: Plan) -> None:
    found = simulation(LatencyResult("ttft", 99.0, interval(1.0), interval(3.0), LIMIT, "pass"))
    assert charts(found)["latency"].title in page(document(found), tuple(charts(found).values()))
    assert plan.plot().to_dict()["title"]["text"] == textwrap.wrap(charts(plan)["latency"].title, 90)
    assert "To repeat this" in document(plan, inputs=True).blocks[-1].title
    drawn: Any = found.plot("batches")
    assert drawn.to_dict()["title"]["text"] == textwrap.wrap(charts(found)["batches"].title, 90)
    for refused in ({"axes": object()}, {"name": object()}):
        with pytest.raises(InputError, match="use plot"):
            found.plot(**refused)  # type: ignore[arg-type]
