"""The latency curves as reports: their list by model and machine, and measured ones with their evidence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Final

from provisioner.errors import UnknownNameError
from provisioner.perf.provenance import KernelsProvenance, kernels_provenance
from provisioner.perf.summary import NUMBER_TYPES, CurveSummary, curve_summary, inner_errors, machine_curves
from provisioner.report.coverage import (
    SHIPPED,
    all_coverage,
    by_evidence,
    coverage_blocks,
    error_notes,
    machines_table,
    marked,
    other_curves,
    own_note,
)
from provisioner.report.document import Block, Column, Document, Notes, Table, facts, listing, notes
from provisioner.report.numbers import per_cent, whole
from provisioner.specs.catalog import Catalog
from provisioner.specs.hardware import Machine
from provisioner.specs.model import ModelArchitecture, NumberType

_LIMITED: Final = {
    "fit": "as fitted",
    "floor": "raised to the time of reading the KV cache",
    "ceiling": "lowered to the ceiling for it",
}


def curves_document(name: str | None = None, known: Catalog = SHIPPED) -> Document:
    """The curves: all in brief, or those of a model or machine with their evidence."""
    models, machines, measured = _subject(name, known)
    if name is None:
        refused = sum(len(row.curve.refused) for row in measured)
        subtitle = (
            f"{refused} measured points were refused. Errors are mean absolute ones of prompt / decode times: of "
            "single runs left out at random (the Splitwise paper's kind), and of whole points left out, each predicted "
            "without it (the honest kind). provision curves NAME shows those of a model or machine with the evidence."
        )
        meanings = notes("", (*error_notes(by_evidence(machines)), own_note(known)))
        blocks = (_overview(measured), machines_table(machines, known), *meanings)
        return Document(f"{len(measured)} groups of measured latency curves", subtitle, blocks)
    shown = [] if name in known.models else _origin(*machines)
    shown += coverage_blocks("Coverage", models, machines, known)
    shown += [block for row in measured for block in _evidence(row)]
    shown += notes("Sources", dict.fromkeys(source for row in measured for source in row.curve.sources))
    return Document(f"Latency curves of {name}", "", tuple(shown))


def _subject(
    name: str | None, known: Catalog
) -> tuple[tuple[ModelArchitecture, ...], tuple[Machine, ...], list[CurveSummary]]:
    """Models and machines, of which one has the name if there is one, and their measured curves."""
    models, machines = tuple(known.models.values()), tuple(known.machines.values())
    if name is None:
        return models, machines, curve_summary(own=known)
    if name in known.models:
        return (known.models[name],), machines, curve_summary(model=name, own=known)
    if name.partition("@")[0] in known.machines:  # NAME@70: with a power cap
        machine = known.machine(name)
        return models, (machine,), curve_summary(machine=machine.name, own=known)
    raise UnknownNameError("model or machine", name, (*known.models, *known.machines))


def _origin(machine: Machine) -> list[Block]:
    """The origin of a machine's curves: tables of its GPU's kernels, or the GPUs that it is estimated from."""
    curves = machine_curves(machine)
    others = ", ".join(curves.borrowed)
    blocks: list[Block] = [facts("", ("where not measured", other_curves(machine)), ("from other GPUs", others))]
    if len(curves.kernels) == 1:
        blocks += _kernels(kernels_provenance()[curves.kernels[0]])
    if curves.evidence == "estimated":
        blocks.append(_left_out_gpus())
    return blocks


def _kernels(kernels: KernelsProvenance) -> list[Block]:
    tables = listing(
        f"Kernels of {kernels.gpu}",
        kernels.tables,
        (Column("operator"), lambda each: each.name),
        (Column("rows", True), lambda each: whole(each.rows)),
        (Column("used", True), lambda each: whole(each.rows_used)),
        (Column("refused or replaced", True), lambda each: whole(sum(part.rows for part in each.refused))),
        (Column("median error, %", True), lambda each: per_cent(each.error_median)),
        (Column("P95 of it, %", True), lambda each: per_cent(each.error_p95)),
    )
    refused = [
        f"{each.name}: {whole(part.rows)} rows: {part.rule} (such as {part.examples[0]})"
        for each in kernels.tables
        for part in each.refused
    ]
    source = "Tables and rules: hardware_specs/operators/provenance.yaml; errors are of a table against its rows."
    return [tables, Notes("", (*refused, kernels.limits, source))]


def _left_out_gpus() -> Table:
    cases = [(phase, dtype) for dtype in NUMBER_TYPES for phase in ("prompt", "decode")]
    provenance = kernels_provenance()

    def errors(gpu: str, case: tuple[str, NumberType]) -> str:
        error = provenance[gpu].estimated.get(case)
        return "" if error is None else f"{per_cent(error.median)}, {per_cent(error.p95)}"

    return listing(
        "GPUs with kernels, estimated from the others: median error, and its P95",
        list(provenance),
        (Column("GPU"), str),
        *((Column(f"{phase} {dtype}, %", True), partial(errors, case=(phase, dtype))) for phase, dtype in cases),
    )


def _pair(errors: Iterable[float]) -> str:
    return " / ".join(map(per_cent, errors))


def _overview(rows: Sequence[CurveSummary]) -> Table:
    return listing(
        "Measured",
        rows,
        (Column("model"), lambda row: row.curve.model),
        (Column("machine"), lambda row: marked(row.curve.machine, row.own)),
        (Column("TP", True), lambda row: whole(row.curve.tensor_parallel)),
        (Column("points", True), lambda row: whole(len(row.curve.points))),
        (Column("refused", True), lambda row: whole(len(row.curve.refused))),
        (Column("levelled", True), lambda row: whole(len(row.curve.dips))),
        (Column("runs out, %", True), lambda row: _pair(error.mape for error in row.errors_repeats)),
        (Column("points out, %", True), lambda row: _pair(inner_errors(row.errors_points) or ())),
        (Column("obtained"), lambda row: ", ".join(row.curve.provenance)),
    )


def _evidence(row: CurveSummary) -> list[Block]:
    curve = row.curve
    obtained = ", ".join(curve.provenance)
    slope = row.context
    about = facts(
        f"{curve.model} on {curve.machine} at TP {curve.tensor_parallel}",
        ("points", f"{len(curve.points)}, {len(curve.refused)} refused, {len(curve.dips)} levelled ({obtained})"),
        ("prompt", f"measured from {_range(curve.prompt_range_tokens)} batched tokens"),
        ("decode", f"measured from {_range(curve.decode_batch_range)} sequences in a batch"),
        ("context", f"measured from {_range(curve.decode_context_range)} tokens held by a batch"),
        (
            "context slope",
            f"{1e9 * slope.slope_s_per_token:,.1f} ns per token ({_LIMITED[slope.limited_by]}); fitted "
            f"{1e9 * slope.fitted_s_per_token:,.1f} +- {1e9 * slope.standard_error_s_per_token:,.1f} ns, residual "
            f"{1e3 * slope.residual_s:.2f} ms over {slope.rows} rows",
        ),
    )
    errors = listing(
        "",
        (*row.errors_repeats, *row.errors_points),
        (Column("left out"), lambda error: error.axis),
        (Column("points", True), lambda error: whole(error.left_out) if error.left_out else ""),
        (Column("mean error, %", True), lambda error: per_cent(error.mape)),
        (Column("largest, %", True), lambda error: per_cent(error.largest)),
        (Column("bias, %", True), lambda error: "" if error.bias is None else f"{100 * error.bias:+.1f}"),
    )
    refused = (f"refused: {each.point.label}: {each.reason}" for each in curve.refused)
    remarks = notes("", (*refused, *(dip.reason for dip in curve.dips)))
    return [about, *([errors] if errors.rows else []), *remarks]


def _range(bounds: tuple[float, float]) -> str:
    return f"{bounds[0]:,.0f} to {bounds[1]:,.0f}"


def curves_data(name: str | None = None, known: Catalog = SHIPPED) -> dict[str, object]:
    """The same as plain values: ``measured`` groups, ``machines``, and of one model or machine its ``coverage``."""
    models, machines, measured = _subject(name, known)
    data: dict[str, object] = {
        "measured": [_group_data(row) for row in measured],
        "machines": [_machine_data(machine) for machine in machines],
    }
    return data if name is None else data | {"coverage": all_coverage(models, machines, known)}


def _machine_data(machine: Machine) -> dict[str, object]:
    curves, provenance = machine_curves(machine), kernels_provenance()
    kernels = [
        {
            "gpu": gpu,
            "tables": provenance[gpu].tables,
            "estimated_from_others": [
                {"phase": phase, "dtype": dtype} | asdict(error)
                for (phase, dtype), error in provenance[gpu].estimated.items()
            ],
        }
        for gpu in curves.kernels
    ]
    return asdict(curves) | {"kernels": kernels}


def _group_data(row: CurveSummary) -> dict[str, object]:
    curve = row.curve
    return {
        "model": curve.model,
        "machine": curve.machine,
        "tensor_parallel": curve.tensor_parallel,
        "own": row.own,
        "points": len(curve.points),
        "refused": [{"point": each.point.label, "reason": each.reason} for each in curve.refused],
        "levelled": curve.dips,
        "prompt_range_tokens": curve.prompt_range_tokens,
        "decode_batch_range": curve.decode_batch_range,
        "decode_context_range_tokens": curve.decode_context_range,
        "context_slope_s_per_token": row.context.slope_s_per_token,
        "context_slope_fitted_s_per_token": row.context.fitted_s_per_token,
        "context_slope_limited_by": row.context.limited_by,
        "errors_runs_left_out": row.errors_repeats,
        "errors_points_left_out": row.errors_points,
        "provenance": curve.provenance,
        "sources": curve.sources,
    }
