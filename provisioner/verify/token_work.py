"""The least time that decode takes on replicas that decode alone, where it has to keep a limit on TBT.

An iteration with a batch of B sequences takes a(B) + k C, with the context tokens C that they hold. The k C of all
iterations together is fixed by the requests. A token's part of the rest is a(B) / B, and a limit on TBT bounds B: the
TBT of a request is at least the mean time of the iterations that give its tokens. So N tokens within a limit L take at
least N h(L), with h the largest convex falling function that is nowhere above a(B) / B at a batch's time of an
iteration: any mix of batches whose mean over tokens is L takes as much. Requests beyond the limit may decode in the
largest batches, and as few tokens as possible are within it if the requests with the most tokens are not.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from provisioner.perf.assumptions import ReplicaPerf
from provisioner.simulation.run import Prepared
from provisioner.specs.slo import LatencyLimit

Floats = NDArray[np.float64]


def decode_load(
    perf: ReplicaPerf, sets: Sequence[Prepared], limits: Sequence[LatencyLimit], largest_batch: int
) -> float:
    """The replicas that decode keeps busy at least in some request set if TBT is within its limits; 0 without any.

    A limit on a mean over request sets holds in one of them at least. The time is that from the arrival of the first
    measured request to the last one's, and the mean time that tokens are waited for beyond it.
    """
    limits = [limit for limit in limits if limit.metric == "tbt" and limit.parts == (limit,)]
    timed = all(each.requests.follows is None and each.requests.in_flight is None for each in sets)
    decodes = [each.requests.counted & (each.requests.output_tokens > 1) for each in sets]
    if not limits or not timed or perf.assumptions != "measured" or not all(map(np.any, decodes)):
        return 0.0
    batch = np.arange(1.0, largest_batch + 1.0)
    alone_s = np.asarray(perf.decode_s(batch, np.zeros_like(batch)), dtype=np.float64)
    per_token_s = float(perf.decode_s(1.0, 1.0)) - float(perf.decode_s(1.0, 0.0))
    least = min(int(each.requests.prompt_tokens[has].min()) for each, has in zip(sets, decodes, strict=True))
    loads = []
    for limit in limits:
        value_s = limit.value
        if limit.kind == "slowdown":
            references = (each.alone_s("tbt")[has] for each, has in zip(sets, decodes, strict=True))
            value_s *= max(float(reference_s.max()) for reference_s in references)
        within_s = least_s_per_token(alone_s + per_token_s * least * batch, alone_s / batch, value_s)
        in_sets = []
        for each, has in zip(sets, decodes, strict=True):
            tokens = each.requests.output_tokens[has] - 1.0
            context = each.requests.prompt_tokens[has] + tokens / 2.0
            within = float(np.sort(tokens)[: math.floor((tokens.size - 1) * limit.quantile)].sum())
            beyond = float(tokens.sum()) - within
            work_s = within * within_s + beyond * float(np.min(alone_s / batch)) + per_token_s * float(tokens @ context)
            span_s = float(np.ptp(each.requests.arrival_s[has])) + value_s * float(tokens @ tokens / tokens.sum())
            in_sets.append(work_s / max(span_s, 1e-9))
        loads.append(min(in_sets))
    return max(loads)


def least_s_per_token(iteration_s: Floats, s_per_token: Floats, mean_s: float) -> float:
    """The least mean time per token of a mix of batches whose iterations take at most ``mean_s``, a mean over tokens.

    Batches have the times ``iteration_s`` (n,) in rising order and take ``s_per_token`` (n,). Infinite if every batch
    takes longer.

    >>> least_s_per_token(np.array([1.0, 2.0, 3.0]), np.array([1.0, 0.9, 0.4]), 2.0)
    0.7
    """
    if mean_s < iteration_s[0]:
        return math.inf
    inside = iteration_s <= mean_s
    least = float(s_per_token[inside].min())
    if inside.all():
        return least
    # the lowest chord from a batch within the mean to one beyond it, at the mean
    x, y, u, v = iteration_s[inside], s_per_token[inside], iteration_s[~inside], s_per_token[~inside]
    share = (mean_s - x[:, np.newaxis]) / (u - x[:, np.newaxis])
    return min(least, float(np.min(y[:, np.newaxis] * (1.0 - share) + v * share)))
