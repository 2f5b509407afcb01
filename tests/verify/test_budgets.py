"""Plans with token budgets and losses under policies of engines, against brute force; the gain of splitting."""

import random
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any

import pytest

import provisioner
from provisioner.errors import InputError
from provisioner.loading.setting import load_setting
from provisioner.options import PlanOptions
from provisioner.planning.proof import Candidate
from provisioner.results.plan import Plan
from provisioner.simulation.cluster import Cluster, Pool
from provisioner.simulation.measure import percentiles, verdict
from provisioner.simulation.run import run
from provisioner.simulation.stability import observed_backlog, stability
from provisioner.verify.judge import SimulationJudge, Verdicts
from tests.verify.brute_force import assert_cheapest

BUDGETS = (512, 2048, 8192)


def questions(count: int) -> list[dict[str, Any]]:
    """Small questions from a seed: at most two types, two degrees, three budgets and four machines a pool."""
    rng = random.Random(7)
    asked = []
    for k in range(count):
        designs = rng.choice(
            (
                ("splitwise-hh:8+8", "baseline-h100:8"),
                ("splitwise-hh:4+8",),
                ("splitwise-ha:8+8", "splitwise-aa:8+8"),
                ("baseline-h100:4", "baseline-h100:8"),
                ("baseline-a100:8", "splitwise-ah:8+4"),
            )
        )
        splits = any(name.startswith("splitwise") for name in designs)
        asked.append(
            {
                "model": "llama2-70b",
                "workload": rng.choice(("coding", "conversation")),
                "rate_rps": rng.choice((3.0, 6.0, 12.0)),
                "designs": designs,
                "policy": "strict" if splits else "chunked",
                "batch_tokens": tuple(sorted(rng.sample(BUDGETS, rng.randint(1, 3)))),
                "limits": {"ttft_p90": rng.choice(("2x", "4x")), "tbt_p90": rng.choice(("2x", "5x"))},
                "sets": 2,
                "duration_s": 10.0,
                "survive": k % 3,
                "seed": k,
            }
        )
    return asked


def holds(judge: SimulationJudge, candidate: Candidate, tokens: tuple[int, ...]) -> bool:
    """Whether a cluster with these budgets is within the limits, by whole runs made here; one set each decides."""
    if min(candidate.sizes) < 1:
        return False
    pools = tuple(
        Pool(slot.role, judge.replica(slot.replica, budget), machines, batch_tokens=budget)
        for slot, machines, budget in zip(candidate.design.slots, candidate.sizes, tokens, strict=True)
    )
    cluster = Cluster(pools, judge.policy_of(candidate.design))
    for longer in range(judge.doublings + 1):
        wanted = judge.sets
        while True:
            runs = [run(cluster, judge.request_sets(k, longer)) for k in range(wanted)]
            if any(each.status == "stuck" for each in runs):
                return False
            stable = stability([observed_backlog(each) for each in runs])[0]
            outcomes = []
            for limit in judge.slo.limits:
                values = [
                    percentiles(each.latencies.both(limit.metric)[limit.kind == "slowdown"], (limit.percentile,))[0]
                    for each in runs
                ]
                outcomes.append(verdict(limit.value, values, False, judge.confidence))
            if "undecided" not in outcomes or "fail" in outcomes or not stable or wanted >= 15:
                break
            wanted = min(wanted + judge.sets, 15)
        if stable is not None:
            return stable and set(outcomes) == {"pass"}
    return False


def choices(judge: SimulationJudge, candidate: Candidate, budgets: tuple[int, ...]) -> list[tuple[int, ...]]:
    of_pools = []
    for slot in candidate.design.slots:
        own = judge.replicas[slot.replica].batch.batch_tokens
        of_pools.append((own,) if slot.role == "token" else budgets)
    return list(product(*of_pools))


@pytest.mark.slow
@pytest.mark.parametrize("asked", questions(20), ids=lambda asked: f"{asked['policy']}-{asked['survive']}")
def test_the_plan_equals_brute_force(asked: dict[str, Any]) -> None:
    setting = load_setting(PlanOptions(**asked))
    _, judge = Verdicts().judge(setting, setting.traffic.peak_rps)
    held = cache(lambda candidate, tokens: holds(judge, candidate, tokens))

    def passes(candidate: Candidate) -> bool:
        sizes, survive = candidate.sizes, asked["survive"]
        ways = [way for way in product(range(survive + 1), repeat=len(sizes)) if sum(way) == survive]
        left = {tuple(n - lost for n, lost in zip(sizes, way, strict=True)) for way in ways} | {sizes}
        tried = choices(judge, candidate, asked["batch_tokens"])
        return any(all(held(Candidate(candidate.design, each), tokens) for each in left) for tokens in tried)

    assert_cheapest(setting, passes)


SMALL: dict[str, Any] = {
    "workload": "coding",
    "rate_rps": 10.0,
    "designs": ("splitwise-hh:8+8", "baseline-h100:8"),
    "policy": "strict",
    "batch_tokens": "512,2048",
    "limits": {"ttft_p90": "2x", "tbt_p90": "2x"},
    "sets": 2,
    "duration_s": 20.0,
}


@cache
def plan() -> Plan:
    return provisioner.plan(**SMALL)


def test_pools_that_compute_prompts_have_a_budget_of_those_asked_for() -> None:
    assert {pool.batch_tokens for pool in plan().pools if pool.role != "token"} <= {512, 2048}
    assert all(pool.batch_tokens is None for pool in plan().pools if pool.role == "token")
    assert "token budget" in str(plan())
    assert all(pool.batch_tokens is None for pool in provisioner.plan(fast=True, designs=("splitwise-hh",)).pools)


def test_splitting_has_both_kinds_at_their_best() -> None:
    found = plan().splitting
    assert found is not None and found.split is not None and found.colocated is not None
    for contender in (found.split, found.colocated):
        alone = provisioner.plan(**{**SMALL, "designs": (_named(contender.design),), **_policy(contender.policy)})
        assert alone.cost_usd_per_h == contender.cost_usd_per_h
    assert found.gain == found.colocated.cost_usd_per_h / found.split.cost_usd_per_h
    assert plan().cost_usd_per_h == min(found.split.cost_usd_per_h, found.colocated.cost_usd_per_h)
    other = found.colocated if plan().cluster.splits else found.split
    (shown,) = [each for each in plan().alternatives if each.design == other.design]
    assert (shown.cost_usd_per_h, shown.basis) == (other.cost_usd_per_h, "simulated")
    assert "splitting: brings" in str(plan()) and "not the best token budgets" not in str(plan())
    assert "not the best token budgets" in str(provisioner.plan(**{**SMALL, "batch_tokens": "own"}))


def test_the_plan_has_the_arguments_of_the_engine() -> None:
    asked = {**SMALL, "model": "llama-3.1-8b", "designs": ("splitwise-hh:1+1",), "batch_tokens": "4096"}
    found = provisioner.plan(**asked, reference="dgx-h100:1")
    longest = "--max-model-len "
    prompt, token = (pool.engine_arguments for pool in found.pools)
    assert prompt.startswith("--tensor-parallel-size 1 --max-num-batched-tokens 4096 --max-num-seqs 1024 ")
    assert "--max-num-batched-tokens" not in token and "--max-num-seqs" in token
    own = provisioner.plan(**{**asked, "engine": "vllm,batch_tokens=2048"}, reference="dgx-h100:1").pools[1]
    assert "--max-num-batched-tokens 2048" in own.engine_arguments
    deflecting = provisioner.plan(**{**asked, "policy": "deflect"}, reference="dgx-h100:1").pools[1]
    assert "--max-num-batched-tokens 8192" in deflecting.engine_arguments
    assert int(prompt.partition(longest)[2]) == found.context_tokens
    assert "engine: vllm --tensor-parallel-size 1 " in str(found)
    assert "prompt: --max-num-batched-tokens 4096" in str(found)
    without_flags = provisioner.plan(**asked, engine="provisioner-0.1", reference="dgx-h100:1")
    assert not any(pool.engine_arguments for pool in without_flags.pools)


def _named(design: str) -> str:
    return design.lower()


def _policy(name: str) -> dict[str, str]:
    return {"policy": name}


def test_budgets_are_of_the_policies_of_engines() -> None:
    with pytest.raises(InputError, match="policies of engines"):
        provisioner.plan(**{**SMALL, "policy": "splitwise"})
    with pytest.raises(InputError, match="must be all, own, or numbers of tokens"):
        PlanOptions(batch_tokens="many")


def test_a_budget_takes_memory_from_the_kv_cache() -> None:
    setting = load_setting(PlanOptions(**SMALL))
    _, judge = Verdicts().judge(setting, setting.traffic.peak_rps)
    key = next(iter(judge.replicas))
    assert judge.replica(key, 512).kv_capacity_tokens > judge.replica(key, 16384).kv_capacity_tokens
    huge = replace(judge, batch_tokens=(512, 131_072), replicas=judge.replicas)
    assert (
        all(131_072 not in tokens for tokens in huge.budgets(setting.designs[0]))
        or judge.replica(key, 131_072).kv_capacity_tokens > 0
    )
