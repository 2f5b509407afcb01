"""Batch jobs: requests that are all present at the start, and a time within which the last of them must end."""

from dataclasses import dataclass
from typing import Final

from provisioner.errors import InputError
from provisioner.specs.units import format_seconds
from provisioner.spelling import spelled

ALLOWED_GROWTH: Final = 0.03
"""Growth of the delay, in s/s, up to which a simulated cluster counts as stable (``simulation.measure``)."""

LONGEST_REQUESTS: Final = 2.0
"""Time kept for the last requests to end, as a multiple of the longest request's alone on the reference machine."""


@dataclass(frozen=True, slots=True)
class BatchJob:
    """Batch job of ``requests`` to be served ``within_s``, fed to the cluster evenly and not all at once.

    The cluster then holds enough requests to be busy, and no order of service matters. The feeding ends early enough
    for the last requests, and for the largest growth of the delay in a stable cluster:
    feed_s = (within_s - drain_s) / (1 + ``ALLOWED_GROWTH``).

    >>> job = BatchJob(2_000_000, 8 * 3600.0, 120.0)
    >>> round(job.feed_s), round(job.rate_rps, 2)
    (27845, 71.83)
    """

    requests: int
    within_s: float
    drain_s: float

    @property
    def feed_s(self) -> float:
        """Time during which the requests are fed, in s."""
        return (self.within_s - self.drain_s) / (1.0 + ALLOWED_GROWTH)

    @property
    def rate_rps(self) -> float:
        """Rate at which the requests are fed, in requests/s."""
        return self.requests / self.feed_s

    def done_s(self, simulated_s: float, growth: float, drain_s: float) -> float:
        """Time at which the last request ends, in s, from a simulation of the first ``simulated_s`` of the feeding.

        It is feed_s + ``drain_s``, the time from the last arrival to the last completion, plus the growth of the delay
        (``growth``, in s/s) in the rest of the feeding.
        """
        return self.feed_s + max(growth, 0.0) * max(self.feed_s - simulated_s, 0.0) + drain_s


def batch_job(requests: int, within_s: float, longest_alone_s: float) -> BatchJob:
    """A job with the time that its last requests need; ``InputError`` if not even one request could end in time."""
    if longest_alone_s >= within_s:
        raise InputError(
            f"{spelled('within_s')}: must be longer than its longest request takes alone, "
            f"{format_seconds(longest_alone_s)}, got {format_seconds(within_s)}"
        )
    return BatchJob(requests, within_s, min(LONGEST_REQUESTS * longest_alone_s, 0.5 * (within_s + longest_alone_s)))
