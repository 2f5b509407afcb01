"""Both phases on the same machines: mixed batching, where prompt iterations delay the tokens of the same replica.

`docs/explanation/queueing.md`, "Mixed pool", derives it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from provisioner.queueing import prompt_pool
from provisioner.queueing.erlang import erlang_b, peakedness
from provisioner.queueing.prompt_pool import BATCH_TOKENS, NEGLIGIBLE, Filling, PromptPool, PromptTime, prompt_pools
from provisioner.queueing.stages import Stage, TokenStage, limits_s
from provisioner.queueing.token_pool import TokenPool, evenly_shared
from provisioner.queueing.traffic import Array, Queues, Sizes

# Midpoints of equal shares: of the decode iteration that an arriving prompt waits for, and of the time lost to prompts.
_JOIN = np.array([1.0, 3.0, 5.0]) / 6.0
_LOST_LEVELS = np.array([0.125, 0.375, 0.625, 0.8, 0.9, 0.96, 0.985, 0.995])
_LOST_WEIGHTS = np.array([0.25, 0.25, 0.225, 0.125, 0.08, 0.045, 0.0175, 0.0075])
_MERGED = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 5])  # atoms of the token pool, for the time lost to prompts
# Decode batches at which the work of prompts is computed; linear between them, like the curves of mixed iterations.
_KNOTS = np.array([0.0, 1.0, 8.0, 32.0, 96.0, 256.0, 512.0])
_BATCH_RATIO = 1.15  # of a grid to which the prompt queue rounds mean batches: sizes of like batch share a computation
_GAPS_RATIO = 1.15  # of the numbers of gaps at which the time lost to prompts is computed; it is linear between them
_MOST_BUSY = 0.995
# Beyond this load the time lost to prompts is not described (docs/explanation/queueing.md: errors double, and a fuller
# pool may look better than an emptier one), so a mixed pool is then taken to meet no latency limit.
LARGEST_DESCRIBED_LOAD = 0.85
_LEAST = 1e-9


@dataclass(frozen=True, slots=True)
class _PromptWork:
    """Work of prompts on a replica by the decode batch beside them: arrays over ``_KNOTS`` (K,).

    ``mean_s`` is a prompt's mean time alone, ``saturated`` the efficiency of batching in an endless queue, ``filling``
    the way in which prompts fill batches.
    """

    filling: Filling
    mean_s: Array
    saturated: Array

    def busy(self, batch: Array, rate_rps: Array) -> tuple[Array, Array]:
        """Share of time in prompt iterations, and prompt iterations per second that carry the decodes, per replica.

        ``rate_rps`` is the rate of prompts on one replica. Batches of prompts fill with the load as in the prompt
        pool, from single prompts to the batches of an endless queue; the arguments broadcast.
        """
        mean_s, saturated = np.interp(batch, _KNOTS, self.mean_s), np.interp(batch, _KNOTS, self.saturated)
        load = np.minimum(rate_rps * mean_s / saturated, 1.0)
        busy = np.minimum(rate_rps * mean_s / (1.0 + (saturated - 1.0) * load), _MOST_BUSY)
        single, closed = self._leave_room(self.filling.single, batch), self._leave_room(self.filling.closed, batch)
        return busy, rate_rps * (single + (closed - single) * load)

    def endless(self, batch: Array) -> tuple[Array, Array]:
        """Mean time of an iteration in an endless queue of prompts, and the share of iterations with the decodes."""
        batches_per_prompt = float(self.filling.closed.sum())
        mean_s = np.interp(batch, _KNOTS, self.mean_s / self.saturated) / batches_per_prompt
        return mean_s, np.maximum(self._leave_room(self.filling.closed, batch) / batches_per_prompt, 1e-3)

    @staticmethod
    def _leave_room(by_cell: Array, batch: Array) -> Array:
        """Batches of prompts, of those by token cell (cells + 1,), that leave room for the decode batch."""
        below = np.concatenate(([0.0], np.cumsum(by_cell[:-1])))
        return np.interp(BATCH_TOKENS - batch, np.concatenate(([0.0], prompt_pool.batch_cells())), below)


@dataclass(frozen=True, slots=True)
class _PromptSide:
    """Prompt side of the pool at each size (N,), with the mean batch beside the prompts rounded to one of L levels.

    ``level`` (N,) is the index in ``curves`` (L,), ``service_s`` (L, C) the prompts' times by level, ``load`` (N,) the
    rate over capacity, and ``queues`` a row of a prompt pool for each size at which prompts wait for each other.
    ``waits`` (N,) is the probability that a prompt finds another one, ``mean_wait_s`` (N,) the mean wait if it does.
    """

    curves: Sequence[PromptTime]
    level: NDArray[np.int64]
    service_s: Array
    load: Array
    queues: dict[int, tuple[PromptPool, int]]
    waits: Array
    mean_wait_s: Array

    def delayed(self, prompt_tokens: Array, allowed_s: Array, taken_s: Array, weight: Array, at: Sizes) -> Array:
        """Share (R,) of requests that other prompts delay by more than ``allowed_s - taken_s``.

        ``at`` (R,) are the positions of the sizes, ``allowed_s`` is (R, C), ``taken_s`` (R, 1, M) or (R, C, M) by
        state, ``weight`` (C, M) the share of each class and state, ``prompt_tokens`` (C,) the class's prompt.
        """
        share_of = weight.ravel()
        cell = np.repeat(prompt_pool.token_cell(prompt_tokens), weight.shape[1])
        share = np.empty(at.size)
        alone = np.array([size not in self.queues for size in at.tolist()], dtype=bool)
        late = allowed_s[alone][:, :, None] < taken_s[alone]
        share[alone] = late.reshape(late.shape[0], share_of.size).astype(np.float64) @ share_of
        for i in np.flatnonzero(~alone).tolist():
            pool, row = self.queues[int(at[i])]
            slack_s = (allowed_s[i][:, None] - taken_s[i]).ravel()
            share[i] = pool.longer(row, cell, slack_s) @ share_of
        return share


@dataclass(frozen=True, slots=True)
class _Lost:
    """Time that requests lose to prompts: ``min(X, Y)``, X 0 with probability ``none`` and else Gamma, Y Gamma.

    X is the loss of an unending request, Y that until prompt iterations alone have carried all tokens; (R, C, A).
    """

    none: Array
    shape: Array
    scale_s: Array
    most_shape: Array
    most_scale_s: Array

    def above(self, slack_s: Array) -> Array:
        """P(lost > slack) (R, C, A), slacks of 0 or more."""
        result, slack = (1.0 - self.none).ravel(), slack_s.ravel()
        for shape, scale_s in ((self.shape, self.scale_s), (self.most_shape, self.most_scale_s)):
            at = np.flatnonzero(result > NEGLIGIBLE)
            result[at] = _gamma_tail(result[at], shape.ravel()[at], slack[at] / scale_s.ravel()[at])
        return result.reshape(slack_s.shape)

    def quantiles_s(self, levels: Array) -> Array:
        """Quantiles of the lost time (R, C, L) at one batch (A = 1), Y at its mean."""
        from scipy.special import gammaincinv

        level = np.clip((levels - self.none) / np.maximum(1.0 - self.none, 1e-12), 0.0, 1.0 - _LEAST)
        some = level > 0.0
        result = np.zeros(level.shape)
        result[some] = gammaincinv(np.broadcast_to(self.shape, level.shape)[some], level[some])
        return np.minimum(result * self.scale_s, self.most_shape * self.most_scale_s)


@dataclass(frozen=True, slots=True)
class _Load(Queues):
    """One window's queues at the given sizes: ``load`` is the larger of the prompt side's and the token side's."""

    prompts: _PromptSide
    tokens: TokenPool
    work: _PromptWork
    prompt_rate_rps: Array  # per replica (N,)
    interrupted: Array  # (N,) sequences on the replica that a prompt goes to, over the mean of all replicas


@dataclass(frozen=True, slots=True)
class MixedStage(Stage[_Load]):
    """Whole requests on machines of one type with mixed batching."""

    @property
    def token_side(self) -> TokenStage:
        """Token stage with the token phase's constants: iterations, contexts, KV memory; no KV cache moves."""
        return self.once(b"tokens", lambda: TokenStage(self.perf, self.traffic, self.reference, self.perf))

    @property
    def offered_machines(self) -> float:
        """Number of machines that the prompts of the busiest window keep busy."""
        c = self.traffic.by_prompt
        mean_s = self.perf.mixed.factor * float(np.sum(c.weight * self.perf.prompt_s(c.prompt_tokens)))
        return self.traffic.peak_rps * mean_s / self.perf.replicas_per_machine

    def _prompt_s(self, batch: float, prompt_tokens: Array) -> Array:
        """Time of an iteration over prompts and a decode batch, in s; prompts run alone if the decodes do not fit."""
        alone = np.asarray(self.perf.prompt_s(prompt_tokens), dtype=np.float64)
        if batch < 0.5:
            return alone
        beside = self.perf.mixed_s(prompt_tokens, batch, batch * self.token_side.memory.context_tokens)
        return np.where(prompt_tokens + batch <= BATCH_TOKENS, beside, alone)

    def _prompt_work(self) -> _PromptWork:
        c = self.traffic.by_prompt
        fill = Filling(c.prompt_tokens, c.weight)
        packed = [fill.packed(partial(self._prompt_s, batch)) for batch in _KNOTS.tolist()]
        mean_s = np.array([float(c.weight @ packing.service_s) for packing in packed])
        return _PromptWork(fill, mean_s, np.array([packing.saturated for packing in packed]))

    def _queues(self, rate_rps: float, replicas: Sizes) -> _Load:
        side, work = self.token_side, self.once(b"work", self._prompt_work)
        n = replicas.astype(np.float64)[:, None]
        rate = rate_rps / n

        def slowed(batch: Array) -> Array:
            busy, beside = work.busy(batch, rate)
            interrupted = np.minimum(_mates(n * batch, n, busy) / batch, 1.0)
            return 1.0 / ((1.0 - interrupted * busy) / side.iteration_s(batch) + interrupted * beside)

        tokens = side.occupied(slowed, rate_rps, replicas)
        busy, _ = work.busy(tokens.mean_batch[:, None], rate)
        met = np.sum(tokens.probability * _mates(tokens.found, n, busy), axis=1)
        mean = np.sum(tokens.probability * tokens.found, axis=1) / n[:, 0]
        prompts = self._prompt_side(rate_rps, replicas, tokens, work.filling)
        return _Load(
            load=np.maximum(prompts.load, tokens.load),
            prompts=prompts,
            tokens=tokens,
            work=work,
            prompt_rate_rps=rate[:, 0],
            interrupted=np.clip(met / np.maximum(mean, _LEAST), 0.0, 1.0),
        )

    def _prompt_side(self, rate_rps: float, replicas: Sizes, tokens: TokenPool, fill: Filling) -> _PromptSide:
        """Prompt side of each size at its mean batch, with sizes of similar batch computed together.

        A size beyond the largest described load, or at which no prompt waits for another, gets no queue.
        """
        weight, c = fill.weight, replicas.astype(np.float64)
        step = np.rint(np.log1p(tokens.mean_batch) / np.log(_BATCH_RATIO)).astype(np.int64)
        steps, level = np.unique(step, return_inverse=True)
        curves = [partial(self._prompt_s, batch) for batch in np.expm1(steps * np.log(_BATCH_RATIO)).tolist()]
        packed = [fill.packed(curve) for curve in curves]
        service_s = np.array([packing.service_s for packing in packed])
        mean_s = (service_s @ weight)[level]
        load = rate_rps * mean_s / c / np.array([packing.saturated for packing in packed])[level]
        z = np.array([peakedness(self.traffic.cv, each_s, weight) for each_s in service_s])[level]
        # An upper bound of P(wait): the loss system at the load that it has when that share waits.
        blocked = erlang_b(c / z, rate_rps * mean_s / z / (1.0 - NEGLIGIBLE))
        queued = (np.maximum(load, tokens.load) <= LARGEST_DESCRIBED_LOAD) & (blocked > NEGLIGIBLE)
        rows = [np.flatnonzero(queued & (level == index)) for index in range(len(curves))]
        parts = [(packing, places) for packing, places in zip(packed, rows, strict=True) if places.size]
        pools = prompt_pools(fill, [(packing, replicas[k]) for packing, k in parts], rate_rps, self.traffic.cv)
        queues: dict[int, tuple[PromptPool, int]] = {}
        waits, mean_wait_s = np.zeros(c.size), np.zeros(c.size)
        for pool, (_, places) in zip(pools, parts, strict=True):
            queues |= {size: (pool, row) for row, size in enumerate(places.tolist())}
            waits[places] = np.minimum(pool.tail[:, 0], _MOST_BUSY)
            area = np.sum((pool.tail[:, 1:] + pool.tail[:, :-1]) / 2.0 * np.diff(pool.delay_s[-1]), axis=1)
            mean_wait_s[places] = area / np.maximum(pool.tail[:, 0], 1e-12)
        return _PromptSide(curves, level, service_s, load, queues, waits, mean_wait_s)

    def exceedance(self, metric: str, kind: str, value: float, sizes: Sizes) -> Array:
        """Share (N,) of requests whose ``metric`` is above the limit; 1 beyond the largest described load."""
        result = np.ones(sizes.shape)
        at = np.flatnonzero(self.load(sizes) <= LARGEST_DESCRIBED_LOAD)
        if not at.size:
            return result
        shares = {"ttft": self._ttft_share, "tbt": self._tbt_share, "e2e": self._e2e_share}[metric]
        windows = zip(self.traffic.windows, self.pools(sizes), strict=True)
        result[at] = np.minimum(sum(share * shares(kind, value, load, at) for (_, share), load in windows), 1.0)
        return result

    def _ttft_share(self, kind: str, value: float, load: _Load, at: Sizes) -> Array:
        """Share (R,) of requests above the limit at the sizes with positions ``at`` (R,)."""
        c, side = self.traffic.by_prompt, load.prompts
        allowed = limits_s(self.reference, "ttft", kind, value, c) - side.service_s[side.level[at]]
        before, probability = self._before_prompt(load, at)
        return side.delayed(c.prompt_tokens, allowed, before[:, None, :], c.weight[:, None] * probability, at)

    def _before_prompt(self, load: _Load, at: Sizes) -> tuple[Array, Array]:
        """Atoms (R, M) of a prompt's wait for the iteration in progress and for KV room, in s; probabilities (M,)."""
        pool = load.tokens
        in_progress = self.token_side.iteration_s(pool.batch[at]) * pool.joins[at]
        before = pool.waiting_s[at][:, :, None] + in_progress[:, :, None] * _JOIN
        return before.reshape(at.size, -1), np.repeat(pool.probability[0] / _JOIN.size, _JOIN.size)

    def _lost(self, load: _Load, at: Sizes, gaps: Array, batch: Array) -> _Lost:
        """Time that requests with ``gaps`` (C,) lose to prompts at batches (R, A) of the sizes ``at`` (R,).

        A request loses the time to empty the queue that its own prompt leaves behind, with probability q, and the busy
        periods of prompts that begin in its life; their sum, given that there is any, is matched in mean and variance.
        """
        c, side = self.traffic.by_prompt, load.prompts
        rate_rps, interrupted = load.prompt_rate_rps[at, None], load.interrupted[at, None]
        decode_s = self.token_side.iteration_s(batch)
        busy, rides = load.work.busy(batch, rate_rps)

        # One prompt takes its iteration from the sequences beside it, less the token that it may carry.
        service_s = side.service_s[side.level[at]]
        mean_s, mean_square = (service_s @ c.weight)[:, None], (service_s**2 @ c.weight)[:, None]
        beside = (c.prompt_tokens[:, None] + batch[:, None, :] <= BATCH_TOKENS).astype(np.float64)
        taken = np.maximum(service_s[:, :, None] - beside * decode_s[:, None, :], 0.0)
        net = np.maximum((busy - rides * decode_s) / rate_rps, 1e-6)
        net_square = (c.weight @ taken**2) * (net / np.maximum(c.weight @ taken, _LEAST)) ** 2
        token_s = 1.0 / ((1.0 - interrupted * busy) / decode_s + interrupted * rides)
        prompts_per_gap = interrupted * rate_rps * token_s

        # A token that a prompt carries leaves fewer for others to interrupt: in a renewal process of prompts and the
        # decode iterations between them, a cycle counts by its time less the mean time of the tokens it gave.
        decoded = np.minimum((1.0 - interrupted * busy) * token_s / decode_s, 1.0)
        carried = c.weight @ beside
        carried_s = ((service_s * c.weight)[:, None, :] @ beside)[:, 0, :]
        beyond_mean = mean_s - token_s * carried
        beyond_square = mean_square - 2.0 * token_s * carried_s + token_s**2 * carried
        beyond_var = np.maximum(beyond_square - beyond_mean**2, 0.0)

        # The queue left behind, as found by arrivals (level crossing): their wait, and the part of the running prompt
        # that was over when they came.
        q, mean_wait_s = side.waits[at, None], side.mean_wait_s[at, None]
        deep = np.minimum(q, side.load[at, None])
        residual_s = mean_square / mean_s / (1.0 + load.tokens.replicas[at, None])
        share = net * rate_rps / np.maximum(busy, _LEAST)
        left = share * (mean_wait_s + np.maximum(mean_s - residual_s, 0.0))
        left_var = share**2 * (mean_wait_s**2 + mean_square - mean_s**2)
        emptied = left / (1.0 - deep)
        emptied_var = left_var / (1.0 - deep) ** 2 + left * deep * net_square / net / (1.0 - deep) ** 3
        # Decode iterations between two busy periods of prompts: at least the one in which a prompt arrives.
        starts = np.minimum(prompts_per_gap / np.maximum(decoded, _LEAST) * (1.0 - q), _MOST_BUSY)
        sooner, lasting_s = _after_release(load.tokens.replicas[at].astype(np.float64), busy[:, :1], mean_s)
        spread = np.maximum(1.0 + 2.0 * sooner - starts, 0.0)
        period_square = (beyond_var + deep * beyond_mean**2) / (1.0 - deep) ** 3
        period_square = (1.0 - q) * (period_square + spread * (net * decoded / (1.0 - deep)) ** 2)

        # At most: every token carried by a prompt iteration of an endless queue, a geometric number of them each.
        each_s, carry = load.work.endless(batch)
        most = np.maximum(each_s / carry - decode_s, 1e-6)
        most_var = each_s**2 * ((mean_square / mean_s**2 - 1.0) / carry + (1.0 - carry) / carry**2)
        most_var = np.maximum(most_var, 1e-9 * most**2)  # prompts of one length have no spread

        def by_class(values: Array) -> Array:
            """Reshape (R, A) to (R, 1, A), to broadcast against the gaps (C, 1)."""
            return values[:, None, :]

        g = gaps[:, None]
        behind = np.where(g > 0.0, by_class(q), 0.0)
        extra = by_class(sooner) * -np.expm1(-g * by_class(decoded * decode_s / lasting_s))
        mean = g * by_class(prompts_per_gap * net) + extra * by_class(net / (1.0 - deep))
        mean += behind * by_class(emptied)
        variance = g * by_class(prompts_per_gap * period_square)
        variance += behind * (by_class(emptied_var) + (1.0 - behind) * by_class(emptied**2))
        none = (1.0 - behind) * np.exp(g * by_class(np.log1p(-starts)) - extra)
        some = np.maximum(1.0 - none, 1e-12)
        given = mean / some
        given_var = np.maximum((variance + mean**2) / some - given**2, 1e-12 * given**2 + 1e-30)
        return _Lost(
            none=none,
            shape=np.clip(given**2 / given_var, 1e-3, 1e9),
            scale_s=given_var / np.maximum(given, 1e-15),
            most_shape=np.maximum(g, 1e-3) * by_class(most**2 / most_var),
            most_scale_s=np.broadcast_to(by_class(most_var / most), none.shape),
        )

    def _tbt_share(self, kind: str, value: float, load: _Load, at: Sizes) -> Array:
        c, limit_s = self.with_tbt(kind, value)
        gaps = c.gaps
        if not gaps.size:
            return np.zeros(at.shape)
        probability = load.tokens.probability[0]

        def slack_s(batch: Array) -> Array:
            """Largest affordable loss of the requests, in s (R, C, A)."""
            return limit_s[:, None] - gaps[:, None] * self.token_side.iteration_s(batch)[:, None, :]

        # Too slow without any prompt, by merged atoms (R, C, M).
        batch = load.tokens.batch[at]
        into = probability[:, None] * (_MERGED[:, None] == np.arange(_MERGED[-1] + 1))
        slow = (slack_s(batch) < 0.0).astype(np.float64) @ into
        share: Array = c.weight @ slow.sum(axis=2).T

        # The time lost to prompts varies little with the batch, so that fewer atoms suffice.
        rows = np.flatnonzero(self._losing(load, at, gaps))
        merged = batch[rows] @ into / into.sum(axis=0)
        above = self._lost(load, at[rows], gaps, merged).above(np.maximum(slack_s(merged), 0.0))
        share[rows] += c.weight @ np.sum(above * (into.sum(axis=0) - slow[rows]), axis=2).T
        return share

    def _e2e_share(self, kind: str, value: float, load: _Load, at: Sizes) -> Array:
        c, side = self.traffic.joint, load.prompts
        gaps = c.gaps
        batch = np.maximum(load.tokens.mean_batch[at, None], 1.0)
        before, probability = self._before_prompt(load, at)
        prompts_s = np.array([prompt_s(c.prompt_tokens) for prompt_s in side.curves])[side.level[at]]
        allowed = limits_s(self.reference, "e2e", kind, value, c) - prompts_s
        allowed = allowed - gaps * self.token_side.iteration_s(batch) - (before @ probability)[:, None]

        # Quantiles of the time lost depend on the class through its gaps alone, smoothly.
        knots = _gap_knots(float(gaps.max(initial=0.0)))
        rows = np.flatnonzero(self._losing(load, at, gaps))
        lost = self._lost(load, at[rows], knots, batch[rows]).quantiles_s(_LOST_LEVELS)
        lost[:, 0] = 0.0
        some = lost.any(axis=(1, 2))
        rows, lost = rows[some], lost[some]
        left = np.clip(np.searchsorted(knots, gaps, side="right") - 1, 0, knots.size - 2)
        part = ((gaps - knots[left]) / (knots[left + 1] - knots[left]))[:, None]
        below = lost[:, left]
        lost = below + (lost[:, left + 1] - below) * part

        share, others = np.empty(at.size), np.setdiff1d(np.arange(at.size), rows)
        share[rows] = side.delayed(c.prompt_tokens, allowed[rows], lost, c.weight[:, None] * _LOST_WEIGHTS, at[rows])
        nothing = np.zeros((others.size, 1, 1))
        share[others] = side.delayed(c.prompt_tokens, allowed[others], nothing, c.weight[:, None], at[others])
        return share

    def _losing(self, load: _Load, at: Sizes, gaps: Array) -> NDArray[np.bool_]:
        """Whether requests with ``gaps`` (C,) lose more than negligible time to prompts at the sizes ``at`` (R,)."""
        life_s = float(gaps.max(initial=0.0)) * self.token_side.iteration_s(load.tokens.batch[at, -1])
        prompts = load.interrupted[at] * load.prompt_rate_rps[at] * life_s
        return prompts + load.prompts.waits[at] > NEGLIGIBLE


def _after_release(replicas: Array, busy: Array, mean_s: Array) -> tuple[Array, Array]:
    """Busy periods of prompts beyond the mean rate just after a replica has run its prompts, and their excess's length.

    Both (R, 1), the second in s: omega alpha tau / (1 + alpha tau) and tau / (1 + alpha tau), with the K replicas that
    are free of prompts distributed as in Erlang's loss system.
    """
    from scipy.special import gammaln

    most = int(replicas.max(initial=1.0))
    taken = np.arange(most + 1.0)[None, :]
    n, offered = replicas[:, None], np.maximum(replicas[:, None] * busy, _LEAST)
    log_weight = np.where(taken <= n, taken * np.log(offered) - gammaln(taken + 1.0), -np.inf)
    weight = np.exp(log_weight - log_weight.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)
    free = np.maximum(n - taken, 0.0)
    mean_free = np.sum(weight * free, axis=1, keepdims=True)
    some = np.sum(weight * (free > 0.0), axis=1, keepdims=True)
    inverse = np.sum(weight * np.where(free > 0.0, 1.0 / np.maximum(free, 1.0), 0.0), axis=1, keepdims=True)
    omega = np.maximum(inverse * mean_free / some**2 - 1.0, 0.0)
    alpha_tau = some * offered / mean_free  # the mean rate at which a free replica is taken, per mean service
    lasting = 1.0 / (1.0 + alpha_tau)
    return omega * alpha_tau * lasting, mean_s * lasting


def _gap_knots(largest: float) -> Array:
    """Knots at 0, 1, and further whole numbers of gaps in steps of ``_GAPS_RATIO``, up to the largest at least."""
    count = int(np.log(max(largest, 2.0)) / np.log(_GAPS_RATIO)) + 2
    return np.unique(np.append(0.0, np.rint(_GAPS_RATIO ** np.arange(count))))


def _gamma_tail(share: Array, shape: Array, x: Array) -> Array:
    """``share`` times P(X > x) of standard Gamma distributions, elementwise.

    Chernoff's bound ``(x / a)^a e^(a - x)``, on P(X > x) above the mean a and on P(X < x) below it, shows which
    shares are negligible or whole; the others are computed.
    """
    from scipy.special import gammaincc

    doubt = x - shape - shape * np.log(np.maximum(x, 1e-300) / shape) < np.log(share / NEGLIGIBLE)
    result = np.where(x < shape, share, 0.0)
    result[doubt] = share[doubt] * gammaincc(shape[doubt], x[doubt])
    return result


def _mates(sequences: Array, replicas: Array, busy: Array) -> Array:
    """Sequences (N, K) on the replica that a prompt goes to: the fewest of any, spread evenly where no prompt runs."""
    free = np.maximum(replicas * (1.0 - busy), 1.0)
    return np.maximum(evenly_shared(sequences + 1.0, free) - 1.0, 0.0) * np.minimum(free / replicas, 1.0)
