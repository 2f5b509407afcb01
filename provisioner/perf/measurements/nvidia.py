"""CSV of AIPerf and of its predecessor genai-perf: one run, in blocks with one metric per row."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from provisioner.errors import InputError
from provisioner.files import read_text
from provisioner.perf.measurements.runs import GAP_RANGE_S, TTFT_RANGE_S, Contents, Replica, Run, Spread, check_time
from provisioner.perf.measurements.values import KNOWN, nested, text
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
    tool = "genai-perf"
    header: Sequence[str] = ()
    metrics: dict[str, tuple[str, str, dict[str, str]]] = {}
    for row in rows:
        if row[:1] == ["Metric"] and "GPU" not in row:
            header = row
        elif not any(row):
            header = ()
        elif header:
            name, _, unit = row[0].rstrip(")").partition("(")
            tool = "AIPerf" if name.strip() == "Time to First Token" else tool
            if key := _METRICS.get(name.strip().lower()):
                metrics[key] = (row[0], unit, dict(zip(header, row, strict=False)))

    def number(key: str, stat: str) -> float | None:
        title, unit, row = metrics.get(key, ("", "", {}))
        given = (row.get(stat) or (row.get("Value") if stat == "avg" else None) or "").replace(",", "")
        what = f"{where}: {title}: {stat}"
        if not given or (stat in ("min", "max", "std") and parse_number(given, what, unit) <= 0):
            return None  # a single gap of 0 and a deviation of 0 are possible
        value = (parse_non_negative if key == "cached" else parse_positive)(given, what, unit)
        if key not in ("ttft", "tpot", "latency"):
            return value
        if unit not in _SECONDS:
            raise InputError(f"{where}: {title}: must state its unit ({', '.join(_SECONDS)})")
        seconds = value * _SECONDS[unit]
        allowed_s = GAP_RANGE_S if key == "tpot" else TTFT_RANGE_S
        return check_time(seconds, what, f"{given} {unit}", allowed_s) if stat in ("avg", "p50") else seconds

    def spread(key: str) -> Spread | None:
        median, mean = number(key, "p50"), number(key, "avg")
        return None if median is None or mean is None else Spread(median, mean, number(key, "min"), number(key, "max"))

    if not {"ttft", "latency"} & metrics.keys():
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
    settings = _settings(path)
    in_flight = replica.concurrency or _stated_concurrency(path, settings)
    unstated = f"concurrency not stated (keep the tool's folder or its JSON, or give {spelled('concurrency')})"
    run = Run(
        source=where,
        model_id=_stated_model(settings),
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
    return Contents.of_runs(where, tool, [run])


def _settings(path: Path) -> Any:
    """Settings of a run from the tool's JSON beside its CSV; None if there is none."""
    try:
        return nested(json.loads(read_text(path.with_suffix(".json"))), "input_config")
    except (OSError, ValueError, RecursionError):
        return None


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
