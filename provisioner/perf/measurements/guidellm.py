"""Reports of GuideLLM: one run for each benchmark of a report."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from provisioner.errors import InputError
from provisioner.perf.measurements.runs import Contents, Details, Replica, Run
from provisioner.perf.measurements.summaries import Form
from provisioner.perf.measurements.values import KNOWN, Fields, nested, number, objects_of, text
from provisioner.specs.units import quoted


def read_guidellm(shown: str, reports: Sequence[Mapping[str, Any]], replica: Replica) -> Contents:
    """Runs of a report, one for each benchmark."""
    report = reports[0]
    benchmarks = report["benchmarks"]
    if not isinstance(benchmarks, list) or not benchmarks:
        raise InputError(f"{shown}: benchmarks: must be a list with a benchmark or more, got {quoted(benchmarks)}")
    runs = [_run(fields, report.get("args"), replica) for fields in objects_of(shown, "benchmark", benchmarks)]
    return Contents.of_runs(shown, f"GuideLLM {text(report, 'metadata', 'guidellm_version')}".strip(), runs)


def _run(benchmark: Fields, arguments: Any, replica: Replica) -> Run:
    for name in ("time_to_first_token_ms", "prompt_token_count"):
        if benchmark.at(f"metrics.{name}") is None:
            raise InputError(f"{benchmark.where}: metrics: has no {name}; {KNOWN}")
    # 0.2 and 0.3 keep the strategy in args, later versions in config
    strategy = benchmark.at("config.strategy") or benchmark.at("args.strategy")
    kind = text(strategy, "type_")
    succeeded = benchmark.at("metrics.prompt_token_count.successful")
    if not isinstance(succeeded, dict) or succeeded.get("count", 1) == 0:
        return Run(benchmark.where, "", f"{kind}, none succeeded", None, 0, 0, 0.0, 0.0)
    failed = number(benchmark.at("request_totals.errored") or benchmark.at("metrics.request_totals.errored")) or 0
    stated = {
        "in flight": 1 if kind == "synchronous" else nested(strategy, "streams"),
        "rate": "inf" if kind == "throughput" else nested(strategy, "rate"),
        "attempted": failed + (number(succeeded, "count") or 0),
        "model": text(benchmark.values, "config", "backend", "model")
        or text(benchmark.values, "worker", "backend_model")
        or text(arguments, "model")
        or text(arguments, "backend_kwargs", "model"),
    }
    run = _FORM.run(replace(benchmark, values={**benchmark.values, **stated}), replica)
    details = _details(benchmark.values, run.requests)
    return run if details is None else run.with_details(details)


def _details(benchmark: Mapping[str, Any], requests: int) -> Details | None:
    """Start, first and last token of every request; None if the file lists some of the requests or none."""
    listed = nested(benchmark, "requests", "successful")
    failed = [nested(benchmark, "requests", kind) for kind in ("incomplete", "errored")]
    if not isinstance(listed, list) or len(listed) < max(requests, 1) or any(failed):
        return None  # requests that are not listed may have overlapped the listed ones
    rows = []
    for request in listed:
        inner = isinstance(timings := nested(request, "info", "timings"), dict)
        values = [number(timings if inner else request, name) for name in _TIMES[inner]]
        rows.append([*values, number(request, "prompt_tokens"), number(request, "output_tokens")])
    start, first, last, prompts, outputs = np.array(rows, dtype=np.float64).T
    if not ((first > start) & (last >= first) & (prompts > 0) & (outputs > 0)).all():
        return None
    return Details(start, first - start, last - start, prompts, outputs, None)


_TIMES: Final = (  # of a request, and of its timings in later versions
    ("start_time", "first_token_time", "last_token_time"),
    ("request_start", "first_token_iteration", "last_token_iteration"),
)
_FORM: Final = Form(
    tool="GuideLLM",
    times="metrics.{time}_ms.successful.{}",
    names=("time_to_first_token", "inter_token_latency", ""),
    unit="ms",
    lengths=("metrics.prompt_token_count.successful.{}", "metrics.output_token_count.successful.{}"),
    counts=("attempted", "metrics.prompt_token_count.successful.count"),
    load=("in flight", "rate", "metrics.requests_per_second.successful.mean"),
    model="model",
)
