"""Plans as users ask for them: laws, every option, what is refused, and odd questions. Each plan is checked afresh."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import provisioner
from provisioner.errors import InfeasibleError, InputError, ModelDoesNotFitError, ProvisionerError, UnknownNameError
from provisioner.loading.scenario import load_scenario
from provisioner.loading.setting import load_setting
from provisioner.options import PlanOptions, SimulateOptions
from provisioner.perf.curves import curve_groups
from provisioner.planning.answer import answer
from provisioner.planning.check import check
from provisioner.results.plan import Plan
from provisioner.specs import catalog
from provisioner.specs.traces import describe, describe_arrivals, profile, read_trace
from provisioner.specs.units import format_rate

MEASURED = curve_groups()
MACHINES = tuple(dict.fromkeys(machine for _, machine, _ in MEASURED))
MODELS = tuple(dict.fromkeys(model for model, _, _ in MEASURED))
WORKLOADS = catalog.workloads()
HH: dict[str, Any] = {"designs": ("splitwise-hh",)}
TWO: dict[str, Any] = {"machines": ("dgx-a100", "dgx-h100")}

every_machine = pytest.mark.parametrize("machine", MACHINES)
every_workload = pytest.mark.parametrize("workload", WORKLOADS)
TOO_LONG = {("bloom-176b", "agents"), ("bloom-176b", "long-context")}  # whose longest requests fit nowhere
every_question = pytest.mark.parametrize(
    ("model", "workload"), [pair for pair in product(MODELS, WORKLOADS) if pair not in TOO_LONG]
)


@cache
def _solved(options: str) -> Plan | InfeasibleError:
    fields = json.loads(options)
    for name in ("designs", "machines"):
        fields[name] = tuple(fields.get(name, ()))
    setting = load_setting(PlanOptions(**fields))
    try:
        plan = answer(setting)
    except InfeasibleError as error:
        return error
    assert check(plan, setting) == ()
    return plan


def ask(**fields: Any) -> Plan | InfeasibleError:
    """The plan, checked, or the error that says why there is none; at one degree of TP unless told otherwise.

    Several degrees are as several machine types; over all of them a question takes up to nine times as long.
    """
    return _solved(json.dumps({"tensor_parallel": "largest", **fields}, sort_keys=True))


def plan(**fields: Any) -> Plan:
    found = ask(**fields)
    assert isinstance(found, Plan), str(found)
    return found


def refused(**fields: Any) -> InfeasibleError:
    found = ask(**fields)
    assert isinstance(found, InfeasibleError), "feasible"
    return found


def cost(**fields: Any) -> float:
    """The optimum of the objective, infinite where there is no plan."""
    found = ask(**fields)
    if isinstance(found, InfeasibleError):
        return float("inf")
    return {"cost": found.cost_usd_per_h, "power": found.power_w, "machines": float(found.machines)}[found.objective]


def does_not_fall(values: Iterable[float]) -> bool:
    return all(after >= before * (1.0 - 1e-9) for before, after in pairwise(values))


def sizes(found: Plan) -> tuple[tuple[str, str, int], ...]:
    return tuple((pool.role, pool.machine, pool.machines) for pool in found.pools)


# Laws


def test_the_same_options_give_the_same_plan() -> None:
    first, second = (provisioner.plan(workload="conversation", fast=True, **HH) for _ in range(2))
    assert first == second
    assert provisioner.plan(PlanOptions(workload="conversation", fast=True, **HH)) == first


def one_type(machine: str, workload: str) -> dict[str, Any]:
    """The split design of one machine type, for one workload at all degrees of TP."""
    letter = catalog.machine(machine).letter
    degrees = "all" if workload == "coding" else "largest"
    return {
        "designs": (f"splitwise-{letter}{letter}".lower(),),
        "machines": (machine,),
        "workload": workload,
        "tensor_parallel": degrees,
    }


@every_question
@every_machine
def test_cost_does_not_fall_when_the_rate_rises(machine: str, model: str, workload: str) -> None:
    same = {"model": model, **one_type(machine, workload)}
    optima = [cost(rate_rps=rate, **same) for rate in (2.0, 7.0, 40.0)]
    assert does_not_fall(optima)


@every_question
@every_machine
def test_cost_does_not_fall_when_a_limit_tightens(machine: str, model: str, workload: str) -> None:
    same = {"model": model, "rate_rps": 7.0, "slo": "batch", **one_type(machine, workload)}
    for name, limits in (("ttft_p90", ("9x", "2x")), ("e2e_p90", ("3x", "1.3x"))):
        assert does_not_fall(cost(limits={name: limit}, **same) for limit in limits)
    assert does_not_fall(cost(**{**same, "slo": slo}) for slo in ("batch", "p90", "splitwise"))


@pytest.mark.parametrize(("model", "workload"), sorted(TOO_LONG))
def test_requests_that_fit_nowhere_are_refused(model: str, workload: str) -> None:
    with pytest.raises(ModelDoesNotFitError, match="of the longest request served"):
        provisioner.plan(model=model, fast=True, rate_rps=7.0, **one_type("dgx-h100", workload))


@every_workload
def test_the_laws_hold_for_a_baseline(workload: str) -> None:
    same = {"workload": workload, "designs": ("baseline-h100",), "slo": "p90"}
    assert does_not_fall(cost(rate_rps=rate, **same) for rate in (2.0, 7.0, 20.0))
    tighter = (cost(rate_rps=7.0, limits={"ttft_p99": limit}, **same) for limit in ("9x", "4x", "2x"))
    assert does_not_fall(tighter)


@settings(max_examples=8, deadline=None)
@given(
    st.sampled_from(WORKLOADS),
    st.floats(0.5, 60.0),
    st.floats(1.02, 1.5),
    st.sampled_from(("cost", "power", "machines")),
)
def test_a_higher_rate_never_has_a_lower_optimum(workload: str, rate: float, factor: float, objective: str) -> None:
    same = {"workload": workload, "objective": objective, **HH}
    assert does_not_fall((cost(rate_rps=rate, **same), cost(rate_rps=rate * factor, **same)))


@every_workload
@pytest.mark.parametrize("objective", ["cost", "power", "machines"])
def test_an_added_machine_type_never_raises_the_optimum(workload: str, objective: str) -> None:
    same = {"workload": workload, "objective": objective, "rate_rps": 20.0, "slo": "p90"}
    optima = [cost(machines=MACHINES[:count], **same) for count in range(len(MACHINES), 0, -1)]
    assert does_not_fall(optima)


def test_a_dropped_cap_never_raises_the_optimum() -> None:
    same = {"workload": "conversation"}
    free, weakest = plan(**same), plan(objective="power", **same)
    assert weakest.power_w < free.power_w
    between = (weakest.power_w + free.power_w) / 2.0
    capped = plan(max_power_w=between, **same)
    assert capped.power_w <= between
    assert capped.cost_usd_per_h >= free.cost_usd_per_h
    both = cost(max_power_w=weakest.power_w, max_machines=weakest.machines, **same)
    assert does_not_fall((free.cost_usd_per_h, cost(max_power_w=weakest.power_w, **same), both))


def test_headroom_is_a_higher_rate() -> None:
    with_headroom, faster = plan(rate_rps=50.0, headroom=0.2, **HH), plan(rate_rps=60.0, **HH)
    assert sizes(with_headroom) == sizes(faster)
    assert with_headroom.latency == faster.latency
    assert (with_headroom.rate_rps, with_headroom.planned_rate_rps) == (50.0, 60.0)
    # The same cluster, paid for by fewer tokens.
    assert with_headroom.cost_usd_per_million_tokens == pytest.approx(faster.cost_usd_per_million_tokens * 1.2)


def test_a_cap_that_is_met_exactly_keeps_the_plan() -> None:
    free = plan(**TWO)
    caps = {"max_cost_usd_per_h": free.cost_usd_per_h, "max_power_w": free.power_w, "max_machines": free.machines}
    assert sizes(plan(**caps, **TWO)) == sizes(free)
    for name, value in caps.items():
        below = ask(**{name: value - 1}, **TWO)
        assert isinstance(below, InfeasibleError) or below.cost_usd_per_h > free.cost_usd_per_h


@pytest.mark.parametrize("fields", [HH, {"designs": ("splitwise-ha",)}, {**TWO, "rate_rps": 6.0, "slo": "p99"}])
def test_stock_of_what_the_plan_uses_keeps_it_and_one_less_does_not(fields: dict[str, Any]) -> None:
    free = plan(**fields)
    used: dict[str, int] = {}
    for pool in free.pools:
        used[pool.machine] = used.get(pool.machine, 0) + pool.machines
    assert sizes(plan(stock=used, **fields)) == sizes(free)
    for name in used:
        less = ask(stock={**used, name: used[name] - 1}, **fields)
        if isinstance(less, InfeasibleError):
            assert less.binding == "stock"
        else:
            assert sizes(less) != sizes(free)
            assert sum(pool.machines for pool in less.pools if pool.machine == name) < used[name]


# Every option changes the answer where it should


def test_the_objective() -> None:
    by_cost, by_power, by_count = (plan(workload="conversation", objective=o) for o in ("cost", "power", "machines"))
    assert by_power.power_w < by_cost.power_w
    assert by_cost.cost_usd_per_h < by_power.cost_usd_per_h
    assert by_count.machines <= min(by_cost.machines, by_power.machines)


def test_the_prices() -> None:
    now, paper = plan(prices="2026", **HH), plan(prices="paper", **HH)
    assert sizes(now) == sizes(paper)
    assert paper.cost_usd_per_h == pytest.approx(paper.machines * 38.08)
    assert now.cost_usd_per_h == pytest.approx(now.machines * 31.92)
    assert "2024-06-29" in " ".join(paper.sources)
    cheaper_a = plan(prices="paper", workload="conversation", machines=("dgx-a100", "dgx-h100"), slo="batch")
    assert {pool.machine for pool in cheaper_a.pools} == {"dgx-a100"}


def test_machines_and_designs() -> None:
    only = plan(machines=("dgx-a100",), slo="p90")
    assert {pool.machine for pool in only.pools} == {"dgx-a100"}
    assert {only.design, *(a.design for a in only.alternatives)} == {"Splitwise-AA", "Baseline-A100"}
    named = plan(designs=("Splitwise-HA", "baseline-h100"))
    assert {named.design, *(a.design for a in named.alternatives)} == {"Splitwise-HA", "Baseline-H100"}
    assert len(plan().alternatives) == 11
    # three machine types at three degrees: 81 pairs and 9 colocated designs, this plan's one of them
    every = plan(tensor_parallel="all")
    assert len(every.alternatives) == 89 and every.cost_usd_per_h < plan().cost_usd_per_h


def test_burstiness_costs() -> None:
    assert does_not_fall(cost(cv=cv, **HH) for cv in (0.5, 1.0, 2.0, 4.0))
    assert cost(cv=4.0, **HH) > cost(**HH)


def test_independent_lengths_change_the_latencies() -> None:
    joint, apart = plan(workload="coding", **HH), plan(workload="coding", independent=True, **HH)
    assert joint.latency != apart.latency


def test_the_set_of_assumptions() -> None:
    assert plan(assumptions="splitwise-sim", **HH).latency != plan(**HH).latency


def test_the_model() -> None:
    assert cost(model="bloom-176b", **HH) > cost(model="llama2-70b", **HH)


def test_without_latency_limits_only_capacity_counts() -> None:
    batch = plan(slo="batch", **TWO)
    assert batch.worst_slack is None
    assert all(figure.limit is None for figure in batch.latency)
    assert "capacity" in batch.binding
    assert batch.cost_usd_per_h < cost(**TWO)


def test_absolute_limits() -> None:
    loose = plan(slo="batch", limits={"ttft_p99": "4s"}, **HH)
    tight = plan(slo="batch", limits={"ttft_p99": "1200ms"}, **HH)
    assert tight.machines > loose.machines
    (figure,) = (each for each in tight.latency if each.limit is not None)
    assert figure.limit is not None and figure.limit.kind == "seconds"
    assert figure.seconds <= 1.2 and figure.slack is not None and figure.slack >= 0.0


def test_a_limit_equal_to_what_a_plan_attains_keeps_it() -> None:
    free = plan(slo="batch", limits={"ttft_p99": "2s"}, **HH)
    (figure,) = (each for each in free.latency if each.limit is not None)
    assert sizes(plan(slo="batch", limits={"ttft_p99": f"{figure.seconds!r}s"}, **HH)) == sizes(free)


def test_no_reported_slack_is_negative() -> None:
    for found in (plan(**HH), plan(**TWO), plan(), plan(workload="conversation", **TWO)):
        assert found.worst_slack is not None and found.worst_slack >= 0.0
        assert set(found.binding) <= {"capacity", "a pool needs one machine"} | {
            figure.limit.label for figure in found.latency if figure.limit is not None
        }


def test_the_program_is_written(tmp_path: Path) -> None:
    path = tmp_path / "plan.lp"
    plan(write_lp=str(path), **HH)
    text = path.read_text()
    assert "one_design:" in text and "size(0,0," in text


def test_solver_and_seed_are_reported() -> None:
    found = plan(seed=7, **HH)
    assert (found.solver, found.gap, found.seed) == ("HiGHS", 0.0, 7)
    assert found.versions["pulp"] and found.question["seed"] == 7


# No plan


def applied(fields: dict[str, Any], relaxation: str) -> dict[str, Any]:
    """A question with a relaxation applied as it is written."""
    words = relaxation.split(" (", 1)[0].split()
    changed = {**fields, "limits": dict(fields.get("limits", {})), "stock": dict(fields.get("stock", {}))}
    if "more stock: needs" in relaxation:
        for needed in relaxation.split("more stock: needs ")[1].split("), "):
            count, name = needed.split()[:2]
            changed["stock"][name] = int(count)
        words = relaxation.split("more stock")[0].split()
    for name, value in zip(words[::2], words[1::2], strict=True):
        if name in ("max_cost_usd_per_h", "max_power_w", "rate_rps"):
            changed[name] = float(value)
        elif name == "max_machines":
            changed[name] = int(value)
        else:
            changed["limits"][name] = value
    return changed


@pytest.mark.parametrize(
    "fields",
    [
        {**HH, "max_cost_usd_per_h": 300.0},
        {**HH, "max_power_w": 100_000.0},
        {**HH, "max_machines": 9},
        {**HH, "rate_rps": 900.0, "max_power_w": 1_000_000.0},
        {**TWO, "rate_rps": 6.0, "slo": "p99", "max_machines": 1},
        {**TWO, "max_machines": 1, "max_cost_usd_per_h": 10.0},
        {**TWO, "max_cost_usd_per_h": 300.0, "max_machines": 5, "max_power_w": 1e5},
        {**HH, "stock": {"dgx-h100": 5}},
        {**HH, "stock": {"dgx-h100": 5}, "max_machines": 4},
        {**TWO, "stock": {"dgx-h100": 0, "dgx-a100": 0}, "rate_rps": 5.0},
        {**HH, "headroom": 0.5, "max_machines": 18},
        {**TWO, "limits": {"ttft_p99": "50ms"}},
        {**TWO, "limits": {"tbt_p50": "1.01x", "ttft_p50": "0.1x"}},
        {**TWO, "limits": {"e2e_p99": "1s"}},
        {**HH, "workload": "conversation", "limits": {"tbt_p99": "10ms"}},
        {"machines": ("dgx-h100-capped",), "limits": {"ttft_p99": "1x"}},
        {**TWO, "model": "bloom-176b", "slo": "batch", "limits": {"e2e_p50": "0.2x"}},
    ],
)
def test_an_infeasible_question_names_what_binds_and_each_relaxation_makes_it_feasible(fields: dict[str, Any]) -> None:
    error = refused(**fields)
    assert error.exit_code == 3
    assert error.binding
    assert error.relaxations
    assert "\n" not in str(error)
    for relaxation in error.relaxations:
        found = ask(**applied(fields, relaxation))
        assert isinstance(found, Plan), f"{relaxation!r} is not enough: {found}"


def test_the_latency_message_says_what_is_attainable() -> None:
    error = refused(limits={"ttft_p99": "50ms"}, **HH)
    assert error.binding == "TTFT P99"
    assert "TTFT P99 of 50 ms is below the prompt time alone" in str(error)


# Throughput


@pytest.mark.parametrize(
    "caps", [{"max_machines": 6}, {"max_cost_usd_per_h": 200.0}, {"stock": {"dgx-h100": 5}}, {"max_power_w": 60e3}]
)
def test_the_largest_rate_is_feasible_and_more_is_not(caps: dict[str, Any]) -> None:
    best = plan(objective="throughput", **HH, **caps)
    again = plan(rate_rps=best.rate_rps, **HH, **caps)
    assert again.machines <= best.machines
    refused(rate_rps=best.rate_rps * 1.02, **HH, **caps)
    tripled = {name: ({"dgx-h100": 10} if name == "stock" else value * 2) for name, value in caps.items()}
    assert plan(objective="throughput", **HH, **tripled).rate_rps > best.rate_rps


def test_throughput_over_several_designs_takes_the_largest() -> None:
    best = plan(objective="throughput", max_machines=5, designs=("splitwise-hh", "splitwise-ah"))
    rates = [other.rate_rps for other in best.alternatives if other.feasible]
    assert rates and all(rate is not None and rate <= best.rate_rps for rate in rates)


def test_throughput_with_headroom_serves_less() -> None:
    plain, spare = (plan(objective="throughput", max_machines=6, headroom=h, **HH) for h in (0.0, 0.25))
    assert spare.rate_rps == pytest.approx(plain.rate_rps / 1.25, rel=0.01)


@pytest.mark.parametrize("fields", [{}, {"stock": {"dgx-h100": 5}}])
def test_unbounded_throughput_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="unbounded"):
        ask(objective="throughput", **TWO, **fields)


def test_throughput_that_no_rate_allows_is_infeasible() -> None:
    error = refused(objective="throughput", max_machines=1, **HH)
    assert any("max_machines 2 " in text for text in error.relaxations)


# Traces as they are


def write_trace(path: Path, arrival_s: Any, prompt: Any, output: Any) -> str:
    rows = zip(arrival_s, prompt, output, strict=True)
    lines = ["arrival_s,prompt_tokens,output_tokens", *(f"{a:.6f},{int(p)},{int(o)}" for a, p, o in rows)]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def lengths(rng: np.random.Generator, count: int) -> tuple[Any, Any]:
    return rng.integers(200, 3000, count), rng.integers(2, 200, count)


def poisson(rng: np.random.Generator, *levels: tuple[float, float]) -> Any:
    """Poisson arrivals at each rate (requests/s) for its duration (s) in turn."""
    times, start = [], 0.0
    for rate, duration in levels:
        times.append(start + np.sort(rng.uniform(0.0, duration, rng.poisson(rate * duration))))
        start += duration
    return np.concatenate(times)


def test_a_steady_trace_is_planned_like_its_rate(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    arrivals = poisson(rng, (10.0, 600.0))
    path = write_trace(tmp_path / "steady.csv", arrivals, *lengths(rng, arrivals.size))
    traced, at_rate = plan(trace=path, **HH), plan(workload=path, rate_rps=10.0, **HH)
    assert traced.rate_rps == pytest.approx(10.0, rel=0.1)
    assert abs(traced.machines - at_rate.machines) <= 1
    assert traced.workload == "steady"


def test_a_trace_has_one_peak_rate(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    arrivals = poisson(rng, (2.0, 600.0), (20.0, 600.0))
    path = write_trace(tmp_path / "levels.csv", arrivals, *lengths(rng, arrivals.size))
    arrived = profile(read_trace(path).arrival_s)
    peak_rps = arrived.peak_rate_rps
    assert peak_rps is not None and arrived.mean_rate_rps is not None and arrived.cv is not None
    assert 1.7 * arrived.mean_rate_rps < peak_rps < max(arrived.rate_by_minute_rps)
    assert arrived.cv_within_windows is not None and arrived.cv_within_windows < 1.3 < 1.5 < arrived.cv
    ways: tuple[dict[str, Any], ...] = ({"trace": path}, {"workload": path})
    for way in ways:
        for factor in (1.0, 3.0):
            setting = load_setting(PlanOptions(**way, scale={"rate": factor}))
            assert setting.rate_rps == setting.traffic.peak_rps == pytest.approx(factor * peak_rps, rel=1e-12)
            assert setting.traffic.cv == pytest.approx(arrived.cv_within_windows)
            assert any(f"peak rate {how}" in note for note in setting.warnings for how in ("is", "(1."))
    assert not any("peak rate" in note for note in load_setting(PlanOptions(workload=path, rate_rps=5.0)).warnings)
    for kept in describe(read_trace(path)), describe_arrivals(arrived):
        assert kept["peak rate"] == format_rate(peak_rps) != kept["largest single minute"]
    scenario = load_scenario(SimulateOptions(workload=path, design="baseline-h100", mixed_machines=1))
    assert scenario.arrivals.rate_rps == peak_rps
    assert any("simulated at the peak rate (1." in note for note in scenario.warnings)


def test_a_trace_below_two_minutes_is_planned_at_its_mean_rate(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    arrivals = poisson(rng, (20.0, 100.0))
    path = write_trace(tmp_path / "short.csv", arrivals, *lengths(rng, arrivals.size))
    for setting in (load_setting(PlanOptions(trace=path)), load_setting(PlanOptions(workload=path))):
        assert setting.rate_rps == profile(read_trace(path).arrival_s).mean_rate_rps
        assert any("below 2 minutes or 60 requests there is no peak" in note for note in setting.warnings)


def test_the_busy_half_of_a_trace_decides(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    arrivals = poisson(rng, (4.0, 600.0), (16.0, 600.0))
    path = write_trace(tmp_path / "levels.csv", arrivals, *lengths(rng, arrivals.size))
    traced = plan(trace=path, **HH)
    assert traced.rate_rps == pytest.approx(16.0, rel=0.15)
    assert cost(workload=path, rate_rps=10.0, **HH) < traced.cost_usd_per_h
    assert traced.cost_usd_per_h <= cost(workload=path, rate_rps=17.0, **HH)
    assert any("peak rate is 16" in warning for warning in traced.warnings)


def test_a_bursty_trace_needs_more_than_a_steady_one_of_the_same_rate(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    starts = poisson(rng, (1.0, 900.0))
    arrivals = np.sort(np.repeat(starts, 10) + rng.uniform(0.0, 0.05, starts.size * 10))
    bursty = write_trace(tmp_path / "bursty.csv", arrivals, *lengths(rng, arrivals.size))
    found = plan(trace=bursty, **HH)
    assert found.cost_usd_per_h > cost(workload=bursty, rate_rps=11.0, cv=1.0, **HH)
    assert any("cluster within minutes" in warning for warning in found.warnings)


def test_a_trace_is_not_planned_at_a_rate(tmp_path: Path) -> None:
    path = write_trace(tmp_path / "short.csv", [0.0, 1.0, 2.0], [100, 200, 300], [10, 20, 30])
    for fields in ({"rate_rps": 5.0}, {"cv": 2.0}, {"independent": True}):
        with pytest.raises(InputError):
            ask(trace=path, **fields)
    one = write_trace(tmp_path / "one.csv", [3.0, 3.0], [100, 200], [10, 20])
    with pytest.raises(InputError, match="at different times"):
        ask(trace=one)


def test_an_infeasible_trace_is_not_told_to_change_its_rate(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    arrivals = poisson(rng, (20.0, 200.0))
    path = write_trace(tmp_path / "much.csv", arrivals, *lengths(rng, arrivals.size))
    error = refused(trace=path, max_machines=3, **HH)
    assert error.relaxations and not any("rate_rps" in text for text in error.relaxations)


# Odd questions: a sensible plan or one clear error. ``python -m tests.benchmarks.odd_questions`` times them.

ODD: list[dict[str, Any]] = [
    {"rate_rps": 0.001, "tensor_parallel": "all"},
    {"rate_rps": 5000.0},
    {"workload": "conversation", "rate_rps": 5000.0, **TWO},
    {"machines": ("dgx-a100",)},
    {"machines": ("dgx-h100-capped",), "model": "bloom-176b", "workload": "conversation"},
    {"stock": {"dgx-h100": 0}},
    {"stock": {"dgx-a100": 0, "dgx-h100": 0, "dgx-h100-capped": 0}},
    {"stock": {"dgx-h100": 6, "dgx-h100-capped": 2}},
    {"workload": "conversation", "stock": {"dgx-h100": 4, "dgx-h100-capped": 0}},
    {"max_machines": 1},
    {"max_machines": 1, "rate_rps": 0.1},
    {"headroom": 10.0},
    {"limits": {"ttft_p99": "50ms"}},
    {"limits": {"ttft_p50": "0.5x", "tbt_p50": "0.5x", "e2e_p50": "0.5x"}},
    {"slo": "batch", "limits": {"e2e_p99": "1h"}},
    {"slo": "batch", "limits": {"tbt_p99": "60ms"}, "workload": "conversation"},
    {"cv": 6.0},
    {"cv": 0.0},
    {"max_cost_usd_per_h": 0.01},
    {"assumptions": "splitwise-sim", "rate_rps": 1000.0},
    {"model": "bloom-176b", "slo": "batch"},
]


@pytest.mark.parametrize("fields", ODD)
def test_odd_questions_are_answered(fields: dict[str, Any]) -> None:
    found = ask(**fields)
    if isinstance(found, InfeasibleError):
        assert found.binding and found.relaxations


@pytest.mark.parametrize(
    ("prompt", "output", "rate"),
    [(500, 100, 20.0), (500, 1, 20.0), (30_000, 50, 2.0), (1, 1, 50.0), (20, 2000, 5.0), (100, 5, 400.0)],
)
def test_a_trace_of_one_class(tmp_path: Path, prompt: int, output: int, rate: float) -> None:
    rng = np.random.default_rng(5)
    arrivals = poisson(rng, (rate, 1000.0 / rate))
    path = write_trace(tmp_path / "one.csv", arrivals, [prompt] * arrivals.size, [output] * arrivals.size)
    for fields in ({"workload": path, "rate_rps": rate}, {"trace": path}):
        try:
            found = ask(slo="p99", designs=("splitwise-hh", "baseline-h100"), **fields)
        except ProvisionerError as error:
            assert "\n" not in str(error) and str(error)
        else:
            if isinstance(found, InfeasibleError):
                assert found.binding and found.relaxations


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"workload": "codin"}, "did you mean coding"),
        ({"model": "llama-70b"}, "the nearest is llama2-70b, of another size"),
        ({"machines": ("dgx-h10",)}, "did you mean dgx-h100"),
        ({"designs": ("splitwise-hhh",)}, "did you mean splitwise-hh"),
        ({"designs": ("splitwise-hh", "Splitwise-HH")}, "named twice"),
        ({"slo": "p98"}, "unknown SLO"),
        ({"objective": "costs"}, "did you mean cost"),
        ({"assumptions": "guess"}, "unknown set of assumptions"),
        ({"prices": "2025"}, "unknown price list"),
        ({"solver": "abacus"}, "unknown solver"),
        ({"rate_rps": 0}, "rate_rps: must"),
        ({"rate_rps": float("nan")}, "rate_rps: must"),
        ({"rate_rps": -3}, "rate_rps: must"),
        ({"headroom": -0.1}, "headroom: must"),
        ({"cv": -1}, "cv: must"),
        ({"max_cost_usd_per_h": 0}, "max_cost_usd_per_h: must"),
        ({"max_power_w": -1}, "max_power_w: must"),
        ({"max_machines": 2.5}, "max_machines: must"),
        ({"max_machines": 0}, "max_machines: must"),
        ({"stock": {"dgx-h100": -1}}, "stock dgx-h100: must"),
        ({"stock": {"dgx-h10": 1}}, "did you mean dgx-h100"),
        ({"stock": {"dgx-h100": 1}, "machines": ("dgx-a100",)}, "not among the machines"),
        ({"limits": {"ttft_95": "1s"}}, "unknown limit"),
        ({"limits": {"ttft_p99": "0s"}}, "ttft_p99: must"),
        ({"limits": {"ttft_p99": "-1x"}}, "ttft_p99: must"),
        ({"limits": {"ttft_p99": "soon"}}, "ttft_p99: must"),
    ],
)
def test_bad_options_are_refused_in_one_line(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        provisioner.plan(**fields)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_options_by_keyword() -> None:
    with pytest.raises(UnknownNameError, match="did you mean workload"):
        provisioner.plan(workloads="coding")
    with pytest.raises(InputError, match="not both"):
        provisioner.plan(PlanOptions(), workload="coding")
    named = provisioner.plan(designs="splitwise-hh", tensor_parallel="largest", fast=True)
    assert named.pools == plan(**HH).pools


def test_a_workload_for_notebooks() -> None:
    assert provisioner.load_workload("coding").rate_rps == 70.0


def test_a_machine_that_cannot_serve_the_model_is_left_out_of_several() -> None:
    of_fp8: dict[str, Any] = {"model": "llama-3.1-70b", "dtype": "fp8", "workload": "conversation"}
    setting = load_setting(PlanOptions(**of_fp8, **TWO, slo="batch"))
    assert {key.machine for key in setting.replicas} == {"dgx-h100"}
    assert any(note.startswith("dgx-a100 is left out: ") and "no FP8" in note for note in setting.warnings)
    with pytest.raises(
        InputError, match=r"no latency curves for llama-3.1-70b in fp8 on dgx-a100: dgx-a100 has no FP8"
    ):
        load_setting(PlanOptions(**of_fp8, machines=("dgx-a100",), slo="batch"))


def test_a_burstier_trace_is_warned_of_by_the_cv_that_is_planned_for() -> None:
    poisson, bursty, burstier = (plan(workload="coding", cv=cv, **HH) for cv in (None, 2.0, 10.0))
    assert any("planned as Poisson, CV 1" in warning for warning in poisson.warnings)
    assert any("planned with CV 2" in warning for warning in bursty.warnings)
    assert not any("burstier" in warning for warning in burstier.warnings)


def test_no_latency_is_predicted_for_a_mixed_pool_beyond_the_described_load() -> None:
    found = plan(workload="coding", slo="batch", designs=("baseline-h100",))
    assert found.pools[0].utilization > 0.85
    assert all(np.isinf(figure.seconds) for figure in found.latency)
    assert any("no latency is predicted" in warning for warning in found.warnings)
    limited = plan(
        workload="coding",
        slo="batch",
        designs=("baseline-h100",),
        limits={"tbt_p50": "100x"},
    )
    assert limited.pools[0].utilization <= 0.85 and limited.machines > found.machines
