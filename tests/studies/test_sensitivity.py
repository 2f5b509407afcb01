"""Sensitivities against plans made one by one, closed forms, and a fine grid."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from provisioner import api
from provisioner.errors import InputError, ProvisionerError, UnknownNameError
from provisioner.options import PlanOptions, SensitivityOptions
from provisioner.report.terminal import render
from provisioner.report.views.registry import charts, document
from provisioner.results.cluster import Cluster, Pool, Totals
from provisioner.results.sensitivity import Cell, Outcome, Swing
from provisioner.studies.sensitivity import noise_notes, sensitivity

HH_HA = ("splitwise-hh", "splitwise-ha")
QUICK: dict[str, Any] = {"fast": True, "slo": "p99", "rate_rps": 40.0, "tensor_parallel": "largest"}


def test_the_tornado_is_the_plans_at_each_end() -> None:
    options = PlanOptions(**QUICK, designs=HH_HA)
    found = api.sensitivity(options, inputs=("rate", "price:dgx-h100", "slo"), spread=0.5)
    assert {swing.name for swing in found.swings} == {"rate", "price:dgx-h100", "slo"}
    for swing in found.swings:
        for end, factor in ((swing.low, 1 / 1.5), (swing.high, 1.5)):
            alone = api.plan(dataclasses.replace(options, scale={swing.name: factor}))
            assert end.of("cost") == alone.cost_usd_per_h
            assert end.sizes == " + ".join(str(pool.machines) for pool in alone.pools)
    rate = next(swing for swing in found.swings if swing.name == "rate")
    assert rate.low.of("cost") == api.plan(**{**QUICK, "rate_rps": 40 / 1.5}, designs=HH_HA).cost_usd_per_h
    widths = [swing.width("cost", found.base.of("cost") or 0.0) for swing in found.swings]
    assert widths == sorted(widths, reverse=True)


def test_factors_come_on_top_of_those_of_the_question() -> None:
    options = SensitivityOptions(**QUICK, designs=HH_HA, scale={"rate": 2.0}, inputs=("rate",), spread=1.0)
    assert sensitivity(options).swings[0].low.of("cost") == api.plan(**QUICK, designs=HH_HA).cost_usd_per_h


def test_a_rate_with_too_few_requests_to_judge_is_part_of_the_answer() -> None:
    proven: dict[str, Any] = {"slo": "p99", "tensor_parallel": "largest", "designs": HH_HA[:1], "sets": 2}
    (rate,) = api.sensitivity(**proven, rate_rps=0.35, inputs=("rate",), spread=0.2).swings
    assert rate.high.feasible and not rate.low.feasible
    assert "TTFT P99 is judged on 1,000 requests or more" in rate.low.reason


def test_a_price_at_which_designs_switch_is_where_their_costs_are_equal() -> None:
    """Sizes do not depend on prices, so that the switch has a closed form."""
    one, other = (api.plan(**QUICK, designs=[design]) for design in HH_HA)
    h100, a100 = 31.92, 22.32
    a, b = (pool.machines for pool in other.pools)
    at = (one.cost_usd_per_h - a * h100) / (b * a100)
    assert one.cost_usd_per_h == pytest.approx(one.machines * h100)
    found = api.sensitivity(
        **QUICK, designs=HH_HA, switches={"price:dgx-a100": (0.05, 20.0)}, tolerance=0.002, probes=2
    )
    (switch,) = found.searches[0].switches
    assert (switch.before.design, switch.after.design) == ("Splitwise-HA", "Splitwise-HH")
    assert switch.below <= at <= switch.above <= 1.002 * switch.below
    assert switch.at == pytest.approx(at, rel=0.002)


def test_every_switch_of_a_fine_grid_is_found() -> None:
    options = PlanOptions(**QUICK, designs=("splitwise-hh", "splitwise-aa"))
    grid = np.geomspace(0.5, 1.2, 15)
    answers = [api.plan(dataclasses.replace(options, scale={"rate": factor})) for factor in grid]
    machines = [plan.machines for plan in answers]
    found = api.sensitivity(options, switches={"rate": (0.5, 1.2)}, watch="machines", probes=2, tolerance=0.03)
    switches = found.searches[0].switches
    for switch in switches:
        assert switch.before.of("machines") != switch.after.of("machines")
        assert switch.above <= 1.03 * switch.below
    at = [switch.at for switch in switches]
    assert at == sorted(at)
    for low, high, before, after in zip(grid[:-1], grid[1:], machines[:-1], machines[1:], strict=True):
        if before != after:
            assert any(low <= switch.above and switch.below <= high for switch in switches)
    assert len(switches) >= len(set(machines)) - 1 > 3


def test_proven_plans_switch_where_plans_made_apart_do() -> None:
    proven: dict[str, Any] = {"slo": "p99", "rate_rps": 25.0, "sets": 2, "duration_s": 30.0, "designs": HH_HA}
    proven["tensor_parallel"] = "largest"
    found = api.sensitivity(**proven, switches={"price:dgx-a100": (0.5, 3.0)}, tolerance=0.05, probes=0)
    assert found.searches[0].switches
    for switch in found.searches[0].switches:
        for factor, end in ((switch.below, switch.before), (switch.above, switch.after)):
            alone = api.plan(**proven, scale={"price:dgx-a100": factor})
            assert (alone.design, alone.cost_usd_per_h) == (end.design, end.of("cost"))


def test_the_map_compares_the_best_of_each_kind() -> None:
    designs = (*HH_HA, "baseline-h100", "baseline-a100")
    found = api.sensitivity(**{**QUICK, "designs": designs}, rates_rps=(20.0, 60.0), ratios=(4.0, 100.0))
    assert len(found.cells) == 4
    assert not found.swings
    cell = found.cells[1]
    assert (cell.rate_rps, cell.ratio) == (20.0, 100.0)
    workload = api.load_workload("coding")
    factor = workload.mean_prompt_tokens / workload.mean_output_tokens / 100.0
    split = api.plan(
        **{**QUICK, "rate_rps": 20.0},
        scale={"output-tokens": factor},
        designs=[
            f"splitwise-{pair}" for pair in ("aa", "ah", "ahcap", "ha", "hh", "hhcap", "hcapa", "hcaph", "hcaphcap")
        ],
    )
    assert cell.split.of("cost") == split.cost_usd_per_h
    assert set(cell.colocated) == {"mixed"}, "the formulas know no chunked prefill"
    best = cell.colocated["mixed"]
    assert (cell.split.watched("splitting"), best.watched("splitting")) == ("split", "colocated")
    mixed = best.of("cost")
    assert mixed is not None
    assert cell.saving == 1.0 - split.cost_usd_per_h / mixed
    assert list(found.to_frame("map")["saving"]) == [cell.saving for cell in found.cells]
    table = render(document(found), width=100, styled=False)
    assert "Should I split?" in table and "100 : 1" in table


@pytest.mark.parametrize(
    ("policy", "of_split", "of_colocated"),
    [
        (None, "strict", ["chunked"]),
        ("deflect", "deflect", ["chunked"]),
        ("splitwise", "splitwise", ["mixed", "chunked"]),
    ],
)
def test_a_proven_map_has_each_kind_under_its_own_policies(
    policy: str | None, of_split: str, of_colocated: list[str]
) -> None:
    proven: dict[str, Any] = {"slo": "p90", "sets": 2, "duration_s": 20.0, "tensor_parallel": "largest"}
    found = api.sensitivity(
        **proven, designs=("splitwise-hh", "baseline-h100"), policy=policy, rates_rps=(8.0,), ratios=(50.0,)
    )
    (cell,) = found.cells
    assert list(cell.colocated) == of_colocated
    workload = api.load_workload("coding")
    scale = {"output-tokens": workload.mean_prompt_tokens / workload.mean_output_tokens / 50.0}
    for design, way, outcome in (
        ("splitwise-hh", of_split, cell.split),
        *(("baseline-h100", way, cell.colocated[way]) for way in of_colocated),
    ):
        alone = api.plan(**proven, designs=(design,), policy=way, rate_rps=8.0, scale=scale)
        assert outcome.cluster == alone.cluster and outcome.of("cost") == alone.cost_usd_per_h
    least = min(each.of("cost") or 0.0 for each in cell.colocated.values())
    assert cell.saving == pytest.approx(1.0 - (cell.split.of("cost") or 0.0) / least)
    assert list(found.to_frame("map").columns) == [
        "rate_rps",
        "prompt_output_ratio",
        "split_cost",
        *(f"{way}_cost" for way in of_colocated),
        "saving",
    ]


def test_where_there_is_no_plan_it_is_said() -> None:
    near = {**QUICK, "designs": HH_HA, "scale": {"slo": 0.2}}
    found = api.sensitivity(**near, inputs=("slo",), spread=1.0)
    low = found.swings[0].low
    assert not low.feasible and low.of("cost") is None and "TTFT P99" in low.reason
    text = render(document(found), width=100, styled=False)
    assert "no plan" in text
    frame = found.to_frame()
    assert frame.loc[frame["factor"] == 0.5, "feasible"].tolist() == [False]
    found = api.sensitivity(**QUICK, designs=HH_HA, switches={"slo": (0.1, 1.0)}, probes=0, tolerance=0.1)
    assert found.searches[0].switches[0].before.watched("design") == "no plan"


def outcome(cost: float, name: str, factor: float) -> Outcome:
    cluster = Cluster("Splitwise-HH", (Pool("prompt", "dgx-h100", 8, 8, replicas=3),))
    return Outcome(scale={name: factor}, cluster=cluster, totals=Totals(cost, 1.0, 3), rate_rps=1.0)


def test_inputs_that_only_add_noise_are_named() -> None:
    def told(low: float, high: float) -> list[str]:
        swing = Swing("rate", outcome(low, "rate", 0.8), outcome(high, "rate", 1.2))
        return noise_notes([swing], "cost", 100.0)

    assert told(90.0, 110.0) == told(100.0, 110.0) == told(100.0, 100.0) == []
    assert "the same way" in told(103.0, 110.0)[0] and told(90.0, 99.0)[0].startswith("rate")


def test_a_cell_without_a_plan_of_one_kind_has_no_saving() -> None:
    there, none = outcome(10.0, "rate", 1.0), Outcome(scale={}, reason="none")
    dearer, rounded = outcome(20.0, "rate", 1.0), outcome(10.0 * (1.0 - 1e-15), "rate", 1.0)
    for split, *colocated, saving in (
        (there, none, none, None),
        (none, there, there, None),
        (there, none, dearer, 0.5),
        (rounded, none, there, 0.0),
        (there, dearer, 0.5),
    ):
        by_policy = dict(zip(("mixed", "chunked"), colocated, strict=False))
        assert Cell.of(1.0, 1.0, split, by_policy, "cost").saving == saving


def test_the_report_repeats_its_command() -> None:
    found = api.sensitivity(
        **QUICK,
        designs=HH_HA,
        inputs=("rate",),
        switches={"price:dgx-a100": (0.2, 1.0)},
        watch="machines",
        probes=1,
    )
    for part in ("--input rate", "--switch price:dgx-a100=0.2:1", "--watch machines", "--probes 1", "--fast"):
        assert part in found.command
    assert all(len(line) <= 100 for line in render(document(found), width=100, styled=False).splitlines())
    assert {"base", "tornado"} <= set(found.to_frame()["part"])
    assert list(charts(found)) == ["tornado", "switches: price:dgx-a100"]
    assert str(found).startswith("# ")
    assert "of dgx-h100's" in str(found) or not found.searches[0].switches


@pytest.mark.parametrize(
    ("keywords", "error", "text"),
    [
        ({"inputs": ("prices",)}, UnknownNameError, "unknown input 'prices'"),
        ({"inputs": ("price:l4",)}, ProvisionerError, "l4"),
        ({"switches": {"rate": (2.0, 1.0)}}, InputError, "from the smaller to the larger"),
        ({"switches": {"rate": (0.0, 1.0)}}, InputError, "must be above 0"),
        ({"watch": "cost"}, UnknownNameError, "unknown thing to watch"),
        ({"tolerance": 0.0}, InputError, "tolerance: must be from 1e-06 to 0.5"),
        ({"probes": -1}, InputError, "probes"),
        ({"probes": 1001}, InputError, "probes: must be from 0 to 1,000"),
        ({"rates_rps": (1.0,)}, InputError, "give both"),
        ({"spread": -0.5}, InputError, "spread"),
        ({"rates_rps": (1.0,), "ratios": (2.0,), "designs": HH_HA}, InputError, "consider both kinds"),
        ({"switches": {"slo": (0.5, 2.0)}, "slo": "batch", "objective": "bad"}, UnknownNameError, "objective"),
    ],
)
def test_what_is_refused(keywords: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        api.sensitivity(**{**QUICK, **keywords})
