"""An independent, slow, event-by-event simulation of strict pools and of mixed batching: a test oracle only.

It shares nothing with the queueing formulas but the latency curves of one replica, and is written to be read: one
class per kind of replica, plain lists, a heap of events ``(time_s, order, replica or request)``.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

import numpy as np
from numpy.typing import NDArray

from provisioner.perf.assumptions import ReplicaPerf
from provisioner.specs.workload import Workload

Array = NDArray[np.float64]

BATCH_TOKENS = 2048
BATCH_REQUESTS = 512

# Order of events at equal times: work that ends comes before work that begins.
PROMPTS_DONE, TOKENS_DONE, TRANSFER_DONE, ARRIVAL = range(4)


@dataclass(frozen=True)
class Requests:
    """Arriving requests, in order of time; arrays (R,).

    With ``follows`` and ``delay_s`` a request whose ``follows`` is not -1 arrives so long after the end of that one.
    """

    arrival_s: Array
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    follows: NDArray[np.int64] | None = None
    delay_s: Array | None = None

    def arrivals(self) -> list[tuple[float, int, int]]:
        """Events of the arrivals that are known beforehand, as a heap."""
        waits = np.zeros(self.arrival_s.size, bool) if self.follows is None else self.follows >= 0
        events = [(t, ARRIVAL, r) for r, t in enumerate(self.arrival_s.tolist()) if not waits[r]]
        heapify(events)
        return events

    def after(self, request: int, now_s: float) -> list[tuple[float, int, int]]:
        """Events of the arrivals that wait for a request that ends now."""
        if self.follows is None or self.delay_s is None:
            return []
        return [(now_s + float(self.delay_s[r]), ARRIVAL, int(r)) for r in np.flatnonzero(self.follows == request)]


@dataclass(frozen=True)
class Latencies:
    """Latencies of each request (R,), in s; NaN if it has no time between tokens."""

    ttft_s: Array
    tbt_s: Array
    e2e_s: Array
    arrival_s: Array


def draw(workload: Workload, rate_rps: float, count: int, seed: int, cv: float = 1.0) -> Requests:
    """``count`` requests of a workload: Poisson arrivals, or Gamma-distributed gaps of another CV."""
    rng = np.random.default_rng(seed)
    prompt, output = workload.sample(rng, count)
    gaps_s = rng.gamma(1.0 / cv**2, cv**2 / rate_rps, count)
    return Requests(np.cumsum(gaps_s), prompt, output)


class PromptTimes:
    """Time of a prompt iteration by whole tokens, looked up."""

    def __init__(self, perf: ReplicaPerf, largest: int) -> None:
        self.seconds: list[float] = [0.0, *perf.prompt_s(np.arange(1.0, largest + 1.0)).tolist()]

    def __call__(self, tokens: int) -> float:
        return self.seconds[tokens]


class DecodeTimes:
    """Time of a decode iteration: linear in the context for each batch, looked up by batch."""

    def __init__(self, perf: ReplicaPerf) -> None:
        batch = np.arange(1.0, BATCH_REQUESTS + 1.0)
        self.base_s: list[float] = [0.0, *perf.decode_s(batch, 0.0 * batch).tolist()]
        self.per_token_s = float(perf.decode_s(1.0, 1.0)) - float(perf.decode_s(1.0, 0.0))

    def __call__(self, batch: int, context_tokens: int) -> float:
        return self.base_s[batch] + self.per_token_s * context_tokens


@dataclass
class PromptReplica:
    """Runs prompts in order of arrival, as many as fit the token limit in one iteration; one alone always fits."""

    pending_tokens: int = 0
    queue: deque[int] = field(default_factory=deque)
    running: list[int] = field(default_factory=list)

    def next_batch(self, prompt_tokens: list[int]) -> int:
        """Move waiting prompts into the next iteration; its tokens."""
        self.running, tokens = [], 0
        while self.queue and (not self.running or tokens + prompt_tokens[self.queue[0]] <= BATCH_TOKENS):
            request = self.queue.popleft()
            self.running.append(request)
            tokens += prompt_tokens[request]
        return tokens


@dataclass
class TokenReplica:
    """Continuous batching: sequences join between iterations, in order, while KV memory and the batch have room."""

    kv_capacity_tokens: float
    reserved_tokens: int = 0  # of all requests sent here, from their arrival at the cluster to their end
    held_tokens: int = 0  # of the sequences in the batch: prompt and whole output
    context_tokens: int = 0
    iteration: int = 0
    idle: bool = True
    waiting: deque[int] = field(default_factory=deque)
    batch: list[tuple[int, int]] = field(default_factory=list)  # heap of (iteration that ends it, request)

    def admits(self, tokens: int) -> bool:
        """Whether one more sequence with this many tokens in all fits."""
        return len(self.batch) < BATCH_REQUESTS and self.held_tokens + tokens <= self.kv_capacity_tokens

    def admit(self, request: int, prompt: int, output: int) -> None:
        """Put a sequence that has its first token into the batch."""
        heappush(self.batch, (self.iteration + output - 1, request))
        self.held_tokens += prompt + output
        self.context_tokens += prompt + 1

    def finish_iteration(self, prompt_tokens: list[int], output_tokens: list[int]) -> list[int]:
        """Give every sequence its token; the requests that are complete, whose memory is free again."""
        self.iteration += 1
        self.context_tokens += len(self.batch)
        done = []
        while self.batch and self.batch[0][0] == self.iteration:
            _, request = heappop(self.batch)
            total = prompt_tokens[request] + output_tokens[request]
            self.held_tokens -= total
            self.context_tokens -= total
            done.append(request)
        return done


def simulate_split(
    requests: Requests, prompt_perf: ReplicaPerf, token_perf: ReplicaPerf, prompt_replicas: int, token_replicas: int
) -> Latencies:
    """Strict pools: at arrival, the prompt replica with the fewest pending tokens and the token replica with the
    fewest reserved KV tokens are chosen together; the KV cache moves between the two phases, transfers at once."""
    prompt, output = requests.prompt_tokens.tolist(), requests.output_tokens.tolist()
    prompt_s = PromptTimes(prompt_perf, max(BATCH_TOKENS, max(prompt)))
    decode_s = DecodeTimes(token_perf)
    transfer_s = prompt_perf.transfer_visible_s(requests.prompt_tokens.astype(np.float64), token_perf).tolist()
    prompts = [PromptReplica() for _ in range(prompt_replicas)]
    tokens = [TokenReplica(token_perf.kv_capacity_tokens) for _ in range(token_replicas)]
    goes_to = [tokens[0]] * len(prompt)
    first_s, last_s = [0.0] * len(prompt), [0.0] * len(prompt)
    number = {id(replica): k for k, replica in enumerate(tokens)}
    arrival_s, events = requests.arrival_s.tolist(), requests.arrivals()

    def ended(request: int, now_s: float) -> None:
        for event in requests.after(request, now_s):
            heappush(events, event)

    def start_prompts(k: int, now_s: float) -> None:
        heappush(events, (now_s + prompt_s(prompts[k].next_batch(prompt)), PROMPTS_DONE, k))

    def start_tokens(replica: TokenReplica, now_s: float) -> None:
        while replica.waiting and replica.admits(prompt[replica.waiting[0]] + output[replica.waiting[0]]):
            request = replica.waiting.popleft()
            replica.admit(request, prompt[request], output[request])
        replica.idle = not replica.batch
        if replica.batch:
            duration_s = decode_s(len(replica.batch), replica.context_tokens)
            heappush(events, (now_s + duration_s, TOKENS_DONE, number[id(replica)]))

    while events:
        now_s, event, which = heappop(events)
        if event == ARRIVAL:
            arrival_s[which] = now_s
            k = min(range(prompt_replicas), key=[replica.pending_tokens for replica in prompts].__getitem__)
            prompts[k].pending_tokens += prompt[which]
            prompts[k].queue.append(which)
            goes_to[which] = min(tokens, key=lambda replica: replica.reserved_tokens)
            goes_to[which].reserved_tokens += prompt[which] + output[which]
            if not prompts[k].running:
                start_prompts(k, now_s)
        elif event == PROMPTS_DONE:
            for request in prompts[which].running:
                first_s[request] = now_s
                prompts[which].pending_tokens -= prompt[request]
                if output[request] > 1:
                    heappush(events, (now_s + transfer_s[request], TRANSFER_DONE, request))
                else:
                    last_s[request] = now_s
                    ended(request, now_s)
                    goes_to[request].reserved_tokens -= prompt[request] + output[request]
            prompts[which].running = []
            if prompts[which].queue:
                start_prompts(which, now_s)
        elif event == TRANSFER_DONE:
            goes_to[which].waiting.append(which)
            if goes_to[which].idle:
                start_tokens(goes_to[which], now_s)
        else:
            for request in tokens[which].finish_iteration(prompt, output):
                last_s[request] = now_s
                ended(request, now_s)
                tokens[which].reserved_tokens -= prompt[request] + output[request]
            start_tokens(tokens[which], now_s)
    return _latencies(requests, arrival_s, first_s, last_s)


@dataclass
class MixedReplica(TokenReplica):
    """Both phases: prompts go first; the decode batch rides along when it fits the token limit beside them."""

    pending_tokens: int = 0
    running: list[int] = field(default_factory=list)
    decodes: bool = False

    def next_prompts(self, prompt_tokens: list[int], output_tokens: list[int]) -> int:
        """Move waiting prompts into the next iteration while tokens, batch and memory allow; their tokens."""
        self.running, tokens = [], 0
        while self.waiting:
            request = self.waiting[0]
            total = prompt_tokens[request] + output_tokens[request]
            beyond = self.running and tokens + prompt_tokens[request] > BATCH_TOKENS
            full = len(self.batch) + len(self.running) >= BATCH_REQUESTS
            if beyond or full or self.held_tokens + total > self.kv_capacity_tokens:
                break
            self.running.append(self.waiting.popleft())
            self.held_tokens += total
            tokens += prompt_tokens[request]
        self.decodes = bool(self.batch) and (not self.running or tokens + len(self.batch) <= BATCH_TOKENS)
        return tokens


def simulate_mixed(requests: Requests, perf: ReplicaPerf, replicas: int) -> Latencies:
    """Mixed batching on every replica: join the fewest pending tokens (prompts not done, one per sequence)."""
    prompt, output = requests.prompt_tokens.tolist(), requests.output_tokens.tolist()
    prompt_s = PromptTimes(perf, max(BATCH_TOKENS, max(prompt)))
    decode_s = DecodeTimes(perf)
    pool = [MixedReplica(perf.kv_capacity_tokens) for _ in range(replicas)]
    first_s, last_s = [0.0] * len(prompt), [0.0] * len(prompt)
    arrival_s, events = requests.arrival_s.tolist(), requests.arrivals()

    def ended(request: int, now_s: float) -> None:
        for event in requests.after(request, now_s):
            heappush(events, event)

    def start(k: int, now_s: float) -> None:
        replica = pool[k]
        tokens = replica.next_prompts(prompt, output)
        replica.idle = not (replica.running or replica.batch)
        if replica.idle:
            return
        alone_s = decode_s(len(replica.batch), replica.context_tokens)
        if not replica.running:
            duration_s = alone_s
        elif replica.decodes:
            rule, batch = perf.mixed, len(replica.batch)
            beside_s = rule.s_per_sequence * batch + rule.s_per_token * replica.context_tokens
            duration_s = max(rule.factor * prompt_s(tokens + batch) + beside_s, alone_s)
        else:
            duration_s = prompt_s(tokens)
        heappush(events, (now_s + duration_s, TOKENS_DONE, k))

    while events:
        now_s, event, which = heappop(events)
        if event == ARRIVAL:
            arrival_s[which] = now_s
            k = min(range(replicas), key=[replica.pending_tokens for replica in pool].__getitem__)
            pool[k].pending_tokens += prompt[which] + 1
            pool[k].waiting.append(which)
            if pool[k].idle:
                start(k, now_s)
            continue
        replica = pool[which]
        if replica.decodes:
            for request in replica.finish_iteration(prompt, output):
                last_s[request] = now_s
                ended(request, now_s)
                replica.pending_tokens -= 1
        for request in replica.running:
            first_s[request] = now_s
            replica.pending_tokens -= prompt[request]
            replica.held_tokens -= prompt[request] + output[request]  # admitted again with its memory below
            if output[request] > 1:
                replica.admit(request, prompt[request], output[request])
            else:
                last_s[request] = now_s
                ended(request, now_s)
                replica.pending_tokens -= 1
        start(which, now_s)
    return _latencies(requests, arrival_s, first_s, last_s)


def _latencies(requests: Requests, arrival_s: list[float], first_s: list[float], last_s: list[float]) -> Latencies:
    arrival, first, last = np.array(arrival_s), np.array(first_s), np.array(last_s)
    gaps = requests.output_tokens - 1.0
    tbt_s = np.where(gaps > 0, (last - first) / np.maximum(gaps, 1.0), np.nan)
    return Latencies(first - arrival, tbt_s, last - arrival, arrival)
