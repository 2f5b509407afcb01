"""The least time of decode within limits on TBT: against a linear program, and against simulated clusters that pass."""

import math
import random
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog

from provisioner.loading.setting import load_setting
from provisioner.options import PlanOptions
from provisioner.planning.proof import Candidate
from provisioner.verify.judge import Verdicts
from provisioner.verify.token_work import decode_load, least_s_per_token


@pytest.mark.parametrize("seed", range(20))
def test_no_mix_of_batches_takes_less(seed: int) -> None:
    rng = np.random.default_rng(seed)
    iteration_s = np.sort(rng.uniform(1.0, 10.0, 8))
    s_per_token = rng.uniform(0.1, 2.0, 8)
    for mean_s in rng.uniform(iteration_s[0], 12.0, 5):
        # shares of the tokens by batch, which sum to 1; their mean iteration within the limit
        best = linprog(s_per_token, [iteration_s], [mean_s], np.ones((1, 8)), [1.0])
        assert least_s_per_token(iteration_s, s_per_token, mean_s) == pytest.approx(best.fun, rel=1e-9)
    assert np.isinf(least_s_per_token(iteration_s, s_per_token, 0.5 * iteration_s[0]))


def question(seed: int) -> dict[str, Any]:
    rng = random.Random(seed)
    return {
        "model": "llama2-70b",
        "workload": rng.choice(("coding", "conversation")),
        "rate_rps": rng.choice((10.0, 20.0, 40.0)),
        "designs": (rng.choice(("splitwise-hh:8+8", "splitwise-ha:8+8", "splitwise-hh:8+4", "splitwise-aa:8+2")),),
        "engine": rng.choice(("vllm", "sglang", "tensorrt-llm")),
        "batch_tokens": "own",
        "limits": rng.choice(
            ({"tbt_p90": "1.1x"}, {"tbt_p50": "1.25x"}, {"tbt_p99": "60ms"}, {"tbt_p50": "1.2x", "tbt_p95": "2x"})
        ),
        "sets": 2,
        "duration_s": 20.0,
        "seed": seed,
    }


@pytest.mark.parametrize("seed", range(16))
def test_no_cluster_that_passes_has_fewer_token_machines(seed: int) -> None:
    setting = load_setting(PlanOptions(**question(seed)))
    _, judge = Verdicts().judge(setting, setting.traffic.peak_rps)
    (design,) = setting.designs
    perf = judge.replicas[design.slots[1].replica]
    sets = [judge.request_sets(k, 0) for k in range(judge.sets)]
    busy = decode_load(perf, sets, setting.slo.limits, judge.policy_of(design).batch_requests)
    least = busy / perf.replicas_per_machine
    assert least > 0.0
    passes = [tokens for tokens in range(1, 13) if judge.by_itself(Candidate(design, (8, tokens))).passes]
    assert min(passes, default=math.inf) >= least


def test_more_within_tighter_limits_takes_longer() -> None:
    loads = []
    for percentile, limit in product(("p50", "p90", "p99"), ("1.5x", "1.25x", "1.1x")):
        asked = {**question(0), "limits": {f"tbt_{percentile}": limit}, "workload": "conversation", "rate_rps": 20.0}
        setting = load_setting(PlanOptions(**asked))
        _, judge = Verdicts().judge(setting, 20.0)
        design = setting.designs[0]
        perf = judge.replicas[design.slots[1].replica]
        loads.append(decode_load(perf, [judge.request_sets(0, 0)], setting.slo.limits, 1024))
    by_percentile = np.reshape(loads, (3, 3))
    assert (np.diff(by_percentile, axis=0) > 0.0).all() and (np.diff(by_percentile, axis=1) > 0.0).all()
    none = load_setting(PlanOptions(**{**question(0), "limits": {"ttft_p90": "4x"}}))
    _, judge = Verdicts().judge(none, none.traffic.peak_rps)
    assert decode_load(perf, [judge.request_sets(0, 0)], none.slo.limits, 1024) == 0.0
