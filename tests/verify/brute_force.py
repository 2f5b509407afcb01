"""A plan beside the cheapest of all small clusters, each tried."""

from collections.abc import Callable
from itertools import product
from typing import Final

import pytest

from provisioner.errors import InfeasibleError
from provisioner.planning.proof import Candidate
from provisioner.planning.setting import Setting
from provisioner.verify.answer import best_plan

MOST: Final = 4
"""Machines of a pool, at most."""


def assert_cheapest(setting: Setting, passes: Callable[[Candidate], bool]) -> None:
    """The plan costs as much as the cheapest small cluster that passes; one with a larger pool may cost less."""
    costs = setting.prices.cost_usd_per_h
    found = [
        sum(n * costs[slot.machine.name] for slot, n in zip(design.slots, sizes, strict=True))
        for design in setting.designs
        for sizes in product(range(1, MOST + 1), repeat=len(design.slots))
        if passes(Candidate(design, sizes))
    ]
    try:
        plan = best_plan(setting)
    except InfeasibleError:
        assert not found
        return
    if max(pool.machines for pool in plan.pools) <= MOST:
        assert found and plan.cost_usd_per_h == pytest.approx(min(found))
    else:
        assert not found or plan.cost_usd_per_h <= min(found)
