"""Traces: requests with their arrival times and token counts, and their arrival profile."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from provisioner.errors import InputError
from provisioner.specs.lengths import FloatArray, IntArray, scaled_tokens
from provisioner.specs.rate_levels import NO_PEAK, rate_levels
from provisioner.specs.trace_files import TraceFormat, read_requests
from provisioner.specs.units import format_count, format_rate, format_seconds, format_share
from provisioner.specs.workload import ArrivalProfile, Workload, from_lengths
from provisioner.spelling import spelled

MAX_RELATIVE_S = 1e8  # three years: a larger time is one since an epoch, not since the trace's start

DISPERSION_WINDOWS_S = (1, 10, 60)
MAX_PROFILE_MINUTES = 100_000  # ten weeks: a longer profile by minute is nothing to look at, and is left out


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Requests of a trace file in order of arrival; all arrays have shape (n,).

    ``prefix_reuse`` is the share of prompt tokens in prefix blocks seen before, if the trace has block hashes;
    ``warnings`` are the corrections made while reading, one line each.
    """

    path: str
    arrival_s: FloatArray
    prompt_tokens: IntArray
    output_tokens: IntArray
    format: TraceFormat
    warnings: tuple[str, ...] = ()
    prefix_reuse: float | None = None

    @property
    def requests(self) -> int:
        """Number of requests n."""
        return int(self.arrival_s.size)

    def scaled(self, rate: float = 1.0, prompt: float = 1.0, output: float = 1.0) -> "Trace":
        """Trace with its rate and its lengths multiplied by factors; at least one token on each side of a request."""
        return replace(
            self,
            arrival_s=self.arrival_s / rate,
            prompt_tokens=scaled_tokens(self.prompt_tokens, prompt),
            output_tokens=scaled_tokens(self.output_tokens, output),
        )

    def workload(self, name: str, *, title: str = "", rate_rps: float | None = None) -> Workload:
        """Workload with the trace's lengths, burstiness and arrival profile.

        The rate is the trace's peak rate unless given; the coefficient of variation is that within the windows of its
        rate levels. More than 4,000 different pairs of lengths are put into bins (``workload.from_lengths``).
        """
        arrivals = profile(self.arrival_s)
        rate = arrivals.peak_rate_rps if rate_rps is None else rate_rps
        if rate is None:
            raise InputError(
                f"{self.path}: all requests arrive at one time, so it has no rate: give one with {spelled('rate_rps')}"
            )
        return from_lengths(
            name,
            self.prompt_tokens,
            self.output_tokens,
            title=title or f"{Path(self.path).name} ({self.format.title} trace)",
            rate_rps=rate,
            cv=arrivals.cv_within_windows or 1.0,
            arrivals=arrivals,
            context_share_reused=self.prefix_reuse,
            sources=(f"{Path(self.path).name}: {format_count(self.requests)} requests",),
        )


def describe(trace: Trace) -> dict[str, str]:
    """Description of a trace: labels and texts, in the order in which they are shown."""

    def percentiles(tokens: IntArray) -> str:
        values = np.percentile(tokens, (50, 90, 99))
        shown = ", ".join(f"P{q} {format_count(v)}" for q, v in zip((50, 90, 99), values, strict=True))
        return f"mean {tokens.mean():,.1f}, {shown}, largest {format_count(int(tokens.max()))}"

    facts = {
        "format": f"{trace.format.title} ({', '.join(trace.format.columns)})",
        "requests": format_count(trace.requests),
        **describe_arrivals(profile(trace.arrival_s)),
    }
    facts["prompt tokens"] = percentiles(trace.prompt_tokens)
    facts["output tokens"] = percentiles(trace.output_tokens)
    if trace.prefix_reuse is not None:
        facts["prompt tokens in prefix blocks seen before"] = format_share(trace.prefix_reuse)
    return facts


def describe_arrivals(arrivals: ArrivalProfile) -> dict[str, str]:
    """Description of the arrivals of a trace: labels and texts, in the order in which they are shown."""
    mean_rps, peak_rps, by_minute_rps = arrivals.mean_rate_rps, arrivals.peak_rate_rps, arrivals.rate_by_minute_rps
    cv, within, shown = arrivals.cv, arrivals.cv_within_windows, "{:.3g} (variance over mean of arrivals; 1 is Poisson)"
    no_peak = f", the mean: {NO_PEAK}" if peak_rps == mean_rps else ""
    return {
        "duration": format_seconds(arrivals.duration_s),
        "mean rate": "not measurable: no time between the requests" if mean_rps is None else format_rate(mean_rps),
        "peak rate": f"{format_rate(peak_rps)}{no_peak}" if peak_rps else "",
        "largest single minute": format_rate(max(by_minute_rps)) if by_minute_rps else "",
        "CV of the gaps": "" if cv is None else f"{cv:.3g}",
        "CV within minutes": "" if within is None else f"{within:.3g}",
        **{f"dispersion in {of} s": shown.format(index) for of, index in arrivals.index_of_dispersion.items()},
    }


def read_trace(path: str | Path) -> Trace:
    """Requests of a trace file, sorted by arrival.

    Dates become seconds since the first; times in seconds or milliseconds are kept, unless negative or counted from
    an epoch. ``InputError`` names file, line, column and value of the first wrong line.
    """
    reader, arrival, prompt, output = read_requests(path)
    warnings = []
    if reader.prefixes.is_partial:
        first = format_count(reader.prefixes.requests)
        warnings.append(f"the share of prompt tokens seen before is that of the first {first} requests")
    start = float(arrival.min())
    if start < 0 or start > MAX_RELATIVE_S:
        warnings.append(f"times start at {start:,.12g} s: shifted so that the first request is at 0 s")
        arrival = arrival - start
    early = int(np.count_nonzero(arrival[1:] < arrival[:-1]))
    if early:
        order = np.argsort(arrival, kind="stable")
        arrival, prompt, output = arrival[order], prompt[order], output[order]
        among = f"{format_count(early)} of {format_count(arrival.size)} requests"
        warnings.append(f"{among} arrive before the one above them: sorted by time")
    return Trace(str(path), arrival, prompt, output, reader.format, tuple(warnings), reader.prefixes.reuse)


def profile(arrival_s: ArrayLike) -> ArrivalProfile:
    """Arrival profile of sorted arrival times in s.

    >>> p = profile([0.0, 1.0, 2.0, 3.0, 4.0])
    >>> p.mean_rate_rps, p.cv, p.index_of_dispersion[1]
    (1.0, 0.0, 0.0)
    """
    times = np.asarray(arrival_s, dtype=np.float64)
    requests = int(times.size)
    duration = float(times[-1] - times[0]) if requests else 0.0
    mean_rate = (requests - 1) / duration if duration > 0 else None
    cv = float(np.std(np.diff(times))) * mean_rate if mean_rate is not None and requests >= 3 else None
    minutes: tuple[float, ...] = ()
    if mean_rate is not None and duration / 60 <= MAX_PROFILE_MINUTES:
        window = 60.0 if duration >= 60 else duration
        minute = np.minimum((times - times[0]) // window, duration // window).astype(np.int64)
        by_minute = np.bincount(minute)[: int(duration // window)]
        minutes = tuple(float(count) / window for count in by_minute)
    dispersion: dict[int, float] = {}
    for window_s in DISPERSION_WINDOWS_S:
        windows = int(duration // window_s)
        if windows < 2:
            continue
        # only windows that hold an arrival are looked at: a long and sparse trace has far more empty ones
        index = (times - times[0]) // window_s
        starts = np.flatnonzero(np.diff(index, prepend=-1.0))
        counts = np.diff(starts, append=requests)[index[starts] < windows].astype(np.float64)
        mean = counts.sum() / windows
        dispersion[window_s] = float((np.square(counts).sum() / windows - mean**2) / mean)
    levels = None if mean_rate is None else rate_levels(times)
    peak, within = (None, None) if levels is None else (levels.peak_rps, levels.cv)
    return ArrivalProfile(duration, requests, mean_rate, cv, minutes, dispersion, peak, within)
