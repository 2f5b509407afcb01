"""The integer linear program of a proof: is a plan as good as the best left that nothing excludes?

One function per row family of docs/reference/formulation.md, "Proving a plan"; the others are those of ``formulation``.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import add, sub
from typing import Self

import numpy as np

from provisioner.deadline import check_time
from provisioner.errors import InputError
from provisioner.options import spelled
from provisioner.planning.candidates import Candidates, PoolCandidates
from provisioner.planning.formulation import Parameters, capped, in_stock, one_design, one_size
from provisioner.planning.lattice import LEVELS, Lattice, Sizes, Totals, at_most
from provisioner.planning.program import Linear, Program, Rows
from provisioner.planning.solver import DEFAULT_SOLVER, Point, choose, solver, write_program

_MOST_MERGED = 2_000_000  # with more sizes than this in one design, exclusions are not merged into stronger ones


@dataclass(frozen=True, slots=True)
class ProofParameters:
    """All that the program is built from.

    ``choices`` has the designs with the sizes that could be as good as the best, their cuts (sizes up to which
    everything is excluded), prices and caps; ``tried`` by design the sizes simulated that no cut excludes, and
    ``positions`` those of the designs in the lattice. ``best`` has the best plan's totals in whole units.
    """

    lattice: Lattice
    choices: Parameters
    tried: tuple[tuple[Sizes, ...], ...]
    positions: tuple[int, ...]
    best: Totals | None

    @property
    def levels(self) -> tuple[int, ...]:
        """The programs that have to be without a solution: one without a best plan, else one for each level."""
        return (0,) if self.best is None else tuple(range(LEVELS))

    def only(self, positions: frozenset[int]) -> Self:
        """These parameters for some of the designs."""
        kept = [d for d, position in enumerate(self.positions) if position in positions]
        return replace(
            self,
            choices=replace(self.choices, candidates=tuple(self.choices.candidates[d] for d in kept)),
            tried=tuple(self.tried[d] for d in kept),
            positions=tuple(self.positions[d] for d in kept),
        )


def parameters(lattice: Lattice, best: Totals | None) -> ProofParameters:
    """The program's parameters at a state of the proof: sizes within the boxes of candidates as good as the best."""
    positions = tuple(d for d in range(len(lattice.regions)) if 0 not in lattice.shape(d, best))
    options, alone = [], []
    for d in positions:
        check_time()
        region, largest = lattice.regions[d], lattice.largest(d, best)
        pools = tuple(
            PoolCandidates(slot, np.arange(n, m + 1, dtype=np.int64), {})
            for slot, n, m in zip(region.design.slots, region.least, largest, strict=True)
        )
        cuts, others = merged(lattice, d, largest)
        options.append(Candidates(region.design, pools, cuts))
        alone.append(others)
    choices = Parameters(tuple(options), lattice.prices, lattice.caps)
    return ProofParameters(lattice, choices, tuple(alone), positions, best)


def merged(lattice: Lattice, d: int, largest: Sizes) -> tuple[tuple[Sizes, ...], tuple[Sizes, ...]]:
    """The excluded sizes of one design up to the largest, in few and strong rows: cuts, and single sizes.

    If everything below some sizes is excluded (below a failure's cut, simulated, or not able to do the work), these
    sizes are a cut, which spares most branching. Too many sizes to list are returned as they were excluded.
    """
    least = lattice.regions[d].least
    tried = sorted(x for x in lattice.tried[d] if at_most(least, x) and at_most(x, largest))
    cuts = sorted(x for x in lattice.cuts[d] if at_most(least, x))
    shape = tuple(m - n + 1 for n, m in zip(least, largest, strict=True))
    if math.prod(shape) > _MOST_MERGED:
        return tuple(cuts), tuple(x for x in tried if not any(at_most(x, cut) for cut in cuts))
    below = ~np.broadcast_to(lattice.regions[d].enough(lattice.axes(d, shape)), shape)
    for cut in cuts:
        below[tuple(slice(n - m + 1) for n, m in zip(cut, least, strict=True))] = True
    for sizes in tried:
        below[tuple(map(sub, sizes, least))] = True
    for axis in range(len(shape)):
        below = np.logical_and.accumulate(below, axis=axis)
    corner = below.copy()
    for axis in range(len(shape)):
        # No corner if one more machine still is below; beyond the largest sizes nothing is.
        corner &= ~np.delete(np.insert(below, shape[axis], False, axis), 0, axis)
    corners = (tuple(map(add, map(int, at), least)) for at in np.argwhere(corner))
    return tuple(corners), tuple(x for x in tried if not below[tuple(map(sub, x, least))])


def build(p: ProofParameters, level: int, at_least: int | None = None) -> Program:
    """State the program of one level: the dearest plan that is left; ``at_least`` bounds its total from below."""
    empty = Program.over(p.choices.candidates, "proof", maximise=True)
    rows: Rows = {}
    for family in (one_design, one_size, in_stock, capped):
        rows |= family(p.choices, empty)
    for of_proof in (enough_work, cut, tried):
        rows |= of_proof(p, empty)
    rows |= no_worse(p, empty, level) | better(p, empty, level) | as_dear_as(p, empty, level, at_least)
    return replace(empty, objective=total_units(p, empty, p.lattice.deciding(level)), rows=rows)


def _summed(p: ProofParameters, program: Program, d: int, each: Sequence[float]) -> Linear:
    """sum over s, n of n * each[s] * size[d, s, n]: an amount per machine of each pool, over one design."""
    check_time()
    return Linear.of(program.per_machine(d, s, amount) for s, amount in enumerate(each))


def units(p: ProofParameters, program: Program, c: int, d: int) -> Linear:
    """complexity[d] * design[d], or sum over s, n of n * unit[c, machine(d, s)] * size[d, s, n]: in whole units.

    A criterion, by position, of one design.
    """
    at = p.positions[d]
    if p.lattice.order[c] == "complexity":
        return Linear.of([(program.designs[d : d + 1], p.lattice.fixed[at][c])])
    return _summed(p, program, d, p.lattice.units[at][c])


def total_units(p: ProofParameters, program: Program, c: int) -> Linear:
    """sum over d of units[d, c]: a criterion of the chosen design, in whole units."""
    each = (units(p, program, c, d) for d in range(len(p.positions)))
    return Linear.of((one.columns, one.coefficients) for one in each)


def enough_work(p: ProofParameters, program: Program) -> Rows:
    """sum over s, n of n * work[d, k, s] * size[d, s, n] >= design[d]: the pools can do the work at the very best."""
    return {
        f"enough_work({d},{k})": _summed(p, program, d, row).less(1.0, d).at_least(0.0)
        for d, position in enumerate(p.positions)
        for k, row in enumerate(p.lattice.regions[position].work)
    }


def cut(p: ProofParameters, program: Program) -> Rows:
    """sum over s, n <= cut[d, k, s] of size[d, s, n] <= (pools - 1) * design[d]: nothing below these sizes."""
    return {
        f"cut({d},{k})": program.no_larger(d, sizes).less(len(option.pools) - 1.0, d).at_most(0.0)
        for d, option in enumerate(p.choices.candidates)
        for k, sizes in enumerate(option.cuts)
    }


def tried(p: ProofParameters, program: Program) -> Rows:
    """sum over s of size[d, s, tried[d, k, s]] <= (pools - 1) * design[d]: nothing that was simulated, by itself."""
    return {
        f"tried({d},{k})": Linear.of((program.size(d, s, n), 1.0) for s, n in enumerate(sizes))
        .less(len(sizes) - 1.0, d)
        .at_most(0.0)
        for d, alone in enumerate(p.tried)
        for k, sizes in enumerate(alone)
    }


def no_worse(p: ProofParameters, program: Program, level: int) -> Rows:
    """units[d, c] <= best[c] * design[d]: the criteria before the level's are as good as the best plan's."""
    return {
        f"no_worse({d},{p.lattice.order[c]})": units(p, program, c, d).less(most, d).at_most(0.0)
        for d in range(len(p.positions))
        for c, most in enumerate((p.best or ())[:level])
    }


def better(p: ProofParameters, program: Program, level: int) -> Rows:
    """units[d, c] <= (best[c] - 1) * design[d]: the level's criterion is better than the best plan's."""
    return {
        f"better({d},{p.lattice.order[level]})": units(p, program, level, d).less(most - 1.0, d).at_most(0.0)
        for d in range(len(p.positions))
        for most in (p.best or ())[level : level + 1]
    }


def as_dear_as(p: ProofParameters, program: Program, level: int, at_least: int | None) -> Rows:
    """sum over d of units[d, c] >= dearest[c]: while choosing among the dearest, none cheaper."""
    if at_least is None:
        return {}
    c = p.lattice.deciding(level)
    return {f"as_dear_as({p.lattice.order[c]})": total_units(p, program, c).at_least(at_least)}


class Programs:
    """The next points to try, and whether any is left, by solving programs: the same as ``lattice.Enumeration``."""

    def __init__(self, lattice: Lattice, best: Totals | None, solver_name: str = DEFAULT_SOLVER) -> None:
        self.lattice = lattice
        self.parameters = parameters(lattice, best)
        self.engine = solver(solver_name)

    def ends(self, level: int, skip: frozenset[int] = frozenset()) -> tuple[Point, ...]:
        """The same points as ``Enumeration.ends``, by up to four programs."""
        p = self.parameters.only(frozenset(self.parameters.positions) - skip)
        dearest = self._solve(p, level)
        if dearest is None:
            return ()
        c = self.lattice.deciding(level)
        total = self.lattice.totals(dearest)[c]
        first = self._solve(
            p, level, total, lambda program: Linear.of([(program.designs, -np.array(p.positions, dtype=np.float64))])
        )
        assert first is not None
        p = p.only(frozenset({first.design}))
        floor = total - min(self.lattice.units[first.design][c]) + 1
        low = self._solve(p, level, floor, lambda program: _sizes_rank(p, program, -1))
        high = self._solve(p, level, floor, lambda program: _sizes_rank(p, program, 1))
        assert low is not None and high is not None
        return (low,) if low == high else (low, high)

    def any_left(self) -> Point | None:
        """A point as good as the best that nothing excludes, None where every program is proven to have no solution."""
        found = (self._solve(self.parameters, level) for level in self.parameters.levels)
        return next((point for point in found if point is not None), None)

    def _solve(
        self,
        p: ProofParameters,
        level: int,
        at_least: int | None = None,
        most: Callable[[Program], Linear] | None = None,
    ) -> Point | None:
        """A point left at a level, the dearest or the one with the ``most`` of something; None where none is left."""
        while p.positions:
            program = build(p, level, at_least)
            if most is not None:
                program = replace(program, objective=most(program))
            choice = choose(program, self.engine, False)
            if choice is None:
                return None
            point = choice._replace(design=p.positions[choice.design])
            enough = at_least is None or self.lattice.totals(point)[self.lattice.deciding(level)] >= at_least
            if enough and self.lattice.level(point, p.best) <= level and self.lattice.allowed(point):
                return point
            # A point that only the solver's tolerance allows: exclude it and solve again.
            alone = [(*sizes, point.sizes) if d == choice.design else sizes for d, sizes in enumerate(p.tried)]
            p = replace(p, tried=tuple(alone))
        return None


def _sizes_rank(p: ProofParameters, program: Program, sign: int) -> Linear:
    """The sizes of the one design read as the digits of a number, so that its order is theirs; or its negative."""
    pools = p.choices.candidates[0].pools
    weight = [sign * math.prod(int(pool.sizes[-1]) + 1 for pool in pools[s + 1 :]) for s in range(len(pools))]
    return _summed(p, program, 0, weight)


def write_lp(p: ProofParameters, path: str, level: int = 0) -> None:
    """Write the program of a level, in CPLEX's LP format; ``InputError`` if the sizes' bounds leave no design.

    After a finished proof it has no solution, which any solver can confirm.
    """
    if not p.positions:
        raise InputError(
            f"{spelled('write_lp')} {path}: no design has a size that could be better, so there is no program"
        )
    write_program(build(p, level), path)
