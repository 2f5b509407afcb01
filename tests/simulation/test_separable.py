"""Prompt pools of strict pools by themselves: what they do behind any token pools, unless a prompt is refused memory.

A prompt machine keeps a KV cache until it has arrived. Token pools act on prompts through that memory alone.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from provisioner.simulation.cluster import Cluster, Pool
from provisioner.simulation.policy import Policy
from tests.simulation.clusters import Degenerate, Floats, request_set, serve, ttft_s
from tests.simulation.test_strict import Case, decode, made_up, slowly


def open_case(seed: int, short: bool) -> Case:
    """A made-up cluster of strict pools whose machines stay, and whose requests come whatever is answered."""
    case = made_up(seed, "strict", short)
    rows = case.rows if case.in_flight is None else [(0.02 * k, *lengths) for k, (_, *lengths) in enumerate(case.rows)]
    return replace(case, in_flight=None, outages=(), rows=rows)  # type: ignore[arg-type]


def ends_alone_s(case: Case) -> Floats:
    """Ends of the prompts without token pools: every request ends with a first token from its prompt machine."""
    prompts, requests = case.pools[0], request_set([(at, prompt, 1) for at, prompt, _ in case.rows])
    idle = Pool("token", prompts.perf, 1)
    alone = Cluster((prompts, idle), replace(case.policy, first_token="prompt", handover_s=0.0))
    return np.asarray(serve(alone, requests).requests["first_s"])


def refusals(case: Case) -> int:
    """Times that a prompt found no memory, as the oracle counts them."""
    return sum(each.refused for each in slowly(case).prompts)


@pytest.mark.parametrize(("short", "least"), [(False, 60), (True, 6)], ids=["roomy", "short"])
def test_prompts_end_as_without_token_pools_if_none_is_refused_memory(short: bool, least: int) -> None:
    """To the last digit, for every order, admission and handover; a token machine's first token comes no earlier."""
    cases = [case for seed in range(60) if not refusals(case := open_case(seed, short))]
    assert len(cases) >= least
    for case in cases:
        end_s = ends_alone_s(case)
        first_s = serve(Cluster(case.pools, case.policy), request_set(case.rows)).requests["first_s"]
        assert (first_s >= end_s).all()
        assert case.policy.first_token == "token" or first_s.tolist() == end_s.tolist()


@pytest.mark.parametrize("seed", range(20))
def test_any_token_pool_behind_roomy_prompt_machines_gives_the_same_first_tokens(seed: int) -> None:
    case = open_case(seed, short=False)
    prompts, tokens = case.pools
    end_s, policy = ends_alone_s(case).tolist(), replace(case.policy, first_token="prompt")
    for machines, factor in ((1, 8.0), (5, 1.0)):
        slower = replace(tokens.perf, decode=lambda *of, factor=factor: factor * decode(*of))
        cluster = Cluster((prompts, Pool("token", slower, machines)), policy)
        assert serve(cluster, request_set(case.rows)).requests["first_s"].tolist() == end_s


def test_a_prompt_that_is_refused_memory_may_let_others_end_earlier() -> None:
    """Three prompts of 1,000 tokens on a machine with room for two, which takes 4 s for two together and 1 s for one.

    Alone, the second and third run together and end at 5 s. A KV cache that is sent for 2 s leaves room for one of them
    at a time: they end at 2 s and 4 s.
    """
    perf = Degenerate(
        lambda tokens: (tokens / 1000.0) ** 2,
        kv_capacity_tokens=2_100.0,
        kv_bytes_per_token=1e6,
        link_bytes_per_s=1e9 / 3.0,  # 3 s, of which 1 s while the prompt computes
    )
    rows = [(0.0, 1_000, 3)] * 3
    prompts = Pool("prompt", perf, 1, batch_tokens=4_096)
    whole = Cluster((prompts, Pool("token", perf, 1)), Policy("strict", share_links=False))
    assert ttft_s(serve(whole, rows)) == pytest.approx([1, 2, 4], abs=0.1)
    assert ttft_s(serve(whole, [(at, prompt, 1) for at, prompt, _ in rows])) == pytest.approx([1, 5, 5])
