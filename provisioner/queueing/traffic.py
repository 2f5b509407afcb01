"""Traffic at a cluster, for the latency model: classes of requests, rates in time, burstiness, load on pools."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Sizes = NDArray[np.int64]

# Classes that carry the joint distribution; twice as many move no percentile by more than 0.3 % (tested).
_OUTPUT_RATIO = 1.15
_PROMPT_RATIO = 1.4
# Ratios of the classes if one side of the lengths hardly matters.
_BY_OUTPUT_PROMPT_RATIO, _BY_OUTPUT_RATIO = 3.0, 1.25
_BY_PROMPT_RATIO = 1.01
_EXACT_OUTPUTS = 12  # shorter outputs are kept exactly: their TBT spreads the cost of a second token over few gaps


@dataclass(frozen=True, slots=True)
class Classes:
    """Requests in C classes: mean prompt and output tokens of a class and its share; arrays (C,)."""

    prompt_tokens: Array
    output_tokens: Array
    weight: Array

    @property
    def gaps(self) -> Array:
        """Gaps between the tokens of a request (C,): its iterations in the token phase."""
        return np.maximum(self.output_tokens - 1.0, 0.0)

    def grouped(self, prompt_ratio: float, output_ratio: float) -> "Classes":
        """Requests grouped on a grid of logarithmic steps (short outputs exact), means kept."""
        prompt_bin = np.floor(np.log(self.prompt_tokens) / np.log(prompt_ratio)).astype(np.int64)
        output_bin = np.floor(np.log(self.output_tokens) / np.log(output_ratio)).astype(np.int64) + _EXACT_OUTPUTS
        exact = self.output_tokens < _EXACT_OUTPUTS
        output_bin = np.where(exact, np.rint(self.output_tokens).astype(np.int64), output_bin)
        return self.merged(prompt_bin * (int(output_bin.max()) + 1) + output_bin)

    def merged(self, key: NDArray[np.int64]) -> "Classes":
        """Requests with the classes of equal key (C,) merged, means kept."""
        _, group = np.unique(key, return_inverse=True)
        weight = np.asarray(np.bincount(group, self.weight), dtype=np.float64)
        prompt = np.bincount(group, self.weight * self.prompt_tokens) / weight
        output = np.bincount(group, self.weight * self.output_tokens) / weight
        return Classes(prompt, output, weight)


@dataclass(frozen=True, eq=False)
class Traffic:
    """Requests of given classes arriving at one rate, or at several in turn; equal to itself alone.

    ``windows`` are (rate in requests/s, share of all requests) pairs: one for a steady rate; for a trace, its rates by
    minute, taken as steady within a minute (the pointwise stationary approximation, Green and Kolesar 1991).
    ``cv`` is the coefficient of variation of inter-arrival times within a window: 1 for Poisson.
    """

    classes: Classes
    windows: tuple[tuple[float, float], ...]
    cv: float = 1.0

    @property
    def peak_rps(self) -> float:
        """The largest rate of any window, in requests/s."""
        return max(rate for rate, _ in self.windows)

    @property
    def mean_rps(self) -> float:
        """Requests over time, in requests/s: the harmonic mean of the rates over requests."""
        return 1.0 / sum(share / rate for rate, share in self.windows)

    @cached_property
    def joint(self) -> Classes:
        """Classes fine enough for end-to-end times."""
        return self.classes.grouped(_PROMPT_RATIO, _OUTPUT_RATIO)

    @cached_property
    def by_output(self) -> Classes:
        """Classes fine enough for times between tokens, which hardly depend on the prompt."""
        return self.classes.grouped(_BY_OUTPUT_PROMPT_RATIO, _BY_OUTPUT_RATIO)

    @cached_property
    def by_prompt(self) -> Classes:
        """Classes fine enough for times to the first token."""
        steps = np.log(self.classes.prompt_tokens) / np.log(_BY_PROMPT_RATIO)
        return self.classes.merged(np.floor(steps).astype(np.int64))

    def scaled(self, factor: float) -> "Traffic":
        """Traffic of the requests arriving ``factor`` times as fast."""
        return Traffic(self.classes, tuple((rate * factor, share) for rate, share in self.windows), self.cv)

    def restricted(self, inside: NDArray[np.bool_], share: float) -> "Traffic":
        """Traffic of some classes (a mask (C,)) with a share of all requests, arriving at this share of the rate.

        A fixed share of a renewal process is nearer to Poisson: ``cv^2`` falls to ``1 + share (cv^2 - 1)``.
        """
        c = self.classes
        part = Classes(c.prompt_tokens[inside], c.output_tokens[inside], c.weight[inside] / c.weight[inside].sum())
        cv = float(np.sqrt(max(1.0 + share * (self.cv * self.cv - 1.0), 0.0)))
        return Traffic(part, tuple((rate * share, portion) for rate, portion in self.windows), cv)


LARGEST_STABLE_LOAD = 0.999  # share of a pool's capacity; at 1 its queue has no stationary distribution


@dataclass(frozen=True, slots=True)
class Queues:
    """Queues of a pool under one rate at several sizes: ``load`` (N,) is the rate over the capacity."""

    load: Array

    @property
    def stable(self) -> NDArray[np.bool_]:
        """Sizes (N,) whose load leaves the queue a stationary distribution."""
        return self.load < LARGEST_STABLE_LOAD
