"""The files that questions read, small and always the same."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_attention_heads": 32,
    "num_hidden_layers": 30,
    "num_key_value_heads": 8,
    "tie_word_embeddings": False,
    "vocab_size": 151936,
    "attention_bias": False,
    "head_dim": 128,
    "max_position_embeddings": 40960,
    "rope_scaling": None,
    "use_sliding_window": False,
    "torch_dtype": "bfloat16",
}


def lengths(count: int, rate_rps: float, seed: int) -> Iterator[tuple[float, int, int]]:
    """Requests: Poisson arrivals in s, prompt and output tokens that are long once in a while."""
    draw = random.Random(seed)
    arrival_s = 0.0
    for _ in range(count):
        arrival_s += draw.expovariate(rate_rps)
        prompt = int(min(4000, max(16, draw.lognormvariate(6.5, 0.9))))
        yield arrival_s, prompt, int(min(900, max(1, draw.lognormvariate(4.2, 0.8))))


def vllm(tokens: int, in_flight: int, ttft_ms: float, itl_ms: float) -> dict[str, Any]:
    """A result of ``vllm bench serve --save-result`` of 20 rounds of requests with 200 output tokens."""
    count = 20 * in_flight
    stated: dict[str, Any] = {
        "date": "20260105-101500",
        "endpoint_type": "openai",
        "backend": "openai",
        "label": "openai",
        "model_id": "example/made-up",
        "tokenizer_id": "example/made-up",
        "num_prompts": count,
        "request_rate": "inf",
        "burstiness": 1.0,
        "max_concurrency": in_flight,
        "duration": 20 * (ttft_ms + 199 * itl_ms) / 1e3,
        "completed": count,
        "request_throughput": count / (20 * (ttft_ms + 199 * itl_ms) / 1e3),
        "failed": 0,
        "total_input_tokens": count * tokens,
        "total_output_tokens": count * 200,
    }
    for name, value in (("ttft", ttft_ms), ("tpot", itl_ms), ("itl", itl_ms)):
        stated |= {f"mean_{name}_ms": value, f"median_{name}_ms": value, f"std_{name}_ms": 0.01 * value}
        stated |= {f"p99_{name}_ms": 1.02 * value}
    return stated


def make_files(folder: Path) -> None:
    """Every file that a question reads, small and always the same."""

    def write(name: str, *lines: str) -> None:
        (folder / name).write_text("\n".join(lines) + "\n")

    trace = list(lengths(600, 10.0, seed=1))
    for name, rows in (("trace.csv", trace), ("long.csv", list(lengths(1200, 10.0, seed=1)))):  # a P99 takes 1,000
        write(name, "arrival_s,prompt_tokens,output_tokens", *(f"{t:.6f},{p},{o}" for t, p, o in rows))
    write(
        "azure.csv",
        "TIMESTAMP,ContextTokens,GeneratedTokens",
        *(f"2023-11-16 18:{int(t) // 60:02d}:{t % 60:010.7f},{p},{o}" for t, p, o in trace[:300]),
    )
    write(
        "mooncake.jsonl",
        *(
            json.dumps(
                {"timestamp": int(1e3 * t), "input_length": p, "output_length": o, "hash_ids": [*range(p // 512 + 1)]}
            )
            for t, p, o in trace[:100]
        ),
    )
    write("negative.csv", "arrival_s,prompt_tokens,output_tokens", "0,5,5", "1,-5,5")
    write("foreign.csv", "a,b,c", "1,2,3")
    write("rates.txt", "10", "30", "20")
    write("slo.yaml", "ttft: {p99: 2s}", "tbt: {p50: 60ms}", "e2e: {p90: 4x}")
    write("slo-bad.yaml", "ttft: {p99: 2}")
    write("prices.yaml", "machines:", "  dgx-h100: {cost_usd_per_h: 20, provisioned_power_w: 9000}")
    write("prices-bad.yaml", "machines:", "  dgx-h100: {cost_usd_per_h: -1, provisioned_power_w: 9000}")
    write("mine.json", json.dumps(CONFIG))
    write("moe.json", json.dumps(CONFIG | {"model_type": "mixtral", "num_local_experts": 8}))
    write("cut.json", json.dumps(CONFIG)[:100])
    for tokens, in_flight, ttft_ms, itl_ms in ((256, 1, 22.9, 9.1), (2048, 1, 120.5, 9.2), (256, 16, 90.0, 11.5)):
        write(f"vllm-{tokens}-{in_flight}.json", json.dumps(vllm(tokens, in_flight, ttft_ms, itl_ms)))
    points = ["phase,prompt_tokens,batch,context_tokens,latency_ms"]
    points += [f"prompt,{n},1,,{5 + 0.05 * n + 2e-6 * n * n:.4f}" for n in (128, 256, 512, 1024, 2048, 4096, 8192)]
    points += [f"decode,512,{b},{c * b},{9 + 0.05 * b + 4e-6 * c * b:.4f}" for b in (1, 4, 16, 64) for c in (512, 2048)]
    write("points.csv", *points)
    write("points-bad.csv", points[0], "prompt,512,1,,-3")
