"""The sizes that a proof decides between: which are allowed, how they compare, and which are excluded so far.

Points are looked up by listing them; ``proof_program`` states the same as an ILP.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import chain, compress
from operator import add, and_, le, mul, sub
from typing import Any

import numpy as np
from numpy.typing import NDArray

from provisioner.deadline import check_time
from provisioner.errors import InputError
from provisioner.planning.designs import Design
from provisioner.planning.formulation import ROUNDING, Caps, Criterion, Prices
from provisioner.planning.solver import Point
from provisioner.specs.criteria import TIES, Tiebreak, order

Sizes = tuple[int, ...]
Totals = tuple[int, ...]  # whole units of each criterion in the order of ``Lattice.order``

PRICE_DIGITS = 7  # prices are compared to this many significant digits of the dearest machine's
_WORK_ROUNDING = 1e-9  # work below the capacity by this relative rounding error counts as equal to it
# The next criterion decides among candidates equal in the first ones; this many levels, the last of which is a tie.
LEVELS = len(TIES) + 1


@dataclass(frozen=True, slots=True)
class Region:
    """The sizes of one design's pools that an optimistic bound leaves, in machines, both ends included.

    Each row of ``work`` has the share of the offered work that a machine of each pool can do at best: sizes are left
    only where ``sum over pools of sizes * row >= 1``. ``start`` is a first guess at sizes that are enough.
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
        return not at_most(self.least, self.most)

    def enough(self, sizes: Sequence[Any]) -> Any:
        """Whether sizes can do the work at all: a number for each pool, or arrays (see ``Lattice.axes``)."""
        return reduce(and_, (sum(map(mul, sizes, row)) >= 1.0 - _WORK_ROUNDING for row in self.work), True)


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
    """All points of some regions within caps and stock, less those ``tried`` and those at or below a cut."""

    def __init__(
        self,
        regions: Iterable[Region],
        prices: Prices,
        caps: Caps,
        objective: Criterion,
        ties: Sequence[Tiebreak] = TIES,
    ) -> None:
        self.regions = tuple(regions)
        self.prices = prices
        self.caps = caps
        self.order = order(objective, ties)
        self.criteria = tuple(c for c in self.order if c != "complexity")
        self.machines = tuple(tuple(slot.machine.name for slot in region.design.slots) for region in self.regions)
        names = sorted({name for pools in self.machines for name in pools})
        amounts = {c: {name: prices.of(c, name) for name in names} for c in self.criteria}
        whole = {c: whole_units(amounts[c]) if names else {} for c in self.criteria}
        # By design, then criterion in order: whole units of the design itself, and of a machine of each pool.
        self.fixed = tuple(
            tuple(region.design.complexity if c == "complexity" else 0 for c in self.order) for region in self.regions
        )
        self.units = tuple(
            tuple(tuple(0 if c == "complexity" else whole[c][name] for name in pools) for c in self.order)
            for pools in self.machines
        )
        self.per_machine = tuple(
            {c: tuple(amounts[c][name] for name in pools) for c in self.criteria} for pools in self.machines
        )
        self.cuts: list[list[Sizes]] = [[] for _ in self.regions]
        self.tried: list[set[Sizes]] = [set() for _ in self.regions]

    def totals(self, point: Point) -> Totals:
        """Whole units of each criterion, in the order in which they decide."""
        return self.totals_of(point.design, point.sizes)

    def totals_of(self, design: int, sizes: Sequence[Any]) -> tuple[Any, ...]:
        """The totals of sizes of a design: a number for each pool, or arrays (see ``axes``)."""
        forms = zip(self.fixed[design], self.units[design], strict=True)
        return tuple(fixed + sum(map(mul, sizes, each)) for fixed, each in forms)

    def value(self, point: Point) -> dict[Tiebreak, float]:
        """Cost in $/h, power in W, machines and complexity of a point, in the order in which they decide."""
        totals = {c: sum(map(mul, point.sizes, each)) for c, each in self.per_machine[point.design].items()}
        return {c: self.fixed[point.design][k] if c == "complexity" else totals[c] for k, c in enumerate(self.order)}

    def least_units(self, design: int) -> float:
        """Whole units of the objective that no point of a design is below: infinite if none can do the work.

        Those of the least sizes, and the work that these leave undone by the machines that do it for the least: a
        relaxation, without caps, whole machines and what is excluded.
        """
        region, units = self.regions[design], self.units[design][0]
        fewest, more = float(sum(map(mul, region.least, units))), 0.0
        for row in region.work:
            undone = 1.0 - _WORK_ROUNDING - sum(map(mul, region.least, row))
            for_all = min((unit / share for unit, share in zip(units, row, strict=True) if share), default=math.inf)
            more = max(more, undone * for_all if undone > 0.0 else 0.0)
        return fewest + (math.ceil(more - 1e-6) if math.isfinite(more) else more)

    def least_value(self, design: int) -> float:
        """The objective that no point of a design is below, as ``least_units`` has it."""
        amounts = zip(self.per_machine[design][self.criteria[0]], self.units[design][0], strict=True)
        return self.least_units(design) * min(amount / unit for amount, unit in amounts)

    def allowed(self, point: Point) -> bool:
        """Whether the optimistic bound, caps and stock leave a point, excluded or not."""
        region, sizes = self.regions[point.design], point.sizes
        return at_most(region.least, sizes) and at_most(sizes, region.most) and bool(self.leave(point.design, sizes))

    def leave(self, design: int, sizes: Sequence[Any]) -> Any:
        """Whether work, caps and stock leave sizes of a design: a number for each pool, or arrays (see ``axes``)."""
        amounts, machines = self.per_machine[design], self.machines[design]
        capped = (sum(map(mul, sizes, amounts[c])) <= cap * (1.0 + ROUNDING) for c, cap in self.caps.given.items())
        in_stock = (
            sum(compress(sizes, [machine == name for machine in machines])) <= available
            for name, available in self.caps.stock.items()
        )
        return reduce(and_, chain(capped, in_stock), self.regions[design].enough(sizes))

    def excluded(self, point: Point) -> bool:
        """Whether a point was tried or lies below a cut."""
        return point.sizes in self.tried[point.design] or any(
            at_most(point.sizes, cut) for cut in self.cuts[point.design]
        )

    def level(self, point: Point, best: Totals | None) -> int:
        """The first criterion in which a point is better than the best, by position: the next for a tie, then worse."""
        if best is None:
            return 0
        for level, (mine, theirs) in enumerate(zip(self.totals(point), best, strict=True)):
            if mine != theirs:
                return level if mine < theirs else LEVELS
        return LEVELS - 1

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
        region, stock = self.regions[design], self.caps.stock
        used = region.design.used(region.least)
        limits = [(cap * (1.0 + ROUNDING), self.per_machine[design][c]) for c, cap in self.caps.given.items()]
        if best is not None:
            limits.append((best[0], self.units[design][0]))
        left = [(limit - sum(map(mul, region.least, each)), each) for limit, each in limits]
        return tuple(
            least
            + min(
                bound - least,
                stock.get(name, bound + used[name]) - used[name],
                *(math.floor(room / each[s]) for room, each in left),
            )
            for s, (name, least, bound) in enumerate(zip(self.machines[design], region.least, region.most, strict=True))
        )

    def shape(self, design: int, best: Totals | None) -> Sizes:
        """Sizes of each pool in the smallest box around all points of a design that could be as good as the best."""
        ends = zip(self.regions[design].least, self.largest(design, best), strict=True)
        return tuple(max(0, most - least + 1) for least, most in ends)

    def axes(self, design: int, shape: Sizes) -> tuple[NDArray[np.int64], ...]:
        """The machines of each pool from the least on, as arrays that broadcast to a shape."""
        least = self.regions[design].least
        return np.ix_(*(np.arange(n, n + k, dtype=np.int64) for n, k in zip(least, shape, strict=True)))

    def deciding(self, level: int) -> int:
        """The criterion whose dearest points are tried first at a level, by position.

        The objective if all points of the level have the same: for a tie, and for less complexity.
        """
        return 0 if level == LEVELS - 1 or self.order[level] == "complexity" else level

    def points(self, best: Totals | None) -> int:
        """The number of points in the smallest boxes around all that could be as good as the best."""
        return sum(math.prod(self.shape(d, best)) for d in range(len(self.regions)))


def at_most(sizes: Sizes, other: Sizes) -> bool:
    """Whether no pool has more machines than in the other."""
    return all(map(le, sizes, other))


class Enumeration:
    """Every point that could be as good as the best one, listed: the fast way to the next one to try."""

    def __init__(self, lattice: Lattice, best: Totals | None) -> None:
        self.lattice = lattice
        self.totals: list[list[NDArray[np.int64]]] = []
        self.levels: list[NDArray[np.int8]] = []  # LEVELS where not allowed, excluded or worse
        self.counts: list[int] = []  # points as good as the best, excluded or not
        for d in range(len(lattice.regions)):
            check_time()
            shape = lattice.shape(d, best)
            if 0 in shape:
                shape = (0,) * len(shape)
            axes = lattice.axes(d, shape)
            totals = list(map(np.asarray, lattice.totals_of(d, axes)))
            levels = np.full(shape, 0 if best is None else LEVELS - 1, dtype=np.int8)
            for level, limit in reversed([*enumerate(best or ())]):
                levels[totals[level] < limit] = level
                levels[totals[level] > limit] = LEVELS
            levels[~np.broadcast_to(lattice.leave(d, axes), shape)] = LEVELS
            self.counts.append(int((levels < LEVELS).sum()))
            self.totals.append(totals)
            self.levels.append(levels)
            for cut in lattice.cuts[d]:
                self.cut(Point(d, cut))
            for sizes in lattice.tried[d]:
                self.exclude(Point(d, sizes))

    def exclude(self, point: Point) -> None:
        """Take one point out."""
        levels, region = self.levels[point.design], self.lattice.regions[point.design]
        at = tuple(map(sub, point.sizes, region.least))
        if all(0 <= i < k for i, k in zip(at, levels.shape, strict=True)):
            levels[at] = LEVELS

    def cut(self, point: Point) -> None:
        """Take a point and every point of its design below it out."""
        least = self.lattice.regions[point.design].least
        below = tuple(slice(0, max(0, n - m + 1)) for n, m in zip(point.sizes, least, strict=True))
        self.levels[point.design][below] = LEVELS

    def ends(self, level: int, skip: frozenset[int] = frozenset()) -> tuple[Point, ...]:
        """The dearest points of a level: those of the first design that reaches the largest total, from end to end.

        By the level's criterion. The points of that design within less than one of its machines of the dearest form a
        layer in which none has more machines than another in every pool: its first and last point, if it has any.
        """
        c = self.lattice.deciding(level)
        left = {d: self.totals[d][c][levels == level] for d, levels in enumerate(self.levels) if d not in skip}
        most = {d: int(totals.max()) for d, totals in left.items() if totals.size}
        if not most:
            return ()
        found = max(most, key=most.__getitem__)  # the first of several
        floor = most[found] - min(self.lattice.units[found][c])
        layer = np.argwhere((self.levels[found] == level) & (self.totals[found][c] > floor))
        return tuple(self._point(found, at) for at in (layer if len(layer) == 1 else layer[[0, -1]]))

    def _point(self, d: int, at: Iterable[np.intp]) -> Point:
        return Point(d, tuple(map(add, self.lattice.regions[d].least, map(int, at))))

    def cheapest(self) -> Point | None:
        """A point left with the least objective, None where nothing is left that is better than the best."""
        each: list[tuple[int, int, Point]] = []
        for d, levels in enumerate(self.levels):
            if (levels == 0).any():
                total = np.where(levels == 0, self.totals[d][0], np.iinfo(np.int64).max)
                at = np.unravel_index(int(total.argmin()), total.shape)
                each.append((int(total[at]), d, self._point(d, at)))
        return min(each)[2] if each else None
