"""Result files of benchmark tools, recognised by their contents: runs, or points of a table with one point per row.

``docs/how-to/own-measurements.md`` lists the formats, which follow the code and documentation of each tool. Every value
used is checked, and an ``InputError`` names file and field.
"""

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from provisioner.errors import InputError
from provisioner.files import read_text
from provisioner.perf.measurements import runs
from provisioner.perf.measurements.guidellm import read_guidellm
from provisioner.perf.measurements.identify import measured_point
from provisioner.perf.measurements.nvidia import read_nvidia, read_records
from provisioner.perf.measurements.runs import Contents, Recognised, Replica, Spread, check_time
from provisioner.perf.measurements.summaries import FORMS
from provisioner.perf.measurements.values import KNOWN, PLAIN_COLUMNS, objects_of
from provisioner.perf.points import COLUMNS, PHASES, read_points
from provisioner.specs.schema import read_yaml
from provisioner.specs.units import json_error, parse_positive, parse_whole, quoted

_LATENCY: Final = {"latency_s": 1.0, "latency_ms": 1e-3, "latency_us": 1e-6}


def read_file(path: Path, replica: Replica) -> Contents:
    """Contents of one file; ``InputError`` in one line if it cannot be read or is of no known format."""
    text = read_text(path)
    if not text.strip():
        raise InputError(f"{path}: is empty; {KNOWN}")
    if text.lstrip().startswith(("{", "[")):
        return _from_json(str(path), _json_values(str(path), text), replica)
    if path.suffix in (".yaml", ".yml"):
        return _from_json(str(path), [read_yaml(path, str(path))], replica)
    return _from_csv(path, text, replica)


def _from_json(shown: str, results: Sequence[Any], replica: Replica) -> Contents:
    first = results[0]
    if not isinstance(first, dict):
        raise InputError(f"{shown}: is a JSON array; {KNOWN}")
    for keys, read in _READERS:
        if keys <= first.keys():
            return read(shown, results, replica)
    if "input_config" in first:
        raise InputError(f"{shown}: is the JSON of AIPerf or genai-perf: give the CSV that lies beside it")
    names = ", ".join(list(first)[:6]) or "none"
    raise InputError(f"{shown}: is of no known benchmark (its keys: {quoted(names)}); {KNOWN}")


def _read_one_batch(shown: str, results: Sequence[Any], replica: Replica) -> Contents:
    """Points of SGLang's ``bench_one_batch``: the engine alone, all prompts of the batch in one iteration."""
    points = []
    for result in objects_of(shown, "result", results):
        prompt_tokens, batch = (result.count(name, minimum=1) for name in ("input_len", "batch_size"))
        context = batch * (prompt_tokens + result.count("output_len") / 2)
        latency_s = result.seconds("prefill_latency", (runs.GAP_RANGE_S[0], runs.TTFT_RANGE_S[1]), "s")
        points.append(measured_point(result.where, "prompt", prompt_tokens, batch, 0.0, Spread.of([latency_s])))
        if result.at("median_decode_latency") is not None:  # no decode with one output token
            latency_s = result.seconds("median_decode_latency", runs.GAP_RANGE_S, "s")
            points.append(measured_point(result.where, "decode", prompt_tokens, batch, context, Spread.of([latency_s])))
    title = (f"{len(points)} points of the engine alone",)
    return Contents(Recognised(shown, "SGLang bench_one_batch", "", title), points=tuple(points))


_READERS: Final[tuple[tuple[frozenset[str], Callable[[str, Sequence[Any], Replica], Contents]], ...]] = (
    (frozenset({"benchmarks"}), read_guidellm),
    *((form.keys, form.read) for form in FORMS),
    (frozenset({"batch_size", "input_len", "prefill_latency"}), _read_one_batch),
    (frozenset({"metadata", "metrics"}), read_records),
)
"""Keys that a JSON result has, and its reader; the first that fits is taken."""


def _json_values(shown: str, text: str) -> list[Any]:
    decoder = json.JSONDecoder()
    values: list[Any] = []
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        try:
            value, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise InputError(f"{shown}: {json_error(error)}") from None
        except RecursionError:
            raise InputError(f"{shown}: is not a benchmark's result: nested too deeply") from None
        values.append(value)
    return values


def _from_csv(path: Path, text: str, replica: Replica) -> Contents:
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text), strict=True)]
    except csv.Error as error:
        raise InputError(f"{path}: is not a CSV file: {error}") from None
    header = next((row for row in rows if any(row)), [])
    if header[:1] == ["Metric"]:
        return read_nvidia(path, rows, replica)
    if set(COLUMNS) <= set(header):
        return _read_curve_file(path, replica)
    if "phase" in header:
        return _read_table(str(path), rows, header)
    if "latency" in header:
        raise InputError(f"{path}: row 1: latency: needs its unit in its name: latency_s or latency_ms")
    raise InputError(
        f"{path}: is a CSV file of no known benchmark (its columns: {quoted(', '.join(header[:6]))}); {KNOWN}"
    )


def _read_curve_file(path: Path, replica: Replica) -> Contents:
    groups = read_points(path, model=replica.model, machine=replica.machine)
    if replica.tensor_parallel not in groups:
        have = ", ".join(map(str, groups))
        raise InputError(f"{path}: has no rows at tensor_parallel {replica.tensor_parallel} (has {have})")
    points = groups[replica.tensor_parallel]
    return Contents(Recognised(str(path), "curve file", replica.model, (f"{len(points)} points",)), points=points)


def _read_table(shown: str, rows: Sequence[Sequence[str]], header: Sequence[str]) -> Contents:
    latency = [column for column in header if column in _LATENCY]
    missing = [column for column in PLAIN_COLUMNS if column not in header]
    if missing or len(latency) != 1:
        need = ", ".join(missing) or "one column latency_s, latency_ms or latency_us (the unit is in the name)"
        raise InputError(f"{shown}: row 1: must have {need}; has {quoted(', '.join(header))}")
    column = latency[0]
    points = []
    for line, cells in [(k, row) for k, row in enumerate(rows, start=1) if any(row)][1:]:
        where = f"{shown}: row {line}"
        if len(cells) != len(header):
            raise InputError(f"{where}: must have {len(header)} fields, has {len(cells)}")
        row = dict(zip(header, cells, strict=True))
        if row["phase"] not in PHASES:
            raise InputError(f"{where}: phase: must be {' or '.join(PHASES)}, got {quoted(row['phase'])}")
        phase = row["phase"]
        prompt_tokens = parse_whole(row["prompt_tokens"], f"{where}: prompt_tokens", "tokens")
        batch = parse_whole(row["batch"], f"{where}: batch", "sequences")
        context = 0.0
        if phase == "decode":
            context = parse_positive(row["context_tokens"], f"{where}: context_tokens", "tokens")
            if context < batch * prompt_tokens:
                least = f"{batch} x {prompt_tokens} or more"
                raise InputError(f"{where}: context_tokens: must be of the whole batch, {least}, got {context:g}")
        given = parse_positive(row[column], f"{where}: {column}")
        shown_time = f"{given:g} {column.removeprefix('latency_')}"
        allowed_s = runs.GAP_RANGE_S if phase == "decode" else runs.TTFT_RANGE_S
        seconds = check_time(given * _LATENCY[column], f"{where}: {column}", shown_time, allowed_s)
        points.append(measured_point(where, phase, prompt_tokens, batch, context, Spread.of([seconds])))
    if not points:
        raise InputError(f"{shown}: has a header but no rows")
    return Contents(Recognised(shown, "table of points", "", (f"{len(points)} rows",)), points=tuple(points))
