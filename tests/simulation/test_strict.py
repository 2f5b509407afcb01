"""Strict pools as engines run them, and deflected prompts: an independent simulation, counts by hand, and laws."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from provisioner.api import simulate
from provisioner.errors import InputError, UnknownNameError
from provisioner.options.defaults import MAX_PENDING_TOKENS
from provisioner.perf.curves import MixedIteration
from provisioner.perf.transfer import PER_LAYER_FIXED_S
from provisioner.simulation.cluster import Cluster, Outage, Pool
from provisioner.simulation.policy import SETTINGS, Policy
from provisioner.simulation.run import Run, run
from provisioner.specs import catalog
from provisioner.specs.engine import Estimate
from tests.oracles.strict import Request, Rules, Simulation
from tests.simulation.clusters import (
    Degenerate,
    Floats,
    Rows,
    alone,
    cluster,
    ready,
    request_set,
    serve,
    shipped,
    ttft_s,
)
from tests.simulation.conftest import Inside


def quadratic(tokens: Floats) -> Floats:
    return 0.01 + 1e-4 * tokens + 1e-7 * tokens**2


def decode(batch: Floats, context: Floats) -> Floats:
    return 0.01 + 1e-3 * batch + 1e-6 * context


PERF = Degenerate(quadratic, decode)


@dataclass(frozen=True)
class Case:
    """A made-up cluster with its requests and rules."""

    policy: Policy
    pools: tuple[Pool, ...]
    rows: list[tuple[float, int, int]]
    rules: Rules
    in_flight: int | None
    outages: tuple[tuple[float, float, int], ...]


def made_up(seed: int, name: str, short: bool, kept: int | None = None) -> Case:
    """Few replicas of several kinds, often overloaded; budgets below and above the prompts, short memory if wanted.

    Token replicas keep ``kept`` tokens for each request's output, if that is given.
    """
    rng = np.random.default_rng([7, seed, len(name), short])
    count = int(rng.integers(10, 70))
    arrival_s = np.cumsum(rng.exponential(float(rng.choice([0.01, 0.05, 0.3])), count))
    prompt, output = rng.integers(1, 900, count), rng.integers(1, 120, count)
    rows = list(zip(arrival_s.tolist(), prompt.tolist(), output.tolist(), strict=True))

    def perf() -> Degenerate:
        capacity = float(rng.choice([1_020.5, 1_400.0, 2_500.0])) if short else 1e9
        factor = float(rng.uniform(0.5, 2.0))
        rule = MixedIteration() if rng.random() < 0.5 else MixedIteration(1.0, float(rng.uniform(0, 1e-3)), 1e-5)
        return Degenerate(
            lambda tokens: factor * quadratic(tokens),
            lambda batch, context: factor * decode(batch, context),
            kv_capacity_tokens=capacity,
            kv_bytes_per_token=float(rng.choice([0.0, 1e5, 1e6])),
            link_bytes_per_s=float(rng.choice([1e8, 1e9])),
            replicas_per_machine=int(rng.choice([1, 2])),
            mixed=rule,
        )

    first, second = perf(), perf()
    second = Degenerate(
        second.prompt,
        second.decode,
        second.kv_capacity_tokens,
        first.kv_bytes_per_token,
        second.link_bytes_per_s,
        second.replicas_per_machine,
        mixed=second.mixed,
    )
    budgets = [int(each) for each in rng.choice([48, 256, 2048], 2)]
    most, machines = int(rng.choice([2, 5, 512])), [int(each) for each in rng.integers(1, 4, 2)]
    reserve, at_prompt, share = rng.random() < 0.3, rng.random() < 0.6, rng.random() < 0.6
    handover_s = float(rng.choice([0.0, 0.005]))
    below, beyond = int(rng.choice([0, 100, 600])), int(rng.choice([0, 300, 2_000]))
    prompts_first = rng.random() < 0.5
    estimate = None if kept is None else Estimate(0.7, 0.1, 100, 4096, 20, kept)
    reserve = reserve and estimate is None
    pools = tuple(
        Pool(role, one, number, batch_tokens=budget)  # type: ignore[arg-type]
        for role, one, number, budget in zip(("prompt", "token"), (first, second), machines, budgets, strict=True)
    )
    policy = Policy(
        name,  # type: ignore[arg-type]
        max_pending_tokens=beyond,
        batch_requests=most,
        share_links=share,
        order="prompt-first" if prompts_first else "decode-first",
        admission="reserve" if reserve else "estimate" if estimate else "recompute",
        estimate=estimate,
        first_token="prompt" if at_prompt else "token",
        deflect_below_tokens=below,
        handover_s=handover_s,
    )
    to_tokens = {"deflect_below": below, "deflect_beyond": beyond} if name == "deflect" else {}
    rules = Rules(*budgets, most, reserve, at_prompt, share, handover_s, **to_tokens, prompts_first=prompts_first)
    rules = replace(rules, estimate=estimate)
    in_flight = int(rng.integers(1, 12)) if rng.random() < 0.25 else None
    outages = []
    for machine in range(sum(machines)) if rng.random() < 0.3 else ():
        from_s = float(rng.uniform(0.0, 5.0))
        outages.append((from_s, from_s + float(rng.uniform(0.1, 3.0)), machine))
    if in_flight is not None:
        rows = [(0.0, *lengths) for _, *lengths in rows]
    return Case(policy, pools, rows, rules, in_flight, tuple(outages))


def slowly(case: Case) -> Simulation:
    prompts, tokens = ([pool.perf] * pool.replicas for pool in case.pools)
    slow = Simulation(case.rows, prompts, tokens, case.rules, case.in_flight, case.outages)
    slow.run()
    return slow


def largest_gap_s(request: Request) -> float:
    return float(max(np.diff(request.token_times), default=0.0))


def compare(case: Case, inside: Inside) -> tuple[Run, Simulation]:
    outages = tuple(Outage(machine, from_s, until_s) for from_s, until_s, machine in case.outages)
    requests = request_set(case.rows, in_flight=case.in_flight)
    done, slow = serve(Cluster(case.pools, case.policy, outages), requests), slowly(case)
    assert done.status == "finished"
    assert done.requests["restarts"].tolist() == [each.restarts for each in slow.requests]
    assert done.requests["interrupted"].tolist() == [each.evictions for each in slow.requests]
    assert done.requests["first_s"] == pytest.approx([each.first_s for each in slow.requests], rel=0, abs=1e-9)
    assert done.requests["last_s"] == pytest.approx([each.last_s for each in slow.requests], rel=0, abs=1e-9)
    assert done.requests["largest_gap_s"] == pytest.approx(list(map(largest_gap_s, slow.requests)), rel=0, abs=1e-9)
    inside.assert_empty(done)
    assert (done.replicas["most_used_tokens"] <= done.replicas["capacity_tokens"]).all()
    return done, slow


@pytest.mark.parametrize("short", [False, True], ids=["roomy", "short"])
@pytest.mark.parametrize("name", ["strict", "deflect"])
@pytest.mark.parametrize("seed", range(40))
def test_made_up_clusters_iteration_by_iteration(seed: int, name: str, short: bool, inside: Inside) -> None:
    compare(made_up(seed, name, short), inside)


@pytest.mark.parametrize("kept", [0, 10, 512])
@pytest.mark.parametrize("name", ["strict", "deflect"])
@pytest.mark.parametrize("seed", range(24))
def test_tokens_kept_for_output_iteration_by_iteration(seed: int, name: str, kept: int, inside: Inside) -> None:
    compare(made_up(seed, name, True, kept), inside)


def test_tokens_kept_for_output_evict_fewer() -> None:
    evicted = {
        kept: sum(each.evictions for seed in range(24) for each in slowly(made_up(seed, "strict", True, kept)).requests)
        for kept in (0, 10, 120)
    }
    assert evicted[0] > 1.5 * evicted[10] > 20
    assert evicted[120] == 0  # no output is longer


def test_the_cases_reach_the_rare_rules() -> None:
    """Evictions, also twice of one request, prompts that wait for memory, prompts computed on either pool, failures.

    Prompts that run in place of sequences change when requests end.
    """
    cases = [made_up(seed, name, True) for seed in range(40) for name in ("strict", "deflect")]
    slow = [slowly(case) for case in cases]
    assert sum(any(each.evictions for each in one.requests) for one in slow) >= 30
    assert sum(any(each.evictions > 1 for each in one.requests) for one in slow) >= 3
    assert sum(any(each.refused for each in one.prompts) for one in slow) >= 30
    assert sum(len({each.source is None for each in one.requests}) == 2 for one in slow) >= 30
    assert sum(any(each.restarts > 1 for each in one.requests) for one in slow) >= 10
    assert sum(case.in_flight is not None for case in cases) >= 10
    changed = 0
    for case, one in zip(cases, slow, strict=True):
        if case.rules.prompts_first:
            other = slowly(replace(case, rules=replace(case.rules, prompts_first=False)))
            changed += [each.last_s for each in other.requests] != [each.last_s for each in one.requests]
    assert changed >= 15


@pytest.mark.parametrize("seed", range(4))
def test_shipped_workloads_iteration_by_iteration(seed: int, inside: Inside) -> None:
    rng = np.random.default_rng([8, seed])
    model = str(rng.choice(["bloom-176b", "llama2-70b"]))
    first, second = (shipped(model, str(name)) for name in rng.choice(["dgx-a100", "dgx-h100"], 2))
    prompt, output = catalog.workload(str(rng.choice(["coding", "conversation"]))).sample(rng, 60)
    arrival_s = np.cumsum(rng.exponential(float(rng.choice([0.2, 1.0])), 60))
    rows = list(zip(arrival_s.tolist(), prompt.tolist(), np.minimum(output, 300).tolist(), strict=True))
    pools = Pool("prompt", first, 2, batch_tokens=1024), Pool("token", second, 1)
    done = run(Cluster(pools, Policy("strict")), ready(request_set(rows), alone(model)))
    slow = Simulation(rows, [first] * pools[0].replicas, [second] * pools[1].replicas, Rules(1024)).run()
    assert done.requests["first_s"] == pytest.approx([each.first_s for each in slow], rel=0, abs=1e-9)
    assert done.requests["last_s"] == pytest.approx([each.last_s for each in slow], rel=0, abs=1e-9)
    inside.assert_empty(done)


# -- counts by hand


def prompt_s(tokens: float) -> float:
    return float(quadratic(np.array(tokens)))


def decode_s(batch: int, context: int) -> float:
    return float(PERF.decode_s(batch, context))


def linked(**fields: float) -> Degenerate:
    """Replicas of 1 MB of KV cache a token and a link of 100 MB/s."""
    return Degenerate(quadratic, decode, kv_bytes_per_token=1e6, link_bytes_per_s=1e8, **fields)  # type: ignore[arg-type]


def transfer_s(tokens: int) -> float:
    """Time of a KV cache on that link behind its prompt, as ``PERF`` computes it."""
    left = max(tokens * 1e6 / PERF.model.layers, tokens * 1e6 - 1e8 * prompt_s(tokens))
    return min(left / 1e8 + PER_LAYER_FIXED_S, tokens * 1e6 / 1e8)


def test_a_request_alone_takes_its_chunks_its_transfer_and_its_decodes() -> None:
    done = serve(cluster(Policy("strict", batch_tokens=400), linked()), [(1.0, 1000, 4)])
    chunks_s = sum(
        prompt_s(size) + max(prompt_s(before + size) - prompt_s(before) - (prompt_s(size) - prompt_s(1)), 0.0)
        for before, size in ((400, 400), (800, 200))
    )
    assert ttft_s(done)[0] == pytest.approx(prompt_s(400) + chunks_s, abs=1e-12)
    rest_s = transfer_s(1000) + sum(decode_s(1, 1000 + k) for k in (1, 2, 3))
    assert done.requests["last_s"][0] - done.requests["first_s"][0] == pytest.approx(rest_s, abs=1e-12)
    assert done.requests["largest_gap_s"][0] == pytest.approx(transfer_s(1000) + decode_s(1, 1001), abs=1e-12)


def test_where_token_machines_emit_the_first_token_its_decode_comes_first() -> None:
    """The last token of the prompt is computed there: as many iterations as tokens."""
    done = serve(cluster(Policy("strict", first_token="token"), linked()), [(0.0, 1000, 3), (50.0, 700, 1)])
    first = prompt_s(1000) + transfer_s(1000) + decode_s(1, 1000)
    assert ttft_s(done)[0] == pytest.approx(first, abs=1e-12)
    assert done.requests["last_s"][0] == pytest.approx(first + decode_s(1, 1001) + decode_s(1, 1002), abs=1e-12)
    assert ttft_s(done)[1] == pytest.approx(prompt_s(700) + transfer_s(700) + decode_s(1, 700), abs=1e-9)


def test_prompts_share_an_iteration_up_to_the_budget_and_the_next_is_cut() -> None:
    rows = [(0.0, 100, 1), *((0.001, 300, 1) for _ in range(3))]
    done = serve(cluster(Policy("strict", batch_tokens=700), PERF), rows)
    first = prompt_s(100)
    second = first + prompt_s(700)  # two whole, and 100 of the third
    third = second + prompt_s(200) + prompt_s(300) - prompt_s(100) - (prompt_s(200) - prompt_s(1))
    assert done.requests["first_s"] == pytest.approx([first, second, second, third], abs=1e-12)


@pytest.mark.parametrize("load", [0.5, 1.0, 1.5])
def test_a_queue_of_equal_prompts_at_equal_gaps(load: float) -> None:
    """D/D/1: no wait up to a load of 1; beyond, the k-th waits k times the excess (a budget of one prompt)."""
    service_s, count = prompt_s(500), 40
    rows = [(k * service_s / load, 500, 1) for k in range(count)]
    done = serve(cluster(Policy("strict", batch_tokens=500), PERF), rows)
    wait_s = np.arange(count) * max(service_s - service_s / load, 0.0)
    assert ttft_s(done) == pytest.approx(service_s + wait_s, abs=1e-9)


def test_a_decode_batch_fills_one_request_at_a_time() -> None:
    """Prompts one after another on one machine; each iteration of the other has the sequences that have come."""
    perf = Degenerate(lambda tokens: 1e-3 * tokens, lambda batch, context: 0.1 + 0.01 * batch)  # no transfer time
    pools = Pool("prompt", perf, 1, batch_tokens=100), Pool("token", perf, 1)  # type: ignore[arg-type]
    done = serve(Cluster(pools, Policy("strict")), [(0.0, 100, 6)] * 3)
    # prompts end at 0.1, 0.2, 0.3; iterations begin at 0.1 with one, at 0.21 with two, at 0.33 with three
    assert done.requests["first_s"] == pytest.approx([0.1, 0.2, 0.3], abs=1e-12)
    first = 0.1 + 0.11 + 0.12 + 3 * 0.13
    second = first + 0.12
    assert done.requests["last_s"] == pytest.approx([first, first + 0.12, second + 0.11], abs=1e-12)


def test_a_prompt_keeps_its_memory_until_it_has_arrived() -> None:
    """Room for one prompt: the next begins when the KV cache of the first has gone."""
    small = linked(kv_capacity_tokens=1_500.0)
    pools = Pool("prompt", small, 1), Pool("token", linked(), 1)  # type: ignore[arg-type]
    done = serve(Cluster(pools, Policy("strict")), [(0.0, 1000, 2), (0.0, 1000, 2)])
    assert ttft_s(done) == pytest.approx([prompt_s(1000), 2 * prompt_s(1000) + transfer_s(1000)], abs=1e-9)


def test_memory_grows_token_by_token_and_the_last_to_join_is_computed_again() -> None:
    roomy, small = Degenerate(quadratic, decode), Degenerate(quadratic, decode, kv_capacity_tokens=260.0)
    pools = Pool("prompt", roomy, 2), Pool("token", small, 1)  # type: ignore[arg-type]
    done = serve(Cluster(pools, Policy("strict")), [(0.0, 100, 60), (1e-6, 100, 60)])
    assert done.requests["interrupted"].tolist() == [0, 1]
    assert int(done.clock["preemptions"]) == 1
    # the first is one iteration ahead: its 30th leaves them with 130 and 129 tokens, its 31st the second none;
    # the second, with 30 tokens, computes prompt and tokens again when the first has gone, and has 29 more to decode
    again_s = done.requests["last_s"][1] - done.requests["last_s"][0]
    assert again_s == pytest.approx(prompt_s(130) + sum(decode_s(1, 130 + k) for k in range(1, 30)), abs=1e-9)


def test_memory_that_is_reserved_evicts_none_and_lets_fewer_in() -> None:
    roomy, small = Degenerate(quadratic, decode), Degenerate(quadratic, decode, kv_capacity_tokens=260.0)
    pools = Pool("prompt", roomy, 2), Pool("token", small, 1)  # type: ignore[arg-type]
    done = serve(Cluster(pools, Policy("strict", admission="reserve")), [(0.0, 100, 60), (1e-6, 100, 60)])
    assert int(done.clock["preemptions"]) == 0
    decodes_s = sum(decode_s(1, 100 + k) for k in range(1, 60))
    assert done.requests["last_s"] == pytest.approx(prompt_s(100) + decodes_s * np.array([1, 2]), abs=1e-6)


def test_short_prompts_are_computed_where_they_are_decoded() -> None:
    policy = Policy("deflect", deflect_below_tokens=500)
    done = serve(cluster(policy, linked(), 1, linked(), 1), [(0.0, 499, 3), (0.0, 500, 3)])
    assert done.requests["prompt_at"].tolist() == [1, 0]
    assert ttft_s(done) == pytest.approx([prompt_s(499), prompt_s(500)], abs=1e-9)
    assert done.requests["last_s"][0] == pytest.approx(prompt_s(499) + decode_s(1, 500) + decode_s(1, 501), abs=1e-9)


def test_prompts_go_to_token_machines_while_every_queue_is_too_long() -> None:
    policy = Policy("deflect", deflect_below_tokens=0, max_pending_tokens=900)
    done = serve(cluster(policy, PERF, 2, PERF, 1), [(1e-6 * k, 600, 2) for k in range(6)])
    assert done.requests["prompt_at"].tolist() == [0, 1, 0, 1, 2, 2]  # 600, then 1,200 tokens before each


# -- laws


ARRIVING: Rows = [(0.02 * k, 40 + 37 * (k * k % 17), 1 + k * 7 % 50) for k in range(80)]


@pytest.mark.parametrize("name", ["strict", "deflect"])
@pytest.mark.parametrize("first_token", ["prompt", "token"])
@pytest.mark.parametrize("admission", ["recompute", "reserve"])
def test_tokens_are_conserved_and_memory_is_never_exceeded(
    name: str, first_token: str, admission: str, inside: Inside
) -> None:
    small = Degenerate(quadratic, decode, kv_capacity_tokens=1_000.0)
    policy = Policy(name, first_token=first_token, admission=admission, deflect_below_tokens=200)  # type: ignore[arg-type]
    done = serve(cluster(policy, small, 2, small, 2), ARRIVING)
    assert done.status == "finished"
    assert done.replicas["generated_tokens"].sum() == sum(output for _, _, output in ARRIVING)
    assert (done.replicas["most_used_tokens"] <= 1_000).all()
    inside.assert_empty(done)


def test_prompts_of_a_machine_end_in_the_order_of_their_arrival() -> None:
    small = Degenerate(quadratic, decode, kv_capacity_tokens=1_200.0)
    done = serve(cluster(Policy("strict", batch_tokens=300), small, 3, small, 2), ARRIVING)
    for r in range(3):
        first_s = done.requests["first_s"][done.requests["prompt_at"] == r]
        assert (np.diff(first_s) >= 0.0).all() and first_s.size > 10


def test_first_tokens_do_not_depend_on_token_machines_while_no_prompt_waits_for_memory() -> None:
    done = [serve(cluster("strict", linked(), 2, linked(), machines), ARRIVING) for machines in (1, 5)]
    assert done[0].requests["first_s"].tolist() == done[1].requests["first_s"].tolist()
    assert done[0].requests["last_s"].sum() > done[1].requests["last_s"].sum()


@pytest.mark.parametrize("name", ["strict", "deflect"])
def test_a_router_knows_no_output_lengths(name: str) -> None:
    rng = np.random.default_rng(9)
    arrivals = [(1e-6 * k, int(prompt), 1) for k, prompt in enumerate(rng.integers(1, 2_000, 40))]
    policy = Policy(name, deflect_below_tokens=300)  # type: ignore[arg-type]
    ways = []
    for longest in (2, 500):
        outputs = rng.integers(2, longest + 1, 40).tolist()
        rows = [(at_s, prompt, output) for (at_s, prompt, _), output in zip(arrivals, outputs, strict=True)]
        done = serve(cluster(policy, PERF, 3, PERF, 3), rows)
        ways.append((done.requests["prompt_at"].tolist(), done.requests["token_at"].tolist()))
    assert ways[0] == ways[1]


@pytest.mark.parametrize("name", ["strict", "deflect"])
def test_one_kind_of_pools_serves_as_one_kind(name: str) -> None:
    """Machines in two pools of a role are the same machines in one."""
    one = Pool("prompt", PERF, 3), Pool("token", PERF, 2)  # type: ignore[arg-type]
    two = Pool("prompt", PERF, 1), Pool("prompt", PERF, 2), Pool("token", PERF, 1), Pool("token", PERF, 1)  # type: ignore[arg-type]
    ends = [serve(Cluster(pools, Policy(name)), ARRIVING).requests["last_s"] for pools in (one, two)]  # type: ignore[arg-type]
    assert ends[0].tolist() == ends[1].tolist()


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"transfer_retry_s": 1.0}, "published simulator"), ({"deflect_below_tokens": -1}, "must be 0 or more")],
)
def test_what_strict_pools_do_not_know_is_refused(fields: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        cluster(Policy("deflect", **fields), PERF)  # type: ignore[arg-type]


def test_the_published_simulator_knows_no_engines() -> None:
    with pytest.raises(InputError, match="policy strict: is of engines"):
        cluster("strict", shipped("llama2-70b", "dgx-h100", "splitwise-sim"))
    with pytest.raises(UnknownNameError, match="admission"):
        Policy("strict", admission="none")  # type: ignore[arg-type]
    assert Policy("deflect").settings["max_pending_tokens"] == MAX_PENDING_TOKENS
    assert "max_preemptions" not in SETTINGS["strict"]


@pytest.mark.parametrize("name", ["strict", "deflect"])
@pytest.mark.parametrize("first_token", ["prompt", "token"])
@pytest.mark.parametrize("seed", range(6))
def test_requests_of_machines_that_fail_start_again(seed: int, first_token: str, name: str, inside: Inside) -> None:
    """Short memory, links that take a while, every machine away for some time: all end, and nothing is left."""
    rng = np.random.default_rng([10, seed])
    small = linked(kv_capacity_tokens=1_000.0)
    begin_s, away_s = rng.uniform(0.0, 2.0, 4), rng.uniform(0.1, 1.0, 4)
    outages = [Outage(k, float(at_s), float(at_s + away_s[k])) for k, at_s in enumerate(begin_s)]
    policy = Policy(name, first_token=first_token, deflect_below_tokens=200)  # type: ignore[arg-type]
    done = serve(cluster(policy, small, 2, small, 2, *outages), ARRIVING)
    assert done.status == "finished"
    assert done.requests["restarts"].sum() > 0
    assert (done.replicas["most_used_tokens"] <= 1_000).all()
    inside.assert_empty(done)


def test_a_machine_that_fails_while_idle_changes_nothing() -> None:
    rows = [(0.0, 500, 20), (100.0, 500, 20)]
    calm = serve(cluster("strict", PERF), rows)
    away = [serve(cluster("strict", PERF, 1, PERF, 1, Outage(k, 50.0, 60.0)), rows) for k in (0, 1)]
    assert all(done.requests["last_s"].tolist() == calm.requests["last_s"].tolist() for done in away)


@pytest.mark.parametrize("name", ["strict", "deflect"])
def test_a_closed_loop_keeps_its_number_in_flight(name: str) -> None:
    loop = request_set([(0.0, 300, 20)] * 60, in_flight=4)
    done = serve(cluster(Policy(name), PERF, 1, PERF, 1), loop)  # type: ignore[arg-type]
    entered_s, left_s = done.requests["arrival_s"], done.requests["last_s"]
    assert done.status == "finished"
    assert max(int(((entered_s < at_s) & (left_s >= at_s)).sum()) for at_s in left_s) == 4


# -- options

SMALL: dict[str, Any] = {"design": "splitwise-hh", "prompt_machines": 1, "token_machines": 1, "rate_rps": 2.0}


def test_admission_and_handover_are_the_engines() -> None:
    plain = simulate(**SMALL, policy="strict", engine="provisioner-0.1")
    assert (plain.thresholds["admission"], plain.thresholds["first_token"]) == ("recompute", "prompt")
    engine = "provisioner-0.1,first_token=token,order=prompt-first,admission=reserve,handover_s=0.1"
    other = simulate(**SMALL, policy="strict", engine=engine)
    assert (other.thresholds["admission"], other.thresholds["first_token"]) == ("reserve", "token")
    p50_s = [next(x for x in each.latency if x.metric == "ttft").seconds.mean for each in (plain, other)]
    assert p50_s[1] > p50_s[0] + 0.1
    assert "prompt-first, admission: reserve" in str(other) and "first token from token machines" in str(other)


def test_a_threshold_of_another_policy_is_refused() -> None:
    with pytest.raises(InputError, match=r"^deflect_below_tokens: is of policy deflect, not of strict; leave it out$"):
        simulate(**SMALL, policy="strict", deflect_below_tokens=100)
    with pytest.raises(InputError, match=r"^max_preemptions: is of policy splitwise, split, mixed, not of"):
        simulate(**SMALL, policy="deflect", max_preemptions=2)
    assert simulate(**SMALL, policy="deflect", deflect_below_tokens=100).thresholds["deflect_below_tokens"] == 100


@pytest.mark.parametrize(("policy", "of_paper"), [("splitwise", True), ("split", False), ("strict", False)])
def test_an_answer_says_where_its_scheduler_is_the_papers_alone(policy: str, of_paper: bool) -> None:
    assert ("no common engine schedules so" in str(simulate(**SMALL, policy=policy))) == of_paper


@pytest.mark.parametrize("first", ["prompt", "token"])
def test_a_request_that_its_token_machine_can_never_hold_is_refused_in_any_order_of_pools(first: str) -> None:
    large, small = replace(PERF, kv_capacity_tokens=2_000.0), replace(PERF, kv_capacity_tokens=1_000.0)
    pools = Pool("prompt", large, 1), Pool("token", small, 1)
    with pytest.raises(InputError, match="request 2 has 600 prompt and 500 output tokens, more than the 1,000 that"):
        serve(Cluster(pools if first == "prompt" else pools[::-1], Policy("strict")), [(0.0, 10, 5), (0.1, 600, 500)])
