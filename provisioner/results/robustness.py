"""The distance of a plan from failure: in its times, in its rate, and by the loss of a machine."""

from dataclasses import dataclass
from typing import Final

from provisioner.specs.slo import LatencyLimit

MOST_FACTOR: Final = 2.0
"""The largest factor on times and on the rate that is looked at."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A machine that fails ``at_s`` in each request set of a proof, after a third of its time, and stays away.

    ``restarted_requests`` start again from scratch, ``unserved_requests`` are never served: means over the sets. Of the
    requests that arrive later a share, ``beyond_share``, is beyond the limit ``missed``, of which most are over what it
    allows; both are None without limits. ``recovery_s`` is the time after the failure from which on the limits hold;
    None if that is more than ``within_s``, or if the rest of the cluster does not hold them.
    """

    at_s: float
    within_s: float
    restarted_requests: float
    unserved_requests: float
    missed: LatencyLimit | None = None
    beyond_share: float | None = None
    recovery_s: float | None = None


@dataclass(frozen=True, slots=True)
class Loss:
    """One machine of a pool out of service: the limits that break (none: all hold), as texts.

    ``holds_rate_factor`` is the largest share of the planned rate that the rest holds, to 0.05: 0 for none, None for a
    batch job, or where lower rates have too few requests for the limits. ``failure`` is its loss during the run, None
    if a time limit was reached before.
    """

    role: str
    machine: str
    breaks: tuple[str, ...]
    holds_rate_factor: float | None
    failure: Failure | None = None


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
