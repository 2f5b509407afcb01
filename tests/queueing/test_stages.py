"""Laws that hold over every shipped machine, model and workload."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioner.errors import ModelDoesNotFitError
from provisioner.perf.assumptions import reference, replica
from provisioner.queueing.mixed_stage import MixedStage
from provisioner.queueing.stages import Array, PromptStage, Sizes, SplitLatency, Stage, TokenStage
from provisioner.queueing.traffic import Classes, Traffic
from provisioner.specs import catalog
from tests.counting import calls_of
from tests.oracles.erlang import erlang_c
from tests.queueing.conftest import exponential_tokens

MODELS, MACHINES = ("llama2-70b", "bloom-176b"), ("dgx-a100", "dgx-h100", "dgx-h100-capped")
SIZES = np.array([1, 2, 3, 5, 8, 13, 21, 34, 60, 100], dtype=np.int64)
Exceedance = Callable[[str, float, Sizes], Array]

model_names, machine_names = st.sampled_from(MODELS), st.sampled_from(MACHINES)
workload_names = st.sampled_from(("coding", "conversation"))
assumption_names = st.sampled_from(("measured", "splitwise-sim"))
rates = st.floats(0.5, 150.0)
slowdowns = st.floats(1.01, 30.0)


def classes_of(workload: str) -> Classes:
    w = catalog.workload(workload)
    return Classes(w.prompt.tokens, w.output.tokens, w.weight)


def traffic(workload: str, rate_rps: float, cv: float = 1.0) -> Traffic:
    return Traffic(classes_of(workload), ((rate_rps, 1.0),), cv)


def stages(model: str, machine: str, requests: Traffic, assumptions: str = "measured") -> dict[str, Exceedance]:
    """Exceedance by pool size of each metric; E2E with as many token as prompt machines, one size at a time."""
    perf, ref = replica(model, machine, assumptions=assumptions), reference(model, assumptions)  # type: ignore[arg-type]
    prompt, token = PromptStage(perf, requests, ref), TokenStage(perf, requests, ref, perf)
    mixed, pair = MixedStage(perf, requests, ref), SplitLatency(prompt, token, requests)
    return {
        "ttft": prompt.exceedance,
        "tbt": token.exceedance,
        "e2e": lambda kind, x, sizes: np.array(
            [pair.exceedance(kind, x, sizes[i : i + 1], int(n))[0] for i, n in enumerate(sizes)]
        ),
        "mixed ttft": lambda kind, x, sizes: mixed.exceedance("ttft", kind, x, sizes),
        "mixed tbt": lambda kind, x, sizes: mixed.exceedance("tbt", kind, x, sizes),
        "mixed e2e": lambda kind, x, sizes: mixed.exceedance("e2e", kind, x, sizes),
    }


METRICS = ("ttft", "tbt", "e2e", "mixed ttft", "mixed tbt", "mixed e2e")
# The exceedance steps by a little where whole sequences are spread over replicas or a batch level changes.
RIPPLE = {"ttft": 1e-6, "tbt": 0.02, "e2e": 0.01, "mixed ttft": 0.02, "mixed tbt": 0.05, "mixed e2e": 0.05}


@pytest.mark.parametrize("metric", METRICS)
@given(model_names, machine_names, workload_names, assumption_names, rates, slowdowns)
@settings(max_examples=12, deadline=None)
def test_a_share_that_falls_with_the_size_and_the_limit(
    metric: str, model: str, machine: str, workload: str, assumptions: str, rate: float, limit: float
) -> None:
    exceedance = stages(model, machine, traffic(workload, rate), assumptions)[metric]
    share = exceedance("slowdown", limit, SIZES)
    assert np.all((share >= 0.0) & (share <= 1.0 + 1e-12))
    assert np.all(np.diff(share) <= RIPPLE[metric])
    looser = exceedance("slowdown", 1.3 * limit, SIZES)
    assert np.all(looser <= share + 1e-9)


@pytest.mark.parametrize("metric", METRICS)
@given(model_names, machine_names, workload_names, rates, slowdowns)
@settings(max_examples=10, deadline=None)
def test_a_share_that_rises_with_the_rate(
    metric: str, model: str, machine: str, workload: str, rate: float, limit: float
) -> None:
    sizes = SIZES[2::3]
    less, more = (
        stages(model, machine, traffic(workload, r), "measured")[metric]("slowdown", limit, sizes)
        for r in (rate, 1.25 * rate)
    )
    assert np.all(more >= less - RIPPLE[metric])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("workload", ["coding", "conversation"])
def test_a_rate_split_into_windows_of_the_same_rate_changes_nothing(metric: str, workload: str) -> None:
    c = classes_of(workload)
    whole = stages("llama2-70b", "dgx-h100", Traffic(c, ((40.0, 1.0),)))[metric]
    parts = stages("llama2-70b", "dgx-h100", Traffic(c, ((40.0, 0.4), (40.0, 0.6))))[metric]
    sizes = np.array([12, 30], dtype=np.int64)
    np.testing.assert_allclose(parts("slowdown", 2.0, sizes), whole("slowdown", 2.0, sizes), rtol=1e-12, atol=1e-15)


def test_a_busy_window_weighs_as_much_as_its_requests() -> None:
    c, sizes = classes_of("coding"), np.array([20], dtype=np.int64)

    def share(*windows: tuple[float, float]) -> float:
        return float(stages("llama2-70b", "dgx-h100", Traffic(c, windows))["ttft"]("slowdown", 2.0, sizes)[0])

    assert share((30.0, 0.7), (80.0, 0.3)) == pytest.approx(0.7 * share((30.0, 1.0)) + 0.3 * share((80.0, 1.0)))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("model", "machine"), [("llama2-70b", "dgx-h100"), ("bloom-176b", "dgx-a100")])
def test_all_sizes_at_once_are_each_size_alone(metric: str, model: str, machine: str) -> None:
    sizes = np.array([6, 20, 21, 40, 120], dtype=np.int64)
    requests = traffic("conversation", 20.0)
    together = stages(model, machine, requests)[metric]("slowdown", 1.6, sizes)
    alone = [
        float(stages(model, machine, requests)[metric]("slowdown", 1.6, sizes[i : i + 1])[0]) for i in range(sizes.size)
    ]
    np.testing.assert_allclose(together, alone, rtol=0.02, atol=2e-5)


@given(model_names, workload_names, st.integers(2, 12), st.floats(0.3, 0.8), slowdowns)
@settings(max_examples=15, deadline=None)
def test_a_larger_pool_at_the_same_load_is_no_worse(
    model: str, workload: str, size: int, load: float, limit: float
) -> None:
    """Economy of scale: twice the machines at twice the rate."""
    perf, ref, c = (
        replica(model, "dgx-h100", assumptions="splitwise-sim"),
        reference(model, "splitwise-sim"),
        classes_of(workload),
    )
    one = np.array([1], dtype=np.int64)
    rate = load * size / float(PromptStage(perf, Traffic(c, ((1.0, 1.0),)), ref).load(one)[0])

    def share(factor: int) -> float:
        stage = PromptStage(perf, Traffic(c, ((factor * rate, 1.0),)), ref)
        return float(stage.exceedance("slowdown", limit, factor * size * one)[0])

    assert share(2) <= share(1) + 0.01


@pytest.mark.parametrize("metric", METRICS)
def test_a_pool_that_cannot_keep_up_exceeds_every_limit(metric: str) -> None:
    share = stages("bloom-176b", "dgx-a100", traffic("conversation", 500.0))[metric]
    assert share("seconds", 1e5, np.array([1], dtype=np.int64)).tolist() == [1.0]


@pytest.mark.parametrize("metric", METRICS)
def test_pools_far_too_large_have_no_queue_at_all(metric: str) -> None:
    share = stages("llama2-70b", "dgx-a100", traffic("coding", 10.0))[metric]
    few, many = (share("seconds", 60.0, np.array([n], dtype=np.int64))[0] for n in (1120, 5000))
    assert few == pytest.approx(many, abs=1e-6)
    assert many < 1e-3  # outputs so long that they take a minute alone


@pytest.mark.parametrize("metric", METRICS)
def test_burstier_arrivals_do_not_shorten_anything(metric: str) -> None:
    sizes = np.array([40], dtype=np.int64)
    poisson, bursty = (
        float(stages("llama2-70b", "dgx-h100", traffic("conversation", 60.0, cv))[metric]("slowdown", 2.0, sizes)[0])
        for cv in (1.0, 4.0)
    )
    assert bursty >= poisson - 1e-9


def test_mmc_with_one_queue_through_the_stage() -> None:
    """Prompts beyond the batch limit, exponential on a curve's linear part: waits above a limit are M/M/c's."""
    tokens = 4096.0 + exponential_tokens(30_000.0)
    perf, ref = replica("llama2-70b", "dgx-h100"), reference("llama2-70b")
    c = Classes(tokens, np.full(tokens.size, 2.0), np.full(tokens.size, 1.0 / tokens.size))
    mean_s = float(c.weight @ perf.prompt_s(tokens))
    servers = 12
    stage = PromptStage(perf, Traffic(c, ((0.8 * servers / mean_s, 1.0),)), ref, one_queue=True)
    sizes = np.array([servers], dtype=np.int64)
    assert float(stage.load(sizes)[0]) == pytest.approx(0.8)
    waiting = stage.pools(sizes)[0].exceedance(tokens, np.zeros(tokens.size), c.weight)
    assert float(waiting[0]) == pytest.approx(float(erlang_c(servers, 0.8 * servers)), rel=0.01)


def test_an_empty_cluster_takes_what_the_curves_say() -> None:
    """One request now and then, on the reference machine: TTFT and TBT of 1x, plus the transfer and the next token."""
    perf, ref = replica("llama2-70b", "dgx-a100"), reference("llama2-70b")
    requests = Traffic(Classes(np.array([1000.0]), np.array([201.0]), np.array([1.0])), ((1e-4, 1.0),))
    prompt, token = PromptStage(perf, requests, ref), TokenStage(perf, requests, ref, perf)
    one = np.array([1], dtype=np.int64)
    assert prompt.exceedance("slowdown", 0.999, one)[0] == pytest.approx(1.0)
    assert prompt.exceedance("slowdown", 1.001, one)[0] < 1e-3
    assert token.exceedance("slowdown", 0.995, one)[0] == pytest.approx(1.0)
    assert token.exceedance("slowdown", 1.02, one)[0] < 2e-3
    pair = SplitLatency(prompt, token, requests)
    assert pair.exceedance("slowdown", 0.995, one, 1)[0] == pytest.approx(1.0)
    assert pair.exceedance("slowdown", 1.02, one, 1)[0] < 2e-3


def test_outputs_of_one_token_have_no_tbt_and_need_no_token_pool() -> None:
    c = Classes(np.array([500.0]), np.array([1.0]), np.array([1.0]))
    perf, ref = replica("llama2-70b", "dgx-h100"), reference("llama2-70b")
    one = np.array([1], dtype=np.int64)
    stage = TokenStage(perf, Traffic(c, ((1.0, 1.0),)), ref, perf)
    assert stage.memory.tokens_per_request == 0.0
    assert stage.exceedance("seconds", 1e-9, one)[0] == 0.0


def test_a_request_that_no_replica_holds_is_refused() -> None:
    c = Classes(np.array([1e6]), np.array([1000.0]), np.array([1.0]))
    perf = replica("bloom-176b", "dgx-h100")
    with pytest.raises(ModelDoesNotFitError, match="holds no request of"):
        _ = TokenStage(perf, Traffic(c, ((1.0, 1.0),)), reference("bloom-176b"), perf).memory


def test_memory_in_sequences_counts_the_longer_stay_of_long_outputs() -> None:
    perf = replica("bloom-176b", "dgx-h100")
    c = Classes(np.array([1000.0, 1000.0]), np.array([101.0, 1001.0]), np.array([0.5, 0.5]))
    memory = TokenStage(perf, Traffic(c, ((1.0, 1.0),)), reference("bloom-176b"), perf).memory
    assert memory.tokens == pytest.approx((100 * 1101 + 1000 * 2001) / 1100)
    assert memory.tokens_arriving == pytest.approx((1101 + 2001) / 2)
    unused = (1101**2 + 2001**2) / (1101 + 2001) / 2
    assert memory.sequences == pytest.approx((perf.kv_capacity_tokens - unused) / memory.tokens)
    assert memory.queue_stretch == pytest.approx((100**2 + 1000**2) / 2 / 550**2 / 2)


def test_link_load_is_the_kv_cache_that_arrives_over_the_link() -> None:
    perf, ref = replica("bloom-176b", "dgx-h100"), reference("bloom-176b")
    c = Classes(np.array([2000.0]), np.array([100.0]), np.array([1.0]))
    stage = TokenStage(perf, Traffic(c, ((10.0, 1.0),)), ref, perf)
    expected = 10.0 * 2000.0 * perf.kv_bytes_per_token / (4.0 * perf.link_bytes_per_s)
    assert float(stage.link_load(np.array([4], dtype=np.int64))[0]) == pytest.approx(expected)


@pytest.mark.parametrize("workload", ["coding", "conversation"])
@pytest.mark.parametrize("metric", ["ttft", "tbt"])
def test_all_sizes_to_200_are_computed_in_arrays(metric: str, workload: str) -> None:
    """Functions called: 5,000 (prompt) and 30,000 (token); a loop over classes of requests would add 10^5."""
    requests = traffic(workload, 70.0)

    def calls(largest: int) -> int:
        exceedance = stages("llama2-70b", "dgx-h100", requests)[metric]
        return calls_of(lambda: exceedance("slowdown", 2.0, np.arange(1, largest + 1, dtype=np.int64)))

    calls(1)  # loads curves, imports scipy
    assert requests.classes.weight.size > 500
    assert calls(200) < {"ttft": 10_000, "tbt": 50_000}[metric]
    assert (calls(200) - calls(100)) / 100 < {"ttft": 20, "tbt": 250}[metric]


@settings(max_examples=20, deadline=None)
@given(model_names, machine_names, workload_names, rates, st.sampled_from((0.6, 1.0, 3.0)))
def test_the_load_of_a_prompt_pool_needs_no_queue(
    model: str, machine: str, workload: str, rate_rps: float, cv: float
) -> None:
    """It is that of the pool's queues, in the busiest of several windows."""
    requests = Traffic(classes_of(workload), ((rate_rps, 0.5), (2.0 * rate_rps, 0.5)), cv)
    stage = PromptStage(replica(model, machine), requests, reference(model))
    by_queues = np.max([pool.load for pool in stage.pools(SIZES)], axis=0)
    np.testing.assert_array_equal(stage.load(SIZES), by_queues)
    assert stage.stable(SIZES).tolist() == np.all([pool.stable for pool in stage.pools(SIZES)], axis=0).tolist()
    assert PromptStage.load is not Stage.load


@pytest.mark.parametrize("windows", [1, 20])
def test_what_a_token_pool_shares_between_limits_changes_nothing(windows: int) -> None:
    """Shares from tables that other limits and other prompt machines have filled are those of fresh ones."""
    requests = Traffic(classes_of("coding"), ((40.0, 1.0 / windows),) * windows)
    ref, token, sources = reference("llama2-70b"), replica("llama2-70b", "dgx-a100"), ("dgx-a100", "dgx-h100")
    tables: dict[Any, Any] = {}
    for source in sources:
        prompt = PromptStage(replica("llama2-70b", source), requests, ref)
        shared = TokenStage(token, requests, ref, prompt.perf, tables=tables)
        fresh = TokenStage(token, requests, ref, prompt.perf)
        for value in (2.0, 3.5):
            sizes = np.array([4, 6], dtype=np.int64)
            np.testing.assert_array_equal(
                shared.exceedance("slowdown", value, sizes), fresh.exceedance("slowdown", value, sizes)
            )
            mine, theirs = (SplitLatency(prompt, each, requests) for each in (shared, fresh))
            np.testing.assert_array_equal(
                mine.exceedance("slowdown", value, SIZES, 5), theirs.exceedance("slowdown", value, SIZES, 5)
            )
