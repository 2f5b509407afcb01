"""Solving the program: HiGHS through PuLP, or any other solver that PuLP knows by name."""

import ctypes
import math
import os
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from time import monotonic
from typing import Any, NamedTuple

import pulp

from provisioner.deadline import check_room, time_left_s
from provisioner.errors import InputError, ProvisionerError, UnknownNameError
from provisioner.files import write_files
from provisioner.options import spelled
from provisioner.planning.formulation import Criterion, Parameters, Program, amount, build
from provisioner.specs.criteria import TIES, Tiebreak, order

DEFAULT_SOLVER = "HiGHS"
_INTEGRAL = 1e-6
# The parts of a solution that are not interrupted take this many times as long as stating the program: handing it over,
# the first relaxation, reading the values. Measured 0.3 to 2.2 with a million coefficients (PuLP 3.3, HiGHS 1.16).
_UNINTERRUPTED = 2.0


class Point(NamedTuple):
    """A design by position, and the size of each of its pools in machines."""

    design: int
    sizes: tuple[int, ...]


def solver(name: str) -> pulp.LpSolver:
    """The PuLP solver of this name, quiet and at gap 0, or an error that lists those at hand."""
    exact = {each.lower(): each for each in pulp.listSolvers()}.get(name.lower())
    if exact is None:
        raise UnknownNameError("solver", name, pulp.listSolvers(onlyAvailable=True))
    options = {"gapRel": 0.0} if exact in ("HiGHS", "HiGHS_CMD", "GUROBI", "CPLEX_PY", "SCIP_PY") else {}
    if exact == "HiGHS":
        _introduce_quietly()
    chosen = pulp.getSolver(exact, msg=False, **options)
    if not chosen.available():
        at_hand = ", ".join(pulp.listSolvers(onlyAvailable=True))
        raise InputError(f"{spelled('solver')} {name}: is not installed here; at hand are {at_hand}")
    return chosen


@cache
def _introduce_quietly() -> None:
    """Make HiGHS once with stdout closed to it.

    The first instance of a process writes who made it to file descriptor 1 (since 1.16), whatever its options say, and
    so into what ``--json`` prints.
    """
    try:
        kept = os.dup(1)
    except OSError:  # no stdout at all
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        import_module("highspy").Highs()
        with suppress(OSError, TypeError, AttributeError):  # what C has buffered; not on every system
            ctypes.CDLL(None).fflush(None)
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def solve(
    parameters: Parameters,
    objective: Criterion,
    solver_name: str = DEFAULT_SOLVER,
    ties: Sequence[Tiebreak] = TIES,
) -> tuple[Point, dict[Tiebreak, float]] | None:
    """The lexicographically best choice with its totals by criterion, or None where no choice satisfies the rows.

    ``ties`` decide after the objective. Totals are recomputed from the choice's integers and not read from the solver.
    """
    engine = solver(solver_name)
    best: dict[Tiebreak, float] = {}
    choice: Point | None = None
    alike = len({option.design.complexity for option in parameters.candidates}) == 1
    for criterion in order(objective, ties):
        if not (alike and criterion == "complexity"):
            began_s = monotonic()
            program = build(parameters, criterion, best)
            choice = choose(program, engine, monotonic() - began_s)
        if choice is None:
            if best:
                raise _failed(engine.name, "lost a solution while breaking ties")
            return None
        best[criterion] = amount(parameters, criterion, *choice)
    assert choice is not None
    return choice, best


def choose(program: Program, engine: pulp.LpSolver, stated_s: float = 0.0) -> Point | None:
    """Solve a program and return its choice; None if it is infeasible; an error for anything but a proven optimum.

    ``stated_s`` is the time that stating it took, a measure of its size. ``TimeIsUp`` if what no solver interrupts does
    not fit in the time left, or its time limit was reached.
    """
    uninterrupted_s = _UNINTERRUPTED * stated_s
    check_room(uninterrupted_s)
    if math.isfinite(left_s := time_left_s()):
        engine.timeLimit = left_s - uninterrupted_s
    ending = _ending(program.problem, program.problem.solve(engine))
    # A presolver may say "infeasible or unbounded", which PuLP calls undefined. No program of binaries is unbounded.
    # HiGHS never says so of them; from it, undefined is an error inside the solver.
    if ending == "Infeasible" or (ending == "Undefined" and engine.name != DEFAULT_SOLVER):
        return None
    if ending != "Optimal":
        check_room(uninterrupted_s)
        raise _failed(engine.name, f"stopped without a proven optimum ({ending})")
    return read(program, engine.name)


def _ending(problem: pulp.LpProblem, answer: Any) -> str:
    """The reason why a solver stopped, in PuLP's words; "Optimal" for a proven optimum alone.

    PuLP 4 answers with statistics, PuLP 3 with a status, which is "Optimal" after a time limit too: see ``sol_status``.
    """
    if hasattr(answer, "has_solution"):
        return str(answer.status.name)
    name = pulp.LpStatus[answer]
    return name if name != "Optimal" or problem.sol_status == pulp.LpSolutionOptimal else "Not Proven"


def read(program: Program, name: str) -> Point:
    """Return the choice in the variables of a solved program; an error if they are not integral."""
    values = {key: variable.varValue for key, variable in program.size.items()}
    for value in values.values():
        if value is None or abs(value - round(value)) > _INTEGRAL:
            raise _failed(name, f"returned a fractional choice ({value})")
    ones = sorted(key for key, value in values.items() if round(value or 0.0) == 1)
    return Point(ones[0][0], tuple(n for _, _, n in ones))


def _failed(solver_name: str, what: str) -> ProvisionerError:
    return ProvisionerError(f"solver {solver_name}: {what}; try {spelled('solver')} HiGHS")


def write_problem(problem: pulp.LpProblem, path: str, stated_s: float = 0.0) -> None:
    """Write a program in CPLEX's LP format; a failure leaves an earlier file.

    ``stated_s`` is the time that stating it took, which writing takes too: ``TimeIsUp`` if it does not fit.
    """
    check_room(stated_s)
    try:
        write_files({path: problem.writeLP}, spelled("write_lp"))
    except pulp.PulpError as error:
        raise InputError(f"{spelled('write_lp')} {path}: cannot be written: {error}") from None
