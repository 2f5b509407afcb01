"""The shipped latency curves as reports: every group in a table, or those of a model or machine with their evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from provisioner.errors import UnknownNameError
from provisioner.perf.holdout import HoldOutError
from provisioner.perf.summary import CurveSummary, curve_summary
from provisioner.report.document import Block, Column, Document, Facts, Notes, Table, table
from provisioner.report.numbers import per_cent, whole
from provisioner.specs import catalog


def curves_document(name: str | None = None) -> Document:
    """All groups of curves, or those of a model or machine with what was refused, levelled and held out."""
    rows = _summaries(name)
    blocks: list[Block] = [_overview(rows)]
    if name is None:
        refused = sum(len(row.refused) for row in rows)
        subtitle = (
            f"{refused} points were refused. Errors are mean absolute ones of prompt / decode times: of single runs "
            "left out at random (the Splitwise paper's kind), and of whole points left out, each predicted without it "
            "(the honest kind). provision curves NAME shows those of a model or machine with the evidence."
        )
        return Document(f"{len(rows)} groups of latency curves", subtitle, tuple(blocks))
    for row in rows:
        blocks += _evidence(row)
    sources = tuple(dict.fromkeys(source for row in rows for source in row.sources))
    return Document(f"Latency curves of {name}", "", (*blocks, Notes("Sources", sources)))


def _summaries(name: str | None) -> list[CurveSummary]:
    if name is None:
        return curve_summary()
    if name in catalog.models():
        return curve_summary(model=name)
    if name in catalog.machines():
        return curve_summary(machine=name)
    raise UnknownNameError("model or machine", name, (*catalog.models(), *catalog.machines()))


def _overview(rows: Sequence[CurveSummary]) -> Table:
    columns = (
        Column("model"),
        Column("machine"),
        Column("TP", True),
        Column("points", True),
        Column("refused", True),
        Column("levelled", True),
        Column("runs out, %", True),
        Column("points out, %", True),
        Column("obtained"),
    )
    return Table(
        "",
        columns,
        tuple(
            (
                row.model,
                row.machine,
                whole(row.tensor_parallel),
                whole(row.points),
                whole(len(row.refused)),
                whole(len(row.dips)),
                " / ".join(per_cent(error.mape) for error in row.errors_repeats),
                " / ".join(per_cent(error) for error in _inner(row.errors_points)),
                ", ".join(row.provenance),
            )
            for row in rows
        ),
    )


def _inner(errors: Sequence[HoldOutError]) -> list[float]:
    """Mean error of points left out within the measured range: of prompt and of decode times, over all their points."""
    means = []
    for phase in ("prompt", "decode"):
        inner = [e for e in errors if e.axis.startswith(phase) and "beyond" not in e.axis]
        points = sum(e.left_out for e in inner)
        means.append(sum(e.mape * e.left_out for e in inner) / points if points else float("nan"))
    return means


def _evidence(row: CurveSummary) -> list[Block]:
    title = f"{row.model} on {row.machine} at TP {row.tensor_parallel}"
    slope = row.context
    facts = [
        ("points", f"{row.points}, {len(row.refused)} refused, {len(row.dips)} levelled ({', '.join(row.provenance)})"),
        ("prompt", f"measured from {_range(row.prompt_range_tokens)} batched tokens"),
        ("decode", f"measured from {_range(row.decode_batch_range)} sequences in a batch"),
        ("context", f"measured from {_range(row.decode_context_range)} tokens held by a batch"),
        (
            "context slope",
            f"{1e9 * slope.slope_s_per_token:,.1f} ns per token ({_limited(row)}); fitted "
            f"{1e9 * slope.fitted_s_per_token:,.1f} +- {1e9 * slope.standard_error_s_per_token:,.1f} ns, residual "
            f"{1e3 * slope.residual_s:.2f} ms over {slope.rows} rows",
        ),
    ]
    columns = (
        Column("left out"),
        Column("points", True),
        Column("mean error, %", True),
        Column("largest, %", True),
        Column("bias, %", True),
    )
    errors = [
        (
            error.axis,
            whole(error.left_out) if error.left_out else "",
            per_cent(error.mape),
            per_cent(error.largest),
            "" if error.bias is None else f"{100 * error.bias:+.1f}",
        )
        for error in (*row.errors_repeats, *row.errors_points)
    ]
    blocks: list[Block] = [Facts(title, tuple(facts)), table("", columns, errors)]
    refused = tuple(f"refused: {each.point.label}: {each.reason}" for each in row.refused)
    levelled = tuple(dip.reason for dip in row.dips)
    if refused or levelled:
        blocks.append(Notes("", refused + levelled))
    return blocks


def _range(bounds: tuple[float, float]) -> str:
    return f"{bounds[0]:,.0f} to {bounds[1]:,.0f}"


def _limited(row: CurveSummary) -> str:
    return {
        "fit": "as fitted",
        "floor": "raised to the time of reading the KV cache",
        "ceiling": "lowered to the ceiling for it",
    }[row.context.limited_by]


def curves_data(name: str | None = None) -> Any:
    """The groups of curves as plain values."""
    return [
        {
            "model": row.model,
            "machine": row.machine,
            "tensor_parallel": row.tensor_parallel,
            "points": row.points,
            "refused": [{"point": each.point.label, "reason": each.reason} for each in row.refused],
            "levelled": [asdict(dip) for dip in row.dips],
            "prompt_range_tokens": row.prompt_range_tokens,
            "decode_batch_range": row.decode_batch_range,
            "decode_context_range_tokens": row.decode_context_range,
            "context_slope_s_per_token": row.context.slope_s_per_token,
            "context_slope_fitted_s_per_token": row.context.fitted_s_per_token,
            "context_slope_limited_by": row.context.limited_by,
            "errors_runs_left_out": [asdict(error) for error in row.errors_repeats],
            "errors_points_left_out": [asdict(error) for error in row.errors_points],
            "provenance": row.provenance,
            "sources": row.sources,
        }
        for row in _summaries(name)
    ]
