"""Measurements of several files joined to one curve, with the fit's errors and the runs that are still missing."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Final

import numpy as np

from provisioner.errors import InputError
from provisioner.perf.curves import CurveSet, fit_measured, kv_read_s_per_token
from provisioner.perf.measurements.formats import read_file
from provisioner.perf.measurements.identify import Finding, decode_points, prompt_points
from provisioner.perf.measurements.runs import Recognised, Replica, Run
from provisioner.perf.points import CurvePoint, Phase
from provisioner.specs import catalog
from provisioner.spelling import spelled

SAME_CONTEXT: Final = 1.05  # lengths up to this ratio are one: benchmark tools meet one within a few tokens
PROMPT_SIZES: Final = (256, 1024, 4096)  # prompt lengths of proposed runs in tokens,
BATCHES: Final = (1, 8, 32, 128)  # and their requests in flight
ALONE_REQUESTS: Final = 20  # requests of a proposed run of one at a time,
ALONE_OUTPUT_TOKENS: Final = 64  # and their output tokens
SHOWN_REASONS: Final = 3  # that an error lists


@dataclass(frozen=True, slots=True)
class PhaseFit:
    """Distance of the fitted curve from the points of a phase, as fractions of the measured times.

    ``median`` and ``largest`` are errors of the curve through all points, ``left_out_median`` and ``left_out_largest``
    of curves without one of the ``left_out`` inner points each, at that point; None without any.
    """

    phase: Phase
    points: int
    median: float
    largest: float
    left_out: int
    left_out_median: float | None
    left_out_largest: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """Curve through the points, and its distance from them by phase."""

    curves: CurveSet
    phases: tuple[PhaseFit, ...]
    context_slope_known: bool


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """Measurements of one model on one machine at one tensor parallelism: points, findings and fit.

    Without a ``fit``, ``fit_refused`` says why, and ``next_steps`` are commands that measure the missing points.
    """

    model: str
    machine: str
    tensor_parallel: int
    points: tuple[CurvePoint, ...]
    recognised: tuple[Recognised, ...]
    identified: tuple[Finding, ...]
    not_identified: tuple[Finding, ...]
    fit: Fit | None
    fit_refused: str
    warnings: tuple[str, ...]
    next_steps: tuple[str, ...]


def read_measurements(
    paths: Sequence[str | Path],
    *,
    model: str,
    machine: str,
    tensor_parallel: int,
    input_tokens: float | None = None,
    output_tokens: float | None = None,
    concurrency: int | None = None,
    own: catalog.Catalog | None = None,
) -> Measured:
    """Curve points from result files of benchmark tools.

    ``input_tokens`` and ``output_tokens`` replace those of every file; ``concurrency`` is the number in flight, for
    files that state no load, such as the CSV of AIPerf. With a model or machine unknown to the catalogue the slope of
    decode time over context has no physical bounds. ``InputError`` for a file that cannot be read, is of no known
    format or of another model than the others, and if no file gives a point of a curve.
    """
    if not paths:
        raise InputError("curves import: give a result file or more")
    known = catalog.with_own(None) if own is None else own
    replica = Replica(model, machine, tensor_parallel, input_tokens, output_tokens, concurrency, known)
    contents = [read_file(Path(path), replica) for path in paths]
    recognised = tuple(file.recognised for file in contents)
    named = [file for file in recognised if file.model_id and file.tool != "curve file"]
    for file in named:
        if file.model_id != named[0].model_id:
            both = f"is of the model {file.model_id}, {named[0].path} of {named[0].model_id}"
            raise InputError(f"{file.path}: {both}: one curve is of one model")
    runs = [run for file in contents for run in file.runs]
    for option, wanted, of_runs in (
        ("input_tokens", input_tokens, {run.prompt_tokens for run in runs}),
        ("output_tokens", output_tokens, {run.output_tokens for run in runs}),
        ("concurrency", concurrency, {run.in_flight for run in runs}),
    ):
        if wanted is not None and wanted not in of_runs:
            raise InputError(f"{spelled(option)}: changes nothing, as every file states its own; leave it out")
    results = [result for run in runs for result in prompt_points(run)]
    unloaded = [point for _, point in results if point]
    for run in runs:  # with the largest prompt time at its length
        near_s = (p.latency_s for p in unloaded if _close(p.prompt_tokens, run.prompt_tokens))
        results += decode_points(run, max(near_s, default=None))
    exact = [point for file in contents for point in file.points]
    points = _joined(_levelled([point for _, point in results if point]) + exact)
    missing = [finding for finding, point in results if not point]
    if not points:
        reasons = list(dict.fromkeys(f"{finding.quantity}: {finding.why}" for finding in missing))
        more = f"; and {len(reasons) - SHOWN_REASONS} more" if len(reasons) > SHOWN_REASONS else ""
        where = paths[0] if len(paths) == 1 else f"{len(paths)} files"
        raise InputError(f"{where}: no point of a curve is in it: {'; '.join(reasons[:SHOWN_REASONS])}{more}")
    fit, refused = None, ""
    try:
        fit = _fit(points, replica)
    except InputError as error:
        refused = str(error)
    given = [Finding(f.recognised.path, f"{len(f.points)} points", "taken as they stand") for f in contents if f.points]
    return Measured(
        model=model,
        machine=machine,
        tensor_parallel=tensor_parallel,
        points=points,
        recognised=recognised,
        identified=(*given, *(finding for finding, point in results if point)),
        not_identified=(*(Finding("every file", *never) for never in _NEVER.items() if runs), *missing),
        fit=fit,
        fit_refused=refused,
        warnings=tuple(_warnings(runs, fit, replica)),
        next_steps=() if fit else _next_steps(points, recognised),
    )


_NEVER: Final = {
    "prompt times without overhead": "a client sees one time to the first token: the prompt curve includes client's "
    "and server's overhead",
    "batches of prompts": "a client cannot see which prompts shared an iteration: the prompt curve is of single "
    "prompts",
}
"""Quantities that no client's run can identify, whatever its load, with the reason."""


_Length = tuple[Phase, int, float]  # a point's phase, and its tokens of prompt and of context per sequence


def _levelled(points: Sequence[CurvePoint]) -> list[CurvePoint]:
    """Points whose lengths, if they differ by a few tokens, are one, so that they lie on one axis of the curve."""
    lengths: list[_Length] = [(p.phase, p.prompt_tokens, p.context_per_sequence_tokens) for p in points]
    repeats = {length: p.repeats for length, p in zip(lengths, points, strict=True)}
    chosen: list[_Length] = []
    # the length of most requests stands for those near it
    for length in sorted(repeats, key=lambda length: (-repeats[length], length)):
        if not any(_near(length, other) for other in chosen):
            chosen.append(length)
    levels = (next(other for other in chosen if _near(length, other)) for length in lengths)
    return [
        replace(p, prompt_tokens=prompt_tokens, context_tokens=p.batch * context)
        for p, (_, prompt_tokens, context) in zip(points, levels, strict=True)
    ]


def _near(a: _Length, b: _Length) -> bool:
    return a[0] == b[0] and _close(a[1], b[1]) and _close(a[2], b[2])


def _close(x: float, y: float) -> bool:
    return x == y or (min(x, y) > 0 and max(x, y) <= SAME_CONTEXT * min(x, y))


def _joined(points: Sequence[CurvePoint]) -> tuple[CurvePoint, ...]:
    """One point for each place: the median of its repeats and their extremes, in the order of a curve file."""

    def place(p: CurvePoint) -> tuple[bool, int, int, float]:
        return p.phase != "prompt", p.batch, p.prompt_tokens, p.context_tokens

    groups = [list(same) for _, same in groupby(sorted(points, key=place), place)]
    return tuple(
        replace(
            same[0],
            latency_s=float(np.median([p.latency_s for p in same])),
            repeats=sum(p.repeats for p in same),
            min_s=min(p.min_s for p in same),
            max_s=max(p.max_s for p in same),
        )
        for same in groups
    )


def _fit(points: Sequence[CurvePoint], replica: Replica) -> Fit:
    """Curve through the points with its errors; ``InputError`` says why there is none."""
    group = replica.model, replica.machine, replica.tensor_parallel
    models, machines = replica.known.models, replica.known.machines
    floor_s = None
    if replica.model in models and replica.machine in machines:
        floor_s = kv_read_s_per_token(models[replica.model], machines[replica.machine], replica.tensor_parallel)

    def through(points: Sequence[CurvePoint]) -> CurveSet:
        """Curve whose context slope, without bounds from the catalogue, is as fitted, 0 or more."""
        curves = fit_measured(points, group, floor_s or 0.0)
        fitted_s = curves.context.fitted_s_per_token if floor_s is None and curves.context else 0.0
        return fit_measured(points, group, fitted_s) if fitted_s > 0 else curves

    curves = through(points)

    def phase_fit(phase: Phase, of_phase: Sequence[CurvePoint]) -> PhaseFit:
        axis = attrgetter("batched_tokens" if phase == "prompt" else "batch")

        def is_inner(point: CurvePoint) -> bool:
            context = point.context_per_sequence_tokens
            all_at = [axis(p) for p in of_phase if p.context_per_sequence_tokens == context]
            return bool(min(all_at) < axis(point) < max(all_at))

        errors = [abs(curves.error_at(p)) for p in of_phase]
        left_out = []
        for point in filter(is_inner, of_phase):
            with suppress(InputError):  # without the point there may be no curve
                left_out.append(abs(through([p for p in curves.kept if p is not point]).error_at(point)))
        return PhaseFit(
            phase=phase,
            points=len(errors),
            median=float(np.median(errors)),
            largest=max(errors),
            left_out=len(left_out),
            left_out_median=float(np.median(left_out)) if left_out else None,
            left_out_largest=max(left_out, default=None),
        )

    phases = (phase_fit("prompt", curves.prompt_points), phase_fit("decode", curves.decode_points))
    return Fit(curves, phases, floor_s is not None)


def _warnings(runs: Sequence[Run], fit: Fit | None, replica: Replica) -> Iterator[str]:
    for run in runs:
        if run.failed:
            yield f"{run.source}: {run.failed:,} requests failed; the load that they made is not seen"
    if runs:
        yield (
            "whether prompts were found in the prefix cache cannot be seen: times are of whole prompts only if it was "
            "off, or no prompt was sent twice (another --seed for each run)"
        )
    if fit is None:
        return
    curves = fit.curves
    yield from (f"refused: {refused.point.label}: {refused.reason}" for refused in curves.refused)
    yield from (f"levelled: {dip.reason}" for dip in curves.dips)
    yield from curves.assumed
    if not fit.context_slope_known:
        unknown = replica.machine if replica.model in replica.known.models else replica.model
        yield (
            f"{unknown} is not in the catalogue: the slope of decode time over context is as fitted from single "
            "requests, not held to what the memory can read"
            if curves.slope_s_per_context_token
            else f"{unknown} is not in the catalogue, and too few single requests at several prompt lengths are there "
            "for a slope: decode time does not rise with the context of a sequence"
        )
    # neither on the batch axis nor of a single sequence, which gives the slope
    axis = curves.axis_context_tokens
    off = [p.label for p in curves.decode_points if p.batch > 1 and p.context_per_sequence_tokens != axis]
    if off:
        yield (
            f"{', '.join(off)}: not at the {axis:,.0f} tokens of context each that most batches have; the curve does "
            "not go through them"
        )


_COMMANDS: Final = {
    "vllm bench serve": "vllm bench serve --model {model} --dataset-name random --random-input-len {prompt} "
    "--random-output-len {output} --ignore-eos --max-concurrency {held} --num-prompts {requests} "
    "--percentile-metrics ttft,tpot,itl,e2el --save-result --save-detailed",
    "SGLang bench_serving": "python -m sglang.bench_serving --backend sglang --model {model} --dataset-name random "
    "--random-input-len {prompt} --random-output-len {output} --random-range-ratio 1.0 --max-concurrency {held} "
    "--num-prompts {requests} --output-details --output-file results.jsonl",
    "SGLang bench_one_batch": "python -m sglang.bench_one_batch --model-path {model} --input-len {prompt} "
    "--output-len {output} --batch-size {held} --result-filename results.jsonl",
    "GuideLLM": "guidellm benchmark --target http://localhost:8000 --model {model} --rate-type concurrent "
    "--rate {held} --max-requests {requests} --data prompt_tokens={prompt},output_tokens={output} "
    "--output-path benchmarks-{prompt}-{held}.json",
    "AIPerf": "aiperf profile --model {model} --endpoint-type chat --streaming --synthetic-input-tokens-mean {prompt} "
    "--synthetic-input-tokens-stddev 0 --output-tokens-mean {output} --output-tokens-stddev 0 --extra-inputs "
    "ignore_eos:true --concurrency {held} --request-count {requests}",
}
"""Commands that measure one run, by the beginning of the tool's name; the first for other tools."""


def _next_steps(points: Sequence[CurvePoint], recognised: Sequence[Recognised]) -> tuple[str, ...]:
    model = shlex.quote(next((file.model_id for file in recognised if file.model_id), "MODEL"))
    tools = [key for file in recognised for key in _COMMANDS if file.tool.startswith(key)]
    command = _COMMANDS[tools[0] if tools else "vllm bench serve"]
    sizes = {p.prompt_tokens for p in points if p.phase == "prompt"}
    runs: list[tuple[int, int, int]] = []
    if len(sizes) < 2:
        new = [tokens for tokens in PROMPT_SIZES if not any(_close(tokens, size) for size in sizes)]
        runs += [(tokens, ALONE_OUTPUT_TOKENS, 1) for tokens in new]
    decodes = [p for p in points if p.phase == "decode"]
    contexts = [(p.prompt_tokens, round(p.output_tokens)) for p in decodes]
    # at the lengths of most measured batches
    lengths = max(contexts, key=contexts.count) if contexts else (1024, 512)
    have = {p.batch for p, context in zip(decodes, contexts, strict=True) if context == lengths}
    if len(have) < 2 or max(have) < 2:
        runs += [(*lengths, batch) for batch in BATCHES if batch not in have]
    return tuple(
        command.format(model=model, prompt=prompt, output=output, held=held, requests=max(ALONE_REQUESTS, 10 * held))
        for prompt, output, held in runs
    )
