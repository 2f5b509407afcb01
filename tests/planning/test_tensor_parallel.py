"""Tensor parallelism as a choice of every pool."""

from __future__ import annotations

import re
from typing import Any

import pytest

import provisioner
from provisioner.errors import InputError, UnknownNameError
from provisioner.loading.setting import load_setting
from provisioner.options import PlanOptions
from provisioner.planning.designs import choose, designs, shared_roles
from provisioner.specs import catalog

H, A = catalog.machine("dgx-h100"), catalog.machine("dgx-a100")


def test_each_combination_is_a_design_where_there_is_a_choice() -> None:
    found = designs([H, A], {"dgx-h100": (8, 4), "dgx-a100": (8,)})
    assert [design.name for design in found if design.splits] == [
        *("Splitwise-HH:8+8", "Splitwise-HH:8+4", "Splitwise-HA:8+8"),
        *("Splitwise-HH:4+8", "Splitwise-HH:4+4", "Splitwise-HA:4+8"),
        *("Splitwise-AH:8+8", "Splitwise-AH:8+4", "Splitwise-AA:8+8"),
    ]
    assert [design.name for design in found if not design.splits] == [
        "Baseline-H100:8",
        "Baseline-H100:4",
        "Baseline-A100:8",
    ]
    assert [slot.replica for slot in found[1].slots] == [("dgx-h100", 8), ("dgx-h100", 4)]


def test_names_say_nothing_where_there_is_no_choice() -> None:
    one, whole = designs([H], {"dgx-h100": (4,)}), designs([H])
    assert [design.name for design in one] == [design.name for design in whole] == ["Splitwise-HH", "Baseline-H100"]
    assert {slot.replica for design in one for slot in design.slots} == {("dgx-h100", 4)}
    assert {slot.replica for design in whole for slot in design.slots} == {("dgx-h100", 8)}


def test_a_design_is_named_with_all_its_degrees_or_with_one() -> None:
    every = designs([H], {"dgx-h100": (8, 4)})
    assert [d.name for d in choose(every, ("splitwise-hh",))] == [d.name for d in every if d.splits]
    assert [d.name for d in choose(every, ("Splitwise-HH:4+8",))] == ["Splitwise-HH:4+8"]
    with pytest.raises(InputError, match="named twice"):
        choose(every, ("splitwise-hh", "splitwise-hh:8+4"))
    with pytest.raises(UnknownNameError, match="splitwise-hh:8\\+2"):
        choose(every, ("splitwise-hh:8+2",))


def test_shared_roles_keep_one_degree_of_each_machine() -> None:
    found = shared_roles(
        [H, A], {"dgx-h100"}, (1000,), {"dgx-h100": 2.0, "dgx-a100": 1.0}, {"dgx-h100": 4, "dgx-a100": 8}, True
    )
    assert {(slot.machine.name, slot.tensor_parallel) for d in found for slot in d.slots} == {
        ("dgx-h100", 4),
        ("dgx-a100", 8),
    }
    assert found[0].name == "Splitwise-(H+A)H:4+8+4"


def test_the_best_over_all_degrees_is_the_best_of_each_alone() -> None:
    """Each combination of one degree for both pools asked alone, and the mixed ones by name."""
    asked: dict[str, Any] = {"rate_rps": 20.0, "machines": ("dgx-h100",), "slo": "p99", "fast": True}
    together = provisioner.plan(tensor_parallel="all", **asked)
    alone = [provisioner.plan(tensor_parallel=(degree,), **asked) for degree in (2, 4, 8)]
    every = load_setting(PlanOptions(**asked, tensor_parallel="all")).designs
    named = [provisioner.plan(tensor_parallel="all", designs=(design.key,), **asked) for design in every]
    assert len(every) == 12
    assert together.cost_usd_per_h == min(plan.cost_usd_per_h for plan in named)
    assert together.cost_usd_per_h <= min(plan.cost_usd_per_h for plan in alone)
    for plan in alone:  # the same clusters as among all
        pools = [(pool.role, pool.machines, pool.tensor_parallel) for pool in plan.pools]
        degree = plan.pools[0].tensor_parallel
        same = [p for p in named if {pool.tensor_parallel for pool in p.pools} == {degree}]
        best = min(same, key=lambda p: p.cost_usd_per_h)
        assert best.cost_usd_per_h == plan.cost_usd_per_h
        assert pools in [[(pool.role, pool.machines, pool.tensor_parallel) for pool in p.pools] for p in same]


def test_a_proven_plan_over_all_degrees_simulates_what_it_says() -> None:
    found = provisioner.plan(
        rate_rps=20.0, machines=("dgx-h100",), slo="p99", tensor_parallel="all", duration_s=60.0, sets=3
    )
    asked: dict[str, Any] = {f"{pool.role}_machines": pool.machines for pool in found.pools}
    asked |= {f"{pool.role}_tensor_parallel": pool.tensor_parallel for pool in found.pools}
    asked["batch_tokens"] = {pool.role: pool.batch_tokens for pool in found.pools if pool.batch_tokens}
    if "mixed_tensor_parallel" in asked:
        asked["tensor_parallel"] = asked.pop("mixed_tensor_parallel")
    family = found.design.partition(":")[0].lower()
    assert found.evidence is not None
    took = re.search(r"this one took (\d+)$", found.evidence.rule)
    asked["sets"] = int(took[1]) if took else 3
    again = provisioner.simulate(design=family, rate_rps=20.0, slo="p99", duration_s=60.0, **asked)
    simulated = {(each.metric, each.percentile): each.seconds.mean for each in again.latency}
    assert len(found.latency) == 9
    for figure in found.latency:
        assert figure.seconds == pytest.approx(simulated[figure.metric, figure.percentile])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("most", "tensor_parallel: must be largest, all, or numbers of GPUs such as 4,8, got 'most'"),
        ((3,), "no latency curves for llama2-70b on any machine at TP 3: there are curves for dgx-a100"),
        ((0,), "tensor_parallel: must be a whole number of GPUs, 1 or more, got 0"),
    ],
)
def test_degrees_that_cannot_be_are_refused(given: object, message: str) -> None:
    with pytest.raises(InputError) as error:
        provisioner.plan(fast=True, tensor_parallel=given)
    assert message in str(error.value)
