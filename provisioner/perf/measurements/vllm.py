"""Results of ``vllm bench serve``: totals, and with ``--save-detailed`` the times of every request."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from provisioner.errors import InputError
from provisioner.perf.measurements.runs import GAP_RANGE_S, TTFT_RANGE_S, Details, Run, Spread, check_time
from provisioner.perf.measurements.values import (
    Replica,
    count_of,
    milliseconds,
    numbers,
    optional_count,
    positive,
    text,
)

MIN_TOKENS_A_GAP: Final = 0.9
"""Gaps of a run per token after the first, below which tokens came in bundles and a gap is no iteration."""


def vllm_run(where: str, result: Mapping[str, Any], replica: Replica) -> Run:
    """Run that one result describes; ``InputError`` names file and field."""
    completed = count_of(result, "completed", where)
    if completed < 1:
        raise InputError(f"{where}: completed: no request of the run succeeded")
    if "total_output_tokens" not in result:
        raise InputError(f"{where}: has no times of tokens: is it a benchmark of embeddings?")
    details = _vllm_details(result, where) if result.get("ttfts") else None
    in_flight = optional_count(result, "max_concurrency", where)
    rate = result.get("request_rate")
    endless = rate in (None, "inf") or (isinstance(rate, float) and math.isinf(rate))
    held = [] if in_flight is None else [f"at most {in_flight} in flight"]
    sent = [] if endless else [f"sent at {positive(result, 'request_rate', where, 'requests/s'):g} requests/s"]
    ttft, tpot, gap = (
        _vllm_spread(result, name, where, allowed)
        for name, allowed in (("ttft", TTFT_RANGE_S), ("tpot", GAP_RANGE_S), ("itl", GAP_RANGE_S))
    )
    if details is not None:
        several = details.output_tokens > 1
        ttft = Spread.of(details.ttft_s)
        if several.any():
            means = (details.last_s - details.ttft_s)[several] / (details.output_tokens[several] - 1)
            tpot = tpot or Spread.of(means)
        gap = Spread.of(np.concatenate(details.gaps_s)) if details.gaps_s is not None and several.any() else None
    elif gap is not None and tpot is not None and tpot.mean_s < MIN_TOKENS_A_GAP * gap.mean_s:
        gap = None  # fewer gaps than tokens: they came in bundles
    return Run(
        source=where,
        model_id=text(result, "model_id"),
        load=", ".join(held + sent) or "all sent at once",
        in_flight=in_flight,
        requests=completed,
        failed=max(0, (optional_count(result, "num_prompts", where) or completed) - completed),
        prompt_tokens=replica.input_tokens or positive(result, "total_input_tokens", where, "tokens") / completed,
        output_tokens=replica.output_tokens or positive(result, "total_output_tokens", where, "tokens") / completed,
        vary=None if details is None else float(details.prompt_tokens.std() / details.prompt_tokens.mean()),
        ttft=ttft,
        tpot=tpot,
        gap=gap,
        rate_rps=positive(result, "request_throughput", where, "requests/s"),
        speculative=any(key.startswith("spec_decode_") for key in result),
        details=details,
    )


def _vllm_spread(result: Mapping[str, Any], name: str, where: str, allowed: tuple[float, float]) -> Spread | None:
    median, mean = f"median_{name}_ms", f"mean_{name}_ms"
    if median not in result or mean not in result or (result[median] == 0 and result[mean] == 0):
        return None  # all zero: not streamed, or one token each
    return Spread(milliseconds(result, median, where, allowed), milliseconds(result, mean, where, allowed))


def _vllm_details(result: Mapping[str, Any], where: str) -> Details:
    names = ("ttfts", "input_lens", "output_lens", "itls")
    lists = {name: result[name] for name in names if isinstance(result.get(name), list)}
    if set(lists) != set(names) or len({len(values) for values in lists.values()}) != 1:
        sizes = ", ".join(f"{name}: {len(lists[name]) if name in lists else 'none'}" for name in names)
        raise InputError(f"{where}: its lists must have one value for each request ({sizes})")
    outputs = numbers(lists["output_lens"], f"{where}: output_lens")
    ok = outputs > 0
    if not ok.any():
        raise InputError(f"{where}: output_lens: no request has an output")
    ttft_s = numbers(lists["ttfts"], f"{where}: ttfts")[ok]
    if not (ttft_s > 0).all():
        raise InputError(f"{where}: ttfts: must be above 0 s, got {ttft_s.min():g} (was the endpoint streaming?)")
    check_time(float(np.median(ttft_s)), f"{where}: ttfts", f"a median of {np.median(ttft_s):g} s", TTFT_RANGE_S)
    listed = [values for values, used in zip(lists["itls"], ok.tolist(), strict=True) if used]
    gaps = tuple(numbers(values, f"{where}: itls") for values in listed)
    pooled = np.concatenate(gaps)
    if pooled.size:
        if pooled.min() < 0:
            raise InputError(f"{where}: itls: must be 0 s or more, got {pooled.min():g}")
        check_time(float(np.median(pooled)), f"{where}: itls", f"a median of {np.median(pooled):g} s", GAP_RANGE_S)
    starts = result.get("start_times")
    start_s = None
    if isinstance(starts, list):
        if len(starts) != ok.size:
            raise InputError(f"{where}: start_times: must have one value for each of {ok.size} requests")
        start_s = numbers(starts, f"{where}: start_times")[ok]
    return Details(
        start_s=start_s,
        ttft_s=ttft_s,
        last_s=ttft_s + np.array([values.sum() for values in gaps]),
        prompt_tokens=numbers(lists["input_lens"], f"{where}: input_lens")[ok],
        output_tokens=outputs[ok],
        gaps_s=gaps if pooled.size >= MIN_TOKENS_A_GAP * (outputs[ok] - 1).sum() > 0 else None,
    )
