"""Traces: requests with their arrival times and token counts, and their arrival profile."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from provisioner.deadline import check_time
from provisioner.errors import InputError
from provisioner.specs.lengths import FloatArray, IntArray, scaled_tokens
from provisioner.specs.rate_levels import NO_PEAK, rate_levels
from provisioner.specs.trace_files import block_size, read_requests
from provisioner.specs.trace_formats import FORMATS, SERVEGEN, TIME_UNITS, TraceFormat, TraceRules
from provisioner.specs.trace_windows import client_files, draw
from provisioner.specs.units import format_count, format_rate, format_seconds, format_share
from provisioner.specs.workload import ArrivalProfile, Workload, from_lengths
from provisioner.spelling import spelled

MAX_MEAN_RPS, MAX_DAYS = 5_000, 400  # beyond these a unit of times is not believed
EPOCH_S = (9.4e8, 4.1e9)  # the years 2000 to 2099 since 1970: no two units share a number
NOTABLE_FAILED = 0.05  # share of failed requests that is worth a warning
MAX_RELATIVE_S = 1e8  # three years: a larger time is one since an epoch, not since the trace's start

DISPERSION_WINDOWS_S = (1, 10, 60)
MAX_PROFILE_MINUTES = 100_000  # ten weeks: a longer profile by minute is nothing to look at, and is left out


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Requests of a trace file in order of arrival; all arrays have shape (n,).

    ``prefix_reuse`` is the share of prompt tokens in prefix blocks seen before, if the trace has block hashes;
    ``facts`` say how the file was read, ``warnings`` are the corrections made, one line each.

    In a trace of sessions, ``follows`` has the place of the request before each, -1 for one that arrives at its own
    time, and ``delay_s`` the time in s from the end of the answer before it to its arrival, NaN without one; then
    ``arrival_s`` is the earliest possible. ``rate_rps`` is the rate to plan for, if the user gives one.
    """

    path: str
    arrival_s: FloatArray
    prompt_tokens: IntArray
    output_tokens: IntArray
    format: TraceFormat
    warnings: tuple[str, ...] = ()
    prefix_reuse: float | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    rate_rps: float | None = None
    follows: IntArray | None = None
    delay_s: FloatArray | None = None

    @property
    def requests(self) -> int:
        """Number of requests n."""
        return int(self.arrival_s.size)

    def scaled(self, rate: float = 1.0, prompt: float = 1.0, output: float = 1.0) -> "Trace":
        """Trace with its rate and its lengths multiplied by factors; at least one token on each side of a request.

        In sessions, the rate is that of requests with times of their own; delays are of users and tools, and stay.
        """
        return replace(
            self,
            prompt_tokens=scaled_tokens(self.prompt_tokens, prompt),
            output_tokens=scaled_tokens(self.output_tokens, output),
        ).arriving(self.arrival_s / rate)

    def arriving(self, arrival_s: FloatArray) -> "Trace":
        """Trace with other times of requests that have their own; what follows an answer comes at the earliest."""
        if self.follows is not None and self.delay_s is not None:
            for k in np.flatnonzero(self.follows >= 0).tolist():
                arrival_s[k] = arrival_s[self.follows[k]] + self.delay_s[k]
        if not (arrival_s[1:] < arrival_s[:-1]).any():
            return replace(self, arrival_s=arrival_s)
        order = np.argsort(arrival_s, kind="stable")
        return replace(self, arrival_s=arrival_s[order], **in_order(self, order))

    @property
    def waiting(self) -> int:
        """Number of requests that arrive after the answer before them, in a trace of sessions."""
        return 0 if self.follows is None else int(np.count_nonzero(self.follows >= 0))

    @property
    def untimed(self) -> str:
        """The reason why not all requests have times of their own; empty if they have."""
        if self.waiting:
            return f"session_id and delay ({self.format.delay}) make {self.waiting:,} requests wait for answers"
        return "" if self.format.time_unit else "has lengths only, no times"

    @property
    def longest_tokens(self) -> int:
        """Prompt and output tokens of the longest request."""
        return int((self.prompt_tokens + self.output_tokens).max())

    def longer_than(self, tokens: int) -> str:
        """The requests that are longer, prompt and output together, as a phrase."""
        longer = int(np.count_nonzero(self.prompt_tokens + self.output_tokens > tokens))
        return f"{longer:,} of the {self.requests:,} requests of {self.path}"

    def workload(self, name: str, *, title: str = "", rate_rps: float | None = None) -> Workload:
        """Workload with the trace's lengths, burstiness and arrival profile.

        The rate is the trace's peak unless one is given; the coefficient of variation is that within the windows of its
        rate levels. More than 4,000 different pairs of lengths are put into bins (``workload.from_lengths``).
        """
        arrivals = None if self.untimed else profile(self.arrival_s)
        rate = rate_rps or self.rate_rps or (arrivals and arrivals.peak_rate_rps)
        if rate is None:
            problem = self.untimed or "all requests arrive at one time"
            mend = f"give one with {spelled('rate_rps')}, or write it down with provision workloads import"
            raise InputError(f"{self.path}: {problem}, so it has no rate: {mend}")
        read = "".join(f"; {label} {text}" for label, text in self.facts.items())
        return from_lengths(
            name,
            self.prompt_tokens,
            self.output_tokens,
            title=title or f"{Path(self.path).name} ({self.format.title} trace)",
            rate_rps=rate,
            cv=(arrivals and arrivals.cv_within_windows) or 1.0,
            arrivals=arrivals,
            context_share_reused=self.prefix_reuse,
            sources=(f"{Path(self.path).name}: {format_count(self.requests)} requests{read}",),
        )


def in_order(requests: Any, order: IntArray) -> dict[str, Any]:
    """The fields of requests but their times, in another order."""
    names = ("prompt_tokens", "output_tokens", *(() if requests.follows is None else ("follows", "delay_s")))
    fields = {name: getattr(requests, name)[order] for name in names}
    if "follows" in fields:
        fields["follows"] = np.where(fields["follows"] >= 0, np.argsort(order)[fields["follows"]], -1)
    return fields


def describe(trace: Trace) -> dict[str, str]:
    """Description of a trace: labels and texts, in the order in which they are shown."""

    def percentiles(tokens: IntArray) -> str:
        values = np.percentile(tokens, (50, 90, 99))
        shown = ", ".join(f"P{q} {format_count(v)}" for q, v in zip((50, 90, 99), values, strict=True))
        return f"mean {tokens.mean():,.1f}, {shown}, largest {format_count(int(tokens.max()))}"

    facts = {
        "format": f"{trace.format.title} ({', '.join(filter(None, trace.format.columns))})",
        **trace.facts,
        "requests": format_count(trace.requests),
        **describe_arrivals(profile(trace.arrival_s)),
        "prompt tokens": percentiles(trace.prompt_tokens),
        "output tokens": percentiles(trace.output_tokens),
    }
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


def read_trace(path: str | Path, rules: TraceRules | None = None) -> Trace:
    """Requests of a trace file, sorted by arrival.

    Dates become seconds since the first; other times are kept, in s, unless negative or counted from an epoch.
    ``InputError`` names file, line, column and value of the first wrong line.
    """
    rules = rules or TraceRules()
    if clients := client_files(path):
        return _generated(str(path), clients, rules)
    if rules.span_s is not None:
        raise InputError(f"{path}: is no folder of ServeGen, of which {spelled('span_s')} takes a part; leave it out")
    reader, rows = read_requests(path, rules)
    known, prefixes, block = reader.format, reader.prefixes, rules.block_tokens
    if block is not None and not prefixes.probed:
        raise InputError(f"{path}: has no hash_ids of blocks; leave out {spelled('block_tokens')}")
    facts, warnings = dict[str, str](), list[str]()
    if prefixes.probed:
        block = block or block_size(prefixes.probed, known.block_tokens)
        unknown = f"of no usual size: no share of repeated prefixes ({spelled('block_tokens')} states it)"
        facts["prefix blocks"] = f"of {block:,} tokens" if block else unknown
    elif known.name == "ragpulse":
        shares = {name: format_share(n / prefixes.prompt_tokens) for name, n in prefixes.components.items()}
        unknown = "of unknown length, which the folder of the trace states: give the folder"
        facts["prompt components"] = ", ".join(map(" ".join, shares.items())) or unknown
    if prefixes.is_partial:
        first = format_count(prefixes.requests)
        warnings.append(f"the share of prompt tokens seen before is that of the first {first} requests")
    if reader.failed:
        share = reader.failed / (reader.failed + rows.size)
        facts["failed requests left out"] = text = f"{reader.failed:,} ({format_share(share)})"
        if share > NOTABLE_FAILED:
            warnings.append(f"failed requests, with 0 output tokens, are left out of the load: {text}")
    turns = np.array(reader.turns).reshape(-1, 2)  # the request before or -1, and the delay or NaN
    waits = int((turns[:, 0] >= 0).sum())
    arrival = (rows["time"] - rows["time"].min()) / 1e9 if reader.of_dates else rows["time"].copy()
    if not known.time_unit:
        facts["times"] = "none"
    elif not reader.of_dates:
        unit, facts["times"], known = told_unit(str(path), arrival, known, rules.time_unit, block)
        arrival *= TIME_UNITS[unit]
        turns[:, 1] *= TIME_UNITS[unit]
        if waits:
            sessions_served = sum(turn >= 0 for turn, _ in reader.latest.values())
            facts["sessions"] = (
                f"{sessions_served:,}; {waits:,} requests wait for answers; rates are of earliest arrivals"
            )
    check_time()
    start = float(np.nanmin(arrival))
    if start < 0 or start > MAX_RELATIVE_S:
        warnings.append(f"times start at {start:,.12g} s: shifted so that the first request is at 0 s")
        arrival = arrival - start
    prompt, output = rows["prompt"].astype(np.int64), rows["output"].astype(np.int64)
    if early := 0 if waits else int(np.count_nonzero(arrival[1:] < arrival[:-1])):
        among = f"{format_count(early)} of {format_count(arrival.size)} requests"
        warnings.append(f"{among} arrive before the one above them: sorted by time")
    sessions = (turns[:, 0].astype(np.int64), turns[:, 1]) if waits else (None, None)
    more = (tuple(warnings), prefixes.reuse(block), facts, rules.rate_rps, *sessions)
    return Trace(str(path), arrival, prompt, output, known, *more).arriving(arrival)


def check_seed(path: str | Path, seed: int) -> None:
    """Refuse a seed of requests that are taken as they are: only those of a folder of ServeGen are drawn."""
    if seed and not client_files(path):
        raise InputError(f"{spelled('seed')}: nothing is drawn here, as of a folder of ServeGen; leave it out")


def _generated(path: str, clients: Mapping[int, Path], rules: TraceRules) -> Trace:
    """Requests drawn from the windows of clients."""
    for name, given in (("time_unit", rules.time_unit), ("block_tokens", rules.block_tokens)):
        if given is not None:
            raise InputError(f"{path}: has windows in s, without hash_ids; leave out {spelled(name)}")
    if rules.failed_rows != "drop":
        raise InputError(f"{path}: has windows, no rows that failed; leave out {spelled('failed_rows')}")
    part = "" if rules.span_s is None else f" from {' to '.join(map(format_seconds, rules.span_s))}"
    how = f"with seed {rules.seed} from the rates of {len(clients):,} client(s){part}, prompts apart from outputs"
    said = f"the requests are generated, {how}; another {spelled('seed')} draws others"
    return Trace(path, *draw(clients, rules), SERVEGEN, (said,), None, {"generated": how}, rules.rate_rps)


def told_unit(
    shown: str, time: FloatArray, known: TraceFormat, given: str | None, block: int | None
) -> tuple[str, str, TraceFormat]:
    """Unit of times, a phrase with its sign, and the format, or its twin; ``InputError`` where nothing tells it."""
    unit: str = known.time_unit
    why, doubt = f"the unit of the {known.title} format", ""
    start, span = float(np.nanmin(time)), float(np.nanmax(time)) - float(np.nanmin(time))
    epochs = [each for each, s in TIME_UNITS.items() if EPOCH_S[0] <= start * s <= EPOCH_S[1]]
    if given is not None:
        unit, why = given, f"as {spelled('time_unit')} says"
    elif epochs and not known.columns[0].endswith("_ns"):
        unit, why = epochs[0], "since 1970 by their size"
    elif known.name == "mooncake":  # others have its columns, with times in s
        twin, fractions = next(each for each in FORMATS if each.name == "qwen-bailian"), bool((time % 1 != 0).any())
        if fractions and block == twin.block_tokens:
            unit, why, known = twin.time_unit, f"the unit of the {twin.title} format", twin
        elif block != known.block_tokens and (fractions or block == twin.block_tokens or span < time.size - 1):
            doubt = f"{known.title} has whole {unit}, {twin.title} {twin.time_unit}"
    spans = {each: span * s for each, s in TIME_UNITS.items()}
    rates = {each: (time.size - 1) / s if s else 0.0 for each, s in spans.items()}
    if (given is None and rates[unit] > MAX_MEAN_RPS) or spans[unit] > MAX_DAYS * 86_400 * (100 if given else 1):
        doubt = f"{unit}, {why}, would be {format_rate(rates[unit])} over {format_seconds(spans[unit])}"
    if doubt:
        each = "; ".join(f"{unit}: {rates[unit]:.4g} requests/s over {spans[unit]:.4g} s" for unit in TIME_UNITS)
        raise InputError(f"{shown}: the unit of its times is not told: {doubt}; give {spelled('time_unit')} ({each})")
    return unit, f"in {unit}, {why}", known


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
    cv = round(float(np.std(np.diff(times))) * mean_rate, 12) if mean_rate is not None and requests >= 3 else None
    minutes: tuple[float, ...] = ()
    if mean_rate is not None and duration / 60 <= MAX_PROFILE_MINUTES:
        window = 60.0 if duration >= 60 else duration
        minute = np.minimum((times - times[0]) // window, duration // window).astype(np.int64)
        by_minute = np.bincount(minute)[: int(duration // window)]
        minutes = tuple(float(count) / window for count in by_minute)
    dispersion: dict[int, float] = {}
    several = {window_s: int(duration // window_s) for window_s in DISPERSION_WINDOWS_S if duration >= 2 * window_s}
    for window_s, windows in several.items():
        check_time()
        # only windows that hold an arrival are looked at: a long and sparse trace has far more empty ones
        index = (times - times[0]) // window_s
        starts = np.flatnonzero(np.diff(index, prepend=-1.0))
        counts = np.diff(starts, append=requests)[index[starts] < windows].astype(np.float64)
        mean = counts.sum() / windows
        dispersion[window_s] = float((np.square(counts).sum() / windows - mean**2) / mean)
    check_time()
    levels, within = ((), None) if mean_rate is None else rate_levels(times)
    return ArrivalProfile(
        duration, requests, mean_rate, cv, minutes, dispersion, max(levels)[0] if levels else None, within
    )
