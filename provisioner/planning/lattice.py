"""The sizes that a proof decides between: which are allowed, how they compare, and which are excluded so far.

One point of the lattice is a design and the machines of each of its pools. Totals are compared as whole numbers, so
that "better" and "equal" are exact. Points are looked up by listing them; ``proof_program`` states the same as an ILP.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from provisioner.errors import InputError
from provisioner.planning.designs import Design
from provisioner.planning.formulation import CRITERIA, ROUNDING, Caps, Criterion, Prices
from provisioner.planning.solver import order

Sizes = tuple[int, ...]
Totals = tuple[int, ...]  # whole units of each criterion in the order of ``solver.order``

# Prices are compared to this many significant digits of the dearest machine's.
PRICE_DIGITS = 7
# Work below the capacity by this relative rounding error counts as equal to it.
_WORK_ROUNDING = 1e-9
# The next criterion decides among candidates equal in the first ones; this many levels, the last of which is a tie.
LEVELS = len(CRITERIA) + 1


class Point(NamedTuple):
    """A design by position, and the machines of each of its pools."""

    design: int
    sizes: Sizes


@dataclass(frozen=True, slots=True)
class Region:
    """The sizes of one design's pools that an optimistic bound leaves, in machines, both ends included.

    Each row of ``work`` has one number per pool, the share of the offered work that a machine of it can do at best:
    sizes are left only where ``sum over pools of sizes * row >= 1``. ``start`` is a first guess at sizes that are
    enough, None without one. A region whose ``most`` is below its ``least`` is empty: the design is out of question.
    """

    design: Design
    least: Sizes
    most: Sizes
    work: tuple[tuple[float, ...], ...] = ()
    start: Sizes | None = None

    def __post_init__(self) -> None:
        pools = len(self.design.slots)
        lengths = {len(each) for each in (self.least, self.most, *self.work, *([self.start] if self.start else []))}
        if lengths != {pools}:
            raise InputError(f"{self.design.name}: has {pools} pools; sizes and work need one number for each")
        if min(self.least) < 1:
            raise InputError(f"{self.design.name}: a pool has at least one machine, got {self.least}")
        if not all(math.isfinite(share) and share >= 0.0 for row in self.work for share in row):
            raise InputError(f"{self.design.name}: shares of the work must be finite and not negative: {self.work}")

    @property
    def empty(self) -> bool:
        """Whether no size is left."""
        return any(most < least for least, most in zip(self.least, self.most, strict=True))

    def enough(self, sizes: Sizes) -> bool:
        """Whether these sizes can do the work at all."""
        return all(
            sum(n * share for n, share in zip(sizes, row, strict=True)) >= 1.0 - _WORK_ROUNDING for row in self.work
        )


def whole_units(per_machine: Mapping[str, float]) -> dict[str, int]:
    """The amount of a criterion per machine, in whole multiples of a common unit, to seven digits of the largest.

    >>> whole_units({"dgx-h100": 38.08, "dgx-a100": 17.68})  # in units of 1.36 $/h
    {'dgx-h100': 28, 'dgx-a100': 13}
    """
    for name, value in per_machine.items():
        if not (math.isfinite(value) and value > 0.0):
            raise InputError(f"{name}: what a machine costs and draws must be above 0, got {value}")
    scale = 10.0 ** (PRICE_DIGITS - 1 - math.floor(math.log10(max(per_machine.values()))))
    whole = {name: max(1, round(value * scale)) for name, value in per_machine.items()}
    common = math.gcd(*whole.values())
    return {name: value // common for name, value in whole.items()}


class Lattice:
    """All points of some regions within caps and stock, and what is excluded of them so far.

    A point in ``tried`` excludes itself; a cut excludes every point of its design with at most its sizes.
    """

    def __init__(self, regions: Iterable[Region], prices: Prices, caps: Caps, objective: Criterion) -> None:
        self.regions = tuple(regions)
        self.prices = prices
        self.caps = caps
        self.order = order(objective)
        names = sorted({slot.machine.name for region in self.regions for slot in region.design.slots})
        by_criterion = {criterion: {name: prices.of(criterion, name) for name in names} for criterion in CRITERIA}
        whole = {criterion: whole_units(by_criterion[criterion]) for criterion in CRITERIA} if names else {}
        machines = [[slot.machine.name for slot in region.design.slots] for region in self.regions]
        # By design, then criterion in order, then pool: whole units and the numbers themselves.
        self.units = tuple(tuple(tuple(whole[c][name] for name in pools) for c in self.order) for pools in machines)
        self.per_machine = tuple(
            {c: tuple(by_criterion[c][name] for name in pools) for c in CRITERIA} for pools in machines
        )
        self.machines = tuple(tuple(pools) for pools in machines)
        self.cuts: list[list[Sizes]] = [[] for _ in self.regions]
        self.tried: list[set[Sizes]] = [set() for _ in self.regions]

    def totals(self, point: Point) -> Totals:
        """Whole units of each criterion, in the order in which they decide."""
        return tuple(sum(n * u for n, u in zip(point.sizes, each, strict=True)) for each in self.units[point.design])

    def value(self, point: Point) -> dict[Criterion, float]:
        """Cost in $/h, power in W and machines of a point."""
        found = {
            c: sum(n * u for n, u in zip(point.sizes, each, strict=True))
            for c, each in self.per_machine[point.design].items()
        }
        return {criterion: found[criterion] for criterion in self.order}

    def allowed(self, point: Point) -> bool:
        """Whether the optimistic bound, caps and stock leave a point, excluded or not."""
        region = self.regions[point.design]
        within = zip(region.least, point.sizes, region.most, strict=True)
        return all(least <= n <= most for least, n, most in within) and region.enough(point.sizes) and self.fits(point)

    def fits(self, point: Point) -> bool:
        """Whether a point is within caps and stock."""
        for criterion, total in self.value(point).items():
            cap = self.caps.of(criterion)
            if cap is not None and total > cap * (1.0 + ROUNDING):
                return False
        used: dict[str, int] = {}
        for name, n in zip(self.machines[point.design], point.sizes, strict=True):
            used[name] = used.get(name, 0) + n
        return all(used.get(name, 0) <= available for name, available in self.caps.stock.items())

    def excluded(self, point: Point) -> bool:
        """Whether a point was tried or lies below a cut."""
        return point.sizes in self.tried[point.design] or any(
            at_most(point.sizes, cut) for cut in self.cuts[point.design]
        )

    def level(self, point: Point, best: Totals | None) -> int:
        """The first criterion in which a point is better than the best, by position: 3 for a tie, 4 for a worse one."""
        return 0 if best is None else _level(self.totals(point), best)

    def exclude(self, point: Point) -> None:
        """Exclude one point alone."""
        self.tried[point.design].add(point.sizes)

    def cut(self, point: Point) -> None:
        """Exclude a point and every point of its design below it; cuts below it are dropped."""
        kept = [cut for cut in self.cuts[point.design] if not at_most(cut, point.sizes)]
        self.cuts[point.design] = [*kept, point.sizes]

    def withdraw(self, point: Point) -> bool:
        """Withdraw the cuts that a point lies below; whether there were any. What was tried stays excluded itself."""
        kept = [cut for cut in self.cuts[point.design] if not at_most(point.sizes, cut)]
        withdrawn = len(kept) < len(self.cuts[point.design])
        self.cuts[point.design] = kept
        return withdrawn

    def largest(self, design: int, best: Totals | None) -> Sizes:
        """The most machines of each pool with the others at their least: by region, caps, stock and the best so far."""
        region = self.regions[design]
        most = []
        for s, (least, bound) in enumerate(zip(region.least, region.most, strict=True)):
            rooms = [bound]
            if best is not None:
                rooms.append(least + _room(best[0], self.units[design][0], region.least, s))
            for criterion in CRITERIA:
                if (cap := self.caps.of(criterion)) is not None:
                    each = self.per_machine[design][criterion]
                    rooms.append(least + math.floor(_room_left(cap * (1.0 + ROUNDING), each, region.least) / each[s]))
            if (available := self.caps.stock.get(self.machines[design][s])) is not None:
                others = [n for n, name in zip(region.least, self.machines[design], strict=True)]
                same = [name == self.machines[design][s] for name in self.machines[design]]
                rooms.append(least + available - sum(n for n, is_same in zip(others, same, strict=True) if is_same))
            most.append(min(rooms))
        return tuple(most)

    def axes(self, design: int, shape: Sizes) -> list[NDArray[np.int64]]:
        """The machines of each pool from the least on, as arrays that broadcast to a shape."""
        return [
            np.arange(n, n + k, dtype=np.int64).reshape([-1 if i == s else 1 for i in range(len(shape))])
            for s, (n, k) in enumerate(zip(self.regions[design].least, shape, strict=True))
        ]

    def enough(self, design: int, shape: Sizes) -> NDArray[np.bool_]:
        """The sizes from the least on that can do the work at all, as truths."""
        keep = np.ones(shape, dtype=bool)
        for row in self.regions[design].work:
            total = sum(axis * share for axis, share in zip(self.axes(design, shape), row, strict=True))
            keep &= total >= 1.0 - _WORK_ROUNDING
        return keep

    def points(self, best: Totals | None) -> int:
        """The number of points in the smallest boxes around all that could be as good as the best."""
        total = 0
        for d, region in enumerate(self.regions):
            total += math.prod(max(0, m - n + 1) for n, m in zip(region.least, self.largest(d, best), strict=True))
        return total


def at_most(sizes: Sizes, other: Sizes) -> bool:
    """Whether no pool has more machines than in the other."""
    return all(n <= m for n, m in zip(sizes, other, strict=True))


def _level(totals: Totals, best: Totals) -> int:
    for level, (mine, theirs) in enumerate(zip(totals, best, strict=True)):
        if mine != theirs:
            return level if mine < theirs else LEVELS
    return LEVELS - 1


def _room(total: int, units: tuple[int, ...], least: Sizes, pool: int) -> int:
    return (total - sum(n * u for n, u in zip(least, units, strict=True))) // units[pool]


def _room_left(total: float, each: tuple[float, ...], least: Sizes) -> float:
    return total - sum(n * u for n, u in zip(least, each, strict=True))


class Enumeration:
    """Every point that could be as good as the best one, listed: the fast way to the next one to try."""

    def __init__(self, lattice: Lattice, best: Totals | None) -> None:
        self.lattice = lattice
        self.least: list[Sizes] = []
        self.totals: list[list[NDArray[np.int64]]] = []
        self.levels: list[NDArray[np.int8]] = []  # LEVELS where not allowed, excluded or worse
        self.counts: list[int] = []  # points as good as the best, excluded or not
        for d, region in enumerate(lattice.regions):
            most = lattice.largest(d, best)
            shape = tuple(max(0, m - n + 1) for n, m in zip(region.least, most, strict=True))
            if 0 in shape:
                shape = (0,) * len(shape)
            axes = lattice.axes(d, shape)
            totals = [
                np.broadcast_to(sum((axis * u for axis, u in zip(axes, each, strict=True)), np.int64(0)), shape)
                for each in lattice.units[d]
            ]
            levels = self._levels(totals, best, shape)
            levels[~self._allowed(d, axes, shape)] = LEVELS
            self.counts.append(int((levels < LEVELS).sum()))
            self.least.append(region.least)
            self.totals.append(totals)
            self.levels.append(levels)
            for cut in lattice.cuts[d]:
                self.cut(Point(d, cut))
            for sizes in lattice.tried[d]:
                self.exclude(Point(d, sizes))

    @staticmethod
    def _levels(totals: list[NDArray[np.int64]], best: Totals | None, shape: Sizes) -> NDArray[np.int8]:
        levels = np.zeros(shape, dtype=np.int8)
        if best is None:
            return levels
        equal = np.ones(shape, dtype=bool)
        levels[:] = LEVELS
        for level, (total, limit) in enumerate(zip(totals, best, strict=True)):
            levels[equal & (total < limit)] = level
            equal &= total == limit
        levels[equal] = LEVELS - 1
        return levels

    def _allowed(self, d: int, axes: list[NDArray[np.int64]], shape: Sizes) -> NDArray[np.bool_]:
        lattice = self.lattice
        keep = lattice.enough(d, shape)
        for criterion in CRITERIA:
            if (cap := lattice.caps.of(criterion)) is not None:
                each = lattice.per_machine[d][criterion]
                keep &= sum(axis * u for axis, u in zip(axes, each, strict=True)) <= cap * (1.0 + ROUNDING)
        for name, available in lattice.caps.stock.items():
            used = [axis for axis, machine in zip(axes, lattice.machines[d], strict=True) if machine == name]
            if used:
                keep &= sum(used) <= available
        return keep

    def exclude(self, point: Point) -> None:
        """Take one point out."""
        levels = self.levels[point.design]
        at = tuple(n - least for n, least in zip(point.sizes, self.least[point.design], strict=True))
        if all(0 <= i < k for i, k in zip(at, levels.shape, strict=True)):
            levels[at] = LEVELS

    def cut(self, point: Point) -> None:
        """Take a point and every point of its design below it out."""
        least = self.least[point.design]
        below = tuple(slice(0, max(0, n - m + 1)) for n, m in zip(point.sizes, least, strict=True))
        self.levels[point.design][below] = LEVELS

    def ends(self, level: int, skip: frozenset[int] = frozenset()) -> tuple[Point, ...]:
        """The dearest points of a level: those of the first design that reaches the largest total, from end to end.

        The level's criterion decides what is dearest; with it, the points of that design that are within less than one
        of its machines of the dearest form a layer in which none has more machines than another in every pool. Given
        are its first and last point in the order of their sizes; one where it has one, none where nothing is left.
        """
        c = level if level < LEVELS - 1 else 0
        dearest, found = -1, -1
        for d, levels in enumerate(self.levels):
            if d in skip:
                continue
            here = self.totals[d][c][levels == level]
            if here.size and int(here.max()) > dearest:
                dearest, found = int(here.max()), d
        if found < 0:
            return ()
        floor = dearest - min(self.lattice.units[found][c])
        layer = np.argwhere((self.levels[found] == level) & (self.totals[found][c] > floor))
        both = [layer[0], layer[-1]] if len(layer) > 1 else [layer[0]]
        least = self.least[found]
        return tuple(Point(found, tuple(int(i) + n for i, n in zip(at, least, strict=True))) for at in both)

    def cheapest(self) -> Point | None:
        """A point left with the least objective, None where nothing is left that is better than the best."""
        least: tuple[int, Point] | None = None
        for d, levels in enumerate(self.levels):
            total = np.where(levels == 0, self.totals[d][0], np.iinfo(np.int64).max)
            if total.size and (levels == 0).any():
                at = np.unravel_index(int(total.argmin()), total.shape)
                point = Point(d, tuple(int(i) + n for i, n in zip(at, self.least[d], strict=True)))
                if least is None or int(total[at]) < least[0]:
                    least = int(total[at]), point
        return None if least is None else least[1]

    @property
    def left(self) -> tuple[int, ...]:
        """Points left by design, ties included."""
        return tuple(int((levels < LEVELS).sum()) for levels in self.levels)
