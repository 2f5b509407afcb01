"""Proofs with made-up judges: against trying every candidate, and what happens at their edges."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

import numpy as np
import pulp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioner.deadline import ending
from provisioner.errors import InputError, ProvisionerError, UnknownNameError
from provisioner.options.defaults import CUT_MARGIN
from provisioner.planning import formulation, proof_program
from provisioner.planning.designs import Design, Slot
from provisioner.planning.formulation import CRITERIA, Caps, Criterion, Prices
from provisioner.planning.lattice import Enumeration, Lattice, Region, at_most, whole_units
from provisioner.planning.program import Program
from provisioner.planning.proof import Candidate, Problem, Proof, Verdict, prove
from provisioner.planning.proof_program import Programs, build, parameters, write_lp
from provisioner.planning.solver import Point, choose, solver
from provisioner.specs.criteria import OF_CLUSTERS, TIES
from tests.planning.golden_lp import assert_golden, lp_text
from tests.planning.instances import MACHINES, parts

FORMULATION = Path(__file__).parents[2] / "docs" / "reference" / "formulation.md"
Ratio = Callable[[str, tuple[int, ...]], float]
Sizes = tuple[int, ...]
FLAT = Prices(dict.fromkeys("abc", 1.0), dict.fromkeys("abc", 1.0))
PRICED = Prices({"a": 22.32, "b": 31.92, "c": 31.92}, {"a": 6500.0, "b": 10200.0, "c": 7140.0})


FRONTIER = (*OF_CLUSTERS, "complexity")  # the order in which a frontier breaks ties


def infeasible(proof: Proof) -> bool:
    """Whether it is proven that no candidate passes."""
    return proof.best is None and proof.optimal


def pair(first: int, second: int, name: str = "") -> Design:
    slots = (Slot("prompt", MACHINES[first], 8), Slot("token", MACHINES[second], 8))
    return Design(name or f"pair {first}{second}", slots)


def alone(which: int) -> Design:
    return Design(f"alone {which}", (Slot("mixed", MACHINES[which], 8),))


def triple(first: int, second: int, third: int) -> Design:
    slots = (
        Slot("prompt", MACHINES[first], 8, 1001, None),
        Slot("prompt", MACHINES[second], 8, 1, 1000),
        Slot("token", MACHINES[third], 8),
    )
    return Design(f"triple {first}{second}{third}", slots)


def region(design: Design, most: int, start: Sizes | None = None, work: float = 0.0) -> Region:
    """Sizes 1..most of every pool; ``work`` is the share that one machine of any pool can do."""
    pools = len(design.slots)
    return Region(design, (1,) * pools, (most,) * pools, ((work,) * pools,) if work else (), start)


@dataclass
class FakeJudge:
    """A ratio for every candidate decides; every candidate may be asked for once."""

    ratio: Ratio
    undecided: Callable[[Sizes], bool] = lambda _: False
    seconds: float = 0.0
    now: float = 0.0
    calls: list[Candidate] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)

    def __call__(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        self.batches.append(len(candidates))
        self.now += self.seconds
        return [self.verdict(candidate) for candidate in candidates]

    def verdict(self, candidate: Candidate) -> Verdict:
        assert candidate not in self.calls, f"{candidate} is judged twice"
        self.calls.append(candidate)
        ratio = self.ratio(candidate.design.name, candidate.sizes)
        outcome = "undecided" if self.undecided(candidate.sizes) else "pass" if ratio <= 1.0 else "fail"
        clear = outcome == "fail" and ratio > CUT_MARGIN
        return Verdict(outcome, ratio, stable=math.isfinite(ratio), early=clear, clear=clear)  # type: ignore[arg-type]

    def clock(self) -> float:
        return self.now


def staircase(*corners: Sizes) -> Ratio:
    """Passes from any of the corners on; below them the ratio rises steeply."""

    def ratio(_: str, sizes: Sizes) -> float:
        short = min(
            max(math.log(corner / n) for corner, n in zip(each, sizes, strict=True))
            for each in corners
            if len(each) == len(sizes)
        )
        return 0.99 * math.exp(4.0 * short)

    return ratio


Rank = tuple[float | tuple[int, ...], ...]


def ranked(problem: Problem, design: Design, totals: Mapping[Criterion, float], ratio: float) -> Rank:
    """Totals of a candidate in the order in which they decide, its parts among them, then its ratio."""
    ties = problem.ties if problem.ties == FRONTIER else (problem.objective, "complexity", *CRITERIA)
    names = dict.fromkeys((problem.objective, *ties))
    return (*(parts(design) if name == "complexity" else round(totals[name], 6) for name in names), ratio)


def brute_force(problem: Problem, ratio: Ratio) -> Rank | None:
    """The rank of the best candidate that passes, with the least ratio of those alike, by trying every one."""
    found: list[Rank] = []
    for each in problem.regions:
        for sizes in product(*(range(low, high + 1) for low, high in zip(each.least, each.most, strict=True))):
            cost, power, count = (
                sum(n * of[slot.machine.name] for n, slot in zip(sizes, each.design.slots, strict=True))
                for of in (problem.prices.cost_usd_per_h, problem.prices.power_w, dict.fromkeys("abc", 1.0))
            )
            caps = (problem.caps.cost_usd_per_h, problem.caps.power_w, problem.caps.machines)
            if any(cap is not None and x > cap * (1 + 1e-9) for x, cap in zip((cost, power, count), caps, strict=True)):
                continue
            used = {
                name: sum(n for n, slot in zip(sizes, each.design.slots, strict=True) if slot.machine.name == name)
                for name in problem.caps.stock
            }
            if any(used[name] > available for name, available in problem.caps.stock.items()):
                continue
            if any(sum(n * w for n, w in zip(sizes, row, strict=True)) < 1.0 - 1e-9 for row in each.work):
                continue
            if ratio(each.design.name, sizes) <= 1.0:
                totals: dict[Criterion, float] = {"cost": cost, "power": power, "machines": count}
                found.append(ranked(problem, each.design, totals, ratio(each.design.name, sizes)))
    return min(found, default=None)


def check_against_brute_force(problem: Problem, ratio: Ratio) -> Proof:
    judge = FakeJudge(ratio)
    proof = prove(problem, judge)
    expected = brute_force(problem, ratio)
    assert proof.optimal and proof.ties_judged
    assert infeasible(proof) == (expected is None) == (proof.best is None)
    assert [each.candidate for each in proof.simulated] == judge.calls
    assert max(judge.batches, default=1) <= problem.batch
    if proof.best is not None and expected is not None:
        best = proof.best
        totals = {name: value for name, value in best.totals.items() if name != "complexity"}
        assert ranked(problem, best.candidate.design, totals, best.verdict.worst_ratio) == expected
        assert proof.gap == 0.0 and proof.lower_bound == proof.best.totals[problem.objective]
        assert proof.counts.cut == sum(
            each.candidates - each.simulated for each in proof.counts.by_design
        )  # nothing is left
    return proof


# --- against brute force ------------------------------------------------------------------------------------


@st.composite
def problems(draw: st.DrawFn) -> tuple[Problem, Ratio]:
    """Up to three designs of one to three pools, caps and stock; monotone ratios with noise within the margin.

    Half of them tie: all machines cost and draw the same, and every design needs as many of them.
    """
    tying = draw(st.booleans())
    indices = st.integers(0, 2)
    regions = []
    for d in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["pair", "pair", "alone", "triple"]))
        if kind == "alone":
            design, most = alone(draw(indices)), draw(st.integers(1, 14))
        elif kind == "pair":
            design, most = pair(draw(indices), draw(indices)), draw(st.integers(1, 9))
        else:
            design, most = triple(draw(indices), draw(indices), draw(indices)), draw(st.integers(1, 4))
        slots = tuple(replace(slot, tensor_parallel=draw(st.sampled_from([4, 8]))) for slot in design.slots)
        design = replace(design, family=f"{d}: {design.name}", slots=slots)
        start = draw(st.none() | st.tuples(*(st.integers(1, 12) for _ in design.slots)))
        work = draw(st.sampled_from([0.0, 0.0, 0.2, 0.3]))
        regions.append(region(design, most, start, work))
    price = st.just(1.5) if tying else st.integers(1, 12).map(lambda quarter: quarter / 4.0)
    prices = Prices({name: draw(price) for name in "abc"}, {name: draw(price) for name in "abc"})
    caps = (
        Caps()
        if tying and draw(st.booleans())
        else Caps(
            draw(st.none() | st.integers(1, 40).map(float)),
            draw(st.none() | st.integers(1, 40).map(float)),
            draw(st.none() | st.integers(1, 14)),
            draw(st.dictionaries(st.sampled_from("abc"), st.integers(0, 8), max_size=2)),
        )
    )
    steep = draw(st.sampled_from([0.3, 1.0, 3.0]))
    needed = {each.design.name: [draw(st.integers(1, 10)) for _ in each.design.slots] for each in regions}
    together, of_any = draw(st.booleans()), draw(st.integers(2, 8))
    noise, seed = draw(st.sampled_from([0.0, 0.1])), draw(st.integers(0, 2**20))

    def ratio(name: str, sizes: Sizes) -> float:
        pools = [(n, enough) for n, enough in zip(sizes, needed[name], strict=True)]
        if tying:
            short = of_any / sum(sizes)
        elif together:  # pools that borrow from each other
            short = sum(enough for _, enough in pools) / sum(n for n, _ in pools)
        else:
            short = max(enough / n for n, enough in pools)
        rng = np.random.default_rng([seed, len(name), *map(ord, name[:1]), *sizes])
        return float(short**steep * (1.0 + noise * rng.uniform(-1.0, 1.0)))

    return (
        Problem(
            tuple(regions),
            prices,
            caps,
            draw(st.sampled_from(CRITERIA)),
            exhaustive=draw(st.sampled_from([False, False, False, True])),
            batch=draw(st.integers(1, 3)),
            ties=draw(st.sampled_from([TIES, TIES, FRONTIER])),
        ),
        ratio,
    )


@settings(max_examples=60, deadline=None)
@given(problems())
def test_the_proof_equals_brute_force(case: tuple[Problem, Ratio]) -> None:
    """All designs together, then each alone: the best totals, and of those the largest slack among what is not cut."""
    problem, ratio = case
    check(problem, ratio)
    for each in problem.regions if len(problem.regions) > 1 else ():
        check(replace(problem, regions=(each,)), ratio)


def check(problem: Problem, ratio: Ratio) -> None:
    proof = check_against_brute_force(problem, ratio)
    if proof.best is None:
        assert proof.gap is None and proof.lower_bound == math.inf
        assert (proof.nearest_miss is None) == (not proof.simulated)
    for passing, failing in proof.violations:
        assert at_most(passing.candidate.sizes, failing.candidate.sizes)
    if problem.exhaustive:
        assert not proof.cuts and proof.counts.cut == 0


@settings(max_examples=15, deadline=None)
@given(problems())
def test_programs_propose_the_same_candidates_as_listing_them(case: tuple[Problem, Ratio]) -> None:
    problem, ratio = case
    listed, programmed = FakeJudge(ratio), FakeJudge(ratio)
    first = prove(problem, listed)
    second = prove(replace(problem, most_enumerated=-1), programmed)
    assert listed.calls == programmed.calls
    assert (first.best, first.lower_bound) == (second.best, second.lower_bound)
    assert second.counts.cut is None


@settings(max_examples=25, deadline=None)
@given(problems(), st.data())
def test_the_rows_leave_exactly_what_is_not_excluded(case: tuple[Problem, Ratio], data: st.DataObject) -> None:
    """At any state: the choices that satisfy the rows of a level are the points that listing finds at it."""
    problem, _ = case
    lattice = Lattice(problem.regions, problem.prices, problem.caps, problem.objective, problem.ties)
    points = [
        Point(d, sizes)
        for d, each in enumerate(problem.regions)
        for sizes in product(*(range(low, high + 1) for low, high in zip(each.least, each.most, strict=True)))
    ]
    for point in data.draw(st.lists(st.sampled_from(points), max_size=6)):
        lattice.exclude(point)
        if data.draw(st.booleans()):
            lattice.cut(point)
    best = data.draw(st.none() | st.sampled_from(points).map(lattice.totals))
    p = parameters(lattice, best)
    listed = Enumeration(lattice, best)
    for level in p.levels:
        left = {point for point in points if satisfies(p, build(p, level), point)}
        free = {point for point in points if lattice.allowed(point) and not lattice.excluded(point)}
        here = {point for point in free if lattice.level(point, best) == level}
        # A point better in an earlier criterion is left too, unless it is worse in one between: it has its own level.
        assert here <= left <= {point for point in free if lattice.level(point, best) <= level}
        found = listed.ends(level)
        assert set(found) <= here and bool(found) == bool(here)


def satisfies(p: proof_program.ProofParameters, program: Program, point: Point) -> bool:
    """Whether a point satisfies every row of a program."""
    if point.design not in p.positions:
        return False
    d = p.positions.index(point.design)
    pools = p.choices.candidates[d].pools
    if any(n not in pool.sizes for pool, n in zip(pools, point.sizes, strict=True)):
        return False
    values = np.zeros(program.columns)
    values[[d, *(int(program.size(d, s, n)[0]) for s, n in enumerate(point.sizes))]] = 1.0
    totals = ((row, float(row.sum.coefficients @ values[row.sum.columns])) for row in program.rows.values())
    return all(row.least - 1e-7 <= total <= row.most + 1e-7 for row, total in totals)


# --- how many judgements it takes -----------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(
    "corners",
    [((27, 3),), ((40, 10),), ((12, 12),), ((5, 50), (20, 20), (50, 5)), ((30, 6), (28, 8), (25, 14), (24, 30))],
)
def test_a_staircase_takes_few_judgements(corners: tuple[Sizes, ...], batch: int) -> None:
    for start in (None, corners[0], (20, 20)):
        problem = Problem((region(pair(0, 0), 60, start, 1.0 / 20.0),), FLAT, batch=batch)
        proof = check_against_brute_force(problem, staircase(*corners))
        assert proof.counts.simulated < 80, (start, proof.counts)


def test_a_hopeless_design_takes_few_judgements() -> None:
    """A few large failures exclude the rest of a design that is far from passing."""

    def ratio(name: str, sizes: Sizes) -> float:
        return staircase((30, 5))(name, sizes) if name == "good" else 5.0

    good, hopeless = region(pair(0, 0, "good"), 60, (31, 6)), region(pair(0, 0, "hopeless"), 60, (60, 60))
    proof = check_against_brute_force(Problem((good, hopeless), FLAT), ratio)
    assert len([each for each in proof.simulated if each.candidate.design.name == "hopeless"]) <= 20
    assert proof.counts.by_design[1].candidates == 35 * 34 / 2


def test_a_dearer_design_is_not_searched_for_a_first_plan() -> None:
    cheap, dear = region(alone(0), 60, (30,)), region(alone(1), 60, (40,))
    judge = FakeJudge(staircase((30,)))
    prove(Problem((dear, cheap), PRICED), judge)
    assert judge.calls[0].design == cheap.design
    assert all(each.sizes[0] <= 20 for each in judge.calls if each.design == dear.design)  # 20 * 31.92 < 30 * 22.32


# --- what failures exclude ------------------------------------------------------------------------------------


def violations(proof: Proof) -> list[tuple[Sizes, Sizes]]:
    return [(passing.candidate.sizes, failing.candidate.sizes) for passing, failing in proof.violations]


def test_a_near_miss_excludes_itself_alone() -> None:
    """28 + 1 passes and 28 + 4 fails: a smaller plan than one that nearly passes is found."""
    ratios = {(28, 1): 0.97, (28, 4): 1.04, (28, 3): 1.03, (28, 2): 1.02, (29, 1): 0.96, (30, 1): 0.95}

    def ratio(name: str, sizes: Sizes) -> float:
        return ratios.get(sizes, 0.9 if sizes[0] >= 29 and sizes[1] >= 2 else 1.2 + 0.2 * max(0, 28 - sizes[0]))

    proof = prove(Problem((region(pair(0, 0), 60, (31, 4)),), FLAT), FakeJudge(ratio))
    assert proof.best is not None and proof.best.candidate.sizes == (28, 1)
    by_sizes = {each.candidate.sizes: each.verdict for each in proof.simulated}
    assert all(by_sizes[n, m].clear for n, m in [(27, 1)] if (n, m) in by_sizes)
    assert all(small == (28, 1) or large[0] > 28 for small, large in violations(proof))


def test_a_violation_is_reported() -> None:
    def ratio(name: str, sizes: Sizes) -> float:
        return {9: 1.1, 8: 0.99}.get(sizes[0], 0.9 if sizes[0] >= 10 else 2.0)

    proof = prove(Problem((region(alone(0), 20, (10,)),), FLAT, batch=1), FakeJudge(ratio))
    assert proof.best is not None and proof.best.candidate.sizes == (8,)
    assert violations(proof) == [((8,), (9,))]
    assert proof.counts.near_misses == 1


def test_a_cut_that_a_smaller_plan_contradicts_is_withdrawn() -> None:
    """The neighbours of the answer are judged even where a cut excludes them."""

    def ratio(name: str, sizes: Sizes) -> float:
        return {(7, 6): 1.5, (6, 6): 0.99}.get(sizes, 0.8 if sum(sizes) >= 13 else 3.0)

    proof = prove(Problem((region(pair(0, 0), 12, (7, 6)),), FLAT), FakeJudge(ratio))
    assert proof.best is not None and proof.best.candidate.sizes == (6, 6) and proof.optimal
    assert all(not at_most((6, 6), cut.sizes) for cut in proof.cuts)
    assert ((6, 6), (7, 6)) in violations(proof)


def test_a_failure_above_a_plan_that_passes_cuts_nothing() -> None:
    lattice = Lattice((region(pair(0, 0), 9),), FLAT, Caps(), "cost")
    lattice.cut(Point(0, (3, 3)))
    lattice.cut(Point(0, (4, 4)))
    assert lattice.cuts == [[(4, 4)]]
    assert lattice.withdraw(Point(0, (2, 5))) is False
    assert lattice.withdraw(Point(0, (2, 4))) is True and lattice.cuts == [[]]


def test_undecided_counts_as_not_shown_to_pass_and_excludes_itself_alone() -> None:
    judge = FakeJudge(lambda _, sizes: 0.9 if sizes[0] >= 6 else 9.0, undecided=lambda sizes: sizes == (11,))
    proof = prove(Problem((region(alone(0), 20, (12,)),), FLAT), judge)
    assert proof.best is not None and proof.best.candidate.sizes == (6,)
    assert proof.counts.undecided == 1 and not proof.violations
    nothing = prove(Problem((region(alone(0), 20, (12,)),), FLAT), FakeJudge(lambda *_: 1.0, lambda _: True))
    assert infeasible(nothing) and nothing.counts.undecided == nothing.counts.simulated == 20


def test_exhaustive_judges_every_better_candidate() -> None:
    ratio = staircase((8, 5), (6, 9))
    problem = Problem((region(pair(0, 0), 12, (9, 9)), region(alone(0), 20, (15,))), FLAT, exhaustive=True)
    proof = check_against_brute_force(problem, lambda name, sizes: ratio(name, sizes) if len(sizes) == 2 else 3.0)
    assert not proof.cuts
    better = [each for each in proof.simulated if each.totals["cost"] <= 13.0]
    assert len(better) == sum(n + m <= 13 for n in range(1, 13) for m in range(1, 13)) + 13


# --- ties, caps, no answer --------------------------------------------------------------------------------------


def test_ties_go_to_the_largest_slack_over_designs_too() -> None:
    values = {"first": {(3, 4): 0.9, (4, 3): 0.8, (5, 2): 0.95}, "second": {(5, 2): 0.7, (1, 6): 0.85}}

    def ratio(name: str, sizes: Sizes) -> float:
        return values[name].get(sizes, 0.6 if sum(sizes) > 7 else 1.2 if sum(sizes) == 7 else 5.0)

    regions = tuple(region(pair(0, 0, name), 12, (5, 5)) for name in values)
    proof = prove(Problem(regions, FLAT), FakeJudge(ratio))
    assert proof.best is not None and str(proof.best.candidate) == "second 5 + 2"
    assert proof.best.verdict.slack == pytest.approx(0.3)


def test_equal_cost_is_decided_by_power() -> None:
    """Machines b and c cost the same and c draws less: level 2 of the proof."""
    regions = tuple(region(alone(which), 30, (12,)) for which in (1, 2))
    proof = prove(Problem(regions, PRICED), FakeJudge(staircase((10,))))
    assert proof.best is not None and str(proof.best.candidate) == "alone 2 10"
    totals = {"cost": 319.2, "complexity": 111, "power": 71400.0, "machines": 10.0}
    assert dict(proof.best.totals) == pytest.approx(totals) and list(proof.best.totals) == list(totals)


def test_the_simplest_wins_a_tie_before_power_and_slack() -> None:
    """Machines b and c cost the same. Split and mixed types draw less power and have more slack, and lose the tie."""
    colocated, split, types = alone(1), pair(1, 1), pair(1, 2)
    degrees = replace(
        split, family="pair 11 at TP 8 + 4", slots=(split.slots[0], replace(split.slots[1], tensor_parallel=4))
    )

    def prove_over(*designs: Design, enough: int = 10) -> Proof:
        def ratio(name: str, sizes: Sizes) -> float:
            return (0.99 if name == colocated.name else 0.5) if sum(sizes) >= enough else 1.5

        problem = Problem(tuple(region(each, 12, tuple(6 for _ in each.slots)) for each in designs), PRICED)
        return check_against_brute_force(problem, ratio)

    for designs in ((types, degrees, split, colocated), (types, degrees, split), (types, degrees), (types,)):
        for several in (designs, designs[::-1]):
            best = prove_over(*several).best
            assert best is not None and best.candidate.design == designs[-1]
            assert best.totals["cost"] == pytest.approx(319.2)
    frontier = prove(
        Problem(tuple(region(each, 12) for each in (colocated, types)), PRICED, ties=FRONTIER),
        FakeJudge(lambda _, sizes: 0.9 if sum(sizes) >= 10 else 1.5),
    )
    assert frontier.best is not None and str(frontier.best.candidate) == "pair 12 1 + 9"


def test_a_more_complex_tie_is_not_judged_once_a_simpler_one_passes() -> None:
    colocated, split = region(alone(1), 30, (10,)), region(pair(1, 1), 30, (5, 5))
    judge = FakeJudge(lambda _, sizes: 0.9 if sum(sizes) >= 10 else 9.0)
    prove(Problem((split, colocated), PRICED, exhaustive=True), judge)
    assert sum(len(each.sizes) == 2 and sum(each.sizes) == 9 for each in judge.calls) == 8
    assert not any(len(each.sizes) == 2 and sum(each.sizes) >= 10 for each in judge.calls)


def test_nothing_within_the_caps() -> None:
    problem = Problem((region(pair(0, 0), 40, (20, 5)),), FLAT, Caps(machines=22))
    proof = check_against_brute_force(problem, staircase((20, 4)))
    assert infeasible(proof) and not proof.failing_neighbours
    assert proof.nearest_miss is not None
    within = [each for each in proof.simulated if each.totals["machines"] <= 22]
    assert proof.nearest_miss.verdict.worst_ratio == min(each.verdict.worst_ratio for each in within)
    assert proof.nearest_miss in within


def test_empty_regions_prove_that_nothing_passes() -> None:
    empty = Region(pair(0, 0), (5, 5), (4, 9))
    proof = prove(Problem((empty,), FLAT), FakeJudge(lambda *_: 0.5))
    assert infeasible(proof) and not proof.simulated and proof.counts.cut == 0
    assert empty.empty and infeasible(prove(Problem((), FLAT), FakeJudge(lambda *_: 0.5)))


def test_the_evidence_names_what_fails_next_to_the_answer() -> None:
    regions = (region(pair(0, 0), 40, (20, 5)), region(alone(1), 40, (30,)))
    ratio: Ratio = lambda name, sizes: staircase((20, 4), (27,))(name, sizes)  # noqa: E731
    proof = prove(Problem(regions, PRICED), FakeJudge(ratio))
    assert proof.best is not None and proof.best.candidate.sizes == (20, 4)
    found = [str(each.candidate) for each in proof.failing_neighbours]
    assert found[:2] == ["pair 00 19 + 4", "pair 00 20 + 3"]
    assert any(each.startswith("alone 1") for each in found)
    assert all(not each.verdict.passes for each in proof.failing_neighbours)


# --- the time limit -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [1.0, 3.0, 6.0, 9.0, 12.0, 1000.0])
def test_a_time_limit_leaves_the_best_so_far_and_a_bound(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    ratio = staircase((8, 5), (6, 9))
    regions = (region(pair(0, 0), 20, (12, 12), 0.1),)
    judge = FakeJudge(ratio, seconds=1.0)
    monkeypatch.setattr("provisioner.deadline.monotonic", judge.clock)
    with ending(seconds):
        proof = prove(Problem(regions, FLAT), judge)
    assert judge.now <= seconds or seconds == 1000.0
    assert proof.lower_bound <= 13.0 and proof.lower_bound >= 10.0
    if proof.best is not None:
        assert proof.gap == pytest.approx(1.0 - proof.lower_bound / proof.best.totals["cost"])
        assert proof.optimal == (proof.lower_bound == proof.best.totals["cost"] == 13.0)
    assert proof.ties_judged == (seconds == 1000.0)
    left = sum(each.candidates - each.simulated - each.cut for each in proof.counts.by_design)
    assert (left == 0) == proof.ties_judged
    if seconds == 1.0:
        assert proof.counts.simulated == 2 and not proof.optimal


def test_without_any_plan_in_time_the_bound_is_the_cheapest_left(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = FakeJudge(lambda *_: 1.2, seconds=1.0)
    monkeypatch.setattr("provisioner.deadline.monotonic", judge.clock)
    with ending(3.0):
        proof = prove(Problem((region(alone(0), 20, (12,), 0.25),), FLAT), judge)
    assert proof.best is None and not proof.optimal and not infeasible(proof) and proof.gap is None
    assert proof.lower_bound == 4.0 and proof.nearest_miss is not None


def test_with_too_many_to_list_the_bound_in_time_is_of_the_least_that_does_the_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No program is stated once the time is up; the bound may be lower than that of a list."""
    monkeypatch.setattr("provisioner.planning.proof_program.build", lambda *_: pytest.fail("a program was stated"))
    bounds = []
    for most_enumerated in (10_000, 0):
        judge = FakeJudge(staircase((8, 5), (6, 9)), seconds=1.0)
        monkeypatch.setattr("provisioner.deadline.monotonic", judge.clock)
        problem = Problem((region(pair(0, 0), 20, (12, 12), 0.1),), FLAT, most_enumerated=most_enumerated)
        with ending(3.0):
            proof = prove(problem, judge)
        assert not proof.optimal and proof.best is not None
        bounds.append(proof.lower_bound)
    assert bounds[1] == 10.0 <= bounds[0] <= 13.0


@given(
    least=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    work=st.lists(st.tuples(*[st.floats(0.0, 0.6, allow_subnormal=False)] * 2), max_size=2),
    objective=st.sampled_from(CRITERIA),
)
def test_no_point_is_below_the_bound_of_its_design(
    least: Sizes, work: list[tuple[float, float]], objective: Criterion
) -> None:
    lattice = Lattice((Region(pair(0, 1), least, (12, 12), tuple(work)),), PRICED, Caps(), objective)
    points = [Point(0, sizes) for sizes in product(range(1, 13), repeat=2) if lattice.allowed(Point(0, sizes))]
    for point in points:
        assert lattice.least_units(0) <= lattice.totals(point)[0]
        assert lattice.least_value(0) <= lattice.value(point)[objective] * (1.0 + 1e-12)


def test_what_is_known_to_fail_excludes_smaller_ones_unseen() -> None:
    """Sizes up to 5 of 12 are known to fail; the judge, which would pass 3, is not asked about them."""
    asked: list[int] = []

    def ratio(_: str, sizes: Sizes) -> float:
        asked.append(sizes[0])
        return 0.9 if sizes[0] >= 6 or sizes[0] == 3 else 2.0

    design = region(alone(0), 20, (12,), 0.0)
    known = (Candidate(design.design, (5,)), Candidate(alone(1), (9,)), Candidate(design.design, (99,)))
    proof = prove(Problem((design,), FLAT, excluded=known[:2]), FakeJudge(ratio))
    assert proof.best is not None and proof.best.candidate.sizes == (6,)
    assert proof.optimal and min(asked) == 5, "the neighbour with one machine fewer is looked at all the same"
    assert infeasible(prove(Problem((design,), FLAT, excluded=known, any_plan=True), FakeJudge(ratio)))
    free = prove(Problem((design,), FLAT, excluded=known, exhaustive=True), FakeJudge(ratio))
    assert free.best is not None and free.best.candidate.sizes == (3,)


# --- the program --------------------------------------------------------------------------------------------------


def stated(level: int = 3, at_least: int | None = 40) -> tuple[proof_program.ProofParameters, Program]:
    """Two designs in which every row family occurs."""
    caps = Caps(cost_usd_per_h=200.0, power_w=60_000.0, machines=6, stock={"a": 3})
    first = replace(region(pair(0, 1), 3, None, 0.3), least=(2, 1))
    lattice = Lattice((first, region(alone(1), 5, None, 0.5)), PRICED, caps, "cost")
    lattice.cut(Point(0, (2, 1)))
    lattice.exclude(Point(0, (2, 3)))
    lattice.cut(Point(1, (2,)))
    p = parameters(lattice, lattice.totals(Point(0, (2, 3))))
    return p, build(p, level, at_least)


PROOF_FAMILIES = ("enough_work", "cut", "tried", "no_worse", "better", "as_dear_as")
SHARED_FAMILIES = ("one_design", "one_size", "in_stock", "capped")


@pytest.mark.parametrize("family", PROOF_FAMILIES)
def test_golden_lp_of_each_row_family(family: str, tmp_path: Path) -> None:
    """Regenerate with REGENERATE_GOLDEN=1 pytest tests/planning/test_proof.py, and read the difference."""
    _, program = stated()
    assert_golden(f"proof_{family}", lp_text(program.problem(), family, tmp_path))


def documented() -> dict[str, list[str]]:
    """The rows table of "Proving a plan" in docs/reference/formulation.md, by function."""
    text = FORMULATION.read_text(encoding="utf-8")
    section = text.split("## Proving a plan")[1].split("\n## ")[0].split("### Its rows")[1]
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        for line in section.splitlines()
        if line.startswith("|")
    ]
    return {row[5].strip("`"): row for row in rows[2:]}


def test_documented_rows_equal_built_rows_both_ways() -> None:
    _, program = stated()
    built = set(program.rows)
    table = documented()
    assert [row[0] for row in table.values()] == [f"P{i}" for i in range(1, len(table) + 1)]
    assert set(table) == {name.split("(")[0] for name in built} == {*PROOF_FAMILIES, *SHARED_FAMILIES}
    for function, (_, name, formula, _, _, _) in table.items():
        family, _, index = name.strip("`").partition("(")
        assert family == function
        places = len(index.strip(")").split(",")) if index else 0
        shapes = {row.count(",") + ("(" in row) for row in built if row.split("(")[0] == family}
        assert shapes == {places}, f"{name} has {places} indices"
        home = proof_program if function in PROOF_FAMILIES else formulation
        first = (getattr(home, function).__doc__ or "").splitlines()[0]
        assert first.split(": ")[0] == formula.strip("`")


def test_every_row_is_named_and_every_variable_binary() -> None:
    _, program = stated()
    problem = program.problem()
    names = [str(row.name) for row in problem.constraints()]
    assert all(re.fullmatch(r"[a-z0-9_]+(\([^()]*\))?", name) for name in names)
    assert {(v.cat, v.lowBound, v.upBound) for v in problem.variables()} == {("Integer", 0, 1)}


def test_the_written_program_has_no_solution_after_a_proof(tmp_path: Path) -> None:
    highspy = pytest.importorskip("highspy")
    proof = prove(Problem((region(pair(0, 1), 30, (20, 5)),), PRICED), FakeJudge(staircase((18, 4), (16, 9))))
    path = tmp_path / "proof.lp"
    for level in proof.program.levels:
        write_lp(proof.program, str(path), level)
        h = highspy.Highs()
        h.silent()
        h.readModel(str(path))
        h.run()
        assert h.getModelStatus() == highspy.HighsModelStatus.kInfeasible
    with pytest.raises(InputError, match="cannot be written"):
        write_lp(proof.program, str(tmp_path / "missing" / "proof.lp"))
    nothing = prove(Problem((), FLAT), FakeJudge(lambda *_: 1.0))
    with pytest.raises(InputError, match="no program"):
        write_lp(nothing.program, str(path))


def test_the_program_finds_what_a_search_would_overlook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Enumeration, "ends", lambda *_: ())
    with pytest.raises(ProvisionerError, match="was not judged"):
        prove(Problem((region(pair(0, 0), 30, (20, 20)),), FLAT), FakeJudge(staircase((5, 9), (9, 5), (2, 11))))


def test_another_solver_proves_the_same() -> None:
    others = [name for name in pulp.listSolvers(onlyAvailable=True) if name != "HiGHS"]
    problem = Problem((region(pair(0, 1), 12, (8, 5)),), PRICED, most_enumerated=-1)
    expected = [each.candidate for each in prove(problem, FakeJudge(staircase((6, 4)))).simulated]
    for name in others:
        proof = prove(replace(problem, solver=name), FakeJudge(staircase((6, 4))))
        assert [each.candidate for each in proof.simulated] == expected


def test_a_point_that_only_the_tolerance_allows_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A solver may exceed a row by its tolerance; every point it finds is checked exactly."""
    lattice = Lattice((region(alone(0), 9),), FLAT, Caps(machines=6), "cost")
    allowed = lattice.allowed
    monkeypatch.setattr(lattice, "allowed", lambda point: point.sizes[0] <= 4 and allowed(point))
    solved: list[Program] = []
    monkeypatch.setattr(proof_program, "choose", lambda *given: solved.append(given[0]) or choose(*given))  # type: ignore[func-returns-value]
    assert Programs(lattice, None).any_left() == Point(0, (4,)) and len(solved) == 3


# --- what is given ------------------------------------------------------------------------------------------------


def test_prices_are_compared_as_whole_numbers() -> None:
    assert whole_units({"a": 22.32, "b": 31.92}) == {"a": 93, "b": 133}
    assert whole_units({"a": 1.0}) == {"a": 1}
    assert whole_units({"a": 0.1, "b": 0.3}) == {"a": 1, "b": 3}
    assert whole_units({"a": 1e-6, "b": 1e6})["a"] == 1
    with pytest.raises(InputError, match="a: what a machine costs"):
        whole_units({"a": 0.0})


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Region(pair(0, 0), (1,), (2, 2)), "has 2 pools"),
        (lambda: Region(pair(0, 0), (0, 1), (2, 2)), "at least one machine"),
        (lambda: Region(pair(0, 0), (1, 1), (2, 2), ((0.1, math.nan),)), "must be finite"),
        (lambda: Problem((), FLAT, batch=0), "at least 1"),
        (lambda: Verdict("pass", 0.9, clear=True), "cannot be a clear failure"),
        (lambda: Verdict("fail", math.nan), "must be a number"),
    ],
)
def test_bad_input_is_refused(make: Callable[[], object], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        make()


def test_an_unknown_solver_is_refused_before_anything_is_judged() -> None:
    judge = FakeJudge(lambda *_: 0.5)
    with pytest.raises(UnknownNameError):
        prove(Problem((region(alone(0), 5),), FLAT, solver="higs"), judge)
    assert not judge.calls and solver("highs").name == "HiGHS"


def test_a_judge_that_loses_a_verdict_is_an_error() -> None:
    with pytest.raises(ProvisionerError, match="1 verdicts on 2"):
        prove(Problem((region(alone(0), 9, (3,)),), FLAT), lambda candidates: [Verdict("fail", 1.2)])


def test_progress_is_told() -> None:
    lines: list[str] = []

    def judge(candidates: Sequence[Candidate]) -> list[Verdict]:
        sizes = [candidate.sizes[0] for candidate in candidates]
        return [Verdict("pass", 3.0 / n) if n >= 3 else Verdict("fail", 2.0, clear=True) for n in sizes]

    proof = prove(
        Problem((region(alone(0), 9, (3,)),), FLAT),
        judge,
        lines.append,
    )
    assert proof.best is not None and proof.best.candidate.sizes == (3,)
    assert lines[0] == "2 simulated, best alone 0 3" and lines[-1] == "proving that nothing better is left"
    assert all(criterion in proof.best.totals for criterion in CRITERIA)
