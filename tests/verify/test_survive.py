"""Plans that hold with machines lost, against brute force over the same clusters, policies and losses."""

import random
from itertools import product
from typing import Any

import pytest

from provisioner.errors import InputError
from provisioner.loading.setting import load_setting
from provisioner.options import PlanOptions
from provisioner.options.defaults import ENGINE_POLICIES
from provisioner.planning.lattice import Sizes
from provisioner.planning.proof import Candidate
from provisioner.verify.answer import best_plan
from provisioner.verify.judge import SimulationJudge, Verdicts, losses
from tests.verify.brute_force import MOST, assert_cheapest

SMALL: dict[str, Any] = {"sets": 2, "duration_s": 10.0, "tensor_parallel": (8,), "model": "llama2-70b"}


def questions(count: int) -> list[dict[str, Any]]:
    """Small questions from a seed: designs of at most two types, a policy, a load, limits, and losses to survive."""
    rng = random.Random(20260)
    asked = []
    for k in range(count):
        policy = ("strict", "splitwise", "chunked", "split", "deflect", "mixed")[k % 6]
        splits = policy not in ("chunked", "mixed")
        designs = ("splitwise-hh", "splitwise-ha", "splitwise-aa") if splits else ("baseline-h100", "baseline-a100")
        asked.append(
            {
                **SMALL,
                "workload": rng.choice(("coding", "conversation")),
                "rate_rps": rng.choice((4.0, 8.0, 12.0, 20.0)),
                "designs": designs[: rng.randint(1, len(designs))],
                "policy": policy,
                "slo": "batch",
                "limits": {"ttft_p90": rng.choice(("2x", "4x")), "tbt_p90": rng.choice(("2.5x", "5x"))},
                "stock": {"dgx-h100": 2 * MOST, "dgx-a100": 2 * MOST},
                "survive": k // 6 % 3,
                "seed": k,
            }
            | ({"batch_tokens": "own"} if policy in ENGINE_POLICIES else {})
        )
    return asked


def passes(judge: SimulationJudge, candidate: Candidate, count: int) -> bool:
    """Whether a cluster passes whole and in every way to lose machines, each judged as a cluster of its own."""
    ways = [way for way in product(*(range(count + 1) for _ in candidate.sizes)) if sum(way) == count]
    for way in ways if count else []:
        left: Sizes = tuple(n - lost for n, lost in zip(candidate.sizes, way, strict=True))
        if judge.policy == "splitwise":
            if min(left) < 0:
                continue  # a pool has no such number of machines to lose
            if not any(left) or not judge.alone(Candidate(candidate.design, candidate.sizes, way)).passes:
                return False
        elif min(left) < 1 or not judge.alone(Candidate(candidate.design, left)).passes:
            return False
    return judge.alone(candidate).passes


@pytest.mark.parametrize("asked", questions(18), ids=lambda asked: f"{asked['policy']}-{asked['survive']}")
def test_the_plan_equals_brute_force(asked: dict[str, Any]) -> None:
    setting = load_setting(PlanOptions(**asked))
    _, judge = Verdicts().judge(load_setting(PlanOptions(**{**asked, "survive": 0})), setting.traffic.peak_rps)
    assert_cheapest(setting, lambda candidate: passes(judge, candidate, asked["survive"]))


def test_losses_are_every_way_to_lose_machines() -> None:
    assert losses((4, 4), 1) == [(1, 0), (0, 1)]
    assert losses((4, 4), 2) == [(2, 0), (1, 1), (0, 2)]
    assert losses((1, 4), 2) == [(1, 1), (0, 2)]
    assert losses((2, 3), 0) == []


def test_survival_costs_a_machine_and_says_what_it_is() -> None:
    asked = {**SMALL, "workload": "coding", "rate_rps": 8.0, "designs": ("splitwise-hh",)}
    limits = {"slo": "batch", "limits": {"ttft_p90": "2x"}}
    plain, safe = (best_plan(load_setting(PlanOptions(**asked, **limits, survive=k))) for k in (0, 1))
    assert safe.machines > plain.machines
    assert safe.evidence is not None and "and so with any 1 machine lost" in safe.evidence.rule
    assert all("lost" in text for near in safe.evidence.neighbours for text in near.breaks)
    assert any("has one machine" in text for text in plain.warnings)
    assert not any("has one machine" in text for text in safe.warnings)


def test_a_pool_that_is_lost_whole_is_not_simulated() -> None:
    setting = load_setting(PlanOptions(**SMALL, workload="coding", rate_rps=4.0, designs=("splitwise-hh",), survive=1))
    _, judge = Verdicts().judge(setting, setting.traffic.peak_rps)
    verdict = judge.judge(Candidate(setting.designs[0], (3, 1)))
    assert verdict.outcome == "fail" and verdict.clear and "1 token machine lost" in verdict.losses
    assert judge.simulated_runs == 0


def test_the_formulas_do_not_know_losses() -> None:
    with pytest.raises(InputError, match="survive"):
        PlanOptions(fast=True, survive=1)
