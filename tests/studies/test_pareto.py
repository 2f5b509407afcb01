"""The frontier of cost, power and machines: the enumeration against its definition, the whole against brute force."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioner import api
from provisioner.errors import InfeasibleError, InputError
from provisioner.loading.setting import load_setting
from provisioner.options import ParetoOptions, PlanOptions
from provisioner.planning.proof import Candidate
from provisioner.report.chart import LineChart
from provisioner.report.views.registry import charts
from provisioner.results.cluster import Totals
from provisioner.results.frontier import Box, Frontier
from provisioner.studies.pareto import Answer, dominates, enumerated, pareto
from provisioner.verify.judge import Verdicts

SMALL: dict[str, Any] = {
    "tensor_parallel": "largest",
    "rate_rps": 12.0,
    "slo": "p99",
    "duration_s": 40.0,
    "sets": 2,
    "batch_tokens": (2048, 8192),
    "max_machines": 9,
    "prices": "paper",
    "designs": ("splitwise-ha", "splitwise-aa", "splitwise-hcapa", "baseline-h100", "baseline-a100"),
}
PROVEN = ("sets", "duration_s", "batch_tokens")
BY_FORMULAS = {name: value for name, value in SMALL.items() if name not in PROVEN} | {"fast": True}


def totals(point: Any) -> tuple[float, float, int]:
    return point.cost_usd_per_h, point.power_w, point.machines


def nondominated(points: set[tuple[float, float, int]]) -> set[tuple[float, float, int]]:
    """By definition: nothing else has no more of anything."""
    return {p for p in points if not any(q != p and all(a <= b for a, b in zip(q, p, strict=True)) for q in points)}


clouds = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12)), max_size=40)


class Counted:
    """The first point of a box by looking at all, and how often it was asked."""

    def __init__(self, points: list[tuple[int, int, int]]) -> None:
        self.points = [Totals(float(c), float(p), m) for c, p, m in points]
        self.asked: list[Box] = []

    def __call__(self, box: Box) -> Answer:
        self.asked.append(box)
        inside = [point for point in self.points if point.power_w <= box.power_w and point.machines <= box.machines]
        return Answer(min(inside, key=totals, default=None))


@settings(max_examples=300, deadline=None)
@given(clouds)
def test_the_enumeration_finds_what_the_definition_says(cloud: list[tuple[int, int, int]]) -> None:
    oracle = Counted(cloud)
    points, left_open = enumerated(oracle)
    assert left_open == []
    assert sorted(map(totals, points)) == sorted(nondominated(set(map(totals, oracle.points))))
    assert len({(box.power_w, box.machines) for box in oracle.asked}) == len(oracle.asked)  # no box is asked twice
    assert len(oracle.asked) <= 3 * len(points) + 1  # with two criteria to cut by, boxes grow with points linearly


@settings(max_examples=150, deadline=None)
@given(clouds, st.integers(0, 8))
def test_what_is_missing_when_time_is_up_lies_in_an_open_box(cloud: list[tuple[int, int, int]], most: int) -> None:
    oracle = Counted(cloud)
    points, left_open = enumerated(oracle, lambda: len(oracle.asked) >= most)
    whole = nondominated(set(map(totals, oracle.points)))
    found = set(map(totals, points))
    assert found <= whole
    for cost, power, machines in whole - found:
        assert any(box.holds(Totals(cost, power, machines)) for box in left_open)


def test_an_answer_without_proof_leaves_its_box_open() -> None:
    points, left_open = enumerated(lambda box: Answer(None, False))
    assert (points, left_open) == ([], [Box()])


def test_dominance() -> None:
    a = Totals(1.0, 2.0, 3)
    assert dominates(a, Totals(1.0, 2.0, 4)) and dominates(a, Totals(1.5, 2.0, 3))
    assert not dominates(a, a) and not dominates(a, Totals(0.9, 3.0, 3))
    assert str(Box(102_000.0, 9)) == "less than 102.0 kW and at most 9 machines" and str(Box()) == "everything"


@cache
def frontier() -> Frontier:
    return pareto(ParetoOptions(**SMALL))


def passing(options: PlanOptions) -> set[tuple[float, float, int]]:
    """Totals of every cluster of every design within the cap on machines that the simulator accepts."""
    setting = load_setting(replace(options, max_machines=None))
    _, judge = Verdicts().judge(setting, setting.traffic.peak_rps)
    most = options.max_machines or 0
    found = set()
    for design in setting.designs:
        for sizes in product(range(1, most + 1), repeat=len(design.slots)):
            if sum(sizes) <= most and judge.judge(Candidate(design, sizes)).passes:
                names = [slot.machine.name for slot in design.slots]
                cost = sum(n * setting.prices.cost_usd_per_h[name] for n, name in zip(sizes, names, strict=True))
                power = sum(n * setting.prices.power_w[name] for n, name in zip(sizes, names, strict=True))
                found.add((round(cost, 6), round(power, 3), sum(sizes)))
    return found


def test_the_frontier_is_that_of_brute_force() -> None:
    found = frontier()
    mine = sorted((round(p.cost_usd_per_h, 6), round(p.power_w, 3), p.machines) for p in found.points)
    assert mine == sorted(nondominated(passing(PlanOptions(**SMALL))))
    assert len(mine) > 2, "the case must have something to trade"
    assert found.complete and found.candidates == ()


def test_every_point_is_a_verified_plan_and_costs_little_more_than_one() -> None:
    found = frontier()
    for plan in found.points:
        assert plan.evidence is not None and plan.evidence.optimal
        assert plan.worst_slack is not None and plan.worst_slack >= 0.0
        assert not any("not confirmed" in text for text in plan.warnings)
        assert plan.rate_rps == 12.0
    best = [set(found.best_in(plan)) for plan in found.points]
    assert set.union(*best) == {"cost", "power", "machines"}
    assert found.points[0].cost_usd_per_h == min(plan.cost_usd_per_h for plan in found.points)


def test_the_results_in_every_form() -> None:
    found = frontier()
    frame = found.to_frame()
    assert list(frame["machines"]) == [plan.machines for plan in found.points] and frame["proven"].all()
    values = json.loads(json.dumps(found.to_dict()))
    assert (values["kind"], values["schema_version"], values["complete"]) == ("frontier", 2, True)
    assert values["open_boxes"] == values["candidates"] == [] and [p["power_w"] for p in values["points"]] == list(
        frame["power_w"]
    )
    assert values["command"].startswith("provision pareto --workload coding --rate 12 ")
    text = str(found)
    assert f"# {len(found.points)} clusters are beaten by none in cost, power and machines at once" in text
    assert all(plan.design in text for plan in found.points) and "To repeat this frontier" in text
    (chart,) = charts(found).values()
    assert isinstance(chart, LineChart) and chart.x.label == "cost ($/h)" and chart.y.label == "power (kW)"
    drawn = sorted((x, y) for series in chart.series for x, y in zip(series.x, series.y, strict=True))
    assert np.allclose(drawn, sorted((p.cost_usd_per_h, p.power_w / 1e3) for p in found.points))
    assert all("machines" in note for series in chart.series for note in series.notes)
    assert "<table>" in found._repr_html_()


def test_the_formulas_frontier() -> None:
    found = pareto(ParetoOptions(**BY_FORMULAS))
    assert found.complete and found.simulated == 0
    points = {totals(plan) for plan in found.points}
    assert points == nondominated(points)


def test_a_time_limit_says_what_is_left_open() -> None:
    options = {**SMALL, "designs": (), "max_machines": None, "slo": "splitwise", "rate_rps": 60.0, "sets": 5}
    try:
        found = api.pareto(ParetoOptions(**{**options, "time_limit_s": 1.5, "exhaustive": True}))
    except InfeasibleError as error:
        assert "time limit was reached before there was an answer" in str(error)
        return
    assert not found.complete and found.open_boxes
    text = str(found)
    assert "Not searched to the end: the time limit" in text and str(found.open_boxes[0]) in text
    assert not found.to_frame()["proven"].all() or found.points


def test_nothing_that_passes_is_an_error_with_its_reason() -> None:
    with pytest.raises(InfeasibleError, match="no plan passes simulation"):
        pareto(ParetoOptions(**{**SMALL, "designs": ("splitwise-hh",), "max_machines": 2}))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"objective": "throughput"}, "objective: is no option of this question"),
        ({"objective": "power"}, "objective: is no option of this question"),
        ({"write_lp": "x.lp"}, "write_lp: is no option of this question"),
        ({"time_limit_s": -1.0}, "time_limit_s"),
        ({"sets": 0}, "sets"),
    ],
)
def test_bad_options(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        pareto(ParetoOptions(**{**SMALL, **fields}))


def test_a_box_is_divided_below_its_point() -> None:
    less_power, fewer = Box().divided(Totals(10.0, 408_000.0, 40))
    assert not less_power.holds(Totals(0.0, 408_000.0, 1)) and less_power.holds(Totals(0.0, 407_990.0, 999))
    assert fewer.machines == 39 and math.isinf(fewer.power_w)
