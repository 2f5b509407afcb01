"""Batch work: deadlines, jobs with a window, what a promise costs, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import provisioner
from provisioner.errors import InputError
from provisioner.loading.setting import load_setting
from provisioner.options import PlanOptions
from provisioner.planning.proof import Candidate
from provisioner.report.terminal import render
from provisioner.report.views.plan import document
from provisioner.simulation.requests import RequestSet
from provisioner.simulation.stability import MAX_GROWTH
from provisioner.specs.batch_job import ALLOWED_GROWTH, batch_job
from provisioner.verify.answer import best_plan
from provisioner.verify.judge import Verdicts
from provisioner.verify.request_sets import RequestSets

H100 = {"machines": ("dgx-h100",), "designs": ("baseline-h100",), "tensor_parallel": "largest"}
JOB = {**H100, "slo": "batch", "backlog_requests": 30_000, "within_s": 1800.0, "against": "none"}


def test_the_allowed_growth_is_that_of_a_stable_cluster() -> None:
    assert ALLOWED_GROWTH == MAX_GROWTH


def test_a_job_is_fed_early_enough_for_its_last_requests() -> None:
    job = batch_job(1000, 600.0, 20.0)
    assert job.rate_rps * job.feed_s == pytest.approx(1000)
    assert job.done_s(100.0, ALLOWED_GROWTH, 40.0) <= 600.0  # a delay that grows as far as it may
    assert job.done_s(job.feed_s, 0.5, 40.0) == job.feed_s + 40.0  # all of it was simulated: nothing to add
    assert job.done_s(100.0, -0.2, 40.0) == job.feed_s + 40.0
    tight = batch_job(10, 30.0, 20.0)
    assert 0.0 < tight.feed_s < 10.0


def test_when_a_job_ends_is_when_a_whole_simulation_of_it_ends() -> None:
    """The judge simulates the first 600 s; the job is simulated whole beside it, in another way of arriving."""
    setting = load_setting(PlanOptions(**JOB))
    _, judge = Verdicts().judge(setting, setting.traffic.peak_rps)
    assert setting.job is not None and setting.job.feed_s > 1500.0
    (design,) = setting.designs
    checked = 0
    for machines in (2, 3, 4, 5, 6):
        verdict = judge.judge(Candidate(design, (machines,)))
        if not verdict.stable:
            continue
        whole = provisioner.simulate(
            pools=(f"mixed:dgx-h100={machines}",),
            workload="coding",
            rate_rps=setting.job.rate_rps,
            duration_s=setting.job.feed_s,
            cv=0.0,
            batch_tokens=verdict.batch_tokens[0],
            sets=1,
            warm_up=0.0,
            seed=7,
        )
        assert whole.stable
        e2e = next(each for each in whole.latency if (each.metric, each.percentile) == ("e2e", 99.0))
        ends_s = setting.job.feed_s + e2e.seconds.mean
        assert verdict.worst_ratio * setting.job.within_s == pytest.approx(ends_s, rel=0.05)
        checked += 1
    assert checked >= 2


def test_a_job_that_is_too_short_to_tell_does_not_pass_until_its_end_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provisioner.verify.judge.stability", lambda backlogs: (None, "too short to tell"))
    setting = load_setting(PlanOptions(**JOB))
    candidate = Candidate(setting.designs[0], (8,))
    short = replace(Verdicts().judge(setting, setting.traffic.peak_rps)[1], doublings=0).judge(candidate)
    assert (short.outcome, short.stable, short.passes) == ("undecided", None, False)
    sets, judge = Verdicts().judge(setting, setting.traffic.peak_rps)
    whole = judge.judge(candidate)
    requests = sets.requests(0, whole.longer)
    assert whole.passes and isinstance(requests, RequestSet)
    assert requests.requests == pytest.approx(30_000, abs=1) and judge.doublings == whole.longer > 0


def test_a_small_job_is_simulated_whole() -> None:
    setting = load_setting(PlanOptions(**{**JOB, "backlog_requests": 500, "within_s": 300.0}))
    sets, judge = Verdicts().judge(setting, setting.traffic.peak_rps)
    requests = sets.requests(0)
    assert isinstance(requests, RequestSet)
    assert requests.requests == pytest.approx(500, abs=1)
    assert np.allclose(np.diff(requests.arrival_s), 1.0 / setting.job.rate_rps)  # type: ignore[union-attr]
    (design,) = setting.designs
    candidate = Candidate(design, (2,))
    last_s = max(float(run.latencies.last_s.max()) for run in judge.runs(candidate))
    assert judge.judge(candidate).worst_ratio * 300.0 == pytest.approx(last_s, rel=1e-9)


def test_the_cheapest_cluster_that_ends_in_time_by_trying_all() -> None:
    plan = provisioner.plan(**JOB)
    setting = load_setting(PlanOptions(**JOB))
    _, judge = Verdicts().judge(setting, setting.traffic.peak_rps)
    passes = [n for n in range(1, 9) if judge.judge(Candidate(setting.designs[0], (n,))).passes]
    assert plan.machines == min(passes)
    assert plan.batch is not None and plan.batch.done_s is not None
    assert plan.batch.feed_s < plan.batch.done_s <= 1800.0
    assert plan.evidence is not None and "keeps up and the last request ends in time" in plan.evidence.rule
    shown = render(document(plan))
    assert "30,000 requests of coding on llama2-70b within 30 min" in shown
    assert "the last ends after" in shown
    command = plan.command
    assert "--backlog 30000" in command and "--within 1800s" in command and "--rate" not in command
    values = json.loads(json.dumps(plan.to_dict()))
    assert values["batch"]["requests"] == 30_000 and values["batch"]["done_s"] == plan.batch.done_s


def test_more_time_takes_fewer_machines_and_headroom_more() -> None:
    fast = {**JOB, "fast": True}
    machines = [provisioner.plan(**{**fast, "within_s": hours * 3600.0}).machines for hours in (0.25, 0.5, 1.0)]
    assert machines[0] > machines[1] > machines[2]
    more = provisioner.plan(**fast, headroom=0.5)
    assert more.machines > provisioner.plan(**fast).machines
    assert more.batch is not None and more.batch.requests == 45_000 and more.batch.done_s is None
    assert more.rate_rps * 1.5 == pytest.approx(more.planned_rate_rps)


def test_a_deadline_is_a_limit_on_the_end_of_99_percent() -> None:
    asked = {**H100, "slo": "batch", "rate_rps": 20.0, "against": "none"}
    by_deadline = provisioner.plan(**asked, deadline_s=30.0)
    by_limit = provisioner.plan(**asked, limits={"e2e_p99": "30s"})
    assert by_deadline.pools == by_limit.pools and by_deadline.slo == by_limit.slo == "E2E P99 <= 30 s"
    free = provisioner.plan(**asked)
    assert free.machines < by_deadline.machines


def test_sets_are_long_enough_for_a_delay_to_grow_beyond_the_limit() -> None:
    def set_s(**fields: Any) -> float:
        setting = load_setting(PlanOptions(**{**H100, "rate_rps": 20.0, **fields}))
        return RequestSets(setting, 20.0).set_s

    assert set_s(slo="p99") == 120.0 and set_s(slo="p99", duration_s=300.0) == 300.0
    assert set_s(slo="batch", deadline_s=60.0) == 180.0
    assert set_s(slo="batch", deadline_s=3600.0) == 600.0
    assert set_s(slo="batch") == 600.0 and set_s(slo="batch", sets=2) == 240.0
    slow = load_setting(PlanOptions(**{**H100, "workload": "agents", "slo": "p99"}))
    c = slow.traffic.classes
    alone_s = float(c.weight @ slow.reference.e2e_s(c.prompt_tokens, c.output_tokens))
    assert alone_s > 20.0
    assert set_s(workload="agents", slo="p99") == pytest.approx(7.0 * alone_s)


def test_what_a_promise_costs_is_the_plan_within_it() -> None:
    asked = {**H100, "rate_rps": 20.0, "fast": True}
    free = provisioner.plan(**asked, slo="batch")
    kept = provisioner.plan(**asked, slo="splitwise")
    assert kept.promise is None and free.promise is not None
    assert free.promise.cost_usd_per_h == kept.cost_usd_per_h > free.cost_usd_per_h
    share = kept.cost_usd_per_h / free.cost_usd_per_h - 1.0
    assert f"{100 * share:.1f} % more money" in " ".join(render(document(free)).split())
    assert provisioner.plan(**asked, slo="batch", against="none").promise is None
    p90 = provisioner.plan(**asked, slo="batch", against="p90").promise
    limited = provisioner.plan(**asked, slo="batch", limits={"ttft_p99": "2s"})
    assert limited.promise is None
    assert p90 is not None and p90.slo == "p90" and (p90.cost_usd_per_h or 0.0) <= kept.cost_usd_per_h
    impossible = provisioner.plan(**H100, model="llama-3.1-70b", dtype="fp8", slo="batch", fast=True, rate_rps=5.0)
    assert impossible.promise is not None and "name another with reference" in impossible.promise.reason
    # inside a study, where each plan would be planned twice, nothing is set beside
    assert best_plan(load_setting(PlanOptions(slo="batch", **asked))).promise is None  # type: ignore[arg-type]


@pytest.mark.parametrize("fields", [{"rate_rps": 10.0}, {"backlog_requests": 30_000, "within_s": 1800.0}])
def test_a_promise_is_for_the_same_load_whatever_the_factor_on_rates(fields: dict[str, Any]) -> None:
    asked = {**H100, "fast": True, "slo": "batch", "scale": {"rate": 2.0}, **fields}
    found = provisioner.plan(**asked)
    assert found.promise is not None and found.promise.rate_rps == pytest.approx(found.rate_rps)
    alone = provisioner.plan(**H100, fast=True, slo="splitwise", rate_rps=found.rate_rps)
    assert found.promise.machines == alone.machines


def test_a_promise_costs_throughput_within_the_same_caps() -> None:
    asked = {**H100, "fast": True, "objective": "throughput", "max_machines": 4}
    free = provisioner.plan(**asked, slo="batch")
    kept = provisioner.plan(**asked, slo="splitwise")
    assert free.promise is not None and free.promise.rate_rps == kept.rate_rps < free.rate_rps
    assert "of the throughput" in " ".join(render(document(free)).split())


def test_tokens_for_a_dollar_and_a_kwh() -> None:
    plan = provisioner.plan(**H100, rate_rps=10.0, fast=True, slo="batch", against="none")
    classes = load_setting(PlanOptions(**H100, rate_rps=10.0)).traffic.classes  # type: ignore[arg-type]
    tokens = 10.0 * 3600.0 * float(classes.weight @ (classes.prompt_tokens + classes.output_tokens))
    assert plan.tokens_per_usd == pytest.approx(tokens / plan.cost_usd_per_h)
    assert plan.tokens_per_kwh == pytest.approx(tokens / (plan.power_w / 1000.0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"within_s": None}, "backlog_requests: in what time? give within_s"),
        ({"backlog_requests": None}, "within_s: is the time for a backlog_requests"),
        (
            {"slo": "p99"},
            "backlog_requests: requests wait for hours, so that limits on latency (TTFT P99 <= 6x) mean nothing",
        ),
        ({"limits": {"ttft_p99": "2s"}}, "limits on latency (TTFT P99 <= 2 s) mean nothing"),
        ({"rate_rps": 5.0}, "leave out rate_rps"),
        ({"cv": 2.0}, "leave out cv"),
        ({"objective": "throughput"}, "backlog_requests: has its throughput"),
        ({"within_s": 5.0}, "within_s: must be longer than its longest request takes alone"),
        ({"backlog_requests": 0}, "backlog_requests: must be a whole number of requests, 1 or more, got 0"),
        ({"deadline_s": -1.0, "backlog_requests": None, "within_s": None}, "deadline_s: must be above 0 s, got -1"),
        (
            {"deadline_s": 9.0, "limits": {"e2e_p99": "9s"}, "backlog_requests": None, "within_s": None},
            "deadline_s: is a limit on E2E P99, and so is e2e_p99",
        ),
        ({"against": "p9", "backlog_requests": None, "within_s": None}, "unknown SLO 'p9'"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as error:
        provisioner.plan(replace(PlanOptions(**JOB), fast=True, **changes))  # type: ignore[arg-type]
    assert message in str(error.value)


def test_a_backlog_has_no_capacity() -> None:
    asked = {name: value for name, value in JOB.items() if name not in ("machines", "against")}
    with pytest.raises(InputError, match="backlog_requests: is no option of this question"):
        provisioner.capacity(mixed=4, **asked)
