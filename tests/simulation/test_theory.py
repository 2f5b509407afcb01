"""With degenerate curves the simulator is a queue that theory solves: means and distributions, by confidence interval.

Twelve independent request sets each, and the 99.9 % interval of their mean must hold the formula. Seeds are fixed, so
that a test that passes once always does.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import log

import numpy as np
import pytest
from numpy.random import Generator
from scipy.stats import poisson

from provisioner.simulation.measure import percentiles
from provisioner.simulation.policy import Policy
from provisioner.simulation.requests import RequestSet
from provisioner.simulation.run import Run
from tests.oracles.erlang import erlang_c
from tests.simulation.clusters import Degenerate, Floats, Integers, assert_mean, cluster, e2e_s, serve, ttft_s

SETS = 12
NEVER = 1 << 40  # preemptions, pending tokens

Lengths = Callable[[Generator, int], Integers]


def poisson_arrivals(rng: Generator, rate_rps: float, prompt: Integers, output: Integers) -> RequestSet:
    arrival_s = np.cumsum(rng.exponential(1.0 / rate_rps, prompt.size))
    return RequestSet(arrival_s, prompt, output, rate_rps=rate_rps, from_s=0.1 * arrival_s[-1])


def each_set() -> list[Generator]:
    return [np.random.default_rng([20, k]) for k in range(SETS)]


def policy(name: str, **fields: float) -> Policy:
    return Policy(name, max_preemptions=NEVER, max_pending_tokens=NEVER, **fields)  # type: ignore[arg-type]


# -- one server, first come first served: a prompt replica that takes one prompt at a time


@pytest.mark.parametrize("name", ["split", "mixed", "splitwise", "chunked"])
@pytest.mark.parametrize("load", [0.2, 0.4, 0.6, 0.8, 0.9])
def test_equal_prompts_one_at_a_time_are_an_m_d_1_queue(name: str, load: float) -> None:
    """Wait = load D / (2 (1 - load)); a share 1 - load does not wait at all (arrivals see time averages)."""
    service_s = 0.25
    perf = Degenerate(lambda tokens: service_s * tokens / 2048)
    means, idle = [], []
    for rng in each_set():
        lengths = np.full(8_000 if load < 0.9 else 30_000, 2048)
        done = serve(
            cluster(policy(name), perf), poisson_arrivals(rng, load / service_s, lengths, np.ones_like(lengths))
        )
        wait_s = ttft_s(done)[done.prepared.requests.counted] - service_s
        means.append(wait_s.mean())
        idle.append(np.mean(wait_s < 1e-9))
    assert_mean(means, load * service_s / (2 * (1 - load)), narrow=0.2)
    assert_mean(idle, 1 - load)


@dataclass(frozen=True)
class Distribution:
    """Prompt lengths with their first two moments, in tokens."""

    draw: Lengths
    mean: float
    square: float


def of_values(values: list[int], weights: list[float]) -> Distribution:
    v, w = np.array(values), np.array(weights) / sum(weights)
    return Distribution(lambda rng, n: rng.choice(v, n, p=w), float(w @ v), float(w @ v**2))


def geometric(mean: float) -> Distribution:
    """An exponential length in whole tokens."""
    p = 1.0 / mean
    return Distribution(lambda rng, n: rng.geometric(p, n), mean, (2 - p) / p**2)


def erlang(stages: int, mean: float) -> Distribution:
    p = stages / mean
    variance = stages * (1 - p) / p**2
    draw: Lengths = lambda rng, n: rng.geometric(p, (stages, n)).sum(axis=0)  # noqa: E731
    return Distribution(draw, mean, variance + mean**2)


DISTRIBUTIONS = {
    "uniform": Distribution(lambda rng, n: rng.integers(1, 2000, n), 1000.0, float(np.mean(np.arange(1, 2000.0) ** 2))),
    "two-point": of_values([100, 4000], [0.8, 0.2]),
    "exponential": geometric(1000.0),
    "erlang-4": erlang(4, 1000.0),
    "heavy": of_values([2**k for k in range(4, 14)], [2.0 ** (-1.8 * k) for k in range(4, 14)]),
}
S_PER_TOKEN = 1e-4


@pytest.mark.parametrize("name", ["split", "mixed"])
@pytest.mark.parametrize("lengths", DISTRIBUTIONS)
@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_prompts_one_at_a_time_are_an_m_g_1_queue(name: str, lengths: str, load: float) -> None:
    """Pollaczek and Khinchine: TTFT = E S + rate E S^2 / (2 (1 - load))."""
    these = DISTRIBUTIONS[lengths]
    mean_s, square_s2 = S_PER_TOKEN * these.mean, S_PER_TOKEN**2 * these.square
    perf = Degenerate(lambda tokens: S_PER_TOKEN * tokens)
    means = []
    for rng in each_set():
        prompt = these.draw(rng, 8_000 if lengths != "heavy" else 60_000)
        requests = poisson_arrivals(rng, load / mean_s, prompt, np.ones_like(prompt))
        done = serve(cluster(policy(name, batch_tokens=1), perf), requests)
        means.append(ttft_s(done)[requests.counted].mean())
    assert_mean(means, mean_s + load / mean_s * square_s2 / (2 * (1 - load)), narrow=0.5)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8, 0.9])
def test_percentiles_of_an_m_m_1_queue(load: float) -> None:
    """Time in an M/M/1 queue is exponential with mean E S / (1 - load)."""
    these = DISTRIBUTIONS["exponential"]
    mean_s = S_PER_TOKEN * these.mean
    perf = Degenerate(lambda tokens: S_PER_TOKEN * tokens)
    found = []
    for rng in each_set():
        prompt = these.draw(rng, 20_000 if load < 0.9 else 60_000)
        done = serve(
            cluster(policy("split", batch_tokens=1), perf),
            poisson_arrivals(rng, load / mean_s, prompt, np.ones_like(prompt)),
        )
        found.append(percentiles(done.latencies.both("ttft")[0], (50, 90, 99)))
    for of, values in zip((0.5, 0.9, 0.99), np.transpose(found), strict=True):
        assert_mean(values, -log(1 - of) * mean_s / (1 - load), slack=S_PER_TOKEN, narrow=0.3)


# -- several servers and one queue: a token replica with a limited batch, and decode that does not slow


def token_phase_s(done: Run) -> Floats:
    here = done.requests[done.prepared.requests.counted]
    return np.asarray(here["last_s"] - here["first_s"])


def places(servers: int, load: float, output: Integers, iteration_s: float, rng: Generator) -> Floats:
    """Waits for a place in the batch, in s, of the measured requests."""
    perf = Degenerate(lambda tokens: 1e-9 * tokens, lambda batch, context: iteration_s + 0.0 * batch * context)
    rate = load * servers / (float(np.mean(output) - 1) * iteration_s)
    requests = poisson_arrivals(rng, rate, np.ones_like(output), output)
    done = serve(cluster(policy("split", batch_requests=servers), perf), requests)
    return token_phase_s(done) - (output[requests.counted] - 1) * iteration_s


@pytest.mark.parametrize("servers", [1, 2, 5, 20, 60])
@pytest.mark.parametrize("load", [0.5, 0.8, 0.9])
def test_places_in_a_batch_are_an_m_m_c_queue(servers: int, load: float) -> None:
    """Mean wait = C / (c mu - rate), with Erlang's C; a request joins at an iteration's boundary, up to one later."""
    iterations, iteration_s = 20_000.0, 1e-4
    service_s = iterations * iteration_s
    waits, share = [], []
    for rng in each_set():
        wait_s = places(servers, load, 1 + rng.geometric(1 / iterations, 12_000), iteration_s, rng)
        waits.append(wait_s.mean())
        share.append(np.mean(wait_s > 1.001 * iteration_s))
    probability = erlang_c(servers, servers * load)
    # the rate is set by the sample's mean service, so the sets agree better than independent ones would
    assert_mean(share, probability, slack=2e-3, narrow=0.3)
    assert_mean(waits, probability * service_s / (servers * (1 - load)), slack=iteration_s, narrow=0.6)


def crommelin_wait(servers: int, load: float) -> float:
    """Mean wait of M/D/c over the service time: a sum over the number of services that could have passed."""
    i = np.arange(1.0, 5_000.0)
    beyond = poisson.sf(i * servers - 1, i * servers * load) - poisson.sf(i * servers, i * servers * load) / load
    return float(np.sum(beyond))


def test_crommelin_with_one_server_is_m_d_1() -> None:
    assert crommelin_wait(1, 0.8) == pytest.approx(0.8 / (2 * 0.2))


@pytest.mark.parametrize("servers", [1, 3, 10, 40])
@pytest.mark.parametrize("load", [0.5, 0.8, 0.9])
def test_places_in_a_batch_with_equal_outputs_are_an_m_d_c_queue(servers: int, load: float) -> None:
    iterations, iteration_s = 20_000, 1e-4
    waits = [places(servers, load, np.full(30_000, 1 + iterations), iteration_s, rng).mean() for rng in each_set()]
    assert_mean(waits, crommelin_wait(servers, load) * iterations * iteration_s, slack=iteration_s, narrow=0.3)


@pytest.mark.parametrize("offered", [0.5, 3.0, 20.0])
@pytest.mark.parametrize("lengths", ["two-point", "exponential"])
def test_batch_without_limit_is_poisson(offered: float, lengths: str) -> None:
    """M/G/infinity: the number of sequences is Poisson in time, whatever the distribution of their lengths."""
    iteration_s, these = 1e-3, DISTRIBUTIONS[lengths]
    perf = Degenerate(lambda tokens: 1e-9 * tokens, lambda batch, context: iteration_s + 0.0 * batch * context)
    sizes = np.arange(60)
    shares = []
    for rng in each_set():
        output = 1 + these.draw(rng, 4_000)
        rate = offered / (these.mean * iteration_s)
        done = serve(cluster(policy("split"), perf), poisson_arrivals(rng, rate, np.ones_like(output), output))
        time_s = done.batch_time_s[1, : sizes.size]
        shares.append(np.append(1 - time_s[1:].sum() / done.window_s, time_s[1:] / done.window_s))
    expected = poisson.pmf(sizes, offered)
    for size in np.flatnonzero(expected > 0.02):
        assert_mean(np.array(shares)[:, size], float(expected[size]), slack=0.003, narrow=0.5)
    assert_mean(np.array(shares) @ sizes, offered, slack=0.003)


# -- processor sharing: a token replica whose iteration takes as long as its sequences together


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
@pytest.mark.parametrize("lengths", ["two-point", "exponential", "erlang-4"])
def test_decode_linear_in_the_batch_is_processor_sharing(load: float, lengths: str) -> None:
    """M/G/1-PS: E[time | size] = size / (1 - load); the number in it is geometric, whatever the distribution."""
    each_s, these = 1e-4, DISTRIBUTIONS[lengths]
    perf = Degenerate(lambda tokens: 1e-9 * tokens, lambda batch, context: each_s * batch + 0.0 * context)
    edges = [0, these.mean, np.inf]
    ratios, shares = [], []
    for rng in each_set():
        output = 1 + these.draw(rng, 8_000 if load < 0.8 else 20_000)
        requests = poisson_arrivals(rng, load / (these.mean * each_s), np.ones_like(output), output)
        done = serve(cluster(policy("split"), perf), requests)
        size_s = (output[requests.counted] - 1) * each_s
        took_s, counts = token_phase_s(done), output[requests.counted] - 1
        bins = [(counts >= low) & (counts < high) for low, high in pairwise(edges)]
        ratios.append([took_s[here].sum() / size_s[here].sum() for here in bins])
        time_s = done.batch_time_s[1] / done.window_s
        shares.append([1 - time_s[1:].sum(), *time_s[1:4]])
    for ratio in np.transpose(ratios):  # an arrival waits for the boundary: part of an iteration of what is there
        assert_mean(ratio, 1 / (1 - load), slack=0.015 / (1 - load), narrow=0.2)
    for number, share in enumerate(np.transpose(shares)):
        assert_mean(share, (1 - load) * load**number, slack=0.003, narrow=0.3)


# -- several prompt replicas: between one queue for all and one for each


@pytest.mark.parametrize("replicas", [2, 6, 20])
@pytest.mark.parametrize("load", [0.6, 0.9])
def test_joining_the_fewest_pending_tokens_is_between_one_queue_and_many(replicas: int, load: float) -> None:
    service_s = 0.1
    perf = Degenerate(lambda tokens: service_s * tokens / 1000)
    waits = []
    for rng in each_set():
        lengths = np.full(10_000, 1000)
        requests = poisson_arrivals(rng, load * replicas / service_s, lengths, np.ones_like(lengths))
        done = serve(cluster(policy("mixed", batch_tokens=1), perf, replicas), requests)
        waits.append(float(ttft_s(done)[requests.counted].mean()) - service_s)
    assert np.mean(waits) > 0.97 * crommelin_wait(replicas, load) * service_s
    assert np.mean(waits) < 0.8 * load * service_s / (2 * (1 - load))


def test_routing_among_idle_equals_takes_the_first() -> None:
    perf = Degenerate(lambda tokens: 1e-3 * tokens)
    done = serve(cluster("mixed", perf, 3), [(1.0, 100, 1), (2.0, 100, 1), (2.01, 100, 1), (2.02, 100, 1)])
    assert done.requests["prompt_at"].tolist() == [0, 0, 1, 2]


# -- a closed loop


@pytest.mark.parametrize("in_flight", [1, 2, 5, 20])
def test_closed_loop_through_prompt_and_token_replica_is_a_product_form_network(in_flight: int) -> None:
    """Two stations of equal mean demand, exponential FCFS and PS: throughput = N / (N + 1) / demand."""
    tokens, each_s = 1000.0, 1e-4
    perf = Degenerate(lambda t: each_s * t, lambda batch, context: each_s * batch + 0.0 * context)
    rates = []
    for rng in each_set():
        prompt, output = (rng.geometric(1 / tokens, 6_000) for _ in range(2))
        requests = RequestSet(np.zeros(6_000), prompt, 1 + output, rate_rps=float("nan"), in_flight=in_flight)
        done = serve(cluster(policy("split", batch_tokens=1), perf), requests)
        last_s = np.sort(done.requests["last_s"])
        rates.append(5_000 / (last_s[5_500] - last_s[500]))
    assert_mean(rates, in_flight / (in_flight + 1) / (tokens * each_s), slack=0.003 / (tokens * each_s))


# -- what holds exactly in every run


@pytest.mark.parametrize("seed", range(5))
def test_time_averages_are_sums_over_requests(seed: int) -> None:
    """Little's law without its limit: the integral of a number in a place is the sum of the times spent there."""
    rng = np.random.default_rng(seed)
    prompt, output = rng.integers(1025, 2000, 500), rng.integers(2, 300, 500)  # two prompts never fit together
    perf = Degenerate(lambda t: 1e-4 * t, lambda batch, context: 1e-3 * (batch + 5) + 1e-8 * context)
    requests = RequestSet(np.cumsum(rng.exponential(0.17, 500)), prompt, output, rate_rps=6.0)
    done = serve(cluster(policy("split"), perf, 1, perf, 2), requests)
    # the measured window ends with the last arrival; what is in the cluster is known from the timestamps
    end_s = float(requests.arrival_s[-1])
    prompt_s = 1e-4 * prompt
    first_s, last_s = done.requests["first_s"], done.requests["last_s"]

    def until_end(start: Floats, end: Floats) -> Floats:
        return np.maximum(np.minimum(end, end_s) - np.minimum(start, end_s), 0.0)

    assert done.window_s == end_s
    assert done.replicas["prompts_busy_s"][0] == pytest.approx(until_end(first_s - prompt_s, first_s).sum())
    assert done.replicas["queue_s"][0] == pytest.approx(until_end(requests.arrival_s, first_s - prompt_s).sum())
    held = ((prompt + output) * until_end(first_s, last_s)).sum()
    assert done.replicas["kv_token_s"][1:].sum() == pytest.approx(held)
    held = ((prompt + 1) * until_end(first_s - prompt_s, first_s)).sum()  # the transfer takes no time
    assert done.replicas["kv_token_s"][0] == pytest.approx(held)
    sizes = np.arange(done.batch_time_s.shape[1])
    in_batch = done.batch_time_s[1] @ sizes
    waited = until_end(first_s, last_s).sum() - in_batch  # for the boundary: less than an iteration each
    assert 0.0 <= waited < 0.05 * in_batch
    assert done.replicas["tokens_busy_s"][1:].sum() == pytest.approx(done.batch_time_s[1, 1:].sum())
    assert done.replicas["generated_tokens"].sum() == output.sum()


@pytest.mark.parametrize("load", [0.3, 0.7, 0.95])
def test_utilisation_is_the_offered_load(load: float) -> None:
    perf = Degenerate(lambda tokens: 1e-4 * tokens)
    busy = []
    for rng in each_set():
        prompt = rng.integers(1, 2000, 20_000)
        requests = poisson_arrivals(rng, load * 4 / 0.1, prompt, np.ones_like(prompt))
        done = serve(cluster(policy("mixed", batch_tokens=1), perf, 4), requests)
        busy.append(done.replicas["prompts_busy_s"].sum() / (4 * done.window_s))
    assert_mean(busy, load, narrow=0.03)


def test_e2e_is_the_sum_of_its_phases() -> None:
    perf = Degenerate(lambda tokens: 1e-4 * tokens)
    done = serve(cluster("split", perf), [(0.5, 1000, 11)])
    assert e2e_s(done)[0] == pytest.approx(0.1 + 10 * 1e-3)
