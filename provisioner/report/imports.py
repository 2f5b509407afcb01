"""The import of a trace file or of a model's ``config.json`` as a report."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import numpy as np

from provisioner.report.document import Block, Document, facts, notes
from provisioner.report.specs import shape_facts, workload_data
from provisioner.specs.lengths import IntArray
from provisioner.specs.model import DTYPE_BYTES, ModelArchitecture
from provisioner.specs.traces import Trace, describe, profile
from provisioner.specs.units import format_bytes
from provisioner.specs.workload import Workload

NOTABLE_PREFIX_REUSE: Final = 0.01
"""Share of prompt tokens seen before from which on a plan without prefix caching is worth a warning."""


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
    if trace.prefix_reuse is None or trace.prefix_reuse <= NOTABLE_PREFIX_REUSE:
        return trace.warnings
    return (
        *trace.warnings,
        f"{trace.prefix_reuse:.0%} of the prompt tokens repeat a prefix seen before; prefix caching is not modelled, "
        "and would shorten the prompt phase",
    )


def import_data(trace: Trace, workload: Workload | None, written: Sequence[Path]) -> dict[str, object]:
    """The same as plain values."""
    return {
        "file": trace.path,
        "format": trace.format.name,
        "requests": trace.requests,
        "prompt_tokens": _lengths(trace.prompt_tokens),
        "output_tokens": _lengths(trace.output_tokens),
        "arrivals": asdict(profile(trace.arrival_s)),
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
        ("weights", f"{format_bytes(model.weight_bytes)}, layers at {DTYPE_BYTES[model.dtype]:g} bytes a number"),
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
