"""The integer linear program of a proof: is a plan as good as the best left that nothing excludes?

Stated in docs/reference/formulation.md, "Proving a plan". One function per row family; variables, and the rows that do
not depend on the proof, are those of ``formulation``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pulp

from provisioner.errors import InputError
from provisioner.options import spelled
from provisioner.planning.candidates import Candidates, PoolCandidates
from provisioner.planning.formulation import (
    Criterion,
    Parameters,
    Program,
    Rows,
    capped,
    in_stock,
    one_design,
    one_size,
)
from provisioner.planning.lattice import LEVELS, Lattice, Point, Sizes, Totals, at_most
from provisioner.planning.solver import DEFAULT_SOLVER, choose, solver, write_problem

# With more sizes than this in one design, exclusions are not merged into stronger ones.
_MOST_MERGED = 2_000_000


@dataclass(frozen=True, slots=True)
class ProofParameters:
    """All that the program is built from.

    ``choices`` has the designs with the sizes that could be as good as the best, their cuts (sizes up to which
    everything is excluded), prices and caps; by design, ``work`` has the rows of the optimistic bound and ``tried`` the
    sizes simulated that no cut excludes.
    ``units`` is what a machine adds to a criterion in whole units, ``best`` the best plan's totals in them.
    """

    choices: Parameters
    work: tuple[tuple[tuple[float, ...], ...], ...]
    tried: tuple[tuple[Sizes, ...], ...]
    units: Mapping[Criterion, Mapping[str, int]]
    order: tuple[Criterion, ...]
    best: Mapping[Criterion, int] | None
    positions: tuple[int, ...]  # of the designs among those of the problem

    @property
    def levels(self) -> tuple[int, ...]:
        """The programs that have to be without a solution: one without a best plan, else one for each level."""
        return (0,) if self.best is None else tuple(range(LEVELS))

    def criterion(self, level: int) -> Criterion:
        """The criterion that decides at a level: for a tie, which has equal totals, the objective."""
        return self.order[level if level < len(self.order) else 0]

    def only(self, positions: frozenset[int]) -> ProofParameters:
        """These parameters for some of the designs."""
        kept = [d for d, position in enumerate(self.positions) if position in positions]
        return replace(
            self,
            choices=replace(self.choices, candidates=tuple(self.choices.candidates[d] for d in kept)),
            work=tuple(self.work[d] for d in kept),
            tried=tuple(self.tried[d] for d in kept),
            positions=tuple(self.positions[d] for d in kept),
        )

    def without(self, d: int, sizes: Sizes) -> ProofParameters:
        """These parameters with one more choice excluded by itself."""
        alone = ((*each, sizes) if i == d else each for i, each in enumerate(self.tried))
        return replace(self, tried=tuple(alone))


def parameters(lattice: Lattice, best: Totals | None) -> ProofParameters:
    """The program's parameters at a state of the proof: sizes within the boxes of candidates as good as the best."""
    positions = tuple(d for d in range(len(lattice.regions)) if 0 not in lattice.shape(d, best))
    options, alone = [], []
    for d in positions:
        region, largest = lattice.regions[d], lattice.largest(d, best)
        pools = tuple(
            PoolCandidates(slot, np.arange(n, m + 1, dtype=np.int64), {})
            for slot, n, m in zip(region.design.slots, region.least, largest, strict=True)
        )
        cuts, others = merged(lattice, d, largest)
        options.append(Candidates(region.design, pools, cuts))
        alone.append(others)
    work = tuple(lattice.regions[d].work for d in positions)
    totals = None if best is None else dict(zip(lattice.order, best, strict=True))
    choices = Parameters(tuple(options), lattice.prices, lattice.caps)
    return ProofParameters(choices, work, tuple(alone), lattice.whole, lattice.order, totals, positions)


def merged(lattice: Lattice, d: int, largest: Sizes) -> tuple[tuple[Sizes, ...], tuple[Sizes, ...]]:
    """The excluded sizes of one design up to the largest, in few and strong rows: cuts, and single sizes.

    If everything below some sizes is excluded (below a failure's cut, simulated, or not able to do the work), these
    sizes are a cut, whatever excludes it. With two pools such cuts alone bound the program's relaxation by a plan that
    is left, so that the proof needs no branching. Too many sizes to list are returned as they were excluded.
    """
    region = lattice.regions[d]
    shape = tuple(m - n + 1 for n, m in zip(region.least, largest, strict=True))

    def at(sizes: Sizes) -> tuple[int, ...]:
        return tuple(n - least for n, least in zip(sizes, region.least, strict=True))

    tried = sorted(x for x in lattice.tried[d] if at_most(region.least, x) and at_most(x, largest))
    cuts = sorted(x for x in lattice.cuts[d] if at_most(region.least, x))
    if math.prod(shape) > _MOST_MERGED:
        return tuple(cuts), tuple(x for x in tried if not any(at_most(x, cut) for cut in cuts))
    excluded = ~lattice.enough(d, shape)
    for sizes in cuts:
        excluded[tuple(slice(0, i + 1) for i in at(sizes))] = True
    for sizes in tried:
        excluded[at(sizes)] = True
    below = excluded
    for axis in range(len(shape)):
        below = np.logical_and.accumulate(below, axis=axis)
    corner = below.copy()
    for axis in range(len(shape)):
        larger = np.roll(below, -1, axis=axis)
        larger[tuple(slice(-1, None) if a == axis else slice(None) for a in range(len(shape)))] = False
        corner &= ~larger
    corners = (tuple(int(i) + n for i, n in zip(found, region.least, strict=True)) for found in np.argwhere(corner))
    return tuple(corners), tuple(x for x in tried if not below[at(x)])


def build(p: ProofParameters, level: int, at_least: int | None = None) -> Program:
    """State the program of one level: the dearest plan that is left; ``at_least`` bounds its total from below."""
    program = Program.over(p.choices.candidates, "proof", pulp.LpMaximize)
    program.problem.setObjective(total_units(p, program, p.criterion(level)))
    for family in (one_design, one_size, in_stock, capped):
        program.add(family(p.choices, program))
    for of_proof in (enough_work, cut, tried):
        program.add(of_proof(p, program))
    program.add(no_worse(p, program, level))
    program.add(better(p, program, level))
    program.add(as_dear_as(p, program, level, at_least))
    return program


def units(p: ProofParameters, program: Program, criterion: Criterion, d: int) -> pulp.LpAffineExpression:
    """sum over s, n of n * unit[c, machine(d, s)] * size[d, s, n]: a criterion of one design, in whole units."""
    return pulp.lpSum(
        int(n) * p.units[criterion][pool.slot.machine.name] * program.size[d, s, int(n)]
        for s, pool in enumerate(p.choices.candidates[d].pools)
        for n in pool.sizes
    )


def total_units(p: ProofParameters, program: Program, criterion: Criterion) -> pulp.LpAffineExpression:
    """sum over d of units[d, c]: a criterion of the chosen design, in whole units."""
    return pulp.lpSum(units(p, program, criterion, d) for d in program.design)


def enough_work(p: ProofParameters, program: Program) -> Rows:
    """sum over s, n of n * work[d, k, s] * size[d, s, n] >= design[d]: the pools can do the work at the very best."""
    return {
        f"enough_work({d},{k})": pulp.lpSum(
            int(n) * row[s] * program.size[d, s, int(n)] for s, pool in enumerate(option.pools) for n in pool.sizes
        )
        >= program.design[d]
        for d, option in enumerate(p.choices.candidates)
        for k, row in enumerate(p.work[d])
    }


def cut(p: ProofParameters, program: Program) -> Rows:
    """sum over s, n <= cut[d, k, s] of size[d, s, n] <= (pools - 1) * design[d]: nothing below these sizes."""
    return {
        f"cut({d},{k})": pulp.lpSum(
            program.size[d, s, int(n)]
            for s, (pool, largest) in enumerate(zip(option.pools, sizes, strict=True))
            for n in pool.sizes
            if n <= largest
        )
        <= (len(option.pools) - 1) * program.design[d]
        for d, option in enumerate(p.choices.candidates)
        for k, sizes in enumerate(option.cuts)
    }


def tried(p: ProofParameters, program: Program) -> Rows:
    """sum over s of size[d, s, tried[d, k, s]] <= (pools - 1) * design[d]: nothing that was simulated, by itself."""
    return {
        f"tried({d},{k})": pulp.lpSum(program.size[d, s, n] for s, n in enumerate(sizes))
        <= (len(option.pools) - 1) * program.design[d]
        for d, option in enumerate(p.choices.candidates)
        for k, sizes in enumerate(p.tried[d])
    }


def no_worse(p: ProofParameters, program: Program, level: int) -> Rows:
    """units[d, c] <= best[c] * design[d]: the criteria before the level's are as good as the best plan's."""
    if p.best is None:
        return {}
    return {
        f"no_worse({d},{c})": units(p, program, c, d) <= p.best[c] * program.design[d]
        for d in program.design
        for c in p.order[:level]
    }


def better(p: ProofParameters, program: Program, level: int) -> Rows:
    """units[d, c] <= (best[c] - 1) * design[d]: the level's criterion is better than the best plan's."""
    if p.best is None or level >= len(p.order):
        return {}
    c = p.order[level]
    return {f"better({d},{c})": units(p, program, c, d) <= (p.best[c] - 1) * program.design[d] for d in program.design}


def as_dear_as(p: ProofParameters, program: Program, level: int, at_least: int | None) -> Rows:
    """sum over d of units[d, c] >= dearest[c]: while choosing among the dearest, none cheaper."""
    if at_least is None:
        return {}
    c = p.criterion(level)
    return {f"as_dear_as({c})": total_units(p, program, c) >= at_least}


class Programs:
    """The next points to try, and whether any is left, by solving programs: the same as ``lattice.Enumeration``."""

    def __init__(self, lattice: Lattice, best: Totals | None, solver_name: str = DEFAULT_SOLVER) -> None:
        self.lattice = lattice
        self.best = best
        self.solver_name = solver_name
        self.solved = 0

    def ends(self, level: int, skip: frozenset[int] = frozenset()) -> tuple[Point, ...]:
        """The same points as ``Enumeration.ends``, by up to four programs."""
        everything = parameters(self.lattice, self.best)
        p = everything.only(frozenset(everything.positions) - skip)
        dearest = self._solve(p, level)
        if dearest is None:
            return ()
        c = self.lattice.order.index(p.criterion(level))
        total = self.lattice.totals(dearest)[c]
        first = self._solve(p, level, total, lambda program: _position(p, program))
        assert first is not None
        design = first.design
        p = p.only(frozenset({design}))
        floor = total - min(self.lattice.units[design][c]) + 1
        low = self._solve(p, level, floor, lambda program: _sizes_rank(p, program))
        high = self._solve(p, level, floor, lambda program: -_sizes_rank(p, program))
        assert low is not None and high is not None
        return (low,) if low == high else (low, high)

    def cheapest(self) -> Point | None:
        """A point left with the least objective, None where nothing is left that is better than the best in it."""
        p = parameters(self.lattice, self.best)
        return self._solve(p, 0, None, lambda program: total_units(p, program, p.order[0]))

    def any_left(self) -> Point | None:
        """A point as good as the best that nothing excludes, None where every program is proven to have no solution."""
        p = parameters(self.lattice, self.best)
        return next((found for level in p.levels if (found := self._solve(p, level)) is not None), None)

    def _solve(
        self,
        p: ProofParameters,
        level: int,
        at_least: int | None = None,
        least: Callable[[Program], pulp.LpAffineExpression] | None = None,
    ) -> Point | None:
        """A point left at a level, the dearest or the one with the ``least`` of something; None where none is left."""
        while p.positions:
            program = build(p, level, at_least)
            if least is not None:
                program.problem.setObjective(-least(program))
            choice = choose(program, _engine(self.solver_name))
            self.solved += 1
            if choice is None:
                return None
            point = Point(p.positions[choice.design], choice.sizes)
            totals = self.lattice.totals(point)
            enough = at_least is None or totals[self.lattice.order.index(p.criterion(level))] >= at_least
            if enough and self.lattice.level(point, self.best) <= level and self.lattice.allowed(point):
                return point
            # A point that only the solver's tolerance allows: exclude it and solve again.
            p = p.without(choice.design, point.sizes)
        return None


def _engine(name: str) -> pulp.LpSolver:
    """The solver of this name; HiGHS without its presolve, which takes several times as long as the program itself."""
    engine = solver(name)
    if engine.name == "HiGHS":
        return pulp.getSolver("HiGHS", msg=False, gapRel=0.0, presolve="off")
    return engine


def _position(p: ProofParameters, program: Program) -> pulp.LpAffineExpression:
    """The position of the chosen design."""
    return pulp.lpSum(p.positions[d] * variable for d, variable in program.design.items())


def _sizes_rank(p: ProofParameters, program: Program) -> pulp.LpAffineExpression:
    """The sizes of the one design read as the digits of a number, so that its order is theirs."""
    pools = p.choices.candidates[0].pools
    weight = [math.prod(int(pool.sizes[-1]) + 1 for pool in pools[s + 1 :]) for s in range(len(pools))]
    return pulp.lpSum(n * weight[s] * variable for (_, s, n), variable in program.size.items())


def write_lp(p: ProofParameters, path: str, level: int = 0) -> None:
    """Write the program of a level, in CPLEX's LP format; a failure leaves an earlier file.

    After a finished proof it has no solution, which any solver can confirm. Where even the sizes' bounds leave no
    design, there is no program to write, which is an ``InputError``.
    """
    if not p.positions:
        raise InputError(
            f"{spelled('write_lp')} {path}: no design has a size that could be better, so there is no program"
        )
    write_problem(build(p, level).problem, path)
