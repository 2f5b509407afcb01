"""Requests that a simulation serves: as recorded, drawn at a rate, or a fixed number in flight.

A request set depends on its seed alone, never on the cluster, so that every candidate is judged on the same requests
(common random numbers). At another rate the same seed gives the same requests in the same order, closer together or
farther apart: arrivals are a process of rate 1, stretched, and lengths come from a stream of their own.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from provisioner.deadline import check_time
from provisioner.errors import InputError
from provisioner.options import DURATION_S, WARM_UP, spelled
from provisioner.specs import units
from provisioner.specs.lengths import freeze
from provisioner.specs.traces import Trace
from provisioner.specs.units import format_count, format_seconds, parse_non_negative, parse_positive, parse_whole
from provisioner.specs.workload import Workload

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

MAX_REQUESTS: Final = 20_000_000
BYTES_PER_REQUEST: Final = 150  # approximate memory of a request of a long set (``simulation.window``)
BYTES_PER_WHOLE: Final = 640  # the same in a closed loop, whose records are all held, and kept for other runs
MAX_TOKENS: Final = 2**31 - 1  # of one side of a request
LONGEST_S: Final = 3600.0  # time up to which a drawn set grows until it has the requests that it takes, in s
_BUNCHES: Final = 20.0
_BLOCK: Final = 4096  # lengths are drawn in blocks, so that a longer set begins with the requests of a shorter one


@dataclass(frozen=True, slots=True, eq=False)
class RequestSet:
    """Requests in order of arrival: arrival times in s, prompt and output tokens; arrays (n,), read-only.

    A request is measured when ``from_s <= arrival_s <= until_s`` and its place in the set is one of
    ``from_index``..``until_index`` - 1 (None: to the end). ``rate_rps`` is the mean rate offered, inf if all
    requests of a trace arrive at once. With ``in_flight`` the loop is closed: this number of requests is in the
    cluster, the next one enters when one completes, arrival times are all 0 and mean nothing, and ``rate_rps`` is NaN.
    With ``follows`` and ``delay_s`` (``specs.traces.Trace``) turns of sessions arrive after the answers before them;
    arrival times are the earliest possible, and after a run those at which they came.
    Raises ``InputError`` for requests out of order, without tokens, or if none is measured.
    """

    arrival_s: Floats
    prompt_tokens: Integers
    output_tokens: Integers
    rate_rps: float
    from_s: float = 0.0
    until_s: float = math.inf
    in_flight: int | None = None
    from_index: int = 0
    until_index: int | None = None
    description: str = ""
    follows: Integers | None = None
    delay_s: Floats | None = None

    def __post_init__(self) -> None:
        what = self.description or "requests"
        check_count(np.size(self.arrival_s), what)
        freeze(self, "arrival_s", _own(self.arrival_s, np.float64))
        freeze(self, "prompt_tokens", _own(self.prompt_tokens, np.int64))
        freeze(self, "output_tokens", _own(self.output_tokens, np.int64))
        if not self.arrival_s.size:
            raise InputError(f"{what}: there are none")
        shape = self.arrival_s.shape
        if len(shape) != 1 or self.prompt_tokens.shape != shape or self.output_tokens.shape != shape:
            raise InputError(f"{what}: arrival times, prompt and output tokens differ in length")
        if not (np.isfinite(self.arrival_s).all() and self.arrival_s[0] >= 0.0):
            raise InputError(f"{what}: arrival times must be finite and 0 s or later")
        late = np.flatnonzero(self.arrival_s[1:] < self.arrival_s[:-1])
        if late.size:
            k = int(late[0]) + 1
            times = f"{self.arrival_s[k]:.12g} s after {self.arrival_s[k - 1]:.12g} s"
            raise InputError(f"{what}: request {k + 1} arrives at {times}: sort the requests by arrival")
        for side, tokens in (("prompt", self.prompt_tokens), ("output", self.output_tokens)):
            bad = np.flatnonzero((tokens < 1) | (tokens > MAX_TOKENS))
            if bad.size:
                k = int(bad[0])
                allowed = f"1 to {format_count(MAX_TOKENS)}"
                raise InputError(f"{what}: request {k + 1}: {side} tokens must be {allowed}, got {tokens[k]}")
        if self.in_flight is not None:
            parse_whole(self.in_flight, f"{what}: in_flight", "requests")
        if not self.counted.any():
            closed = f"request {self.from_index + 1} to {self.until_index}"
            window = f"{self.from_s:g} s to {self.until_s:g} s" if self.in_flight is None else closed
            raise InputError(
                f"{what}: no request is in the measured window ({window}): measure more of the run, by a "
                f"longer {spelled('duration_s')} or a smaller {spelled('warm_up')}"
            )

    @property
    def requests(self) -> int:
        """Number of requests n, measured or not."""
        return int(self.arrival_s.size)

    @property
    def counted(self) -> NDArray[np.bool_]:
        """Mask of the measured requests (n,)."""
        return self.counted_of(0)

    def counted_of(self, first: int, last: int | None = None) -> NDArray[np.bool_]:
        """Mask of the measured requests among those from ``first`` to ``last`` - 1."""
        arrival_s = self.arrival_s[first:last]
        place = np.arange(first, first + arrival_s.size)
        inside = (place >= self.from_index) & (arrival_s >= self.from_s) & (arrival_s <= self.until_s)
        return inside if self.until_index is None else inside & (place < self.until_index)


def bunches_s(rate_rps: float, cv: float) -> float:
    """Time in s of 20 bunches of cv^2 requests, whose number has a standard deviation of 22 %; 0 up to a CV of 1."""
    return float(math.ceil(_BUNCHES * cv * cv / rate_rps)) if cv > 1.0 else 0.0


def default_s(rate_rps: float, cv: float) -> float:
    """Time of a drawn set unless given, in s: longer where arrivals are few and in bunches."""
    return max(DURATION_S, min(bunches_s(rate_rps, cv), LONGEST_S))


def check_count(requests: float, what: str, bytes_each: int = BYTES_PER_REQUEST) -> None:
    """Refuse more requests than ``MAX_REQUESTS``, with the memory that they would take.

    >>> check_count(3e7, "requests")
    Traceback (most recent call last):
    provisioner.errors.InputError: requests: 30,000,000 requests would take about 4.5 GB of memory; ...
    """
    if not requests <= MAX_REQUESTS:
        memory = f"{requests * bytes_each / 1e9:,.1f} GB"
        raise InputError(
            f"{what}: {format_count(requests)} requests would take about {memory} of memory; "
            f"at most {format_count(MAX_REQUESTS)} are simulated: take a shorter time or a lower rate"
        )


def from_trace(trace: Trace, warm_up_s: float = 0.0, cool_down_s: float = 0.0) -> RequestSet:
    """Requests of a trace at their own times, shifted only if the first is before 0 s.

    All are measured but the ones within ``warm_up_s`` of the first arrival and ``cool_down_s`` of the last.
    """
    parse_non_negative(warm_up_s, "warm-up", "s")
    parse_non_negative(cool_down_s, "cool-down", "s")
    if not trace.requests:
        raise InputError(f"{trace.path}: holds no requests")
    check_count(trace.requests, trace.path)
    arrival_s = np.asarray(trace.arrival_s, dtype=np.float64)
    first, last = float(arrival_s[0]), float(arrival_s[-1])
    if first < 0.0:
        arrival_s, first, last = arrival_s - first, 0.0, last - first
    return RequestSet(
        _unchanging(arrival_s),
        _unchanging(trace.prompt_tokens),
        _unchanging(trace.output_tokens),
        rate_rps=(trace.requests - 1) / (last - first) if last > first else math.inf,
        from_s=first + warm_up_s if warm_up_s else 0.0,
        until_s=last - cool_down_s if cool_down_s else math.inf,
        description=f"trace {trace.path}",
        follows=trace.follows,
        delay_s=trace.delay_s,
    )


def _own(values: ArrayLike, kind: type) -> NDArray[Any]:
    """An array of a kind that nobody else changes: the values themselves if they are one, or a copy."""
    known = isinstance(values, np.ndarray) and values.dtype == kind and not values.flags.writeable
    return np.asarray(values) if known else np.array(values, dtype=kind)


def _unchanging(values: NDArray[Any]) -> NDArray[Any]:
    """A view of an array through which it cannot be changed."""
    view = values.view()
    view.flags.writeable = False
    return view


def drawn(
    source: Workload | Trace,
    rate_rps: float | Sequence[float],
    duration_s: float,
    rng: Generator,
    *,
    cv: float = 1.0,
    warm_up: float = WARM_UP,
    cool_down: float = 0.0,
) -> RequestSet:
    """Requests of a workload at a rate, arriving in (0, ``duration_s``]; of a trace: its lengths, as pairs at random.

    The gaps between arrivals are independent and Gamma-distributed with mean 1 / rate and coefficient of variation
    ``cv``: shape 1 / cv^2, scale cv^2 / rate; 1 is Poisson, 0 evenly spaced. Of several rates each holds for an equal
    part of the duration: the k-th arrival then comes when the integral of the rate reaches the sum of k gaps of mean 1;
    a part with rate 0 has no arrivals, and Poisson gaps make it the inhomogeneous Poisson process. ``warm_up`` and
    ``cool_down`` are the shares of the duration at its start and end that are not measured.

    >>> from provisioner.specs.workload import from_lengths
    >>> even = drawn(from_lengths("one", [100], [10]), 2.0, 3.0, np.random.default_rng(0), cv=0.0, warm_up=0.5)
    >>> even.arrival_s.tolist(), int(even.counted.sum())
    ([0.5, 1.0, 1.5, 2.0, 2.5, 3.0], 4)
    """
    if isinstance(rate_rps, Sequence):
        named = ((rate, f"rate of window {k}") for k, rate in enumerate(rate_rps, start=1))
        rates = np.array([parse_non_negative(rate, what, "requests/s") for rate, what in named])
        if not rates.any():
            raise InputError(f"{spelled('rates_rps')}: at least one window must have a rate above 0 requests/s")
    else:
        rates = np.array([parse_positive(rate_rps, "rate", "requests/s")])
    parse_positive(duration_s, "duration", "s")
    parse_non_negative(cv, "cv")
    _check_shares(warm_up, cool_down)
    window_s = duration_s / rates.size
    mean_rps = float(rates.mean())
    name = f"lengths of {source.path}" if isinstance(source, Trace) else source.name
    at = f"{units.format_rate(mean_rps)} for {format_seconds(duration_s)}"
    what = f"{name} at {at}" + ("" if cv == 1.0 else f", CV {cv:g}")
    check_count(mean_rps * duration_s, what)
    arrivals, stream = rng.spawn(2)
    reached = np.concatenate([[0.0], np.cumsum(rates * window_s)])  # integral of the rate at each window's start
    unit = _renewal(float(reached[-1]), cv, arrivals, what)
    check_time()
    # the window in which the integral reaches the arrival: never one with rate 0
    window = np.minimum(np.searchsorted(reached[1:], unit, side="left"), int(np.flatnonzero(rates)[-1]))
    arrival_s = window * window_s + (unit - reached[window]) / rates[window]
    arrival_s = np.maximum.accumulate(np.minimum(arrival_s, duration_s))  # last digits only
    if not arrival_s.size:
        how = f"take a longer time or a higher rate ({spelled('duration_s')}, {spelled('rate_rps')})"
        raise InputError(f"{what}: no request arrives in that time: {how}")
    return RequestSet(
        arrival_s,
        *_lengths(source, stream, int(arrival_s.size)),
        rate_rps=mean_rps,
        from_s=warm_up * duration_s,
        until_s=duration_s - cool_down * duration_s,
        description=what,
    )


def _lengths(source: Workload | Trace, stream: Generator, count: int) -> tuple[Integers, Integers]:
    """Prompt and output tokens of ``count`` requests; pairs of a trace are drawn with replacement."""
    if isinstance(source, Trace):
        chosen = stream.integers(0, source.requests, size=count)
        return source.prompt_tokens[chosen], source.output_tokens[chosen]
    blocks = []
    for _ in range(-(-count // _BLOCK)):
        check_time()
        blocks.append(source.sample(stream, _BLOCK))
    prompt, output = (np.concatenate(side)[:count] for side in zip(*blocks, strict=True))
    return prompt, output


def closed_loop(
    workload: Workload, in_flight: int, count: int, rng: Generator, *, warm_up: float = WARM_UP
) -> RequestSet:
    """Request set of ``count`` requests of a workload, ``in_flight`` of them in the cluster at any time.

    Times are not known beforehand, so the measured requests are chosen by number: all but the first ``warm_up`` share
    (at least the ``in_flight`` that enter an empty cluster together) and the last ``in_flight``, which see it drain.
    """
    parse_whole(in_flight, "requests in flight", "requests")
    parse_whole(count, "requests", "requests")
    check_count(count, "closed loop", BYTES_PER_WHOLE)
    _check_shares(warm_up, 0.0)
    from_index = max(in_flight, math.ceil(warm_up * count))
    if count - in_flight <= from_index:
        raise InputError(
            f"{spelled('requests')}: {format_count(count)} with {format_count(in_flight)} in flight leave none to "
            f"measure: more than {format_count(in_flight + from_index)} are needed"
        )
    _, stream = rng.spawn(2)
    return RequestSet(
        np.zeros(count),
        *_lengths(workload, stream, count),
        rate_rps=math.nan,
        in_flight=int(in_flight),
        from_index=from_index,
        until_index=count - in_flight,
        description=f"{workload.name}, {format_count(in_flight)} requests in flight",
    )


def sets(make: Callable[[Generator], RequestSet], seed: int, count: int, first: int = 0) -> tuple[RequestSet, ...]:
    """Independent request sets number ``first``..``first + count - 1`` of a seed.

    Set k draws from ``default_rng([seed, k])``, so it does not depend on the number of sets.
    """
    parse_whole(seed, "seed", minimum=0)
    parse_whole(count, "request sets")
    return tuple(make(np.random.default_rng([seed, k])) for k in range(first, first + count))


def _renewal(end: float, cv: float, rng: Generator, what: str) -> Floats:
    """Times in (0, ``end``] of a renewal process with gaps of mean 1 and coefficient of variation ``cv``."""
    if cv == 0.0:
        return np.arange(1.0, math.floor(end + end * 1e-12) + 1.0)  # but for rounding
    shape = 1.0 / (cv * cv)
    block = int(end + 6.0 * cv * math.sqrt(end)) + 16
    blocks, last, count = [], 0.0, 0
    while last <= end:
        check_time()
        gaps = rng.standard_gamma(shape, min(block, MAX_REQUESTS)) / shape
        gaps[0] += last  # one running sum, so that a longer set starts with the very times of a shorter one
        blocks.append(np.cumsum(gaps))
        last = float(blocks[-1][-1])
        count += int(np.searchsorted(blocks[-1], end, side="right"))
        check_count(count, what)
    times = np.concatenate(blocks)
    # gaps of a large CV can be too small for a number: those before the first real one are no arrivals
    return times[(times > 0.0) & (times <= end)]


def _check_shares(warm_up: float, cool_down: float) -> None:
    parse_non_negative(warm_up, "warm-up")
    parse_non_negative(cool_down, "cool-down")
    if not warm_up + cool_down < 1.0:
        raise InputError(f"warm-up and cool-down: must leave a part to measure, got {warm_up:g} and {cool_down:g}")
