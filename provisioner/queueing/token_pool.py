"""Time between tokens in a pool of token machines: continuous batching as processor sharing, every size at once.

`docs/explanation/queueing.md` derives the steps.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from provisioner.queueing.traffic import LARGEST_STABLE_LOAD, Array, Queues

BATCH_REQUESTS = 512  # sequences that one iteration holds at most (the published scheduler's limit)
_GRID_POINTS = 512
_COARSE_POINTS = 400
# Quantile atoms of the occupancy that latencies are averaged over; denser towards the upper tail.
_ATOM_EDGES = np.array([0.0, 0.05, 0.2, 0.4, 0.6, 0.75, 0.85, 0.92, 0.96, 0.98, 0.99, 0.995, 0.999, 1.0])
ATOMS = _ATOM_EDGES.size - 1
_FEWEST_TOKENS = 1e-9  # mean iterations of a request below which the token phase is idle: all end with their prompt
_LOG_CUTOFF = 32.0  # log-density below its peak at which the occupancy's distribution is cut off (e^-32 = 1e-14)


@dataclass(frozen=True, slots=True)
class TokenPool(Queues):
    """Occupancy of pools of several sizes, as atoms of the batch that an arriving sequence finds and shares.

    One row per size (N,): ``load`` is the rate over the largest sustainable one. ``found`` (N, A) are the sequences in
    the whole pool that an arrival finds, with probabilities ``probability`` (N, A). ``batch`` (N, A) are the sequences
    on the replica that it joins, itself included, and ``mean_batch`` (N,) per replica on average. ``waiting_s`` (N, A)
    is the mean wait for KV memory in that state, ``joins`` (N, A) is 1 if an arrival meets an iteration in progress
    and 0 if some replica idles. ``relaxation_s`` (N,) is the time for which the occupancy remembers its state, and
    ``fastest_rps`` (N,) the most requests per second that one replica completes.
    """

    replicas: NDArray[np.int64]
    found: Array
    batch: Array
    mean_batch: Array
    probability: Array
    waiting_s: Array
    joins: Array
    relaxation_s: Array
    fastest_rps: Array


def token_pool(
    iteration_s: Callable[[Array], Array],
    tokens_per_request: float,
    rate_rps: float,
    replicas: NDArray[np.int64],
    largest_batch: float,
    peakedness: float = 1.0,
    size_cv: float = 0.0,
    queue_stretch: float = 1.0,
) -> TokenPool:
    """Stationary batches of a pool of replicas that share their requests evenly, for sizes ``replicas`` (N,).

    ``iteration_s(b)`` is the time of an iteration of b >= 1 sequences. It is called once with every batch (1, K), and
    returns one row (1, K) or, if it depends on the size, a row per size (N, K). ``tokens_per_request`` is the mean
    number of iterations of a request, ``largest_batch`` the mean number of sequences that the KV memory holds,
    ``size_cv`` the coefficient of variation of a sequence's memory, ``queue_stretch`` the length of the queue for room
    relative to M/M/c.

    With x requests in the pool, ``pi(x) ~ prod_{i<=x} rate / mu(i)``, ``mu(i) = n h(i / n)`` and ``h(b) = held(b) /
    (iteration_s(held(b)) tokens_per_request)`` (Cohen 1979; insensitivity: Bonald and Proutiere 2003). A peaked
    arrival process widens it as in Hayward's approximation, ``pi^(1/z)``; beyond the memory, ``pi^(1/stretch)``.
    """
    n = replicas.astype(np.float64)[:, None]

    # Requests per second that leave a replica whose batch is a whole number: the speed is needed at these alone.
    whole_batches = np.arange(1.0, np.floor(largest_batch) + 3.0)[None, :]
    done = whole_batches / iteration_s(whole_batches) / max(tokens_per_request, _FEWEST_TOKENS)
    done = np.concatenate((np.zeros((done.shape[0], 1)), done), axis=1)

    def completions(b: Array) -> Array:
        """Requests per second that leave one replica with b sequences, of which the ones beyond its memory wait."""
        held = np.minimum(b - beyond_memory(b, n, largest_batch, size_cv), BATCH_REQUESTS)
        whole = held.astype(np.int64)
        low, high = np.take_along_axis(done, whole, 1), np.take_along_axis(done, whole + 1, 1)
        return low + (held - whole) * (high - low)

    every = np.append(np.arange(1.0, largest_batch), 4.0 * largest_batch)
    fastest = np.broadcast_to(np.max(completions(every[None, :]), axis=1), replicas.shape)
    load = rate_rps / (n[:, 0] * fastest)
    stable = load < LARGEST_STABLE_LOAD
    rate = np.where(stable, rate_rps, 0.5 * n[:, 0] * fastest)[:, None]

    # First pass, coarse, on a common grid of batches, to find the mass. Second pass: there, in whole requests.
    beyond = float(largest_batch) * np.concatenate(
        (np.linspace(0.0, 1.0, _COARSE_POINTS), np.geomspace(1.01, 200.0, 60))
    )
    middle = (beyond[1:] + beyond[:-1]) / 2.0
    drift = np.log(rate) - np.log(n * completions(middle[None, :]))
    drift = np.where(middle > largest_batch, drift / queue_stretch, drift)
    log_density = np.concatenate((np.zeros_like(n), np.cumsum(drift * n * np.diff(beyond)[None, :], axis=1)), axis=1)
    log_density /= peakedness
    peak = log_density.max(axis=1, keepdims=True)
    inside = log_density > peak - _LOG_CUTOFF
    first = np.maximum(np.argmax(inside, axis=1) - 1, 0)
    last = np.minimum(beyond.size - np.argmax(inside[:, ::-1], axis=1), beyond.size - 1)
    low = np.floor(beyond[first][:, None] * n)
    high = np.ceil(beyond[last][:, None] * n) + 2.0
    stride = np.maximum(np.ceil((high - low) / (_GRID_POINTS - 1)), 1.0)
    x = low + stride * np.arange(_GRID_POINTS)
    between = x[:, 1:] - (stride - 1.0) / 2.0
    steps = stride * (np.log(rate) - np.log(n * completions(between / n)))
    steps = np.where(between > n * largest_batch, steps / queue_stretch, steps)
    log_pi = np.concatenate((np.zeros_like(n), np.cumsum(steps, axis=1)), axis=1) / peakedness
    pi = np.exp(log_pi - log_pi.max(axis=1, keepdims=True))
    pi /= pi.sum(axis=1, keepdims=True)

    # Sequences that an arrival finds (arrivals see time averages), as quantile atoms; then the batch that it shares.
    cumulative = np.cumsum(pi, axis=1)
    probability = np.diff(_ATOM_EDGES)
    ahead = _atoms(cumulative, pi, x)
    shared = evenly_shared(ahead + 1.0, n)
    queued = beyond_memory((ahead + 1.0) / n, n, largest_batch, size_cv)
    held = np.maximum(shared - beyond_memory(shared, n, largest_batch, size_cv), 1.0)
    mean_x = np.sum(pi * x, axis=1)
    spread = np.maximum(np.sum(pi * (x - mean_x[:, None]) ** 2, axis=1), 1e-9)
    return TokenPool(
        replicas=replicas,
        load=load,
        found=ahead,
        batch=held,
        mean_batch=np.minimum(mean_x / n[:, 0], largest_batch),
        probability=np.broadcast_to(probability, ahead.shape),
        waiting_s=queued / fastest[:, None],
        fastest_rps=fastest,
        # An atom of exactly n must not depend on how its sum was rounded.
        joins=(ahead >= n * (1.0 - 1e-9)).astype(np.float64),
        # A birth-death process forgets its state at about variance over rate (exact for M/M/infinity: one lifetime).
        relaxation_s=spread / (peakedness * rate[:, 0]),
    )


def beyond_memory(batch: Array, replicas: Array, largest_batch: float, size_cv: float) -> Array:
    """Sequences per replica (N, K) that find no KV memory where ``batch`` (N, K) would share each replica's.

    ``E[(b + cv sqrt(b / n) Z - B)+]`` with Z standard normal. The memory of b sequences varies from replica to replica
    and in time, by the variance of the pool's total over its n replicas, as arrivals go to the least taken one.
    """
    from scipy.special import ndtr

    mean = batch - largest_batch
    if size_cv == 0.0:
        return np.maximum(mean, 0.0)
    spread = size_cv * np.sqrt(np.maximum(batch, 1e-9) / replicas)
    z = mean / spread
    lacking: Array = mean * ndtr(z) + spread * np.exp(-z * z / 2.0) / np.sqrt(2.0 * np.pi)
    return np.minimum(lacking, np.maximum(batch, 0.0))


def _atoms(cumulative: Array, pi: Array, x: Array) -> Array:
    """Conditional means (N, A) of x between the quantiles of ``_ATOM_EDGES``."""
    at = np.minimum([np.searchsorted(row, _ATOM_EDGES) for row in cumulative], x.shape[1] - 1)
    below = np.concatenate((np.zeros((2, x.shape[0], 1)), (cumulative, np.cumsum(pi * x, axis=1))), axis=2)
    before, moment = np.take_along_axis(below, at[None], 2)
    partial = moment + np.maximum(_ATOM_EDGES - before, 0.0) * np.take_along_axis(x, at, 1)
    return np.asarray(np.diff(partial, axis=1) / np.diff(_ATOM_EDGES))


def evenly_shared(sequences: Array, replicas: Array) -> Array:
    """Mean batch that a sequence shares when ``sequences`` (>= 1) are spread evenly: ``sum b_i^2 / sum b_i``."""
    fewest = np.floor(sequences / replicas)
    fuller = sequences - fewest * replicas
    total = fuller * (fewest + 1.0) ** 2 + (replicas - fuller) * fewest**2
    return np.asarray(np.maximum(total / sequences, 1.0))
