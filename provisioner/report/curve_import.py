"""The import of own measurements as a report."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from provisioner.perf.measurements import Finding, Fit, Measured
from provisioner.perf.points import CurvePoint
from provisioner.report.document import Block, Code, Column, Document, Facts, Notes, Table, table
from provisioner.report.numbers import per_cent, significant, whole


def measured_document(measured: Measured, written: Path | None = None, remarks: Sequence[str] = ()) -> Document:
    """The format recognised, the points, what they cannot tell, the fit of the curve, and the next step."""
    names = short_names([each.path for each in measured.recognised])
    recognised = [
        (names[each.path], "; ".join((_title(each.tool, each.model_id), *each.runs))) for each in measured.recognised
    ]
    blocks: list[Block] = [
        Facts("Recognised", tuple(recognised)),
        _points(measured.points),
        _findings("Identified", measured.identified, names),
        _findings("Not identified", measured.not_identified, names),
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
        rows = [("file", str(written)), ("to read it again", again)]
        if written.parent.name == "curves":
            folder = str(written.parent.parent)
            plan = ["provision", "plan", "--specs", folder, "--model", measured.model, "--machine", measured.machine]
            rows.append(("to plan with it", shlex.join(plan)))
        blocks.append(Facts("Written", tuple(rows)))
        if remarks:
            blocks.append(Notes("", tuple(remarks)))
    group = f"{measured.model} on {measured.machine} at TP {measured.tensor_parallel}"
    return Document(f"{len(measured.points)} measured points of {group}", "", tuple(blocks))


def measured_data(measured: Measured, written: Path | None = None, remarks: Sequence[str] = ()) -> dict[str, object]:
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
        "remarks": tuple(remarks),
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


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """Each path's shortest end that no other path has.

    >>> short_names(["runs/c1/result.json", "runs/c8/result.json", "alone.json"])
    {'runs/c1/result.json': 'c1/result.json', 'runs/c8/result.json': 'c8/result.json', 'alone.json': 'alone.json'}
    """

    def end(path: str, parts: int) -> str:
        return str(Path(*Path(path).parts[-parts:]))

    names = {}
    for path in paths:
        lengths = range(1, len(Path(path).parts) + 1)
        others = [other for other in paths if other != path]
        names[path] = next((end(path, k) for k in lengths if end(path, k) not in {end(o, k) for o in others}), path)
    return names


def _findings(title: str, findings: Sequence[Finding], names: Mapping[str, str]) -> Table:
    """Findings by short names of files; a source is a file, or a part of one named after a colon."""

    def short(source: str) -> str:
        path = max((path for path in names if source == path or source.startswith(f"{path}: ")), key=len, default="")
        return names[path] + source.removeprefix(path) if path else source

    columns = (Column("from"), Column("quantity", words=True), Column("why", words=True))
    return table(title, columns, [(short(each.source), each.quantity, each.why) for each in findings])


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
