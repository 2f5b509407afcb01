"""What ``provision curves`` shows: each group of shipped curves with its evidence."""

from __future__ import annotations

from dataclasses import dataclass

from provisioner.errors import InputError
from provisioner.perf.checks import Dip, RefusedPoint
from provisioner.perf.curves import ContextFit, CurveSet, curve_groups, load_curve_set, no_curves
from provisioner.perf.holdout import HoldOutError, interpolation_error
from provisioner.perf.points import Provenance
from provisioner.specs import catalog


@dataclass(frozen=True, slots=True)
class CurveSummary:
    """One group of curves: its points, what was refused or levelled, its ranges, errors and source.

    ``points`` counts the measured points, refused ones included. ``errors_repeats`` are of runs left out at
    random (the Splitwise paper's kind), ``errors_points`` of whole points left out (the honest kind).
    """

    model: str
    machine: str
    tensor_parallel: int
    points: int
    refused: tuple[RefusedPoint, ...]
    dips: tuple[Dip, ...]
    prompt_range_tokens: tuple[float, float]
    decode_batch_range: tuple[int, int]
    decode_context_range: tuple[float, float]
    context: ContextFit
    errors_repeats: tuple[HoldOutError, ...]
    errors_points: tuple[HoldOutError, ...]
    provenance: tuple[Provenance, ...]
    sources: tuple[str, ...]
    curve: CurveSet


def curve_summary(model: str | None = None, machine: str | None = None) -> list[CurveSummary]:
    """Shipped curves, one row per (model, machine, tensor parallelism), of one model or machine if named.

    Raises ``UnknownNameError`` for a name that is not known and ``InputError`` where nothing matches.

    >>> [row.tensor_parallel for row in curve_summary("llama2-70b", "dgx-a100")]
    [2, 4, 8]
    """
    wanted_model = catalog.model(model).name if model is not None else None
    wanted_machine = catalog.machine(machine).name if machine is not None else None
    rows: list[CurveSummary] = []
    for name, at, tensor_parallel in curve_groups():
        if wanted_model not in (None, name) or wanted_machine not in (None, at):
            continue
        curve = load_curve_set(catalog.model(name), catalog.machine(at), tensor_parallel)
        assert curve.context is not None  # measured curves have one
        rows.append(
            CurveSummary(
                model=name,
                machine=at,
                tensor_parallel=tensor_parallel,
                points=len(curve.points),
                refused=curve.refused,
                dips=curve.dips,
                prompt_range_tokens=curve.prompt_range_tokens,
                decode_batch_range=curve.decode_batch_range,
                decode_context_range=curve.decode_context_range,
                context=curve.context,
                errors_repeats=interpolation_error(curve, "repeats"),
                errors_points=interpolation_error(curve, "points"),
                provenance=curve.provenance,
                sources=curve.sources,
                curve=curve,
            )
        )
    if not rows:
        raise InputError(no_curves(wanted_model or "any model", wanted_machine or "any machine"))
    return rows
