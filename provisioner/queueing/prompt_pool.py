"""Time to the first token in a pool of prompt machines: M/G/c with batches, for every pool size at once.

`docs/explanation/queueing.md` derives every step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from provisioner.deadline import check_time, in_time
from provisioner.perf.curves import MAX_BATCHED_PROMPT_TOKENS
from provisioner.queueing.erlang import erlang_b, peakedness
from provisioner.queueing.traffic import LARGEST_STABLE_LOAD, Queues

Array = NDArray[np.float64]

PromptTime = Callable[[Array], Array]  # time of a prompt iteration, in s, by its batched tokens; any shape

# Prompt iterations stop growing at this many batched tokens (Splitwise, section IV-B: throughput falls beyond it).
BATCH_TOKENS = MAX_BATCHED_PROMPT_TOKENS
_TOKEN_CELL = 64  # resolution of the packing recursion: 3 % of the limit
_DEEPEST = 6  # prompts per replica beyond which a longer queue packs no better (shares converge by the third)
# The renewal equation is stepped at a tenth of the mean service time, over 16 of them; beyond it, Lundberg's exponent.
_STEPS_PER_SERVICE = 10
_STEPS = 160
_GRID_POINTS = 192
# Prompts gather between one choice of a batch and the next: with d waiting on average, a replica chooses from d + 1.
_CHOICE = 1.0
NEGLIGIBLE = 1e-7  # shares of requests below it count as 0: limits are on shares of one in a thousand and more
_LARGEST_MASS = 1e50  # masses beyond it are scaled down; only their ratios matter


@dataclass(frozen=True, slots=True)
class Packing:
    """Effect of batching on prompts that wait, by the number k = 1.._DEEPEST of prompts waiting per replica.

    ``service_s`` (C,) are the times of prompts alone. ``efficiency[k-1]`` is the time the prompts of a batch would
    take one by one over the time of the batch, (K,). ``extra_s[j, k-1]`` is the delay of a prompt of token cell j by
    its batch mates, (cells + 1, K), the last row for prompts beyond the limit, which run alone. ``saturated`` is the
    efficiency of an endless queue.
    """

    service_s: Array
    efficiency: Array
    extra_s: Array
    saturated: float


def token_cell(prompt_tokens: Array, batch_tokens: int = BATCH_TOKENS) -> NDArray[np.int64]:
    """Index (any shape) of the token cell nearest to a prompt; prompts beyond the limit share the last index."""
    cells = batch_tokens // _TOKEN_CELL
    nearest = np.clip(np.rint(prompt_tokens / _TOKEN_CELL).astype(np.int64), 1, cells) - 1
    return np.where(prompt_tokens > batch_tokens, cells, nearest)


def batch_cells(batch_tokens: int = BATCH_TOKENS) -> Array:
    """Batched tokens of each number of filled cells (cells,): 64, 128, ... up to the limit."""
    return np.arange(1.0, batch_tokens // _TOKEN_CELL + 1.0) * _TOKEN_CELL


class Filling:
    """Filling of iterations of at most ``batch_tokens`` by independent prompts in the order of their arrival.

    A recursion over the tokens already in the batch: the next prompt joins if it fits, else it closes the batch and
    begins the next one. ``prompt_tokens`` and ``weight`` (C,) are the prompt-length distribution, ``single[j]`` is the
    share of prompts of token cell j, (cells + 1,), the last for prompts beyond the limit. Let k = 2.._DEEPEST prompts
    wait, the first of cell j: ``batches[k-2, j, s]`` is the probability that its batch ends with s + 1 filled cells,
    and ``reached[k-2, j, s]`` the mean number of times that it has s + 1 filled cells when the next prompt comes, both
    (K - 1, cells, cells). ``opener`` and ``closed`` (cells + 1,) are the prompts that open a batch and the batches by
    filled cells in an endless queue, per prompt.
    """

    def __init__(self, prompt_tokens: Array, weight: Array, batch_tokens: int = BATCH_TOKENS) -> None:
        self.prompt_tokens, self.weight, self.batch_tokens = prompt_tokens, weight, batch_tokens
        cells = batch_tokens // _TOKEN_CELL
        self.cell = token_cell(prompt_tokens, batch_tokens)
        self.single = pmf = np.asarray(np.bincount(self.cell, weight, cells + 1), dtype=np.float64)
        short, long_share = pmf[:cells], pmf[cells]
        fits = np.zeros((cells, cells))  # from s + 1 filled cells to more: the next prompt joins
        for s in range(cells - 1):
            fits[s, s + 1 :] = short[: cells - 1 - s]
        closes = 1.0 - fits.sum(axis=1)

        state = np.eye(cells)  # row: the cell of the opening prompt; column: cells filled in a batch still open
        seen, ended = np.zeros((cells, cells)), np.zeros((cells, cells))
        batches, reached = [], []
        for _ in range(1, _DEEPEST):
            seen = seen + state
            ended = ended + state * closes
            state = state @ fits
            reached.append(seen)
            batches.append(ended + state)
        self.batches, self.reached = np.array(batches), np.array(reached)
        # In an endless queue the prompt that closed a batch opens the next one, so openers are not fair draws.
        visits = np.linalg.inv(np.eye(cells) - fits)
        closing = np.array([np.where(np.arange(cells) > cells - 2 - s, short, 0.0) for s in range(cells)])
        opener = pmf.copy()
        for _ in range(20):
            filled = opener[:cells] @ visits
            opener = np.append(filled @ closing, filled.sum() * long_share) + opener[cells] * pmf
        prompts = filled.sum() + opener[cells]
        self.closed = np.append(filled * closes, opener[cells]) / prompts
        self.opener = opener / prompts

    def packed(self, prompt_s: PromptTime) -> Packing:
        """Packing with given times of iterations."""
        cells = self.single.size - 1
        service_s = prompt_s(self.prompt_tokens)
        alone_weighted_s = np.bincount(self.cell, self.weight * service_s, cells + 1)
        batch_s = prompt_s(batch_cells(self.batch_tokens))
        mean_s = alone_weighted_s / np.maximum(self.single, 1e-300)
        alone_s = np.where(self.single > 0, mean_s, np.append(batch_s, batch_s[-1]))
        short, long_s = self.single[:cells], float(alone_weighted_s[cells])

        joined_s = np.append(np.cumsum(alone_weighted_s[: cells - 1])[::-1], 0.0)
        work_s = alone_s[:cells] + self.reached @ joined_s
        time_s = self.batches @ batch_s + alone_s[:cells] - batch_s
        gain = (work_s @ short + long_s) / (time_s @ short + long_s)
        extra_s = np.zeros((_DEEPEST, cells + 1))
        extra_s[1:, :cells] = np.maximum(time_s - alone_s[:cells], 0.0)

        rounding_s = self.opener[:cells] @ (alone_s[:cells] - batch_s)
        endless_s = float(self.closed[:cells] @ batch_s + self.closed[cells] * alone_s[cells] + rounding_s)
        return Packing(
            service_s=service_s,
            efficiency=np.maximum.accumulate(np.append(1.0, gain)),
            extra_s=extra_s.T,
            saturated=max(float(alone_weighted_s.sum()) / endless_s, 1.0),
        )


@dataclass(frozen=True)
class PromptPool(Queues):
    """Wait for a prompt iteration in pools of several sizes; one row per size.

    ``backlog_s`` (G,) is a grid of the work that an arrival finds ahead, in seconds of all replicas together; ``tail``
    (N, G) is the probability that it finds more; the first column is the probability of waiting at all.
    ``delay_s`` (J, G) is the delay that a backlog adds to the time alone of a prompt of each token cell: the wait and
    the batch mates. ``load`` is over the capacity of an endless queue.
    """

    backlog_s: Array
    tail: Array
    delay_s: Array
    batch_tokens: int

    def exceedance(self, prompt_tokens: Array, slack_s: Array, weight: Array) -> Array:
        """Share (N,) of requests whose delay before the first token is above their affordable delay.

        ``slack_s`` (M, ...) is the affordable delay of each class beyond its prompt's time alone, in every state,
        ``weight`` (M, ...) its share, and ``prompt_tokens`` (M,) its prompt length; a negative slack is exceeded
        without any queue.
        """
        grid = self.backlog_s.size
        cell = token_cell(prompt_tokens, self.batch_tokens).reshape(-1, *(1,) * (slack_s.ndim - 1))
        curve, shift = self.one_curve
        never = slack_s < 0.0
        delay_s = np.clip(slack_s, 0.0, self.delay_s[cell, -1])  # the weights of longer ones are on the last point
        position = np.interp(delay_s + shift[cell], curve, np.arange(curve.size, dtype=np.float64))
        position = (position - cell * float(grid)).ravel()
        left = np.minimum(position.astype(np.int64), grid - 2)
        met = np.where(never, 0.0, weight).ravel()
        after = met * (position - left)
        mass = np.bincount(left, met - after, grid) + np.bincount(left + 1, after, grid)  # of the tail at each point
        share: Array = self.tail @ mass + weight[never].sum()
        return np.where(self.stable, share, weight.sum())

    @cached_property
    def one_curve(self) -> tuple[Array, Array]:
        """Rows of delays joined into one rising curve, each shifted beyond the row before, and the shifts."""
        shift = (2.0 * self.delay_s[:, -1].max() + 1.0) * np.arange(self.delay_s.shape[0])
        return (self.delay_s + shift[:, None]).ravel(), shift

    def longer(self, row: int, cell: NDArray[np.int64], slack_s: Array) -> Array:
        """P(delay > slack) (M,) at one size, for prompts of the token cells ``cell`` (M,)."""
        tail = self.tail[row]
        result = (slack_s < 0.0).astype(np.float64)
        # No prompt is delayed beyond the point at which the tail counts as 0: most slacks need no interpolation.
        last = min(int(np.count_nonzero(tail > NEGLIGIBLE)), tail.size - 1)
        inside = np.flatnonzero((slack_s >= 0.0) & (slack_s < self.delay_s[:, last][cell]))
        curve, shift = self.one_curve
        at = slack_s[inside] + shift[cell[inside]]
        result[inside] = np.interp(at, curve, np.tile(tail, shift.size))
        return result


def prompt_load(fill: Filling, packed: Packing, rate_rps: float, replicas: NDArray[np.int64]) -> Array:
    """Rate over the capacity (N,) of an endless queue, at these numbers of replicas (N,)."""
    mean_s = float(np.sum(fill.weight * packed.service_s))
    return rate_rps * mean_s / replicas.astype(np.float64) / packed.saturated


def prompt_pools(
    fill: Filling,
    parts: Sequence[tuple[Packing, NDArray[np.int64]]],
    rate_rps: float,
    cv: float = 1.0,
    one_queue: bool = False,
) -> list[PromptPool]:
    """Queueing for a prompt iteration by the M/G/c approximation, for several packings, each with its own pool sizes.

    P(wait) of ``one_queue`` is Erlang's, at Hayward's equivalent load if arrivals are peaked. If each arrival
    keeps to its replica, it is midway to the loss system's. Given a wait, the backlog solves the
    renewal equation of van Hoorn and Tijms (first the least of c residual services, then an M/G/1 of c-fold speed),
    with a drain rate that rises as deeper queues fill the batches. Without batching it is exact for M/M/c and M/G/1.
    ``cv`` is the coefficient of variation of inter-arrival times. The recursions of all packings run as one.
    """
    starts = [_Start(fill, packed, rate_rps, replicas, cv, one_queue) for packed, replicas in parts]
    if not starts:
        return []
    servers = np.concatenate([start.servers for start in starts])
    offered = np.concatenate([start.rho for start in starts]) * servers
    blocked = erlang_b(servers, offered)
    # Fewer wait than in one queue, since a wait keeps no other replica busy.
    kept = np.full(servers.shape, np.nan) if one_queue else _waits_without_jockeying(servers, offered)
    ends = np.cumsum([start.replicas.size for start in starts])[:-1]
    by_start = (np.split(array, ends) for array in (*_renewal(starts), blocked, kept))
    return [start.pool(*solution) for start, *solution in zip(starts, *by_start, strict=True)]


class _Start:
    """Terms of the renewal equation of the backlogs, for the sizes (N,) of one packing in K steps (N, K).

    ``servers`` (N,) are equivalent ones if arrivals are peaked, ``rho`` (N,) is the load without batching, and
    ``depth_gain`` the speed-up by batching at 0, 1, ... prompts waiting per replica.
    """

    def __init__(
        self, fill: Filling, packed: Packing, rate_rps: float, replicas: NDArray[np.int64], cv: float, one_queue: bool
    ) -> None:
        self.fill, self.packed, self.replicas, self.one_queue = fill, packed, replicas, one_queue
        service_s, weight = packed.service_s, fill.weight
        self.mean_s = mean_s = float(np.sum(weight * service_s))
        self.cs2 = cs2 = float(np.sum(weight * service_s**2)) / mean_s**2 - 1.0
        check_time()
        c = replicas.astype(np.float64)
        self.servers = c / peakedness(cv, service_s, weight)
        self.load = prompt_load(fill, packed, rate_rps, replicas)
        self.stable = self.load < LARGEST_STABLE_LOAD
        # An unstable pool has no distribution: its row is not used.
        self.rho = np.where(self.stable, self.load, 0.5) * packed.saturated
        self.depth_gain = np.concatenate(([0.0], packed.efficiency - 1.0))
        if self.depth_gain[-1] > 0.0:
            self.depth_gain *= (packed.saturated - 1.0) / self.depth_gain[-1]

        # Burstier (or smoother) arrivals stretch the backlog as in the heavy-traffic limit (Kingman 1962).
        self.stretch = max((cv * cv + cs2) / (1.0 + cs2), 0.05)
        stretched_s = service_s * self.stretch
        order = np.argsort(stretched_s)
        stretched_s, weight = stretched_s[order], weight[order]
        # Each size's grid (N,) reaches beyond the first component, which grows with c where jobs keep their replica: to
        # what the shortest of c length-biased services exceeds once in a thousand times.
        reach_s = np.full(c.shape, _STEPS * mean_s * self.stretch / _STEPS_PER_SERVICE)
        if not one_queue:
            below = np.cumsum(weight * stretched_s)
            longest = np.searchsorted(below / below[-1], 1.0 - np.power(1e-3, 1.0 / c))
            reach_s = np.maximum(reach_s, c * stretched_s[np.minimum(longest, weight.size - 1)])
        self.step = (reach_s / _STEPS)[:, None]
        edges = self.step * np.arange(_STEPS + 1.0)
        kernel = -np.diff(_residual_tail(stretched_s, weight, edges), axis=1)
        # The sum of two cells spreads over two cells.
        self.kernel = (kernel + np.concatenate((np.zeros((c.size, 1)), kernel[:, :-1]), axis=1)) / 2.0
        check_time()
        if one_queue:
            least = np.power(_residual_tail(stretched_s, weight, edges / c[:, None]), c[:, None])
        else:
            least = _shortest_residual_tail(stretched_s, weight, edges / c[:, None], c)
        self.first = -np.diff(least, axis=1)
        check_time()
        centre = (edges[:, :-1] + edges[:, 1:]) / 2.0
        self.speed = 1.0 + self.gain(_CHOICE + centre / c[:, None] / mean_s)

    def gain(self, prompts: Array) -> Array:
        """Factor by which batching speeds up a replica at which this many prompts wait; any shape."""
        return np.asarray(np.interp(prompts, np.arange(_DEEPEST + 1.0), self.depth_gain), dtype=np.float64)

    def pool(self, mass: Array, scale: Array, blocked: Array, kept: Array) -> PromptPool:
        """Pools, from the solution of the renewal equation and the probabilities of finding all replicas busy.

        ``kept`` is the probability if each arrival keeps to its replica.
        """
        check_time()
        c, mean_s, stretch = self.replicas.astype(np.float64), self.mean_s, self.stretch
        slowest = np.max(1.0 / (c * np.where(self.stable, 1.0 - self.load, 1.0)), initial=1.0 / c.max())
        furthest = mean_s * (_DEEPEST + 20.0 * stretch * (1.0 + self.cs2) * slowest)
        nearest = mean_s * stretch / c.max() / 20.0
        backlog = np.append(0.0, np.exp(np.linspace(np.log(nearest), np.log(furthest), _GRID_POINTS - 1)))
        drain = 1.0 + self.gain(_CHOICE + backlog / mean_s)
        eta = _lundberg(self.packed.service_s * stretch, self.fill.weight, drain / self.rho[:, None])
        tail, shrunk = _tail_of(mass, self.step, c, backlog, eta)
        check_time()
        waits = 1.0 / (1.0 + (1.0 - blocked) * scale * shrunk / np.maximum(tail[:, 0] * blocked, 1e-300))
        tail = tail / np.maximum(tail[:, :1], 1e-300)
        if not self.one_queue:
            # Those who wait do so longer: the wait is midway between the two extremes, and half of what that takes
            # off the mean goes into its length (geometrically).
            longer = np.sqrt(2.0 * waits / np.maximum(waits + kept, 1e-300))
            longer = np.maximum(longer, 1e-3)  # 0 where none waits
            waits = (waits + kept) / 2.0
            rows = in_time(zip(longer, tail, strict=True))
            tail = np.array([np.interp(backlog / by, backlog, row) for by, row in rows])
        check_time()
        drained = 1.0 + self.gain(_CHOICE + 0.75 * backlog / mean_s)
        depths = np.arange(float(_DEEPEST))
        mates = np.array([np.interp(backlog / mean_s, depths, row) for row in self.packed.extra_s])
        return PromptPool(
            load=self.load,
            backlog_s=backlog,
            tail=np.where(self.stable[:, None], tail * waits[:, None], 1.0),
            delay_s=np.maximum.accumulate(backlog / drained + mates, axis=1),
            batch_tokens=self.fill.batch_tokens,
        )


def _renewal(starts: Sequence[_Start]) -> tuple[Array, Array]:
    """Masses (N, K) of the work ahead of a waiting prompt, in steps, relative to a first component scaled by (N,)."""
    first, kernel, speed, rho = (
        np.concatenate([getattr(start, name) for start in starts]) for name in ("first", "kernel", "speed", "rho")
    )
    mass = np.empty(first.shape)
    scale = np.ones(rho.shape)  # where the queue grows until batches fill, the masses are kept within a float's range
    for k in range(_STEPS):
        check_time()
        arriving = scale * first[:, k] + rho * np.einsum("nk,nk->n", mass[:, :k], kernel[:, k:0:-1])
        mass[:, k] = arriving / np.maximum(speed[:, k] - rho * kernel[:, 0], 1e-9)
        over = mass[:, k] > _LARGEST_MASS
        if over.any():
            scale[over] /= _LARGEST_MASS
            mass[over, : k + 1] /= _LARGEST_MASS
    return mass, scale


def _sums_from(values: Array) -> Array:
    """Sums of the values (..., n) from each place to the last, and 0 beyond it: (..., n + 1)."""
    sums = np.cumsum(values[..., ::-1], axis=-1)[..., ::-1]
    return np.concatenate((sums, np.zeros((*values.shape[:-1], 1))), axis=-1)


def _residual_tail(service_s: Array, weight: Array, at_s: Array) -> Array:
    """P(residual > t) at ``at_s``, any shape, of ascending services: their tail's integral from t over their mean."""
    share, work = _sums_from(weight), _sums_from(weight * service_s)
    index = np.searchsorted(service_s, at_s, side="right")
    return np.asarray((work[index] - at_s * share[index]) / work[0])


def _shortest_residual_tail(service_s: Array, weight: Array, at_s: Array, c: Array) -> Array:
    """P(residual > t) (N, T) of the shortest of c (N,) length-biased services (ascending), at ``at_s`` (N, T)."""
    check_time()
    work = weight * service_s
    tail = _sums_from(work) / work.sum()
    power = np.power(np.clip(tail, 0.0, 1.0)[None, :], c[:, None])
    shortest = power[:, :-1] - power[:, 1:]
    count, inverse = _sums_from(shortest), _sums_from(shortest / service_s)
    check_time()
    index = np.searchsorted(service_s, at_s, side="right")
    return np.take_along_axis(count, index, 1) - at_s * np.take_along_axis(inverse, index, 1)


def _waits_without_jockeying(servers: Array, offered_load: Array) -> Array:
    """P(wait) (N,) if an arrival that finds every server busy lengthens the busy period of one of them.

    It is the root of ``P = B(c, a / (1 - P))``; for one server, ``P = a``.
    """
    low, high = np.zeros(servers.shape), np.full(servers.shape, 1.0 - 1e-9)
    for _ in range(30):
        check_time()
        middle = (low + high) / 2.0
        above = erlang_b(servers, offered_load / (1.0 - middle)) > middle
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return high


def _lundberg(service_s: Array, weight: Array, drain_over_load: Array) -> Array:
    """Decay rate (per second of work, any shape) of the backlog's density far out, at a ratio of drain rate to load.

    Lundberg's equation ``E[(exp(eta S) - 1) / (eta E[S])] = drain / load``; negative where the load exceeds the drain.
    """
    mean_s = float(np.sum(weight * service_s))
    scaled = np.concatenate((-np.geomspace(20.0, 1e-3, 60), np.geomspace(1e-3, 20.0, 120)))
    eta = scaled / mean_s
    exponent = np.minimum(eta[:, None] * service_s[None, :], 600.0)
    ratio = (np.expm1(exponent) / eta[:, None]) @ weight / mean_s
    return np.interp(np.log(drain_over_load), np.log(ratio), eta)


def _tail_of(mass: Array, step: Array, c: Array, backlog_s: Array, eta: Array) -> tuple[Array, Array]:
    """Unnormalised P(backlog > x) (N, G): masses (N, K) at steps (N, 1), continued with the decay rates eta (N, G).

    Also returns the factor (N,) by which a row was scaled down to stay within a float's range.
    """
    work = c[:, None] * backlog_s[None, :]
    fall = np.cumsum((eta[:, 1:] + eta[:, :-1]) / 2.0 * np.diff(work, axis=1), axis=1)
    fall = np.concatenate((np.zeros((c.size, 1)), fall), axis=1)
    end = mass.shape[1] * step[:, 0]
    position = np.interp(end / c, backlog_s, np.arange(backlog_s.size))
    left = np.minimum(position.astype(np.int64), backlog_s.size - 2)
    share = position - left
    rows = np.arange(c.size)
    fall_at_end = fall[rows, left] * (1.0 - share) + fall[rows, left + 1] * share
    check_time()
    log_density = np.log(np.maximum(mass[:, -1:] / step, 1e-300)) + fall_at_end[:, None] - fall
    beyond_range = np.maximum(log_density.max(axis=1), 0.0)
    scale = np.exp(-np.minimum(beyond_range, 600.0))
    density = np.exp(np.maximum(log_density - beyond_range[:, None], -700.0))
    mass = mass * scale[:, None]
    check_time()
    # Integrate outward: exponential within each interval, so that coarse steps keep their mass.
    a, b, width = density[:, :-1], density[:, 1:], np.diff(work, axis=1)
    steep = np.abs(a - b) > 1e-9 * (a + b)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        pieces = np.where(steep, (a - b) / np.log(np.maximum(a, 1e-320) / np.maximum(b, 1e-320)), (a + b) / 2.0) * width
    outer = density[:, -1] / np.maximum(eta[:, -1], 1e-12)
    beyond = np.concatenate((np.cumsum(pieces[:, ::-1], axis=1)[:, ::-1] + outer[:, None], outer[:, None]), axis=1)
    check_time()
    beyond_end = beyond[rows, left + 1] + pieces[rows, left] * (1.0 - share)
    within = _sums_from(mass)
    at = np.minimum(work / step, mass.shape[1])
    below = np.minimum(at.astype(np.int64), mass.shape[1] - 1)
    part = at - below
    stepped = np.take_along_axis(within, below, 1) * (1.0 - part) + np.take_along_axis(within, below + 1, 1) * part
    return np.where(work < end[:, None], stepped + beyond_end[:, None], beyond), scale
