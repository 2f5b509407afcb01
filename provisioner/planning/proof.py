"""The exact plan by propose, verify, cut: a judge decides about each candidate, and cuts keep the candidates few.

The course of the search is in docs/reference/formulation.md, "Proving a plan". The judge simulates; it is handed in,
so that planning knows nothing of how.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from operator import sub
from typing import Literal, NamedTuple

import numpy as np

from provisioner.deadline import TimeIsUp, check_time, ending
from provisioner.errors import InputError, ProvisionerError
from provisioner.planning.designs import Design
from provisioner.planning.formulation import Caps, Criterion, Prices
from provisioner.planning.lattice import LEVELS, Enumeration, Lattice, Region, Sizes, Totals, at_most
from provisioner.planning.proof_program import Programs, ProofParameters, parameters
from provisioner.planning.solver import DEFAULT_SOLVER, Point, solver
from provisioner.progress import Progress
from provisioner.results.plan import DesignCounts
from provisioner.specs.criteria import TIES, Tiebreak
from provisioner.specs.slo import LatencyLimit

Outcome = Literal["pass", "fail", "undecided"]

_MOST_ENUMERATED = 4_000_000  # with more points than this to list, the next one to try is found by programs
# Sizes tried for a first plan, as multiples of the guess, until one passes.
_GROWTH = (1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
_EXCHANGES = 2  # exchanges of machines between two pools look this many machines ahead


@dataclass(frozen=True, slots=True)
class Candidate:
    """A design and the machines of each of its pools, of which those ``lost`` are out of service.

    ``batch_tokens`` has the token budget of each pool; without them the judge chooses.
    """

    design: Design
    sizes: Sizes
    lost: Sizes = ()
    batch_tokens: Sizes = ()

    def __str__(self) -> str:
        return f"{self.design.name} {' + '.join(map(str, self.sizes))}{self.losses}"

    def smaller(self, fewer: Sizes) -> "Candidate":
        """The cluster of the design with ``fewer`` machines in its pools, which may be 0."""
        return replace(self, sizes=tuple(map(sub, self.sizes, fewer)))

    @property
    def losses(self) -> str:
        """The machines out of service as text: `` with 1 prompt machine lost``; empty without any."""
        pairs = [(slot.role, n) for slot, n in zip(self.design.slots, self.lost, strict=False) if n]
        named = [f"{n} {role} machine{'s' if n > 1 else ''}" for role, n in pairs]
        return f" with {' and '.join(named)} lost" if named else ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict of the judge on a candidate.

    ``worst_ratio`` is the largest percentile over its limit: infinite if a run is unstable or unfinished, a lower bound
    if one was stopped ``early``. ``broken`` has the limits that are known to be missed, each with the value found, in
    the limit's kind. ``clear``: no smaller candidate of the design can pass, since the worst ratio is beyond the margin
    of cuts, or no number of machines meets the limit. An undecided candidate counts as not shown to pass. ``stable`` is
    None if its runs are too short to tell, ``longer`` how often the time of its request sets was doubled to tell it.
    ``late`` is the end of a batch job over its window, None if it is within it. ``sets`` request sets decided.
    ``losses`` says which machines were lost in what it is about, as ``Candidate.losses`` does. ``batch_tokens`` are the
    token budgets of the pools that it is about, where they were to be chosen.
    """

    outcome: Outcome
    worst_ratio: float
    broken: tuple[tuple[LatencyLimit, float], ...] = ()
    stable: bool | None = True
    early: bool = False
    clear: bool = False
    late: float | None = None
    longer: int = 0
    sets: int = 0
    losses: str = ""
    batch_tokens: Sizes = ()

    def __post_init__(self) -> None:
        if self.clear and self.outcome != "fail":
            raise InputError(f"a verdict of {self.outcome} cannot be a clear failure")
        if math.isnan(self.worst_ratio):
            raise InputError("the worst ratio of a verdict must be a number")

    @property
    def passes(self) -> bool:
        """Whether the candidate is shown to pass."""
        return self.outcome == "pass"

    @property
    def slack(self) -> float:
        """The distance of the worst limit: 1 - percentile / limit; negative where it is broken."""
        return 1.0 - self.worst_ratio


Judge = Callable[[Sequence[Candidate]], Sequence[Verdict]]
"""Verdicts on several candidates at once, in their order; the same candidate always gets the same verdict."""


@dataclass(frozen=True, slots=True)
class Problem:
    """The problem of a proof: the regions of all designs, prices, caps and the objective.

    ``ties`` decide after the objective. ``exhaustive`` lets no failure exclude anything but itself. ``batch``
    candidates are judged at a time; the time limit is looked at between batches. With ``any_plan`` the first plan that
    passes ends the search. ``excluded`` are known to fail clearly: each excludes every smaller one of its design.
    """

    regions: tuple[Region, ...]
    prices: Prices
    caps: Caps = field(default_factory=Caps)
    objective: Criterion = "cost"
    ties: tuple[Tiebreak, ...] = TIES
    exhaustive: bool = False
    batch: int = 2
    solver: str = DEFAULT_SOLVER
    most_enumerated: int = _MOST_ENUMERATED
    any_plan: bool = False
    excluded: tuple[Candidate, ...] = ()

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise InputError(f"candidates judged at a time: must be at least 1, got {self.batch}")


@dataclass(frozen=True, slots=True)
class Judged:
    """A candidate with its totals, in the order in which they decide, and its verdict."""

    candidate: Candidate
    totals: Mapping[Tiebreak, float]
    verdict: Verdict


class Counts(NamedTuple):
    """Numbers of simulated clusters by outcome, and of those ``cut`` without; None if there are too many to count."""

    simulated: int
    rejected_early: int
    near_misses: int
    undecided: int
    cut: int | None
    by_design: tuple[DesignCounts, ...]


@dataclass(frozen=True, slots=True)
class Proof:
    """The best plan that the judge accepts, and the evidence that none is better.

    ``optimal``: no candidate with a better objective is left, which for ``best`` None proves that none passes.
    ``ties_judged``: nor one with the same objective, so that the best is first in the other criteria too, and of
    candidates equal in all of them the one with the largest slack.
    ``lower_bound`` is an objective that no plan can beat, ``gap`` the best's distance to it, relative to the best (0
    when optimal, None without a plan). ``failing_neighbours`` has the best's neighbours with one machine fewer, as far
    as they are allowed, then of each design the nearest miss among the better candidates that fail. ``nearest_miss``
    has the smallest worst ratio where none passes, within caps and stock if any is. ``violations`` are pairs of a
    candidate that passes and one of its design that has at least as many machines in every pool and fails. ``lattice``
    and ``totals`` have what the last programs were stated from.
    """

    best: Judged | None
    optimal: bool
    ties_judged: bool
    lower_bound: float
    gap: float | None
    simulated: tuple[Judged, ...]
    counts: Counts
    cuts: tuple[Candidate, ...]
    violations: tuple[tuple[Judged, Judged], ...]
    nearest_miss: Judged | None
    failing_neighbours: tuple[Judged, ...]
    lattice: Lattice
    totals: Totals | None

    @property
    def program(self) -> ProofParameters:
        """The parameters of the last programs."""
        return parameters(self.lattice, self.totals)


def prove(problem: Problem, judge: Judge, progress: Progress = lambda _: None) -> Proof:
    """The best candidate that the judge accepts, with the proof, or what is known when the time limit is reached.

    ``TimeIsUp`` if it is reached before any verdict.
    """
    return _ProofSearch(problem, judge, progress).run()


def _with_pool(point: Point, pool: int, size: int) -> Point:
    """A point with another size of one pool."""
    return Point(point.design, (*point.sizes[:pool], size, *point.sizes[pool + 1 :]))


class _ProofSearch:
    """One run: what was judged, the best so far, and how far failures are lifted."""

    def __init__(self, problem: Problem, judge: Judge, progress: Progress) -> None:
        solver(problem.solver)  # an unknown one is refused before anything is simulated
        self.problem = problem
        self.judge_many = judge
        self.progress = progress
        self.lattice = Lattice(problem.regions, problem.prices, problem.caps, problem.objective, problem.ties)
        self.verdicts: dict[Point, Verdict] = {}
        self.best: Point | None = None
        self.totals: Totals | None = None
        self.open: Enumeration | None = None  # None: has to be made afresh
        self.lifts: dict[tuple[int, int], int] = {}
        # What is known to fail clearly is cut off as far as it is within the regions.
        positions = {region.design: d for d, region in enumerate(problem.regions)}
        for candidate in () if problem.exhaustive else problem.excluded:
            if (d := positions.get(candidate.design)) is not None:
                self.lattice.cut(Point(d, tuple(map(min, candidate.sizes, problem.regions[d].most))))

    def run(self) -> Proof:
        """First plans, then everything better than the best of them, until nothing is left or the search is ended."""
        finished = False
        try:
            for d in self._by_guess():
                self._first_plan(d)
            settled = False
            while not settled:
                self._from_above()
                best = self.best
                self._judge(self._fewer())  # cut or not: a last check on what the cuts assume
                settled = self.best == best
            self.progress("proving that nothing better is left")
            left = Programs(self.lattice, self.totals, self.problem.solver).any_left()
            if left is not None:
                raise ProvisionerError(f"the proof failed: {self._candidate(left)} was not judged; please report this")
            finished = True
        except TimeIsUp:
            if not self.verdicts:
                raise
        return self._proof(finished)

    def _from_above(self) -> None:
        """Judge the dearest candidates left, lifted where failures are clear, until nothing as good as the best is."""
        while picked := self._pick():
            points = [self._lifted(point, side) for point, side in picked]
            before = self.totals
            self._judge(points)
            for (point, side), lifted in zip(picked, points, strict=True):
                g = self.lifts.get((point.design, side), 0)
                clear = self.verdicts[lifted].clear
                self.lifts[point.design, side] = 2 * g + 1 if clear else max(0, g - 1) // 2
            if self.totals != before:
                assert self.best is not None
                self._descend(self.best)

    def _pick(self) -> list[tuple[Point, int]]:
        """Up to ``batch`` candidates, each with the end of the layer that it is; none where nothing is left."""
        choice = self._choice()
        for level in range(LEVELS if self.totals is not None else 1):
            picked: list[tuple[Point, int]] = []
            skip: frozenset[int] = frozenset()
            while len(picked) < self.problem.batch and (ends := choice.ends(level, skip)):
                picked += [(point, side) for side, point in enumerate(ends)]
                skip |= {ends[0].design}
            if picked:
                return picked[: self.problem.batch]
        return []

    def _choice(self) -> Enumeration | Programs:
        """The search for the next candidates: a list of them, or programs if there are too many."""
        if self.open is None:
            if self.lattice.points(self.totals) > self.problem.most_enumerated:
                return Programs(self.lattice, self.totals, self.problem.solver)
            self.open = Enumeration(self.lattice, self.totals)
        check_time()
        return self.open

    def _lifted(self, point: Point, side: int) -> Point:
        """A candidate from one end of a layer with the pool enlarged in which the layer's next ones have more.

        If it fails clearly too, it excludes them all. Lifted not as far as to any candidate that did not fail clearly.
        """
        if self.problem.exhaustive or len(point.sizes) == 1:
            return point
        pool = side * (len(point.sizes) - 1)
        most = self.problem.regions[point.design].most[pool]
        lift = self.lifts.get((point.design, side), 0)
        not_clear = [p for p, verdict in self.verdicts.items() if p.design == point.design and not verdict.clear]
        while lift > 0:
            lifted = _with_pool(point, pool, min(point.sizes[pool] + lift, most))
            if not any(at_most(other.sizes, lifted.sizes) for other in not_clear):
                return lifted
            lift //= 2
        return point

    def _fewer(self) -> list[Point]:
        """The allowed neighbours of the best with one machine fewer in one pool."""
        if self.best is None:
            return []
        fewer = [_with_pool(self.best, s, n - 1) for s, n in enumerate(self.best.sizes)]
        return list(filter(self.lattice.allowed, fewer))

    def _by_guess(self) -> list[int]:
        """Designs by the totals of their first guess; those without one last."""
        starts = {d: region.start for d, region in enumerate(self.problem.regions) if not region.empty}
        return sorted(starts, key=lambda d: (starts[d] is None, self.lattice.totals(Point(d, starts[d] or ()))))

    def _first_plan(self, d: int) -> None:
        """A plan of a design whose guess is better than the best: the guess, enlarged until it passes, then reduced."""
        region = self.problem.regions[d]
        if region.start is not None and self.lattice.level(Point(d, region.start), self.totals) >= LEVELS - 1:
            return
        line: list[Point] = []
        for factor in _GROWTH:
            point = self._on_ray(d, factor)
            if point in line or not region.enough(point.sizes):
                continue
            if not self._worth(point):
                if not line and factor == _GROWTH[0]:
                    smaller = (self._on_ray(d, 1.0 - 0.05 * k) for k in range(1, 20))
                    line += list(filter(self._worth, smaller))[:1]
                break
            line.append(point)
        for i in range(0, len(line), self.problem.batch):
            if passing := self._judge(line[i : i + self.problem.batch]):
                self._descend(passing[0])
                return

    def _on_ray(self, d: int, factor: float) -> Point:
        """The guess times a factor, within the region; without a guess the least sizes."""
        region = self.problem.regions[d]
        start = region.start or region.least
        within = zip(region.least, start, region.most, strict=True)
        return Point(d, tuple(min(max(least, math.ceil(n * factor)), most) for least, n, most in within))

    def _worth(self, point: Point) -> bool:
        """Whether a candidate is allowed, not excluded, and strictly better than the best."""
        return (
            self.lattice.allowed(point)
            and self.lattice.level(point, self.totals) < LEVELS - 1
            and (point in self.verdicts or not self.lattice.excluded(point))
        )

    def _descend(self, point: Point) -> None:
        """From a candidate that passes: smaller pools, then a few machines more of one pool for fewer of another."""
        for s in range(len(point.sizes)):
            point = self._smallest(point, s)
        exchanged = True
        while exchanged:
            exchanged = False
            for up, down in permutations(range(len(point.sizes)), 2):
                tried = [self._exchange(point, up, more, down) for more in range(1, _EXCHANGES + 1)]
                passing = self._judge([each for each in tried if each is not None])
                if passing:
                    point, exchanged = self._smallest(passing[0], down), True
                    break

    def _exchange(self, point: Point, up: int, more: int, down: int) -> Point | None:
        """A few machines more of one pool and as many of another as still are better than the best; None without."""
        for fewer in range(1, point.sizes[down]):
            sizes = tuple(n + more * (s == up) - fewer * (s == down) for s, n in enumerate(point.sizes))
            if self.lattice.level(each := Point(point.design, sizes), self.totals) < LEVELS - 1:
                return each if self._worth(each) else None
        return None

    def _smallest(self, point: Point, pool: int) -> Point:
        """The candidate with the smallest pool that passes, the others kept: by steps that double, then halving."""
        low, high, step, bracketed = self.problem.regions[point.design].least[pool] - 1, point.sizes[pool], 1, False
        while high - low > 1:
            room, batch = high - low, self.problem.batch
            if bracketed:
                steps = sorted({max(1, room * k // (batch + 1)) for k in range(1, batch + 1)})
            else:
                steps = sorted({min(step * 2**k, room - 1) for k in range(batch)})
                step *= 2**batch
            sizes = [high - each for each in steps]
            worth = filter(self._worth, [_with_pool(point, pool, size) for size in sizes])
            high = min((each.sizes[pool] for each in self._judge(list(worth))), default=high)
            failing = [size for size in sizes if size < high]
            low, bracketed = max([low, *failing]), bracketed or bool(failing)
        return _with_pool(point, pool, high)

    def _judge(self, points: Sequence[Point]) -> list[Point]:
        """Judge what is not known yet, a batch at a time; those that pass, best first."""
        unknown = [point for point in dict.fromkeys(points) if point not in self.verdicts]
        for i in range(0, len(unknown), self.problem.batch):
            check_time()
            batch = unknown[i : i + self.problem.batch]
            verdicts = self.judge_many(list(map(self._candidate, batch)))
            if len(verdicts) != len(batch):
                raise ProvisionerError(f"the judge gave {len(verdicts)} verdicts on {len(batch)} candidates")
            for point, verdict in zip(batch, verdicts, strict=True):
                self._record(point, verdict)
            best = "none passes yet" if self.best is None else f"best {self._candidate(self.best)}"
            self.progress(f"{len(self.verdicts)} simulated, {best}")
            if self.problem.any_plan and self.best is not None:
                raise TimeIsUp
        passing = [point for point in dict.fromkeys(points) if self.verdicts[point].passes]
        return sorted(passing, key=lambda point: (self.lattice.totals(point), -self.verdicts[point].slack))

    def _record(self, point: Point, verdict: Verdict) -> None:
        self.verdicts[point] = verdict
        self.lattice.exclude(point)
        if self.open is not None:
            self.open.exclude(point)
        if verdict.passes:
            if self.lattice.withdraw(point):  # a smaller one passes: what failed above it has shown to exclude nothing
                self.open = None
            level = self.lattice.level(point, self.totals) if self.lattice.allowed(point) else LEVELS
            if level < LEVELS - 1:
                self.best, self.totals, self.open = point, self.lattice.totals(point), None
            elif level < LEVELS and self.best is not None and verdict.slack > self.verdicts[self.best].slack:
                self.best = point  # a tie with more slack
        elif verdict.clear and not self.problem.exhaustive:
            passing = (p for p, v in self.verdicts.items() if v.passes and p.design == point.design)
            if not any(at_most(p.sizes, point.sizes) for p in passing):
                self.lattice.cut(point)
                if self.open is not None:
                    self.open.cut(point)

    def _candidate(self, point: Point) -> Candidate:
        return Candidate(self.problem.regions[point.design].design, point.sizes)

    def _judged(self, point: Point) -> Judged:
        return Judged(self._candidate(point), self.lattice.value(point), self.verdicts[point])

    def _proof(self, finished: bool) -> Proof:
        objective, verdicts = self.problem.objective, self.verdicts
        listed = self._listed()
        bound = None if finished else self._bound(listed)
        best = None if self.best is None else self._judged(self.best)
        none_better = math.inf if best is None else best.totals[objective]
        lower_bound = none_better if bound is None else bound
        failing = [point for point, verdict in verdicts.items() if not verdict.passes]
        allowed = list(filter(self.lattice.allowed, failing))
        nearest = min(allowed or failing, key=self._miss_of_all, default=None) if best is None else None
        return Proof(
            best=best,
            optimal=bound is None,
            ties_judged=finished,
            lower_bound=lower_bound,
            gap=None if best is None else max(0.0, 1.0 - lower_bound / best.totals[objective]),
            simulated=tuple(map(self._judged, verdicts)),
            counts=self._counts(listed),
            cuts=tuple(
                Candidate(region.design, cut)
                for region, cuts in zip(self.problem.regions, self.lattice.cuts, strict=True)
                for cut in sorted(cuts)
            ),
            violations=tuple(self._violations()),
            nearest_miss=None if nearest is None else self._judged(nearest),
            failing_neighbours=tuple(map(self._judged, self._neighbours(allowed))),
            lattice=self.lattice,
            totals=self.totals,
        )

    @ending(math.inf, anew=True)
    def _listed(self) -> Enumeration | None:
        """The list of all points, None if there are too many."""
        if self.open is None and self.lattice.points(self.totals) <= self.problem.most_enumerated:
            self.open = Enumeration(self.lattice, self.totals)
        return self.open

    def _bound(self, listed: Enumeration | None) -> float | None:
        """An objective that nothing left is below, None where nothing left is better than the best in the objective.

        Of too many to list a relaxation has it: programs of them all take minutes.
        """
        if listed is not None:
            cheapest = listed.cheapest()
            return None if cheapest is None else self.lattice.value(cheapest)[self.problem.objective]
        designs = [d for d, region in enumerate(self.problem.regions) if not region.empty]
        within = [d for d in designs if self.totals is None or self.lattice.least_units(d) < self.totals[0]]
        return min(map(self.lattice.least_value, within), default=None)

    def _miss(self, point: Point) -> tuple[bool, bool, float, Totals]:
        """The distance of a candidate from passing, to sort by: exact ones first, then the smaller of equal ones."""
        verdict = self.verdicts[point]
        return math.isinf(verdict.worst_ratio), verdict.early, verdict.worst_ratio, self.lattice.totals(point)

    def _miss_of_all(self, point: Point) -> tuple[bool, bool, float, Totals]:
        """The same, but the larger of those whose runs were stopped early, of which only a bound is known."""
        infinite, early, ratio, totals = self._miss(point)
        return infinite, early, ratio, tuple(-total for total in totals) if early else totals

    def _neighbours(self, failing: list[Point]) -> list[Point]:
        """The best's smaller neighbours, then of each design the nearest miss among the better ones that fail."""
        if self.best is None:
            return []
        better = [point for point in failing if self.lattice.level(point, self.totals) < LEVELS - 1]
        nearest = {point.design: point for point in reversed(sorted(better, key=self._miss))}
        fewer = [point for point in self._fewer() if point in failing]
        return list(dict.fromkeys([*fewer, *(nearest[d] for d in sorted(nearest))]))

    def _counts(self, listed: Enumeration | None) -> Counts:
        verdicts, by_design = self.verdicts.values(), None
        if listed is not None:
            allowed = filter(self.lattice.allowed, self.verdicts)
            simulated = Counter(p.design for p in allowed if self.lattice.level(p, self.totals) < LEVELS)
            left = [int((levels < LEVELS).sum()) for levels in listed.levels]
            by_design = tuple(
                DesignCounts(region.design.name, total, simulated[d], total - simulated[d] - left[d])
                for d, (region, total) in enumerate(zip(self.problem.regions, listed.counts, strict=True))
            )
        return Counts(
            simulated=len(verdicts),
            rejected_early=sum(v.early for v in verdicts),
            near_misses=sum(v.outcome == "fail" and not v.clear for v in verdicts),
            undecided=sum(v.outcome == "undecided" for v in verdicts),
            cut=None if by_design is None else sum(each.cut for each in by_design),
            by_design=by_design or (),
        )

    def _violations(self) -> Iterator[tuple[Judged, Judged]]:
        for d, region in enumerate(self.problem.regions):
            passing, failing = (
                [p for p, v in self.verdicts.items() if p.design == d and v.outcome == outcome]
                for outcome in ("pass", "fail")
            )
            sizes = np.array([p.sizes for p in failing], dtype=np.int64).reshape(-1, len(region.least))
            for point in passing:
                for i in np.flatnonzero((sizes >= point.sizes).all(axis=1)):
                    yield self._judged(point), self._judged(failing[i])
