"""Reports of GuideLLM: one run for each benchmark of a report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from provisioner.errors import InputError
from provisioner.perf.measurements.runs import GAP_RANGE_S, TTFT_RANGE_S, Details, Run, Spread
from provisioner.perf.measurements.values import (
    KNOWN,
    Contents,
    Replica,
    count_of,
    json_object,
    milliseconds,
    nested,
    optional_count,
    positive,
    recognised,
    text,
)
from provisioner.specs.units import quoted


def read_guidellm(shown: str, report: Mapping[str, Any], replica: Replica) -> Contents:
    """Runs of a report, one for each benchmark."""
    benchmarks = report["benchmarks"]
    if not isinstance(benchmarks, list) or not benchmarks:
        raise InputError(f"{shown}: benchmarks: must be a list with a benchmark or more, got {quoted(benchmarks)}")
    arguments = report.get("args")
    runs = []
    for k, value in enumerate(benchmarks):
        where = f"{shown}: benchmark {k + 1}" if len(benchmarks) > 1 else shown
        runs.append(_guidellm_run(json_object(value, where), arguments, where, replica))
    metadata = report.get("metadata")
    version = text(metadata, "guidellm_version") if isinstance(metadata, dict) else ""
    return Contents(recognised(shown, f"GuideLLM {version}".strip(), runs), tuple(runs))


def _guidellm_run(benchmark: Mapping[str, Any], arguments: Any, where: str, replica: Replica) -> Run:
    metrics = benchmark.get("metrics")
    if not isinstance(metrics, dict) or "time_to_first_token_ms" not in metrics:
        raise InputError(f"{where}: metrics: has no time_to_first_token_ms; {KNOWN}")
    # 0.2 and 0.3 keep the strategy in args, later versions in config
    strategy = nested(benchmark, "config", "strategy") or nested(benchmark, "args", "strategy") or {}
    strategy = json_object(strategy, f"{where}: strategy")
    kind = text(strategy, "type_") or "a strategy that is not stated"
    in_flight = 1 if kind == "synchronous" else optional_count(strategy, "streams", where)
    rate = strategy.get("rate")
    load = kind if in_flight is None else "one at a time" if in_flight == 1 else f"{in_flight} in flight"
    if in_flight is None and isinstance(rate, int | float):
        load = f"sent at {rate:g} requests/s ({kind})"

    def summary(name: str) -> Mapping[str, Any] | None:
        value = nested(metrics, name, "successful")
        return value if isinstance(value, dict) and value.get("count", 1) != 0 else None

    def spread(name: str, allowed: tuple[float, float]) -> Spread | None:
        values = summary(name)
        if values is None or values.get("median") == 0:
            return None
        at = f"{where}: {name}"
        low, high = values.get("min"), values.get("max")
        return Spread(
            milliseconds(values, "median", at, allowed),
            milliseconds(values, "mean", at, allowed),
            1e-3 * low if isinstance(low, int | float) and low > 0 else None,
            1e-3 * high if isinstance(high, int | float) and math.isfinite(high) else None,
        )

    ttft = spread("time_to_first_token_ms", TTFT_RANGE_S)
    prompts, outputs = summary("prompt_token_count"), summary("output_token_count")
    if prompts is None or outputs is None:
        if "prompt_token_count" not in metrics:
            raise InputError(f"{where}: metrics: has no prompt_token_count; {KNOWN}")
        return Run(where, "", f"{load}, none succeeded", None, 0, 0, 0.0, 0.0)
    requests = count_of(prompts, "count", f"{where}: prompt_token_count") if "count" in prompts else 0
    details = _guidellm_details(benchmark, requests)
    prompt_tokens = positive(prompts, "mean", f"{where}: prompt_token_count", "tokens")
    deviation = prompts.get("std_dev")
    rates = summary("requests_per_second")
    model = nested(benchmark, "config", "backend", "model") or nested(benchmark, "worker", "backend_model")
    if not isinstance(model, str):
        model = nested(arguments, "model") or nested(arguments, "backend_kwargs", "model")
    failed = nested(benchmark, "request_totals", "errored") or nested(metrics, "request_totals", "errored")
    # the gap is a request's mean, never a single one
    return Run(
        source=where,
        model_id=model if isinstance(model, str) else "",
        load=load,
        in_flight=in_flight,
        requests=requests,
        failed=failed if isinstance(failed, int) else 0,
        prompt_tokens=replica.input_tokens or prompt_tokens,
        output_tokens=replica.output_tokens or positive(outputs, "mean", f"{where}: output_token_count", "tokens"),
        vary=deviation / prompt_tokens if isinstance(deviation, int | float) else None,
        ttft=ttft,
        tpot=spread("inter_token_latency_ms", GAP_RANGE_S),
        rate_rps=None if rates is None else positive(rates, "mean", f"{where}: requests_per_second", "requests/s"),
        details=details,
    )


def _guidellm_details(benchmark: Mapping[str, Any], requests: int) -> Details | None:
    """Start, first and last token of every request; None if the file lists some of the requests or none."""
    listed = nested(benchmark, "requests", "successful")
    failed = [nested(benchmark, "requests", kind) for kind in ("incomplete", "errored")]
    if not isinstance(listed, list) or len(listed) < max(requests, 1) or any(failed):
        return None  # requests that are not listed may have overlapped the listed ones
    rows = []
    for request in listed:
        times = nested(request, "info", "timings")
        if isinstance(times, dict):
            names = ("request_start", "first_token_iteration", "last_token_iteration")
        else:
            times, names = request, ("start_time", "first_token_time", "last_token_time")
        row = [nested(times, name) for name in names]
        row += [nested(request, "prompt_tokens"), nested(request, "output_tokens")]
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in row):
            return None
        rows.append(row)
    start, first, last, prompts, outputs = np.array(rows, dtype=np.float64).T
    if not ((first > start) & (last >= first) & (prompts > 0) & (outputs > 0)).all():
        return None
    return Details(start, first - start, last - start, prompts, outputs, None)
