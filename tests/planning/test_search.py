"""Choices made with candidates: cuts found while solving, ties broken by slack, the largest rate."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioner.planning import search as module
from provisioner.planning.candidates import LatencyInputs
from provisioner.planning.designs import Design
from provisioner.planning.formulation import CRITERIA, Caps, Criterion, Parameters, Prices
from provisioner.planning.search import RATE_TOLERANCE, Search, largest_rate
from provisioner.specs.criteria import order
from provisioner.specs.slo import SLO, LatencyLimit
from tests.planning.instances import E2E_P90, MACHINES, TTFT_P99, brute_force, instances, option, pool, totals

Value = Callable[[str, tuple[int, ...]], float]


class FakeLatency:
    """A latency model in one line: a percentile of any metric is a function of the sizes."""

    value: Value
    calls = 0

    def __init__(self, question: LatencyInputs, design: Design) -> None:
        self.design = design

    def percentile(self, metric: str, quantile: float, kind: str, sizes: tuple[int, ...]) -> float:
        return FakeLatency.value(metric, sizes)

    def meets(self, limit: LatencyLimit, sizes: tuple[int, ...]) -> bool:
        FakeLatency.calls += 1
        return FakeLatency.value(limit.metric, sizes) <= limit.value


def search_over(
    parameters: Parameters, limits: tuple[LatencyLimit, ...], value: Value, monkeypatch: pytest.MonkeyPatch
) -> tuple[Search, tuple[Design, ...]]:
    monkeypatch.setattr(module, "DesignLatency", FakeLatency)
    monkeypatch.setattr(FakeLatency, "value", staticmethod(value), raising=False)
    question = LatencyInputs(None, SLO("test", limits), None, {})  # type: ignore[arg-type]
    search = Search(question, (), parameters.prices, parameters.caps, "HiGHS")
    search.candidates = {each.design: each for each in parameters.candidates}
    return search, tuple(search.candidates)


@settings(max_examples=60, deadline=None)
@given(
    instances(only_shared=True),
    st.sampled_from(CRITERIA),
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)),
    st.integers(3, 40),
)
def test_cuts_found_while_solving_reach_the_brute_force_optimum(
    parameters: Parameters, objective: Criterion, weight: tuple[int, int, int], enough: int
) -> None:
    """End-to-end limits that all three sizes decide, with shared roles, stock and caps."""

    def value(metric: str, sizes: tuple[int, ...]) -> float:
        work = sum(w * n for w, n in zip(weight, sizes, strict=True))
        return E2E_P90.value if work >= enough else E2E_P90.value * 2.0

    with pytest.MonkeyPatch.context() as patch:
        search, designs = search_over(parameters, (E2E_P90,), value, patch)
        best = search.best(designs, objective)
        expected = brute_force(parameters, objective, lambda sizes: value("e2e", sizes) <= E2E_P90.value)
    assert (best is None) == (expected is None)
    if best is not None and expected is not None:
        assert tuple(best.totals[criterion] for criterion in order(objective)) == pytest.approx(expected)
        assert value("e2e", best.sizes) <= E2E_P90.value
        position = [each.design for each in parameters.candidates].index(best.design)
        assert totals(parameters, position, best.sizes) == pytest.approx(best.totals)
    for each in search.candidates.values():  # no cut excludes a choice that meets the limits
        assert all(value("e2e", cut) > E2E_P90.value for cut in each.cuts)


def one_price(*options: object) -> Parameters:
    flat = {m.name: 1.0 for m in MACHINES}
    return Parameters(options, Prices(flat, flat), Caps())  # type: ignore[arg-type]


def test_a_tie_goes_to_the_largest_worst_slack(monkeypatch: pytest.MonkeyPatch) -> None:
    a = MACHINES[0]
    sizes = [1, 2, 3, 4]
    pair = option("pair", pool("prompt", a, sizes), pool("token", a, sizes), cuts=((4, 1), (2, 2), (1, 3)))
    # Five machines at least; of 1+4, 2+3 and 3+2 every limit's worst is best in the middle.
    values: dict[tuple[int, ...], tuple[float, float]] = {(3, 2): (5.0, 1.4), (2, 3): (4.0, 1.2), (1, 4): (3.0, 1.45)}

    def value(metric: str, sizes: tuple[int, ...]) -> float:
        return values[sizes][metric == "e2e"]

    search, designs = search_over(one_price(pair), (TTFT_P99, E2E_P90), value, monkeypatch)
    best = search.best(designs, "cost")
    assert best is not None and best.sizes == (2, 3)
    assert best.totals == {"cost": 5.0, "complexity": 211, "power": 5.0, "machines": 5}


def test_a_tie_goes_to_the_simpler_design_before_slack(monkeypatch: pytest.MonkeyPatch) -> None:
    a = MACHINES[0]
    split = option("split", pool("prompt", a, [1]), pool("token", a, [2]))
    colocated = option("colocated", pool("mixed", a, [3]))
    for options in ((split, colocated), (colocated, split)):
        search, designs = search_over(
            one_price(*options), (TTFT_P99,), lambda metric, sizes: 6.0 - len(sizes), monkeypatch
        )
        best = search.best(designs, "cost")
        assert best is not None and best.design.name == "colocated"


def test_a_tie_between_designs_as_simple_goes_to_the_larger_slack(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, _ = MACHINES
    first = option("first", pool("prompt", a, [1]), pool("token", b, [2]))
    second = option("second", pool("prompt", a, [2]), pool("token", b, [1]))
    for better in (first, second):

        def value(metric: str, sizes: tuple[int, ...], better: object = better) -> float:
            return 2.0 if (sizes == (1, 2)) == (better is first) else 3.0

        search, designs = search_over(one_price(first, second), (TTFT_P99,), value, monkeypatch)
        best = search.best(designs, "cost")
        assert best is not None and best.design == better.design


def test_ties_without_any_limit_are_stable(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, _ = MACHINES
    options = (option("first", pool("mixed", a, [3])), option("second", pool("mixed", b, [3])))
    search, designs = search_over(one_price(*options), (), lambda metric, sizes: 1.0, monkeypatch)
    found = {search.best(designs, "cost").design.name for _ in range(3)}  # type: ignore[union-attr]
    assert len(found) == 1


@given(st.floats(1e-3, 1e5), st.floats(1e-3, 1e5))
def test_the_largest_rate_is_found_to_its_tolerance(truth: float, start: float) -> None:
    low, high = largest_rate(lambda rate: rate <= truth, start)
    assert low <= truth < high
    assert low == 0.0 or high / low <= 1.0 + RATE_TOLERANCE + 1e-12


@given(st.floats(0.3, 3.0))
def test_a_start_nearby_takes_few_steps(off: float) -> None:
    tried: list[float] = []

    def feasible_at(rate: float) -> bool:
        tried.append(rate)
        return rate <= 70.0

    low, high = largest_rate(feasible_at, 70.0 * off, tolerance=0.01, growth=1.05)
    assert low <= 70.0 < high and high / low <= 1.01 + 1e-12
    assert len(tried) <= (6 if 1 / 1.04 <= off <= 1.04 else 13)


def test_no_feasible_rate_is_zero() -> None:
    assert largest_rate(lambda _: False, 70.0)[0] == 0.0


def test_the_smallest_rate_is_tried_last_and_none_below_it() -> None:
    tried: list[float] = []
    assert largest_rate(lambda rate: bool(tried.append(rate)), 70.0, smallest_rps=1.0)[0] == 0.0  # type: ignore[func-returns-value]
    assert tried == [*(70.0 / 2.0**k for k in range(7)), 1.0]
