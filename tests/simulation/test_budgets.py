"""Token budgets of iterations, each pool's own."""

from typing import Any

import numpy as np
import pytest

from provisioner.api import simulate
from provisioner.errors import InputError
from provisioner.loading.scenario import load_scenario
from provisioner.options import SimulateOptions
from provisioner.simulation.cluster import Cluster, Pool
from provisioner.simulation.policy import Policy
from provisioner.simulation.run import Run
from provisioner.specs.engine import DEFAULT_ENGINE
from tests.simulation.clusters import Degenerate, serve, ttft_s

PERF = Degenerate(lambda tokens: 0.01 + 1e-4 * tokens, lambda batch, context: 1e-3 * batch + 1e-6 * context)
ROWS = [(0.01 * k, 300 + 37 * k, 5) for k in range(12)]
SMALL: dict[str, Any] = {"design": "splitwise-hh", "prompt_machines": 1, "token_machines": 1, "rate_rps": 2.0}
COLOCATED: dict[str, Any] = {"design": "baseline-h100", "mixed_machines": 1, "rate_rps": 2.0, "policy": "chunked"}


def ends_s(done: Run) -> list[float]:
    return list(done.requests["last_s"])


def test_a_pool_has_its_own_budget_or_the_policys() -> None:
    own = Cluster((Pool("mixed", PERF, 2, batch_tokens=256),), Policy("chunked", batch_tokens=64))  # type: ignore[arg-type]
    same = Cluster((Pool("mixed", PERF, 2),), Policy("chunked", batch_tokens=256))  # type: ignore[arg-type]
    less = Cluster((Pool("mixed", PERF, 2),), Policy("chunked", batch_tokens=64))  # type: ignore[arg-type]
    assert ends_s(serve(own, ROWS)) == ends_s(serve(same, ROWS)) != ends_s(serve(less, ROWS))


def test_two_pools_of_one_role_cut_prompts_by_their_own_budgets() -> None:
    short = Pool("mixed", PERF, 1, max_prompt_tokens=500, batch_tokens=100)  # type: ignore[arg-type]
    long = Pool("mixed", PERF, 1, min_prompt_tokens=501, batch_tokens=1000)  # type: ignore[arg-type]
    done = serve(Cluster((short, long), Policy("chunked")), [(0.0, 400, 1), (0.0, 900, 1)])
    further_s = 3 * 1e-4  # of the attention of three chunks to what is before them, one token each
    assert ttft_s(done) == pytest.approx([4 * (0.01 + 1e-4 * 100) + further_s, 0.01 + 1e-4 * 900])


def test_prompt_machines_batch_up_to_their_budget_whatever_the_token_machines() -> None:
    rows = [(0.0, 100, 1), *((0.001, 100, 1) for _ in range(6))]
    pools = Pool("prompt", PERF, 1, batch_tokens=300), Pool("token", PERF, 1, batch_tokens=1)  # type: ignore[arg-type]
    done = serve(Cluster(pools, Policy("split")), rows)
    first, batch = 0.01 + 1e-4 * 100, 0.01 + 1e-4 * 300
    expected = [first, *[first + batch] * 3, *[first + 2 * batch] * 3]
    assert np.array(ends_s(done)) == pytest.approx(expected)


def test_budgets_by_role_are_options_and_shown() -> None:
    same = simulate(**SMALL, batch_tokens=512)
    named = simulate(**SMALL, batch_tokens={"prompt": 512, "token": 512})
    assert same.latency == named.latency and same.thresholds == named.thresholds
    text = simulate(**SMALL, batch_tokens="prefill=512,decode=4096")
    assert (text.thresholds["prompt_batch_tokens"], text.thresholds["token_batch_tokens"]) == (512, 4096)
    assert "batch_tokens" not in text.thresholds
    assert "--batch-tokens prompt=512,token=4096" in text.command
    assert "512 tokens (prompt), 4,096 tokens (token)" in str(text)
    assert simulate(**COLOCATED, batch_tokens={"mixed": 512}).latency == simulate(**COLOCATED, batch_tokens=512).latency


def test_a_role_without_its_own_budget_has_the_default() -> None:
    shown = simulate(**SMALL, batch_tokens={"prompt": 4096}, engine="provisioner-0.1").thresholds
    assert (shown["prompt_batch_tokens"], shown["token_batch_tokens"]) == (4096, 2048)


def test_memory_is_kept_for_the_iterations_of_each_pool() -> None:
    small, large = (simulate(**SMALL, batch_tokens={"prompt": tokens}) for tokens in (256, 65_536))
    assert small.pools[0].kv_memory_most < large.pools[0].kv_memory_most
    assert small.pools[1].kv_memory_most == pytest.approx(large.pools[1].kv_memory_most, rel=0.2)


@pytest.mark.parametrize(
    ("budgets", "message"),
    [
        ({"mixed": 512}, "batch_tokens mixed: design Splitwise-HH has no mixed machines"),
        ("prompt=512,prefill=256", "batch_tokens: prompt is given twice"),
        ("prompt=0", "batch_tokens prompt: must be a whole number of tokens, 1 or more, got 0"),
        ("both=512", "unknown role 'both'"),
        ("prompt=", "batch_tokens prompt: must be"),
    ],
)
def test_bad_budgets(budgets: object, message: str) -> None:
    with pytest.raises(InputError) as refused:
        simulate(**SMALL, batch_tokens=budgets)
    assert str(refused.value).startswith(message)


def test_a_pools_budget_is_at_least_one_token() -> None:
    with pytest.raises(InputError, match="batch_tokens: must be 1 or more, got 0"):
        Pool("mixed", PERF, 1, batch_tokens=0)  # type: ignore[arg-type]


def test_chunked_prefill_has_the_tokens_and_requests_of_the_engine_and_the_paper_its_own() -> None:
    engine = f"{DEFAULT_ENGINE},batch_tokens=4096,batch_requests=300"

    def loaded(policy: str, **more: object) -> tuple[int, int]:
        cluster = load_scenario(SimulateOptions.of(**COLOCATED | {"policy": policy, "engine": engine}, **more)).cluster
        return cluster.budget_tokens(cluster.pools[0]), cluster.policy.batch_requests

    assert loaded("chunked") == (4096, 300)
    assert loaded("chunked", batch_tokens=1024, batch_requests=20) == (1024, 20)
    assert loaded("mixed") == (2048, 512)


def test_chunked_prefill_has_the_schedule_of_the_engine_and_says_it() -> None:
    usual, sglang, reserving = (
        simulate(**COLOCATED, engine=engine)
        for engine in (DEFAULT_ENGINE, "sglang", f"{DEFAULT_ENGINE},admission=reserve")
    )
    schedules = [(each.thresholds["order"], each.thresholds["admission"]) for each in (usual, sglang, reserving)]
    assert schedules == [("decode-first", "recompute"), ("prompt-first", "estimate"), ("decode-first", "reserve")]
    assert "admission: recompute" in str(usual) and "decode-first" not in str(usual)
    assert "prompt-first, admission: estimate" in str(sglang) and "admission: reserve" in str(reserving)
    assert "order" not in simulate(**COLOCATED | {"policy": "mixed"}, engine="sglang").thresholds
