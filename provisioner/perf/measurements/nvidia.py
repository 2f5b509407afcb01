"""Results of AIPerf and of its predecessor genai-perf: the CSV of one metric per row, and AIPerf's records."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from provisioner.errors import InputError
from provisioner.files import read_text
from provisioner.perf.measurements.runs import Contents, Floats, Replica
from provisioner.perf.measurements.summaries import VLLM, Form
from provisioner.perf.measurements.values import KNOWN, SECONDS, Fields, nested, number, numbers, objects_of, text

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
    metrics |= _stated(path, path.with_suffix(".json"), replica)
    return replace(_FORM, tool=tool).read(str(path), [metrics], replica)


def _value(cell: str) -> float | str:
    try:
        return float(cell.replace(",", ""))
    except ValueError:
        return cell


def read_records(shown: str, records: Sequence[Any], replica: Replica) -> Contents:
    """One run from AIPerf's ``profile_export.jsonl``, without warm-up, failed and cancelled requests."""
    phases = (None, "profiling")
    measured = [r for r in objects_of(shown, "record", records) if r.at("metadata.benchmark_phase") in phases]
    good = [r for r in measured if not (r.at("error") or r.at("metadata.was_cancelled"))]

    chunks = "inter_chunk_latency"

    def times_s(record: Fields, metric: str) -> Floats:
        at = f"metrics.{metric}"
        values = record.at(f"{at}.value")
        several = values if isinstance(values, list) and metric == chunks else [values]
        return SECONDS[record.unit(at)] * numbers(several, f"{record.where}: {at}")

    def tokens(metric: str) -> list[float]:
        return [record.positive(f"metrics.{metric}.value", "tokens") for record in good]

    starts_s = [1e-9 * record.positive("metadata.request_start_ns", "ns") for record in good]
    ends_s = [start + times_s(r, "request_latency")[0] for start, r in zip(starts_s, good, strict=True)]
    prompts, outputs = tokens("input_sequence_length"), tokens("output_sequence_length")
    span_s = max(ends_s) - min(starts_s) if good else 0.0
    cached = sum(number(record.at("metrics.usage_prompt_cache_read_tokens.value")) or 0.0 for record in good)
    path = Path(shown)
    result = {
        **_stated(path, path.with_name(f"{path.stem}_aiperf.json"), replica),
        "num_prompts": len(measured),
        "completed": len(good),
        "total_input_tokens": sum(prompts),
        "total_output_tokens": sum(outputs),
        "request_throughput": len(good) / span_s if span_s > 0 else None,
        _CACHED: {"avg": 100 * cached / max(sum(prompts), 1)},
        "start_times": starts_s,
        "ttfts": [float(times_s(record, "time_to_first_token")[0]) for record in good],
        "itls": [times_s(r, chunks) if r.at(f"metrics.{chunks}") else [] for r in good],
        "input_lens": prompts,
        "output_lens": outputs,
    }
    load = ("concurrency", "", "request_throughput")
    form = replace(VLLM, tool="AIPerf records", load=load, cached=_FORM.cached, model="model")
    return form.read(shown, [result], replica)


def _stated(path: Path, beside: Path, replica: Replica) -> dict[str, Any]:
    """Model and requests in flight of a run, from the JSON ``beside`` its file, its name and its folder."""
    try:
        settings = nested(json.loads(read_text(beside)), "input_config")
    except (InputError, ValueError, RecursionError):
        settings = None
    in_flight = replica.concurrency or _stated_concurrency(path, settings)
    return {"model": _stated_model(settings), "concurrency": in_flight}


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
