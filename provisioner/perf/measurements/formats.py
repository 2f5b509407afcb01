"""Result files of benchmark tools, recognised by their contents: runs, or points of a plain table.

``docs/how-to/own-measurements.md`` lists the formats, which follow the code and documentation of each tool. Every value
used is checked, and an ``InputError`` names file and field.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from provisioner.errors import InputError
from provisioner.perf.measurements.guidellm import read_guidellm
from provisioner.perf.measurements.nvidia import read_nvidia
from provisioner.perf.measurements.tables import read_curve_file, read_table
from provisioner.perf.measurements.values import KNOWN, Contents, Replica, json_object, recognised
from provisioner.perf.measurements.vllm import vllm_run
from provisioner.perf.points import COLUMNS
from provisioner.specs.units import json_error, quoted


def read_file(path: Path, replica: Replica) -> Contents:
    """Contents of one file; ``InputError`` in one line if it cannot be read or is of no known format."""
    text = _text(path)
    if text.lstrip().startswith(("{", "[")):
        return _from_json(str(path), text, replica)
    return _from_csv(path, text, replica)


def _text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not a text file in UTF-8; {KNOWN}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    if not text.strip():
        raise InputError(f"{path}: is empty; {KNOWN}")
    return text


def _from_json(shown: str, text: str, replica: Replica) -> Contents:
    results = _json_values(shown, text)
    first = results[0]
    if not isinstance(first, dict):
        raise InputError(f"{shown}: is a JSON array; {KNOWN}")
    if "benchmarks" in first:
        return read_guidellm(shown, first, replica)
    if "request_throughput" in first and "completed" in first:
        runs = []
        for k, result in enumerate(results, start=1):
            where = shown if len(results) == 1 else f"{shown}: result {k}"
            runs.append(vllm_run(where, json_object(result, where), replica))
        return Contents(recognised(shown, "vllm bench serve", runs), tuple(runs))
    if "input_config" in first:
        raise InputError(f"{shown}: is the JSON of AIPerf or genai-perf: give the CSV that lies beside it")
    keys = ", ".join(list(first)[:6]) or "none"
    raise InputError(f"{shown}: is JSON of no known benchmark (its keys: {quoted(keys)}); {KNOWN}")


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
    if all(column in header for column in COLUMNS):
        return read_curve_file(path, replica)
    if "phase" in header:
        return read_table(str(path), rows, header)
    if "latency" in header:
        raise InputError(f"{path}: row 1: latency: needs its unit in its name: latency_s or latency_ms")
    raise InputError(
        f"{path}: is a CSV file of no known benchmark (its columns: {quoted(', '.join(header[:6]))}); {KNOWN}"
    )
