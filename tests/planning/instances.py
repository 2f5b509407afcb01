"""Small made-up instances of the program, and the answer by trying every choice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product

import numpy as np
from hypothesis import strategies as st

from provisioner.planning.candidates import SHARE_TOLERANCE, Candidates, PoolCandidates
from provisioner.planning.designs import Design, Slot
from provisioner.planning.formulation import CRITERIA, ROUNDING, Caps, Criterion, Parameters, Prices
from provisioner.specs.catalog import machine
from provisioner.specs.criteria import Tiebreak, order
from provisioner.specs.hardware import Machine
from provisioner.specs.slo import LatencyLimit

MACHINES = tuple(replace(machine("dgx-h100"), name=name, letter=name.upper()) for name in "abc")
TTFT_P99 = LatencyLimit("ttft", 99.0, 6.0, "slowdown")
TBT_P50 = LatencyLimit("tbt", 50.0, 0.06, "seconds")
E2E_P90 = LatencyLimit("e2e", 90.0, 1.5, "slowdown")

Meets = Callable[[tuple[int, ...]], bool]


def pool(
    role: str,
    which: Machine,
    sizes: list[int],
    shares: dict[LatencyLimit, list[float]] | None = None,
    part: int = 0,
    tensor_parallel: int = 8,
) -> PoolCandidates:
    """One pool's sizes; ``part`` 1 and 2 are the pools of a role that two types share."""
    bounds = {0: (1, None), 1: (1001, None), 2: (1, 1000)}[part]
    slot = Slot(role, which, tensor_parallel, *bounds)  # type: ignore[arg-type]
    columns = {limit: np.array(values, dtype=np.float64) for limit, values in (shares or {}).items()}
    return PoolCandidates(slot, np.array(sizes, dtype=np.int64), columns)


def option(name: str, *pools: PoolCandidates, cuts: tuple[tuple[int, ...], ...] = ()) -> Candidates:
    return Candidates(Design(name, tuple(p.slot for p in pools)), pools, cuts)


def two_candidates() -> Parameters:
    """A split design with a staircase, and a colocated one whose role two types share: every row family occurs."""
    a, b, _ = MACHINES
    split = option("split", pool("prompt", a, [2, 3]), pool("token", b, [1, 2]), cuts=((2, 1),))
    shared = option(
        "shared",
        pool("mixed", a, [1, 2], {TTFT_P99: [0.008, 0.001], TBT_P50: [0.3, 0.1]}, part=1),
        pool("mixed", b, [1, 2], {TTFT_P99: [0.009, 0.002], TBT_P50: [0.25, 0.1]}, part=2),
    )
    caps = Caps(cost_usd_per_h=100.0, power_w=40_000.0, machines=5, stock={"a": 3})
    return Parameters((split, shared), Prices({"a": 30.0, "b": 20.0}, {"a": 10_000.0, "b": 6_500.0}), caps)


def parts(design: Design) -> tuple[int, int, int]:
    """Different roles, machine types and degrees of tensor parallelism: the simplest design has the least."""
    slots = design.slots
    return len({s.role for s in slots}), len({s.machine.name for s in slots}), len({s.tensor_parallel for s in slots})


def totals(parameters: Parameters, design: int, sizes: tuple[int, ...]) -> dict[Tiebreak, float]:
    chosen = parameters.candidates[design]
    roles, types, degrees = parts(chosen.design)
    pools = list(zip(chosen.pools, sizes, strict=True))
    found: dict[Tiebreak, float] = {
        criterion: sum(n * parameters.prices.of(criterion, p.slot.machine.name) for p, n in pools)
        for criterion in CRITERIA
    }
    return found | {"complexity": float(f"{roles}{types}{degrees}")}


def allowed(parameters: Parameters, design: int, sizes: tuple[int, ...]) -> bool:
    """Whether a choice satisfies every limit, written without the program."""
    chosen = parameters.candidates[design]
    found = totals(parameters, design, sizes)
    caps = parameters.caps.cost_usd_per_h, parameters.caps.power_w, parameters.caps.machines
    for criterion, cap in zip(CRITERIA, caps, strict=True):
        if cap is not None and found[criterion] > cap * (1.0 + ROUNDING):
            return False
    used: dict[str, int] = {}
    beyond: dict[tuple[str, LatencyLimit], float] = {}
    for each, n in zip(chosen.pools, sizes, strict=True):
        used[each.slot.machine.name] = used.get(each.slot.machine.name, 0) + n
        for limit, values in each.share_beyond.items():
            key = (each.slot.role, limit)
            beyond[key] = beyond.get(key, 0.0) + float(values[list(each.sizes).index(n)])
    if any(used.get(name, 0) > available for name, available in parameters.caps.stock.items()):
        return False
    if any(share > 1.0 - limit.quantile + SHARE_TOLERANCE for (_, limit), share in beyond.items()):
        return False
    return not any(all(n <= most for n, most in zip(sizes, cut, strict=True)) for cut in chosen.cuts)


def every_choice(parameters: Parameters, also: Meets = lambda _: True) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Every allowed choice: a design by position and its sizes."""
    for d, chosen in enumerate(parameters.candidates):
        for sizes in product(*([int(n) for n in p.sizes] for p in chosen.pools)):
            if allowed(parameters, d, sizes) and also(sizes):
                yield d, sizes


def brute_force(parameters: Parameters, objective: Criterion, also: Meets = lambda _: True) -> tuple[float, ...] | None:
    """The lexicographically smallest totals of any allowed choice, in the order of the criteria; None without one."""
    found = (totals(parameters, d, sizes) for d, sizes in every_choice(parameters, also))
    return min((tuple(each[criterion] for criterion in order(objective)) for each in found), default=None)


@st.composite
def instances(draw: st.DrawFn, only_shared: bool = False) -> Parameters:
    """Up to three designs of one to three pools, with or without cuts, shared roles, caps and stock."""
    kinds = ["triple"] if only_shared else ["single", "pair", "triple", "shared mixed"]
    options = []
    for d in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(kinds))

        def some(role: str, part: int = 0) -> PoolCandidates:
            first = draw(st.integers(1, 4))
            sizes = list(range(first, first + draw(st.integers(1, 4))))
            shares: dict[LatencyLimit, list[float]] = {}
            if part:
                for limit, scale in ((TTFT_P99, 0.001), (TBT_P50, 0.05)):
                    if role in ("mixed", {"ttft": "prompt", "tbt": "token"}[limit.metric]):
                        steps = sorted((draw(st.integers(0, 11)) for _ in sizes), reverse=True)
                        shares[limit] = [scale * step for step in steps]
            return pool(role, draw(st.sampled_from(MACHINES)), sizes, shares, part, draw(st.sampled_from([4, 8])))

        if kind == "single":
            pools = [some("mixed")]
        elif kind == "pair":
            pools = [some("prompt"), some("token")]
        elif kind == "shared mixed":
            pools = [some("mixed", 1), some("mixed", 2)]
        elif draw(st.booleans()):
            pools = [some("prompt", 1), some("prompt", 2), some("token")]
        else:
            pools = [some("prompt"), some("token", 1), some("token", 2)]
        cuts = []
        if kind == "pair":
            for _ in range(draw(st.integers(0, 3))):
                cuts.append(tuple(int(draw(st.sampled_from(list(p.sizes)))) for p in pools))
        options.append(option(f"design {d}", *pools, cuts=tuple(cuts)))
    several = draw(st.booleans())  # one price of all machines, or several: designs tie
    price = st.integers(1, 60).map(lambda quarter: quarter / 4.0) if several else st.just(2.5)
    names = [m.name for m in MACHINES]
    caps = Caps(
        cost_usd_per_h=draw(st.none() | st.integers(5, 150).map(float)),
        power_w=draw(st.none() | st.integers(5, 150).map(lambda hundred: hundred * 100.0)),
        machines=draw(st.none() | st.integers(1, 18)),
        stock=draw(st.dictionaries(st.sampled_from(names), st.integers(0, 8), max_size=3)),
    )
    return Parameters(
        tuple(options),
        Prices({name: draw(price) for name in names}, {name: 100.0 * draw(st.integers(1, 20)) for name in names}),
        caps,
    )
