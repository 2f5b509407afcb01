"""Sample files of benchmark tools, in the forms that their documentation and code give, from a made-up replica.

The replica is a loop of iterations as a server runs them: the oldest waiting prompts in chunks of 2,048 tokens together
with one token of every sequence, else tokens alone. Its times are known by formula, so an import of the files must
give the formulas back. ``python -m tests.perf.samples.make`` writes the files; a test compares them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent
CHUNK_TOKENS = 2048
OVERHEAD_S = 0.004  # from sending to the server's queue and from an iteration's end to the client, together
MODEL_ID = "example/made-up-8b"


def prompt_s(tokens: float) -> float:
    """Time of an iteration over ``tokens`` prompt tokens, in s."""
    return 0.006 + 50e-6 * tokens + 2e-9 * tokens**2


def decode_s(batch: int, context_tokens: float) -> float:
    """Time of an iteration with one token of each sequence, in s; the context is of the whole batch."""
    return 0.009 + 0.12e-3 * batch + 30e-9 * context_tokens


def seen_prompt_s(tokens: int) -> float:
    """Time to the first token of a prompt alone, as a client sees it, in s."""
    full, rest = divmod(tokens, CHUNK_TOKENS)
    return OVERHEAD_S + full * prompt_s(CHUNK_TOKENS) + (prompt_s(rest) if rest else 0.0)


@dataclass(eq=False)
class Request:
    """A request and the times at which the client saw its tokens."""

    sent_s: float
    prompt_tokens: int
    output_tokens: int
    prompted: int = 0
    seen_s: list[float] = field(default_factory=list)

    @property
    def ttft_s(self) -> float:
        return self.seen_s[0] - self.sent_s

    @property
    def gaps_s(self) -> list[float]:
        return np.diff(self.seen_s).tolist()

    @property
    def latency_s(self) -> float:
        return self.seen_s[-1] - self.sent_s

    @property
    def mean_gap_s(self) -> float:
        return (self.seen_s[-1] - self.seen_s[0]) / (len(self.seen_s) - 1)


def serve(
    lengths: Sequence[tuple[int, int]],
    in_flight: int | None = None,
    sent_s: Sequence[float] | None = None,
    max_batch: int = 10_000,
    seed: int = 1,
) -> list[Request]:
    """Serve requests of (prompt, output) tokens: a fixed number held in flight, or sent at given times.

    Every iteration takes up to 0.3 % more or less than its formula. A batch of ``max_batch`` is full.
    """
    generator = np.random.default_rng(seed)
    half = OVERHEAD_S / 2
    now = 0.0
    done: list[Request] = []
    todo = [Request(0.0 if sent_s is None else sent_s[k], *each) for k, each in enumerate(lengths)]
    waiting, todo = (todo[:in_flight], todo[in_flight:]) if in_flight else (todo, [])
    running: list[Request] = []
    while waiting or running:
        room = max_batch - len(running)
        arrived = [r for r in waiting if r.sent_s + half <= now + 1e-12][: max(room, 0)]
        if not arrived and not running:
            now = min(r.sent_s for r in waiting) + half
            continue
        budget = CHUNK_TOKENS
        finished = []
        for request in arrived:
            part = min(budget, request.prompt_tokens - request.prompted)
            request.prompted += part
            budget -= part
            if part and request.prompted == request.prompt_tokens:
                finished.append(request)
        context = sum(r.prompt_tokens + len(r.seen_s) for r in running)
        seconds = decode_s(len(running), context) if running else 0.0
        seconds += prompt_s(CHUNK_TOKENS - budget) if budget < CHUNK_TOKENS else 0.0
        now += seconds * (1 + generator.uniform(-0.003, 0.003))
        for request in running + finished:
            request.seen_s.append(now + half)
        waiting = [r for r in waiting if r not in finished]
        for request in [r for r in running + finished if len(r.seen_s) == r.output_tokens]:
            done.append(request)
            if todo:
                following = todo.pop(0)
                following.sent_s = now + half
                waiting.append(following)
        running = [r for r in running + finished if len(r.seen_s) < r.output_tokens]
    return sorted(done, key=lambda r: r.sent_s)


def duration_s(requests: Sequence[Request]) -> float:
    return max(r.seen_s[-1] for r in requests) - min(r.sent_s for r in requests)


def _ms(seconds: float) -> float:
    return round(1e3 * seconds, 3)


def vllm(
    requests: Sequence[Request],
    in_flight: int | None,
    rate: float | None = None,
    detailed: bool = False,
    start_times: bool = True,
    **more: Any,
) -> dict[str, Any]:
    """A result of ``vllm bench serve --save-result``."""
    outputs = [r.output_tokens for r in requests]
    result: dict[str, Any] = {
        "date": "20260105-101500",
        "endpoint_type": "openai",
        "backend": "openai",
        "label": "openai",
        "model_id": MODEL_ID,
        "tokenizer_id": MODEL_ID,
        "num_prompts": len(requests),
        "request_rate": "inf" if rate is None else rate,
        "burstiness": 1.0,
        "max_concurrency": in_flight,
        "duration": round(duration_s(requests), 6),
        "completed": len(requests),
        "failed": 0,
        "total_input_tokens": sum(r.prompt_tokens for r in requests),
        "total_output_tokens": sum(outputs),
        "request_throughput": len(requests) / duration_s(requests),
        "output_throughput": sum(outputs) / duration_s(requests),
    }
    gaps = [gap for r in requests for gap in r.gaps_s]
    for name, values in (
        ("ttft", [r.ttft_s for r in requests]),
        ("tpot", [r.mean_gap_s for r in requests]),
        ("itl", gaps),
    ):
        result[f"mean_{name}_ms"] = _ms(float(np.mean(values)))
        result[f"median_{name}_ms"] = _ms(float(np.median(values)))
        result[f"std_{name}_ms"] = _ms(float(np.std(values)))
        result[f"p99_{name}_ms"] = _ms(float(np.percentile(values, 99)))
    if detailed:
        result["input_lens"] = [r.prompt_tokens for r in requests]
        result["output_lens"] = outputs
        if start_times:
            result["start_times"] = [round(8000 + r.sent_s, 6) for r in requests]
        result["ttfts"] = [round(r.ttft_s, 6) for r in requests]
        result["itls"] = [[round(gap, 6) for gap in r.gaps_s] for r in requests]
        result["generated_texts"] = ["" for _ in requests]
        result["errors"] = ["" for _ in requests]
    return {**result, **more}


def _summary(values: Sequence[float], scale: float = 1.0) -> dict[str, Any]:
    """The distribution that GuideLLM gives of successful requests, and its empty one of others."""
    scaled = [scale * value for value in values]
    percentiles = {f"p{p:02d}": round(float(np.percentile(scaled, p)), 4) for p in (1, 5, 10, 25, 50, 75, 90, 95, 99)}
    good = {
        "mean": round(float(np.mean(scaled)), 4),
        "median": round(float(np.median(scaled)), 4),
        "std_dev": round(float(np.std(scaled)), 4),
        "min": round(min(scaled), 4),
        "max": round(max(scaled), 4),
        "count": len(scaled),
        "percentiles": percentiles,
    }
    none = {"mean": 0.0, "median": 0.0, "std_dev": 0.0, "min": 0.0, "max": 0.0, "count": 0}
    return {"successful": good, "incomplete": none, "errored": none}


def _guidellm_metrics(requests: Sequence[Request]) -> dict[str, Any]:
    return {
        "requests_per_second": _summary([len(requests) / duration_s(requests)]),
        "request_latency": _summary([r.latency_s for r in requests]),
        "prompt_token_count": _summary([r.prompt_tokens for r in requests]),
        "output_token_count": _summary([r.output_tokens for r in requests]),
        "time_to_first_token_ms": _summary([r.ttft_s for r in requests], 1e3),
        "time_per_output_token_ms": _summary([r.latency_s / r.output_tokens for r in requests], 1e3),
        "inter_token_latency_ms": _summary([r.mean_gap_s for r in requests], 1e3),
    }


def guidellm_02(runs: Sequence[tuple[dict[str, Any], Sequence[Request]]]) -> dict[str, Any]:
    """A report of GuideLLM 0.2 and 0.3: the strategy in ``args``, requests with their times side by side."""
    return {
        "benchmarks": [
            {
                "type_": "generative_benchmark",
                "run_id": "f2",
                "args": {"profile": {"type_": "sweep"}, "strategy_index": k, "strategy": strategy, "max_number": None},
                "worker": {"type_": "generative_requests_worker", "backend_model": MODEL_ID},
                "request_totals": {"successful": len(requests), "incomplete": 0, "errored": 0, "total": len(requests)},
                "metrics": _guidellm_metrics(requests),
                "requests": {
                    "successful": [
                        {
                            "type_": "generative_text_response",
                            "prompt_tokens": r.prompt_tokens,
                            "output_tokens": r.output_tokens,
                            "start_time": round(1.7e9 + r.sent_s, 6),
                            "end_time": round(1.7e9 + r.seen_s[-1], 6),
                            "first_token_time": round(1.7e9 + r.seen_s[0], 6),
                            "last_token_time": round(1.7e9 + r.seen_s[-1], 6),
                        }
                        for r in requests
                    ],
                    "incomplete": [],
                    "errored": [],
                },
            }
            for k, (strategy, requests) in enumerate(runs)
        ]
    }


def guidellm_05(runs: Sequence[tuple[dict[str, Any], Sequence[Request]]]) -> dict[str, Any]:
    """A report of GuideLLM 0.4 and later: the strategy in ``config``, here without the requests."""
    return {
        "metadata": {"version": 1, "guidellm_version": "0.5.3"},
        "args": {"target": "http://localhost:8000", "model": MODEL_ID, "profile": "concurrent"},
        "benchmarks": [
            {
                "type_": "generative_benchmark",
                "config": {"run_id": "f5", "run_index": k, "strategy": strategy, "backend": {"model": MODEL_ID}},
                "metrics": {
                    "request_totals": {"successful": len(requests), "incomplete": 0, "errored": 0},
                    **_guidellm_metrics(requests),
                },
                "requests": {"successful": [], "incomplete": [], "errored": []},
            }
            for k, (strategy, requests) in enumerate(runs)
        ],
    }


def _nvidia(requests: Sequence[Request], stats: Sequence[str], names: Sequence[str], summary: Sequence[str]) -> str:
    values = (
        [1e3 * r.ttft_s for r in requests],
        [1e3 * r.latency_s for r in requests],
        [1e3 * r.mean_gap_s for r in requests],
        [float(r.output_tokens) for r in requests],
        [float(r.prompt_tokens) for r in requests],
    )
    comma = "," if stats[0] != "aiperf" else ""
    stats = [stat for stat in stats if stat != "aiperf"]

    def cell(of: Sequence[float], stat: str) -> str:
        known = {"avg": np.mean(of), "min": np.min(of), "max": np.max(of), "std": np.std(of)}
        value = known[stat] if stat in known else np.percentile(of, int(stat[1:]))
        text = f"{float(value):{comma}.2f}"
        return f'"{text}"' if "," in text else text

    lines = [",".join(("Metric", *stats))]
    lines += [",".join((name, *(cell(of, stat) for stat in stats))) for name, of in zip(names, values, strict=True)]
    seconds = duration_s(requests)
    tokens = sum(r.output_tokens for r in requests)
    facts = {
        "tokens": tokens / seconds,
        "requests": len(requests) / seconds,
        "seconds": seconds,
        "count": len(requests),
    }
    lines += ["", "Metric,Value", *(line.format(**facts) for line in summary), ""]
    return "\r\n".join(lines)


def genai_perf(requests: Sequence[Request]) -> str:
    """``profile_export_genai_perf.csv``: thousands with commas, rates to two decimals."""
    return _nvidia(
        requests,
        ("avg", "min", "max", "p99", "p95", "p90", "p75", "p50", "p25"),
        (
            "Time To First Token (ms)",
            "Request Latency (ms)",
            "Inter Token Latency (ms)",
            "Output Sequence Length (tokens)",
            "Input Sequence Length (tokens)",
        ),
        ("Output Token Throughput (per sec),{tokens:.2f}", "Request Throughput (per sec),{requests:.2f}"),
    )


def aiperf(requests: Sequence[Request]) -> str:
    """``profile_export_aiperf.csv``, with the table of GPU telemetry that may follow."""
    text = _nvidia(
        requests,
        ("aiperf", "avg", "min", "max", "p1", "p5", "p10", "p25", "p50", "p75", "p90", "p95", "p99", "std"),
        (
            "Time to First Token (ms)",
            "Request Latency (ms)",
            "Inter Token Latency (ms)",
            "Output Sequence Length (tokens)",
            "Input Sequence Length (tokens)",
        ),
        (
            "Benchmark Duration (sec),{seconds:.2f}",
            "Request Count,{count}",
            "Request Throughput (requests/sec),{requests:.2f}",
        ),
    )
    telemetry = (
        "\r\nEndpoint,GPU_Index,GPU_Name,GPU_UUID,Metric,avg,min,max,p50\r\n"
        "localhost:9400,0,Made-up GPU,GPU-0,GPU Power Usage (W),348.69,120.57,386.02,378.34\r\n"
    )
    return text + telemetry


def poisson_s(rate_rps: float, requests: int, seed: int = 3) -> list[float]:
    times: list[float] = np.cumsum(np.random.default_rng(seed).exponential(1 / rate_rps, requests)).tolist()
    return times


def files() -> dict[str, str]:
    """Text of every sample by its path below this folder."""

    def held(in_flight: int, prompt: int, output: int, requests: int) -> list[Request]:
        return serve([(prompt, output)] * requests, in_flight)

    def dumped(value: Any) -> str:
        return json.dumps(value) + "\n"

    alone = {tokens: held(1, tokens, 40, 3) for tokens in (256, 1024, 4096)}
    slow = serve([(1024, 64)] * 12, sent_s=poisson_s(0.1, 12))
    busy = serve([(1024, 64)] * 40, sent_s=poisson_s(6.0, 40))
    samples = {
        **{f"vllm/alone-{tokens}.json": dumped(vllm(run, 1, detailed=tokens == 1024)) for tokens, run in alone.items()},
        "vllm/held-4-detailed.json": dumped(vllm(held(4, 1024, 40, 20), 4, detailed=True)),
        "vllm/held-8-detailed.json": dumped(vllm(held(8, 1024, 40, 24), 8, detailed=True)),
        "vllm/held-8-no-starts.json": dumped(vllm(held(8, 1024, 160, 16), 8, detailed=True, start_times=False)),
        "vllm/held-16.json": dumped(vllm(held(16, 1024, 512, 160), 16)),
        "vllm/held-64-short.json": dumped(vllm(held(64, 1024, 64, 320), 64)),
        "vllm/rate-6.json": dumped(vllm(busy, None, rate=6.0)),
        "vllm/rate-6-detailed.json": dumped(vllm(busy, None, rate=6.0, detailed=True)),
        "vllm/at-once.json": dumped(vllm(serve([(1024, 64)] * 40, sent_s=[0.0] * 40), None)),
        "vllm/appended.json": "\n".join(json.dumps(vllm(held(n, 1024, 512, 10 * n + 10), n)) for n in (1, 4, 8, 32)),
        "guidellm/0.2-sweep.json": dumped(
            guidellm_02(
                [
                    ({"type_": "synchronous"}, held(1, 1024, 64, 6)),
                    ({"type_": "constant", "rate": 0.1}, slow),
                    ({"type_": "throughput", "max_concurrency": None}, serve([(1024, 64)] * 30, sent_s=[0.0] * 30)),
                ]
            )
        ),
        "guidellm/0.5-concurrent.json": dumped(
            guidellm_05(
                [
                    ({"type_": "synchronous"}, held(1, 512, 800, 5)),
                    ({"type_": "synchronous"}, held(1, 2048, 100, 5)),
                    ({"type_": "concurrent", "streams": 4}, held(4, 512, 800, 40)),
                    ({"type_": "concurrent", "streams": 16}, held(16, 512, 800, 160)),
                    ({"type_": "concurrent", "streams": 64}, held(64, 512, 100, 320)),
                ]
            )
        ),
    }
    for n, prompt, output in ((1, 1000, 500), (1, 3000, 50), (8, 1000, 500)):
        folder = f"example_made-up-8b-openai-chat-{prompt}-concurrency{n}"
        run = held(n, prompt, output, 5 * n + 5)
        samples[f"genai-perf/{folder}/profile_export_genai_perf.csv"] = genai_perf(run)
        samples[f"aiperf/{folder}/profile_export_aiperf.csv"] = aiperf(run)
    return samples


def write() -> None:
    for name, text in files().items():
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())


if __name__ == "__main__":
    write()
