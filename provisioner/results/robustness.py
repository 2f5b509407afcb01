"""The distance of a plan from failure: in its times, in its rate, and by the loss of a machine."""

from dataclasses import dataclass
from typing import Final

MOST_FACTOR: Final = 2.0
"""The largest factor on times and on the rate that is looked at."""


@dataclass(frozen=True, slots=True)
class Loss:
    """One machine of a pool out of service: the limits that break (none: all hold), as texts.

    ``holds_rate_factor`` is the largest share of the planned rate that the rest holds, to 0.05: 0 for none, None for a
    batch job, or where lower rates have too few requests for the limits.
    """

    role: str
    machine: str
    breaks: tuple[str, ...]
    holds_rate_factor: float | None


@dataclass(frozen=True, slots=True)
class Robustness:
    """The largest factors at which a cluster is within its limits, each to 0.01, on the request sets of its proof.

    They are on prompt times alone, on decode times alone, on both, and on the rate (None for a batch job):
    ``MOST_FACTOR`` if no failure is found up to there. What slowdowns refer to is not slowed down. Errors are the
    largest stated mean absolute errors of the curves that the pools rest on, as fractions; None if one is not known.
    """

    prompt_time_factor: float
    decode_time_factor: float
    both_times_factor: float
    rate_factor: float | None
    prompt_error: float | None
    decode_error: float | None
    losses: tuple[Loss, ...]
