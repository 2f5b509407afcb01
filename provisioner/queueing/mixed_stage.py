"""Both phases on the same machines: mixed batching, where prompt iterations delay the tokens of the same replica.

Prompts go first, as in the paper's baselines, so the prompt side is the prompt stage with mixed iterations for a
service time. The token side is processor sharing at the speed that the prompts leave; what a single request loses to
prompts is the work it leaves queued behind its own prompt and a compound Poisson sum of busy periods of prompts.
`docs/queueing.md`, "Mixed pool", derives it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from provisioner.perf.assumptions import MIXED_FACTOR, Reference, ReplicaPerf, tbt_divisor
from provisioner.queueing.prompt_pool import BATCH_TOKENS, Packing, PromptPool, batch_cells, packing, prompt_pool
from provisioner.queueing.stages import TokenStage, limits_s
from provisioner.queueing.token_pool import TokenPool, evenly_shared, token_pool
from provisioner.queueing.traffic import Classes, Traffic

Array = NDArray[np.float64]
Sizes = NDArray[np.int64]

# Midpoints of equal shares: of the decode iteration that an arriving prompt waits for, and of the time lost to prompts.
_JOIN = np.array([1.0, 3.0, 5.0]) / 6.0
_LOST_LEVELS = np.array([0.125, 0.375, 0.625, 0.8, 0.9, 0.96, 0.985, 0.995])
_LOST_WEIGHTS = np.array([0.25, 0.25, 0.225, 0.125, 0.08, 0.045, 0.0175, 0.0075])
# Decode batches at which the work of prompts is computed; linear between them (so are the curves of mixed iterations).
_KNOTS = np.array([0.0, 1.0, 8.0, 32.0, 96.0, 256.0, 512.0])
# Mean batches are rounded to a grid of this ratio for the prompt queue: sizes of like batch share a computation.
_BATCH_RATIO = 1.15
_MOST_BUSY = 0.995
# Beyond this load the time lost to prompts is not described (docs/queueing.md: errors double, and a fuller pool may
# look better than an emptier one), so a mixed pool is then taken to meet no latency limit.
LARGEST_DESCRIBED_LOAD = 0.85
_LEAST = 1e-9


@dataclass(frozen=True, slots=True)
class _MixedCurve:
    """Prompt iterations that carry a decode batch: the service time of the prompt side."""

    perf: ReplicaPerf
    batch: float
    context_tokens: float

    def prompt_s(self, tokens: ArrayLike) -> Array:
        """Seconds of an iteration over ``tokens`` prompt tokens; where the decodes do not fit beside, it runs alone."""
        amount = np.asarray(tokens, dtype=np.float64)
        alone = np.asarray(self.perf.prompt_s(amount), dtype=np.float64)
        if self.batch < 0.5:
            return alone
        beside = self.perf.mixed_s(amount, self.batch, self.batch * self.context_tokens)
        return np.where(amount + self.batch <= BATCH_TOKENS, beside, alone)


@dataclass(frozen=True, slots=True)
class _PromptWork:
    """What prompts take from a replica by the decode batch beside them: arrays over ``_KNOTS`` (K,).

    ``mean_s`` is a prompt's time alone, ``saturated`` the efficiency of batching in an endless queue.
    """

    mean_s: Array
    saturated: Array
    packed: Packing

    def busy(self, batch: Array, rate_rps: Array) -> tuple[Array, Array]:
        """Share of time in prompt iterations, and such iterations per second that carry the decodes, per replica.

        ``rate_rps`` is of prompts on one replica. Batches of prompts fill with the load as in the prompt pool, from
        one prompt each to those of an endless queue; the arguments broadcast.
        """
        mean_s, saturated = np.interp(batch, _KNOTS, self.mean_s), np.interp(batch, _KNOTS, self.saturated)
        load = np.minimum(rate_rps * mean_s / saturated, 1.0)
        busy = np.minimum(rate_rps * mean_s / (1.0 + (saturated - 1.0) * load), _MOST_BUSY)
        single, closed = self._leave_room(self.packed.single, batch), self._leave_room(self.packed.closed, batch)
        return busy, rate_rps * (single + (closed - single) * load)

    def endless(self, batch: Array) -> tuple[Array, Array]:
        """Mean time of an iteration in an endless queue of prompts, and the share of them that carry the decodes."""
        batches_per_prompt = float(self.packed.closed.sum())
        each_s = np.interp(batch, _KNOTS, self.mean_s / self.saturated) / batches_per_prompt
        return each_s, np.maximum(self._leave_room(self.packed.closed, batch) / batches_per_prompt, 1e-3)

    @staticmethod
    def _leave_room(by_cell: Array, batch: Array) -> Array:
        """How many of the batches of prompts, given by token cell (cells + 1,), leave room for the decode batch."""
        below = np.concatenate(([0.0], np.cumsum(by_cell[:-1])))
        result: Array = np.interp(BATCH_TOKENS - batch, np.concatenate(([0.0], batch_cells())), below)
        return result


@dataclass(frozen=True, slots=True)
class _PromptQueue:
    """The prompt side of one size: a row of a prompt pool computed with the mixed curve of its decode batch."""

    curve: _MixedCurve
    pool: PromptPool
    row: int

    @property
    def waits(self) -> float:
        """Probability that a prompt finds another before it."""
        return min(float(self.pool.tail[self.row, 0]), _MOST_BUSY)

    @property
    def mean_wait_s(self) -> float:
        """Mean wait of a prompt that waits for others."""
        tail, delay_s = self.pool.tail[self.row], self.pool.delay_s[-1]
        return float(np.sum((tail[1:] + tail[:-1]) / 2.0 * np.diff(delay_s)) / max(float(tail[0]), 1e-12))

    def delayed(self, prompt_tokens: Array, slack_s: Array, weight: Array) -> float:
        """Share of requests that other prompts delay by more than ``slack_s`` (M,)."""
        mass = self.pool.mass_beyond(prompt_tokens, slack_s, weight)
        return float(self.pool.tail[self.row] @ mass[1:] + mass[0])


@dataclass(frozen=True, slots=True)
class _Lost:
    """Time that requests lose to prompts: ``min(X, Y)``, X nothing with probability ``none`` and else Gamma, Y Gamma.

    X is what an unending request would lose, Y what this one loses until prompt iterations alone have carried all its
    tokens; arrays (C, A) over classes and batches.
    """

    none: Array
    shape: Array
    scale_s: Array
    most_shape: Array
    most_scale_s: Array

    def above(self, slack_s: Array) -> Array:
        """P(lost > slack) (C, A)."""
        from scipy.special import gammaincc

        slack = np.maximum(slack_s, 0.0)
        share = (1.0 - self.none) * gammaincc(self.shape, slack / self.scale_s)
        result: Array = share * gammaincc(self.most_shape, slack / self.most_scale_s)
        return np.where(slack_s < 0.0, 1.0, result)

    def quantiles_s(self, levels: Array) -> Array:
        """Quantiles of the lost time (C, L) at one batch, Y at its mean."""
        from scipy.special import gammaincinv

        level = np.clip((levels[None, :] - self.none) / np.maximum(1.0 - self.none, 1e-12), 0.0, 1.0 - _LEAST)
        result: Array = np.minimum(gammaincinv(self.shape, level) * self.scale_s, self.most_shape * self.most_scale_s)
        return result


@dataclass(frozen=True, slots=True)
class _Load:
    """One window's queues at the sizes asked for."""

    prompts: tuple[_PromptQueue, ...]
    tokens: TokenPool
    work: _PromptWork
    prompt_rate_rps: Array  # per replica (N,)
    interrupted: Array  # (N,) sequences on the replica that a prompt goes to, over the mean of all replicas

    @property
    def load(self) -> Array:
        """Rate over capacity (N,): the larger of the prompts' and the tokens'."""
        return np.maximum([float(queue.pool.load[queue.row]) for queue in self.prompts], self.tokens.load)

    @property
    def stable(self) -> NDArray[np.bool_]:
        """Sizes (N,) at which both sides keep up."""
        result: NDArray[np.bool_] = self.tokens.stable & [bool(q.pool.stable[q.row]) for q in self.prompts]
        return result


@dataclass(frozen=True, slots=True)
class MixedStage:
    """Whole requests on machines of one type with mixed batching."""

    perf: ReplicaPerf
    traffic: Traffic
    reference: Reference
    tables: dict[bytes, Any] = field(
        default_factory=dict, repr=False
    )  # loads by sizes; under no size, the prompts' work

    @property
    def token_side(self) -> TokenStage:
        """The token phase's constants: iterations, contexts, KV memory. No KV cache moves, so it feeds itself."""
        return TokenStage(self.perf, self.traffic, self.reference, self.perf)

    @property
    def offered_machines(self) -> float:
        """Machines that the prompts of the busiest window keep busy."""
        c = self.traffic.by_prompt()
        mean_s = MIXED_FACTOR * float(np.sum(c.weight * self.perf.prompt_s(c.prompt_tokens)))
        return self.traffic.peak_rps * mean_s / self.perf.replicas_per_machine

    def loads(self, sizes: Sizes) -> tuple[_Load, ...]:
        """The queues of every window at these sizes (N,), in machines."""
        key = sizes.tobytes()
        if key not in self.tables:
            if b"" not in self.tables:
                self.tables[b""] = self._prompt_work()
            work = self.tables[b""]
            self.tables[key] = tuple(self._window(rate, sizes, work) for rate, _ in self.traffic.windows)
        result: tuple[_Load, ...] = self.tables[key]
        return result

    def _prompt_work(self) -> _PromptWork:
        c, context_tokens = self.traffic.by_prompt(), self.token_side.context_tokens
        curves = [_MixedCurve(self.perf, batch, context_tokens) for batch in _KNOTS.tolist()]
        packed = [packing(curve, c.prompt_tokens, c.weight) for curve in curves]
        mean_s = np.array([float(c.weight @ curve.prompt_s(c.prompt_tokens)) for curve in curves])
        return _PromptWork(mean_s, np.array([p.saturated for p in packed]), packed[0])

    def _window(self, rate_rps: float, sizes: Sizes, work: _PromptWork) -> _Load:
        side = self.token_side
        replicas = sizes * self.perf.replicas_per_machine
        n = replicas.astype(np.float64)[:, None]
        rate = rate_rps / n

        def slowed(batch: Array) -> Array:
            busy, beside = work.busy(batch, rate)
            interrupted = np.minimum(_mates(n * batch, n, busy) / batch, 1.0)
            return 1.0 / ((1.0 - interrupted * busy) / side.iteration_s(batch) + interrupted * beside)

        memory = side.memory
        tokens = token_pool(
            slowed,
            side.tokens_per_request,
            rate_rps,
            replicas,
            memory.sequences,
            size_cv=memory.size_cv,
            queue_stretch=memory.queue_stretch,
        )
        busy, _ = work.busy(tokens.mean_batch[:, None], rate)
        met = np.sum(tokens.probability * _mates(tokens.found, n, busy), axis=1)
        mean = np.sum(tokens.probability * tokens.found, axis=1) / n[:, 0]
        return _Load(
            prompts=self._prompt_queues(rate_rps, replicas, tokens),
            tokens=tokens,
            work=work,
            prompt_rate_rps=rate[:, 0],
            interrupted=np.clip(met / np.maximum(mean, _LEAST), 0.0, 1.0),
        )

    def _prompt_queues(self, rate_rps: float, replicas: Sizes, tokens: TokenPool) -> tuple[_PromptQueue, ...]:
        """The prompt side of each size at its mean batch, sizes of like batch together."""
        c = self.traffic.by_prompt()
        level = np.rint(np.log1p(tokens.mean_batch) / np.log(_BATCH_RATIO)).astype(np.int64)
        queues: dict[int, _PromptQueue] = {}
        for each in np.unique(level).tolist():
            rows = np.flatnonzero(level == each)
            curve = _MixedCurve(self.perf, float(np.expm1(each * np.log(_BATCH_RATIO))), self.token_side.context_tokens)
            pool = prompt_pool(curve, c.prompt_tokens, c.weight, rate_rps, replicas[rows], self.traffic.cv)
            queues |= {row: _PromptQueue(curve, pool, at) for at, row in enumerate(rows.tolist())}
        return tuple(queues[row] for row in range(replicas.size))

    def load(self, sizes: Sizes) -> Array:
        """Rate over capacity (N,): the larger of the prompts' and the tokens', in the busiest window."""
        result: Array = np.max([load.load for load in self.loads(sizes)], axis=0)
        return result

    def stable(self, sizes: Sizes) -> NDArray[np.bool_]:
        """Sizes (N,) at which neither side's load reaches its capacity in any window."""
        result: NDArray[np.bool_] = np.all([load.stable for load in self.loads(sizes)], axis=0)
        return result

    def exceedance(self, metric: str, kind: str, value: float, sizes: Sizes) -> Array:
        """Share (N,) of requests whose ``metric`` is above the limit; all of them beyond the largest described load."""
        total = np.zeros(sizes.shape)
        shares = {"ttft": self._ttft_share, "tbt": self._tbt_share, "e2e": self._e2e_share}[metric]
        for (_, share), load in zip(self.traffic.windows, self.loads(sizes), strict=True):
            total += share * np.array([shares(kind, value, load, row) for row in range(sizes.size)])
        return np.where(self.load(sizes) <= LARGEST_DESCRIBED_LOAD, np.minimum(total, 1.0), 1.0)

    def _ttft_share(self, kind: str, value: float, load: _Load, row: int) -> float:
        c, queue = self.traffic.by_prompt(), load.prompts[row]
        allowed = limits_s(self.reference, "ttft", kind, value, c) - queue.curve.prompt_s(c.prompt_tokens)
        before, probability = self._before_prompt(load, row)
        slack = (allowed[:, None] - before[None, :]).ravel()
        weight = (c.weight[:, None] * probability[None, :]).ravel()
        return queue.delayed(np.repeat(c.prompt_tokens, before.size), slack, weight)

    def _before_prompt(self, load: _Load, row: int) -> tuple[Array, Array]:
        """Atoms of what an arriving prompt waits for besides other prompts: the iteration in progress, and KV room."""
        pool = load.tokens
        in_progress = self.token_side.iteration_s(pool.batch[row]) * pool.joins[row]
        before = pool.waiting_s[row][:, None] + in_progress[:, None] * _JOIN[None, :]
        probability = pool.probability[row][:, None] * np.full(_JOIN.size, 1.0 / _JOIN.size)[None, :]
        return before.ravel(), probability.ravel()

    def _lost(self, load: _Load, row: int, classes: Classes, batch: Array) -> _Lost:
        """Time that requests (C,) lose to prompts at batches (A,).

        A replica's prompts are an M/G/1 queue in which another prompt is behind with probability q. A request loses
        the time to empty the queue that its own prompt leaves behind, and then the busy periods that begin in its
        life, a Poisson number of them; their sum, given that there is any, is matched in mean and variance.
        """
        c, queue = self.traffic.by_prompt(), load.prompts[row]
        gaps = np.maximum(classes.output_tokens - 1.0, 0.0)[:, None]
        rate_rps, interrupted = float(load.prompt_rate_rps[row]), float(load.interrupted[row])
        decode_s = self.token_side.iteration_s(batch)
        busy, rides = load.work.busy(batch, np.array([rate_rps]))

        # What one prompt takes from the sequences beside it: its iteration, less the token that it may carry.
        service_s = queue.curve.prompt_s(c.prompt_tokens)
        mean_s, mean_square = float(c.weight @ service_s), float(c.weight @ service_s**2)
        taken = service_s[:, None] - np.where(c.prompt_tokens[:, None] + batch <= BATCH_TOKENS, decode_s, 0.0)
        taken = np.maximum(taken, 0.0)
        net = np.maximum((busy - rides * decode_s) / rate_rps, 1e-6)
        net_square = (c.weight @ taken**2) * (net / np.maximum(c.weight @ taken, _LEAST)) ** 2
        token_s = 1.0 / ((1.0 - interrupted * busy) / decode_s + interrupted * rides)
        prompts = interrupted * rate_rps * gaps * token_s

        # The queue left behind, as found by arrivals (level crossing): their wait, and the part of the running prompt
        # that was over when they came.
        q, deep = queue.waits, min(queue.waits, float(queue.pool.load[queue.row]))
        residual_s = mean_square / mean_s / (1.0 + float(queue.pool.replicas[queue.row]))
        share = net * rate_rps / np.maximum(busy, _LEAST)
        left = share * (queue.mean_wait_s + max(mean_s - residual_s, 0.0))
        left_var = share**2 * (queue.mean_wait_s**2 + mean_square - mean_s**2)
        emptied = left / (1.0 - deep)
        emptied_var = left_var / (1.0 - deep) ** 2 + left * deep * net_square / net / (1.0 - deep) ** 3

        behind = np.where(gaps > 0.0, q, 0.0)
        mean = prompts * net + behind * emptied
        variance = prompts * (1.0 - q) * net_square / (1.0 - deep) ** 3
        variance = variance + behind * emptied_var + behind * (1.0 - behind) * emptied**2
        none = (1.0 - behind) * np.exp(-prompts * (1.0 - q))
        some = np.maximum(1.0 - none, 1e-12)
        given = mean / some
        given_var = np.maximum((variance + mean**2) / some - given**2, 1e-12 * given**2 + 1e-30)

        # At most: every token carried by a prompt iteration of an endless queue, a geometric number of them each.
        each_s, carry = load.work.endless(batch)
        most = np.maximum(each_s / carry - decode_s, 1e-6)
        most_var = each_s**2 * ((mean_square / mean_s**2 - 1.0) / carry + (1.0 - carry) / carry**2)
        return _Lost(
            none=none,
            shape=np.clip(given**2 / given_var, 1e-3, 1e9),
            scale_s=np.maximum(given_var, 1e-30) / np.maximum(given, 1e-15),
            most_shape=np.maximum(gaps, 1e-3) * most**2 / most_var,
            most_scale_s=np.broadcast_to(most_var / most, none.shape),
        )

    def _tbt_share(self, kind: str, value: float, load: _Load, row: int) -> float:
        every = self.traffic.by_output()
        divisor = tbt_divisor(every.output_tokens, self.perf.assumptions)
        has = divisor > 0.0
        c = Classes(every.prompt_tokens[has], every.output_tokens[has], every.weight[has])
        if not c.weight.size:
            return 0.0
        gaps = np.maximum(c.output_tokens - 1.0, 0.0)
        batch = load.tokens.batch[row]
        allowed = limits_s(self.reference, "tbt", kind, value, c) * divisor[has]
        slack = allowed[:, None] - gaps[:, None] * self.token_side.iteration_s(batch)[None, :]
        above = self._lost(load, row, c, batch).above(slack)
        return float((c.weight / c.weight.sum()) @ above @ load.tokens.probability[row])

    def _e2e_share(self, kind: str, value: float, load: _Load, row: int) -> float:
        c, queue = self.traffic.joint(), load.prompts[row]
        gaps = np.maximum(c.output_tokens - 1.0, 0.0)
        batch = np.maximum(load.tokens.mean_batch[row : row + 1], 1.0)
        decode_s = float(self.token_side.iteration_s(batch)[0])
        lost = np.where(gaps[:, None] > 0.0, self._lost(load, row, c, batch).quantiles_s(_LOST_LEVELS), 0.0)
        before, probability = self._before_prompt(load, row)
        allowed = limits_s(self.reference, "e2e", kind, value, c) - queue.curve.prompt_s(c.prompt_tokens)
        allowed = allowed - gaps * decode_s - float(before @ probability)
        slack = (allowed[:, None] - lost).ravel()
        weight = (c.weight[:, None] * _LOST_WEIGHTS[None, :]).ravel()
        return queue.delayed(np.repeat(c.prompt_tokens, _LOST_LEVELS.size), slack, weight)


def _mates(sequences: Array, replicas: Array, busy: Array) -> Array:
    """Sequences (N, K) on the replica that a prompt goes to, with so many in the pool: the fewest of any.

    Sequences are spread evenly over the replicas without a prompt, and an arrival brings one of them to the batch that
    a sequence shares on average.
    """
    free = np.maximum(replicas * (1.0 - busy), 1.0)
    result: Array = np.maximum(evenly_shared(sequences + 1.0, free) - 1.0, 0.0) * np.minimum(free / replicas, 1.0)
    return result
