"""Results of ``vllm bench serve``: totals, and with ``--save-detailed`` the times of every request."""

from __future__ import annotations

import math
from itertools import compress
from typing import Final

import numpy as np

from provisioner.errors import InputError
from provisioner.perf.measurements.runs import GAP_RANGE_S, TTFT_RANGE_S, Details, Replica, Run, Spread, check_time
from provisioner.perf.measurements.values import Fields, numbers, text

MIN_TOKENS_A_GAP: Final = 0.9
"""Gaps of a run per token after the first, below which tokens came in bundles and a gap is no iteration."""


def vllm_run(result: Fields, replica: Replica) -> Run:
    """Run that one result describes; ``InputError`` names file and field."""
    completed = result.count("completed")
    if completed < 1:
        raise InputError(f"{result.where}: completed: no request of the run succeeded")
    if "total_output_tokens" not in result.values:
        raise InputError(f"{result.where}: has no times of tokens: is it a benchmark of embeddings?")
    details = _details(result) if result.values.get("ttfts") else None
    in_flight = result.count_if_any("max_concurrency")
    rate = result.values.get("request_rate")
    endless = rate in (None, "inf") or (isinstance(rate, float) and math.isinf(rate))
    held = [] if in_flight is None else [f"at most {in_flight} in flight"]
    sent = [] if endless else [f"sent at {result.positive('request_rate', 'requests/s'):g} requests/s"]
    ttft, tpot, gap = (
        _spread(result, f"median_{name}_ms", f"mean_{name}_ms", allowed_s)
        for name, allowed_s in (("ttft", TTFT_RANGE_S), ("tpot", GAP_RANGE_S), ("itl", GAP_RANGE_S))
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
        source=result.where,
        model_id=text(result.values, "model_id"),
        load=", ".join(held + sent) or "all sent at once",
        in_flight=in_flight,
        requests=completed,
        failed=max(0, (result.count_if_any("num_prompts") or completed) - completed),
        prompt_tokens=replica.input_tokens or result.positive("total_input_tokens", "tokens") / completed,
        output_tokens=replica.output_tokens or result.positive("total_output_tokens", "tokens") / completed,
        vary=None if details is None else float(details.prompt_tokens.std() / details.prompt_tokens.mean()),
        ttft=ttft,
        tpot=tpot,
        gap=gap,
        rate_rps=result.positive("request_throughput", "requests/s"),
        speculative=any(key.startswith("spec_decode_") for key in result.values),
        details=details,
    )


def _spread(result: Fields, median: str, mean: str, allowed_s: tuple[float, float]) -> Spread | None:
    both = [result.values[name] for name in (median, mean) if name in result.values]
    if len(both) < 2 or both == [0, 0]:
        return None  # all zero: not streamed, or one token each
    return Spread(result.seconds(median, allowed_s), result.seconds(mean, allowed_s))


def _details(result: Fields) -> Details:
    where = result.where
    lists = {name: values for name, values in result.values.items() if isinstance(values, list)}
    names = ("ttfts", "input_lens", "output_lens", *({"start_times"} & lists.keys()), "itls")
    sizes = {name: len(lists[name]) if name in lists else "none" for name in names}
    if "none" in sizes.values() or len(set(sizes.values())) > 1:
        shown = ", ".join(f"{name}: {size}" for name, size in sizes.items())
        raise InputError(f"{where}: its lists must have one value for each request ({shown})")
    outputs = numbers(lists["output_lens"], f"{where}: output_lens")
    ok = outputs > 0
    if not ok.any():
        raise InputError(f"{where}: output_lens: no request has an output")
    ttft_s = numbers(lists["ttfts"], f"{where}: ttfts")[ok]
    if not (ttft_s > 0).all():
        raise InputError(f"{where}: ttfts: must be above 0 s, got {ttft_s.min():g} (was the endpoint streaming?)")
    prompt_tokens = numbers(lists["input_lens"], f"{where}: input_lens")[ok]
    if not (prompt_tokens > 0).all():
        raise InputError(f"{where}: input_lens: must be above 0 tokens, got {prompt_tokens.min():g}")
    check_time(float(np.median(ttft_s)), f"{where}: ttfts", f"a median of {np.median(ttft_s):g} s", TTFT_RANGE_S)
    gaps = tuple(numbers(values, f"{where}: itls") for values in compress(lists["itls"], ok))
    pooled = np.concatenate(gaps)
    if pooled.size:
        if pooled.min() < 0:
            raise InputError(f"{where}: itls: must be 0 s or more, got {pooled.min():g}")
        check_time(float(np.median(pooled)), f"{where}: itls", f"a median of {np.median(pooled):g} s", GAP_RANGE_S)
    return Details(
        start_s=numbers(lists["start_times"], f"{where}: start_times")[ok] if "start_times" in lists else None,
        ttft_s=ttft_s,
        last_s=ttft_s + np.array([values.sum() for values in gaps]),
        prompt_tokens=prompt_tokens,
        output_tokens=outputs[ok],
        gaps_s=gaps if pooled.size >= MIN_TOKENS_A_GAP * (outputs[ok] - 1).sum() > 0 else None,
    )
