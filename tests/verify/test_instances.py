"""Plans with instances: the cheapest of whole machines and of their parts, each kind of cluster simulated once."""

from functools import cache
from itertools import product
from typing import Any

import pytest

from provisioner import api
from provisioner.errors import InputError
from provisioner.loading.setting import load_setting
from provisioner.options import PlanOptions
from provisioner.planning.proof import Candidate
from provisioner.planning.setting import Setting
from provisioner.results.plan import Plan
from provisioner.simulation.measure import percentiles
from provisioner.specs.catalog import SHIPPED
from provisioner.verify.answer import best_plan
from provisioner.verify.judge import SimulationJudge, Verdicts

SMALL: dict[str, Any] = {
    **{"model": "llama-3.1-8b", "workload": "conversation", "rate_rps": 6.0, "slo": "batch", "tensor_parallel": 1},
    **{"limits": {"ttft_p99": "1s", "tbt_p99": "40ms"}},
}
PROVEN: dict[str, Any] = {"duration_s": 40.0, "sets": 2}


@cache
def setting(**fields: Any) -> Setting:
    return load_setting(PlanOptions(**{**SMALL, **({} if "fast" in fields else PROVEN), **fields}))


@cache
def plan(**fields: Any) -> Plan:
    return best_plan(setting(**fields))


def judge(of: Setting) -> SimulationJudge:
    return Verdicts().judge(of, of.traffic.peak_rps)[1]


def candidate(of: Setting, name: str, *sizes: int) -> Candidate:
    return Candidate(next(design for design in of.designs if design.key == name), sizes)


ALIKE = {
    "colocated": ({}, ("baseline-h100", 1), ("baseline-lambda-1x-h100", 8)),
    "one share of the link": ({"network": ("dgx-h100=80",)}, ("splitwise-hh", 1, 1), ("splitwise-hx1hx1", 8, 8)),
    "half a machine": ({"network": ("80",)}, ("splitwise-hx4hx4", 1, 2), ("splitwise-hx4hx4", 1, 2)),
}


@pytest.mark.parametrize("case", ALIKE)
def test_clusters_that_differ_in_the_size_of_machines_alone_have_one_verdict(case: str) -> None:
    fields, first, second = ALIKE[case]
    of = setting(machines=("dgx-h100", "lambda-1x-h100", "lambda-4x-h100"), **fields)
    one, other = candidate(of, *first), candidate(of, *second)
    shared, alone = judge(of), judge(of)
    verdict, runs = shared.judge(one), shared.simulated_runs
    assert shared.judge(other) == verdict and shared.simulated_runs == runs > 0
    # and a judge that knows no other cluster agrees, to the last request
    assert alone.judge(other) == verdict and alone.simulated_runs == runs
    for ours, theirs in zip(shared.runs(one), alone.runs(other), strict=True):
        for metric in ("ttft", "tbt", "e2e"):
            of_both = (percentiles(each.latencies.both(metric)[0], [50.0, 99.0]) for each in (ours, theirs))
            assert next(of_both) == next(of_both)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("splitwise-hh", 1, 1), ("splitwise-hx1hx1", 8, 8)),  # 50 and 1.25 GB/s a replica
        (("baseline-h100", 1), ("baseline-lambda-1x-h100", 7)),
        (("baseline-h100", 1), ("baseline-a100", 1)),
    ],
)
def test_clusters_that_differ_in_more_are_simulated_each(first: tuple[Any, ...], second: tuple[Any, ...]) -> None:
    of = setting(machines=("dgx-h100", "lambda-1x-h100", "dgx-a100"))
    verdicts = judge(of)
    verdicts.judge(candidate(of, *first))
    runs = verdicts.simulated_runs
    verdicts.judge(candidate(of, *second))
    assert verdicts.simulated_runs > runs


DESIGNS = (
    "baseline-l40s-x8",
    "baseline-runpod-1x-l40s",
    "baseline-lambda-1x-h100",
    "splitwise-hx1hx1",
    "baseline-h100",
)


def test_the_plan_is_the_cheapest_of_whole_machines_and_instances_that_pass() -> None:
    of = setting(instances=True, designs=DESIGNS)
    found, verdicts = plan(instances=True, designs=DESIGNS), judge(of)
    least = []
    for design in of.designs:
        prices = [of.prices.cost_usd_per_h[slot.machine.name] for slot in design.slots]
        for sizes in product(range(1, 7 if len(design.slots) == 1 else 4), repeat=len(design.slots)):
            cost = sum(n * price for n, price in zip(sizes, prices, strict=True))
            if cost <= found.cost_usd_per_h + 1e-9 and verdicts.judge(Candidate(design, sizes)).passes:
                least.append((cost, design.key, sizes))
    assert min(least)[0] == pytest.approx(found.cost_usd_per_h)
    assert found.evidence is not None and found.evidence.optimal


def test_a_little_load_takes_a_small_instance_and_costs_no_more_than_whole_machines() -> None:
    for fields in ({"rate_rps": 0.5}, {"rate_rps": 6.0}):
        small, whole = plan(instances=True, fast=True, **fields), plan(fast=True, **fields)
        assert small.cost_usd_per_h <= whole.cost_usd_per_h
    assert [(pool.gpus_per_machine, pool.replicas) for pool in plan(instances=True, fast=True, rate_rps=0.5).pools] == [
        (1, 1)
    ]


def test_instances_are_considered_only_if_asked_for_and_pairs_stay_within_a_cloud() -> None:
    assert not any(name.startswith("lambda") for name in setting().machines)
    of = setting(instances=True)
    assert set(setting().machines) < set(of.machines) and {"lambda-1x-h100", "aws-p5-4xlarge"} <= set(of.machines)
    clouds = {tuple(slot.machine.cloud for slot in design.slots) for design in of.designs if design.splits}
    assert clouds == {(cloud, cloud) for cloud in ("", "AWS", "Google", "Lambda", "RunPod")}
    named = setting(machines=("dgx-h100", "lambda-1x-h100"))
    assert "splitwise-hhx1" in {design.key for design in named.designs}
    assert any(note.startswith("network of 15 instances: not stated, assumed") for note in of.warnings)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"machines": ("dgx-h100",)}, "machines: names the machine types, instances too; leave out instances"),
        (
            {"model": "llama2-70b", "assumptions": "splitwise-sim"},
            "instances: is of the measured assumptions; splitwise-sim has its own curves",
        ),
    ],
)
def test_instances_are_refused_beside(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        setting(instances=True, **fields)
    assert str(error.value) == message


def test_instances_without_a_price_or_room_are_one_line() -> None:
    of = setting(instances=True, model="llama2-70b", tensor_parallel="all", evidence="derived")
    left_out = [note for note in of.warnings if note.startswith("instances are left out")]
    assert len(left_out) == 1 and "llama2-70b does not fit on their GPUs: aws-g6e-xlarge" in left_out[0]
    paper = setting(instances=True, prices="2026-reserved")
    assert (
        sum(note.startswith("instances are left out, as the price list 2026-reserved") for note in paper.warnings) == 1
    )


LITTLE: dict[str, Any] = {**SMALL, **PROVEN, "rate_rps": 0.5}


class TestSmallerMachines:
    """A machine with too little work, and the smaller one that a plan names."""

    def test_the_smallest_machine_with_the_same_gpu_that_holds_the_load_is_named(self) -> None:
        plan = api.plan(**LITTLE, machines=("l40s-x8",), designs=("baseline-l40s-x8",))
        (smaller,) = plan.smaller
        assert (smaller.role, smaller.gpus, smaller.of_gpus) == ("mixed", 1, 8)
        single = [name for name, each in SHIPPED.machines.items() if (each.gpu, each.gpus) == ("l40s-48gb", 1)]
        prices = {name: SHIPPED.price_list("2026").price(name).cost_usd_per_h for name in single}
        assert len(prices) > 1 and smaller.cost_usd_per_h == min(prices.values()) == prices[smaller.machine]
        # a plan with that machine alone is of one such machine
        alone = api.plan(**LITTLE, machines=(smaller.machine,))
        assert [(pool.machine, pool.machines) for pool in alone.pools] == [(smaller.machine, 1)]
        assert f"1 of 8 GPUs would do: {smaller.machine}, $1.09/h" in str(plan)
        assert not alone.smaller

    @pytest.mark.parametrize(("rate_rps", "gpus"), [(1.0, 1), (3.0, 2), (6.0, 4), (12.0, 8)])
    def test_as_many_gpus_are_named_as_a_plan_of_single_ones_takes(self, rate_rps: float, gpus: int) -> None:
        asked: dict[str, Any] = SMALL | {"rate_rps": rate_rps, "fast": True}
        plan = api.plan(**asked, machines=("l40s-x8",), designs=("baseline-l40s-x8",))
        assert [pool.machines for pool in plan.pools] == [1]
        assert [smaller.gpus for smaller in plan.smaller] == ([gpus] if gpus < 8 else [])
        single = api.plan(**asked, machines=("runpod-1x-l40s",), designs=("baseline-runpod-1x-l40s",))
        assert gpus / 2 < single.machines <= gpus

    def test_pools_of_a_pair_move_together_within_one_cloud(self) -> None:
        plan = api.plan(**LITTLE, machines=("dgx-h100",), designs=("splitwise-hh",))
        assert [smaller.role for smaller in plan.smaller] == ["prompt", "token"]
        assert len({SHIPPED.machine(smaller.machine).cloud for smaller in plan.smaller}) == 1

    def test_nothing_is_named_where_nothing_smaller_would_do_or_instances_are_considered(self) -> None:
        assert not api.plan(**SMALL | {"tensor_parallel": 8}, fast=True).smaller
        assert not api.plan(**SMALL, fast=True, instances=True).smaller

    def test_a_price_that_is_not_known_is_left_out(self) -> None:
        of = setting(machines=("dgx-h100",), prices="2026-reserved")
        assert {cost for _, cost in of.smaller["dgx-h100"]} == {None}


@pytest.mark.parametrize(
    ("policy", "losses"),
    [
        ("splitwise", {"prompt": (True, None), "token": (False, 1.0)}),
        ("strict", {"prompt": (False, 1.0), "token": (True, 0.0)}),
    ],
)
def test_a_plan_of_few_requests_says_what_a_lost_machine_does_without_a_lower_rate(
    policy: str, losses: dict[str, tuple[bool, float | None]]
) -> None:
    """Half of 0.5 requests/s has too few requests for a P99 in an hour: what is left of pools that lend is not known.

    Without the prompt machine of strict pools the token machine computes so few prompts; without that nothing is held.
    """
    plan = api.plan(**LITTLE, machines=("dgx-h100",), designs=("splitwise-hh",), policy=policy)
    assert plan.robustness is not None
    assert {loss.role: (bool(loss.breaks), loss.holds_rate_factor) for loss in plan.robustness.losses} == losses
