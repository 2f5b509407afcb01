"""Imports as reports: of a trace file, of a model's ``config.json``, and of own measurements."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from provisioner.perf.measurements import Finding, Fit, Measured
from provisioner.perf.points import CurvePoint
from provisioner.report.document import Block, Code, Column, Document, Notes, Table, facts, listing, notes
from provisioner.report.numbers import per_cent, significant, whole
from provisioner.report.specs import shape_facts, workload_data
from provisioner.specs.lengths import IntArray
from provisioner.specs.model import ModelArchitecture
from provisioner.specs.traces import Trace, describe, profile
from provisioner.specs.units import format_bytes
from provisioner.specs.workload import Workload, prefix_remark


def import_document(trace: Trace, workload: Workload | None, written: Sequence[Path]) -> Document:
    """The format recognised, the content of the trace, warnings, and the files written."""
    blocks: list[Block] = [facts("", ("file", trace.path), *describe(trace).items())]
    blocks += notes("Warnings", import_warnings(trace), warning=True)
    if workload is not None:
        saved = facts(
            f"Written as workload {workload.name}",
            ("files", ", ".join(map(str, written))),
            ("classes", f"{workload.classes:,} of prompt and output lengths"),
            ("to plan with it", shlex.join(["provision", "plan", "--workload", str(written[0])])),
        )
        blocks.append(saved)
    return Document(f"{trace.format.title} trace of {trace.requests:,} requests", "", tuple(blocks))


def import_warnings(trace: Trace) -> tuple[str, ...]:
    """Repairs made while reading, and parts of the trace that a plan leaves out."""
    return (*trace.warnings, *prefix_remark(trace.prefix_reuse))


def import_data(trace: Trace, workload: Workload | None, written: Sequence[Path]) -> dict[str, object]:
    """The same as plain values."""
    return {
        "file": trace.path,
        "format": trace.format.name,
        "requests": trace.requests,
        "prompt_tokens": _lengths(trace.prompt_tokens),
        "output_tokens": _lengths(trace.output_tokens),
        "arrivals": asdict(profile(trace.arrival_s)),
        "facts": trace.facts,
        "prefix_reuse": trace.prefix_reuse,
        "warnings": import_warnings(trace),
        "workload": None if workload is None else workload_data(workload),
        "written": written,
    }


def _lengths(tokens: IntArray) -> dict[str, float]:
    p50, p90, p99 = np.percentile(tokens, (50, 90, 99)).tolist()
    return {"mean": float(tokens.mean()), "p50": p50, "p90": p90, "p99": p99, "largest": int(tokens.max())}


def model_document(model: ModelArchitecture, written: Path | None, remarks: Sequence[str] = ()) -> Document:
    """The model of a ``config.json``, the parts left out, and the file written."""
    about = facts(
        "",
        ("name", model.name),
        ("read from", "; ".join(model.sources)),
        ("parameters", f"{model.parameters:,.0f}"),
        ("weights", f"{format_bytes(model.weight_bytes)}, layers at {model.layer_bytes_per_weight:.4g} bytes a number"),
        ("layers", f"{model.layers}, of hidden size {model.hidden_size:,}"),
        *shape_facts(model),
        ("context", f"{model.trained_context_tokens:,} tokens"),
    )
    blocks: list[Block] = [about, *notes("Note", (model.note,))]
    if written is not None:
        folder = str(written.parent.parent)
        replica = ["--model", model.name, "--machine", "MACHINE", "--tp", "GPUS", "--out", folder]
        saved = facts(
            "Written",
            ("file", str(written)),
            ("curves for it", f"provision curves import FILE... {shlex.join(replica)}"),
            ("to plan with it", shlex.join(["provision", "plan", "--specs", folder, "--model", model.name])),
        )
        blocks += [saved, *notes("", remarks)]
    return Document(f"{model.title}: {model.parameters / 1e9:,.4g} x 10^9 parameters", "", tuple(blocks))


def model_data(model: ModelArchitecture, written: Path | None, remarks: Sequence[str] = ()) -> dict[str, object]:
    """The same as plain values."""
    return asdict(model) | {
        "weight_bytes": model.weight_bytes,
        "kv_bytes_per_token": model.kv_bytes_per_token,
        "written": written,
        "remarks": tuple(remarks),
    }


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
        *([_findings("Not identified", measured.not_identified, names)] if measured.not_identified else ()),
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
    points = f"{len(measured.points)} measured point{'s' * (len(measured.points) != 1)}"
    return Document(f"{points} of {group}", "", tuple(blocks))


def measured_data(measured: Measured, written: Path | None = None, remarks: Sequence[str] = ()) -> dict[str, object]:
    """The same as plain values."""
    return asdict(measured) | {
        "fit": asdict(measured.fit)["phases"] if measured.fit else None,
        "fit_refused": measured.fit_refused or None,
        "written": written,
        "remarks": tuple(remarks),
    }


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
