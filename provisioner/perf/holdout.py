"""Error of the curves at work that they were not fitted to: repeats left out at random, and whole points left out.

The former says how noisy the measurements are, the latter how far interpolation and extrapolation can be trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
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

    Points that share their place on an axis (512 x 2 and 1024 x 1 tokens) are left out together and compared one
    by one. Only points that a curve goes through are compared.
    """
    kept, decodes, fit = curve_set.kept, curve_set.decode_points, curve_set.context
    assert fit is not None  # measured curves have one
    axis = [p for p in decodes if p.context_per_sequence_tokens == curve_set.axis_context_tokens]
    single = [p for p in decodes if p.batch == 1 and p not in axis]

    def error(name: Axis, groups: Sequence[Sequence[CurvePoint]]) -> HoldOutError:
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
