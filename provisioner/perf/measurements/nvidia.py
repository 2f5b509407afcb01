"""Results of AIPerf and of its predecessor genai-perf: one metric per row of a CSV."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from provisioner.errors import InputError
from provisioner.files import read_text
from provisioner.perf.measurements.runs import Contents, Replica
from provisioner.perf.measurements.summaries import Form
from provisioner.perf.measurements.values import KNOWN, nested, number, text

_CACHED: Final = "overall usage prompt cache read %"
_FORM: Final = Form(
    tool="AIPerf",
    times="{time}.{}",
    names=("time to first token", "inter token latency", ""),
    statistics=("p50", "avg", "std"),
    lengths=("input sequence length.{}", "output sequence length.{}"),
    counts=("", "request count.avg"),
    load=("concurrency", "", "request throughput.avg"),
    cached=f"{_CACHED}.avg",
    model="model",
)
_ALIASES: Final = {"num input token": "input sequence length", "num output token": "output sequence length"}
"""Names in genai-perf's CSV of rows that AIPerf names otherwise."""


def read_nvidia(path: Path, rows: Sequence[Sequence[str]], replica: Replica) -> Contents:
    """One run from blocks of ``Metric,avg,min,max,...`` and ``Metric,Value``; ``InputError`` names file and field."""
    tool = "genai-perf"
    header: Sequence[str] = ()
    metrics: dict[str, Any] = {}
    for row in rows:
        if row[:1] == ["Metric"] and "GPU" not in row:
            header = ["avg" if name == "Value" else name for name in row]
        elif not any(row):
            header = ()
        elif header:
            title, _, unit = row[0].rstrip(")").partition("(")
            tool = "AIPerf" if title.strip() == "Time to First Token" else tool
            name = title.strip().lower()
            stated = {key: _value(cell) for key, cell in zip(header, row, strict=False) if cell}
            metrics[_ALIASES.get(name, name)] = {**stated, "unit": unit}
    if not {"time to first token", "request latency"} & metrics.keys():
        raise InputError(f"{path}: has no row of Time to First Token or Request Latency; {KNOWN}")

    def mean(name: str) -> float:
        return number(metrics, name, "avg") or 0.0

    if mean("request count") and mean("benchmark duration"):
        metrics["request throughput"] = {"avg": mean("request count") / mean("benchmark duration")}
    if "usage prompt cache read tokens" in metrics and mean("input sequence length"):
        share = mean("usage prompt cache read tokens") / mean("input sequence length")
        metrics.setdefault(_CACHED, {"avg": 100 * share})
    try:
        settings = nested(json.loads(read_text(path.with_suffix(".json"))), "input_config")
    except (OSError, ValueError, RecursionError):
        settings = None  # there is no JSON beside the CSV
    metrics["model"] = _stated_model(settings)
    metrics["concurrency"] = replica.concurrency or _stated_concurrency(path, settings)
    return replace(_FORM, tool=tool).read(str(path), [metrics], replica)


def _value(cell: str) -> float | str:
    try:
        return float(cell.replace(",", ""))
    except ValueError:
        return cell


def _stated_concurrency(path: Path, settings: Any) -> int | None:
    """Requests that the client held in flight: from the JSON beside the CSV, else the name of the folder or file."""
    phases = nested(settings, "phases")
    if isinstance(phases, list):  # AIPerf from 0.10 on; a warm-up may come first
        return next((_concurrency_in(phase) for phase in phases if text(phase, "name") == "profiling"), None)
    if stated := _concurrency_in(settings):
        return stated
    folder = path.resolve().parent.name
    match = re.search(r"concurrency[-_]?(\d+)", f"{folder}/{path.name}") or re.fullmatch(r"c(\d+)", folder)
    return int(match[1]) or None if match else None


def _concurrency_in(value: Any) -> int | None:
    if not isinstance(value, dict):
        return None
    own = value.get("concurrency")
    if isinstance(own, int) and not isinstance(own, bool) and own > 0:
        return own
    return next(filter(None, map(_concurrency_in, value.values())), None)


def _stated_model(settings: Any) -> str:
    places = (("models", "items"), ("endpoint", "model_names"), ("model_names",))
    lists = (nested(settings, *names) for names in places)
    firsts = [models[0] for models in lists if isinstance(models, list) and models]
    return next(filter(None, (text(first, "name") or text(first) for first in firsts)), "")
