"""Tables with one point per row: this project's curve files, and a user's simpler tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from provisioner.errors import InputError
from provisioner.perf.measurements.runs import GAP_RANGE_S, TTFT_RANGE_S, Recognised, check_time
from provisioner.perf.measurements.values import PLAIN_COLUMNS, Contents, Replica
from provisioner.perf.points import PHASES, CurvePoint, Phase, read_points
from provisioner.specs.units import parse_positive, parse_whole, quoted

_LATENCY: Final = {"latency_s": 1.0, "latency_ms": 1e-3, "latency_us": 1e-6}


def read_curve_file(path: Path, replica: Replica) -> Contents:
    """Points of a curve file of this project, unchanged."""
    groups = read_points(path, model=replica.model, machine=replica.machine)
    if replica.tensor_parallel not in groups:
        have = ", ".join(map(str, groups))
        raise InputError(f"{path}: has no rows at tensor_parallel {replica.tensor_parallel} (has {have})")
    points = groups[replica.tensor_parallel]
    title = (f"{len(points)} points",)
    return Contents(Recognised(str(path), "curve file", replica.model, title), points=points)


def read_table(shown: str, rows: Sequence[Sequence[str]], header: Sequence[str]) -> Contents:
    """Points from rows of phase, prompt tokens, batch, context and latency; repeats of a point are joined."""
    latency = [column for column in header if column in _LATENCY]
    missing = [column for column in PLAIN_COLUMNS if column not in header]
    if missing or len(latency) != 1:
        need = ", ".join(missing) or "one column latency_s, latency_ms or latency_us (the unit is in the name)"
        raise InputError(f"{shown}: row 1: must have {need}; has {quoted(', '.join(header))}")
    points = []
    body = [(k, row) for k, row in enumerate(rows, start=1) if any(row)][1:]
    for line, cells in body:
        where = f"{shown}: row {line}"
        if len(cells) != len(header):
            raise InputError(f"{where}: must have {len(header)} fields, has {len(cells)}")
        row = dict(zip(header, cells, strict=True))
        if row["phase"] not in PHASES:
            raise InputError(f"{where}: phase: must be {' or '.join(PHASES)}, got {quoted(row['phase'])}")
        phase: Phase = "decode" if row["phase"] == "decode" else "prompt"
        prompt_tokens = parse_whole(row["prompt_tokens"], f"{where}: prompt_tokens", "tokens")
        batch = parse_whole(row["batch"], f"{where}: batch", "sequences")
        context = 0.0
        if phase == "decode":
            context = parse_positive(row["context_tokens"], f"{where}: context_tokens", "tokens")
            if context < batch * prompt_tokens:
                least = f"{batch} x {prompt_tokens} or more"
                raise InputError(f"{where}: context_tokens: must be of the whole batch, {least}, got {context:g}")
        column = latency[0]
        given = parse_positive(row[column], f"{where}: {column}")
        allowed = GAP_RANGE_S if phase == "decode" else TTFT_RANGE_S
        unit = column.removeprefix("latency_")
        seconds = check_time(given * _LATENCY[column], f"{where}: {column}", f"{given:g} {unit}", allowed)
        points.append(CurvePoint(phase, prompt_tokens, batch, context, seconds, 1, seconds, seconds, "measured"))
    if not points:
        raise InputError(f"{shown}: has a header but no rows")
    title = (f"{len(points)} rows",)
    return Contents(Recognised(shown, "table of points", "", title), points=tuple(points))
