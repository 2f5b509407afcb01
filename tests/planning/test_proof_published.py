"""The proven plan against brute force over the grid with the same simulator: the Fig. 12 trace, and small random cases.

The brute force simulates every size that costs no more than the plan, the plan's included, and knows of no cut.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from provisioner.loading.setting import load_setting
from provisioner.options import PlanOptions
from provisioner.planning.designs import Design
from provisioner.planning.lattice import Region
from provisioner.planning.proof import Candidate, Problem, Proof, prove
from provisioner.planning.setting import Setting
from provisioner.simulation.requests import RequestSet, drawn, from_trace
from provisioner.simulation.run import Prepared, prepare
from provisioner.specs import catalog
from provisioner.specs.traces import read_trace
from provisioner.verify.judge import SimulationJudge
from tests.planning.instances import parts

FIG_12 = Path(__file__).parents[3] / "shared" / "reference" / "published-simulator-runs" / "coding-70rps-120s.csv"
DESIGNS = ("splitwise-hh", "splitwise-aa", "splitwise-ha", "splitwise-hhcap", "baseline-h100", "baseline-a100")
MOST = 160  # machines of a pool

fig_12_is_there = pytest.mark.skipif(not FIG_12.is_file(), reason=f"no trace of the published simulator at {FIG_12}")


def setting(designs: Sequence[str] = DESIGNS, **fields: object) -> Setting:
    options = {"model": "bloom-176b", "slo": "splitwise", "assumptions": "splitwise-sim", "prices": "paper", **fields}
    return load_setting(PlanOptions(designs=tuple(designs), **options))  # type: ignore[arg-type]


def judge_of(given: Setting, *sets: Prepared) -> SimulationJudge:
    return SimulationJudge(given.replicas, given.slo, lambda k, _: sets[k], len(sets), policy=given.judging.policy)


def proven(given: Setting, judge: SimulationJudge, most: int = MOST) -> Proof:
    search = given.search()
    regions = []
    for design in given.designs:
        guess = search.best((design,), "cost")
        start = tuple(min(n, most) for n in guess.sizes) if guess else None
        pools = len(design.slots)
        regions.append(Region(design, (1,) * pools, (most,) * pools, (), start))
    return prove(Problem(tuple(regions), given.prices, given.caps), judge)


def cost_usd_per_h(given: Setting, design: Design, sizes: Sequence[int]) -> float:
    return sum(n * given.prices.cost_usd_per_h[slot.machine.name] for n, slot in zip(sizes, design.slots, strict=True))


def affordable(given: Setting, design: Design, most_usd_per_h: float, most: int, least: float) -> Iterator[Candidate]:
    """Every size of a design within a cost, from a share ``least`` of it on."""
    for sizes in product(range(1, most + 1), repeat=len(design.slots)):
        cost = cost_usd_per_h(given, design, sizes)
        if least * most_usd_per_h <= cost <= most_usd_per_h * (1.0 + 1e-9):
            yield Candidate(design, sizes)


def assert_cheapest(given: Setting, judge: SimulationJudge, proof: Proof, most: int, least: float = 0.0) -> None:
    """The plan is what brute force finds: the least cost, and of the sizes with that cost one of the simplest."""
    assert proof.optimal
    if proof.best is None:
        everything = [c for design in given.designs for c in affordable(given, design, math.inf, most, 0.0)]
        assert not any(verdict.passes for verdict in judge(everything))
        return
    best = proof.best
    limit = best.totals["cost"]
    grid = [c for design in given.designs for c in affordable(given, design, limit, most, least)]
    assert best.candidate in grid
    passing = [c for c, verdict in zip(grid, judge(grid), strict=True) if verdict.passes]
    assert best.candidate in passing
    assert min(cost_usd_per_h(given, c.design, c.sizes) for c in passing) == pytest.approx(limit, rel=1e-7)
    alike = [c for c in passing if cost_usd_per_h(given, c.design, c.sizes) == pytest.approx(limit, rel=1e-7)]
    assert parts(best.candidate.design) == min(parts(c.design) for c in alike)


@lru_cache
def fig_12(reference_of: str = "bloom-176b") -> RequestSet:
    return from_trace(read_trace(str(FIG_12)))


def trace_case(model: str = "bloom-176b", designs: Sequence[str] = DESIGNS) -> tuple[Setting, SimulationJudge]:
    given = setting(designs, model=model)
    return given, judge_of(given, prepare(fig_12(), given.reference))


# What the plans are known to cost, in $/h: of HH 29 machines, of HA 28 + 1, of AA 63, and so on.
KNOWN = dict(zip(DESIGNS, (1104.32, 1113.84, 1083.92, 1142.40, 1942.08, 2139.28), strict=True))


@fig_12_is_there
@pytest.mark.parametrize("design", DESIGNS)
def test_each_design_alone_on_the_fig_12_trace(design: str) -> None:
    given, judge = trace_case(designs=(design,))
    proof = proven(given, judge)
    assert proof.best is not None
    assert proof.best.totals["cost"] == pytest.approx(KNOWN[design])
    # split designs of less than 76 % of this cost are overloaded: the prompts alone take 21.5 DGX-H100 or 48 DGX-A100
    assert_cheapest(given, judge, proof, MOST, least=0.7 if len(given.designs[0].slots) > 1 else 0.0)


@fig_12_is_there
def test_all_designs_together_on_the_fig_12_trace() -> None:
    """The cheapest of all is the cheapest of the designs alone, each of which brute force confirms."""
    given, judge = trace_case()
    proof = proven(given, judge)
    assert proof.best is not None and proof.optimal
    assert proof.best.totals["cost"] == pytest.approx(min(KNOWN.values()))
    assert str(proof.best.candidate) == "Splitwise-HA 28 + 1"


@fig_12_is_there
def test_llama_on_the_fig_12_trace() -> None:
    given, judge = trace_case("llama2-70b", ("splitwise-hh", "splitwise-ha", "baseline-h100"))
    assert_cheapest(given, judge, proven(given, judge, 60), 60, least=0.6)


@pytest.mark.parametrize("designs", [("splitwise-hh", "splitwise-aa"), ("splitwise-ha", "splitwise-hhcap")])
def test_a_conversation_trace(designs: Sequence[str]) -> None:
    """Prompt and output drawn independently at a third of the published rate."""
    given = setting(designs, workload="conversation")
    workload = catalog.workload("conversation").independent()
    requests = drawn(workload, 25.0, 90.0, np.random.default_rng(12), warm_up=0.0)
    judge = judge_of(given, prepare(requests, given.reference))
    assert_cheapest(given, judge, proven(given, judge, 40), 40, least=0.5)


@pytest.mark.parametrize("seed", range(10))
def test_small_random_cases(seed: int) -> None:
    """Other rates, models, workloads, limits, assumptions, policies, request sets; nothing is left out of the grid."""
    rng = np.random.default_rng([7, seed])
    model = str(rng.choice(["bloom-176b", "llama2-70b"]))
    workload = str(rng.choice(["coding", "conversation"]))
    slo = str(rng.choice(["splitwise", "p99", "p90", "p50"]))
    assumptions = str(rng.choice(["splitwise-sim", "measured"]))
    chosen = [str(d) for d in rng.choice(DESIGNS, 2, replace=False)]
    rate_rps, most, sets = float(rng.uniform(2.0, 25.0)), int(rng.integers(6, 15)), int(rng.choice([1, 3]))
    policy = str(rng.choice(["strict", "splitwise"])) if assumptions == "measured" else "splitwise"
    asked = {"model": model, "workload": workload, "slo": slo, "rate_rps": rate_rps}
    given = setting(chosen, assumptions=assumptions, policy=policy, **asked)
    requests = catalog.workload(workload)
    prepared = [
        prepare(drawn(requests, rate_rps, 60.0, np.random.default_rng([seed, k])), given.reference) for k in range(15)
    ]
    judge = replace(judge_of(given, *prepared), sets=sets)
    proof = proven(given, judge, most)
    assert proof.best is not None
    assert_cheapest(given, judge, proof, most)


def test_where_nothing_passes_the_grid_agrees() -> None:
    given = setting(("splitwise-ha", "baseline-h100"), workload="coding", rate_rps=20.0)
    requests = drawn(catalog.workload("coding"), 20.0, 60.0, np.random.default_rng(3))
    judge = judge_of(given, prepare(requests, given.reference))
    proof = proven(given, judge, 4)
    assert proof.best is None and proof.optimal
    assert_cheapest(given, judge, proof, 4)
