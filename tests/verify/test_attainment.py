"""Shares of requests within all limits at once, against a count in pandas, SciPy, and exhaustive simulation."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from provisioner import api
from provisioner.errors import InfeasibleError, InputError
from provisioner.loading.setting import load_setting
from provisioner.options import PlanOptions, SimulateOptions
from provisioner.options.defaults import MOST_SETS, PolicyName
from provisioner.planning.proof import Candidate
from provisioner.planning.setting import Setting
from provisioner.report.records import records_table
from provisioner.results.plan import CAPACITY, ONLY_ONE
from provisioner.results.simulation import Simulation
from provisioner.simulation.measure import Latencies, attained, quantile_over_sets
from provisioner.simulation.run import run
from provisioner.simulation.stability import observed_backlog, stability
from provisioner.specs.slo import Attainment, attainment
from provisioner.verify.answer import best_plan
from provisioner.verify.judge import SimulationJudge
from provisioner.verify.request_sets import RequestSets

LIMITS: dict[str, tuple[str, float, str]] = {
    "ttft": ("1s", 1.0, "ttft_s"),
    "tbt": ("1.5x", 1.5, "tbt_slowdown"),
    "gap": ("35ms", 0.035, "largest_gap_s"),
    "e2e": ("12s", 12.0, "e2e_s"),
}
"""Limits on each request as they are typed, in the unit of the column of records that has the metric."""

QUESTION: dict[str, Any] = {"rate_rps": 12.0, "duration_s": 40.0, "sets": 3, "tensor_parallel": "largest"}
BUDGETS = (2048, 8192)


def counted(records: pd.DataFrame, metrics: tuple[str, ...]) -> pd.Series[float]:
    """The share of measured requests within all limits by request set: unfinished ones are not, missing ones are."""
    measured = records[records.measured]
    ratios = pd.DataFrame({name: measured[LIMITS[name][2]] / LIMITS[name][1] for name in metrics})
    worst = ratios.max(axis=1, skipna=True).fillna(0.0).where(measured.last_token_s.notna(), math.inf)
    return (worst <= 1.0).groupby(measured["set"]).mean()


@pytest.mark.parametrize("metrics", [("ttft", "tbt"), ("tbt", "e2e"), ("ttft", "tbt", "gap", "e2e"), ("gap",)])
def test_the_share_is_what_pandas_counts_in_the_records(metrics: tuple[str, ...], tmp_path: Path) -> None:
    records = tmp_path / "r.parquet"
    given: dict[str, Any] = {name: LIMITS[name][0] for name in metrics}
    asked = {"design": "splitwise-hh", "prompt_machines": 3, "token_machines": 1, "rate_rps": 14, "duration_s": 40}
    found = api.simulate(sets=3, attainment="90%", records=str(records), **given, **asked)
    assert isinstance(found, Simulation) and found.attainment is not None
    shares = counted(pd.read_parquet(records), metrics)
    assert found.attainment.share.values == pytest.approx(shares.tolist(), abs=1e-12)
    assert 0.02 < found.attainment.share.mean < 0.999
    bound = shares.mean() - stats.t.ppf(0.95, 2) * shares.std(ddof=1) / math.sqrt(3)
    assert found.attainment.at_least == pytest.approx(bound)
    met = "pass" if bound >= 0.9 else "fail" if shares.mean() < 0.9 else "undecided"
    assert found.attainment.met == met == found.latency[-1].met and found.slo_met == (met == "pass")


def times(**changed: Any) -> Latencies:
    """Three requests: within TTFT 1 s and TBT 50 ms, of one token, and unfinished after its first token."""
    fields: dict[str, Any] = {
        "arrival_s": np.zeros(3),
        "first_s": np.array([0.5, 0.9, np.nan]),
        "last_s": np.array([0.5 + 9 * 0.04, 0.9, np.nan]),
        "largest_gap_s": np.array([0.04, 0.0, np.nan]),
        "output_tokens": np.array([10, 1, 1]),
        "tbt_divisor": np.array([9.0, 0.0, 0.0]),
        **{f"reference_{name}_s": np.full(3, 0.01) for name in ("ttft", "tbt", "e2e")},
        "counted": np.ones(3, dtype=bool),
    }
    return Latencies(**fields | changed)


def limit(share: float = 0.99, **given: str) -> Attainment:
    return attainment(share, given.items())


def test_an_unfinished_request_is_beyond_and_one_without_the_metric_is_not() -> None:
    both = limit(ttft="1s", tbt="50ms")
    assert times().ratios(both.limits).tolist() == pytest.approx([0.8, 0.9, math.inf])
    assert times().ratios(limit(tbt="50ms").limits).tolist() == pytest.approx([0.8, 0.0, math.inf])
    assert times().ratios(limit(tbt="2x").limits)[0] == pytest.approx(2.0)
    assert times(counted=np.array([True, False, False])).ratios(both.limits).size == 1
    assert str(both) == "99 % of the requests within TTFT <= 1 s, TBT <= 50 ms"
    assert str(both.scaled(2.0)) == "99 % of the requests within TTFT <= 2 s, TBT <= 100 ms"


@pytest.mark.parametrize("seed", range(20))
def test_bound_and_quantile_against_scipy_and_by_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ratios = [rng.lognormal(-0.9, 0.5, rng.integers(50, 400)) for _ in range(rng.integers(2, 8))]
    asked = limit(float(rng.choice([0.5, 0.9, 0.95, 0.99])), ttft="1s")
    shares = np.array([np.mean(each <= 1.0) for each in ratios])
    found = attained(asked, ratios)
    bound = stats.t.interval(0.9, len(shares) - 1, shares.mean(), stats.sem(shares))[0]
    assert found.at_least == pytest.approx(bound)
    assert found.met == (
        "pass" if bound >= asked.quantile else "fail" if shares.mean() < asked.quantile else "undecided"
    )
    value = quantile_over_sets(ratios, asked.quantile)
    share_within = {x: np.mean([np.mean(each <= x) for each in ratios]) for x in np.concatenate(ratios)}
    assert value == min(x for x, share in share_within.items() if share >= asked.quantile - 1e-9)
    assert (found.met == "fail") == (value > 1.0), "the share is too small where the quantile is beyond the limits"


def test_a_share_is_met_at_equality() -> None:
    for share in (0.9, 0.95, 0.99, 0.999):
        beyond = round(1000 * (1.0 - share))
        ratios = [np.array([2.0] * beyond + [1.0] * (1000 - beyond))] * 2
        assert attained(limit(share, ttft="1s"), ratios).met == "pass"
        assert attained(limit(share, ttft="1s"), ratios, strict=True).met == "fail"


def whole(setting: Setting, candidate: Candidate, metrics: tuple[str, ...], asked: float) -> bool:
    """Whether a cluster with these token budgets passes, by whole runs, a count in pandas and SciPy's bound."""
    sets = RequestSets(setting, setting.traffic.peak_rps)
    judge = SimulationJudge(setting.replicas, setting.slo, sets, sets.count)
    shares: list[float] = []
    backlogs = []
    for k in range(MOST_SETS):
        done = run(judge.cluster(candidate), sets(k))
        if done.status == "stuck":
            return False
        shares.append(float(counted(records_table(done).to_pandas(), metrics).iloc[0]))
        backlogs.append(observed_backlog(done))
        if (k + 1) % sets.count:
            continue
        mean, stable = float(np.mean(shares)), stability(backlogs)[0]
        bound = mean - stats.t.ppf(0.95, k) * np.std(shares, ddof=1) / math.sqrt(k + 1)
        if stable is not True or mean < asked or bound >= asked:
            return stable is True and bound >= asked - 1e-12
    return False


@pytest.mark.parametrize(
    ("design", "metrics", "asked"),
    [
        ("splitwise-hh", ("ttft", "tbt"), 0.95),
        ("splitwise-ha", ("ttft", "e2e"), 0.97),
        ("baseline-h100", ("ttft", "tbt"), 0.9),
    ],
)
def test_the_plan_is_the_cheapest_cluster_that_passes_exhaustive_simulation(
    design: str, metrics: tuple[str, ...], asked: float
) -> None:
    limits = {name: LIMITS[name][0] for name in metrics}
    setting = load_setting(PlanOptions.of(designs=design, attainment=asked, batch_tokens=BUDGETS, **limits, **QUESTION))
    (of,) = setting.designs
    found = best_plan(setting)
    prices = [setting.prices.cost_usd_per_h[slot.machine.name] for slot in of.slots]
    cost = {
        sizes: sum(n * price for n, price in zip(sizes, prices, strict=True))
        for sizes in product(range(1, 7 if len(of.slots) > 1 else 15), repeat=len(of.slots))
    }
    own = [
        (setting.replicas[slot.replica].batch.batch_tokens,) if slot.role == "token" else BUDGETS for slot in of.slots
    ]
    passing = {
        each
        for each in cost
        if cost[each] <= found.cost_usd_per_h
        and any(whole(setting, Candidate(of, each, batch_tokens=tokens), metrics, asked) for tokens in product(*own))
    }
    assert min(cost[each] for each in passing) == pytest.approx(found.cost_usd_per_h)
    assert tuple(pool.machines for pool in found.pools) in passing
    assert found.attainment is not None and found.attainment.met == "pass" and found.attainment.asked == asked
    assert found.attainment.at_least is not None and found.attainment.at_least >= asked
    assert found.tightest is not None and found.tightest.metric == "all" and (found.worst_slack or 0.0) >= 0.0
    assert set(found.binding) <= {ONLY_ONE, CAPACITY, f"all limits P{100 * asked:g}"}


@pytest.mark.parametrize(
    ("design", "policy"),
    [
        ("splitwise-hh", "splitwise"),
        ("splitwise-hh", "strict"),
        ("baseline-h100", "mixed"),
        ("baseline-h100", "chunked"),
    ],
)
def test_a_run_that_is_stopped_early_fails_as_whole_runs_do(
    design: str, policy: PolicyName, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = load_setting(PlanOptions.of(designs=design, attainment=0.95, ttft="1s", tbt="1.5x", **QUESTION))
    sets = RequestSets(setting, setting.traffic.peak_rps)
    several = len(setting.designs[0].slots) > 1
    sizes = product((1, 2, 3), (1, 2)) if several else product((3, 6, 9))
    candidates = [Candidate(setting.designs[0], each) for each in sizes]
    early = SimulationJudge(setting.replicas, setting.slo, sets, sets.count, policy=policy)
    verdicts = [early.judge(each) for each in candidates]
    monkeypatch.setattr(SimulationJudge, "_stop_limits", lambda *_: {})
    late = SimulationJudge(setting.replicas, setting.slo, sets, sets.count, policy=policy)
    assert any(each.early for each in verdicts)
    for candidate, verdict in zip(candidates, verdicts, strict=True):
        other = late.judge(candidate)
        assert (verdict.outcome, verdict.clear) == (other.outcome, other.clear), candidate
        assert verdict.worst_ratio <= other.worst_ratio
    assert early.simulated_runs < late.simulated_runs


def test_a_limit_on_the_largest_gap_excludes_no_smaller_cluster() -> None:
    setting = load_setting(PlanOptions.of(designs="splitwise-hh", attainment=0.99, ttft="1s", gap="20ms", **QUESTION))
    sets = RequestSets(setting, setting.traffic.peak_rps)
    judge = SimulationJudge(setting.replicas, setting.slo, sets, sets.count)
    verdict = judge.judge(Candidate(setting.designs[0], (6, 4)))
    assert verdict.outcome == "fail" and verdict.worst_ratio > 1.3 and not (verdict.clear or verdict.early)


def test_formulas_are_a_bound_or_refuse() -> None:
    """Each limit alone has to hold for as many requests: a floor of its metric that misses it is certain."""
    with pytest.raises(
        InputError, match="fast: 99 % of the requests within TTFT <= 1 s is decided by simulation alone"
    ):
        load_setting(PlanOptions.of(fast=True, attainment="99%", ttft="1s"))
    with pytest.raises(InfeasibleError) as refused:
        api.plan(designs="splitwise-hh", attainment="99%", ttft="50ms", tbt="1s", **QUESTION)
    assert "TTFT of 50 ms is below the prompt time alone" in str(refused.value)
    assert refused.value.relaxations[0].startswith("ttft 7")
    setting = load_setting(PlanOptions.of(designs="splitwise-hh", attainment="90%", ttft="1s", tbt="2x", gap="1s"))
    several = float(setting.traffic.classes.weight[setting.traffic.classes.output_tokens > 1.0].sum())
    known = {each.metric: each.percentile for each in setting.predicted.limits}
    assert known == pytest.approx({"ttft": 90.0, "tbt": 100.0 - 10.0 / several})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"ttft": "1s"},
            "ttft: is a limit on each request; give attainment too, such as 99%, or ttft_p99 in its place",
        ),
        ({"attainment": 0.99}, "attainment: of which limits? give some of ttft, tbt, gap, e2e, such as ttft 1s"),
        ({"attainment": 0.9995, "ttft": "1s"}, "attainment: must be above 0, at most 99.9%"),
        ({"attainment": "99", "ttft": "1s"}, "attainment: "),
        (
            {"attainment": "99%", "ttft": "1s", "ttft_p90": "1s"},
            "ttft: is a limit on each request, and TTFT P90 <= 1 s is on the same metric; leave out one of them",
        ),
        ({"attainment": "99%", "tpot": "1s", "slo": "p99"}, "tbt: is a limit on each request, and TBT P99 <= 5x is"),
        ({"limits": {"tpot": "1s"}, "tbt": "1s", "attainment": "99%"}, "tbt: is given twice"),
    ],
)
def test_what_means_nothing_is_refused_in_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refused:
        load_setting(PlanOptions.of(**given))
    assert str(refused.value).startswith(message) and "\n" not in str(refused.value)


def test_every_study_takes_it() -> None:
    asked: dict[str, Any] = {"attainment": "95%", "ttft": "1s", "tbt": "1.5x", "workload": "coding"}
    assert SimulateOptions.of(**asked).slo == "none"
    brief = {"duration_s": 30, "sets": 2, "tensor_parallel": "largest"}
    held = api.capacity(designs="splitwise-hh", prompt=3, token=1, additions=False, **brief, **asked)
    assert held.attainment is not None and held.attainment.met == "pass" and held.rate_rps > 1.0
    assert held.binding in ("capacity", "all limits P95")
    grid = api.sweep(design="splitwise-hh", prompt="2:4", token="1", rate_rps=12, duration_s=30, **asked)
    assert {point.binding for point in grid.points} == {"all_p95"}
    ratios = [point.worst_ratio for point in grid.points if point.worst_ratio is not None]
    assert ratios == sorted(ratios, reverse=True)
    assert set(grid.to_frame().columns) >= {"all_p95_slowdown"}
    both = api.compare(
        same="throughput", designs=["splitwise-hh", "baseline-h100"], rate_rps=8, duration_s=30, sets=2, **asked
    )
    assert all(each.plan is None or each.plan.attainment is not None for each in both.designs)
    assert "95 % of the requests within TTFT <= 1 s, TBT <= 1.5x" in str(both)
