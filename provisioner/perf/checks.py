"""Checks of a latency curve, since more work cannot take less time.

A fall beyond the noise of the repeats is refused (the run ran out of memory), a dip inside it is levelled.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from provisioner.perf.points import PHASES, CurvePoint, Phase

Floats = NDArray[np.float64]

MEASUREMENT_NOISE: Final = 0.10
"""Fall of the latency, as a fraction, that is still noise: 0.10, sensible from 0.09 to 0.15.

It is counted from the fastest repeat of the smaller work to the slowest of the larger, so it is what sessions differ
by: up to 8.4 % in the published measurements (Llama2-70B, DGX-A100, TP 2: 54.9 and 60.0 ms). The largest fall among
sound points is 4.4 %; runs that did not fit in memory fall by 85 % and more (prompt) and 19 % (decode, DGX-H100).
"""


@dataclass(frozen=True, slots=True)
class RefusedPoint:
    """A point that is not used, with the reason."""

    point: CurvePoint
    reason: str


@dataclass(frozen=True, slots=True)
class Dip:
    """A fall inside the noise that was levelled: the work, its median time and the time used instead, both in s.

    ``at`` is the work on the curve's axis: batched tokens for the prompt phase, batch for decode.
    """

    phase: Phase
    at: float
    measured_s: float
    used_s: float

    @property
    def reason(self) -> str:
        """Text of the dip for messages, times in ms."""
        axis = f"{self.at:g} tokens" if self.phase == "prompt" else f"batch {self.at:g}"
        return (
            f"{self.phase} at {axis}: {1e3 * self.measured_s:.2f} ms is out of order within the noise,"
            f" levelled to {1e3 * self.used_s:.2f} ms"
        )


def find_unphysical(points: Sequence[CurvePoint], noise: float = MEASUREMENT_NOISE) -> tuple[RefusedPoint, ...]:
    """Points whose latency falls beyond the noise although their work rises, each with its reason.

    Two points of one phase conflict when all repeats of the larger work are faster than (1 - ``noise``) times the
    fastest repeat of the smaller work. The point in most conflicts is refused until none is left, among equals the one
    with the most work. A prompt and its decode come from one run: both are refused together.

    >>> def at(batch, seconds):
    ...     return CurvePoint("prompt", 512, batch, 0, seconds, 5, seconds * 0.99, seconds * 1.01, "measured")
    >>> [r.point.batch for r in find_unphysical([at(16, 3.2), at(32, 6.6), at(64, 0.8)])]
    [64]
    >>> find_unphysical([at(1, 0.058), at(2, 0.055)])
    ()
    """
    reasons: dict[int, str] = {}
    for phase in PHASES:
        index = [i for i, p in enumerate(points) if p.phase == phase]
        subset = [points[i] for i in index]
        if len(subset) < 2:
            continue
        falls = _falls(subset, noise)
        size = np.array([p.batched_tokens + p.context_tokens for p in subset])
        while falls.any():
            conflicts = falls.sum(axis=0) + falls.sum(axis=1)
            worst = int(np.lexsort((size, conflicts))[-1])
            reasons[index[worst]] = _reason(subset, falls, worst)
            falls[worst, :] = falls[:, worst] = False
    for j, reason in tuple(reasons.items()):
        refused = points[j]
        for i, p in enumerate(points):
            # a single prompt has no decode of its run: it pools runs of several output lengths
            same_run = (p.prompt_tokens, p.batch) == (refused.prompt_tokens, refused.batch) and p.batch > 1
            if same_run and p.phase != refused.phase:
                reasons.setdefault(i, f"same run as the refused {refused.label}: {reason}")
    return tuple(RefusedPoint(points[i], reasons[i]) for i in sorted(reasons))


def _falls(points: Sequence[CurvePoint], noise: float) -> NDArray[np.bool_]:
    """Whether point j falls below point i although its work is no smaller, shape (points, points).

    falls[i, j] = work_j >= work_i in every coordinate, more in one, and max_j < (1 - noise) x min_i.
    """
    work = np.array([[p.prompt_tokens, p.batch, p.output_tokens] for p in points], dtype=float)
    rise = work[None, :, :] - work[:, None, :]
    fastest, slowest = np.array([p.min_s for p in points]), np.array([p.max_s for p in points])
    more: NDArray[np.bool_] = (rise >= 0).all(axis=2) & (rise > 0).any(axis=2)
    return more & (slowest[None, :] < (1.0 - noise) * fastest[:, None])


def _reason(points: Sequence[CurvePoint], falls: NDArray[np.bool_], worst: int) -> str:
    """Reason why one point is refused: the conflict with the largest contrast, in numbers."""
    low = points[worst]
    slower_before = [points[i] for i in np.flatnonzero(falls[:, worst]).tolist()]
    if slower_before:
        other = max(slower_before, key=lambda p: p.latency_s)
        return (
            f"falls from {other.latency_s:.4g} s at {other.label} to {low.latency_s:.4g} s although the work"
            " rises, beyond the noise of the repeats: the run cannot have done the work (out of memory?)"
        )
    other = min((points[j] for j in np.flatnonzero(falls[worst, :]).tolist()), key=lambda p: p.latency_s)
    return (
        f"takes {low.latency_s:.4g} s, more than the {other.latency_s:.4g} s of the larger {other.label},"
        " beyond the noise of the repeats: something else slowed the run"
    )


def isotonic(values: Floats, weights: Floats) -> Floats:
    """Non-decreasing values closest to ``values`` in weighted least squares (pool adjacent violators).

    Shapes (n,) and (n,), weights above 0. Reference: Barlow, Bartholomew, Bremner, Brunk (1972).

    >>> isotonic(np.array([58.0, 52.0, 60.0]), np.array([1.0, 2.0, 1.0])).tolist()
    [54.0, 54.0, 60.0]
    """
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        mean, total, count = value, weight, 1
        while blocks and blocks[-1][0] > mean:
            before, before_weight, before_count = blocks.pop()
            mean = (before * before_weight + mean * total) / (before_weight + total)
            total, count = total + before_weight, count + before_count
        blocks.append((mean, total, count))
    return np.concatenate([np.full(count, mean) for mean, _, count in blocks])
