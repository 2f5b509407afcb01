"""Prompt pools by themselves: the same verdicts as by whole runs, in fewer of them."""

import random
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from provisioner.loading.setting import load_setting
from provisioner.options import PlanOptions
from provisioner.planning.proof import Candidate
from provisioner.planning.setting import Setting
from provisioner.simulation.measure import percentiles
from provisioner.simulation.run import run
from provisioner.specs.slo import LatencyLimit
from provisioner.verify.judge import SimulationJudge, Verdicts
from provisioner.verify.prompt_stage import prompt_stage, prompts_alone


def question(seed: int) -> Setting:
    """A small question of one design with strict pools, from calm to overloaded, by each engine's rules."""
    rng = random.Random(seed)
    asked: dict[str, Any] = {
        "workload": rng.choice(("coding", "conversation")),
        "rate_rps": rng.choice((15.0, 30.0)),
        "designs": (rng.choice(("splitwise-hh:8+8", "splitwise-ha:4+8", "splitwise-aa:8+4")),),
        "engine": rng.choice(("vllm", "sglang", "tensorrt-llm")),
        "batch_tokens": (rng.choice((512, 2048, 8192)),),
        "limits": {"ttft_p90": rng.choice(("2x", "4x")), "tbt_p90": "1.5x"},
        "sets": 3,
        "duration_s": 20.0,
        "seed": seed,
    }
    return load_setting(PlanOptions(**asked))


class Whole(SimulationJudge):
    """A judge who knows nothing of prompt pools alone."""

    def _missed_by_prompts(self, candidate: Candidate) -> list[LatencyLimit] | None:
        return None


@pytest.mark.parametrize("seed", range(8))
def test_prompt_pools_alone_lead_to_the_verdicts_of_whole_runs(seed: int) -> None:
    setting = question(seed)
    _, judge = Verdicts().judge(setting, setting.traffic.peak_rps)
    whole = Whole(judge.replicas, judge.slo, judge.request_sets, judge.sets, judge.doublings, batch_tokens=(2048,))
    for sizes in product((2, 4, 8), (1, 2, 4)):
        candidate = Candidate(setting.designs[0], sizes, batch_tokens=judge.budgets(setting.designs[0])[0])
        assert replace(judge.alone(candidate), broken=()) == replace(whole.alone(candidate), broken=())


def test_a_prompt_pool_is_looked_at_once_for_all_token_pools() -> None:
    setting = question(0)
    _, judge = Verdicts().judge(setting, setting.traffic.peak_rps)
    (design,) = setting.designs
    found = [
        judge._missed_by_prompts(Candidate(design, (1, tokens), batch_tokens=(512, 512))) for tokens in range(1, 9)
    ]
    assert found == [list(judge.slo.limits[:1])] * 8
    assert judge.simulated_runs == 1


def test_policies_that_lend_or_deflect_and_requests_that_wait_have_no_such_pool() -> None:
    asked: dict[str, Any] = {"workload": "coding", "rate_rps": 10.0, "designs": ("splitwise-hh:8+8",)}
    for policy in ("splitwise", "deflect"):
        setting = load_setting(PlanOptions(**asked, policy=policy, slo="p99"))
        _, judge = Verdicts().judge(setting, setting.traffic.peak_rps)
        assert prompt_stage(judge.cluster(Candidate(setting.designs[0], (2, 2)))) is None
    prepared = judge.request_sets(0, 0)
    closed = replace(prepared, requests=replace(prepared.requests, in_flight=3))
    assert prompts_alone(prepared) is not None and prompts_alone(closed) is None


@pytest.mark.parametrize(("seed", "rate_rps", "within"), [(0, 21.5, "2s"), (2, 22.0, "2.5s"), (4, 22.0, "2.5s")])
def test_prompts_that_wait_for_memory_may_end_earlier_and_verdicts_stay(
    seed: int, rate_rps: float, within: str
) -> None:
    """Machines with room for few prompts, whose largest iterations take more time per token than smaller ones.

    Their prompts wait for the memory of KV caches that are sent, run in smaller iterations, and end earlier.
    """
    asked: dict[str, Any] = {"model": "llama2-70b", "workload": "conversation", "designs": ("splitwise-ha:2+4",)}
    asked |= {"engine": "tensorrt-llm", "batch_tokens": (16_384,), "sets": 2, "duration_s": 60.0, "seed": seed}
    setting = load_setting(PlanOptions(**asked, rate_rps=rate_rps, limits={"ttft_p90": within}))
    _, judge = Verdicts().judge(setting, setting.traffic.peak_rps)
    candidate = Candidate(setting.designs[0], (1, 3), batch_tokens=judge.budgets(setting.designs[0])[0])
    cluster, prepared = judge.cluster(candidate), judge.request_sets(0, 0)
    at_best, requests = prompt_stage(cluster), prompts_alone(prepared)
    assert at_best is not None and requests is not None
    as_it_is = replace(at_best, pools=(cluster.pools[0], at_best.pools[1]))
    least, found, alone = (
        percentiles(run(*each).latencies.both("ttft")[0], (90.0,))[0]
        for each in ((at_best, requests), (cluster, prepared), (as_it_is, requests))
    )
    assert least < found < alone
    whole = Whole(judge.replicas, judge.slo, judge.request_sets, judge.sets, judge.doublings)
    assert judge.by_itself(candidate) == whole.by_itself(candidate)
