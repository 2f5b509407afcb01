"""The program solved: against trying every choice, and what happens at its edges."""

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import highspy
import numpy as np
import pulp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioner.deadline import TimeIsUp, ending
from provisioner.errors import InputError, ProvisionerError, UnknownNameError
from provisioner.planning.formulation import CRITERIA, Caps, Criterion, Parameters, Prices, build
from provisioner.planning.program import Program
from provisioner.planning.solver import (
    Engine,
    Highs,
    ThroughPulp,
    Values,
    choose,
    read,
    solve,
    solver,
    write_program,
)
from provisioner.specs.criteria import OF_CLUSTERS, order
from tests.planning.instances import (
    MACHINES,
    allowed,
    brute_force,
    every_choice,
    instances,
    option,
    parts,
    pool,
    totals,
    two_candidates,
)

CRITERION = st.sampled_from(CRITERIA)


@settings(max_examples=150, deadline=None)
@given(instances(), CRITERION)
def test_the_program_equals_brute_force(parameters: Parameters, objective: Criterion) -> None:
    expected = brute_force(parameters, objective)
    solved = solve(parameters, objective)
    if expected is None:
        assert solved is None
        return
    assert solved is not None
    choice, found = solved
    assert tuple(found) == order(objective)
    assert tuple(found.values()) == pytest.approx(expected, rel=1e-9)
    assert allowed(parameters, choice.design, choice.sizes)
    assert totals(parameters, choice.design, choice.sizes) == pytest.approx(found)


@pytest.mark.parametrize("name", [n for n in pulp.listSolvers(onlyAvailable=True) if n != "HiGHS"])
@settings(max_examples=12, deadline=None)
@given(instances(), CRITERION)
def test_another_solver_gives_the_same_answer(name: str, parameters: Parameters, objective: Criterion) -> None:
    mine, theirs = solve(parameters, objective), solve(parameters, objective, name)
    assert (mine is None) == (theirs is None)
    if mine is not None and theirs is not None:
        assert mine[1] == pytest.approx(theirs[1], rel=1e-9)


def of(cost: dict[str, float], power: dict[str, float], *designs: tuple[tuple[str, int], ...]) -> Parameters:
    """Designs whose pools have one size each: (machine, size) pairs."""
    by_name = {m.name: m for m in MACHINES}
    roles = ("prompt", "token")
    options = [
        option(f"design {d}", *(pool(role, by_name[name], [n]) for role, (name, n) in zip(roles, pools, strict=True)))
        for d, pools in enumerate(designs)
    ]
    return Parameters(tuple(options), Prices(cost, power), Caps())


def test_equal_cost_is_decided_by_power_and_equal_power_by_machines() -> None:
    """Among designs alike in roles, machine types and degrees of tensor parallelism."""
    cost, power = {"a": 2.0, "b": 1.0, "c": 3.0}, {"a": 30.0, "b": 20.0, "c": 40.0}
    parameters = of(cost, power, (("a", 1), ("b", 2)), (("b", 2), ("a", 1)), (("c", 1), ("b", 1)))
    solved = solve(parameters, "cost")  # all cost 4; power 70, 70, 60
    assert solved is not None and solved[0].design == 2
    assert solved[1] == {"cost": 4.0, "complexity": 221, "power": 60.0, "machines": 2}
    same_power = of(cost, {"a": 40.0, "b": 20.0, "c": 60.0}, (("a", 1), ("b", 2)), (("c", 1), ("b", 1)))
    solved = solve(same_power, "power")  # both draw 80 and cost 4
    assert solved is not None and solved[0].design == 1


def test_the_simplest_wins_a_tie_before_power_and_machines() -> None:
    """All cost 4. Fewer roles first, then fewer types, then fewer degrees, though each simpler one draws more power."""
    a, b, _ = MACHINES
    designs = (
        option("two types", pool("prompt", a, [1]), pool("token", b, [2])),
        option("two degrees", pool("prompt", a, [1]), pool("token", a, [1], tensor_parallel=4)),
        option("split", pool("prompt", b, [2]), pool("token", b, [2])),
        option("two types colocated", pool("mixed", a, [1], part=1), pool("mixed", b, [2], part=2)),
        option("colocated", pool("mixed", b, [4])),
    )
    prices = Prices({"a": 2.0, "b": 1.0}, {"a": 10.0, "b": 20.0})
    simplest_last = [parts(each.design) for each in designs]
    assert simplest_last == [(2, 2, 1), (2, 1, 2), (2, 1, 1), (1, 2, 1), (1, 1, 1)]
    for last in range(len(designs)):
        solved = solve(Parameters(designs[: last + 1], prices, Caps()), "cost")
        assert solved is not None and solved[0].design == last
    larger = option("colocated", pool("mixed", b, [5]))
    solved = solve(Parameters((designs[0], larger), prices, Caps()), "cost")
    assert solved is not None and solved[0].design == 0, "nothing is paid for simplicity"


@settings(max_examples=40, deadline=None)
@given(instances(), CRITERION)
def test_of_all_three_criteria_the_simplest_comes_last(parameters: Parameters, objective: Criterion) -> None:
    """As a frontier has it: complexity decides among what is equal in cost, power and machines."""
    ties = (*OF_CLUSTERS, "complexity")
    found = [totals(parameters, d, sizes) for d, sizes in every_choice(parameters)]
    expected = min((tuple(each[name] for name in order(objective, ties)) for each in found), default=None)
    solved = solve(parameters, objective, ties=ties)
    assert (solved is None) == (expected is None)
    if solved is not None:
        assert tuple(solved[1].values()) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("objective", CRITERIA)
def test_a_cap_equal_to_the_optimum_is_met(objective: Criterion) -> None:
    # 0.1 + 0.2 is above 0.3 in floating point: three machines of 0.1 must fit a cap of 0.3.
    for cost in (0.1, 1.1, 31.92):
        free = of({"a": cost, "b": cost, "c": 1.0}, {"a": 0.7, "b": 0.1, "c": 1.0}, (("a", 1), ("b", 2)))
        solved = solve(free, objective)
        assert solved is not None
        best = solved[1]
        exact = Caps(cost * 3, 0.7 + 0.1 * 2, 3, {"a": 1, "b": 2})
        assert solve(replace(free, caps=exact), objective) == solved
        below = {
            "cost": Caps(best["cost"] * 0.999),
            "power": Caps(None, best["power"] * 0.999),
            "machines": Caps(None, None, 2),
        }
        assert solve(replace(free, caps=below[objective]), objective) is None


def test_no_choice_is_none() -> None:
    assert solve(replace(two_candidates(), caps=Caps(machines=1)), "cost") is None


def test_the_gap_asked_for_is_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {}
    engine = Highs()
    monkeypatch.setattr(engine._highs, "setOptionValue", lambda name, value: given.update({name: value}), raising=False)
    assert choose(build(two_candidates(), "cost"), engine) is not None
    assert given["mip_rel_gap"] == 0.0
    assert solver("highs").name == solver("HiGHS").name == "HiGHS"


def test_unknown_and_missing_solvers_are_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown solver 'higs'.*HiGHS"):
        solver("higs")
    missing = sorted(set(pulp.listSolvers()) - set(pulp.listSolvers(onlyAvailable=True)))
    with pytest.raises(InputError, match=r"is not installed here; at hand are .*HiGHS"):
        solver(missing[0])


def test_a_fractional_solution_is_refused() -> None:
    program = build(two_candidates(), "cost")
    choice = choose(program, solver("HiGHS"))
    assert choice is not None
    values = np.zeros(program.columns)
    values[[choice.design, *(int(program.size(choice.design, s, n)[0]) for s, n in enumerate(choice.sizes))]] = 1.0
    assert read(program, values + 1e-9, "HiGHS") == choice
    for wrong in (0.4, math.nan):
        values[-1] = wrong
        with pytest.raises(ProvisionerError, match="fractional"):
            read(program, values, "HiGHS")


def test_a_time_limit_is_taken_neither_for_an_optimum_nor_for_infeasible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provisioner.planning.solver.time_left_s", lambda: 0.0)
    with pytest.raises(ProvisionerError, match=r"HiGHS: stopped without a proven optimum \(Time limit reached\)"):
        choose(build(two_candidates(), "cost"), Highs())


class Answered:
    """A stand-in for a problem that a solver has worked on, as either version of PuLP leaves it."""

    def __init__(self, answer: object, solution: int | None = None) -> None:
        self.answer = answer
        if solution is not None:
            self.sol_status = solution

    def solve(self, engine: pulp.LpSolver) -> object:
        return self.answer

    def variables(self) -> list[pulp.LpVariable]:
        return []


def through_pulp(monkeypatch: pytest.MonkeyPatch, problem: object) -> tuple[Program, Engine]:
    """A program that PuLP states as the given problem, and a solver for it."""
    monkeypatch.setattr(Program, "problem", lambda _: problem)
    return build(two_candidates(), "cost"), ThroughPulp(SimpleNamespace(name="PULP_CBC_CMD"))


def statistics(status: str, has_solution: bool = False) -> SimpleNamespace:
    """The part read of what ``LpProblem.solve`` returns since PuLP 4."""
    return SimpleNamespace(status=SimpleNamespace(name=status), has_solution=has_solution)


PULP_3 = pytest.mark.skipif(not hasattr(pulp, "LpStatus"), reason="PuLP 4 has no LpStatus")


def test_a_solver_has_the_time_left_less_what_nothing_interrupts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handing a program over takes a time in proportion to its size; what does not fit is not begun."""
    now_s = 0.0
    monkeypatch.setattr("provisioner.deadline.monotonic", lambda: now_s)
    given: list[float] = []

    class Slow:
        name = "slow"

        def uninterrupted_s(self, program: Program) -> float:
            return 20.0

        def solved(self, program: Program, limit_s: float, presolve: bool) -> tuple[str, Values]:
            nonlocal now_s
            given.append(limit_s)
            now_s += limit_s
            return "TimeLimit", np.zeros(program.columns)

    with ending(100.0):
        for _ in range(2):
            with pytest.raises(TimeIsUp):
                choose(build(two_candidates(), "cost"), Slow())
    assert given == [80.0] and now_s == 80.0


def test_pulp_is_given_the_limit_and_a_multiple_of_the_time_that_stating_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = iter((5.0, 15.0))
    program, engine = through_pulp(monkeypatch, Answered(statistics("TimeLimit")))
    monkeypatch.setattr("provisioner.planning.solver.monotonic", lambda: next(now_s))
    assert engine.uninterrupted_s(program) == 20.0
    assert engine.solved(program, 7.0, True)[0] == "TimeLimit"
    assert isinstance(engine, ThroughPulp) and engine.engine.timeLimit == 7.0


@pytest.mark.parametrize(
    "answered",
    [
        Answered(statistics("Infeasible")),
        Answered(statistics("Undefined")),
        pytest.param(Answered(-1, -1), marks=PULP_3),
        pytest.param(Answered(-3, 0), marks=PULP_3),
    ],
)
def test_infeasible_is_no_choice(monkeypatch: pytest.MonkeyPatch, answered: Answered) -> None:
    assert choose(*through_pulp(monkeypatch, answered)) is None


@pytest.mark.parametrize(
    ("answered", "ending"),
    [
        (Answered(statistics("TimeLimit", has_solution=True)), "TimeLimit"),
        (Answered(statistics("NotSolved")), "NotSolved"),
        pytest.param(Answered(1, 2), "Not Proven", marks=PULP_3),  # after a time limit, with a solution
        pytest.param(Answered(0, 0), "Not Solved", marks=PULP_3),
    ],
)
def test_stopping_early_is_not_taken_for_an_optimum(
    monkeypatch: pytest.MonkeyPatch, answered: Answered, ending: str
) -> None:
    with pytest.raises(ProvisionerError, match=rf"without a proven optimum \({ending}\)"):
        choose(*through_pulp(monkeypatch, answered))


def test_an_optimum_is_a_choice_whichever_way_pulp_reports_it(monkeypatch: pytest.MonkeyPatch) -> None:
    program = build(two_candidates(), "cost")
    problem = program.problem()
    problem.solve(pulp.getSolver("HiGHS", msg=False))
    monkeypatch.setattr(problem, "solve", lambda _: statistics("Optimal", has_solution=True))
    monkeypatch.setattr(Program, "problem", lambda _: problem)
    assert choose(program, ThroughPulp(SimpleNamespace(name="other"))) == choose(program, Highs())


@settings(max_examples=60, deadline=None)
@given(instances(), CRITERION)
def test_pulp_states_the_same_program_as_the_arrays(parameters: Parameters, objective: Criterion) -> None:
    """The file that PuLP writes, read by HiGHS, has the columns, the rows and the optimum of the arrays."""
    best = {criterion: 1e4 for criterion in CRITERIA if criterion != objective}
    program = build(parameters, objective, best)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.lp"
        write_program(program, str(path))
        h = highspy.Highs()
        h.silent()
        h.readModel(str(path))
    lp, arrays, matrix = h.getLp(), program.arrays, h.getLp().a_matrix_
    names = [*lp.col_names_]  # "__dummy" is PuLP's for a row without variables
    written: dict[str, dict[str, float]] = {name: {} for name in lp.row_names_ if name != "_dummy"}
    for column, start, end in zip(names, [*matrix.start_][:-1], [*matrix.start_][1:], strict=True):
        for k in range(start, end):
            if column != "__dummy":
                written[lp.row_names_[matrix.index_[k]]][column] = matrix.value_[k]
    assert set(written) == set(program.rows)
    bounds = dict(zip(lp.row_names_, zip(lp.row_lower_, lp.row_upper_, strict=True), strict=True))
    for name, row in program.rows.items():
        mine = zip((program.names[k] for k in row.sum.columns), row.sum.coefficients, strict=True)
        assert written[name] == pytest.approx({column: value for column, value in mine if value}, rel=1e-9)
        assert bounds[name] == pytest.approx((row.least, row.most), rel=1e-9)
    costs = dict(zip(program.names, arrays.objective, strict=True)) | {"__dummy": 0.0}
    assert list(lp.col_cost_) == pytest.approx([costs[name] for name in names], rel=1e-9)
    h.run()
    ending, values = Highs().solved(program, math.inf, True)
    assert (ending == "Optimal") == (h.getModelStatus() == highspy.HighsModelStatus.kOptimal)
    if ending == "Optimal":
        assert h.getObjectiveValue() == pytest.approx(float(arrays.objective @ values), rel=1e-9)


def test_a_program_that_cannot_be_written_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"write_lp .*: cannot be written: No such file or directory"):
        write_program(build(two_candidates(), "cost"), str(tmp_path / "missing" / "model.lp"))


def test_the_written_program_solves_to_the_same_cost(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("lp") / "model.lp"
    write_program(build(two_candidates(), "cost"), str(path))
    solved = solve(two_candidates(), "cost")
    assert solved is not None
    h = highspy.Highs()
    h.silent()
    h.readModel(str(path))
    h.run()
    assert h.getObjectiveValue() == pytest.approx(solved[1]["cost"])


def test_the_solver_writes_nothing_to_stdout(tmp_path: Path) -> None:
    """Into a file, which C buffers until the end: HiGHS 1.16 introduces itself there, into what --json prints."""
    program = (
        "import highspy; from provisioner.planning.solver import solver; solver('HiGHS'); highspy.Highs(); print('{}')"
    )
    with (tmp_path / "out").open("w") as out:
        subprocess.run([sys.executable, "-c", program], stdout=out, check=True)
    assert (tmp_path / "out").read_text() == "{}\n"


def test_an_interrupt_while_the_solver_is_loaded_is_an_interrupt() -> None:
    """PuLP takes one for a solver that is not installed."""
    code = """
import sys
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "highspy":
            sys.meta_path.remove(self)
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupting())
from provisioner.cli.run import main
sys.exit(main(["plan", "--rate", "5", "--fast"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (130, "error: interrupted")
