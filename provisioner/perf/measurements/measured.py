"""Measurements of several files joined to one curve, with the fit's errors and the runs that are still missing."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from provisioner.errors import InputError
from provisioner.perf.curves import CurveSet, fit_measured, kv_read_s_per_token
from provisioner.perf.measurements.formats import read_file
from provisioner.perf.measurements.identify import Finding, Identified, decode_points, prompt_points
from provisioner.perf.measurements.runs import Recognised, Run
from provisioner.perf.measurements.values import Contents, Group
from provisioner.perf.points import CurvePoint, Phase
from provisioner.specs import catalog

SAME_CONTEXT: Final = 1.05
"""Lengths up to this ratio count as one length: benchmark tools meet a requested length within a few tokens."""

PROMPT_SIZES: Final = (256, 1024, 4096)
"""Prompt lengths of proposed runs, in tokens."""

BATCHES: Final = (1, 8, 32, 128)
"""Requests in flight of proposed runs."""

ALONE_REQUESTS: Final = 20
"""Requests of a proposed run of one at a time."""

SHOWN_REASONS: Final = 3
"""Reasons that an error lists."""

ALONE_OUTPUT_TOKENS: Final = 64
"""Output tokens of a proposed run for prompt times."""


@dataclass(frozen=True, slots=True)
class PhaseFit:
    """Distance of the fitted curve from the points of a phase, as fractions of the measured times.

    ``median`` and ``largest`` are errors of the curve through all points. ``left_out`` inner points were each
    predicted by a curve without the point; ``left_out_median`` and ``left_out_largest`` are the errors there, None
    without any.
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

    ``fit`` is None if the points do not make a curve yet; ``fit_refused`` then says why, and ``next_steps`` are
    the commands that measure the missing points.
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

    ``input_tokens`` and ``output_tokens`` hold for every run, if the files do not state them or the user knows better;
    ``concurrency`` is the number of requests in flight of AIPerf and genai-perf runs, whose CSV does not state it.
    ``model`` and ``machine`` may be unknown to the catalogue (``own``, or the shipped one); the slope of decode time
    over context then has no physical bounds. Raises ``InputError`` for a file that cannot be read, is of no known
    format or of another model than the others, and if no file gives a point of a curve.
    """
    if not paths:
        raise InputError("curves import: give a result file or more")
    group = Group(model, machine, tensor_parallel, input_tokens, output_tokens, concurrency, own)
    contents = [read_file(Path(path), group) for path in paths]
    _one_model([file.recognised for file in contents])
    runs = [run for file in contents for run in file.runs]
    exact = [p for file in contents for p in file.points]
    results = [prompt_points(run) for run in runs]
    results += [decode_points(run, _unloaded_ttft_s(run, results)) for run in runs]
    points = _joined(_levelled([p for r in results for p in r.points]) + exact)
    not_found = tuple(finding for r in results for finding in r.not_found)
    if not points:
        reasons = list(dict.fromkeys(f"{f.quantity}: {f.why}" for f in not_found))
        more = f"; and {len(reasons) - SHOWN_REASONS} more" if len(reasons) > SHOWN_REASONS else ""
        files = paths[0] if len(paths) == 1 else f"{len(paths)} files"
        raise InputError(f"{files}: no point of a curve is in it: {'; '.join(reasons[:SHOWN_REASONS])}{more}")
    fit, refused = _fit(points, group)
    return Measured(
        model=model,
        machine=machine,
        tensor_parallel=tensor_parallel,
        points=points,
        recognised=tuple(file.recognised for file in contents),
        identified=_given(contents) + tuple(finding for r in results for finding in r.found),
        not_identified=_never(runs) + not_found,
        fit=fit,
        fit_refused=refused,
        warnings=_warnings(runs, fit, group),
        next_steps=_next_steps(points, fit, [file.recognised for file in contents]),
    )


def _one_model(recognised: Sequence[Recognised]) -> None:
    """Refuse files that name different models."""
    named = [file for file in recognised if file.model_id and file.tool != "curve file"]
    for file in named[1:]:
        if file.model_id != named[0].model_id:
            raise InputError(
                f"{file.path}: is of the model {file.model_id}, {named[0].path} of {named[0].model_id}: "
                "one curve is of one model"
            )


def _unloaded_ttft_s(run: Run, results: Sequence[Identified]) -> float | None:
    """Largest identified prompt time at a length near the run's; None without any."""
    near = [
        p.latency_s
        for r in results
        for p in r.points
        if p.phase == "prompt"
        and run.prompt_tokens / SAME_CONTEXT <= p.prompt_tokens <= run.prompt_tokens * SAME_CONTEXT
    ]
    return max(near, default=None)


def _levelled(points: Sequence[CurvePoint]) -> list[CurvePoint]:
    """Points with lengths that differ by a few tokens set to one length, so that they lie on one axis of the curve."""
    lengths = {(p.phase, p.prompt_tokens, p.context_per_sequence_tokens): p.repeats for p in points}
    chosen: list[tuple[Phase, int, float]] = []
    # the length of most requests stands for those near it
    for key in sorted(lengths, key=lambda key: (-lengths[key], key)):
        if not any(_near(key, other) for other in chosen):
            chosen.append(key)
    result = []
    for p in points:
        own = (p.phase, p.prompt_tokens, p.context_per_sequence_tokens)
        _, prompt_tokens, context = next(key for key in chosen if _near(own, key))
        result.append(replace(p, prompt_tokens=prompt_tokens, context_tokens=p.batch * context))
    return result


def _near(a: tuple[Phase, int, float], b: tuple[Phase, int, float]) -> bool:
    def close(x: float, y: float) -> bool:
        return x == y or (min(x, y) > 0 and max(x, y) <= SAME_CONTEXT * min(x, y))

    return a[0] == b[0] and close(a[1], b[1]) and close(a[2], b[2])


def _joined(points: Sequence[CurvePoint]) -> tuple[CurvePoint, ...]:
    """One point for each place: the median of its repeats and their extremes, in the order of a curve file."""
    places: dict[tuple[int, int, int, float], list[CurvePoint]] = {}
    for p in points:
        places.setdefault((p.phase != "prompt", p.batch, p.prompt_tokens, p.context_tokens), []).append(p)
    return tuple(
        replace(
            same[0],
            latency_s=float(np.median([p.latency_s for p in same])),
            repeats=sum(p.repeats for p in same),
            min_s=min(p.min_s for p in same),
            max_s=max(p.max_s for p in same),
        )
        for _, same in sorted(places.items())
    )


def _kv_read_s(group: Group) -> float | None:
    """Physical floor of the context slope in s/token; None if model or machine is not in the catalogue."""
    known = group.own or catalog.with_own(None)
    models, machines = known.models, known.machines
    if group.model not in models or group.machine not in machines:
        return None
    return kv_read_s_per_token(models[group.model], machines[group.machine], group.tensor_parallel)


def _curves(points: Sequence[CurvePoint], group: Group) -> CurveSet:
    """Curve through the points; without bounds from the catalogue its context slope is as fitted, 0 or more."""

    def fitted(floor_s: float) -> CurveSet:
        return fit_measured(points, (group.model, group.machine, group.tensor_parallel), floor_s)

    floor_s = _kv_read_s(group)
    if floor_s is not None:
        return fitted(floor_s)
    curves = fitted(0.0)
    slope_s = curves.context.fitted_s_per_token if curves.context else 0.0
    return fitted(slope_s) if slope_s > 0 else curves


def _fit(points: Sequence[CurvePoint], group: Group) -> tuple[Fit | None, str]:
    """Curve through the points with its errors, or None and the reason why there is none."""
    try:
        curves = _curves(points, group)
    except InputError as error:
        return None, str(error)
    phases = []
    for phase in ("prompt", "decode"):
        of_phase = curves.prompt_points if phase == "prompt" else tuple(p for p in curves.kept if p.phase == "decode")
        errors = [abs(curves.error_at(p)) for p in of_phase]
        inner = [p for p in of_phase if _is_inner(p, of_phase)]
        without = [_error_without(p, curves.kept, group) for p in inner]
        left_out = [abs(e) for e in without if e is not None]
        phases.append(
            PhaseFit(
                phase=phase,
                points=len(errors),
                median=float(np.median(errors)),
                largest=max(errors),
                left_out=len(left_out),
                left_out_median=float(np.median(left_out)) if left_out else None,
                left_out_largest=max(left_out, default=None),
            )
        )
    return Fit(curves, tuple(phases), _kv_read_s(group) is not None), ""


def _is_inner(point: CurvePoint, points: Sequence[CurvePoint]) -> bool:
    """Whether a point lies between others of its phase: by batched tokens, or by batch at its context."""
    if point.phase == "prompt":
        at, all_at = point.batched_tokens, [p.batched_tokens for p in points]
    else:
        context = point.context_per_sequence_tokens
        at, all_at = point.batch, [p.batch for p in points if p.context_per_sequence_tokens == context]
    return min(all_at) < at < max(all_at)


def _error_without(point: CurvePoint, points: Sequence[CurvePoint], group: Group) -> float | None:
    """Error of the curve through the other points at a point; None if they make no curve."""
    try:
        return _curves([p for p in points if p is not point], group).error_at(point)
    except InputError:
        return None


def _given(contents: Sequence[Contents]) -> tuple[Finding, ...]:
    """Findings for tables of points, whose latencies are taken unchanged."""
    why = "latencies taken as they stand"
    return tuple(Finding(f.recognised.path, f"{len(f.points)} points", why) for f in contents if f.points)


def _never(runs: Sequence[Run]) -> tuple[Finding, ...]:
    """Quantities that no client's run can identify, whatever its load."""
    if not runs:
        return ()
    overhead = "a client sees one time to the first token: the prompt curve includes client's and server's overhead"
    packed = "a client cannot see which prompts shared an iteration: the prompt curve is of single prompts"
    return (
        Finding("every file", "prompt times without overhead", overhead),
        Finding("every file", "batches of prompts", packed),
    )


def _warnings(runs: Sequence[Run], fit: Fit | None, group: Group) -> tuple[str, ...]:
    warnings = [
        f"{run.source}: {run.failed:,} requests failed; the load that they made is not seen"
        for run in runs
        if run.failed
    ]
    if runs:
        warnings.append(
            "whether prompts were found in the prefix cache cannot be seen: times are of whole prompts only if it was "
            "off, or no prompt was sent twice (another --seed for each run)"
        )
    if fit is not None:
        warnings += [f"refused: {refused.point.label}: {refused.reason}" for refused in fit.curves.refused]
        warnings += [f"levelled: {dip.reason}" for dip in fit.curves.dips]
        if not fit.context_slope_known:
            unknown = group.model if group.model not in (group.own or catalog.with_own(None)).models else group.machine
            warnings.append(
                f"{unknown} is not in the catalogue: the slope of decode time over context is as fitted from single "
                "requests, not held to what the memory can read"
                if fit.curves.slope_s_per_context_token
                else f"{unknown} is not in the catalogue, and too few single requests at several prompt lengths are "
                "there for a slope: decode time does not rise with the context of a sequence"
            )
        # neither on the batch axis nor of a single sequence, which gives the slope
        axis = fit.curves.axis_context_tokens
        batches = [p for p in fit.curves.kept if p.phase == "decode" and p.batch > 1]
        off = [p for p in batches if p.context_per_sequence_tokens != axis]
        if off:
            context = f"{axis:,.0f} tokens of context each"
            warnings.append(
                f"{', '.join(p.label for p in off)}: not at the {context} that most batches have; the curve does not "
                "go through them"
            )
    return tuple(warnings)


def _next_steps(points: Sequence[CurvePoint], fit: Fit | None, recognised: Sequence[Recognised]) -> tuple[str, ...]:
    """Commands that measure what a curve still lacks."""
    if fit is not None:
        return ()
    model = next((file.model_id for file in recognised if file.model_id), "MODEL")
    sizes = {p.prompt_tokens for p in points if p.phase == "prompt"}
    steps = []
    if len(sizes) < 2:
        new = [
            tokens for tokens in PROMPT_SIZES if not any(_near(("prompt", tokens, 0), ("prompt", s, 0)) for s in sizes)
        ]
        steps += [_command(model, tokens, ALONE_OUTPUT_TOKENS, 1, ALONE_REQUESTS) for tokens in new]
    decodes = [p for p in points if p.phase == "decode"]
    contexts = [(p.prompt_tokens, round(p.output_tokens)) for p in decodes]
    # at the lengths of most measured batches
    lengths = max(contexts, key=contexts.count) if contexts else (1024, 512)
    have = {p.batch for p, context in zip(decodes, contexts, strict=True) if context == lengths}
    if len(have) < 2 or max(have) < 2:
        for batch in BATCHES:
            if batch not in have:
                steps.append(_command(model, *lengths, batch, max(ALONE_REQUESTS, 10 * batch)))
    return tuple(steps)


def _command(model: str, prompt_tokens: int, output_tokens: int, in_flight: int, requests: int) -> str:
    """Command of one ``vllm bench serve``: random prompts of one length with ``in_flight`` requests in flight."""
    return (
        f"vllm bench serve --model {shlex.quote(model)} --dataset-name random --random-input-len {prompt_tokens} "
        f"--random-output-len {output_tokens} --ignore-eos --max-concurrency {in_flight} --num-prompts {requests} "
        "--percentile-metrics ttft,tpot,itl,e2el --save-result --save-detailed"
    )
