"""CSV of AIPerf and of its predecessor genai-perf: one run, in blocks with one metric per row."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from provisioner.errors import InputError
from provisioner.perf.measurements.runs import GAP_RANGE_S, TTFT_RANGE_S, Run, Spread, check_time
from provisioner.perf.measurements.values import KNOWN, Contents, Replica, nested, recognised, text
from provisioner.specs.units import parse_non_negative, parse_number, parse_positive
from provisioner.spelling import spelled

_METRICS: Final = {
    "time to first token": "ttft",
    "inter token latency": "tpot",
    "request latency": "latency",
    "input sequence length": "input",
    "output sequence length": "output",
    "num input token": "input",
    "num output token": "output",
    "request throughput": "rate",
    "request count": "count",
    "benchmark duration": "duration",
    "usage prompt cache read tokens": "cached",
}
_SECONDS: Final = {"ms": 1e-3, "s": 1.0, "sec": 1.0, "us": 1e-6, "ns": 1e-9}


def read_nvidia(path: Path, rows: Sequence[Sequence[str]], replica: Replica) -> Contents:
    """One run from blocks of ``Metric,avg,min,max,...`` and ``Metric,Value``; ``InputError`` names file and field."""
    where = str(path)
    header: Sequence[str] = ()
    values: dict[str, tuple[str, str, dict[str, str]]] = {}
    tool = "genai-perf"
    for row in rows:
        if row[:1] == ["Metric"] and "GPU" not in row:
            header = row
        elif not any(row):
            header = ()
        elif header:
            match = re.fullmatch(r"(.*?)\s*(?:\(([^()]*)\))?", row[0])
            assert match is not None
            name, unit = match.group(1), match.group(2) or ""
            tool = "AIPerf" if name == "Time to First Token" else tool
            key = _METRICS.get(name.lower())
            if key:
                values[key] = (row[0], unit, dict(zip(header[1:], row[1:], strict=False)))

    def number(key: str, stat: str) -> float | None:
        title, unit, row = values.get(key, ("", "", {}))
        given = row.get(stat) or (row.get("Value") if stat == "avg" else None)
        if not given:
            return None
        given = given.replace(",", "")
        what = f"{where}: {title}: {stat}"
        if stat in ("min", "max", "std") and parse_number(given, what, unit) <= 0:
            return None  # a single gap of 0 and a deviation of 0 are possible
        if key == "cached":
            return parse_non_negative(given, what, unit)
        number = parse_positive(given, what, unit)
        if key in ("ttft", "tpot", "latency"):
            if unit not in _SECONDS:
                raise InputError(f"{where}: {title}: must state its unit ({', '.join(_SECONDS)})")
            allowed = GAP_RANGE_S if key == "tpot" else TTFT_RANGE_S
            seconds = number * _SECONDS[unit]
            return check_time(seconds, what, f"{given} {unit}", allowed) if stat in ("avg", "p50") else seconds
        return number

    def spread(key: str) -> Spread | None:
        median, mean = number(key, "p50"), number(key, "avg")
        return None if median is None or mean is None else Spread(median, mean, number(key, "min"), number(key, "max"))

    if "ttft" not in values and "latency" not in values:
        raise InputError(f"{where}: has no row of Time to First Token or Request Latency; {KNOWN}")
    prompt_tokens = replica.input_tokens or number("input", "avg")
    output_tokens = replica.output_tokens or number("output", "avg")
    if prompt_tokens is None or output_tokens is None:
        raise InputError(
            f"{where}: has no Input and Output Sequence Length: give "
            f"{spelled('input_tokens')} and {spelled('output_tokens')}"
        )
    count, duration, rate, cached = (number(key, "avg") for key in ("count", "duration", "rate", "cached"))
    low, high = number("input", "min"), number("input", "max")
    in_flight = replica.concurrency or _stated_concurrency(path)
    unstated = f"concurrency not stated (keep the tool's folder or its JSON, or give {spelled('concurrency')})"
    run = Run(
        source=where,
        model_id=_stated_model(path),
        load=unstated if in_flight is None else f"{in_flight} in flight",
        in_flight=in_flight,
        requests=round(count or 0),
        failed=0,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        # the deviation is at most half of the range
        vary=None if low is None or high is None else (number("input", "std") or (high - low) / 2) / prompt_tokens,
        ttft=spread("ttft"),
        tpot=spread("tpot"),
        rate_rps=count / duration if count and duration else rate,
        cached=None if cached is None else cached / prompt_tokens,
    )
    return Contents(recognised(where, tool, [run]), (run,))


def _companion(path: Path) -> Mapping[str, Any]:
    """Settings of a run from the tool's JSON beside its CSV; empty if there is none."""
    try:
        value = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    settings = value.get("input_config") if isinstance(value, dict) else None
    return settings if isinstance(settings, dict) else {}


def _stated_concurrency(path: Path) -> int | None:
    """Requests that the client held in flight: from the JSON beside the CSV, else the name of the folder or file."""

    def find(value: Any) -> int | None:
        if not isinstance(value, dict):
            return None
        own = value.get("concurrency")
        if isinstance(own, int) and not isinstance(own, bool) and own > 0:
            return own
        return next((found for each in value.values() if (found := find(each)) is not None), None)

    settings = _companion(path)
    phases = settings.get("phases")
    if isinstance(phases, list):  # AIPerf from 0.10 on; a warm-up may come first
        return next((find(phase) for phase in phases if text(phase, "name") == "profiling"), None)
    stated = find(settings)
    if stated is not None:
        return stated
    folder = path.resolve().parent.name
    match = re.search(r"concurrency[-_]?(\d+)", f"{folder}/{path.name}") or re.fullmatch(r"c(\d+)", folder)
    return int(match.group(1)) if match and int(match.group(1)) > 0 else None


def _stated_model(path: Path) -> str:
    settings = _companion(path)
    items = nested(settings, "models", "items")
    if isinstance(items, list) and items:
        return text(items[0], "name")
    for names in (nested(settings, "endpoint", "model_names"), settings.get("model_names")):
        if isinstance(names, list) and names and isinstance(names[0], str):
            return names[0]
    return ""
