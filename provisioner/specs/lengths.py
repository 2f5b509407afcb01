"""Token counts of one side of requests, prompt or output, as classes with a mean and integer bounds.

A class spreads its lengths over the integers low..high: uniformly below its mean and uniformly above it, such that
they have that mean. The part below it has the probability (high + 1/2 - mean) / (high - low + 1).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# Each bin's upper edge over its lower one. 12 % steps keep the product of the marginals of both shipped
# workloads below MAX_CLASSES, and every percentile from P5 to P99 of either within 2.5 % (or one token) of
# its trace's (tested).
BIN_RATIO = 1.12

# The bins that hold these percentiles, on which plans are judged, are narrow: 1 % of the value, or one integer.
EXACT_QUANTILES = (0.5, 0.9, 0.99)
EXACT_WIDTH = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class Lengths:
    """Mean tokens and inclusive integer bounds of C classes; all of shape (C,), and read-only."""

    tokens: FloatArray
    low: IntArray
    high: IntArray

    def __post_init__(self) -> None:
        for array in (self.tokens, self.low, self.high):
            array.flags.writeable = False

    @staticmethod
    def exact(tokens: IntArray) -> "Lengths":
        """Classes of one length each."""
        return Lengths(tokens.astype(np.float64), tokens, tokens)

    def take(self, index: IntArray | NDArray[np.bool_]) -> "Lengths":
        """Classes at ``index``."""
        return Lengths(self.tokens[index], self.low[index], self.high[index])

    def cdf(self, upto: int | IntArray) -> FloatArray:
        """Probability, for each class, that its length is at most the integer ``upto``.

        >>> Lengths.exact(np.array([5, 7])).cdf(6).tolist()
        [1.0, 0.0]
        """
        left, right = self.low - 0.5, self.high + 0.5
        x = np.clip(np.asarray(upto) + 0.5, left, right)
        share_below = (right - self.tokens) / (right - left)
        below = share_below * (x - left) / (self.tokens - left)
        above = 1.0 - (1.0 - share_below) * (right - x) / (right - self.tokens)
        return np.where(x <= self.tokens, below, above)

    def at(self, u: FloatArray) -> IntArray:
        """Length of each class at the probability ``u`` of shape (C,): the inverse of ``cdf``."""
        left, right = self.low - 0.5, self.high + 0.5
        share_below = (right - self.tokens) / (right - left)
        below = left + (self.tokens - left) * (u / share_below)
        above = right - (right - self.tokens) * ((1.0 - u) / (1.0 - share_below))
        tokens = np.floor(np.where(u <= share_below, below, above) + 0.5)
        return np.clip(tokens, self.low, self.high).astype(np.int64)

    def merged(self, group: IntArray, weight: FloatArray) -> "Lengths":
        """One class for each group 0, 1, ...: the weighted mean, and bounds that enclose the group.

        >>> Lengths.exact(np.array([2, 4])).merged(np.array([0, 0]), np.array([1.0, 3.0])).tokens.tolist()
        [3.5]
        """
        groups = int(group.max()) + 1
        low = np.full(groups, np.iinfo(np.int64).max)
        high = np.zeros(groups, dtype=np.int64)
        np.minimum.at(low, group, self.low)
        np.maximum.at(high, group, self.high)
        mean = summed(group, weight * self.tokens) / summed(group, weight)
        return Lengths(np.clip(mean, low, high), low, high)

    def scaled(self, factor: float) -> "Lengths":
        """Lengths multiplied by ``factor`` and rounded; at least one token, and each mean within its bin."""
        low, high = scaled_tokens(self.low, factor), scaled_tokens(self.high, factor)
        return Lengths(np.clip(self.tokens * factor, low, high), low, high)

    def log_bins(self, ratio: float) -> IntArray:
        """Number of the logarithmic bin of each class's mean; one bin for all with an infinite ratio."""
        if math.isinf(ratio):
            return np.zeros(self.tokens.shape, dtype=np.int64)
        edges = log_edges(math.floor(self.tokens.min()), math.floor(self.tokens.max()), ratio)
        return numbered(np.searchsorted(edges, self.tokens, side="right"))


def freeze(owner: object, field: str, array: FloatArray | IntArray) -> None:
    """Set a field of a frozen dataclass to an array that nobody can change."""
    array.flags.writeable = False
    object.__setattr__(owner, field, array)


def scaled_tokens(tokens: IntArray, factor: float) -> IntArray:
    """Token counts multiplied by ``factor`` and rounded; at least one token.

    >>> scaled_tokens(np.array([1, 10, 101]), 0.25).tolist()
    [1, 2, 25]
    """
    result: IntArray = np.maximum(np.rint(tokens * factor), 1).astype(np.int64)
    return result


def summed(group: IntArray, weight: FloatArray) -> FloatArray:
    """Sum of the weights of each group 0, 1, ...

    >>> summed(np.array([0, 1, 0]), np.array([1.0, 2.0, 3.0])).tolist()
    [4.0, 2.0]
    """
    return np.bincount(group, weight).astype(np.float64)


def numbered(labels: NDArray[np.int64]) -> IntArray:
    """Return labels replaced by 0, 1, ... in their order, without gaps.

    >>> numbered(np.array([7, 3, 7])).tolist()
    [1, 0, 1]
    """
    _, number = np.unique(labels, return_inverse=True)
    return number.astype(np.int64)


def log_edges(first: int, last: int, ratio: float) -> list[int]:
    """Lower edges of bins of integers from ``first``, each ``ratio`` above the one before, and last + 1.

    >>> log_edges(1, 20, 1.5)
    [1, 2, 3, 4, 6, 9, 14, 21]
    """
    edges = [first]
    while edges[-1] <= last:
        edges.append(min(max(edges[-1] + 1, round(edges[-1] * ratio)), last + 1))
    return edges


def coarser_ratios() -> list[float]:
    """Bin ratios, from ``BIN_RATIO`` to an infinite one that puts all in one bin."""
    return [*(1 + (BIN_RATIO - 1) * 1.15**k for k in range(60)), math.inf]


def binned(tokens: IntArray) -> tuple[IntArray, Lengths]:
    """Lower edges of the bins of lengths of shape (n,), and the bins that hold a length.

    Edges are in steps of ``BIN_RATIO`` (single integers at small lengths), with more around the percentiles of
    ``EXACT_QUANTILES``. A bin's mean is the mean of its lengths; its bounds are the smallest and the largest length.
    """
    values, counts = np.unique(tokens, return_counts=True)
    edges = set(log_edges(int(values[0]), int(values[-1]), BIN_RATIO))
    reached = np.cumsum(counts)
    for q in EXACT_QUANTILES:
        at = float(values[np.searchsorted(reached, q * reached[-1])])
        edges |= {math.ceil(at * (1 - EXACT_WIDTH / 2)), math.floor(at * (1 + EXACT_WIDTH / 2)) + 1}
    lower = np.array(sorted(edge for edge in edges if edge >= values[0]), dtype=np.int64)
    held = np.searchsorted(lower, values, side="right") - 1
    bins = Lengths.exact(values).merged(numbered(held), counts.astype(np.float64))
    return lower[np.unique(held)], bins
