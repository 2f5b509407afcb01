"""The compiled simulator against two slow ones that share no line with it: request by request, event for event."""

from dataclasses import replace

import numpy as np
import pytest

from provisioner.perf.assumptions import ReplicaPerf
from provisioner.perf.curves import MixedIteration
from provisioner.simulation.policy import Policy
from provisioner.simulation.records import BLOCK
from provisioner.simulation.requests import RequestSet
from provisioner.simulation.run import Run, run
from provisioner.specs import catalog
from tests.oracles.published import Published, simulate_published
from tests.oracles.simulation import Latencies, Requests, draw, simulate_mixed, simulate_split
from tests.simulation.clusters import Rows, alone, cluster, ready, request_set, shipped

MODELS, WORKLOADS = ("bloom-176b", "llama2-70b"), ("coding", "conversation")
MACHINES = ("dgx-a100", "dgx-h100", "dgx-h100-capped")
NEVER = 1 << 40

# -- strict pools and mixed batching with measured curves


def as_set(requests: Requests) -> RequestSet:
    return RequestSet(requests.arrival_s, requests.prompt_tokens, requests.output_tokens, rate_rps=1.0)


def assert_same(done: Run, expected: Latencies) -> None:
    """Every request's TTFT, TBT and E2E."""
    assert done.status == "finished"
    latencies = done.latencies
    assert latencies.both("ttft")[0] == pytest.approx(expected.ttft_s, rel=1e-6)
    assert latencies.both("e2e")[0] == pytest.approx(expected.e2e_s, rel=1e-6)
    assert latencies.both("tbt")[0] == pytest.approx(expected.tbt_s[~np.isnan(expected.tbt_s)], rel=1e-6)


def roomy(model: str, machine: str) -> ReplicaPerf:
    """A replica with memory for all: where it is short, the oracle's sequences wait for it after their transfer and
    ours before, and its prompts wait for the first of them, where ours look for the memory of their prompt alone."""
    return replace(shipped(model, machine), kv_capacity_tokens=1e9)  # type: ignore[type-var]


@pytest.mark.parametrize("seed", range(40))
def test_strict_pools_request_by_request(seed: int) -> None:
    """Loads from nothing to twice what the cluster can do; memory for all, so that the two differ in no rule."""
    rng = np.random.default_rng([1, seed])
    model, workload = rng.choice(MODELS), rng.choice(WORKLOADS)
    first, second = (roomy(str(model), str(name)) for name in rng.choice(MACHINES, 2))
    prompts, tokens = (int(each) for each in np.rint(np.exp(rng.uniform(0, np.log(20), 2))))
    per_prompt_s = float(first.prompt_s(catalog.workload(str(workload)).prompt.tokens.mean()))
    rate_rps = float(rng.uniform(0.05, 1.0)) * prompts / per_prompt_s
    requests = draw(catalog.workload(str(workload)), rate_rps, 1_000, seed)
    policy = Policy("split", share_links=False, max_preemptions=NEVER)
    done = run(cluster(policy, first, prompts, second, tokens), ready(as_set(requests), alone(str(model))))
    assert_same(done, simulate_split(requests, first, second, prompts, tokens))


@pytest.mark.parametrize(("prompts", "tokens"), [(15, 1), (16, 1), (240, 16), (300, 40), (4_000, 200)])
def test_pools_of_any_size(prompts: int, tokens: int) -> None:
    """The least loaded replica is found in trees of one to four levels, full and not, under loads up to the limit."""
    first, second = roomy("llama2-70b", "dgx-h100"), roomy("llama2-70b", "dgx-a100")
    requests = draw(catalog.workload("coding"), 4.0 * prompts, 3_000, prompts)
    policy = Policy("split", share_links=False, max_preemptions=NEVER)
    done = run(cluster(policy, first, prompts, second, tokens), ready(as_set(requests), alone("llama2-70b")))
    assert_same(done, simulate_split(requests, first, second, prompts, tokens))
    used = np.unique(done.requests["prompt_at"]).size
    assert used > min(prompts, 3_000) / 2


@pytest.mark.parametrize("seed", range(24))
def test_mixed_batching_request_by_request(seed: int) -> None:
    """Prompts in multiples of 256 tokens and fewer than 256 sequences, so that the whole decode batch either fits
    beside the prompts or not at all: the oracle stops all of it then, the compiled one those that do not fit."""
    rng = np.random.default_rng([2, seed])
    model, workload = str(rng.choice(MODELS)), str(rng.choice(WORKLOADS))
    perf = roomy(model, str(rng.choice(MACHINES)))
    if seed % 2:  # a sum in place of the paper's factor
        rule = MixedIteration(1.0, float(rng.uniform(0, 1e-3)), float(rng.uniform(0, 1e-6)))
        perf = replace(perf, curve=replace(perf.curve, mixed=rule))  # type: ignore[type-var]
    replicas = int(np.rint(np.exp(rng.uniform(0, np.log(12)))))
    drawn = draw(catalog.workload(workload), float(rng.uniform(0.2, 1.6)) * replicas, 600, seed)
    prompt = 256 * (1 + drawn.prompt_tokens // 256)
    requests = Requests(drawn.arrival_s, prompt, np.maximum(drawn.output_tokens, 2))
    policy = Policy("mixed", max_preemptions=NEVER)
    done = run(cluster(policy, perf, replicas), ready(as_set(requests), alone(model)))
    assert done.batch_time_s[0, 256:].sum() == 0.0
    assert_same(done, simulate_mixed(requests, perf, replicas))


@pytest.mark.parametrize(
    ("model", "workload", "machine", "replicas", "rate_rps", "within"),
    [
        ("llama2-70b", "coding", "dgx-h100", 10, 20.0, 0.05),
        ("bloom-176b", "conversation", "dgx-h100", 12, 14.0, 0.05),
        ("llama2-70b", "conversation", "dgx-a100", 8, 10.0, 0.05),
    ],
)
def test_mixed_batching_of_the_workloads_as_they_are(
    model: str, workload: str, machine: str, replicas: int, rate_rps: float, within: float
) -> None:
    """Cutting the end of the decode batch rather than all of it, and four preemptions at most, change little."""
    perf = shipped(model, machine)
    requests = draw(catalog.workload(workload), rate_rps, 4_000, 5)
    ours = run(cluster("mixed", perf, replicas), ready(as_set(requests), alone(model))).latencies
    theirs = simulate_mixed(requests, perf, replicas)
    for metric, values in (("ttft", theirs.ttft_s), ("tbt", theirs.tbt_s), ("e2e", theirs.e2e_s)):
        expected = np.nanquantile(values, (0.5, 0.9))
        assert np.quantile(ours.both(metric)[0], (0.5, 0.9)) == pytest.approx(expected, rel=within)  # type: ignore[arg-type]


# -- the published rules


def published_case(seed: int) -> tuple[str, Rows, bool, str, str, int, int]:
    """A small trace on a small cluster, often overloaded: other models, lengths, rates and designs than the runs'."""
    rng = np.random.default_rng([3, seed])
    model, workload = str(rng.choice(MODELS)), catalog.workload(str(rng.choice(WORKLOADS)))
    count, prompts, tokens = int(rng.integers(80, 400)), int(rng.integers(1, 5)), int(rng.integers(1, 4))
    rate_rps = float(np.exp(rng.uniform(np.log(0.5), np.log(6.0)))) * (prompts + tokens)
    prompt, output = workload.sample(rng, count)
    # longer outputs make memory short: transfers that find no room, machines that move, tasks passed over
    output = np.minimum(np.maximum(output, 2) * int(rng.choice([1, 1, 1, 10])), 12_000)
    arrival_s = np.cumsum(rng.exponential(1.0 / rate_rps, count))
    rows = list(zip(arrival_s.tolist(), prompt.tolist(), output.tolist(), strict=True))
    first, second = (str(name) for name in rng.choice(MACHINES, 2))
    return model, rows, bool(rng.random() < 0.25), first, second, prompts, tokens


def compiled(seed: int) -> Run:
    """A case, on the compiled simulator."""
    model, rows, baseline, machine, other, prompts, tokens = published_case(seed)
    first, second = (shipped(model, name, "splitwise-sim") for name in (machine, other))
    policy = Policy("mixed" if baseline else "splitwise").as_published()
    requests = ready(request_set(rows), alone(model, "splitwise-sim"))
    return run(cluster(policy, first, prompts, second, tokens), requests)


def slowly(seed: int) -> Published:
    """The same case, from the page of rules."""
    model, rows, baseline, machine, other, prompts, tokens = published_case(seed)
    first, second = (shipped(model, name, "splitwise-sim") for name in (machine, other))
    pools = {"mixed": [first] * prompts} if baseline else {"prompt": [first] * prompts, "token": [second] * tokens}
    return simulate_published(rows, pools, first.link_bytes_per_s)


@pytest.mark.parametrize("seed", range(120))
def test_published_rules_event_for_event(seed: int) -> None:
    """First and last token of every request, also of those that memory keeps waiting for ever."""
    done, slow = compiled(seed), slowly(seed)
    first_s = np.array([request.first_s for request in slow.requests])
    last_s = np.array([request.last_s for request in slow.requests])
    assert done.requests["first_s"] == pytest.approx(first_s, rel=1e-9, nan_ok=True)
    assert done.requests["last_s"] == pytest.approx(last_s, rel=1e-9, nan_ok=True)
    assert (done.status == "stuck") == bool(np.isnan(last_s).any())
    used = [machine.most_used_tokens for machine in slow.machines]
    assert done.replicas["most_used_tokens"].tolist() == used
    if done.status == "finished":
        assert done.replicas["pending_tokens"].tolist() == [machine.pending_tokens for machine in slow.machines]


@pytest.mark.parametrize("baseline", [True, False])
def test_published_rules_with_a_long_backlog(baseline: bool) -> None:
    """Six hundred requests within a second: waiting lists of several blocks, whose middles change most."""
    rng = np.random.default_rng([4, baseline])
    prompt, output = catalog.workload("coding").sample(rng, 600)
    arrival_s = np.sort(rng.uniform(0.0, 1.0, 600))
    rows = list(zip(arrival_s.tolist(), prompt.tolist(), np.maximum(output, 2).tolist(), strict=True))
    perf = shipped("bloom-176b", "dgx-h100", "splitwise-sim")
    policy = Policy("mixed" if baseline else "splitwise").as_published()
    done = run(cluster(policy, perf), ready(request_set(rows), alone("bloom-176b", "splitwise-sim")))
    slow = simulate_published(
        rows, {"mixed": [perf]} if baseline else {"prompt": [perf], "token": [perf]}, perf.link_bytes_per_s
    )
    assert done.replicas["most_waiting"].max() > BLOCK
    assert done.requests["first_s"] == pytest.approx([each.first_s for each in slow.requests], rel=1e-9, nan_ok=True)
    assert done.requests["last_s"] == pytest.approx([each.last_s for each in slow.requests], rel=1e-9, nan_ok=True)


def test_the_cases_reach_the_rare_rules() -> None:
    """Moves to the mixed pool, transfers that try again, tasks preempted several times, requests stuck in memory."""
    runs = [compiled(seed) for seed in range(120)]
    splitwise = [done for done in runs if done.cluster.policy.name == "splitwise"]
    assert sum(done.clock["moves"] > 2 for done in splitwise) >= 20
    assert sum(done.clock["retries"] > 0 for done in splitwise) >= 4
    assert sum(done.requests["interrupted"].max() > 2 for done in runs) >= 10
    assert all(done.requests["interrupted"].sum() == done.clock["preemptions"] for done in runs)
    assert sum(done.status == "stuck" for done in runs) >= 1
    assert sum((done.requests["prompt_at"] == done.requests["token_at"]).any() for done in splitwise) >= 10
