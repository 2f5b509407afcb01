"""The starts of request sets that show what surely fails: their time, and that they exclude nothing that passes."""

from itertools import product
from typing import Any

import numpy as np
import pytest

from provisioner.loading.setting import load_setting
from provisioner.options import PlanOptions
from provisioner.planning.proof import Candidate
from provisioner.planning.setting import Setting
from provisioner.simulation.run import Run, run
from provisioner.verify import judge, request_sets
from provisioner.verify.answer import best_plan
from provisioner.verify.judge import SimulationJudge, Verdicts
from provisioner.verify.request_sets import RequestSets

ASKED: dict[str, Any] = {"slo": "p99", "tensor_parallel": "8", "batch_tokens": "own", "designs": ("splitwise-hh",)}


def setting(**fields: Any) -> Setting:
    return load_setting(PlanOptions(**{**ASKED, **fields}))


def judge_of(asked: Setting) -> SimulationJudge:
    return Verdicts().judge(asked, asked.traffic.peak_rps)[1]


@pytest.mark.parametrize(
    ("rate_rps", "cv", "expected_s"),
    [(70.0, 1.0, None), (399.0, 1.0, None), (400.0, 1.0, 60.0), (1000.0, 1.0, 24.0), (1000.0, 2.0, 60.0)],
)
def test_a_start_has_the_requests_of_200_a_second(rate_rps: float, cv: float, expected_s: float | None) -> None:
    """More of them by the variance of the work that arrives, (1 + CV^2) / 2."""
    sets = RequestSets(setting(rate_rps=rate_rps, cv=cv), rate_rps)
    assert sets.screening_s == (expected_s and pytest.approx(expected_s))
    assert sets.set_s == 120.0


def test_a_start_has_the_time_that_growth_takes() -> None:
    sets = RequestSets(setting(rate_rps=20_000.0), 20_000.0)
    classes = sets.setting.traffic.classes
    alone_s = classes.weight @ sets.setting.reference.e2e_s(classes.prompt_tokens, classes.output_tokens)
    assert sets.screening_s == pytest.approx(7.0 * alone_s)
    limited = setting(rate_rps=5000.0, slo="batch", limits={"e2e_p99": "15s"})
    assert RequestSets(limited, 5000.0).screening_s == 45.0


def test_a_start_is_that_of_the_set() -> None:
    sets = RequestSets(setting(rate_rps=1000.0, duration_s=20.0), 1000.0)
    assert sets.screening_s is None  # requests take as long alone
    sets = RequestSets(setting(rate_rps=1000.0), 1000.0)
    start, whole = sets.requests(3, -1), sets.requests(3)
    assert start.requests < whole.requests / 4
    for name in ("arrival_s", "prompt_tokens", "output_tokens"):
        assert np.array_equal(getattr(start, name), getattr(whole, name)[: start.requests])


def test_what_starts_exclude_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every size about the border, at the rate from which on starts have only 2,400 requests."""
    monkeypatch.setattr(request_sets, "_SCREENING_RPS", 20.0)
    asked = setting(rate_rps=60.0)
    judging, excluded, sizes = judge_of(asked), 0, product(range(9, 17), range(1, 4))
    for each in sizes:
        candidate = Candidate(asked.designs[0], each)
        found = judging.by_itself(candidate)
        excluded += found.longer < 0
        if found.longer < 0:
            assert found.outcome == "fail" and not judging._simulated(candidate, 0).passes, each
    assert 6 < excluded < 24


def test_starts_change_no_answer_and_save_work(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answers, events = setting(rate_rps=60.0, duration_s=300.0), [], []

    def counted(*given: Any, **more: Any) -> Run:
        ended = run(*given, **more)
        events[-1] += int(ended.clock["events"])
        return ended

    monkeypatch.setattr(judge, "run", counted)
    for rate_rps in (1e9, 10.0):
        monkeypatch.setattr(request_sets, "_SCREENING_RPS", rate_rps)
        assert judge_of(asked).screens == (rate_rps == 10.0)
        events.append(0)
        plan = best_plan(asked)
        assert plan.evidence is not None
        answers.append((plan.pools, plan.latency, plan.evidence.optimal))
    assert answers[0] == answers[1]
    assert events[1] < events[0]


def test_few_requests_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    sets = RequestSets(setting(rate_rps=10.0), 10.0)
    first = sets(0, 0).requests.requests
    monkeypatch.setattr(request_sets, "_MOST_KEPT", 3 * first)
    assert [sets(0, longer).requests.requests >= 2**longer * 0.9 * first for longer in (0, 1, 2)] == [True] * 3
    assert sets(0, 0) is sets(0, 0) and sets(0, 2) is not sets(0, 2)
