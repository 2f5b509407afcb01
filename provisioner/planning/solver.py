"""Solving the program: HiGHS, which takes it as arrays, or through PuLP any other solver that PuLP knows by name."""

import ctypes
import math
import os
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from provisioner.deadline import check_room, time_left_s
from provisioner.errors import InputError, ProvisionerError, UnknownNameError
from provisioner.files import write_files
from provisioner.options import spelled
from provisioner.planning.formulation import Criterion, Parameters, amount, build
from provisioner.planning.program import Program
from provisioner.specs.criteria import TIES, Tiebreak, order

if TYPE_CHECKING:
    import pulp

Values = NDArray[np.float64]

DEFAULT_SOLVER: Final = "HiGHS"
_INTEGRAL = 1e-6
# The parts of a solution that are not interrupted: handing it over, the first relaxation, reading the values. Through
# PuLP they take this many times as long as stating the program (measured with a million coefficients and HiGHS 1.16:
# 0.3 to 2.2), in HiGHS alone this long for a coefficient (measured: 0.2 to 3.5 us).
_UNINTERRUPTED = 2.0
_S_PER_COEFFICIENT = 5e-6


class Point(NamedTuple):
    """A design by position, and the size of each of its pools in machines."""

    design: int
    sizes: tuple[int, ...]


class Engine(Protocol):
    """A solver."""

    @property
    def name(self) -> str:
        """The name that it has in PuLP."""

    def uninterrupted_s(self, program: Program) -> float:
        """State the program, and return the time in s that it takes at most beside what a time limit interrupts."""

    def solved(self, program: Program, limit_s: float, presolve: bool) -> tuple[str, Values]:
        """The reason why it stopped, in PuLP's words, "Optimal" for a proven optimum alone; and the values (V,)."""


class Highs:
    """HiGHS at gap 0, without PuLP."""

    name: Final = DEFAULT_SOLVER

    def __init__(self) -> None:
        _introduce_quietly()
        self._highspy: Any = import_module("highspy")
        self._highs = self._highspy.Highs()

    def uninterrupted_s(self, program: Program) -> float:
        """Return the time in s that handing the program over and its first relaxation take at most."""
        return _S_PER_COEFFICIENT * sum(row.sum.columns.size for row in program.rows.values())

    def solved(self, program: Program, limit_s: float, presolve: bool) -> tuple[str, Values]:
        """Solve the program's arrays; see ``Engine``."""
        highspy, highs, arrays = self._highspy, self._highs, program.arrays
        options = {"output_flag": False, "mip_rel_gap": 0.0, "presolve": "choose" if presolve else "off"}
        options |= {"time_limit": highs.getRunTime() + limit_s}
        for option, value in options.items():
            highs.setOptionValue(option, value)
        one, sense = np.ones(program.columns), highspy.ObjSense
        highs.passModel(
            program.columns,
            arrays.least.size,
            arrays.column.size,
            int(highspy.MatrixFormat.kRowwise),
            int(sense.kMaximize if program.maximise else sense.kMinimize),
            0.0,
            arrays.objective,
            np.zeros(program.columns),
            one,
            arrays.least,
            arrays.most,
            arrays.start,
            arrays.column,
            arrays.value,
            one.astype(np.int32),  # every variable is a whole number
        )
        highs.run()
        status, name = highspy.HighsModelStatus, highs.getModelStatus()
        infeasible = status.kInfeasible, status.kUnboundedOrInfeasible  # no program of binaries is unbounded
        ending = "Infeasible" if name in infeasible else str(highs.modelStatusToString(name))
        return ending, np.array(highs.getSolution().col_value, dtype=np.float64)


class ThroughPulp:
    """A solver that PuLP hands the program to."""

    def __init__(self, engine: "pulp.LpSolver") -> None:
        self.engine = engine
        self.name = str(engine.name)
        self._problem: tuple[Program, Any] | None = None

    def uninterrupted_s(self, program: Program) -> float:
        """State the program and return a multiple of the time in s that it took."""
        began_s = monotonic()
        self._problem = program, program.problem()
        return _UNINTERRUPTED * (monotonic() - began_s)

    def solved(self, program: Program, limit_s: float, presolve: bool) -> tuple[str, Values]:
        """Have PuLP solve the program; see ``Engine``. Without presolve makes no difference."""
        stated = self._problem[1] if self._problem and self._problem[0] is program else program.problem()
        if math.isfinite(limit_s):
            self.engine.timeLimit = limit_s
        ending = _ending(stated, stated.solve(self.engine))
        # A presolver may say "infeasible or unbounded", which PuLP calls undefined; no such program is unbounded.
        values = {variable.name: variable.varValue for variable in stated.variables()}
        every = [values.get(name) for name in program.names]
        return "Infeasible" if ending == "Undefined" else ending, np.array(every, dtype=np.float64)


def solver(name: str) -> Engine:
    """The solver of this name, quiet and at gap 0, or an error that lists those at hand."""
    if name.lower() == DEFAULT_SOLVER.lower():
        return Highs()
    import pulp

    exact = {each.lower(): each for each in pulp.listSolvers()}.get(name.lower())
    if exact is None:
        raise UnknownNameError("solver", name, pulp.listSolvers(onlyAvailable=True))
    options = {"gapRel": 0.0} if exact in ("HiGHS_CMD", "GUROBI", "CPLEX_PY", "SCIP_PY") else {}
    chosen = pulp.getSolver(exact, msg=False, **options)
    if not chosen.available():
        at_hand = ", ".join(pulp.listSolvers(onlyAvailable=True))
        raise InputError(f"{spelled('solver')} {name}: is not installed here; at hand are {at_hand}")
    return ThroughPulp(chosen)


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
            choice = choose(build(parameters, criterion, best), engine)
        if choice is None:
            if best:
                raise _failed(engine.name, "lost a solution while breaking ties")
            return None
        best[criterion] = amount(parameters, criterion, *choice)
    assert choice is not None
    return choice, best


def choose(program: Program, engine: Engine, presolve: bool = True) -> Point | None:
    """Solve a program and return its choice; None if it is infeasible; an error for anything but a proven optimum.

    ``TimeIsUp`` if what no solver interrupts does not fit in the time left, or its time limit was reached.
    """
    uninterrupted_s = engine.uninterrupted_s(program)
    check_room(uninterrupted_s)
    ending, values = engine.solved(program, max(time_left_s() - uninterrupted_s, 0.0), presolve)
    if ending == "Infeasible":
        return None
    if ending != "Optimal":
        check_room(uninterrupted_s)
        raise _failed(engine.name, f"stopped without a proven optimum ({ending})")
    return read(program, values, engine.name)


def _ending(problem: "pulp.LpProblem", answer: Any) -> str:
    """The reason why a solver stopped, in PuLP's words; "Optimal" for a proven optimum alone.

    PuLP 4 answers with statistics, PuLP 3 with a status, which is "Optimal" after a time limit too: see ``sol_status``.
    """
    if hasattr(answer, "has_solution"):
        return str(answer.status.name)
    import pulp

    name = pulp.LpStatus[answer]
    return name if name != "Optimal" or problem.sol_status == pulp.LpSolutionOptimal else "Not Proven"


def read(program: Program, values: Values, name: str) -> Point:
    """Return the choice in the values (V,) of a solved program; an error if they are not integral."""
    fractional = values[~(np.abs(values - np.rint(values)) <= _INTEGRAL)]
    if fractional.size:
        raise _failed(name, f"returned a fractional choice ({fractional[0]})")
    return Point(*program.chosen(np.rint(values)))


def _failed(solver_name: str, what: str) -> ProvisionerError:
    return ProvisionerError(f"solver {solver_name}: {what}; try {spelled('solver')} HiGHS")


def write_program(program: Program, path: str) -> None:
    """Write a program in CPLEX's LP format, as PuLP does; a failure leaves an earlier file.

    ``TimeIsUp`` if writing it, which takes as long as stating it, does not fit in the time left.
    """
    import pulp

    began_s = monotonic()
    problem = program.problem()
    check_room(monotonic() - began_s)
    try:
        write_files({path: problem.writeLP}, spelled("write_lp"))
    except pulp.PulpError as error:
        raise InputError(f"{spelled('write_lp')} {path}: cannot be written: {error}") from None
