"""Reports of GuideLLM: one run for each benchmark of a report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from provisioner.errors import InputError
from provisioner.perf.measurements.runs import GAP_RANGE_S, TTFT_RANGE_S, Contents, Details, Replica, Run, Spread
from provisioner.perf.measurements.values import KNOWN, Fields, nested, number, objects_of, text
from provisioner.specs.units import quoted


def read_guidellm(shown: str, report: Mapping[str, Any], replica: Replica) -> Contents:
    """Runs of a report, one for each benchmark."""
    benchmarks = report["benchmarks"]
    if not isinstance(benchmarks, list) or not benchmarks:
        raise InputError(f"{shown}: benchmarks: must be a list with a benchmark or more, got {quoted(benchmarks)}")
    runs = [_run(fields, report.get("args"), replica) for fields in objects_of(shown, "benchmark", benchmarks)]
    return Contents.of_runs(shown, f"GuideLLM {text(report, 'metadata', 'guidellm_version')}".strip(), runs)


def _run(fields: Fields, arguments: Any, replica: Replica) -> Run:
    where, benchmark = fields.where, fields.values
    metrics = benchmark.get("metrics")
    if not isinstance(metrics, dict) or "time_to_first_token_ms" not in metrics:
        raise InputError(f"{where}: metrics: has no time_to_first_token_ms; {KNOWN}")
    # 0.2 and 0.3 keep the strategy in args, later versions in config
    stated = nested(benchmark, "config", "strategy") or nested(benchmark, "args", "strategy") or {}
    strategy = Fields(f"{where}: strategy", stated)
    kind = text(stated, "type_") or "a strategy that is not stated"
    in_flight = 1 if kind == "synchronous" else strategy.count_if_any("streams")
    load = kind if in_flight is None else "one at a time" if in_flight == 1 else f"{in_flight} in flight"
    rate = stated.get("rate")
    if in_flight is None and isinstance(rate, int | float):
        load = f"sent at {rate:g} requests/s ({kind})"

    def summary(name: str) -> Fields | None:
        values = nested(metrics, name, "successful")
        some = isinstance(values, dict) and values.get("count", 1) != 0
        return Fields(f"{where}: {name}", values) if some else None

    def spread(name: str, allowed_s: tuple[float, float]) -> Spread | None:
        times = summary(name)
        if times is None or times.values.get("median") == 0:
            return None
        low, high = number(times.values, "min"), number(times.values, "max")
        return Spread(
            times.seconds("median", allowed_s),
            times.seconds("mean", allowed_s),
            1e-3 * low if low is not None and low > 0 else None,
            None if high is None else 1e-3 * high,
        )

    ttft = spread("time_to_first_token_ms", TTFT_RANGE_S)
    prompts, outputs = summary("prompt_token_count"), summary("output_token_count")
    if prompts is None or outputs is None:
        if "prompt_token_count" not in metrics:
            raise InputError(f"{where}: metrics: has no prompt_token_count; {KNOWN}")
        return Run(where, "", f"{load}, none succeeded", None, 0, 0, 0.0, 0.0)
    requests = prompts.count("count") if "count" in prompts.values else 0
    prompt_tokens = prompts.positive("mean", "tokens")
    deviation = prompts.values.get("std_dev")
    rates = summary("requests_per_second")
    failed = nested(benchmark, "request_totals", "errored") or nested(metrics, "request_totals", "errored")
    # the gap is a request's mean, never a single one
    return Run(
        source=where,
        model_id=text(benchmark, "config", "backend", "model")
        or text(benchmark, "worker", "backend_model")
        or text(arguments, "model")
        or text(arguments, "backend_kwargs", "model"),
        load=load,
        in_flight=in_flight,
        requests=requests,
        failed=failed if isinstance(failed, int) else 0,
        prompt_tokens=replica.input_tokens or prompt_tokens,
        output_tokens=replica.output_tokens or outputs.positive("mean", "tokens"),
        vary=deviation / prompt_tokens if isinstance(deviation, int | float) else None,
        ttft=ttft,
        tpot=spread("inter_token_latency_ms", GAP_RANGE_S),
        rate_rps=None if rates is None else rates.positive("mean", "requests/s"),
        details=_details(benchmark, requests),
    )


def _details(benchmark: Mapping[str, Any], requests: int) -> Details | None:
    """Start, first and last token of every request; None if the file lists some of the requests or none."""
    listed = nested(benchmark, "requests", "successful")
    failed = [nested(benchmark, "requests", kind) for kind in ("incomplete", "errored")]
    if not isinstance(listed, list) or len(listed) < max(requests, 1) or any(failed):
        return None  # requests that are not listed may have overlapped the listed ones
    rows = []
    for request in listed:
        times, names = (
            nested(request, "info", "timings"),
            ("request_start", "first_token_iteration", "last_token_iteration"),
        )
        if not isinstance(times, dict):
            times, names = request, ("start_time", "first_token_time", "last_token_time")
        lengths = (number(request, "prompt_tokens"), number(request, "output_tokens"))
        rows.append([*(number(times, name) for name in names), *lengths])
    start, first, last, prompts, outputs = np.array(rows, dtype=np.float64).T
    if not ((first > start) & (last >= first) & (prompts > 0) & (outputs > 0)).all():
        return None
    return Details(start, first - start, last - start, prompts, outputs, None)
