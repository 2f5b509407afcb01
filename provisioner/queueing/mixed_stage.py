"""Both phases on the same machines: mixed batching, where a prompt iteration delays the tokens that run beside it.

Prompts go first, as in the paper's baselines, so the prompt side is the prompt stage with mixed iterations for a
service time. The token side is processor sharing at the speed that the prompts leave, and what a single request loses
to prompts is a compound Poisson sum. `docs/queueing.md`, "Mixed pool", derives it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from provisioner.perf.assumptions import MIXED_FACTOR, Reference, ReplicaPerf, tbt_divisor
from provisioner.queueing.prompt_pool import BATCH_TOKENS, PromptPool, prompt_pool
from provisioner.queueing.stages import TokenStage, limits_s
from provisioner.queueing.token_pool import TokenPool, token_pool
from provisioner.queueing.traffic import Classes, Traffic

Array = NDArray[np.float64]
Sizes = NDArray[np.int64]

# Midpoints of equal shares: of the decode iteration that an arriving prompt waits for, and of the time lost to prompts.
_JOIN = np.array([1.0, 3.0, 5.0]) / 6.0
_LOST_LEVELS = np.array([0.125, 0.375, 0.625, 0.8, 0.9, 0.96, 0.985, 0.995])
_LOST_WEIGHTS = np.array([0.25, 0.25, 0.225, 0.125, 0.08, 0.045, 0.0175, 0.0075])


@dataclass(frozen=True, slots=True)
class _MixedCurve:
    """Prompt iterations that carry a decode batch: the service time of the prompt side."""

    perf: ReplicaPerf
    batch: float
    context_tokens: float

    def prompt_s(self, tokens: ArrayLike) -> Array:
        """Seconds of an iteration over ``tokens`` prompt tokens; those beyond the limit of a batch run alone."""
        amount = np.asarray(tokens, dtype=np.float64)
        if self.batch < 0.5:
            return np.asarray(self.perf.prompt_s(amount), dtype=np.float64)
        beside = self.perf.mixed_s(amount, self.batch, self.batch * self.context_tokens)
        alone = self.perf.prompt_s(amount)
        # The mixed factor never makes an iteration within the limit longer than the first one beyond it is short.
        return np.where(amount + self.batch <= BATCH_TOKENS, beside, np.maximum(alone, 0.0))


@dataclass(frozen=True, slots=True)
class _Load:
    """One window's queues at the sizes asked for."""

    prompts: PromptPool
    tokens: TokenPool
    prompt_rate_rps: Array  # per replica (N,)
    curve: _MixedCurve


@dataclass(frozen=True, slots=True)
class MixedStage:
    """Whole requests on machines of one type with mixed batching."""

    perf: ReplicaPerf
    traffic: Traffic
    reference: Reference
    tables: dict[bytes, tuple[_Load, ...]] = field(default_factory=dict, repr=False)

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
            self.tables[key] = tuple(self._window(rate, sizes) for rate, _ in self.traffic.windows)
        return self.tables[key]

    def _window(self, rate_rps: float, sizes: Sizes) -> _Load:
        side = self.token_side
        replicas = sizes * self.perf.replicas_per_machine
        c = self.traffic.by_prompt()
        share_beside = float(np.sum(c.weight[c.prompt_tokens <= BATCH_TOKENS]))
        batch = 0.0
        for _ in range(3):  # the batch that prompts carry and the time they take fix each other; converges at once
            curve = _MixedCurve(self.perf, batch, side.context_tokens)
            prompts = prompt_pool(curve, c.prompt_tokens, c.weight, rate_rps, replicas, self.traffic.cv)
            busy = np.minimum(prompts.busy, 0.995)[:, None]
            tokens_beside = (share_beside * rate_rps / replicas)[:, None]

            def slowed(b: Array, busy: Array = busy, beside: Array = tokens_beside) -> Array:
                return 1.0 / ((1.0 - busy) / side.iteration_s(b) + beside)

            tokens = token_pool(slowed, side.tokens_per_request, rate_rps, replicas, side.largest_batch)
            stable = tokens.stable & prompts.stable
            middle = np.flatnonzero(stable)
            batch = float(tokens.mean_batch[middle[middle.size // 2]]) if middle.size else float(side.largest_batch)
        return _Load(prompts, tokens, rate_rps / replicas, curve)

    def load(self, sizes: Sizes) -> Array:
        """Rate over capacity (N,): the larger of the prompts' and the tokens', in the busiest window."""
        both = [np.maximum(load.prompts.load, load.tokens.load) for load in self.loads(sizes)]
        result: Array = np.max(both, axis=0)
        return result

    def stable(self, sizes: Sizes) -> NDArray[np.bool_]:
        """Sizes (N,) at which neither side's load reaches its capacity in any window."""
        result: NDArray[np.bool_] = np.all(
            [load.prompts.stable & load.tokens.stable for load in self.loads(sizes)], axis=0
        )
        return result

    def exceedance(self, metric: str, kind: str, value: float, sizes: Sizes) -> Array:
        """Share (N,) of requests whose ``metric`` is above the limit."""
        total = np.zeros(sizes.shape)
        shares = {"ttft": self._ttft_share, "tbt": self._tbt_share, "e2e": self._e2e_share}[metric]
        for (_, share), load in zip(self.traffic.windows, self.loads(sizes), strict=True):
            total += share * np.array([shares(kind, value, load, row) for row in range(sizes.size)])
        return np.where(self.stable(sizes), np.minimum(total, 1.0), 1.0)

    def _ttft_share(self, kind: str, value: float, load: _Load, row: int) -> float:
        c = self.traffic.by_prompt()
        allowed = limits_s(self.reference, "ttft", kind, value, c) - load.curve.prompt_s(c.prompt_tokens)
        before, probability = self._before_prompt(load, row)
        slack = (allowed[:, None] - before[None, :]).ravel()
        weight = (c.weight[:, None] * probability[None, :]).ravel()
        return self._delayed(load, row, np.repeat(c.prompt_tokens, before.size), slack, weight)

    def _before_prompt(self, load: _Load, row: int) -> tuple[Array, Array]:
        """Atoms of what an arriving prompt waits for besides other prompts: the iteration in progress, and KV room."""
        pool = load.tokens
        in_progress = self.token_side.iteration_s(pool.batch[row]) * pool.joins[row]
        before = pool.waiting_s[row][:, None] + in_progress[:, None] * _JOIN[None, :]
        probability = pool.probability[row][:, None] * np.full(_JOIN.size, 1.0 / _JOIN.size)[None, :]
        return before.ravel(), probability.ravel()

    @staticmethod
    def _delayed(load: _Load, row: int, prompt_tokens: Array, slack_s: Array, weight: Array) -> float:
        pool = load.prompts
        mass = pool.mass_beyond(prompt_tokens, slack_s, weight)
        return float(pool.tail[row] @ mass[1:] + mass[0])

    def _lost(self, load: _Load, row: int, classes: Classes, batch: Array) -> tuple[Array, Array, Array]:
        """Time that requests (C,) lose to prompts at batches (A,): P(none), and shape and scale (C, A) of a Gamma.

        Prompts interrupt a life of ``gaps`` tokens as a Poisson process; the sum of what they take, given that there is
        one, is matched in mean and variance by a Gamma distribution.
        """
        c = self.traffic.by_prompt()
        side = self.token_side
        decode_s = side.iteration_s(batch)
        rate = float(load.prompt_rate_rps[row])
        busy = min(float(load.prompts.busy[row]), 0.995)
        beside = c.prompt_tokens <= BATCH_TOKENS
        token_s = 1.0 / ((1.0 - busy) / decode_s + rate * float(c.weight[beside].sum()))
        taken = load.curve.prompt_s(c.prompt_tokens)[:, None] - np.where(beside[:, None], decode_s[None, :], 0.0)
        taken = np.maximum(taken, 0.0)
        first, second = c.weight @ taken, c.weight @ taken**2
        gaps = np.maximum(classes.output_tokens - 1.0, 0.0)[:, None]
        count = rate * gaps * token_s[None, :]
        none = np.exp(-count)
        some = np.maximum(-np.expm1(-count), 1e-12)
        mean = count * first / some
        variance = np.maximum((count * second + (count * first) ** 2) / some - mean**2, 1e-12 * mean**2 + 1e-30)
        return none, mean**2 / variance, variance / np.maximum(mean, 1e-30)

    def _tbt_share(self, kind: str, value: float, load: _Load, row: int) -> float:
        from scipy.special import gammaincc

        c = self.traffic.by_output()
        divisor = tbt_divisor(c.output_tokens, self.perf.assumptions)
        c = Classes(c.prompt_tokens[divisor > 0.0], c.output_tokens[divisor > 0.0], c.weight[divisor > 0.0])
        if not c.weight.size:
            return 0.0
        gaps = np.maximum(c.output_tokens - 1.0, 0.0)
        batch = load.tokens.batch[row]
        allowed = limits_s(self.reference, "tbt", kind, value, c) * divisor[divisor > 0.0]
        slack = allowed[:, None] - gaps[:, None] * self.token_side.iteration_s(batch)[None, :]
        none, shape, scale = self._lost(load, row, c, batch)
        above = np.where(slack < 0.0, 1.0, (1.0 - none) * gammaincc(shape, np.maximum(slack, 0.0) / scale))
        return float((c.weight / c.weight.sum()) @ above @ load.tokens.probability[row])

    def _e2e_share(self, kind: str, value: float, load: _Load, row: int) -> float:
        from scipy.special import gammaincinv

        c = self.traffic.joint()
        gaps = np.maximum(c.output_tokens - 1.0, 0.0)
        batch = np.maximum(load.tokens.mean_batch[row : row + 1], 1.0)
        decode_s = float(self.token_side.iteration_s(batch)[0])
        none, shape, scale = self._lost(load, row, c, batch)
        # Quantiles of the lost time: nothing below P(none), the Gamma's beyond it.
        level = np.clip((_LOST_LEVELS[None, :] - none) / np.maximum(1.0 - none, 1e-12), 0.0, 1.0 - 1e-9)
        lost = np.where(gaps[:, None] > 0.0, gammaincinv(shape, level) * scale, 0.0)
        before, probability = self._before_prompt(load, row)
        allowed = limits_s(self.reference, "e2e", kind, value, c) - load.curve.prompt_s(c.prompt_tokens)
        allowed = allowed - gaps * decode_s - float(before @ probability)
        slack = (allowed[:, None] - lost).ravel()
        weight = (c.weight[:, None] * _LOST_WEIGHTS[None, :]).ravel()
        return self._delayed(load, row, np.repeat(c.prompt_tokens, _LOST_LEVELS.size), slack, weight)
