"""Capacity of a cluster in hand and additions for more: against whole runs and against every cluster around it."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest

from provisioner import api
from provisioner.deadline import TimeIsUp
from provisioner.errors import InfeasibleError, InputError, ProvisionerError
from provisioner.loading.setting import load_setting
from provisioner.options import CapacityOptions, PlanOptions
from provisioner.options.defaults import MOST_SETS
from provisioner.planning.proof import Candidate, Verdict
from provisioner.planning.setting import Setting
from provisioner.report.chart import BarChart, LineChart
from provisioner.report.views.registry import charts
from provisioner.results.capacity import Capacity
from provisioner.results.cluster import Totals
from provisioner.simulation.measure import percentiles
from provisioner.simulation.run import run
from provisioner.studies.capacity import DEFAULT_TO, capacity
from provisioner.verify.judge import SimulationJudge, Verdicts
from provisioner.verify.request_sets import RequestSets
from provisioner.verify.throughput import BEYOND, Rates

SMALL: dict[str, Any] = {"slo": "p99", "duration_s": 30.0, "sets": 2, "prices": "paper", "tensor_parallel": 8}
EVERY_TP: dict[str, Any] = {**SMALL, "duration_s": 20.0, "tensor_parallel": "all"}
HAND = (5, 1)


@cache
def found() -> Capacity:
    return capacity(CapacityOptions(**SMALL, designs=("splitwise-ha",), prompt=HAND[0], token=HAND[1]))


@cache
def setting() -> Setting:
    return load_setting(PlanOptions(**SMALL, designs=("splitwise-ha",)))


def judge(rate_rps: float) -> SimulationJudge:
    return Verdicts().judge(setting(), rate_rps)[1]


def verdict(sizes: tuple[int, ...], rate_rps: float) -> bool:
    return judge(rate_rps).judge(Candidate(setting().designs[0], sizes)).passes


def test_it_holds_the_rate_and_not_one_per_cent_more() -> None:
    of = found()
    assert verdict(HAND, of.rate_rps) and not verdict(HAND, of.failed_rps)
    assert 1.0 < of.failed_rps / of.rate_rps <= 1.0101
    again = [factor * of.failed_rps for factor in BEYOND if verdict(HAND, factor * of.failed_rps)]
    assert of.passes_again_rps == pytest.approx(again)


def test_what_breaks_is_what_whole_runs_show_at_the_first_failure() -> None:
    of = found()
    verdicts = judge(of.failed_rps)
    cluster = verdicts.cluster(verdicts.decided(Candidate(setting().designs[0], HAND)))
    runs = [run(cluster, verdicts.request_sets(k)).latencies for k in range(MOST_SETS)]
    shown = {each.label: each.over_limit for each in of.breaks}
    matches = []
    for sets in (*range(2, MOST_SETS, 2), MOST_SETS):  # as many as it took to decide
        ratios = {}
        for limit in setting().slo.limits:
            values = [percentiles(each.both(limit.metric)[1], (99.0,))[0] for each in runs[:sets]]
            ratios[limit.label] = float(np.mean(values)) / limit.value
        missed = {name for name, ratio in ratios.items() if ratio > 1.0}
        matches.append(missed <= set(shown) and all(ratios[name] == pytest.approx(shown[name]) for name in shown))
    assert shown and any(matches)
    ratios = [each.over_limit or 0.0 for each in of.breaks]
    assert ratios == sorted(ratios, reverse=True)
    assert of.binding == (of.breaks[0].label if of.stable_beyond else "capacity")
    assert [each.met for each in of.breaks] == ["undecided" if ratio <= 1.0 else "fail" for ratio in ratios]


def test_the_latencies_are_those_at_the_largest_rate() -> None:
    of = found()
    verdicts = judge(of.rate_rps)
    shown = [each for each in of.latency if each.limit is not None]
    runs = verdicts.runs(Candidate(setting().designs[0], HAND), len(shown[0].slowdown.values))
    for each in shown:
        assert each.met == "pass" and each.limit is not None and each.judged.mean <= each.limit.value
        values = [percentiles(done.latencies.both(each.metric)[1], (each.percentile,))[0] for done in runs]
        assert list(each.slowdown.values) == pytest.approx(values)


def test_the_additions_are_the_cheapest_of_all_around() -> None:
    of = found()
    prices = [setting().prices.cost_usd_per_h[pool.machine] for pool in of.pools]
    assert [each.rate_rps / of.rate_rps for each in of.additions] == pytest.approx(DEFAULT_TO)
    for each in of.additions:
        assert each.added is not None and each.totals is not None and each.feasible and each.proven
        added = tuple(pool.machines for pool in each.added.pools)
        assert each.totals.cost_usd_per_h == pytest.approx(sum(n * p for n, p in zip(added, prices, strict=True)))
        verdicts = judge(each.rate_rps)
        passing = {}
        for more in product(range(7), repeat=2):
            cost = sum(n * p for n, p in zip(more, prices, strict=True))
            sizes = tuple(had + n for had, n in zip(HAND, more, strict=True))
            candidate = Candidate(setting().designs[0], sizes)
            if cost <= each.totals.cost_usd_per_h + 1e-6 and verdicts.judge(candidate).passes:
                passing[more] = cost
        assert added in passing
        assert min(passing.values()) == pytest.approx(each.totals.cost_usd_per_h)


def test_a_rate_that_it_holds_needs_nothing() -> None:
    of = capacity(CapacityOptions(**SMALL, designs=("baseline-h100",), mixed=3, to=(1.0,)))
    (nothing,) = of.additions
    assert nothing.added is not None and nothing.added.machines == 0
    assert nothing.totals == Totals(0.0, 0.0, 0) and nothing.rate_rps == 1.0
    assert "nothing" in str(of)


def test_what_cannot_be_added_is_a_row_with_its_reason() -> None:
    of = capacity(CapacityOptions(**SMALL, designs=("baseline-h100",), max_machines=4, mixed=3, to=(30.0,)))
    (row,) = of.additions
    assert not row.feasible and row.proven and "no cluster that has these machines passes" in row.reason
    frame = of.to_frame()
    assert list(frame["feasible"]) == [True, False] and frame.iloc[1]["reason"] == row.reason
    assert "not possible" in str(of) and "Rates that nothing added holds" in str(of)


def test_headroom_is_held_beside_the_rate() -> None:
    options = {**SMALL, "designs": ("baseline-h100",), "mixed": 3, "additions": False}
    plain = capacity(CapacityOptions(**options))
    spare = capacity(CapacityOptions(**options, headroom=0.25))
    assert spare.rate_rps == pytest.approx(plain.rate_rps / 1.25, rel=0.03)
    assert plain.additions == ()


def test_more_machines_hold_more() -> None:
    options = CapacityOptions(**SMALL, designs=("baseline-h100",), additions=False)
    rates = [capacity(replace(options, mixed=n)).rate_rps for n in (2, 3, 4)]
    assert rates == sorted(rates) and rates[2] > 1.5 * rates[0]


def test_the_results_in_every_form() -> None:
    of = found()
    frame = of.to_frame()
    assert list(frame["in_hand"]) == [True, False, False, False]
    assert list(frame["added_machines"]) == [0, *(each.totals.machines for each in of.additions if each.totals)]
    hand = 5 * 38.08 + 17.68
    assert of.totals.cost_usd_per_h == pytest.approx(hand) and frame.iloc[0]["cost_usd_per_h"] == pytest.approx(hand)
    assert of.totals.power_w == pytest.approx(5 * 10200 + 5749.09)
    values = json.loads(json.dumps(of.to_dict()))
    assert values["rate_rps"] == of.rate_rps and len(values["additions"]) == 3
    assert values["command"].startswith("provision capacity --workload coding ")
    assert "--design splitwise-ha " in values["command"] and values["command"].endswith(" --prompt 5 --token 1")
    assert {"rate_rps", "fast"} & set(values["question"]) == set()
    text = str(of)
    assert text.startswith("# Splitwise-HA with 5 dgx-h100 (prompt) + 1 dgx-a100 (token) at TP 8+8 holds ")
    assert "What breaks just above" in text
    line, bars = charts(of).values()
    assert isinstance(line, LineChart) and isinstance(bars, BarChart)
    assert list(line.series[0].x) == sorted(line.series[0].x) and {rule.axis for rule in line.rules} == {"x", "y"}
    passing = [x for x, y in zip(line.series[0].x, line.series[0].y, strict=True) if y is not None and y <= 1.0]
    assert max(passing) <= max(of.failed_rps * BEYOND[-1], of.rate_rps) and of.rate_rps in passing
    assert len(bars.groups) == 4 and bars.bars[0].values[0] == pytest.approx(hand)
    assert "<table>" in of._repr_html_()
    tried = sorted(x for series in line.series for x in series.x)
    assert list(of.to_frame("tried")["rate_rps"]) == tried
    assert set(of.to_frame("latency")["met"]) == {"", "pass"} and len(of.to_frame("pools")) == 2


def test_a_cluster_that_holds_nothing() -> None:
    asked = {**SMALL, "slo": "batch", "designs": ("splitwise-hh",), "limits": {"ttft_p99": "30ms"}}
    with pytest.raises(InfeasibleError, match=r"holds no rate: at .* TTFT P99"):
        capacity(CapacityOptions(**asked, prompt=3, token=1))


def test_a_limit_on_the_largest_gap_and_one_on_any_percentile_bind() -> None:
    limits = {"gap-p95": "500ms", "tbt-p99.9": "20x"}
    asked = {**SMALL, "slo": "batch", "designs": ("splitwise-ha",), "limits": limits, "additions": False}
    asked |= {"policy": "splitwise", "engine": "splitwise"}
    of = capacity(CapacityOptions(**asked, prompt=HAND[0], token=HAND[1]))
    judged = {each.label: each.met for each in of.latency if each.limit is not None}
    assert judged == {"TBT P99.9": "pass", "largest gap P95": "pass"}
    assert of.binding == "largest gap P95" and "binding: largest gap P95, above, " in str(of)


@pytest.mark.parametrize(
    ("design", "hand", "policy"), [("splitwise-ha", (2, 1), "strict"), ("baseline-h100", (2,), "chunked")]
)
def test_no_tensor_parallelism_holds_more_or_needs_less(design: str, hand: tuple[int, ...], policy: Any) -> None:
    """Verdicts on the machines in hand, and on each that could be added, at every TP and token budget."""
    machines = dict(zip(("prompt", "token") if len(hand) == 2 else ("mixed",), hand, strict=True))
    asked = {**EVERY_TP, "designs": (design,), "policy": policy, "batch_tokens": (512, 2048)}
    of = capacity(CapacityOptions(**asked, **machines, to=(40.0,)))
    every = load_setting(PlanOptions(**asked))
    assert len(every.designs) == len(of.considered) == 3 ** len(hand)

    def passing(rate_rps: float, sizes: tuple[int, ...]) -> list[tuple[str, tuple[int, ...]]]:
        sets = RequestSets(every, rate_rps)
        judge = SimulationJudge(every.replicas, every.slo, sets, sets.count, policy=policy)
        choices = [(512, 2048) if slot.role != "token" else (2048,) for slot in every.designs[0].slots]
        tries = [(each, tokens) for each in every.designs for tokens in product(*choices)]
        return [(of.name, tokens) for of, tokens in tries if judge.judge(Candidate(of, sizes, (), tokens)).passes]

    tokens = tuple(2048 if most is None else most for most in of.batch_tokens)
    assert (of.design, tokens) in passing(of.rate_rps, hand)
    assert passing(of.failed_rps, hand) == []
    (addition,) = of.additions
    assert addition.added is not None and addition.totals is not None and addition.proven
    assert {pool.tensor_parallel for pool in of.pools} != {8}, "eight GPUs a replica are not the best here"
    added = tuple(pool.machines for pool in addition.added.pools)
    prices = [every.prices.cost_usd_per_h[pool.machine] for pool in of.pools]
    assert addition.added.design in {name for name, _ in passing(40.0, tuple(map(sum, zip(hand, added, strict=True))))}
    for more in product(range(sum(added) + 2), repeat=len(hand)):
        if sum(n * price for n, price in zip(more, prices, strict=True)) < addition.totals.cost_usd_per_h - 1e-6:
            assert passing(40.0, tuple(map(sum, zip(hand, more, strict=True)))) == []


def test_it_shows_the_tensor_parallelism_and_what_a_month_costs() -> None:
    asked = {**EVERY_TP, "tensor_parallel": (2, 8), "batch_tokens": (2048,)}
    of = capacity(CapacityOptions(**asked, designs=("splitwise-hh",), prompt=2, token=1, to=(50.0,)))
    degrees = [pool.tensor_parallel for pool in of.pools]
    assert f" at TP {degrees[0]}+{degrees[1]} holds " in str(of).split("\n")[0]
    frame = of.to_frame()
    assert [frame.iloc[0][f"{role}_tensor_parallel"] for role in ("prompt", "token")] == degrees
    assert frame["cost_usd_per_month"].tolist() == pytest.approx((730.0 * frame["cost_usd_per_h"]).tolist())
    assert "$/month" in str(of)
    one = capacity(CapacityOptions(**EVERY_TP, designs=("splitwise-hh:2+4",), prompt=2, token=1, additions=False))
    assert one.considered == ((2, 4),)


@pytest.mark.parametrize(
    ("fields", "arguments", "message"),
    [
        ({"designs": ()}, {"mixed": 3}, "designs: name the one design"),
        ({"designs": ("splitwise-hh", "baseline-h100")}, {"mixed": 3}, "designs: name the one design"),
        ({}, {}, "mixed: is needed: the mixed machines of Baseline-H100 in hand"),
        ({}, {"mixed": 0}, "mixed: must be a whole number of machines, 1 or more"),
        ({}, {"mixed": 2, "token": 1}, "token: Baseline-H100 has no token machines; it has mixed machines"),
        ({"designs": ("splitwise-hh",)}, {"prompt": 2}, "token: is needed"),
        ({"designs": ("splitwise-hx",)}, {"prompt": 2}, "unknown design"),
        ({"rate_rps": 5.0}, {"mixed": 2}, "rate_rps: is no option of this question"),
        ({"trace": "x.csv"}, {"mixed": 2}, "trace: is no option of this question"),
        ({"fast": True}, {"mixed": 2}, "fast: is no option of this question"),
        ({"objective": "throughput"}, {"mixed": 2}, "objective: must be cost, power or machines"),
        ({"write_lp": "x.lp"}, {"mixed": 2}, "write_lp: is no option of this question"),
        ({}, {"mixed": 2, "to": (-1.0,)}, "to: must be above 0 requests/s"),
        ({}, {"mixed": 2, "to": (5.0,), "additions": False}, "to: is of what is added for more load"),
        ({"time_limit_s": 0.0}, {"mixed": 2}, "time_limit_s: must be above 0 s"),
    ],
)
def test_what_cannot_be_asked(fields: dict[str, Any], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ProvisionerError) as caught:
        capacity(CapacityOptions(**{**SMALL, "designs": ("baseline-h100",), **fields, **arguments}))
    assert message in str(caught.value) and isinstance(caught.value, InputError)


def test_degrees_that_a_time_limit_leaves_untried_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    verdict, tried = Rates.verdict, []

    def of_the_first_degrees(rates: Rates, candidate: Candidate, rate_rps: float) -> Verdict:
        tried.append(candidate.design.name)
        if candidate.design.name != tried[0]:
            raise TimeIsUp
        return verdict(rates, candidate, rate_rps)

    monkeypatch.setattr(Rates, "verdict", of_the_first_degrees)
    of = capacity(CapacityOptions(**EVERY_TP, designs=("baseline-h100",), mixed=2, additions=False))
    assert of.design == tried[0] and len(of.considered) == 1 and of.rate_rps > 0.0
    assert of.warnings[-1].startswith("not tried within the time limit: TP ")


def test_a_time_limit_without_an_answer_says_so() -> None:
    with pytest.raises(InfeasibleError, match="time limit was reached before there was an answer"):
        api.capacity(CapacityOptions(**SMALL, designs=("baseline-h100",), time_limit_s=1e-6, mixed=3))
