"""Plans proven by simulation: what passes, what is shown as evidence, and what options change."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from provisioner import api
from provisioner.deadline import OUT_OF_TIME, TimeIsUp, ending, limited
from provisioner.errors import InfeasibleError, InputError
from provisioner.loading.setting import load_setting
from provisioner.options import PlanOptions
from provisioner.planning.check import check
from provisioner.planning.designs import Design
from provisioner.planning.proof import Candidate
from provisioner.planning.setting import Setting
from provisioner.report.views.comparison import _binds
from provisioner.report.views.plan import designs_chart, subtitle
from provisioner.results.plan import CAPACITY, ONLY_ONE, Plan
from provisioner.simulation.measure import percentiles
from provisioner.simulation.run import run
from provisioner.specs.slo import SLO
from provisioner.verify.answer import best_plan
from provisioner.verify.judge import MOST_SETS, SimulationJudge, Verdicts, measured
from provisioner.verify.throughput import Rates

# A small question: few machines, short request sets.
SMALL: dict[str, Any] = {"rate_rps": 15.0, "slo": "p99", "duration_s": 60.0, "sets": 3, "tensor_parallel": "largest"}


@cache
def setting(**fields: Any) -> Setting:
    return load_setting(PlanOptions(**{**SMALL, **fields}))


@cache
def plan(**fields: Any) -> Plan:
    return best_plan(setting(**fields))


def judge(of: Setting, **changes: Any) -> SimulationJudge:
    return replace(Verdicts().judge(of, of.traffic.peak_rps)[1], **changes)


def passing(of: Setting, design: Design, most: int) -> dict[tuple[int, ...], float]:
    """Every passing cluster of a design with at most ``most`` machines a pool, with its cost."""
    verdicts = judge(of)
    sizes = np.ndindex(*(most,) * len(design.slots))
    prices = [of.prices.cost_usd_per_h[slot.machine.name] for slot in design.slots]
    found = {}
    for each in sizes:
        candidate = Candidate(design, tuple(n + 1 for n in each))
        if verdicts.judge(candidate).passes:
            found[candidate.sizes] = sum(n * p for n, p in zip(candidate.sizes, prices, strict=True))
    return found


@pytest.mark.parametrize("name", ["splitwise-hh", "splitwise-ha", "baseline-h100"])
def test_the_plan_is_the_cheapest_of_all_that_pass(name: str) -> None:
    of = setting(designs=(name,))
    found = plan(designs=(name,))
    least = passing(of, of.designs[0], 8 if len(of.designs[0].slots) == 2 else 12)
    assert found.cost_usd_per_h == pytest.approx(min(least.values()))
    assert least[tuple(pool.machines for pool in found.pools)] == pytest.approx(min(least.values()))


def test_all_designs_together_are_the_best_of_each_alone() -> None:
    names = ("splitwise-hh", "splitwise-ha", "baseline-h100")
    together = plan(designs=names)
    assert together.cost_usd_per_h == min(plan(designs=(name,)).cost_usd_per_h for name in names)
    assert {other.design.lower() for other in together.alternatives} == set(names) - {together.design.lower()}


def test_a_plan_is_what_its_own_request_sets_show() -> None:
    of, found = setting(designs=("splitwise-hh",)), plan(designs=("splitwise-hh",))
    verdicts = judge(of)
    candidate = verdicts.decided(Candidate(of.designs[0], tuple(pool.machines for pool in found.pools)))
    values = [run(verdicts.cluster(candidate), verdicts.request_sets(k)).latencies.both("ttft")[1] for k in range(3)]
    mean = float(np.mean([percentiles(each, (99.0,))[0] for each in values]))
    figure = next(f for f in found.latency if (f.metric, f.percentile) == ("ttft", 99.0))
    assert figure.slowdown == pytest.approx(mean)
    assert figure.slowdown_range is not None and figure.slowdown_range[0] < mean < figure.slowdown_range[1]
    assert figure.limit is not None and figure.slack == pytest.approx(1.0 - mean / figure.limit.value)
    assert check(found, of) == ()


def test_the_check_sees_a_plan_that_breaks_a_limit() -> None:
    of, found = setting(designs=("splitwise-hh",)), plan(designs=("splitwise-hh",))
    worse = tuple(replace(f, slowdown=9.0) if f.limit is not None else f for f in found.latency)
    assert any("simulated" in line for line in check(replace(found, latency=worse), of))


def test_the_evidence() -> None:
    found = plan(designs=("splitwise-hh", "baseline-h100"))
    evidence = found.evidence
    assert evidence is not None and evidence.optimal and evidence.gap == 0.0
    assert evidence.lower_bound == pytest.approx(found.cost_usd_per_h)
    assert evidence.simulated >= len(evidence.neighbours) and evidence.runs >= evidence.simulated
    assert "3 independent request sets of 75 s" in evidence.rule
    for near in evidence.neighbours:
        assert near.breaks and near.worst_ratio > 1.0
        assert near.cost_usd_per_h <= found.cost_usd_per_h * (1.0 + 1e-9)
    for pool in found.pools:
        assert pool.binding and (pool.machines > 1 or pool.binding == (ONLY_ONE,))
        assert set(pool.binding) <= {ONLY_ONE, CAPACITY, *(limit.label for limit in setting().slo.limits)}
    assert sum(each.candidates for each in evidence.by_design) >= evidence.simulated - evidence.runs


def test_the_same_question_has_the_same_answer() -> None:
    again = best_plan(load_setting(PlanOptions(**{**SMALL, "designs": ("splitwise-hh",)})))
    assert again == plan(designs=("splitwise-hh",))


def test_another_seed_is_another_set_of_requests() -> None:
    first, second = plan(designs=("splitwise-hh",)), plan(designs=("splitwise-hh",), seed=1)
    assert [f.seconds for f in first.latency] != [f.seconds for f in second.latency]


def test_exhaustive_excludes_nothing_by_cuts_and_agrees() -> None:
    free, exhaustive = plan(designs=("splitwise-hh",)), plan(designs=("splitwise-hh",), exhaustive=True)
    assert exhaustive.evidence is not None and exhaustive.evidence.cut == 0
    assert exhaustive.pools == free.pools
    assert free.evidence is not None and free.evidence.simulated < exhaustive.evidence.simulated


def test_power_and_machines() -> None:
    designs = ("splitwise-hh", "splitwise-hcaphcap", "splitwise-aa")
    by = {o: plan(designs=designs, objective=o) for o in ("cost", "power", "machines")}
    assert by["power"].power_w == min(p.power_w for p in by.values())
    assert by["machines"].machines == min(p.machines for p in by.values())
    assert by["cost"].cost_usd_per_h == min(p.cost_usd_per_h for p in by.values())


def test_two_colocated_machines_win_over_a_prompt_and_a_token_machine_of_the_same_cost() -> None:
    """Though the split pair has more slack; one colocated machine fails."""
    question: dict[str, Any] = {
        "model": "llama-3.1-70b",
        "workload": "conversation",
        "rate_rps": 12.0,
        "limits": {"ttft_p99": "2s", "tbt_p99": "40ms"},
        "machines": ("mi300x-x8",),
        "tensor_parallel": "8",
        "policy": "strict",
        "engine": "vllm",
        "duration_s": 60.0,
        "sets": 2,
    }
    best, alone = (
        best_plan(load_setting(PlanOptions(**question, **designs)), beside=True)
        for designs in ({}, {"designs": ("splitwise-mimi",)})
    )
    assert str(best.cluster) == "Baseline-Mi300x-x8 2" and best.evidence is not None and best.evidence.optimal
    assert [each.cluster.sizes for each in best.evidence.neighbours] == ["1"]
    (split,) = best.alternatives
    assert str(split.cluster) == str(alone.cluster) and split.cost_usd_per_h == best.cost_usd_per_h
    assert (split.cluster.sizes, split.reason, split.basis) == ("1 + 1", "same cost, 1 more role", "simulated")
    assert (alone.worst_slack or 0.0) > (best.worst_slack or 0.0)
    assert best.splitting is not None and best.splitting.split is not None
    assert str(best.splitting.split.cluster) == str(split.cluster)


def test_the_largest_throughput_within_a_cap() -> None:
    found = plan(designs=("baseline-h100",), objective="throughput", rate_rps=None, max_machines=4)
    assert found.machines <= 4
    assert found.evidence is not None
    note = next(text for text in found.warnings if text.startswith("throughput: "))
    assert "the first failure to 1 %" in note and ("verdicts flip up to" in note or "nor does any tried" in note)
    more = plan(designs=("baseline-h100",), objective="throughput", rate_rps=None, max_machines=6)
    assert more.rate_rps > found.rate_rps
    with pytest.raises(InfeasibleError):
        plan(designs=("baseline-h100",), rate_rps=found.rate_rps * 1.25, max_machines=4)


def test_a_throughput_that_is_not_proven_is_not_called_the_largest(monkeypatch: pytest.MonkeyPatch) -> None:
    def up(*_: object) -> None:
        raise TimeIsUp

    of, said = setting(designs=("baseline-h100",), objective="throughput", rate_rps=None, max_machines=2), list[str]()
    monkeypatch.setattr(Rates, "some", up)
    found = best_plan(of, said.append)
    assert any("simulated, best" in line for line in said)
    assert found.evidence is not None and not found.evidence.optimal
    assert subtitle(found).startswith("A plan whose throughput is not proven the largest, for coding")
    assert "largest" not in designs_chart(found, "throughput").title.lower()


def test_headroom_is_simulated() -> None:
    found = plan(designs=("baseline-h100",), headroom=0.5)
    assert found.planned_rate_rps == pytest.approx(22.5)
    assert found.machines == plan(designs=("baseline-h100",), rate_rps=22.5).machines


@pytest.fixture
def trace(tmp_path: Path) -> str:
    rng = np.random.default_rng(5)
    times = np.cumsum(rng.exponential(0.08, 1200))
    prompts, outputs = rng.integers(100, 3000, 1200), rng.integers(1, 60, 1200)
    path = tmp_path / "requests.csv"
    rows = (f"{t:.6f},{p},{o}" for t, p, o in zip(times, prompts, outputs, strict=True))
    path.write_text("arrival_s,prompt_tokens,output_tokens\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return str(path)


def test_a_trace_judges_as_it_is(trace: str) -> None:
    options = {"slo": "p99", "trace": trace, "designs": ("splitwise-hh",), "tensor_parallel": "largest"}
    found = best_plan(load_setting(PlanOptions(**options)))  # type: ignore[arg-type]
    assert found.evidence is not None and "the trace as it is: 1,200 requests" in found.evidence.rule
    assert all(figure.slowdown_range is None for figure in found.latency)
    faster = best_plan(load_setting(PlanOptions(**options, headroom=1.0)))  # type: ignore[arg-type]
    assert faster.machines > found.machines


def test_policies_by_design() -> None:
    of = setting(designs=("splitwise-hh", "baseline-h100"))
    asked = (of.judging.policy, "split", "chunked", "mixed")
    names = [[judge(of, policy=policy).policy_of(d).name for d in of.designs] for policy in asked]
    assert names == [["strict", "chunked"], ["split", "mixed"], ["strict", "chunked"], ["splitwise", "mixed"]]
    published = setting(designs=("splitwise-hh",), assumptions="splitwise-sim", slo="splitwise")
    assert judge(published).policy_of(published.designs[0]).transfer_retry_s == 1.0


def test_the_policy_changes_the_plan() -> None:
    mixed, chunked = plan(designs=("baseline-h100",), policy="mixed"), plan(designs=("baseline-h100",))
    assert [each.evidence and each.evidence.policy for each in (mixed, chunked)] == ["mixed", "chunked"]
    assert [f.seconds for f in mixed.latency] != [f.seconds for f in chunked.latency]


def test_a_time_limit_gives_the_best_so_far_with_its_bound() -> None:
    of = setting(exhaustive=True, slo="splitwise", model="bloom-176b", rate_rps=30.0)
    try:
        with limited(0.5):
            found = best_plan(of)
    except InfeasibleError as error:
        assert "the time limit was reached" in str(error)
        return
    assert found.evidence is not None and not found.evidence.optimal
    assert 0.0 <= found.evidence.gap < 1.0
    assert found.evidence.lower_bound <= found.cost_usd_per_h
    assert any("time limit" in warning for warning in found.warnings)


def test_the_relaxation_of_a_miss_that_was_stopped_early_is_found_by_whole_runs() -> None:
    """The network takes longer than the limit, which no formula knows of; within the limit named there is a plan."""
    asked = {"designs": ("splitwise-hh",), "tensor_parallel": 8, "network": "ethernet-25", "rate_rps": 2.0, "sets": 3}
    asked |= {"duration_s": 60.0, "max_machines": 6}
    with pytest.raises(InfeasibleError, match="at least") as caught:
        api.plan(ttft_p50="130ms", **asked)
    (nearest,) = caught.value.relaxations
    found = re.fullmatch(r"ttft_p50 (\S+) \(Splitwise-HH .*\)", nearest)
    assert found and caught.value.binding == "TTFT P50"
    assert api.plan(ttft_p50=found[1], **asked).evidence


def test_nothing_within_the_caps_names_the_nearest_miss_and_what_would_do() -> None:
    free = plan(designs=("splitwise-hh",))
    with pytest.raises(InfeasibleError) as caught:
        plan(designs=("splitwise-hh",), max_machines=free.machines - 1)
    assert "no plan passes simulation" in str(caught.value) and "the nearest miss is Splitwise-HH" in str(caught.value)
    assert caught.value.binding == f"max_machines {free.machines - 1}"
    assert any(f"max_machines {free.machines} " in text for text in caught.value.relaxations)


def test_what_no_cluster_can_do_is_refused_without_simulating() -> None:
    with pytest.raises(InfeasibleError, match="below the prompt time alone"):
        best_plan(load_setting(PlanOptions(slo="p99", limits={"ttft_p99": "50ms"})))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"confidence": 1.0}, "confidence: must be above 0.5 and below 1, got 1"),
        ({"confidence": 0.3}, "confidence: must be above 0.5 and below 1, got 0.3"),
        ({"cut_margin": 1.0}, "cut_margin: must be above 1"),
        ({"sets": 0}, "sets: must be a whole number of request sets, 1 or more, got 0"),
        ({"sets": 16}, "sets: must be from 1 to 15"),
        ({"policy": "spilt"}, "policy"),
        ({"duration_s": -1.0}, "duration"),
        ({"time_limit_s": 0.0}, "time_limit_s: must be above 0 s"),
    ],
)
def test_bad_options(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        best_plan(load_setting(PlanOptions(**{**SMALL, **fields})))


# --- the judge ---------------------------------------------------------------------------------------------------


def test_early_rejection_agrees_with_whole_runs() -> None:
    of = setting(designs=("splitwise-hh",))
    one: dict[str, Any] = {"batch_tokens": ()}
    early, whole = judge(of, **one), judge(of, cut_margin=1e9, **one)  # beyond any margin nothing is stopped
    for sizes in ((1, 1), (2, 1), (3, 1), (4, 1), (3, 2)):
        candidate = Candidate(of.designs[0], sizes)
        stopped, full = early.judge(candidate), whole.judge(candidate)
        assert stopped.outcome == full.outcome, sizes
        if stopped.early:
            assert full.worst_ratio > early.cut_margin
        assert stopped.worst_ratio <= full.worst_ratio + 1e-9


def test_undecided_candidates_get_more_sets_and_then_do_not_pass() -> None:
    of = setting(designs=("baseline-h100",))
    (pool,) = plan(designs=("baseline-h100",)).pools
    candidate = Candidate(of.designs[0], (pool.machines,), batch_tokens=(pool.batch_tokens or 0,))
    figure = next(f for f in plan(designs=("baseline-h100",)).latency if (f.metric, f.percentile) == ("ttft", 99.0))
    # a limit just above the mean: the bound of the mean is beyond it
    limit = next(x for x in of.slo.limits if x.metric == "ttft")
    tight = SLO("tight", (replace(limit, value=figure.slowdown * 1.0001),))
    verdicts = judge(replace(of, slo=tight))
    found = verdicts.judge(candidate)
    assert verdicts.simulated_runs > 3
    if found.outcome == "undecided":
        assert verdicts.simulated_runs == MOST_SETS and found.worst_ratio > 1.0


def test_an_unstable_cluster_does_not_pass_whatever_its_latencies() -> None:
    of = replace(setting(designs=("splitwise-hh",)), slo=SLO("none", ()))
    found = judge(of).judge(Candidate(of.designs[0], (1, 1)))
    assert found.outcome == "fail" and not found.stable and math.isinf(found.worst_ratio)


def test_what_stays_too_short_to_tell_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its sets are doubled as often as they may be, and then it counts as not shown to pass."""
    monkeypatch.setattr("provisioner.verify.judge.stability", lambda backlogs: (None, "too short to tell"))
    of = replace(setting(designs=("baseline-h100",)), slo=SLO("none", ()))
    asked = judge(of, doublings=2, batch_tokens=())
    found = asked.judge(Candidate(of.designs[0], (12,)))
    assert (found.outcome, found.stable, found.longer, found.passes) == ("undecided", None, 2, False)
    assert asked.simulated_runs == 3 * asked.sets


def test_what_is_measured() -> None:
    of = setting(designs=("splitwise-hh",))
    prepared = judge(of).request_sets(0)
    counted = prepared.requests.counted
    assert measured(prepared, "ttft") == int(counted.sum())
    assert measured(prepared, "tbt") == int((counted & (prepared.requests.output_tokens > 1)).sum())


def test_the_program_of_the_proof_is_written(tmp_path: Path) -> None:
    path = tmp_path / "proof.lp"
    best_plan(load_setting(PlanOptions(**{**SMALL, "designs": ("splitwise-hh",), "write_lp": str(path)})))
    assert "one_design" in path.read_text(encoding="utf-8")


def test_the_percentiles_shown_are_of_the_request_sets_that_decided() -> None:
    """Three sets leave the plan undecided; six decide, and these are shown, as a simulation of six shows them."""
    asked: dict[str, Any] = {"workload": "coding", "rate_rps": 14.0, "slo": "p90", "duration_s": 60.0}
    plan = api.plan(**asked, designs="splitwise-hh", tensor_parallel=8, sets=3)
    assert plan.evidence is not None and plan.evidence.rule.endswith("; this one took 6")
    prompt, token = plan.pools
    cluster: dict[str, Any] = {"prompt_machines": prompt.machines, "token_machines": token.machines}
    cluster |= {"design": "splitwise-hh", "batch_tokens": {"prompt": prompt.batch_tokens}}
    simulated = api.simulate(**asked, **cluster, tensor_parallel=8, sets=6)
    means = {(each.metric, each.percentile): each.slowdown.mean for each in simulated.latency}
    for figure in plan.latency:
        assert figure.slowdown == pytest.approx(means[figure.metric, figure.percentile])


def test_a_time_limit_ends_the_formulas(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that goes on by a second a text, as many designs are looked at as the limit has seconds."""
    of, texts = setting(), list[str]()
    monkeypatch.setattr("provisioner.deadline.monotonic", lambda: float(len(texts)))
    with pytest.raises(InfeasibleError, match=OUT_OF_TIME) as caught, limited(3.0, texts.append) as tell:
        best_plan(of, tell)
    assert texts == [f"formulas: {k} of {len(of.designs)} designs" for k in range(3)]
    assert caught.value.binding == "time_limit_s"


def test_a_time_limit_ends_a_run() -> None:
    """No run goes on after the limit, on any thread; what is known needs none."""
    of = setting(designs=("baseline-h100",))
    _, judge = Verdicts().judge(of, of.traffic.peak_rps)
    candidates = [Candidate(of.designs[0], (n,)) for n in (20, 21)]
    with ending(-math.inf), pytest.raises(TimeIsUp):
        judge(candidates)
    assert not judge.known and not judge.stopped
    assert judge.judge(candidates[0]).passes
    with ending(-math.inf):
        assert judge.judge(candidates[0]).passes
        with pytest.raises(TimeIsUp):
            judge.judge(candidates[1])


def test_loading_and_formulas_show_their_progress() -> None:
    texts: list[str] = []
    api.plan(
        rate_rps=8.0, slo="p90", machines=("dgx-h100", "dgx-a100"), tensor_parallel=8, fast=True, progress=texts.append
    )
    assert "latency curves: 1 of 2 machine types" in texts and any("formulas: 1 of" in text for text in texts)


def test_answers_of_one_token_have_no_tbt(tmp_path: Path) -> None:
    """Formulas and simulation say so; the limit on it is met."""
    trace = tmp_path / "one.csv"
    rows = (f"{0.1 * k},{500 + k % 7},1" for k in range(3000))
    trace.write_text("\n".join(["arrived_at,num_prefill_tokens,num_decode_tokens", *rows]))
    asked: dict[str, Any] = {"workload": str(trace), "rate_rps": 10.0, "slo": "p99", "tensor_parallel": 8}
    for fast in (True, False):
        plan = api.plan(**asked, designs="splitwise-hh", fast=fast)
        tbt = [figure for figure in plan.latency if figure.metric == "tbt"]
        assert all(figure.absent and figure.slack is None for figure in tbt)
        assert str(plan).count("no request has it") == len(tbt) == 3
        assert plan.tightest is not None and plan.tightest.metric != "tbt"
        assert plan.binding == (ONLY_ONE,) and _binds(plan) == "none left"


def test_options_without_effect_are_refused_or_said(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"rate_rps": 20.0, "slo": "p99", "tensor_parallel": 8, "fast": True}
    whole = api.plan(**asked, designs="baseline-h100", network="roce-400")
    split = api.plan(**asked, designs="splitwise-hh", network="roce-400")
    assert [sum("network has no effect" in text for text in plan.warnings) for plan in (whole, split)] == [1, 0]
    with pytest.raises(InputError, match="policy chunked: is of colocated designs, and none is considered"):
        load_setting(PlanOptions(designs=("splitwise-hh",), policy="chunked"))
    with pytest.raises(InputError, match="policy split: is of designs that split the phases"):
        load_setting(PlanOptions(designs=("baseline-h100",), policy="split"))
    for name, value in (("time_unit", "ms"), ("block_tokens", 16), ("failed_rows", "refuse"), ("span_s", (0.0, 60.0))):
        with pytest.raises(InputError, match=f"{name}: is of trace files, and coding is none"):
            load_setting(PlanOptions(**{name: value}))
    mixed = {"design": "baseline-h100", "mixed_machines": 4, "rate_rps": 5.0, "duration_s": 20.0}
    links = api.simulate(**mixed, policy="mixed", share_links=False, max_pending_tokens=100, transfer_retry_s=2.0)
    assert sum("has no effect" in text for text in links.warnings) == 3
