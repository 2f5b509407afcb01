"""Coverage, evidence and error of the latency curves, for ``provision machines``, ``models`` and ``curves``.

An error is of work that a curve was not fitted to. Repeats left out at random say how noisy the measurements are,
whole points left out how far interpolation and extrapolation can be trusted.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from operator import attrgetter
from typing import Final, Literal

import numpy as np

from provisioner.errors import InputError, ModelDoesNotFitError
from provisioner.options.defaults import Evidence
from provisioner.perf.curves import ContextFit, CurveSet, curve_groups, fit_measured, load_curve_set, own_file
from provisioner.perf.evidence import DEGREES, curves, degrees_of, kernels_evidence, operators_of, why_not_derived
from provisioner.perf.memory import kv_capacity_tokens, memory_bytes
from provisioner.perf.operators import gpu_limits
from provisioner.perf.points import CurvePoint
from provisioner.perf.provenance import SERVED_TPOT_ERROR, SERVED_TTFT_ERROR, kernels_provenance, load_provenance
from provisioner.specs.catalog import Catalog, with_own
from provisioner.specs.engine import Engine
from provisioner.specs.hardware import Machine
from provisioner.specs.model import ModelArchitecture, NumberType

NUMBER_TYPES: Final[tuple[NumberType, ...]] = ("bf16", "fp8")
"""Number types of the layers' weights that curves are derived in."""


@dataclass(frozen=True, slots=True)
class HoldOutError:
    """Error of a curve at points or runs left out along an axis (``decode: batch``), as fractions of measured times.

    ``mape`` is the mean and ``largest`` the largest absolute error over ``left_out`` points, one left out at a time;
    ``bias`` is the mean signed error, above 0 if the curve is too slow (0 points and None for runs left out at random).
    """

    axis: str
    left_out: int
    mape: float
    largest: float
    bias: float | None = None


def interpolation_error(curve_set: CurveSet, how: Literal["repeats", "points"] = "points") -> tuple[HoldOutError, ...]:
    """Hold-out errors of measured curves, one row per phase and axis.

    ``repeats``: 20 % of the single runs left out at random, computed when the curves were derived. ``points``: whole
    points left out, computed here. ``InputError`` for curves in the published simulator's form, which are not fitted.
    """
    if curve_set.assumptions != "measured":
        raise InputError("hold-out errors are those of the measured curves: ask with assumptions measured")
    if how == "points":
        return _leave_out_points(curve_set)
    error = load_provenance().repeats.get(curve_set.group)
    if error is None:
        model, machine, degree = curve_set.group
        raise InputError(f"no error of left-out repeats is known for {model} on {machine} at TP {degree}")
    return (
        HoldOutError("prompt: runs", 0, error.prompt_mape, error.prompt_max),
        HoldOutError("decode: runs", 0, error.decode_mape, error.decode_max),
    )


def _leave_out_points(curve_set: CurveSet) -> tuple[HoldOutError, ...]:
    """Error at each inner point of an axis, and at its last, predicted by curves fitted without it.

    Points that share their place on an axis (512 x 2 and 1024 x 1 tokens) are left out together, compared one by one.
    """
    kept, decodes, fit = curve_set.kept, curve_set.decode_points, curve_set.context
    assert fit is not None  # measured curves have one
    axis = [p for p in decodes if p.context_per_sequence_tokens == curve_set.axis_context_tokens]
    single = [p for p in decodes if p.batch == 1 and p not in axis]

    def error(name: str, groups: Sequence[Sequence[CurvePoint]]) -> HoldOutError:
        signed: list[float] = []
        for left_out in groups:
            rest = [p for p in kept if p not in left_out]
            signed += map(fit_measured(rest, curve_set.group, fit.floor_s_per_token).error_at, left_out)
        size = np.abs(signed)
        return HoldOutError(name, len(signed), float(size.mean()), float(size.max()), float(np.mean(signed)))

    by_tokens = _by(attrgetter("batched_tokens"), curve_set.prompt_points)
    by_batch = _by(attrgetter("batch"), axis)
    return (
        error("prompt: tokens", by_tokens[1:-1]),
        error("prompt: beyond the last", by_tokens[-1:]),
        error("decode: batch", by_batch[1:-1]),
        error("decode: batch beyond the last", by_batch[-1:]),
        error("decode: context", [[p] for p in single]),
    )


def _by(key: Callable[[CurvePoint], int], points: Sequence[CurvePoint]) -> list[list[CurvePoint]]:
    return [list(group) for _, group in groupby(sorted(points, key=key), key)]


@dataclass(frozen=True, slots=True)
class CurveSummary:
    """One group of measured curves with its errors.

    ``errors_repeats`` are of runs left out at random, unknown of the user's ``own`` curves; ``errors_points`` of whole
    points left out, if there are points to spare.
    """

    curve: CurveSet
    context: ContextFit
    own: bool
    errors_repeats: tuple[HoldOutError, ...]
    errors_points: tuple[HoldOutError, ...]


def curve_summary(
    model: str | None = None, machine: str | None = None, own: Catalog | None = None
) -> list[CurveSummary]:
    """Measured curves by (model, machine, tensor parallelism), of one model or machine if named; empty without any.

    >>> [row.curve.tensor_parallel for row in curve_summary("llama2-70b", "dgx-a100")]
    [2, 4, 8]
    """
    known = own or with_own(None)
    models = known.models if model is None else {known.model(model).name}
    machines = known.machines if machine is None else {known.machine(machine).name}
    rows: list[CurveSummary] = []
    for name, at, tensor_parallel in curve_groups(own):
        if name in models and at in machines:
            curve = load_curve_set(known.model(name), known.machine(at), tensor_parallel, own=own)
            assert curve.context is not None  # measured curves have one
            mine = own_file(curve.group, own) is not None
            repeats = () if mine else interpolation_error(curve, "repeats")
            rows.append(CurveSummary(curve, curve.context, mine, repeats, errors_of_points(curve)))
    return rows


@lru_cache(maxsize=64)
def errors_of_points(curve: CurveSet) -> tuple[HoldOutError, ...]:
    """Errors of whole points left out; none if too few points remain for a curve."""
    axis = curve.axis_context_tokens
    single = any(p.batch == 1 and p.context_per_sequence_tokens != axis for p in curve.decode_points)
    if single and len(curve.prompt.x) >= 3 and len(curve.decode.x) >= 3:
        with suppress(InputError):
            return interpolation_error(curve, "points")
    return ()


def inner_errors(errors: Sequence[HoldOutError]) -> tuple[float, float] | None:
    """Mean error of points left out within the measured range, of prompt and of decode times; None without any."""
    inner = [e for e in errors if e.left_out and "beyond" not in e.axis]
    prompt, decode = ([e for e in inner if e.axis.startswith(phase)] for phase in ("prompt", "decode"))
    if not prompt or not decode:
        return None
    means = (sum(e.mape * e.left_out for e in part) / sum(e.left_out for e in part) for part in (prompt, decode))
    return next(means), next(means)


@dataclass(frozen=True, slots=True)
class CurveError:
    """Mean absolute errors of the prompt and the token phase, as fractions: the smallest and the largest known of each.

    ``measured`` curves: times at points left out. ``derived`` curves: TTFT and TPOT of runs served by vLLM.
    ``estimated`` curves: the medians, against derived times, of each GPU with kernels estimated from the others.
    """

    prompt: tuple[float, float]
    decode: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Coverage:
    """Curves of a model in a number type on ``tensor_parallel`` GPUs: their evidence and error, and whether it fits.

    ``kv_capacity_tokens`` is None if it does not, and ``reason`` says why; ``memory_bytes`` has what takes the memory.
    ``own`` marks the user's own measurements.
    """

    model: str
    machine: str
    dtype: NumberType
    tensor_parallel: int
    evidence: Evidence
    own: bool
    replicas_per_machine: int
    memory_bytes: dict[str, float]
    kv_capacity_tokens: float | None
    reason: str
    error: CurveError | None


def coverage(
    model: ModelArchitecture, machine: Machine, own: Catalog | None = None, engine: Engine | None = None
) -> list[Coverage]:
    """Curves of a model on a machine, by number type and tensor parallelism, the smallest first; empty without any.

    ``engine`` is the default one unless given.

    >>> from provisioner.specs.catalog import machine, model
    >>> [(row.dtype, row.tensor_parallel, row.evidence) for row in coverage(model("llama2-70b"), machine("dgx-a100"))]
    [('bf16', 1, 'derived'), ('bf16', 2, 'measured'), ('bf16', 4, 'measured'), ('bf16', 8, 'measured')]
    """
    rows = []
    for dtype in dict.fromkeys((*NUMBER_TYPES, model.dtype)):
        typed = model.in_dtype(dtype)
        for degree, kind in sorted(degrees_of(typed, machine, own).items()):
            capacity: float | None = None
            reason = ""
            try:
                capacity = kv_capacity_tokens(typed, machine, degree, engine=engine)
            except ModelDoesNotFitError as refused:
                reason = str(refused)
            rows.append(
                Coverage(
                    model=model.name,
                    machine=machine.name,
                    dtype=dtype,
                    tensor_parallel=degree,
                    evidence=kind,
                    own=kind == "measured" and own_file((model.name, machine.name, degree), own) is not None,
                    replicas_per_machine=machine.gpus // degree,
                    memory_bytes=memory_bytes(typed, machine, degree, engine=engine),
                    kv_capacity_tokens=capacity,
                    reason=reason,
                    error=stated_error(curves(typed, machine, degree, own, engine), dtype, engine, machine.kernels),
                )
            )
    return rows


def _spans(prompt: Sequence[float], decode: Sequence[float]) -> CurveError:
    return CurveError((min(prompt), max(prompt)), (min(decode), max(decode)))


def stated_error(curve: CurveSet, dtype: NumberType, engine: Engine | None = None, gpu: str = "") -> CurveError | None:
    """Stated error of curves in a number type, by their evidence; None where none is known.

    That of derived curves is the engine's on a GPU, named as its kernels, if the engine states any.
    """
    if curve.evidence == "derived" and engine and engine.errors:
        of = (each for each in engine.errors if (each.gpu, each.dtype) == (gpu, dtype))
        return next((_spans([each.prompt], [each.decode]) for each in of), None)
    if curve.evidence != "measured":
        return unmeasured_error(curve.evidence, dtype)
    inner = inner_errors(errors_of_points(curve)) if curve.assumptions == "measured" else None
    return _spans(*([mean] for mean in inner)) if inner else None


def unmeasured_error(kind: Evidence, dtype: NumberType) -> CurveError:
    """Known error of derived or of estimated curves in a number type."""
    if kind == "derived":
        return _spans([SERVED_TTFT_ERROR], [SERVED_TPOT_ERROR])
    gpus = [gpu.estimated for gpu in kernels_provenance().values() if ("prompt", dtype) in gpu.estimated]
    return _spans(*([errors[phase, dtype].median for errors in gpus] for phase in ("prompt", "decode")))


def not_covered(model: ModelArchitecture, machine: Machine) -> dict[NumberType, str]:
    """Number types in which no curves are derived or estimated, with the reason."""
    reasons = {dtype: why_not_derived(model.in_dtype(dtype), machine) for dtype in NUMBER_TYPES}
    return {dtype: why for dtype, why in reasons.items() if why}


@dataclass(frozen=True, slots=True)
class MachineCurves:
    """Curves of a machine for a model that was not measured on it: their evidence, kernels and errors.

    ``kernels`` are the GPUs whose kernels are taken, ``borrowed`` the operators that a GPU with kernels lacks.
    ``errors`` are by number type; ``tensor_parallel`` are the degrees for which the machine has GPUs.
    """

    machine: str
    evidence: Evidence
    kernels: tuple[str, ...]
    borrowed: tuple[str, ...]
    errors: dict[NumberType, CurveError]
    tensor_parallel: tuple[int, ...]


def machine_curves(machine: Machine) -> MachineCurves:
    """Curves of a machine for a model that was not measured on it.

    >>> from provisioner.specs.catalog import machine
    >>> a10g = machine_curves(machine("a10g-x4"))
    >>> a10g.evidence, a10g.kernels, list(a10g.errors), a10g.tensor_parallel
    ('estimated', ('a40-48gb',), ['bf16'], (1, 2, 4))
    """
    some = next(iter(with_own(None).models.values())).in_dtype("bf16", "bf16")
    without = not_covered(some, machine)
    kind = kernels_evidence("bf16", machine)
    named = machine.kernels if kind == "derived" else machine.kernels_like
    return MachineCurves(
        machine=machine.name,
        evidence=kind,
        kernels=(named,) if named else tuple(gpu_limits()),
        borrowed=operators_of(machine).estimated if kind == "derived" else (),
        errors={dtype: unmeasured_error(kind, dtype) for dtype in NUMBER_TYPES if dtype not in without},
        tensor_parallel=tuple(degree for degree in sorted(DEGREES) if degree <= machine.gpus),
    )
