"""Error of the curves at work that they were not fitted to: repeats left out at random, and whole points left out.

The former says how noisy the measurements are, the latter how far interpolation and extrapolation can be trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from provisioner.errors import InputError
from provisioner.perf.curves import CurveSet, fit_measured
from provisioner.perf.points import CurvePoint
from provisioner.perf.provenance import load_provenance

Axis = Literal[
    "prompt: runs",
    "prompt: tokens",
    "prompt: beyond the last",
    "decode: runs",
    "decode: batch",
    "decode: batch beyond the last",
    "decode: context",
]


@dataclass(frozen=True, slots=True)
class HoldOutError:
    """Error of a curve at points or runs that were left out, as fractions of the measured times.

    ``mape`` is the mean and ``largest`` the largest absolute error over ``left_out`` points, one left out at a time;
    ``bias`` is the mean signed error, above 0 if the curve is too slow (0 points and None for runs left out at random).
    """

    axis: Axis
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
        return leave_out_points(curve_set)
    error = load_provenance().repeats.get(curve_set.group)
    if error is None:
        model, machine, degree = curve_set.group
        raise InputError(f"no error of left-out repeats is known for {model} on {machine} at TP {degree}")
    return (
        HoldOutError("prompt: runs", 0, error.prompt_mape, error.prompt_max),
        HoldOutError("decode: runs", 0, error.decode_mape, error.decode_max),
    )


def leave_out_points(curve_set: CurveSet) -> tuple[HoldOutError, ...]:
    """Error at each inner point of an axis, and at its last, predicted by curves fitted without it.

    Points that share their place on an axis (512 x 2 and 1024 x 1 tokens) are left out together and compared one
    by one. Only points that a curve goes through are compared.
    """
    kept, decodes = curve_set.kept, curve_set.decode_points
    axis = [p for p in decodes if p.context_per_sequence_tokens == curve_set.axis_context_tokens]
    single = [p for p in decodes if p.batch == 1 and p not in axis]

    def without(left_out: Sequence[CurvePoint]) -> CurveSet:
        assert curve_set.context is not None  # measured curves have one
        rest = [p for p in kept if p not in left_out]
        return fit_measured(rest, curve_set.group, curve_set.context.floor_s_per_token)

    def error(name: Axis, groups: Sequence[Sequence[CurvePoint]]) -> HoldOutError:
        signed: list[float] = []
        for left_out in groups:
            signed += map(without(left_out).error_at, left_out)
        size = np.abs(signed)
        return HoldOutError(name, len(signed), float(size.mean()), float(size.max()), float(np.mean(signed)))

    by_tokens = _by(curve_set.prompt_points, lambda p: p.batched_tokens)
    by_batch = _by(axis, lambda p: p.batch)
    return (
        error("prompt: tokens", by_tokens[1:-1]),
        error("prompt: beyond the last", by_tokens[-1:]),
        error("decode: batch", by_batch[1:-1]),
        error("decode: batch beyond the last", by_batch[-1:]),
        error("decode: context", [[p] for p in single]),
    )


def _by(points: Sequence[CurvePoint], key: Callable[[CurvePoint], int]) -> list[list[CurvePoint]]:
    return [[p for p in points if key(p) == at] for at in sorted({key(p) for p in points})]
