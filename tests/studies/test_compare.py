"""Designs side by side: budgets, ratios, and each largest throughput against every cluster within the budget."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any, cast

import pytest

from provisioner.errors import InputError, ProvisionerError
from provisioner.loading.setting import load_setting
from provisioner.options import CompareOptions, PlanOptions
from provisioner.options.defaults import TOKEN_BUDGETS, PolicyName
from provisioner.planning.designs import Design
from provisioner.planning.proof import Candidate
from provisioner.report.chart import BarChart
from provisioner.report.views.registry import charts
from provisioner.results.cluster import Cluster
from provisioner.results.comparison import COMPARED, ComparedDesign, Comparison
from provisioner.studies.compare import budget_of, compare
from provisioner.verify.answer import best_plan
from provisioner.verify.judge import SimulationJudge
from provisioner.verify.request_sets import RequestSets

SMALL: dict[str, Any] = {"slo": "p99", "duration_s": 30.0, "sets": 2, "prices": "paper", "tensor_parallel": "largest"}
EVERY_TP: dict[str, Any] = {**SMALL, "duration_s": 20.0, "tensor_parallel": "all"}
DESIGNS = ("splitwise-hh", "splitwise-ha", "baseline-a100", "baseline-h100")
MACHINES = 5
BY_FORMULAS = {name: value for name, value in SMALL.items() if name not in ("sets", "duration_s")} | {"fast": True}


@cache
def within_machines() -> Comparison:
    paper = {"policy": "splitwise", "engine": "splitwise", "chunked": True}
    return compare(CompareOptions(**SMALL, **paper, designs=DESIGNS, same="machines", budget=MACHINES))


@cache
def at_a_rate() -> Comparison:
    return compare(CompareOptions(**SMALL, rate_rps=12.0, designs=DESIGNS, same="throughput"))


def design_of(found: Comparison, label: str) -> ComparedDesign:
    return next(each for each in found.designs if each.label == label)


# --- budgets -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "criterion", "value"),
    [
        ("400kW", "power", 400_000.0),
        ("0.4 MW", "power", 400_000.0),
        ("400 kw", "power", 400_000.0),
        (408000, "power", 408_000.0),
        ("1500 $/h", "cost", 1500.0),
        ("$1,500/h", "cost", 1500.0),
        ("1500", "cost", 1500.0),
        ("40", "machines", 40.0),
        ("40 dgx-h100", "machines", 40.0),
        ("40 dgx-h100", "power", 408_000.0),
        ("40 dgx-h100", "cost", 40 * 38.08),
    ],
)
def test_budgets_as_typed(given: str | float, criterion: Any, value: float) -> None:
    assert budget_of(given, criterion, PlanOptions(prices="paper")).value == pytest.approx(value)


def test_the_paper_s_budgets_are_the_same_ones() -> None:
    """40 DGX-H100 and 70 DGX-A100 are published as one power budget, 40 and 86 as one cost budget, to one machine."""
    paper = PlanOptions(prices="paper")
    each_w = budget_of("1 dgx-a100", "power", paper).value
    assert 70 <= budget_of("40 dgx-h100", "power", paper).value / each_w < 71
    each_usd = budget_of("1 dgx-a100", "cost", paper).value
    assert 86 <= budget_of("40 dgx-h100", "cost", paper).value / each_usd < 87


def test_a_budget_has_the_factors_on_prices_and_power() -> None:
    scaled = PlanOptions(prices="paper", scale={"price:dgx-h100": 0.5, "power": 2.0})
    assert budget_of("40 dgx-h100", "cost", scaled).value == pytest.approx(20 * 38.08)
    assert budget_of("40 dgx-h100", "power", scaled).value == pytest.approx(816_000.0)


def test_budgets_in_words() -> None:
    paper = PlanOptions(prices="paper")
    assert str(budget_of("40 dgx-h100", "power", paper)) == "408.0 kW (as 40 dgx-h100)"
    assert str(budget_of("400 kW", "power", paper)) == "400.0 kW"
    assert str(budget_of("1500", "cost", paper)) == "$1,500.00/h"
    assert str(budget_of("40 dgx-h100", "machines", paper)) == "40 machines"


@pytest.mark.parametrize(
    ("given", "criterion", "message"),
    [
        ("1500 $/h", "power", "must be a power with same power, such as 400kW or '40 dgx-h100', got '1500"),
        ("400kW", "cost", "must be a cost in"),
        ("400kW", "machines", "must be a number of machines"),
        ("-3", "cost", "must be a cost"),
        ("0.5", "machines", "must be a number of machines"),
        ("0 dgx-h100", "power", "must be a whole number of machines, 1 or more"),
        ("many dgx-h100", "power", "must be a number of machines"),
        ("40 dgx-h10", "power", "did you mean dgx-h100"),
        ("nan", "power", "must be a power"),
        ("", "cost", "must be a cost"),
    ],
)
def test_budgets_that_are_none(given: str, criterion: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        budget_of(given, criterion, PlanOptions())
    assert message in str(caught.value) and "\n" not in str(caught.value)


# --- the largest throughput within a budget ------------------------------------------------------------------------


@pytest.mark.parametrize("label", ["Splitwise-HH", "Splitwise-HA", "Baseline-A100", "Baseline-H100, chunked"])
def test_no_cluster_within_the_budget_does_more(label: str) -> None:
    """The plan's own cluster passes at its rate; at the first failure, 1 % above, no cluster of the design does."""
    found = design_of(within_machines(), label)
    assert found.plan is not None and found.failed_rps is not None
    assert found.failed_rps / found.plan.rate_rps == pytest.approx(1.01)
    of = load_setting(PlanOptions(**SMALL, engine="splitwise", designs=(found.design.lower(),)))
    design = of.designs[0]

    def passing(rate_rps: float) -> list[tuple[int, ...]]:
        sets = RequestSets(of, rate_rps)
        tokens = TOKEN_BUDGETS if found.policy == "chunked" else ()
        policy = cast("PolicyName", found.policy)
        judge = SimulationJudge(of.replicas, of.slo, sets, sets.count, policy=policy, batch_tokens=tokens)
        grid = product(range(1, MACHINES + 1), repeat=len(design.slots))
        fitting = [sizes for sizes in grid if sum(sizes) <= MACHINES]
        return [sizes for sizes in fitting if judge.judge(Candidate(design, sizes)).passes]

    at_rate = passing(found.plan.rate_rps)
    sizes = tuple(pool.machines for pool in found.plan.pools)
    assert sizes in at_rate
    prices = [of.prices.cost_usd_per_h[slot.machine.name] for slot in design.slots]
    cost = min(sum(n * p for n, p in zip(each, prices, strict=True)) for each in at_rate)
    assert found.plan.cost_usd_per_h == pytest.approx(cost)
    assert passing(found.failed_rps) == []


def test_no_degrees_of_a_design_do_more() -> None:
    """At the first failure of each row no cluster of the design passes at any TP; at its rate no cheaper one does."""
    asked = {**EVERY_TP, "policy": "strict", "batch_tokens": (512, 2048)}
    names = ("splitwise-hh", "baseline-h100")
    found = compare(CompareOptions(**asked, designs=names, same="machines", budget=2))
    assert {each.label for each in found.designs} == {"Splitwise-HH", "Baseline-H100"}
    of = load_setting(PlanOptions(**asked, designs=names))
    for row in found.designs:
        assert row.plan is not None and row.failed_rps is not None and row.proven
        family = [design for design in of.designs if design.family == row.label]
        assert len(family) == 3 ** len(row.plan.pools) and row.design == row.plan.design

        def passing(rate_rps: float, family: Sequence[Design] = family) -> dict[tuple[str, tuple[int, ...]], float]:
            sets = RequestSets(of, rate_rps)
            judge = SimulationJudge(of.replicas, of.slo, sets, sets.count, policy="strict", batch_tokens=(512, 2048))
            clusters = [
                Candidate(design, sizes)
                for design in family
                for sizes in product((1, 2), repeat=len(design.slots))
                if sum(sizes) <= 2
            ]
            costs = {
                each: of.prices.totals(Cluster(each.design.name, of.pools(each.design, each.sizes)))
                for each in clusters
            }
            return {(x.design.name, x.sizes): costs[x].cost_usd_per_h for x in clusters if judge.judge(x).passes}

        at_rate = passing(row.plan.rate_rps)
        assert (row.plan.design, tuple(pool.machines for pool in row.plan.pools)) in at_rate
        assert row.plan.cost_usd_per_h == pytest.approx(min(at_rate.values()))
        assert passing(row.failed_rps) == {}


def test_a_baseline_with_degrees_is_a_row_of_its_own() -> None:
    asked = {**BY_FORMULAS, "tensor_parallel": (4, 8), "designs": ("splitwise-hh", "baseline-h100")}
    found = compare(CompareOptions(**asked, same="machines", budget=4, baseline="baseline-h100:8"))
    assert {each.label for each in found.designs} == {"Splitwise-HH", "Baseline-H100", "Baseline-H100:8"}
    assert found.baseline == "Baseline-H100:8"
    rates = {each.label: each.plan.rate_rps for each in found.designs if each.plan is not None}
    assert rates["Baseline-H100"] >= rates["Baseline-H100:8"]
    assert found.ratios["Baseline-H100"]["throughput"] == rates["Baseline-H100"] / rates["Baseline-H100:8"]


# --- what splitting brings -----------------------------------------------------------------------------------------


def test_splitting_is_against_the_best_colocated_design_of_all() -> None:
    found = within_machines()
    rates = {each.label: each.plan.rate_rps for each in found.designs if each.plan is not None}
    best = max(rate for label, rate in rates.items() if label.startswith("Baseline"))
    assert best > rates[found.baseline], "the baseline of the ratios is another one"
    split = {label: rate / best for label, rate in rates.items() if label.startswith("Splitwise")}
    assert {label: gain for label, gain in found.splitting.items() if gain is not None} == pytest.approx(split)
    frame = found.to_frame().set_index("label")
    assert frame["splitting"].dropna().to_dict() == pytest.approx(split)
    assert f"splitting: brings {max(split.values()):.2f}x: Splitwise-" in " ".join(str(found).split())
    costs = at_a_rate()
    usd_per_h = {each.label: each.plan.cost_usd_per_h for each in costs.designs if each.plan is not None}
    least = min(usd_per_h["Baseline-A100"], usd_per_h["Baseline-H100"])
    assert costs.splitting["Splitwise-HA"] == pytest.approx(least / usd_per_h["Splitwise-HA"])


def test_splitting_is_what_a_plan_says() -> None:
    names = ("splitwise-hh", "baseline-h100", "baseline-a100")
    asked = {**EVERY_TP, "policy": "strict", "batch_tokens": (1024, 2048), "tensor_parallel": (2, 8), "designs": names}
    asked["rate_rps"] = 12.0
    found = compare(CompareOptions(**asked, same="throughput"))
    of_plan = best_plan(load_setting(PlanOptions(**asked)), beside=True).splitting
    assert of_plan is not None and of_plan.split is not None and of_plan.colocated is not None
    best = found.split_against_colocated()
    assert best is not None and best.split is not None and best.colocated is not None
    for ours, theirs in ((best.split, of_plan.split), (best.colocated, of_plan.colocated)):
        assert (ours.cost_usd_per_h, ours.policy) == (theirs.cost_usd_per_h, theirs.policy)
    assert max(gain for gain in found.splitting.values() if gain is not None) == of_plan.gain == best.gain


def test_splitting_that_is_not_known_is_said_and_empty() -> None:
    none = compare(CompareOptions(**BY_FORMULAS, designs=DESIGNS[:2], same="machines", budget=4))
    assert set(none.splitting.values()) == {None} and "no colocated design is compared" in " ".join(str(none).split())
    whole = within_machines()
    cut_short = replace(whole, designs=tuple(replace(row, proven=not row.colocated) for row in whole.designs))
    assert set(cut_short.splitting.values()) == {None} and "not known: the time limit" in " ".join(
        str(cut_short).split()
    )
    colocated = compare(CompareOptions(**BY_FORMULAS, designs=DESIGNS[2:], same="machines", budget=4))
    assert set(colocated.splitting.values()) == {None} and "splitting" not in str(colocated)


def test_rows_are_in_order_and_ratios_are_of_the_baseline() -> None:
    found = within_machines()
    rates = [each.plan.rate_rps for each in found.designs if each.plan is not None]
    assert rates == sorted(rates, reverse=True) and len(rates) == len(DESIGNS) + 2
    assert found.baseline == "Baseline-A100", "the first colocated design in the order given"
    base = design_of(found, "Baseline-A100").plan
    assert base is not None
    for each in found.designs:
        assert each.plan is not None and each.plan.machines <= MACHINES
        assert found.ratios[each.label] == {
            "throughput": each.plan.rate_rps / base.rate_rps,
            "cost": each.plan.cost_usd_per_h / base.cost_usd_per_h,
            "power": each.plan.power_w / base.power_w,
            "machines": each.plan.machines / base.machines,
        }
    assert set(found.ratios["Baseline-A100"].values()) == {1.0}


def test_chunked_rows_are_simulated_with_chunked_prefill() -> None:
    found = within_machines()
    policies = {each.label: each.plan.evidence.policy for each in found.designs if each.plan and each.plan.evidence}
    assert policies == {
        "Splitwise-HH": "splitwise",
        "Splitwise-HA": "splitwise",
        "Baseline-A100": "mixed",
        "Baseline-H100": "mixed",
        "Baseline-A100, chunked": "chunked",
        "Baseline-H100, chunked": "chunked",
    }


def test_limits_on_any_percentile_and_on_the_largest_gap_bind() -> None:
    """Chunked prefill bounds the gaps that mixed batching leaves, so it serves more within a limit on the largest."""
    options = {**SMALL, "slo": "batch", "designs": ("baseline-h100",), "same": "machines", "budget": 3, "chunked": True}
    options |= {"policy": "mixed", "engine": "vllm"}
    gaps = compare(CompareOptions(**options, limits={"ttft_p95": "1s", "gap_p99": "500ms"}))
    free = compare(CompareOptions(**options, limits={"ttft_p95": "1s"}))
    assert gaps.slo == "TTFT P95 <= 1 s, largest gap P99 <= 500 ms"
    assert gaps.designs[0].label == "Baseline-H100, chunked"
    mixed, unlimited = design_of(gaps, "Baseline-H100"), design_of(free, "Baseline-H100")
    assert mixed.plan is not None and unlimited.plan is not None
    assert "largest gap P99" in mixed.plan.binding and mixed.plan.rate_rps < 0.5 * unlimited.plan.rate_rps
    assert "misses largest gap P99" in " ".join(str(gaps).split())


def test_headroom_is_served_beside_the_rate() -> None:
    options = {**SMALL, "designs": ("baseline-h100",)}
    plain = compare(CompareOptions(**options, same="machines", budget=3)).designs[0]
    spare = compare(CompareOptions(**options, headroom=0.25, same="machines", budget=3)).designs[0]
    assert plain.plan is not None and spare.plan is not None and spare.failed_rps is not None
    assert spare.plan.rate_rps == pytest.approx(plain.plan.rate_rps / 1.25, rel=0.05)
    assert spare.failed_rps / spare.plan.rate_rps == pytest.approx(1.01)


# --- the same throughput -------------------------------------------------------------------------------------------


def test_at_a_rate_each_design_has_its_own_plan() -> None:
    found = at_a_rate()
    assert found.rate_rps == 12.0 and found.budget is None
    costs = []
    for each in found.designs:
        alone = best_plan(load_setting(PlanOptions(**SMALL, rate_rps=12.0, designs=(each.design.lower(),))))
        assert each.plan is not None
        assert each.plan.pools == alone.pools and each.plan.cost_usd_per_h == alone.cost_usd_per_h
        costs.append(alone.cost_usd_per_h)
        assert each.failed_rps is None
    assert costs == sorted(costs)


def test_of_designs_of_the_same_cost_the_simplest_is_first() -> None:
    options = CompareOptions(
        same="throughput",
        model="llama-3.1-70b",
        workload="conversation",
        rate_rps=12.0,
        limits={"ttft_p99": "2s", "tbt_p99": "40ms"},
        machines=("mi300x-x8",),
        tensor_parallel="8",
        policy="strict",
        engine="vllm",
        duration_s=60.0,
        sets=2,
    )
    found = [plan for _, plan in compare(options).planned]
    assert [str(plan.cluster) for plan in found] == ["Baseline-Mi300x-x8 2", "Splitwise-MiMi 1 + 1"]
    assert len({plan.cost_usd_per_h for plan in found}) == 1


def test_a_design_without_a_plan_is_a_row_with_its_reason() -> None:
    limits = {"ttft_p50": "120ms"}
    asked = {**SMALL, "slo": "splitwise", "rate_rps": 12.0, "designs": DESIGNS, "limits": limits, "same": "throughput"}
    asked["policy"] = "splitwise"
    found = compare(CompareOptions(**asked))
    without = [each for each in found.designs if each.plan is None]
    assert without and len(without) < len(DESIGNS), "A100 prompts take longer than this limit, H100 prompts do not"
    assert found.designs[-len(without) :] == tuple(without)
    for each in without:
        assert "TTFT P50" in each.reason
        assert set(found.ratios[each.label].values()) == {None}
    text = str(found)
    assert "Designs without a plan" in text and all(f"{each.label}: " in text for each in without)
    frame = found.to_frame()
    assert list(frame["feasible"]).count(False) == len(without)
    assert math.isnan(frame.iloc[-1]["rate_rps"]) and frame.iloc[-1]["reason"]
    named = compare(CompareOptions(**asked, baseline="baseline-a100"))
    assert named.baseline == "Baseline-A100"
    assert all(ratio is None for ratios in named.ratios.values() for ratio in ratios.values())
    assert "Against Baseline-A100, which has no plan" in str(named)


# --- forms ---------------------------------------------------------------------------------------------------------


def test_the_results_in_every_form() -> None:
    found = within_machines()
    frame = found.to_frame()
    assert list(frame["label"]) == [each.label for each in found.designs]
    assert list(frame["rate_rps"]) == [each.plan.rate_rps for each in found.designs if each.plan]
    values = json.loads(json.dumps(found.to_dict()))
    assert (values["kind"], values["schema_version"], values["baseline"]) == ("comparison", 2, "Baseline-A100")
    assert values["budget"] == {"criterion": "machines", "value": 5.0, "given": "5", "machine": None}
    assert [values["ratios"][label]["throughput"] for label in frame["label"]] == list(frame["throughput_ratio"])
    assert values["designs"][0]["plan"]["design"] == found.designs[0].design
    assert values["command"].startswith("provision compare --workload coding ")
    assert values["command"].endswith(" --same machines --budget 5 --chunked")
    assert "--objective" not in values["command"] and "--rate" not in values["command"]
    text = str(found)
    assert text.startswith(f"# {found.designs[0].label}: ") and "Against Baseline-A100" in text
    chart = charts(found)["ratios"]
    assert isinstance(chart, BarChart) and chart.value.label == "relative to Baseline-A100 (x)"
    best, *others = found.designs
    assert chart.groups == (f"{best.label} (best)", *(each.label for each in others))
    same = [name for name in COMPARED if frame[f"{name}_ratio"].round(9).nunique() == 1]
    assert "machines" in same and [bars.name for bars in chart.bars] == [name for name in COMPARED if name not in same]
    for bars in chart.bars:
        assert list(bars.values) == list(frame[f"{bars.name}_ratio"])
    assert "<table>" in found._repr_html_()


def test_the_printed_command_says_the_rate() -> None:
    command = at_a_rate().to_dict()["command"]
    assert command.endswith(" --same throughput") and "--rate 12 " in command
    assert "--objective cost" in command


def test_formulas_alone() -> None:
    found = compare(CompareOptions(**BY_FORMULAS, designs=DESIGNS[:2], same="power", budget="5 dgx-h100"))
    assert all(each.plan is not None and each.plan.evidence is None for each in found.designs)
    assert all(each.plan.power_w <= 51_000.0 for each in found.designs if each.plan)


def test_progress_says_how_far_and_which_design() -> None:
    told: list[str] = []
    compare(CompareOptions(**BY_FORMULAS, designs=DESIGNS[:2], same="machines", budget=4), progress=told.append)
    first = next(text for text in told if not text.startswith("latency curves"))
    assert first.startswith("comparing: 0 of 2; Splitwise-HH: ")
    assert any(text.startswith("comparing: 1 of 2, ") and "left; Splitwise-HA: " in text for text in told)


@pytest.mark.parametrize(
    ("fields", "arguments", "message"),
    [
        ({}, {"same": "power"}, "budget: is needed with same power, such as 400kW"),
        ({}, {"same": "energy", "budget": 4}, "unknown thing to hold the same 'energy'"),
        ({"rate_rps": 5.0}, {"same": "cost", "budget": 4}, "rate_rps: is what same cost finds"),
        ({"trace": "x.csv"}, {"same": "cost", "budget": 4, "sets": 5, "duration_s": 120.0}, "trace: has its own rate"),
        ({"objective": "power"}, {"same": "cost", "budget": 4}, "objective: is throughput with same cost"),
        ({"max_machines": 4}, {"same": "machines", "budget": 4}, "max_machines: is what budget gives"),
        ({}, {"same": "throughput", "budget": 4}, "budget: same throughput has a rate_rps in its place"),
        ({"objective": "throughput"}, {"same": "throughput"}, "objective: must be cost, power or machines"),
        ({}, {"same": "machines", "budget": 4, "baseline": "baseline-h10"}, "did you mean baseline-h100"),
        ({"write_lp": "x.lp"}, {"same": "throughput"}, "write_lp: is no option of this question"),
        ({"fast": True}, {"same": "machines", "budget": 4, "chunked": True}, "chunked: is simulated"),
        ({"policy": "chunked"}, {"same": "machines", "budget": 4, "chunked": True}, "chunked: adds what"),
        ({"policy": "strict"}, {"same": "machines", "budget": 4, "chunked": True}, "chunked: adds what policy strict"),
        (
            {"designs": ("splitwise-hh",), "policy": "splitwise"},
            {"same": "machines", "budget": 4, "chunked": True},
            "is for colocated",
        ),
        ({"time_limit_s": 0.0}, {"same": "machines", "budget": 4}, "time_limit_s: must be above 0 s"),
    ],
)
def test_what_contradicts_itself(fields: dict[str, Any], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ProvisionerError) as caught:
        compare(CompareOptions(**{**SMALL, "designs": DESIGNS, **fields, **arguments}))
    assert message in str(caught.value) and caught.value.exit_code == 2
