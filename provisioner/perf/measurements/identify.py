"""Points of one replica's curves that a benchmark run identifies, and the reasons for the quantities it does not.

A time to the first token is a prompt time only when nothing else ran. A gap between tokens is a decode iteration
only at a known batch and without the prompts of other requests. ``docs/how-to/own-measurements.md`` has the rules.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from provisioner.errors import InputError
from provisioner.perf.measurements.runs import Details, Floats, Run, Spread
from provisioner.perf.points import CurvePoint, Phase

CHUNK_TOKENS: Final = 2048  # of a prompt; no file states it: the smaller of vLLM's two defaults gives more chunks
MAX_OPEN_IN_FLIGHT: Final = 0.1  # mean of an unloaded open load: a Poisson arrival finds another request this often
MIN_HELD: Final = 0.8  # smallest mean of requests in flight, as a share of the client's number, that is a held batch
MIN_DECODING: Final = 0.8  # smallest share of time after the first token with which all in flight count as the batch
MAX_PROMPT_GAPS: Final = 1 / 3  # share of gaps with a prompt up to which the median is used: at most the others' P75
MAX_PROMPT_TIME: Final = 0.10  # share of others' prompts in a request's mean gap up to which the mean is used as it is
MAX_VARY: Final = 0.10  # standard deviation of prompt lengths over their mean up to which a run has one prompt length
MAX_CACHED: Final = 0.05  # share from the prefix cache up to which a prompt counts as whole: a chat's template
MIN_GAPS: Final = 10  # gaps without prompts at one batch and context that make a point
CONTEXT_WINDOW: Final = 0.10  # largest distance of a gap's context from the run's mean, as a fraction, to count
CLOCK_S: Final = 1e-3  # time by which a request may seem to start before the one that it follows has ended
SAME_LENGTH: Final = 1.10  # prompt lengths of one run up to this ratio share a point, at their median


@dataclass(frozen=True, slots=True)
class Finding:
    """A quantity that a run identifies, or does not: source, name, and method or reason."""

    source: str
    quantity: str
    why: str


Identified = tuple[Finding, CurvePoint | None]  # a finding on a quantity, with its point if the run identifies it


def prompt_points(run: Run) -> list[Identified]:
    """Prompt times of the requests of a run that ran alone, or the reason why there is none."""
    quantity = f"prompt time of {run.prompt_tokens:,.0f} tokens" if run.prompt_tokens else "prompt time"
    if run.ttft is None:
        return _nothing(run, quantity, "the file has no times to the first token (was the endpoint streaming?)")
    if run.cached is not None and run.cached > MAX_CACHED:
        return _nothing(run, quantity, f"{run.cached:.0%} of the prompt tokens came from the prefix cache")
    if run.bundled:
        return _nothing(run, quantity, "tokens came in bundles: the time to the first one may hold several")
    details = run.details
    if details is not None and details.start_s is not None:
        alone = _alone(details, until_s=details.ttft_s)
        if not alone.any():
            return _nothing(run, quantity, "every request overlapped others: a loaded TTFT is not a prompt time")
        how = f"{alone.sum()} of {alone.size} requests had the replica to themselves"
        return _by_length(run, details.prompt_tokens[alone], details.ttft_s[alone], how)
    unloaded, load = _load(run)
    if not unloaded:
        return _nothing(run, quantity, f"{load}: a loaded TTFT is not a prompt time")
    if details is not None:
        return _by_length(run, details.prompt_tokens, details.ttft_s, load)
    if varied := _varied(run):
        return _nothing(run, quantity, f"{varied}: give them one length")
    known = "" if run.vary is not None else "; the file does not say whether lengths vary"
    point = measured_point(run.source, "prompt", run.prompt_tokens, 1, 0.0, run.ttft, run.requests)
    return [(Finding(run.source, quantity, f"median TTFT, {load}{known}"), point)]


def decode_points(run: Run, unloaded_ttft_s: float | None = None) -> list[Identified]:
    """Decode times of a run, by the strictest rule that its data allow, or the reason why there is none.

    ``unloaded_ttft_s`` is the TTFT of a prompt of the run's length alone, if another run has it.
    """
    if run.speculative:
        return _nothing(run, "decode time", "speculative decoding: a gap is not one iteration of the model")
    spread = run.tpot or run.gap
    if run.output_tokens < 2 or spread is None:
        return _nothing(run, "decode time", "the file has no times between tokens")
    details = run.details
    if details is not None and details.start_s is not None:
        if details.gaps_s is not None and not run.bundled:
            return _counted(run, details)
        alone = _alone(details, until_s=details.last_s) & (details.output_tokens > 1)
        if run.in_flight is None and alone.any():
            gaps_s = (details.last_s - details.ttft_s)[alone] / (details.output_tokens[alone] - 1)
            how = f"mean gaps of the {alone.sum()} of {alone.size} requests that had the replica to themselves"
            return _found(run, 1, Spread.of(gaps_s), int(alone.sum()), how)
    unloaded, load = _load(run)
    if unloaded:
        return _found(run, 1, spread, run.requests, f"mean gap between tokens, {load}")
    if run.in_flight is None:
        mend = "hold a number of requests in flight, or give the times of every request"
        return _nothing(run, "decode time", f"{run.load}: the batch is not known ({mend})")
    return _held(run, run.in_flight, unloaded_ttft_s)


def _held(run: Run, batch: int, unloaded_ttft_s: float | None) -> list[Identified]:
    """Point from the median or the mean gap at a held batch, if the share of other requests' prompts is bounded."""
    quantity = f"decode time at batch {batch}"
    average = run.mean_in_flight
    if average is not None and average < MIN_HELD * batch:
        mend = f"more requests are needed ({10 * batch:,} or more)"
        return _nothing(run, quantity, f"only {average:,.1f} of {batch} requests were in flight on average: {mend}")
    if run.ttft is not None and run.tpot is not None:
        decoding = run.decoding_s / (run.ttft.mean_s + run.decoding_s)
        if decoding < MIN_DECODING:
            why = f"requests decode {decoding:.0%} of their time and wait or are in their prompt else"
            mend = "the batch may be smaller (longer outputs, or the times of every request)"
            return _nothing(run, quantity, f"{why}: {mend}")
    gaps = run.output_tokens - 1
    share = batch * math.ceil(run.prompt_tokens / CHUNK_TOKENS) / gaps
    of_gaps = f"{batch} prompts in {gaps:,.0f} gaps: up to {min(share, 1):.0%} of the gaps hold one"
    if run.gap is not None and not run.bundled and share <= MAX_PROMPT_GAPS:
        # extremes of single gaps are jitter of the client, not repeats of the point
        gap = Spread(run.gap.median_s, run.gap.mean_s)
        how = f"median gap, the {0.5 / (1 - share):.0%} quantile of those without prompts ({of_gaps})"
        if run.details is not None and run.details.gaps_s is not None:
            clean_s = float(np.quantile(np.concatenate(run.details.gaps_s), 0.5 * (1 - share)))
            gap = Spread(clean_s, clean_s)
            how = f"the {0.5 * (1 - share):.0%} quantile of the gaps, the median of those without prompts ({of_gaps})"
        return _found(run, batch, gap, run.requests, how)
    if run.tpot is None or run.ttft is None or run.rate_rps is None:
        return _nothing(run, quantity, f"{of_gaps}, and the file has no mean gap and rate (longer outputs)")
    least_s = min(run.ttft.median_s, run.ttft.mean_s) if run.ttft.min_s is None else run.ttft.min_s
    prompts = (batch - 1) / batch * run.rate_rps * min(least_s, unloaded_ttft_s or math.inf)
    if prompts <= MAX_PROMPT_TIME:
        return _found(run, batch, run.tpot, run.requests, f"mean gap, up to {prompts:.1%} of it others' prompts")
    why = f"up to {min(prompts, 1):.0%} of the mean gap is others' prompts; {of_gaps} (longer outputs)"
    return _nothing(run, quantity, why)


def _counted(run: Run, details: Details) -> list[Identified]:
    """Decode points from the gaps of each batch size, without gaps during which a request's prompt was open.

    The state at the middle of a gap counts. The batch is the requests between their first and last token, the context
    the tokens that they hold.
    """
    assert details.start_s is not None and details.gaps_s is not None
    first = details.start_s + details.ttft_s
    arrived = [at + np.cumsum([0.0, *of_one]) for at, of_one in zip(first, details.gaps_s, strict=True)]
    tokens = np.array([times.size for times in arrived], dtype=np.float64)
    last = np.array([times[-1] for times in arrived])
    gaps = np.concatenate(details.gaps_s)
    owner = np.repeat(np.arange(first.size), [of_one.size for of_one in details.gaps_s])
    middle = np.concatenate([times[1:] for times in arrived]) - gaps / 2
    batch = _before(first, middle) - _before(last, middle)
    waiting = _before(details.start_s, middle) - _before(first, middle)
    prompts = _before(first, middle, details.prompt_tokens) - _before(last, middle, details.prompt_tokens)
    outputs = _before(np.concatenate(arrived), middle) - _before(last, middle, tokens)
    context = (prompts + outputs) / np.maximum(batch, 1)
    usable = (waiting == 0) & (np.abs(context / _axis_context(run) - 1) <= CONTEXT_WINDOW)
    found: list[Identified] = []
    for size in np.unique(batch[usable]).astype(int).tolist():
        of_batch = np.flatnonzero(usable & (batch == size))
        if of_batch.size < MIN_GAPS:
            continue
        by_request = np.split(gaps[of_batch], np.flatnonzero(np.diff(owner[of_batch])) + 1)
        medians = [float(np.median(of_one)) for of_one in by_request]
        median_s = float(np.median(gaps[of_batch]))
        how = f"median of {of_batch.size:,} gaps without anybody's prompt, counted from the times of every request"
        found += _found(run, size, Spread(median_s, median_s, min(medians), max(medians)), len(medians), how)
    why = f"of {gaps.size:,} gaps {(waiting == 0).sum():,} hold no prompt, and no {MIN_GAPS} of these one batch"
    return found or _nothing(run, "decode time", f"{why} and context (longer outputs)")


def _before(times: Floats, at: Floats, weight: Floats | None = None) -> Floats:
    """Number, or sum of weights, of ``times`` up to each of the times ``at``."""
    order = np.argsort(times)
    upto = np.cumsum(np.ones(times.size) if weight is None else weight[order])
    return np.concatenate([[0.0], upto])[np.searchsorted(times[order], at, side="right")]


def _alone(details: Details, until_s: Floats) -> NDArray[np.bool_]:
    """Mask of the requests with no other in flight from their start until ``until_s`` later."""
    assert details.start_s is not None
    started = _before(details.start_s, details.start_s + until_s)
    ended = _before(details.start_s + details.last_s, details.start_s + CLOCK_S)
    # of the requests started by then, all but this one must have ended before it was sent
    return np.equal(started - ended, 1)


def _by_length(run: Run, prompt_tokens: Floats, ttft_s: Floats, how: str) -> list[Identified]:
    order = np.argsort(prompt_tokens)
    lengths, times_s = prompt_tokens[order], ttft_s[order]
    found: list[Identified] = []
    start = 0
    while start < lengths.size:
        stop = int(np.searchsorted(lengths, lengths[start] * SAME_LENGTH, side="right"))
        tokens = round(float(np.median(lengths[start:stop])))
        point = measured_point(run.source, "prompt", tokens, 1, 0.0, Spread.of(times_s[start:stop]), stop - start)
        found.append((Finding(run.source, f"prompt time of {tokens:,} tokens", f"median TTFT, {how}"), point))
        start = stop
    return found


def _load(run: Run) -> tuple[bool, str]:
    """Whether the requests of a run surely do not overlap, and the load of which that is said."""
    average = run.mean_in_flight
    if run.in_flight is not None:
        alone = run.in_flight == 1
        return alone, "one request at a time" if alone else f"{run.in_flight} requests in flight"
    if average is None:
        return False, run.load
    if average <= MAX_OPEN_IN_FLIGHT:
        return True, f"{average:.2f} requests in flight on average"
    return False, f"{run.load}, {average:,.1f} in flight on average"


def _axis_context(run: Run) -> float:
    """Mean context of a sequence while it decodes: prompt and half of the outputs, of whole tokens."""
    return round(run.prompt_tokens) + round(run.output_tokens) / 2


def _varied(run: Run) -> str:
    """Spread of the prompt lengths of a run; empty if they count as one length."""
    if run.vary is None or run.vary <= MAX_VARY:
        return ""
    by = f" by {run.vary:.0%}" if math.isfinite(run.vary) else ""
    return f"prompt lengths vary{by}{f' ({run.lengths})' if run.lengths else ''}"


def _found(run: Run, batch: int, spread: Spread, repeats: int, how: str) -> list[Identified]:
    context = _axis_context(run)
    quantity = f"decode time at batch {batch}, {context:,.0f} tokens of context each"
    how = "; ".join(filter(None, (how, "tokens came in bundles" if run.bundled else "", _varied(run))))
    point = measured_point(run.source, "decode", run.prompt_tokens, batch, batch * context, spread, repeats)
    return [(Finding(run.source, quantity, how), point)]


def measured_point(
    where: str, phase: Phase, tokens: float, batch: int, context_tokens: float, spread: Spread, repeats: int = 1
) -> CurvePoint:
    """A measured point, with its extremes if they are known and enclose the median; errors begin with ``where``."""
    median_s, tokens = spread.median_s, max(round(tokens), 1)
    least_s, most_s = min(median_s, spread.min_s or median_s), max(median_s, spread.max_s or median_s)
    try:
        return CurvePoint(phase, tokens, batch, context_tokens, median_s, max(repeats, 1), least_s, most_s, "measured")
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _nothing(run: Run, quantity: str, why: str) -> list[Identified]:
    return [(Finding(run.source, quantity, why), None)]
