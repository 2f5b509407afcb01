"""Workloads: the joint distribution of prompt and output tokens, with rate and burstiness of arrivals."""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from provisioner.errors import InputError
from provisioner.specs.lengths import FloatArray, IntArray, Lengths, binned, coarser_ratios, freeze, numbered, summed
from provisioner.specs.units import parse_fraction, parse_non_negative, parse_positive

# A trace with at most this many distinct (prompt, output) pairs is kept exactly; the product of two
# marginals is kept below it too. Beyond it classes cost time in the queueing model and add no accuracy.
MAX_CLASSES = 4000


@dataclass(frozen=True, slots=True)
class ArrivalProfile:
    """Arrivals of requests in a trace: measured (``traces.profile``), not a plan's assumption.

    ``cv`` is the coefficient of variation of the gaps between arrivals (1 for Poisson), None below three requests or
    without any time between them; ``mean_rate_rps`` is (requests - 1) / duration, None without duration.
    ``rate_by_minute_rps`` is the mean rate in each full minute from the first arrival on (in the whole duration if it
    is below a minute). ``index_of_dispersion`` is, for each window length in s, the variance over the mean of the
    numbers of arrivals in full windows (1 for Poisson). ``peak_rate_rps`` and ``cv_within_windows`` are those of the
    rate levels (``rate_levels``), None if a workload is not planned by its trace's; the peak of a trace that is too
    short to have one is its mean.
    """

    duration_s: float
    requests: int
    mean_rate_rps: float | None
    cv: float | None
    rate_by_minute_rps: tuple[float, ...]
    index_of_dispersion: Mapping[int, float]
    peak_rate_rps: float | None = None
    cv_within_windows: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Workload:
    """Requests as a joint distribution of prompt and output tokens, with a rate and burstiness.

    Class c stands for the share ``weight[c]`` of the requests, with the lengths of class c of ``prompt`` and
    ``output``, drawn independently. All arrays have shape (C,) and are read-only; the weights are scaled to sum to 1.

    ``rate_rps`` is the peak rate to plan for, ``cv`` the coefficient of variation of the gaps between arrivals (1 for
    Poisson), ``arrivals`` the profile measured in the trace, ``context_share_reused`` the share of prompt tokens that a
    prefix cache had seen before, if the trace states it.

    >>> w = from_lengths("two", [100, 300], [10, 20])
    >>> w.weight.tolist(), w.mean_prompt_tokens, w.quantile("output", 0.5)
    ([0.5, 0.5], 200.0, 10.0)
    """

    name: str
    title: str
    weight: FloatArray
    prompt: Lengths
    output: Lengths
    rate_rps: float
    cv: float = 1.0
    arrivals: ArrivalProfile | None = None
    context_share_reused: float | None = None
    sources: tuple[str, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        what = f"workload {self.name}"
        if self.weight.ndim != 1 or not self.weight.size:
            raise InputError(f"{what}: has no classes of requests")
        for side, lengths in (("prompt", self.prompt), ("output", self.output)):
            tokens, low, high = lengths.tokens, lengths.low, lengths.high
            if not tokens.shape == low.shape == high.shape == self.weight.shape:
                raise InputError(f"{what}: {side} tokens, bounds and weight differ in length")
            for k in np.flatnonzero(~((low >= 1) & (low <= tokens) & (tokens <= high))):
                raise InputError(
                    f"{what}: class {k + 1}: {side} tokens must satisfy 1 <= low <= mean <= high, "
                    f"got {low[k]}, {tokens[k]:g}, {high[k]}"
                )
        for k in np.flatnonzero(~((self.weight > 0) & np.isfinite(self.weight))):
            raise InputError(f"{what}: class {k + 1}: weight: must be above 0, got {self.weight[k]:g}")
        freeze(self, "weight", self.weight / self.weight.sum())
        parse_positive(self.rate_rps, f"{what}: rate_rps", "requests/s")
        parse_non_negative(self.cv, f"{what}: cv")
        if self.context_share_reused is not None:
            parse_fraction(self.context_share_reused, f"{what}: context_share_reused")

    @property
    def classes(self) -> int:
        """Number of classes C."""
        return int(self.weight.size)

    @property
    def mean_prompt_tokens(self) -> float:
        """Mean prompt tokens of a request."""
        return float(self.weight @ self.prompt.tokens)

    @property
    def mean_output_tokens(self) -> float:
        """Mean output tokens of a request."""
        return float(self.weight @ self.output.tokens)

    @property
    def longest_tokens(self) -> int:
        """Prompt and output tokens of the longest request."""
        return int((self.prompt.high + self.output.high).max())

    def longer_than(self, tokens: int) -> str:
        """The requests that may be longer, prompt and output together, as a phrase."""
        share = float(self.weight[self.prompt.high + self.output.high > tokens].sum())
        return f"up to {100.0 * share:.3g} % of the requests of {self.name}"

    def quantile(self, side: Literal["prompt", "output"], q: float) -> float:
        """Smallest number of tokens that at least the fraction ``q`` of the requests do not exceed.

        The distribution is the one that ``sample`` draws from, with the lengths spread over each bin.
        """
        parse_fraction(q, f"workload {self.name}: quantile")
        lengths = self.prompt if side == "prompt" else self.output
        tokens = range(int(lengths.low.min()), int(lengths.high.max()))
        # 1e-12: sums of weights are not exact, and half of two requests must be the first of them
        return float(tokens.start + bisect_left(tokens, q - 1e-12, key=lambda n: float(self.weight @ lengths.cdf(n))))

    def sample(self, rng: np.random.Generator, n: int) -> tuple[IntArray, IntArray]:
        """Prompt and output tokens of ``n`` requests, each of shape (n,), drawn as pairs.

        A class is drawn by weight, then each length from its bin, independently.
        """
        chosen = np.searchsorted(np.cumsum(self.weight), rng.random(n), side="right")
        chosen = np.minimum(chosen, self.classes - 1)
        return self.prompt.take(chosen).at(rng.random(n)), self.output.take(chosen).at(rng.random(n))

    def coarsen(self, max_classes: int) -> "Workload":
        """Workload of at most ``max_classes`` classes, with the same mean lengths.

        Classes are grouped on a grid of logarithmic steps, the finest of a fixed series that is coarse
        enough; a group's lengths are the weighted means of its classes, its bins span theirs.
        """
        if max_classes < 1:
            raise InputError(f"workload {self.name}: max_classes: must be 1 or more, got {max_classes}")
        if self.classes <= max_classes:
            return self
        bins = ((self.prompt.log_bins(ratio), self.output.log_bins(ratio)) for ratio in coarser_ratios())
        groups = (numbered(rows * self.classes + columns) for rows, columns in bins)
        group = next(group for group in groups if group.max() < max_classes)
        weight, prompt = _grouped(self.weight, self.prompt, group)
        return replace(self, weight=weight, prompt=prompt, output=self.output.merged(group, self.weight))

    def independent(self) -> "Workload":
        """Workload with independent prompts and outputs: the product of the marginals, coarsened to ``MAX_CLASSES``."""
        prompt_weight, prompt = self._marginal(self.prompt)
        output_weight, output = self._marginal(self.output)
        for ratio in coarser_ratios():
            if prompt_weight.size * output_weight.size <= MAX_CLASSES:
                break
            prompt_weight, prompt = _grouped(prompt_weight, prompt, prompt.log_bins(ratio))
            output_weight, output = _grouped(output_weight, output, output.log_bins(ratio))
        rows, columns = np.indices((prompt_weight.size, output_weight.size)).reshape(2, -1)
        weight = prompt_weight[rows] * output_weight[columns]
        return replace(self, weight=weight, prompt=prompt.take(rows), output=output.take(columns))

    def scaled(self, prompt: float = 1.0, output: float = 1.0) -> "Workload":
        """Workload with every prompt and every output length multiplied by a factor; at least one token each."""
        return replace(self, prompt=self.prompt.scaled(prompt), output=self.output.scaled(output))

    def _marginal(self, lengths: Lengths) -> tuple[FloatArray, Lengths]:
        same = np.stack([lengths.low, lengths.high, lengths.tokens])
        _, group = np.unique(same, axis=1, return_inverse=True)
        return _grouped(self.weight, lengths, group.reshape(-1).astype(np.int64))


def prefix_remark(share: float | None) -> tuple[str, ...]:
    """Remark on prompt tokens of which a share repeats prefixes; none up to 1 %."""
    why = "repeat a prefix seen before; prefix caching is not modelled, and would shorten the prompt phase"
    return (f"{share:.0%} of the prompt tokens {why}",) if share is not None and share > 0.01 else ()


def _grouped(weight: FloatArray, lengths: Lengths, group: IntArray) -> tuple[FloatArray, Lengths]:
    return summed(group, weight), lengths.merged(group, weight)


def from_lengths(
    name: str, prompt_tokens: ArrayLike, output_tokens: ArrayLike, *, max_exact: int = MAX_CLASSES, **fields: Any
) -> Workload:
    """Workload of the given lengths (both of shape (n,)), with the same weight for each request.

    Other ``fields`` are those of ``Workload``; unless given, the title is the name, and the rate 1 request/s.
    Up to ``max_exact`` distinct pairs are kept exactly. More are put into pairs of bins (``lengths.binned``) with each
    bin's mean over all requests, so that both mean lengths are exact, and made coarser beyond ``MAX_CLASSES``.

    >>> from_lengths("w", [5, 5, 7], [2, 2, 9]).weight.round(3).tolist()
    [0.667, 0.333]
    """
    prompts = np.asarray(prompt_tokens, dtype=np.int64)
    outputs = np.asarray(output_tokens, dtype=np.int64)
    if prompts.shape != outputs.shape or prompts.ndim != 1 or not prompts.size:
        raise InputError(f"workload {name}: needs as many prompt as output lengths, at least one")
    if prompts.min() < 1 or outputs.min() < 1:
        raise InputError(f"workload {name}: prompt and output tokens must be 1 or more")
    weight, prompt, output = _exact_pairs(prompts, outputs, max_exact) or _binned_pairs(prompts, outputs)
    given: dict[str, Any] = {"title": name, "rate_rps": 1.0} | fields
    return Workload(name=name, weight=weight, prompt=prompt, output=output, **given).coarsen(MAX_CLASSES)


_PART = 1_000_000  # requests looked at together: bounds the memory of a trace of many millions


def _exact_pairs(prompts: IntArray, outputs: IntArray, most: int) -> tuple[FloatArray, Lengths, Lengths] | None:
    """Count and lengths of each distinct pair, or None where there are more than ``most``."""
    span = int(outputs.max()) + 1
    for part in (slice(_PART), slice(None)):
        pairs, counts = np.unique(prompts[part] * span + outputs[part], return_counts=True)
        if pairs.size > most:
            return None
    return counts.astype(np.float64), Lengths.exact(pairs // span), Lengths.exact(pairs % span)


def _binned_pairs(prompts: IntArray, outputs: IntArray) -> tuple[FloatArray, Lengths, Lengths]:
    """Count and lengths of each pair of bins that holds a request."""
    prompt_edges, prompt = binned(prompts)
    output_edges, output = binned(outputs)
    shape = prompt_edges.size, output_edges.size
    counts = np.zeros(shape[0] * shape[1], dtype=np.int64)
    for start in range(0, prompts.size, _PART):
        part = slice(start, start + _PART)
        row = np.searchsorted(prompt_edges, prompts[part], side="right") - 1
        column = np.searchsorted(output_edges, outputs[part], side="right") - 1
        counts += np.bincount(row * shape[1] + column, minlength=counts.size)
    rows, columns = np.nonzero(counts.reshape(shape))
    return counts[counts > 0].astype(np.float64), prompt.take(rows), output.take(columns)
