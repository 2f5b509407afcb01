"""Stages of one pool under load: the prompt stage, the token stage, and both in line.

A stage joins a replica's latency curves with the queueing formulas and computes, for arrays of pool sizes in machines,
the share of the requests that exceeds a limit. Feasibility and percentiles both come from this share.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from provisioner.errors import ModelDoesNotFitError
from provisioner.perf.assumptions import Reference, ReplicaPerf, tbt_divisor
from provisioner.perf.transfer import PER_LAYER_FIXED_S
from provisioner.queueing.erlang import peakedness
from provisioner.queueing.prompt_pool import Filling, Packing, PromptPool, prompt_load, prompt_pools
from provisioner.queueing.token_pool import ATOMS, BATCH_REQUESTS, TokenPool, token_pool
from provisioner.queueing.traffic import LARGEST_STABLE_LOAD, Array, Classes, Queues, Sizes, Traffic

_MERGED = np.array([0, 2, 4, 6, 8, 10])  # first of the atoms that end-to-end times take together: they matter little
# Gauss-Hermite quadrature of a standard normal.
_NORMAL_NODES = np.array([-2.8569700138728, -1.3556261799743, 0.0, 1.3556261799743, 2.8569700138728])
_NORMAL_WEIGHTS = np.array([0.0112574113277, 0.2220759220056, 0.5333333333333, 0.2220759220056, 0.0112574113277])
_FEW_WINDOWS = 8  # occupancies of every class are kept for as many windows: those of a long trace would fill the memory


def limits_s(reference: Reference, metric: str, kind: str, value: float, classes: Classes) -> Array:
    """Limit in s for each class (C,): the value itself, or the value times the metric of the request alone."""
    if kind == "seconds":
        return np.full(classes.weight.shape, value)
    p, o = classes.prompt_tokens, classes.output_tokens
    alone = reference.ttft_s(p) if metric == "ttft" else {"tbt": reference.tbt_s, "e2e": reference.e2e_s}[metric](p, o)
    return value * np.asarray(alone, dtype=np.float64)


Pool = TypeVar("Pool", bound=Queues)
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Stage(ABC, Generic[Pool]):
    """Machines of one type under load; ``tables`` keeps what was computed, such as the queues by sizes.

    Stages of the same machines, traffic and reference may share tables.
    """

    perf: ReplicaPerf
    traffic: Traffic
    reference: Reference
    tables: dict[Hashable, Any] = field(default_factory=dict, repr=False, kw_only=True)

    @abstractmethod
    def _queues(self, rate_rps: float, replicas: Sizes) -> Pool:
        """Queues at one rate, by the number of replicas (N,)."""

    def once(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """Return what ``make`` returned when it was first called for this key."""
        if key not in self.tables:
            self.tables[key] = make()
        result: Made = self.tables[key]
        return result

    def _kept(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """Return what ``make`` returns, kept as by ``once`` unless there are many windows: of what has all classes."""
        return self.once(key, make) if len(self.traffic.windows) <= _FEW_WINDOWS else make()

    def pools(self, sizes: Sizes) -> tuple[Pool, ...]:
        """Queues of every window at these sizes (N,), in machines."""
        replicas = sizes * self.perf.replicas_per_machine
        windows = self.traffic.windows
        return self.once(sizes.tobytes(), lambda: tuple(self._queues(rate, replicas) for rate, _ in windows))

    def load(self, sizes: Sizes) -> Array:
        """Rate over capacity (N,) in the busiest window, the larger one of a stage with two capacities."""
        return np.asarray(np.max([pool.load for pool in self.pools(sizes)], axis=0))

    def stable(self, sizes: Sizes) -> NDArray[np.bool_]:
        """Sizes (N,) at which no window's load reaches the capacity."""
        return np.asarray(np.all([pool.stable for pool in self.pools(sizes)], axis=0))

    def _timed(self) -> tuple[Classes, Array]:
        """Classes (C,) of the requests that have a TBT, and the number of gaps that it is the mean of (C,)."""
        every = self.traffic.by_output
        divisor = tbt_divisor(every.output_tokens, self.perf.assumptions)
        has = divisor > 0.0
        weight = every.weight[has]
        return Classes(every.prompt_tokens[has], every.output_tokens[has], weight / weight.sum()), divisor[has]

    def with_tbt(self, kind: str, value: float) -> tuple[Classes, Array]:
        """Classes (C,) of the requests that have a TBT, and the limit on all gaps of each together (C,) in s."""
        c, divisor = self.once("timed", self._timed)
        return c, limits_s(self.reference, "tbt", kind, value, c) * divisor


@dataclass(frozen=True, slots=True)
class PromptStage(Stage[PromptPool]):
    """The prompt phase on machines of one type."""

    one_queue: bool = False

    @property
    def offered_machines(self) -> float:
        """Number of machines that the prompts of the busiest window keep busy, without batching."""
        c = self.traffic.by_prompt
        mean_s = float(np.sum(c.weight * self.perf.prompt_s(c.prompt_tokens)))
        return self.traffic.peak_rps * mean_s / self.perf.replicas_per_machine

    def _packed(self) -> tuple[Filling, Packing]:
        """The way in which prompts fill iterations, and its effect on their times."""
        fill = Filling(self.traffic.by_prompt.prompt_tokens, self.traffic.by_prompt.weight)
        return fill, fill.packed(self.perf.prompt_s)

    def _queues(self, rate_rps: float, replicas: Sizes) -> PromptPool:
        fill, packed = self.once("packed", self._packed)
        return prompt_pools(fill, [(packed, replicas)], rate_rps, self.traffic.cv, self.one_queue)[0]

    def load(self, sizes: Sizes) -> Array:
        """Rate over capacity (N,) in the busiest window, which needs no queues."""
        fill, packed = self.once("packed", self._packed)
        return prompt_load(fill, packed, self.traffic.peak_rps, sizes * self.perf.replicas_per_machine)

    def stable(self, sizes: Sizes) -> NDArray[np.bool_]:
        """Sizes (N,) at which no window's load reaches the capacity."""
        return self.load(sizes) < LARGEST_STABLE_LOAD

    def exceedance(self, kind: str, value: float, sizes: Sizes) -> Array:
        """Share (N,) of requests whose TTFT is above the limit."""
        c = self.traffic.by_prompt
        slack_s = limits_s(self.reference, "ttft", kind, value, c) - self.perf.prompt_s(c.prompt_tokens)
        total = np.zeros(sizes.shape)
        for (_, share), pool in zip(self.traffic.windows, self.pools(sizes), strict=True):
            total += share * pool.exceedance(c.prompt_tokens, slack_s, c.weight)
        return total


@dataclass(frozen=True, slots=True)
class Occupancy:
    """Batches that requests of each class (C,) share during their life in one pool, as A atoms."""

    iteration_s: Array  # (C, A) mean over the request's life
    probability: Array  # (A,)
    waiting_s: Array  # (C, A) for KV-cache room
    join_s: Array  # (C, A) longest wait for the iteration in progress

    def merged(self) -> "Occupancy":
        """Occupancy with fewer atoms, their conditional means; unchanged if the wait for memory differs by class."""
        if self.probability.size != ATOMS:
            return self
        p = np.add.reduceat(self.probability, _MERGED)

        def mean(values: Array) -> Array:
            return np.add.reduceat(values * self.probability, _MERGED, axis=-1) / p

        return Occupancy(mean(self.iteration_s), p, mean(self.waiting_s), mean(self.join_s))


class Memory:
    """KV memory of a replica in sequences, each of which reserves its whole context, and means of the requests.

    ``sequences`` is the mean capacity. ``tokens`` is the mean that a sequence in the batch reserves, ``size_cv`` its
    coefficient of variation (0 if the scheduler's limit binds first), ``tokens_arriving`` the mean over requests, and
    ``queue_stretch`` the length of the queue for room relative to M/M/c, ``(1 + cv^2) / 2`` of the time that a sequence
    stays. ``tokens_per_request`` are the mean decode iterations over all requests, those that end with their prompt
    included, ``context_tokens`` is the mean context of a sequence in the batch: prompt and half its output.
    Raises ``ModelDoesNotFitError`` if the memory holds not even one sequence.
    """

    def __init__(self, c: Classes, perf: ReplicaPerf) -> None:
        stay = c.weight * c.gaps
        self.tokens_per_request = mean_gaps = float(stay.sum())
        share = stay / mean_gaps if mean_gaps > 0.0 else c.weight
        kv = c.prompt_tokens + c.output_tokens
        self.tokens, mean_square = float(share @ kv), float(share @ kv**2)
        self.tokens_arriving = float(c.weight @ kv)
        # The next sequence that does not fit leaves room unused: the mean residual of a length-biased one.
        unused = float(c.weight @ kv**2) / self.tokens_arriving / 2.0
        held = (perf.kv_capacity_tokens - unused) / self.tokens
        if held < 1.0:
            raise ModelDoesNotFitError(
                f"{perf.machine.name}: KV cache of {perf.kv_capacity_tokens:,.0f} tokens holds no request "
                f"of {self.tokens:,.0f} tokens (prompt and output); use a larger machine"
            )
        self.sequences = min(held, float(BATCH_REQUESTS))
        size_cv = float(np.sqrt(max(mean_square / self.tokens**2 - 1.0, 0.0)))
        self.size_cv = size_cv if held < BATCH_REQUESTS else 0.0
        self.queue_stretch = float(c.weight @ c.gaps**2) / mean_gaps**2 / 2.0 if mean_gaps > 0.0 else 1.0
        self.context_tokens = float(stay @ (c.prompt_tokens + c.output_tokens / 2.0)) / max(mean_gaps, 1e-12)


@dataclass(frozen=True, slots=True)
class TokenStage(Stage[TokenPool]):
    """The token phase on machines of one type, fed by prompt machines of one type."""

    source: ReplicaPerf

    @property
    def memory(self) -> Memory:
        """KV memory of one replica."""
        return self.once(b"memory", lambda: Memory(self.traffic.classes, self.perf))

    def iteration_s(self, batch: Array) -> Array:
        """Time of an iteration of ``batch`` sequences of the mean context, in s; any shape."""
        return np.asarray(self.perf.decode_s(batch, batch * self.memory.context_tokens), dtype=np.float64)

    def occupied(
        self, iteration_s: Callable[[Array], Array], rate_rps: float, replicas: Sizes, peakedness: float = 1.0
    ) -> TokenPool:
        """Occupancy of replicas (M,) with this stage's requests and memory, at given times of iterations."""
        memory = self.memory
        return token_pool(
            iteration_s,
            memory.tokens_per_request,
            rate_rps,
            replicas,
            memory.sequences,
            peakedness,
            memory.size_cv,
            memory.queue_stretch,
        )

    def _queues(self, rate_rps: float, replicas: Sizes) -> TokenPool:
        c, cv = self.traffic.classes, self.traffic.cv
        z = peakedness(cv, c.gaps, c.weight) if cv != 1.0 else 1.0
        return self.occupied(self.iteration_s, rate_rps, replicas, z)

    def load(self, sizes: Sizes) -> Array:
        """Rate over capacity (M,) in the busiest window: the larger of the iterations' and the link's."""
        return np.maximum(Stage.load(self, sizes), self.link_load(sizes))

    def link_load(self, sizes: Sizes) -> Array:
        """Share (M,) of the pool's link bandwidth that arriving KV caches take in the busiest window."""
        if self.perf.assumptions == "splitwise-sim":  # transfers do not slow each other down
            return np.zeros(sizes.shape)
        c = self.traffic.classes
        moved = c.weight * c.prompt_tokens * (c.output_tokens > 1.0)
        bytes_per_s = self.traffic.peak_rps * float(moved.sum()) * self.perf.kv_bytes_per_token
        return bytes_per_s / (sizes.astype(np.float64) * self.perf.link_bytes_per_s)

    def stable(self, sizes: Sizes) -> NDArray[np.bool_]:
        """Sizes (M,) at which no window's load reaches the capacity."""
        return Stage.stable(self, sizes) & (self.link_load(sizes) < LARGEST_STABLE_LOAD)

    def occupancy(self, pool: TokenPool, row: int, classes: Classes) -> Occupancy:
        """Occupancy that requests of each class meet during their life in the pool at one size.

        A long request averages over the batches of its life: their deviation from the mean shrinks by the standard
        factor of an exponentially correlated process, ``2 (e^-y - 1 + y) / y^2``, y = life over relaxation time.
        """
        mean = max(float(pool.mean_batch[row]), 1.0)
        life_s = classes.gaps * float(self.iteration_s(np.array(mean)))
        y = np.maximum(life_s / float(pool.relaxation_s[row]), 1e-6)
        shrink = np.sqrt(np.where(y < 1e-3, 1.0, 2.0 * (np.expm1(-y) + y) / y**2))
        batch = np.maximum(mean + shrink[:, None] * (pool.batch[row] - mean)[None, :], 1.0)
        iteration = self.iteration_s(batch)
        join_s = iteration * pool.joins[row][None, :]
        waiting_s, binds = self._waiting_s(pool, row, classes)
        if not binds:
            return Occupancy(iteration, pool.probability[row], waiting_s, join_s)
        probability = (pool.probability[row][:, None] * _NORMAL_WEIGHTS[None, :]).ravel()
        nodes = _NORMAL_NODES.size
        return Occupancy(np.repeat(iteration, nodes, axis=1), probability, waiting_s, np.repeat(join_s, nodes, axis=1))

    def _waiting_s(self, pool: TokenPool, row: int, classes: Classes) -> tuple[Array, bool]:
        """Wait of each class for KV memory, and whether it differs by class: then (C, A x Z), else (C, A).

        A sequence joins once those before it, held or waiting, leave room for its own context. The wait is the shortage
        of tokens over the tokens freed per second; the tokens of the sequences before it are normally distributed.
        """
        memory, n = self.memory, float(pool.replicas[row])
        own = (classes.prompt_tokens + classes.output_tokens) / memory.tokens
        ahead = pool.found[row] / n
        if memory.size_cv == 0.0:
            short = np.maximum(ahead + 1.0 / n - memory.sequences, 0.0)
            return np.broadcast_to(short / pool.fastest_rps[row], (own.size, ahead.size)), False
        spread = memory.size_cv * np.sqrt(pool.found[row]) / n
        taken = (ahead[:, None] + spread[:, None] * _NORMAL_NODES[None, :]).ravel()
        room = self.perf.kv_capacity_tokens / memory.tokens
        short = np.maximum(taken[None, :] + own[:, None] - room, 0.0)
        freed = pool.fastest_rps[row] * memory.tokens_arriving / memory.tokens
        if not short.any():
            return np.zeros((own.size, ahead.size)), False
        return short / freed, True

    def visible_transfer_s(self, classes: Classes, size: int) -> Array:
        """Wait of the second token for the KV cache (C,), in s, in a pool of ``size`` machines; 0 without one.

        The remainders of the caches when their prompts end share the links of the replicas that they go to. Processor
        sharing of a link that is busy for a share r of the time makes a transfer take 1 / (1 - r) as long.
        """
        alone_s = np.where(classes.gaps > 0.0, self._alone_transfer_s(classes), 0.0)
        if self.perf.assumptions == "splitwise-sim":
            return alone_s
        mean_s = self.once(("link", self.source), self._held_s)
        busy = min(self.traffic.peak_rps * mean_s / (size * self.perf.replicas_per_machine), LARGEST_STABLE_LOAD)
        return alone_s + busy / (1.0 - busy) * np.maximum(alone_s - PER_LAYER_FIXED_S, 0.0)

    def _held_s(self) -> float:
        """Mean time, in s, for which a request takes a link that it has alone after its prompt."""
        c = self.traffic.classes
        held_s = np.maximum(self._alone_transfer_s(c) - PER_LAYER_FIXED_S, 0.0)
        return float(np.sum(c.weight * (c.output_tokens > 1.0) * held_s))

    def _alone_transfer_s(self, classes: Classes) -> Array:
        return np.asarray(self.source.transfer_visible_s(classes.prompt_tokens, self.perf), dtype=np.float64)

    def exceedance(self, kind: str, value: float, sizes: Sizes) -> Array:
        """Share (M,) of the requests with a TBT whose TBT is above the limit."""
        c, allowed = self.with_tbt(kind, value)
        total = np.zeros(sizes.shape)
        if not c.weight.size:
            return total
        gaps, pools = c.gaps[:, None], self.pools(sizes)

        def seen_at(row: int) -> tuple[Occupancy, ...]:
            return tuple(self.occupancy(pool, row, c) for pool in pools)

        for row, size in enumerate(sizes.tolist()):
            slack_s = (allowed - self.visible_transfer_s(c, size))[:, None]
            every = self._kept(("seen", size), partial(seen_at, row))
            for (_, share), seen in zip(self.traffic.windows, every, strict=True):
                left = slack_s - gaps * seen.iteration_s - seen.waiting_s * (gaps > 0.0)
                join = np.where(gaps > 0.0, seen.join_s, 0.0)
                fits = np.where(join > 0.0, np.clip(left / np.maximum(join, 1e-12), 0.0, 1.0), left >= 0.0)
                total[row] += share * float(c.weight @ (1.0 - fits) @ seen.probability)
        return np.where(self.stable(sizes), total, 1.0)

    def after_prompt(self, requests: Traffic, size: int) -> tuple[tuple[Array, Array], ...]:
        """Time in the token phase of every joint class of ``requests`` in a pool of ``size`` machines, without links.

        For every window atoms (C, A), in s, and their probabilities (A,); no atoms where the pool does not keep up.
        """
        pools, c = self.pools(np.array([size], dtype=np.int64)), requests.joint

        def times(pool: TokenPool) -> tuple[Array, Array]:
            if not pool.stable[0]:
                return np.zeros((c.weight.size, 0)), np.zeros(0)
            seen = self.occupancy(pool, 0, c).merged()
            waits = (c.gaps > 0.0)[:, None] * (seen.waiting_s + seen.join_s / 2.0)
            return c.gaps[:, None] * seen.iteration_s + waits, seen.probability

        return self._kept(("after", requests, size), lambda: tuple(map(times, pools)))


@dataclass(frozen=True, slots=True)
class SplitLatency:
    """End-to-end time of a prompt stage and the token stage behind it, for the ``requests`` that pass through both."""

    prompt: PromptStage
    token: TokenStage
    requests: Traffic

    def exceedance(self, kind: str, value: float, prompt_sizes: Sizes, token_size: int) -> Array:
        """Share (N,) of requests whose E2E is above the limit, for every prompt size and one token size.

        E2E is the queueing before the first token (the prompt stage's distribution) plus a time that the class and the
        token pool's state determine; the two are taken as independent.
        """
        c, prompt = self.requests.joint, self.prompt
        allowed = limits_s(prompt.reference, "e2e", kind, value, c) - prompt.perf.prompt_s(c.prompt_tokens)
        allowed = allowed - self.token.visible_transfer_s(c, token_size)
        total = np.zeros(prompt_sizes.shape)
        after = self.token.after_prompt(self.requests, token_size)
        windows = zip(prompt.traffic.windows, prompt.pools(prompt_sizes), after, strict=True)
        for (_, share), queue, (after_s, probability) in windows:
            if not probability.size:
                total += share
                continue
            slack_s, weight = allowed[:, None] - after_s, c.weight[:, None] * probability
            total += share * queue.exceedance(c.prompt_tokens, slack_s, weight)
        return total
