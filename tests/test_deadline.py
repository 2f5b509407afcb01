"""Time limits: on a clock of the test's own, nothing more is begun once the limit is reached."""

import sys
from collections.abc import Callable
from typing import Any

import pytest

from provisioner import api
from provisioner.cli import main
from provisioner.deadline import OUT_OF_TIME, limited
from provisioner.errors import InfeasibleError
from provisioner.loading.setting import load_setting
from provisioner.options import CapacityOptions, PlanOptions
from provisioner.planning import search
from provisioner.planning.proof import Candidate, _ProofSearch
from provisioner.specs.catalog import Catalog
from provisioner.verify.judge import SimulationJudge, Verdicts
from provisioner.verify.throughput import Rates

pytestmark = pytest.mark.fast

ASKED: dict[str, Any] = {"slo": "p99", "tensor_parallel": 8}
RATE: dict[str, Any] = {**ASKED, "rate_rps": 20.0}
COMMANDS: dict[str, Callable[[], Any]] = {
    "plan": lambda: api.plan(**RATE, time_limit_s=50.0),
    "plan of a trace of one rate": lambda: api.plan(**ASKED, workload="conversation", time_limit_s=50.0),
    "by the formulas": lambda: api.plan(**RATE, fast=True, time_limit_s=50.0),
    "throughput": lambda: api.plan(**ASKED, objective="throughput", max_machines=6, time_limit_s=50.0),
    "throughput by the formulas": lambda: api.plan(
        **ASKED, objective="throughput", max_machines=6, fast=True, time_limit_s=50.0
    ),
    "pareto": lambda: api.pareto(**RATE, time_limit_s=50.0),
    "frontier by the formulas": lambda: api.pareto(**RATE, fast=True, time_limit_s=50.0),
    "sensitivity": lambda: api.sensitivity(**RATE, fast=True, time_limit_s=50.0),
}


class Clock:
    """A clock that stands still until some work is done for the nth time; then a limit of 50 s is over."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, nth: int = 1) -> None:
        self.done, work = 0, getattr(owner, name)

        def counted(*arguments: Any, **keywords: Any) -> Any:
            self.done += 1
            return work(*arguments, **keywords)

        monkeypatch.setattr(owner, name, counted)
        for module in ("deadline", "studies.compare"):
            monkeypatch.setattr(f"provisioner.{module}.monotonic", lambda: 100.0 if self.done >= nth else 0.0)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_formulas_begin_after_the_limit(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, search, "candidates")
    with pytest.raises(InfeasibleError, match=OUT_OF_TIME) as caught:
        COMMANDS[command]()
    assert clock.done <= 1 and caught.value.binding == "time_limit_s"


def test_every_design_has_its_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A comparison has a row for each design; those after the limit are not begun."""
    clock = Clock(monkeypatch, search, "candidates", nth=2)
    found = api.compare(**RATE, fast=True, time_limit_s=50.0)
    reasons = [design.reason for design in found.designs]
    assert clock.done == 2 and len(reasons) > 3 and reasons.count(OUT_OF_TIME) == len(reasons) - 1


def test_specs_are_loaded_within_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provisioner.deadline.monotonic", iter((0.0, 0.0, *[100.0] * 9)).__next__)
    with pytest.raises(InfeasibleError, match=OUT_OF_TIME), limited(50.0):
        _ = Catalog().machines


SHORT: dict[str, Any] = {"designs": "baseline-h100", "sets": 2, "duration_s": 20.0, "workload": "conversation"}


def test_what_passed_is_shown_without_another_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs that judged the last cluster to pass are those of the report, so that it takes no more time."""
    of = load_setting(PlanOptions.of(**ASKED, **SHORT, rate_rps=30.0))
    with limited(1e9):
        _, judge = Verdicts().judge(of, 30.0)
        known = Candidate(of.designs[0], (9,))
        assert judge.judge(known).passes
        monkeypatch.setattr("provisioner.verify.judge.run", None)
        assert [run.status for run in judge.runs(known, 2)] == ["finished"] * 2
    assert not Verdicts().judge(of, 30.0)[1].passing


def test_a_plan_that_time_ends_is_the_best_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Formulas predict its latency, and it is checked, although the time is over."""
    Clock(monkeypatch, _ProofSearch, "_from_above")
    plan = api.plan(**ASKED, rate_rps=20.0, designs=("splitwise-hh", "baseline-h100"), time_limit_s=50.0)
    assert plan.evidence is not None and not plan.evidence.optimal and plan.latency[0].predicted_seconds
    assert any("the time limit was reached" in text for text in plan.warnings)
    assert not any("not confirmed" in text for text in plan.warnings)


def test_a_throughput_that_time_ends_is_that_of_a_cluster_that_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch, Rates, "some")
    plan = api.plan(**ASKED, **SHORT, objective="throughput", max_machines=1, time_limit_s=50.0)
    assert plan.machines == 1 and plan.evidence is not None and not plan.evidence.optimal
    assert any("the time limit was reached" in text for text in plan.warnings)


def test_the_clock_of_the_command_line_starts_with_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["plan", "--slo", "p99", "--tp", "8", "--rate", "20", "--fast", "--time-limit", "1h"]
    assert main(arguments) == 0
    monkeypatch.setattr("provisioner.cli.run.LOADED_S", -1e9)
    monkeypatch.setattr(sys, "argv", ["provision", *arguments])
    assert main() == 3
    assert main(arguments) == 0


def test_capacity_within_a_limit_has_the_additions_that_were_found(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch, SimulationJudge, "runs")
    found = api.capacity(CapacityOptions.of(**ASKED, **SHORT, mixed=1, to=(30.0,), time_limit_s=50.0))
    assert found.rate_rps > 0.0 and [each.reason for each in found.additions] == [OUT_OF_TIME]
