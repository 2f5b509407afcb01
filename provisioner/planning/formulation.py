"""The integer linear program of docs/reference/formulation.md: one function per row family, named as there."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

import numpy as np

from provisioner.deadline import check_time
from provisioner.planning.candidates import SHARE_TOLERANCE, Candidates
from provisioner.planning.program import Columns, Linear, Program, Rows
from provisioner.results.cluster import Cluster, Totals
from provisioner.specs.criteria import CRITERIA as ALL_CRITERIA
from provisioner.specs.criteria import OF_CLUSTERS, CriterionName, Tiebreak
from provisioner.specs.money import USD
from provisioner.specs.slo import LatencyLimit

Criterion = CriterionName
CRITERIA: Final = OF_CLUSTERS
CAP_OPTIONS: Final = {name: f"max_{ALL_CRITERIA[name].field}" for name in CRITERIA}
"""The option that caps each criterion."""

# A total may exceed its limit, or the best value of an earlier criterion, by this relative rounding error.
ROUNDING = 1e-9
_UNLIMITED = 10**9


@dataclass(frozen=True, slots=True)
class Prices:
    """Cost, in a currency, and power of a machine, by its name."""

    cost_usd_per_h: dict[str, float]
    power_w: dict[str, float]
    currency: str = USD

    def of(self, criterion: Criterion, machine: str) -> float:
        """The amount of a criterion per machine: $/h, W, or 1."""
        if criterion == "machines":
            return 1.0
        return self.cost_usd_per_h[machine] if criterion == "cost" else self.power_w[machine]

    def totals(self, cluster: Cluster) -> Totals:
        """Cost, power and machines of a cluster."""
        return Totals(
            math.fsum(pool.machines * self.cost_usd_per_h[pool.machine] for pool in cluster.pools),
            math.fsum(pool.machines * self.power_w[pool.machine] for pool in cluster.pools),
            cluster.machines,
        )


@dataclass(frozen=True, slots=True)
class Caps:
    """Limits on the whole cluster; None where there is none. ``stock`` is machines available by machine name."""

    cost_usd_per_h: float | None = None
    power_w: float | None = None
    machines: int | None = None
    stock: Mapping[str, int] = field(default_factory=dict)

    @property
    def given(self) -> dict[Criterion, float]:
        """The caps that there are, by criterion."""
        caps = {"cost": self.cost_usd_per_h, "power": self.power_w, "machines": self.machines}
        return {criterion: cap for criterion in CRITERIA if (cap := caps[criterion]) is not None}

    def without(self, criterion: Criterion) -> Self:
        """These caps without the one on a criterion."""
        return replace(self, **{ALL_CRITERIA[criterion].field: None})  # type: ignore[arg-type]

    def room(self, machine: str, prices: Prices, *also: tuple[Criterion, float]) -> int:
        """Machines of a type that caps, ``also`` others, and stock leave if there is no other type."""
        caps = (*self.given.items(), *also)
        rooms = [int(cap / prices.of(criterion, machine) * (1.0 + ROUNDING)) for criterion, cap in caps]
        return min([self.stock.get(machine, _UNLIMITED), *rooms])

    @property
    def any(self) -> bool:
        """Whether anything limits the cluster's size."""
        return bool(self.stock or self.given)


@dataclass(frozen=True, slots=True)
class Parameters:
    """All that the program is built from: candidates by design, what a machine costs and draws, and the caps."""

    candidates: tuple[Candidates, ...]
    prices: Prices
    caps: Caps

    def machine(self, d: int, s: int) -> str:
        """The machine type of a pool."""
        return self.candidates[d].pools[s].slot.machine.name


def build(parameters: Parameters, objective: Tiebreak, best_so_far: Mapping[Tiebreak, float] | None = None) -> Program:
    """State the program that minimises one criterion, with the earlier criteria held at their best values."""
    empty = Program.over(parameters.candidates, "provisioner")
    rows: Rows = {}
    for family in (one_design, one_size, share_beyond, end_to_end, in_stock, capped):
        rows |= family(parameters, empty)
    rows |= as_good_as(parameters, empty, best_so_far or {})
    return replace(empty, objective=total(parameters, empty, objective), rows=rows)


def total(parameters: Parameters, program: Program, criterion: Tiebreak) -> Linear:
    """sum over d, s, n of n * u[machine(d, s)] * size[d, s, n]: a criterion summed over all machines.

    Of the complexity: sum over d of complexity[d] * design[d].
    """
    if criterion == "complexity":
        return Linear.of([(program.designs, np.array([o.design.complexity for o in parameters.candidates]))])
    return Linear.of(
        program.per_machine(d, s, parameters.prices.of(criterion, parameters.machine(d, s)))
        for d, option in enumerate(parameters.candidates)
        for s in range(len(option.pools))
    )


def amount(parameters: Parameters, criterion: Tiebreak, d: int, sizes: Sequence[int]) -> float:
    """The total of a criterion for one choice, by arithmetic."""
    if criterion == "complexity":
        return parameters.candidates[d].design.complexity
    return sum(n * parameters.prices.of(criterion, parameters.machine(d, s)) for s, n in enumerate(sizes))


def one_design(parameters: Parameters, program: Program) -> Rows:
    """sum over d of design[d] = 1: exactly one design is built."""
    return {"one_design": Linear.of([(program.designs, 1.0)]).equal(1.0)}


def one_size(parameters: Parameters, program: Program) -> Rows:
    """sum over n of size[d, s, n] = design[d]: each pool of the chosen design has one size, the others none."""
    return {
        f"one_size({d},{s})": Linear.of([(program.sizes(d, s), 1.0)]).less(1.0, d).equal(0.0)
        for d, option in enumerate(parameters.candidates)
        for s in range(len(option.pools))
    }


def share_beyond(parameters: Parameters, program: Program) -> Rows:
    """sum over s in role, n of share[d, s, n, limit] * size[d, s, n] <= 1 - quantile: shares add over a shared role."""
    rows: Rows = {}
    for d, option in enumerate(parameters.candidates):
        limits: dict[tuple[str, LatencyLimit], list[tuple[Columns, Any]]] = {}
        for s, pool in enumerate(option.pools):
            for limit, shares in pool.share_beyond.items():
                check_time()
                limits.setdefault((pool.slot.role, limit), []).append((program.sizes(d, s), shares))
        for (role, limit), terms in limits.items():
            name = f"share_beyond({d},{role},{limit.metric},p{limit.percentile:g})"
            rows[name] = Linear.of(terms).at_most(1.0 - limit.quantile + SHARE_TOLERANCE)
    return rows


def end_to_end(parameters: Parameters, program: Program) -> Rows:
    """sum over s, n <= cut[s] of size[d, s, n] <= pools - 1: not every pool at most as large as in a failing choice."""
    return {
        f"end_to_end({d},{k})": terms.at_most(len(option.pools) - 1.0)
        for d, option in enumerate(parameters.candidates)
        for k, cut in enumerate(option.cuts)
        if (terms := program.no_larger(d, cut)).columns.size
    }


def in_stock(parameters: Parameters, program: Program) -> Rows:
    """sum over pools of the type, n of n * size[d, s, n] <= stock[type]: no more machines of a type than there are."""
    rows: Rows = {}
    for machine, available in parameters.caps.stock.items():
        used = [
            program.per_machine(d, s, 1.0)
            for d, option in enumerate(parameters.candidates)
            for s in range(len(option.pools))
            if parameters.machine(d, s) == machine
        ]
        if used:
            rows[f"in_stock({machine})"] = Linear.of(used).at_most(available)
    return rows


def capped(parameters: Parameters, program: Program) -> Rows:
    """total[criterion] <= cap[criterion]: cost, power and the number of machines within what is allowed."""
    return {
        f"capped({criterion})": total(parameters, program, criterion).at_most(cap * (1.0 + ROUNDING))
        for criterion, cap in parameters.caps.given.items()
    }


def as_good_as(parameters: Parameters, program: Program, best_so_far: Mapping[Tiebreak, float]) -> Rows:
    """total[criterion] <= best[criterion]: a later criterion decides only among what the earlier ones leave."""
    return {
        f"as_good_as({criterion})": total(parameters, program, criterion).at_most(best * (1.0 + ROUNDING))
        for criterion, best in best_so_far.items()
    }
