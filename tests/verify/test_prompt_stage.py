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
    """A judge who finds the prompt machines that keep up by whole runs."""

    def _few_prompts(self, candidate: Candidate) -> bool | None:
        return None


@pytest.mark.parametrize("seed", range(8))
def test_prompt_pools_alone_lead_to_the_verdicts_of_whole_runs(seed: int) -> None:
    setting = question(seed)
    _, judge = Verdicts().judge(setting, setting.traffic.peak_rps)
    whole = Whole(judge.replicas, judge.slo, judge.request_sets, judge.sets, judge.doublings, batch_tokens=(2048,))
    for sizes in product((2, 4, 8), (1, 2, 4)):
        candidate = Candidate(setting.designs[0], sizes, batch_tokens=judge.budgets(setting.designs[0])[0])
        assert judge.alone(candidate) == whole.alone(candidate)


def test_a_prompt_pool_is_looked_at_once_for_all_token_pools() -> None:
    setting = question(0)
    _, judge = Verdicts().judge(setting, setting.traffic.peak_rps)
    (design,) = setting.designs
    found = [judge._few_prompts(Candidate(design, (1, tokens), batch_tokens=(512, 512))) for tokens in range(1, 9)]
    assert found == [True] * 8
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
