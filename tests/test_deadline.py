"""Time limits: on a clock of the test's own, little more is done once the limit is reached."""

import math
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import numba
import pytest

from provisioner import api
from provisioner.cli import main
from provisioner.deadline import OUT_OF_TIME, TimeIsUp, check_room, check_time, ending, in_time, limited
from provisioner.errors import InfeasibleError
from provisioner.loading.setting import load_setting
from provisioner.options import CapacityOptions, PlanOptions
from provisioner.planning import search
from provisioner.planning.proof import Candidate, _ProofSearch
from provisioner.simulation import compilation
from provisioner.simulation.compilation import compile_entries, is_compiled
from provisioner.simulation.run import compile_simulator
from provisioner.specs.catalog import Catalog
from provisioner.studies import capacity
from provisioner.verify.answer import promise_of, proof_of
from provisioner.verify.judge import Verdicts
from provisioner.verify.splitting import splitting
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


class WorkClock:
    """A clock on which every function called, of Python or C, takes 1 ms; it keeps the most work between two looks.

    Inside a block of ``with`` only, and in its thread.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = self.looked = self.most = 0
        monkeypatch.setattr("provisioner.deadline.monotonic", self.look)

    def look(self) -> float:
        self.most, self.looked = max(self.most, self.calls - self.looked), self.calls
        return 1e-3 * self.calls

    def __enter__(self) -> Self:
        def seen(_frame: Any, event: str, _argument: Any) -> None:
            self.calls += event in ("call", "c_call")

        self.before = sys.getprofile()
        sys.setprofile(seen)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(self.before)


WORK: dict[str, Callable[[float], Any]] = {
    "formulas": lambda limit_s: api.plan(**ASKED, rate_rps=5000.0, fast=True, time_limit_s=limit_s),
    "shared roles": lambda limit_s: api.plan(**RATE, stock={"dgx-h100": 1}, fast=True, time_limit_s=limit_s),
    "frontier by the formulas": lambda limit_s: api.pareto(**RATE, fast=True, time_limit_s=limit_s),
    "proof": lambda limit_s: api.plan(**RATE, designs=("splitwise-hh", "baseline-h100"), time_limit_s=limit_s),
}
_BETWEEN = 80_000  # calls between two looks, at most: some 50 ms
_AFTER = 120_000  # after the limit, with the answer


@pytest.mark.parametrize("command", WORK)
def test_little_work_is_done_between_looks_and_after_the_limit(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compile_simulator()
    with WorkClock(monkeypatch) as whole:  # with what is imported and cached once
        WORK[command](1e7)
    for share in (0.3, 0.8):
        with WorkClock(monkeypatch) as work, suppress(InfeasibleError):
            WORK[command](share * 1e-3 * whole.calls)
        assert work.most < _BETWEEN and work.calls < share * whole.calls + _AFTER


class Clock:
    """A clock that stands still until some work is done for the nth time; then a limit of 50 s is over."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, nth: int = 1) -> None:
        self.done, work = 0, getattr(owner, name)

        def counted(*arguments: Any, **keywords: Any) -> Any:
            self.done += 1
            return work(*arguments, **keywords)

        monkeypatch.setattr(owner, name, counted)
        for module in ("deadline", "studies.compare", "verify.answer"):
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


def test_work_ends_before_the_limit_to_leave_time_for_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit_s, last_s, over_s in ((50.0, 49.5, 49.7), (1.0, 0.85, 0.95)):
        monkeypatch.setattr("provisioner.deadline.monotonic", iter((0.0, last_s, over_s)).__next__)
        with pytest.raises(InfeasibleError), limited(limit_s):
            check_time()
            with pytest.raises(TimeIsUp):
                check_time()
            raise TimeIsUp


def test_a_long_loop_looks_at_the_limit_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []
    monkeypatch.setattr("provisioner.deadline.monotonic", lambda: float(len(done)))
    with ending(5_000.0), pytest.raises(TimeIsUp):
        done.extend(in_time(range(100_000)))
    assert 5_000 <= len(done) < 10_000
    with ending(5_000.0, anew=True), pytest.raises(TimeIsUp):
        done.clear()
        check_room(5_001.0)


class Passes:
    """A compiler's clock that is over at the nth look, with the first looks a second apart."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, nth: float) -> None:
        self.nth, self.looks = nth, 0
        for module in ("deadline", "simulation.compilation"):
            monkeypatch.setattr(f"provisioner.{module}.monotonic", self.look)

    def look(self) -> float:
        self.looks += 1
        return 1e9 if self.looks > self.nth else float(self.looks)


def test_the_compiler_is_interrupted_between_its_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever pass is the last; the function is compiled by the next call, which goes on where that one ended."""
    inner = numba.njit(lambda count: count + 1)
    loop = numba.njit(lambda address, count: inner(count) + address)
    monkeypatch.setattr(compilation, "LOOP", {"advance": loop})
    interrupted = 0
    while not loop.signatures:
        Passes(monkeypatch, 1 + 4 * interrupted)
        with ending(1e8), suppress(TimeIsUp):
            compile_entries()
        interrupted += not loop.signatures
    assert interrupted > 5 and is_compiled()
    assert loop(3, 1) == 5


def test_the_last_pass_of_the_compiler_begins_only_if_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one call of LLVM; the answer names what the time went to."""
    began: list[float] = []

    def compiled(clock: Passes) -> Any:
        loop = numba.njit(lambda address, count: count)
        monkeypatch.setattr(compilation, "LOOP", {"advance": loop})
        with monkeypatch.context() as patched:
            if not began:
                patched.setattr(compilation, "check_room", lambda takes_s: began.extend((clock.looks, takes_s)))
            compile_entries()
        return loop

    assert compiled(Passes(monkeypatch, math.inf)).signatures
    began_s, takes_s = began
    assert began_s / 10.0 < takes_s < began_s / 5.0
    clock = Passes(monkeypatch, math.inf)
    limit_s = began_s + takes_s - 1.0
    with pytest.raises(InfeasibleError, match="while the simulator was compiled") as caught, limited(limit_s):
        compiled(clock)
    assert caught.value.relaxations == ("a longer time_limit_s, this once",)
    assert clock.looks < began_s + takes_s


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
        assert [run.status for run in judge.observations(known, 2)] == ["finished"] * 2
    assert not Verdicts().judge(of, 30.0)[1].passing


def test_a_plan_that_time_ends_is_the_best_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Formulas predict its latency, and it is checked, although the time is over."""
    Clock(monkeypatch, _ProofSearch, "_from_above")
    plan = api.plan(**ASKED, rate_rps=20.0, designs=("splitwise-hh", "baseline-h100"), time_limit_s=50.0)
    assert plan.evidence is not None and not plan.evidence.optimal and plan.latency[0].predicted_seconds
    assert any("the time limit was reached" in text for text in plan.warnings)
    assert not any("not confirmed" in text for text in plan.warnings)


@pytest.mark.parametrize("writing_s", [0.2, -1.0])
def test_a_program_that_time_ends_is_written_only_if_it_is_small(
    writing_s: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("provisioner.verify.answer._WRITING_S", writing_s)
    Clock(monkeypatch, _ProofSearch, "_from_above")
    path = tmp_path / "proof.lp"
    plan = api.plan(**RATE, designs=("baseline-h100",), time_limit_s=50.0, write_lp=str(path))
    assert path.exists() == (writing_s > 0.0)
    assert path.exists() != any("is not written" in text for text in plan.warnings)


def test_the_other_kind_is_not_compared_if_time_ends_its_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {**ASKED, **SHORT, "designs": ("splitwise-hh", "baseline-h100"), "policy": "strict", "rate_rps": 20.0}
    proven = proof_of(load_setting(PlanOptions.of(**asked)))
    Clock(monkeypatch, _ProofSearch, "_from_above")
    with ending(50.0), pytest.raises(TimeIsUp):
        splitting(proven)


def test_a_promise_that_time_ends_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    of = load_setting(PlanOptions.of(**RATE, designs=("baseline-h100",)))
    Clock(monkeypatch, _ProofSearch, "_from_above")
    with ending(50.0):
        promise = promise_of("p99", lambda: of)
    assert OUT_OF_TIME in promise.reason and not promise.pools


def test_a_throughput_that_time_ends_is_that_of_a_cluster_that_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch, Rates, "some")
    plan = api.plan(**ASKED, **SHORT, objective="throughput", max_machines=2, time_limit_s=50.0)
    assert plan.machines <= 2 and plan.evidence is not None and not plan.evidence.optimal
    assert any("the time limit was reached" in text for text in plan.warnings)


def test_the_clock_of_the_command_line_starts_with_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["plan", "--slo", "p99", "--tp", "8", "--rate", "20", "--fast", "--time-limit", "1h"]
    assert main(arguments) == 0
    monkeypatch.setattr("provisioner.cli.run.LOADED_S", -1e9)
    monkeypatch.setattr(sys, "argv", ["provision", *arguments])
    assert main() == 3
    assert main(arguments) == 0


def test_capacity_within_a_limit_has_the_additions_that_were_found(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch, capacity, "_addition")
    found = api.capacity(CapacityOptions.of(**ASKED, **SHORT, mixed=2, to=(30.0,), time_limit_s=50.0))
    assert found.rate_rps > 0.0 and [each.reason for each in found.additions] == [OUT_OF_TIME]
