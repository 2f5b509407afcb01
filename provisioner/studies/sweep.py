"""The space of pool sizes of one design: every cluster simulated whole, the frontier of those that pass, the optimum.

``vary`` is over an input at fixed sizes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

from provisioner.errors import InputError, UnknownNameError
from provisioner.options import PlanOptions, SimulateOptions
from provisioner.planning.formulation import CRITERIA, Criterion
from provisioner.planning.lattice import whole_units
from provisioner.planning.search import Prices
from provisioner.planning.solver import order
from provisioner.simulation.assemble import Scenario
from provisioner.studies.points import (
    ROLES,
    STATES,
    Point,
    Points,
    Record,
    columns_of,
    frame_of,
    prices_of,
    question_of,
    totals_of,
    without_prices,
)
from provisioner.studies.ranges import whole_range
from provisioner.studies.swept import Swept, answered, basis_of, check_points, notes_of, outputs_of

if TYPE_CHECKING:
    import pandas as pd

    from provisioner.report.chart import Chart
    from provisioner.report.document import Document

Sizes = str | int | Iterable[int]
"""Sizes of a pool: a range as typed (``1:40``, ``10:100:10``, ``1:5,8``), a number, or several."""


@dataclass(frozen=True, slots=True)
class Sweep(Swept):
    """Every cluster of a grid of pool sizes: what it costs, whether it passes, and its latencies.

    ``pools`` are the role and machine type of each pool, ``sizes`` the machines of each; ``cells`` has a row for each
    cluster, the last pool's size changing fastest: sizes, ``machines``, ``cost_usd_per_h``, ``power_w``, ``state`` (one
    of ``points.STATES``) and ``why``, ``worst_ratio`` (the largest percentile over its limit) and ``binding`` (which),
    the limits that are ``missed``, percentiles in s and as slowdowns, the pools' utilization. ``frontier`` are the
    positions of the cells that pass where no smaller one does, ``optimum`` that of the best by the objective: ties go
    to the lower cost, power and machines, then to the smaller worst ratio.
    """

    design: str
    pools: tuple[tuple[str, str], ...]
    sizes: tuple[tuple[int, ...], ...]
    cells: tuple[Mapping[str, Any], ...]
    frontier: tuple[int, ...]
    optimum: int | None
    objective: str
    policy: str

    @property
    def states(self) -> dict[str, int]:
        """Cells of each state."""
        counts = Counter(str(cell["state"]) for cell in self.cells)
        return {state: counts[state] for state in STATES if counts[state]}

    @property
    def bindings(self) -> dict[str, dict[str, int]]:
        """For each limit, by state: the cells in which it binds, being the one with the largest ratio."""
        counts = Counter((str(cell.get("binding") or ""), str(cell["state"])) for cell in self.cells)
        names = [limit.name for limit in self.slo.limits]
        return {name: {state: counts[name, state] for state in STATES if counts[name, state]} for name in names}

    def sizes_of(self, cell: Mapping[str, Any]) -> tuple[int, ...]:
        """Machines of each pool of a cell."""
        return tuple(int(cell[f"{role}_machines"]) for role, _ in self.pools)

    def to_frame(self) -> pd.DataFrame:
        """One row per cluster of the grid, as a pandas DataFrame."""
        frontier = set(self.frontier)
        rows = [
            {**_first(cell), "frontier": k in frontier, "optimum": k == self.optimum, **cell}
            for k, cell in enumerate(self.cells)
        ]
        return frame_of({"design": [self.design] * len(rows), **columns_of(rows)})

    def to_dict(self) -> dict[str, Any]:
        """The sweep as plain values: what ``--json`` prints; numbers that are not finite become None."""
        from provisioner.report.sweep_document import sweep_command

        own = {
            "design": self.design,
            "pools": [{"role": role, "machine": machine} for role, machine in self.pools],
            "sizes": {role: sizes for (role, _), sizes in zip(self.pools, self.sizes, strict=True)},
            "objective": self.objective,
            "optimum": None if self.optimum is None else self.cells[self.optimum],
            "frontier": [self.cells[k] for k in self.frontier],
            "states": self.states,
            "bindings": self.bindings,
            "cells": self.cells,
            "policy": self.policy,
        }
        return self.plain(own, sweep_command(self.question))

    def document(self) -> Document:
        """The report with every input."""
        from provisioner.report.sweep_document import sweep_document

        return sweep_document(self, inputs=True)

    def charts(self) -> tuple[Chart, ...]:
        """The pictures: the largest percentile over its limit in every cluster, of all metrics and of each."""
        from provisioner.report.sweep_document import sweep_charts

        return sweep_charts(self)

    def _shown(self) -> Document:
        from provisioner.report.sweep_document import sweep_document

        return sweep_document(self)


def _first(cell: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a cell that stand before whether it is the optimum."""
    names = [*(f"{role}_machines" for role in ROLES), "machines", "cost_usd_per_h", "power_w", "state"]
    return {name: cell[name] for name in names if name in cell}


def sweep(
    options: SimulateOptions,
    *,
    prompt: Sizes | None = None,
    token: Sizes | None = None,
    mixed: Sizes | None = None,
    prices: str = PlanOptions().prices,
    objective: str = PlanOptions().objective,
    threads: int | None = None,
    dask: str | None = None,
    out: Sequence[str] = (),
    resume: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Sweep:
    """Simulate every cluster of a design with these sizes of its pools; one of ``options`` where a role has none here.

    ``out`` are files to write, checked before the work starts. Beside the first lies a journal of the clusters done,
    from which ``resume`` goes on; it goes when all is written. ``threads`` None: as many as there are cores; ``dask``
    is the address of a Dask scheduler whose workers simulate in their place.
    """
    outputs = outputs_of(options, out, Sweep)
    if objective not in CRITERIA:
        raise UnknownNameError("objective of a sweep", objective, CRITERIA)
    given = {"prompt": prompt, "token": token, "mixed": mixed}
    ranges = {role: _range(options, role, sizes) for role, sizes in given.items()}
    smallest: dict[str, Any] = {f"{role}_machines": sizes[0] if sizes else None for role, sizes in ranges.items()}
    case = replace(without_prices(options), **smallest)
    points = Points([case])
    scenario = points.scenario(Point("", 0, tuple(sizes[0] for sizes in ranges.values() if sizes)))
    pools = tuple((pool.role, pool.perf.machine.name) for pool in scenario.cluster.pools)
    sizes = tuple(ranges[role] or () for role, _ in pools)
    check_points(prod(map(len, sizes)), "clusters")
    costs, price_sources = prices_of((machine for _, machine in pools), prices, options)
    question = question_of(
        "sweep",
        options,
        str(scenario.versions.get("provisioner")),
        prices=prices,
        objective=objective,
        **{role: ranges[role] for role, _ in pools},
    )
    items = [Point("+".join(map(str, each)), 0, each) for each in product(*sizes)]
    return answered(
        points,
        items,
        lambda records: _assembled(scenario, pools, sizes, records, costs, price_sources, question),
        question=question,
        outputs=outputs,
        threads=threads,
        dask=dask,
        resume=resume,
        progress=progress,
    )


def _range(options: SimulateOptions, role: str, sizes: Sizes | None) -> tuple[int, ...] | None:
    """The sizes of a role: the range, or the one number of the options."""
    single: int | None = getattr(options, f"{role}_machines")
    if sizes is None:
        return None if single is None else whole_range(single, f"--{role}")
    if single is not None:
        raise InputError(f"{role}_machines: is given as a range too; give one")
    return whole_range(sizes, f"--{role}")


def _assembled(
    scenario: Scenario,
    pools: tuple[tuple[str, str], ...],
    sizes: tuple[tuple[int, ...], ...],
    records: Sequence[Record],
    prices: Prices,
    price_sources: tuple[str, ...],
    question: Mapping[str, Any],
) -> Sweep:
    clusters = list(product(*sizes))
    cells = tuple(
        {**totals_of([(*pool, n) for pool, n in zip(pools, each, strict=True)], prices), **record}
        for each, record in zip(clusters, records, strict=True)
    )
    passing = [k for k, cell in enumerate(cells) if cell["state"] == "pass"]
    rank = ranking(pools, prices, question["objective"])
    best = min(passing, key=lambda k: (*rank(clusters[k]), cells[k]["worst_ratio"], clusters[k]), default=None)
    return Sweep(
        design=scenario.design,
        pools=pools,
        sizes=sizes,
        cells=cells,
        frontier=tuple(passing[k] for k in smallest_of([clusters[k] for k in passing])),
        optimum=best,
        objective=question["objective"],
        policy=scenario.cluster.policy.name,
        sources=(*scenario.sources, *price_sources),
        warnings=(*scenario.warnings, *_edges(sizes, pools, best, clusters), *notes_of(cells, "clusters")),
        **basis_of(scenario, question),
    )


def ranking(
    pools: Sequence[tuple[str, str]], prices: Prices, objective: Criterion
) -> Callable[[Sequence[int]], tuple[int, ...]]:
    """The totals by which a plan is best, in order, of the sizes of pools: whole units, so that equals are equal."""
    machines = {machine for _, machine in pools}
    per_machine = {
        "cost": {name: prices.cost_usd_per_h[name] for name in machines},
        "power": {name: prices.power_w[name] for name in machines},
        "machines": dict.fromkeys(machines, 1.0),
    }
    units = [whole_units(per_machine[criterion]) for criterion in order(objective)]
    return lambda sizes: tuple(
        sum(n * each[machine] for n, (_, machine) in zip(sizes, pools, strict=True)) for each in units
    )


def smallest_of(clusters: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Positions of the clusters than which no other has at most as many machines in every pool, in order of sizes.

    >>> smallest_of([(3, 1), (2, 2), (2, 3), (4, 1)])
    (1, 0)
    """
    kept: list[int] = []
    for k in sorted(range(len(clusters)), key=lambda k: clusters[k]):
        if not any(all(a <= b for a, b in zip(clusters[j], clusters[k], strict=True)) for j in kept):
            kept.append(k)
    return tuple(kept)


def _edges(
    sizes: tuple[tuple[int, ...], ...],
    pools: tuple[tuple[str, str], ...],
    best: int | None,
    clusters: Sequence[tuple[int, ...]],
) -> tuple[str, ...]:
    """What to say where the optimum lies on the edge of what was swept."""
    if best is None:
        return ()
    notes = []
    for (role, _), swept, size in zip(pools, sizes, clusters[best], strict=True):
        if len(swept) > 1 and size == swept[0] > 1:
            notes.append(f"the optimum has the fewest {role} machines swept, {size}: a smaller cluster may pass too")
        if len(swept) > 1 and size == swept[-1]:
            notes.append(f"the optimum has the most {role} machines swept, {size}: one with more may be better")
    return tuple(notes)
