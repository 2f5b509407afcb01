"""What was read from a user's own measurements, as a report."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from provisioner.perf.measurements import Fit, Measured
from provisioner.perf.points import CurvePoint
from provisioner.report.document import Block, Code, Column, Document, Facts, Notes, Table, table
from provisioner.report.numbers import per_cent, significant, whole


def measured_document(measured: Measured, written: Path | None = None) -> Document:
    """What was recognised, which points it gives, what it cannot tell, how well the curve fits, and what to do next."""
    blocks: list[Block] = [
        Facts(
            "Recognised",
            tuple(
                (each.path, "; ".join((_title(each.tool, each.model_id), *each.runs))) for each in measured.recognised
            ),
        ),
        _points(measured.points),
        _findings("Identified", measured.identified),
        _findings("Not identified", measured.not_identified),
    ]
    if measured.fit is None:
        blocks.append(Notes("No curve yet", (measured.fit_refused,), warning=True))
    else:
        blocks.append(_fit(measured.fit))
    if measured.warnings:
        blocks.append(Notes("Warnings", measured.warnings, warning=True))
    if measured.next_steps:
        blocks.append(Code("To be measured next", "\n".join(measured.next_steps)))
    if written is not None:
        again = shlex.join(["provision", "curves", "import", str(written), *_options(measured)])
        blocks.append(Facts("Written", (("file", str(written)), ("to read it again", again))))
    group = f"{measured.model} on {measured.machine} at TP {measured.tensor_parallel}"
    return Document(f"{len(measured.points)} measured points of {group}", "", tuple(blocks))


def measured_data(measured: Measured, written: Path | None = None) -> dict[str, Any]:
    """The same as plain values."""
    fit = measured.fit
    return {
        "model": measured.model,
        "machine": measured.machine,
        "tensor_parallel": measured.tensor_parallel,
        "recognised": [asdict(each) for each in measured.recognised],
        "points": [asdict(point) for point in measured.points],
        "identified": [asdict(each) for each in measured.identified],
        "not_identified": [asdict(each) for each in measured.not_identified],
        "fit": None if fit is None else [asdict(phase) for phase in fit.phases],
        "fit_refused": measured.fit_refused or None,
        "warnings": measured.warnings,
        "next_steps": measured.next_steps,
        "written": written,
    }


def _title(tool: str, model_id: str) -> str:
    return f"{tool}, model {model_id}" if model_id else tool


def _options(measured: Measured) -> list[str]:
    names = ["--model", measured.model, "--machine", measured.machine]
    return [*names, "--tp", str(measured.tensor_parallel)]


def _points(points: Sequence[CurvePoint]) -> Table:
    columns = (
        Column("phase"),
        Column("prompt tokens", True),
        Column("batch", True),
        Column("context each, tokens", True),
        Column("median, ms", True),
        Column("least, ms", True),
        Column("most, ms", True),
        Column("repeats", True),
    )
    rows = [
        (
            p.phase,
            whole(p.prompt_tokens),
            whole(p.batch),
            whole(p.context_per_sequence_tokens) if p.phase == "decode" else "",
            significant(1e3 * p.latency_s),
            significant(1e3 * p.min_s),
            significant(1e3 * p.max_s),
            whole(p.repeats),
        )
        for p in points
    ]
    return table("Points", columns, rows)


def _findings(title: str, findings: Sequence[Any]) -> Table:
    columns = (Column("from"), Column("quantity", words=True), Column("why", words=True))
    return table(title, columns, [(each.source, each.quantity, each.why) for each in findings])


def _fit(fit: Fit) -> Table:
    columns = (
        Column("phase"),
        Column("points", True),
        Column("median error, %", True),
        Column("largest, %", True),
        Column("left out", True),
        Column("their median error, %", True),
        Column("their largest, %", True),
    )
    rows = [
        (
            each.phase,
            whole(each.points),
            per_cent(each.median),
            per_cent(each.largest),
            whole(each.left_out),
            "" if each.left_out_median is None else per_cent(each.left_out_median),
            "" if each.left_out_largest is None else per_cent(each.left_out_largest),
        )
        for each in fit.phases
    ]
    return table("How well the curve explains the points", columns, rows)
