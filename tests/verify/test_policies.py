"""Plans under engines' own schedulers: the same as trying every cluster, whatever formulas of other policies say."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest

from provisioner.errors import InputError
from provisioner.loading.setting import load_setting
from provisioner.options import PlanOptions
from provisioner.planning.candidates import Attainable
from provisioner.planning.proof import Candidate
from provisioner.planning.setting import Setting
from provisioner.results.plan import Plan
from provisioner.specs.slo import SLO, LatencyLimit
from provisioner.verify.answer import best_plan
from provisioner.verify.judge import SimulationJudge, Verdicts
from provisioner.verify.regions import Case

SMALL: dict[str, Any] = {"duration_s": 30.0, "sets": 2, "slo": "batch", "tensor_parallel": 8}
QUESTIONS: list[dict[str, Any]] = [
    {"designs": ("splitwise-hh", "baseline-h100"), "rate_rps": 8.0, "limits": {"ttft_p90": "900ms", "tbt_p90": "45ms"}},
    {
        "designs": ("splitwise-ha", "baseline-h100"),
        "rate_rps": 6.0,
        "limits": {"e2e_p90": "20s"},
        "workload": "conversation",
    },
    {"designs": ("splitwise-hh",), "rate_rps": 9.0, "limits": {"tbt_p90": "38ms"}, "workload": "conversation"},
    {"designs": ("splitwise-aa",), "rate_rps": 5.0, "limits": {"ttft_p90": "2s", "gap_p90": "300ms"}},
]


@cache
def setting(question: int, policy: str) -> Setting:
    return load_setting(PlanOptions(**{**SMALL, **QUESTIONS[question], "policy": policy}))


def judge_of(of: Setting) -> SimulationJudge:
    return Verdicts().judge(of, of.traffic.peak_rps)[1]


def sizes_of(plan: Plan) -> tuple[int, ...]:
    return tuple(pool.machines for pool in plan.pools)


@pytest.mark.parametrize("policy", ["strict", "deflect"])
@pytest.mark.parametrize("question", range(len(QUESTIONS)))
def test_the_plan_is_the_cheapest_of_all_that_pass(question: int, policy: str) -> None:
    """Brute force: every cluster of up to as many machines as the plan's is judged by its own runs."""
    of = setting(question, policy)
    plan = best_plan(of)
    everyone = judge_of(of)
    costs = {}
    for design in of.designs:
        prices = [of.prices.cost_usd_per_h[slot.machine.name] for slot in design.slots]
        most = [int(plan.cost_usd_per_h // price) for price in prices]
        for sizes in product(*(range(1, n + 1) for n in most)):
            cost = float(np.dot(sizes, prices))
            if cost <= plan.cost_usd_per_h * (1.0 + 1e-9) and everyone.judge(Candidate(design, sizes)).passes:
                costs[design.name, sizes] = cost
    assert costs[plan.design, sizes_of(plan)] == pytest.approx(plan.cost_usd_per_h)
    assert min(costs.values()) == pytest.approx(plan.cost_usd_per_h)
    assert plan.evidence is not None and plan.evidence.optimal


def test_colocated_designs_are_chunked_beside_strict_pools() -> None:
    of = setting(0, "deflect")
    assert [judge_of(of).policy_of(design).name for design in of.designs] == ["deflect", "chunked"]
    assert [judge_of(of).prompts_anywhere(design) for design in of.designs] == [True, False]
    assert [judge_of(setting(0, "strict")).policy_of(design).name for design in of.designs] == ["strict", "chunked"]


def test_a_limit_on_tokens_excludes_smaller_clusters_only_if_it_fails_behind_fewer_prompt_machines() -> None:
    """Made-up verdicts on one token machine behind 1 to 9 prompt machines, of which 4 keep up."""
    of = setting(2, "strict")
    design, limit = of.designs[0], of.slo.limits[0]
    judge = replace(judge_of(of), batch_tokens=())
    clear = replace(judge.by_itself(Candidate(design, (9, 1))), outcome="fail", clear=True, stable=True)
    on_tokens = replace(clear, broken=((limit, 2.0 * limit.value),), worst_ratio=2.0)
    unstable = replace(clear, broken=(), stable=False)
    near = replace(on_tokens, clear=False, worst_ratio=1.1)
    for few, excludes in ((on_tokens, True), (near, False)):
        judge.known.clear()
        judge.alike.clear()
        by_prompts = [*[unstable] * 3, few, *[on_tokens] * 5]
        judge.simulated = {Candidate(design, (n, 1)): found for n, found in enumerate(by_prompts, 1)}
        assert judge.judge(Candidate(design, (9, 1))).clear == excludes
        assert judge.judge(Candidate(design, (2, 1))).clear  # too few prompt machines, whatever the token machines


def test_the_formulas_rule_out_only_what_requests_alone_miss() -> None:
    """Their verdict is of another scheduler: it counts where the fastest machine alone is beyond the limit too."""
    for milliseconds, left in ((1, True), (60_000, False)):
        of = setting(0, "strict")
        limit = LatencyLimit("ttft", 90.0, milliseconds / 1e3, "seconds")
        of = replace(of, slo=SLO("one", (limit,)))
        search = of.search()
        search.candidates = {
            design: replace(found, pools=(), unattainable=(Attainable(limit, 9.0, "here"),))
            for design, found in search.candidates.items()
        }
        sets, judge = Verdicts().judge(of, of.traffic.peak_rps)
        Case(of, search, of.designs, sets, judge)
        assert all(bool(search.candidates[design].unattainable) == left for design in of.designs)


def test_the_published_simulator_has_no_engines() -> None:
    with pytest.raises(InputError, match="policy strict: is of engines"):
        load_setting(PlanOptions(**SMALL, policy="strict", rate_rps=5.0, assumptions="splitwise-sim"))
