"""One run of a benchmark tool, in terms common to all tools.

All times are in s. A time of a run is a ``Spread`` over its requests (or over its gaps between tokens).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from provisioner.errors import InputError
from provisioner.perf.points import CurvePoint
from provisioner.specs.catalog import Catalog

Floats = NDArray[np.float64]

TTFT_RANGE_S = (1e-3, 3600.0)  # plausible times to a first token at a client: a request over HTTP alone takes 1 ms
GAP_RANGE_S = (1e-4, 10.0)  # plausible times of one iteration of a model
UNIT_SLIP: Final = 0.02  # mean requests in flight over the number held, below which the times must be in another unit
TOKENS_A_GAP: Final = 0.9  # gaps of a run per token after the first, below which tokens came in bundles
IN_BUNDLE: Final = 0.1  # share of the mean gap,
IN_BUNDLE_S: Final = 1e-3  # and time, below both of which a gap is one between tokens of a bundle


@dataclass(frozen=True, slots=True)
class Replica:
    """Replica that a file is read for, and properties of its runs that the user gives and the file may lack."""

    model: str
    machine: str
    tensor_parallel: int
    input_tokens: float | None
    output_tokens: float | None
    concurrency: int | None
    known: Catalog


@dataclass(frozen=True, slots=True)
class Spread:
    """A time over the requests of a run, in s: its median and mean, and its extremes if the file gives them."""

    median_s: float
    mean_s: float
    min_s: float | None = None
    max_s: float | None = None

    @classmethod
    def of(cls, values_s: Floats | Sequence[float]) -> Self:
        """Spread of single values, shape (n,), n at least 1."""
        return cls(*(float(statistic(values_s)) for statistic in (np.median, np.mean, np.min, np.max)))


@dataclass(frozen=True, slots=True, eq=False)
class Details:
    """Every successful request of a run, in any order: arrays of shape (requests,).

    ``start_s`` are times of sending on one clock, ``last_s`` times from there to the last token. ``gaps_s`` holds the
    times between tokens of each request, None if the file has none.
    """

    start_s: Floats | None
    ttft_s: Floats
    last_s: Floats
    prompt_tokens: Floats
    output_tokens: Floats
    gaps_s: tuple[Floats, ...] | None


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One run of a benchmark: its load, its lengths and its times.

    ``in_flight`` is the number of requests that the client keeps in flight, None if it holds none or the file does not
    state it. ``requests`` is the number that succeeded, 0 if not stated. ``tpot`` is the mean gap of a request, ``gap``
    the single gaps of all requests pooled. ``vary`` is the standard deviation of the prompt's length over its mean,
    ``cached`` the share of prompt tokens from the prefix cache; None if unknown. ``lengths`` says how they were drawn.
    """

    source: str
    model_id: str
    load: str
    in_flight: int | None
    requests: int
    failed: int
    prompt_tokens: float
    output_tokens: float
    vary: float | None = None
    ttft: Spread | None = None
    tpot: Spread | None = None
    gap: Spread | None = None
    rate_rps: float | None = None
    speculative: bool = False
    cached: float | None = None
    details: Details | None = None
    lengths: str = ""

    def __post_init__(self) -> None:
        """Refuse a rate and times that contradict the requests in flight by orders of magnitude."""
        held = self.in_flight and min(self.in_flight, self.requests or self.in_flight)
        average = self.mean_in_flight
        if held and average is not None and not UNIT_SLIP * held <= average <= held / UNIT_SLIP:
            raise InputError(
                f"{self.source}: its rate and times give {average:.3g} requests in flight where {held} were held: "
                "are its times in another unit?"
            )

    def with_details(self, details: Details) -> Self:
        """The run with the times of every request, from which its spreads follow."""
        several, gaps_s = details.output_tokens > 1, np.concatenate(details.gaps_s or [[]])
        means_s = (details.last_s - details.ttft_s)[several] / (details.output_tokens[several] - 1)
        return replace(
            self,
            details=details,
            ttft=Spread.of(details.ttft_s),
            tpot=Spread.of(means_s) if means_s.size else self.tpot,
            gap=Spread.of(gaps_s) if gaps_s.size else None,
            vary=float(details.prompt_tokens.std() / details.prompt_tokens.mean()),
        )

    @property
    def bundled(self) -> bool:
        """Whether tokens came in bundles: fewer gaps than tokens, or gaps of nothing. No gap is an iteration then."""
        if self.gap is None or self.tpot is None:
            return False
        mean_s, median_s = self.tpot.mean_s, self.gap.median_s
        gaps_s = np.concatenate(self.details.gaps_s) if self.details and self.details.gaps_s else np.array([median_s])
        inside = np.mean(gaps_s < min(IN_BUNDLE_S, IN_BUNDLE * mean_s))
        return bool(mean_s < TOKENS_A_GAP * max(self.gap.mean_s, median_s) or inside > 1 - TOKENS_A_GAP)

    @property
    def decoding_s(self) -> float:
        """Time of a request after its first token, in s: (outputs - 1) x gap; 0 if not known."""
        return self.tpot.mean_s * (self.output_tokens - 1) if self.tpot else 0.0

    @property
    def mean_in_flight(self) -> float | None:
        """Requests in flight on average, by Little's law: completions per second x time to the last token."""
        if self.rate_rps is None or self.ttft is None:
            return None
        return self.rate_rps * (self.ttft.mean_s + self.decoding_s)

    @property
    def title(self) -> str:
        """Text of the run: its requests, lengths and load."""
        lengths = f"{self.prompt_tokens:,.0f} in, {self.output_tokens:,.0f} out"
        return f"{self.requests:,} requests, {lengths}, {self.load}" if self.requests else f"{lengths}, {self.load}"


@dataclass(frozen=True, slots=True)
class Recognised:
    """Interpretation of a file: its tool, the model that it names, and the titles of its runs."""

    path: str
    tool: str
    model_id: str
    runs: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """Contents of one file: runs to identify points from, or finished points, of which none is moved."""

    recognised: Recognised
    runs: tuple[Run, ...] = ()
    points: tuple[CurvePoint, ...] = ()

    @classmethod
    def of_runs(cls, shown: str, tool: str, runs: Sequence[Run]) -> Self:
        """Runs of a file; ``InputError`` if they are of several models."""
        models = sorted({run.model_id for run in runs if run.model_id})
        if len(models) > 1:
            raise InputError(f"{shown}: holds runs of several models ({', '.join(models)}); one curve is of one")
        return cls(Recognised(shown, tool, "".join(models), tuple(run.title for run in runs)), tuple(runs))


def check_time(value_s: float, what: str, given: str, allowed_s: tuple[float, float]) -> float:
    """Return the time if it is plausible, else raise ``InputError``: nearly always a value in another unit."""
    low, high = allowed_s
    if not low <= value_s <= high:
        plausible = f"{1e3 * low:g} ms to {high:,.0f} s"
        raise InputError(f"{what}: {given} is not plausible ({plausible}): is it in another unit?")
    return value_s
