"""Limits on any percentile and on the largest gap: who decides them, on which requests, and what they exclude."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from provisioner.errors import InfeasibleError, InputError
from provisioner.loading.setting import load_setting
from provisioner.options import PlanOptions
from provisioner.planning.proof import Candidate
from provisioner.planning.setting import Setting
from provisioner.results.plan import Plan
from provisioner.simulation.requests import LONGEST_S, bunches_s
from provisioner.simulation.run import run
from provisioner.specs.slo import SLO, LatencyLimit
from provisioner.verify.answer import best_plan
from provisioner.verify.judge import Verdicts
from provisioner.verify.regions import least_of
from provisioner.verify.request_sets import LEAST_BEYOND, RequestSets, least_rate_rps, needed_s
from provisioner.verify.throughput import Rates

SMALL: dict[str, Any] = {
    "rate_rps": 15.0,
    "slo": "p99",
    "duration_s": 60.0,
    "sets": 3,
    "tensor_parallel": "largest",
    "designs": ("splitwise-hh",),
}


@cache
def setting(**fields: Any) -> Setting:
    return load_setting(PlanOptions(**{**SMALL, **fields}))


def limited(**limits: str) -> Plan:
    return best_plan(load_setting(PlanOptions(**SMALL, limits=limits)))


def machines(plan: Plan) -> tuple[int, ...]:
    return tuple(pool.machines for pool in plan.pools)


def gap(value: float, percentile: float = 99.0) -> LatencyLimit:
    return LatencyLimit("gap", percentile, value, "seconds")


def test_a_limit_on_the_largest_gap_binds() -> None:
    free, held = limited(), limited(gap_p99="37ms")
    assert machines(free) != machines(held) and held.cost_usd_per_h > free.cost_usd_per_h
    figure = next(each for each in held.latency if each.metric == "gap")
    assert figure.limit == gap(0.037) and figure.seconds <= 0.037 and figure.predicted_seconds is None
    assert figure.slack == pytest.approx(1.0 - figure.seconds / 0.037)
    assert held.evidence is not None
    assert any("largest gap P99" in text for near in held.evidence.neighbours for text in near.breaks)
    assert not [text for text in held.warnings if "not confirmed" in text]


def test_a_limit_on_any_percentile_is_planned_for() -> None:
    held = limited(**{"tbt_p95": "0.75x"})
    figure = next(each for each in held.latency if (each.metric, each.percentile) == ("tbt", 95.0))
    assert figure.slowdown <= 0.75 and figure.predicted_slowdown is not None
    assert machines(held) != machines(limited())


def test_formulas_alone_refuse_a_limit_on_the_largest_gap() -> None:
    with pytest.raises(InputError, match="fast: largest gap P99 <= 1 s is decided by simulation alone"):
        load_setting(PlanOptions(designs=("splitwise-hh",), slo="batch", fast=True, limits={"gap_p99": "1s"}))


# --- what a failure excludes -------------------------------------------------------------------------------------


def test_a_gap_beyond_its_limit_excludes_one_cluster_alone() -> None:
    of = setting()
    design, verdicts = of.designs[0], Verdicts()
    far = replace(of, slo=SLO("gap", (gap(0.02),)))  # every cluster is far beyond it
    for sizes in ((6, 2), (8, 8)):
        found = verdicts.judge(far, 15.0)[1].judge(Candidate(design, sizes))
        assert found.outcome == "fail" and found.worst_ratio > 1.5 and not found.clear and not found.early


def test_another_limit_beside_it_still_excludes_smaller_clusters() -> None:
    of = setting()
    both = replace(of, slo=of.slo.with_limits((gap(0.02),)))
    for slo in (of, both):
        found = Verdicts().judge(slo, 15.0)[1].judge(Candidate(of.designs[0], (2, 1)))
        assert found.outcome == "fail" and found.clear


@pytest.mark.parametrize(("policy", "seven_ms", "ten_ms"), [("strict", 37.9, 38.0), ("splitwise", 72.3, 72.7)])
def test_more_machines_need_not_lower_the_largest_gap(policy: str, seven_ms: float, ten_ms: float) -> None:
    """The reason for the rule, as docs/explanation/design.md quotes it."""
    of = setting(policy=policy)
    judge = Verdicts().judge(of, 15.0)[1]

    def p99_ms(*sizes: int) -> float:
        runs = judge.runs(Candidate(of.designs[0], sizes))
        return 1e3 * float(np.mean([np.percentile(each.latencies.both("gap")[0], 99.0) for each in runs]))

    assert [round(p99_ms(prompts, 1), 1) for prompts in (7, 10)] == [seven_ms, ten_ms]


# --- the least that any size can do ------------------------------------------------------------------------------


def test_a_design_whose_own_iterations_are_too_long_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provisioner.verify.judge.run", None)  # nothing is simulated
    with pytest.raises(
        InfeasibleError, match="largest gap P99 of 20 ms is below the longest decode iteration"
    ) as caught:
        limited(gap_p99="20ms")
    assert caught.value.binding == "largest gap P99"
    (nearest,) = caught.value.relaxations
    assert nearest.startswith("gap_p99 ") and nearest.endswith("(Splitwise-HH)")
    with pytest.raises(InfeasibleError) as caught:
        limited(**{"gap_p99.9": "20ms"})
    assert caught.value.relaxations[0].startswith("limits gap-p99.9=")


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        *(
            (name, policy)
            for name in ("splitwise-hh", "splitwise-ha")
            for policy in ("splitwise", "split", "strict", "deflect")
        ),
        *(("baseline-a100", policy) for policy in ("mixed", "chunked")),
    ],
)
@pytest.mark.parametrize("kind", ["seconds", "slowdown"])
def test_no_cluster_has_a_percentile_below_the_least(name: str, policy: str, kind: Any) -> None:
    of = setting(designs=(name,), rate_rps=3.0, policy=policy)
    design = of.designs[0]
    judge = Verdicts().judge(of, 3.0)[1]
    for sizes in ((2,), (30,)):
        cluster = judge.cluster(Candidate(design, sizes * len(design.slots)))
        runs = [run(cluster, judge.request_sets(k)).latencies for k in range(3)]
        for metric, percentile in product(("gap", "ttft", "tbt", "e2e"), (50.0, 99.0)):
            least = least_of(judge, design, LatencyLimit(metric, percentile, 1.0, kind))
            seen = [np.percentile(each.both(metric)[kind == "slowdown"], percentile) for each in runs]
            assert 0.0 < least <= np.mean(seen) * (1.0 + 1e-9), (metric, percentile)


# --- requests beyond a percentile --------------------------------------------------------------------------------


def test_request_sets_grow_until_enough_requests_are_beyond_the_percentile() -> None:
    for rate_rps, percentile in ((15.0, 99.0), (2.0, 95.0), (40.0, 99.9)):
        of = replace(setting(), slo=SLO("one", (LatencyLimit("ttft", percentile, 6.0, "slowdown"),)))
        sets = RequestSets(of, rate_rps)
        counted = np.mean([np.count_nonzero(sets.requests(k).counted) for k in range(3)])
        assert sets.set_s == needed_s(of.slo, rate_rps) > 60.0
        assert counted * (1.0 - percentile / 100.0) == pytest.approx(LEAST_BEYOND, rel=0.15)
    assert RequestSets(setting(slo="p50"), 15.0).set_s == 60.0


def test_a_rate_at_which_no_set_is_long_enough_is_refused() -> None:
    least = least_rate_rps(setting().slo)
    assert RequestSets(setting(), least).set_s == LONGEST_S
    bursty = load_setting(PlanOptions(workload="coding", rate_rps=2.0, cv=13.0, designs=("baseline-h100",)))
    assert RequestSets(bursty, 2.0).set_s == bunches_s(2.0, 13.0) == 1690.0
    with pytest.raises(InputError, match=r"^cv: arrivals with CV 13 take 3,380 requests or more to tell their rate"):
        RequestSets(bursty, 0.9)
    with pytest.raises(InputError, match=r"^rate_rps: TTFT P99 is judged on 1,000 requests or more, and 0\.2"):
        RequestSets(setting(), 0.2)


def test_largest_rates_are_looked_for_where_sets_are_long_enough() -> None:
    of = setting()
    rates = Rates(of)
    low, high = rates.largest(Candidate(of.designs[0], (2, 1)), 0.01)
    assert least_rate_rps(of.slo) <= rates.smallest_rps < low < high < 15.0
    assert min(rate for rate, *_ in rates.tried) == rates.smallest_rps


def test_the_smallest_rate_looked_at_has_as_many_requests_whatever_the_time_of_a_set() -> None:
    """Sets with limits grow; without limits 20 requests within the time asked for are the least."""
    for duration_s in (5.0, 60.0, 600.0):
        assert Rates(setting(duration_s=duration_s)).smallest_rps == least_rate_rps(setting().slo)
        none = setting(duration_s=duration_s, slo="none")
        assert Rates(none).smallest_rps == pytest.approx(20.0 / duration_s)
    # one machine under chunked prefill: 6.0x at 1.5 requests/s, within 6x at half of that
    one = setting(designs=("baseline-h100",), workload="conversation", duration_s=20.0, sets=2, batch_tokens=())
    low, high = Rates(one).largest(Candidate(one.designs[0], (1,)), 3.0)
    assert 0.75 < low < high < 1.5


def test_a_trace_with_too_few_requests_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "requests.csv"

    def ask(count: int, **fields: Any) -> Setting:
        rows = (f"{0.1 * k:.1f},{300 + k % 50},{2 + k % 9}" for k in range(count))
        path.write_text("arrival_s,prompt_tokens,output_tokens\n" + "\n".join(rows) + "\n", encoding="utf-8")
        return load_setting(PlanOptions(trace=str(path), tensor_parallel="largest", **fields))

    RequestSets(ask(1000, slo="p99"), 10.0)
    RequestSets(ask(100, slo="p90"), 10.0)
    RequestSets(ask(10, slo="batch"), 10.0)
    with pytest.raises(InputError, match=r"^trace: TTFT P99 is judged on 1,000 requests or more, and .* has 999;"):
        RequestSets(ask(999, slo="p99"), 10.0)
