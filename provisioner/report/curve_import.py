"""The import of own measurements as a report."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from provisioner.perf.measurements import Finding, Fit, Measured
from provisioner.perf.points import CurvePoint
from provisioner.report.document import Block, Code, Column, Document, Notes, Table, facts, listing, notes
from provisioner.report.numbers import per_cent, significant, whole


def measured_document(measured: Measured, written: Path | None = None, remarks: Sequence[str] = ()) -> Document:
    """The format recognised, the points, what they cannot tell, the fit of the curve, and the next step."""
    names = short_names([each.path for each in measured.recognised])
    recognised = (
        (names[each.path], "; ".join((each.tool + (f", model {each.model_id}" if each.model_id else ""), *each.runs)))
        for each in measured.recognised
    )
    blocks: list[Block] = [
        facts("Recognised", *recognised),
        _points(measured.points),
        _findings("Identified", measured.identified, names),
        _findings("Not identified", measured.not_identified, names),
        _fit(measured.fit) if measured.fit else Notes("No curve yet", (measured.fit_refused,), warning=True),
        *notes("Warnings", measured.warnings, warning=True),
    ]
    if measured.next_steps:
        blocks.append(Code("To be measured next", "\n".join(measured.next_steps)))
    if written is not None:
        replica = ["--model", measured.model, "--machine", measured.machine]
        again = ["provision", "curves", "import", str(written), *replica, "--tp", str(measured.tensor_parallel)]
        plan = ["provision", "plan", "--specs", str(written.parent.parent), *replica]
        to_plan = shlex.join(plan) if written.parent.name == "curves" else ""
        files = (("file", str(written)), ("to read it again", shlex.join(again)), ("to plan with it", to_plan))
        blocks += [facts("Written", *files), *notes("", remarks)]
    group = f"{measured.model} on {measured.machine} at TP {measured.tensor_parallel}"
    return Document(f"{len(measured.points)} measured points of {group}", "", tuple(blocks))


def measured_data(measured: Measured, written: Path | None = None, remarks: Sequence[str] = ()) -> dict[str, object]:
    """The same as plain values."""
    fit = asdict(measured.fit)["phases"] if measured.fit else None
    more = {"fit": fit, "fit_refused": measured.fit_refused or None, "written": written, "remarks": tuple(remarks)}
    return asdict(measured) | more


def _points(points: Sequence[CurvePoint]) -> Table:
    return listing(
        "Points",
        points,
        (Column("phase"), lambda p: p.phase),
        (Column("prompt tokens", True), lambda p: whole(p.prompt_tokens)),
        (Column("batch", True), lambda p: whole(p.batch)),
        (
            Column("context each, tokens", True),
            lambda p: whole(p.context_per_sequence_tokens) if p.phase == "decode" else "",
        ),
        (Column("median, ms", True), lambda p: significant(1e3 * p.latency_s)),
        (Column("least, ms", True), lambda p: significant(1e3 * p.min_s)),
        (Column("most, ms", True), lambda p: significant(1e3 * p.max_s)),
        (Column("repeats", True), lambda p: whole(p.repeats)),
    )


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """Each path's shortest end that no other path has.

    >>> short_names(["runs/c1/result.json", "runs/c8/result.json", "alone.json"])
    {'runs/c1/result.json': 'c1/result.json', 'runs/c8/result.json': 'c8/result.json', 'alone.json': 'alone.json'}
    """
    names = {path: path for path in paths}
    for parts in range(max(len(Path(path).parts) for path in paths), 0, -1):
        ends = {path: str(Path(*Path(path).parts[-parts:])) for path in paths}
        times = Counter(ends.values())
        names |= {path: end for path, end in ends.items() if times[end] == 1}
    return names


def _findings(title: str, findings: Sequence[Finding], names: Mapping[str, str]) -> Table:
    """Findings by short names of files; a source is a file, or a part of one named after a colon."""

    def short(source: str) -> str:
        path = max((path for path in names if source == path or source.startswith(f"{path}: ")), key=len, default="")
        return names[path] + source.removeprefix(path) if path else source

    return listing(
        title,
        findings,
        (Column("from"), lambda each: short(each.source)),
        (Column("quantity", words=True), lambda each: each.quantity),
        (Column("why", words=True), lambda each: each.why),
    )


def _fit(fit: Fit) -> Table:
    return listing(
        "How well the curve explains the points",
        fit.phases,
        (Column("phase"), lambda each: each.phase),
        (Column("points", True), lambda each: whole(each.points)),
        (Column("median error, %", True), lambda each: per_cent(each.median)),
        (Column("largest, %", True), lambda each: per_cent(each.largest)),
        (Column("left out", True), lambda each: whole(each.left_out)),
        (Column("their median error, %", True), lambda each: per_cent(each.left_out_median)),
        (Column("their largest, %", True), lambda each: per_cent(each.left_out_largest)),
    )
