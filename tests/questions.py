"""Fixed questions to every command of the command line, to compare the answers of two versions of the program.

``python -m tests.questions --out FOLDER`` asks them all, two at a time, of the program that is installed beside the
Python that runs it (``python -m provisioner``, from an empty folder, so not the checkout that one stands in), and
writes ``full.json`` (arguments, exit code, messages, the JSON, text or CSV that came) and ``answers.json`` (the key
numbers alone, in names that do not depend on the layout of the JSON). ``--compare`` sets them beside those of another
folder, or beside a file of answers such as ``tests/data/answers_0.1.json``::

    python -m tests.questions --out NEW                                        # 0.2's environment
    python -m tests.questions --out NEW --as-0.1 --compare tests/data/answers_0.1.json
    python -m tests.questions --out NEW --compare OLD --only plan-cost plan-power

``--as-0.1`` asks each question as 0.1 understood it, with the scheduler of the Splitwise paper, the engine
``provisioner-0.1`` and, in comparisons and capacities, the largest TP, where it names no other. What differs from run
to run (times that computing took, versions, the position of a key) is no difference; floats are
equal within 1e-9 of each other. A JSON whose layout is another one has another ``schema_version``: ``EXTRACTORS`` has a
set of functions for each, by command; without one the layout is that of 0.1.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

TOLERANCE = 1e-9  # relative difference up to which two floats are the same
DIGITS = 12  # significant digits of a float in answers.json: more than TOLERANCE tells apart
TIMEOUT_S = 300.0  # for one question
LINES = 12  # differences shown of a question

# what says how an answer was computed and not what it is, wherever it stands in the JSON
NOT_COMPARED = {"wall_s", "versions", "version"}
# the same in a text: lines that begin so
TEXT_NOT_COMPARED = ("program", "libraries", "- program", "- libraries", "| program", "| libraries", "provisioner ")


@dataclass(frozen=True)
class Question:
    """One call of the program; ``kind`` names the function that extracts its answer."""

    name: str
    arguments: tuple[str, ...]
    kind: str
    before: tuple[tuple[str, ...], ...] = ()  # calls in the same folder whose results are not kept
    files: tuple[str, ...] = ()  # what it writes, kept too


# ---------------------------------------------------------------------------------------------------- the files given

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


# ------------------------------------------------------------------------------------------------------ the questions


def ask(
    name: str, line: str, kind: str = "", *, json_too: bool = True, files: str = "", writes: str = "", before: str = ""
) -> Question:
    """A question of the words of ``line``: files of --out, others that it ``writes``, calls ``before`` it by line."""
    words = line.split()
    outs = [word for file in files.split() for word in ("--out", file)]
    calls = tuple(tuple(call.split()) for call in before.splitlines())
    arguments = (*words, *(["--json"] if json_too else []), *outs)
    return Question(name, arguments, kind or words[0], calls, (*files.split(), *writes.split()))


def as_in_0_1(question: Question) -> Question:
    """The question with what 0.1 took by default and 0.2 has to be told."""
    words = question.arguments
    bad_input = question.kind == "refusal" and not question.name.startswith("infeasible-")
    if bad_input or words[0] not in ("plan", "simulate", *_STUDIES):
        return question
    designs = [word for flag, word in pairwise(words) if flag in ("--design", "--cluster")]
    colocated = bool(designs) and all(design.startswith("baseline") for design in designs)
    added = ["--engine", "provisioner-0.1"]
    if not {"--policy", "--fast", "--assumptions"} & set(words):
        added += ["--policy", "mixed" if colocated else "splitwise"]
    if words[0] in ("compare", "capacity") and "--tp" not in words:
        added += ["--tp", "largest"]
    return replace(question, arguments=(*words, *added))


_STUDIES = ("compare", "sweep", "sensitivity", "capacity", "pareto")


def refuse(name: str, line: str) -> Question:
    return Question(name, tuple(line.split()), "refusal")


HH = "--slo p99 --design splitwise-hh --tp 8"
SMALL = "--rate 20 --duration 20 --seeds 2"
MINE = "--model llama2-70b --machine dgx-h100 --tp 8"
OWN = "models import mine.json --out own\ncurves import points.csv --model mine --machine dgx-h100 --tp 8 --out own"

PLANS = [
    # proven by simulation, one for each objective and more
    ask("plan-cost", f"plan {HH}"),
    ask("plan-readme", "plan --workload coding --slo p99", files="p.csv p.json"),
    ask("plan-power", "plan --rate 20 --slo p99 --design splitwise-hh --design splitwise-ha --tp 8 --objective power"),
    ask(
        "plan-machines", "plan --workload conversation --rate 20 --slo p99 --design baseline-h100 --objective machines"
    ),
    ask("plan-throughput", f"plan {HH} --objective throughput --max-machines 4 --duration 20"),
    ask("plan-throughput-power", f"plan {HH} --fast --objective throughput --max-power 100kW"),
    ask("plan-throughput-cost", f"plan {HH} --fast --objective throughput --max-cost 400"),
    ask("plan-all-limits", "plan --rate 20 --tp 8 --design splitwise-hh --design baseline-h100 --duration 30"),
    ask("plan-trace", f"plan {HH} --trace long.csv"),
    ask("plan-trace-workload", f"plan {HH} --workload trace.csv --rate 15 --duration 20 --cv 2"),
    ask("plan-policy-split", f"plan {HH} --rate 20 --duration 20 --policy split"),
    ask("plan-policy-chunked", "plan --rate 20 --slo p99 --design baseline-h100 --tp 8 --duration 20 --policy chunked"),
    ask("plan-network", f"plan {HH} --rate 20 --duration 20 --network ethernet-25"),
    ask("plan-bloom", "plan --model bloom-176b --workload conversation --rate 10 --design splitwise-hh --duration 30"),
    ask(
        "plan-backlog",
        "plan --slo batch --backlog 100k --within 2h --design baseline-h100 --design baseline-a100 --tp 8",
    ),
    ask("plan-deadline", "plan --workload summarisation --rate 5 --slo batch --deadline 60s --machine dgx-h100 --tp 8"),
    ask("plan-against", f"plan {HH} --rate 20 --duration 20 --against p90"),
    ask("plan-seeds-seed", f"plan {HH} --rate 20 --duration 20 --seeds 3 --seed 7 --confidence 0.9 --exhaustive"),
    ask(
        "plan-today",
        "plan --model llama-3.1-70b --dtype fp8 --tp 2 --slo batch --ttft-p99 1s --tbt-p99 50ms --rate 70"
        " --workload conversation --design splitwise-h2b --design baseline-h200 --duration 20",
    ),
    # by the formulas
    ask("plan-fast", "plan --fast"),
    ask("plan-fast-conversation", "plan --fast --tp 8 --workload conversation --slo p99 --headroom 20%"),
    ask("plan-stock", "plan --fast --slo p99 --stock dgx-h100=10 --tp 8"),
    ask("plan-power-caps", "plan --fast --slo p99 --power-caps 100,70,50 --objective power --tp 8"),
    ask("plan-prices", f"plan {HH} --fast --prices paper"),
    ask("plan-prices-file", f"plan {HH} --fast --prices prices.yaml --machine dgx-h100"),
    ask("plan-limits", "plan --fast --slo batch --ttft-p99 2s --tbt-p50 60ms --tp 8 --max-cost 700 --headroom 0.1"),
    ask("plan-slo-file", "plan --fast --slo slo.yaml --tp 8 --objective machines"),
    ask("plan-scale", f"plan {HH} --fast --scale rate=1.3 --scale prompt-time:dgx-h100=0.8 --scale price=2"),
    ask(
        "plan-assumptions",
        "plan --fast --slo p99 --tp 8 --assumptions splitwise-sim --independent --reference dgx-h100",
    ),
    ask("plan-estimated", "plan --fast --slo p99 --model llama-3.1-8b --rate 10 --evidence estimated --tp 1"),
    ask("plan-own-model", "plan --fast --slo batch --ttft-p99 2s --specs own --model mine --rate 5 --tp 8", before=OWN),
    ask("plan-text", f"plan {HH} --fast", "text", json_too=False),
    ask("plan-markdown", f"plan {HH} --fast", files="p.md p.csv p.html p.svg"),
]

SIMULATIONS = [
    ask("simulate", f"simulate --design splitwise-hh --prompt 6 --token 2 {SMALL} --slo p99", files="s.csv"),
    ask("simulate-chunked", f"simulate --design baseline-h100 --mixed 8 {SMALL} --policy chunked --batch-tokens 1024"),
    ask("simulate-mixed", f"simulate --design baseline-a100 --mixed 14 {SMALL} --percentile 99.9 --tp 4"),
    ask(
        "simulate-pools",
        "simulate --pool prompt:dgx-h100=5 --pool token:dgx-a100:4=2 --rates 10,30,20 --network ethernet-25",
    ),
    ask("simulate-fail", f"simulate --design splitwise-ha --prompt 7 --token 3 {SMALL} --fail token:1@5s-10s"),
    ask("simulate-closed", "simulate --design splitwise-hh --prompt 4 --token 2 --in-flight 32 --requests 800"),
    ask("simulate-trace", "simulate --design splitwise-hh --prompt 3 --token 1 --trace trace.csv --policy split"),
    ask("simulate-unstable", f"simulate --design splitwise-hh --prompt 2 --token 1 {SMALL}"),
    ask("simulate-bloom", f"simulate --model bloom-176b --design splitwise-hhcap --prompt 8 --token 2 {SMALL} --cv 3"),
    ask("simulate-sim", f"simulate --design splitwise-hh --prompt 6 --token 2 {SMALL} --assumptions splitwise-sim"),
    ask(
        "simulate-rates-file",
        "simulate --design baseline-h100 --mixed 8 --rates rates.txt --warm-up 0.2 --cool-down 5%",
    ),
    ask("simulate-text", f"simulate --design splitwise-hh --prompt 6 --token 2 {SMALL}", "text", json_too=False),
    ask(
        "simulate-records",
        "simulate --design baseline-h100 --mixed 2 --rate 4 --duration 10 --records r.csv",
        writes="r.csv",
    ),
]

STUDIES = [
    ask(
        "compare-machines",
        f"compare --same machines --budget 8 --fast {HH} --design splitwise-ha --design baseline-h100",
    ),
    ask("compare-throughput", "compare --same throughput --rate 20 --slo p99 --tp 8 --fast", files="c.csv"),
    ask(
        "compare-power",
        "compare --budget 60kW --slo p99 --tp 8 --duration 20 --design splitwise-hh --design baseline-h100 --chunked",
    ),
    ask("sweep", "sweep --design splitwise-hh --prompt 4:10 --token 1:3 --rate 20 --duration 20", files="w.csv"),
    ask(
        "sweep-mixed", "sweep --design baseline-h100 --mixed 4:12:2 --rate 20 --duration 20 --slo p99 --objective power"
    ),
    ask(
        "sweep-vary-rate",
        "sweep --cluster splitwise-hh=8+2 --cluster baseline-h100=10 --vary rate=10:40:10 --duration 20",
        files="v.csv",
    ),
    ask("sweep-vary-tp", "sweep --cluster baseline-h100=6 --vary tp=2,4,8 --rate 15 --duration 20 --slo p99"),
    ask("sweep-vary-factor", "sweep --cluster splitwise-hh=6+2 --vary decode-time=0.8:1.2:0.2 --rate 20 --duration 20"),
    ask(
        "sensitivity-tornado",
        f"sensitivity {HH} --fast --input rate --input price:dgx-h100 --spread 10%",
        files="t.csv",
    ),
    ask(
        "sensitivity-switch", f"sensitivity {HH} --design splitwise-ha --fast --switch price:dgx-a100=0.2:2 --probes 3"
    ),
    ask("sensitivity-map", f"sensitivity {HH} --design baseline-h100 --fast --rates 20,40 --ratios 10,70"),
    ask("capacity", f"capacity --prompt 6 --token 2 {HH} --duration 20 --to 32", files="k.csv"),
    ask("capacity-mixed", "capacity --design baseline-h100 --mixed 4 --tp 8 --duration 20 --no-additions"),
    ask("pareto", "pareto --rate 20 --slo p99 --fast --tp 8", files="o.csv"),
    ask(
        "pareto-proven",
        "pareto --rate 10 --slo p99 --tp 8 --design splitwise-ha --design splitwise-hhcap --duration 20",
    ),
    ask("reproduce", "reproduce splitwise --only machines --only transfer", files="r.md"),
]

CATALOG = [
    ask("machines", "machines"),
    ask("machine", "machines dgx-h100"),
    ask("machines-text", "machines", "text", json_too=False),
    ask("models", "models"),
    ask("model", "models llama2-70b"),
    ask("workloads", "workloads"),
    ask("workload", "workloads show coding"),
    ask("workload-trace", "workloads show trace.csv"),
    ask("curves", "curves"),
    ask("curves-machine", "curves show dgx-a100"),
    ask("curves-own", "curves mine --specs own", before=OWN),
    ask("workloads-import", "workloads import trace.csv", "workloads import"),
    ask("workloads-import-azure", "workloads import azure.csv --name az --rate 9 --out az.yaml", "workloads import"),
    ask("workloads-import-mooncake", "workloads import mooncake.jsonl", "workloads import"),
    ask("models-import", "models import mine.json --out own --title Mine", "models import"),
    ask(
        "curves-import-vllm", f"curves import vllm-256-1.json vllm-2048-1.json vllm-256-16.json {MINE}", "curves import"
    ),
    ask("curves-import-points", f"curves import points.csv {MINE} --out own", "curves import"),
    ask("version", "--version", "version", json_too=False),
]

REFUSALS = [
    refuse("no-command", "plann"),
    refuse("no-flag", "plan --rat 5"),
    refuse("no-value", "plan --rate"),
    refuse("no-unit", "plan --ttft-p99 2"),
    refuse("bad-power", "plan --max-power 400GW"),
    refuse("bad-rate", "simulate --design baseline-h100 --mixed 4 --rate -5"),
    refuse("bad-tp", "plan --tp biggest"),
    refuse("no-workload", "plan --workload codin"),
    refuse("no-model", "simulate --model llama2-7b --design baseline-h100 --mixed 4"),
    refuse("no-machine", "machines dgx-h10"),
    refuse("no-design", "compare --budget 8 --same machines --design splitwise-hx"),
    refuse("no-network", "plan --network carrier-pigeon"),
    refuse("no-objective", "pareto --objective cost"),
    refuse("no-input", "sensitivity --input weather"),
    refuse("no-experiment", "reproduce splitwise --only fig-99"),
    refuse("contradiction-trace", "plan --trace trace.csv --rate 5"),
    refuse("contradiction-backlog", "plan --backlog 2M --slo batch"),
    refuse("contradiction-policy", "simulate --design baseline-h100 --mixed 4 --policy split"),
    refuse("contradiction-pools", "simulate --design splitwise-hh --mixed 4"),
    refuse("contradiction-capacity", "capacity --design splitwise-hh --prompt 4"),
    refuse("contradiction-vary", "sweep --design splitwise-hh --prompt 4 --token 1:3 --vary rate=10:40:10"),
    refuse("unbounded", "plan --objective throughput"),
    refuse("no-budget", "compare --same power"),
    refuse("missing-trace", "plan --trace none.csv"),
    refuse("missing-specs", "simulate --design baseline-h100 --mixed 4 --specs none"),
    refuse("bad-slo-file", "plan --slo slo-bad.yaml"),
    refuse("bad-prices-file", "plan --prices prices-bad.yaml"),
    refuse("bad-out", "plan --out plan.txt"),
    refuse("bad-trace", "workloads import negative.csv"),
    refuse("foreign-trace", "workloads import foreign.csv"),
    refuse("model-not-understood", "models import moe.json --out own"),
    refuse("model-cut", "models import cut.json"),
    refuse("points-bad", f"curves import points-bad.csv {MINE}"),
    refuse("points-no-model", "curves import points.csv --machine dgx-h100 --tp 8"),
    refuse("profile-without-gpu", "profile --model llama-3.1-8b --machine dgx-h100 --out own"),
    refuse("profile-no-model", "profile --model llama-3-8b --machine dgx-h100 --out own"),
    refuse("profile-bad-memory", "profile --model llama-3.1-8b --machine dgx-h100 --out own --memory much"),
    refuse("infeasible-limit", "plan --ttft-p99 50ms --tp 8"),
    refuse("infeasible-network", f"plan {HH} --rate 20 --duration 20 --network ethernet-10"),
    refuse("infeasible-cost", f"plan {HH} --fast --max-cost 100"),
    refuse("infeasible-stock", f"plan {HH} --fast --stock dgx-h100=1"),
    refuse("infeasible-proven", f"plan {HH} --rate 20 --duration 20 --max-machines 4"),
    refuse("infeasible-pareto", f"pareto {HH} --fast --max-power 20kW"),
    refuse(
        "infeasible-capacity", "capacity --design splitwise-hh --prompt 1 --token 1 --tp 8 --ttft-p50 1ms --duration 20"
    ),
]


# -------------------------------------------------------------------------------------------- the answers of 0.1's JSON

Json = Any
Extract = Callable[[Json], Json]


def _latencies(rows: list[Json]) -> Json:
    return {
        f"{row['metric']} {row['percentile']}": [row["seconds"], row["slowdown"], row["limit"], row["met"]]
        for row in rows
    }


def _pools(pools: list[Json]) -> Json:
    """Role, machine and number of each pool, and the tensor parallelism where it is said."""
    return [[p["role"], p["machine"], p["machines"], p.get("tensor_parallel")] for p in pools]


def plan_01(data: Json) -> Json:
    evidence = data["evidence"] or {}
    return {
        "design": data["design"],
        "pools": _pools(data["pools"]),
        "utilization": [pool["utilization"] for pool in data["pools"]],
        "cost_usd_per_h": data["cost_usd_per_h"],
        "power_w": data["power_w"],
        "machines": data["machines"],
        "rate_rps": [data["rate_rps"], data["planned_rate_rps"]],
        "usd_per_million": [data["cost_usd_per_million_tokens"], data["cost_usd_per_million_output_tokens"]],
        "optimal": evidence.get("optimal"),
        "bound": [evidence.get("lower_bound"), evidence.get("gap"), data["gap"]],
        "binding": sorted(data["binding"]),
        "worst_slack": data["worst_slack"],
        "latency": {
            f"{metric} {percentile}": [value["seconds"], value["slowdown"], value["limit"], value["slack"]]
            for metric, by_percentile in data["latency"].items()
            for percentile, value in by_percentile.items()
        },
        "alternatives": [
            [a["design"], a["feasible"], a["cost_usd_per_h"], a["power_w"], a["machines"]]
            for a in sorted(data["alternatives"], key=lambda a: str(a["design"]))
        ],
        "fail": [
            [n["design"], [pool["machines"] for pool in n["pools"]], n["worst_ratio"]]
            for n in evidence.get("neighbours", [])
        ],
        "batch": data["batch"] and [data["batch"][key] for key in ("requests", "within_s", "rate_rps", "done_s")],
        "promise": data["promise"] and [data["promise"][key] for key in ("design", "cost_usd_per_h", "machines")],
        "warnings": len(data["warnings"]),
    }


def plan_02(data: Json) -> Json:
    """As in 0.1, whose latencies are by metric and percentile, and their limits numbers."""
    latency: dict[str, dict[str, Json]] = {}
    for figure in data["latency"]:
        by_percentile = latency.setdefault(figure["metric"], {})
        by_percentile[f"p{figure['percentile']:g}"] = figure | {"limit": figure["limit"] and figure["limit"]["value"]}
    return plan_01(data | {"latency": latency})


def simulate_01(data: Json) -> Json:
    return {
        "design": data["design"],
        "pools": _pools(data["pools"]),
        "busy": [[pool[key] for key in ("utilization", "mean_batch", "kv_memory_most")] for pool in data["pools"]],
        "latency": _latencies(data["latency"]),
        "slo_met": data["slo"]["met"],
        "stable": data["stable"],
        "requests": [data["requests"], data["measured_requests"], data["sets"], data["unfinished"]],
        "throughput": [data["throughput_rps"], data["throughput_tokens_per_s"]],
        "rate_rps": data["rate_rps"],
        "events": [data["moves"], data["preemptions"], data["restarts"]],
        "policy": data["policy"],
        "warnings": len(data["warnings"]),
    }


def compare_01(data: Json) -> Json:
    keys = [
        "feasible",
        "rate_rps",
        "cost_usd_per_h",
        "power_w",
        "machines",
        "throughput_ratio",
        "cost_ratio",
        "power_ratio",
        "worst_slack",
    ]
    return {
        "baseline": data["baseline"],
        "designs": {
            row["label"]: [row["plan"] and _pools(row["plan"]["pools"]), *(row[key] for key in keys)]
            for row in data["designs"]
        },
    }


def compare_02(data: Json) -> Json:
    """As in 0.1, with totals in the plan of each design, and the ratios of all apart."""

    def row(design: Json) -> Json:
        plan, ratios = design["plan"], data["ratios"][design["label"]]
        totals = {key: plan and plan[key] for key in ("rate_rps", "cost_usd_per_h", "power_w", "machines")}
        totals |= {f"{name}_ratio": ratio for name, ratio in ratios.items()}
        return design | totals | {"feasible": plan is not None, "worst_slack": plan and plan["worst_slack"]}

    return compare_01(data | {"designs": [row(design) for design in data["designs"]]})


def _cell(cell: Json) -> Json:
    keys = [
        "state",
        "worst_ratio",
        "binding",
        "ttft_p99_s",
        "tbt_p99_s",
        "e2e_p99_s",
        "throughput_rps",
        "cost_usd_per_h",
        "power_w",
    ]
    return [*(cell[key] for key in cell if key.endswith("_machines")), *(cell[key] for key in keys)]


def sweep_01(data: Json) -> Json:
    if "points" in data:
        return {
            "values": data["values"],
            "points": [[point["cluster"], point[data["column"]], *_cell(point)] for point in data["points"]],
            "passes": {cluster["cluster"]: cluster["passes"] for cluster in data["clusters"]},
        }
    return {
        "optimum": data["optimum"] and _cell(data["optimum"]),
        "frontier": [_cell(cell) for cell in data["frontier"]],
        "states": data["states"],
        "cells": [_cell(cell) for cell in data["cells"]],
    }


def _small_plan(data: Json) -> Json:
    keys = ["feasible", "design", "pools", "cost_usd_per_h", "power_w", "machines", "rate_rps"]
    return data and [data[key] for key in keys]


def sensitivity_01(data: Json) -> Json:
    return {
        "base": _small_plan(data["base"]),
        "swings": {swing["name"]: [_small_plan(swing["low"]), _small_plan(swing["high"])] for swing in data["swings"]},
        "switches": {
            search["name"]: [
                [s["below"], s["above"], s["before"]["design"], s["after"]["design"]] for s in search["switches"]
            ]
            for search in data["searches"]
        },
        "map": [
            [cell["rate_rps"], cell["ratio"], *(_small_plan(cell[kind]) for kind in ("split", "mixed", "chunked"))]
            for cell in data["cells"]
        ],
    }


def capacity_01(data: Json) -> Json:
    return {
        "design": data["design"],
        "pools": _pools(data["pools"]),
        "rate_rps": data["rate_rps"],
        "failed_rps": data["failed_rps"],
        "binding": data["binding"],
        "breaks": [[b["limit"], b["ratio"]] for b in data["breaks"]],
        "latency": _latencies(data["latency"]),
        "additions": [
            [
                a["design"],
                a["rate_rps"],
                a["feasible"],
                a["added_machines"],
                a["added_cost_usd_per_h"],
                a["cost_usd_per_h"],
            ]
            for a in data["additions"]
        ],
        "cost": [data["cost_usd_per_h"], data["power_w"]],
    }


def pareto_01(data: Json) -> Json:
    return {
        "points": [
            [
                p["design"],
                _pools(p["plan"]["pools"]),
                p["cost_usd_per_h"],
                p["power_w"],
                p["machines"],
                p["worst_slack"],
            ]
            for p in data["points"]
        ],
        "proven": [point["proven"] for point in data["points"]],
        "complete": data["complete"],
        "rate_rps": data["rate_rps"],
    }


def pareto_02(data: Json) -> Json:
    """As in 0.1, whose points had their plan beside its totals, and those that are not proven among them."""
    proven = [plan | {"plan": plan, "proven": True} for plan in data["points"]]
    others = [plan | {"plan": plan, "proven": False} for plan in data["candidates"]]
    return pareto_01(data | {"points": proven + others})


def reproduce_01(data: Json) -> Json:
    return {
        "findings": [
            [f[key] for key in ("experiment", "result", "published", "simulator", "measured")] for f in data["findings"]
        ],
        "values": data["values"],
    }


def _each(data: Json, one: Extract) -> Json:
    """A list by name, or what is shown of one."""
    return {row["name"]: one(row) for row in (data if isinstance(data, list) else [data])}


def machines_01(data: Json) -> Json:
    keys = [
        "gpus",
        "memory_bytes",
        "max_power_w",
        "network_bytes_per_s",
        "gpu_link_gb_per_s",
        "peak_fp16_tflops",
        "released",
    ]
    return _each(
        data,
        lambda row: [
            *(row[key] for key in keys),
            {name: [p["cost_usd_per_h"], p["provisioned_power_w"]] for name, p in row["prices"].items()},
            [[curve["model"], curve["tensor_parallel"]] for curve in row["curves"]],
        ],
    )


def models_01(data: Json) -> Json:
    keys = [
        "layers",
        "hidden_size",
        "heads",
        "kv_heads",
        "parameters",
        "trained_context_tokens",
        "weight_bytes",
        "kv_bytes_per_token",
        "dtype",
    ]
    return _each(
        data,
        lambda row: [
            *(row[key] for key in keys),
            len(row["machines"]),
            sum(m["kv_capacity_tokens"] or 0 for m in row["machines"]),
        ],
    )


def workloads_01(data: Json) -> Json:
    return _each(
        data,
        lambda row: [*(row[key] for key in ("rate_rps", "cv", "classes", "prompt_tokens", "output_tokens"))],
    )


def curves_01(data: Json) -> Json:
    return {
        "measured": [
            [
                c["model"],
                c["machine"],
                c["tensor_parallel"],
                c["points"],
                [e["mape"] for e in c["errors_points_left_out"]],
            ]
            for c in data["measured"]
        ],
        "machines": [[m["machine"], m["evidence"], m["tensor_parallel"], m["errors"]] for m in data["machines"]],
        "coverage": [
            len(data.get("coverage", [])),
            sum(c["kv_capacity_tokens"] or 0 for c in data.get("coverage", [])),
        ],
    }


def workloads_import_01(data: Json) -> Json:
    return {
        key: data[key] for key in ("format", "requests", "prompt_tokens", "output_tokens", "arrivals", "prefix_reuse")
    }


def models_import_01(data: Json) -> Json:
    return {
        key: data[key]
        for key in ("name", "layers", "heads", "kv_heads", "parameters", "weight_bytes", "kv_bytes_per_token")
    }


def curves_import_01(data: Json) -> Json:
    return {
        "points": [
            [p[key] for key in ("phase", "prompt_tokens", "batch", "context_tokens", "latency_s", "repeats")]
            for p in data["points"]
        ],
        "fit": [[f["phase"], f["points"], f["median"], f["largest"]] for f in data["fit"]],
        "identified": [len(data["identified"]), len(data["not_identified"])],
    }


def text_01(lines: Json) -> Json:
    return lines[0]


def _nothing(_: Json) -> Json:
    return None


# --------------------------------------------------------------------------------- the same of layout 2, which 0.2 has


def _number(value: Json) -> Json:
    """A mean over request sets where there is one; infinite and missing numbers are null in the JSON."""
    return value["mean"] if isinstance(value, dict) else value


def _percentile(row: Json) -> str:
    """A percentile as 0.1 names it: ``largest_gap p99.9``."""
    return f"{'largest_gap' if row['metric'] == 'gap' else row['metric']} p{row['percentile']:g}"


def _latencies_02(rows: list[Json]) -> Json:
    return {
        _percentile(row): [
            _number(row["seconds"]),
            _number(row["slowdown"]),
            row["limit"] and row["limit"]["value"],
            row["met"] or "",
        ]
        for row in rows
    }


def simulate_02(data: Json) -> Json:
    return {
        **{key: data[key] for key in ("design", "slo_met", "stable", "rate_rps", "policy")},
        "pools": _pools(data["pools"]),
        "busy": [[pool[key] for key in ("utilization", "mean_batch", "kv_memory_most")] for pool in data["pools"]],
        "latency": _latencies_02(data["latency"]),
        "requests": [data["requests"], data["measured_requests"], data["sets"], data["unfinished"]],
        "throughput": [data["throughput_rps"], data["throughput_tokens_per_s"]],
        "events": [data["moves"], data["preemptions"], data["restarts"]],
        "warnings": len(data["warnings"]),
    }


def _sizes(cluster: str) -> list[int]:
    """Numbers of machines of a cluster's pools by its name: ``Splitwise-HH:2+4 6 + 2``."""
    sizes = cluster.split(" ", maxsplit=1)[1]
    return [int(size.split()[0]) for size in sizes.split(" + ")]


def _point(point: Json) -> Json:
    """A point of a grid in the order of ``_cell``."""
    p99 = {row["metric"]: row["seconds"] for row in point["latency"] if row["percentile"] == 99.0}
    return [
        *_sizes(point["cluster"]),
        *(point[key] for key in ("state", "worst_ratio", "binding")),
        *(p99.get(metric) for metric in ("ttft", "tbt", "e2e")),
        point["throughput_rps"],
        *(point["totals"][key] for key in ("cost_usd_per_h", "power_w")),
    ]


def grid_02(data: Json) -> Json:
    if data["varied"] is not None:
        spans: dict[str, Json] = {point["cluster"]: [] for point in data["points"]}
        for span in data["passes"]:
            spans[span["cluster"]].append([span["first"], span["last"]])
        return {
            "values": data["varied"]["values"],
            "points": [[point["cluster"], point["value"], *_point(point)] for point in data["points"]],
            "passes": spans,
        }
    return {
        "optimum": None if data["optimum"] is None else _point(data["points"][data["optimum"]]),
        "frontier": [_point(data["points"][k]) for k in data["frontier"]],
        "states": data["states"],
        "cells": [_point(point) for point in data["points"]],
    }


def capacity_02(data: Json) -> Json:
    labels = {"ttft": "TTFT", "tbt": "TBT", "gap": "largest gap", "e2e": "E2E"}
    totals = data["totals"]
    return {
        "pools": [[p["role"], p["machine"], p["machines"], None] for p in data["pools"]],
        **{key: data[key] for key in ("design", "rate_rps", "failed_rps", "binding")},
        "breaks": [[f"{labels[b['metric']]} P{b['percentile']:g}", b["over_limit"]] for b in data["breaks"]],
        "latency": _latencies_02(data["latency"]),
        "additions": [
            [
                data["design"],
                a["rate_rps"],
                a["feasible"],
                a["totals"] and a["totals"]["machines"],
                a["totals"] and a["totals"]["cost_usd_per_h"],
                a["totals"] and totals["cost_usd_per_h"] + a["totals"]["cost_usd_per_h"],
            ]
            for a in data["additions"]
        ],
        "cost": [totals["cost_usd_per_h"], totals["power_w"]],
    }


def _outcome(data: Json) -> Json:
    """A plan in brief in the order of ``_small_plan``."""
    cluster = data["cluster"] or {"design": "", "pools": []}
    pools = [[pool["role"], pool["machine"], pool["machines"]] for pool in cluster["pools"]]
    totals = [data["totals"] and data["totals"][key] for key in ("cost_usd_per_h", "power_w", "machines")]
    return [data["feasible"], cluster["design"], pools, *totals, data["rate_rps"]]


def _colocated(cell: Json) -> list[Json]:
    """The best colocated plans of a cell with mixed batching and with chunked prefill."""
    none = {"cluster": None, "totals": None, "feasible": False, "rate_rps": None}
    return [cell["colocated"].get(policy, none) for policy in ("mixed", "chunked")]


def sensitivity_02(data: Json) -> Json:
    return {
        "base": _outcome(data["base"]),
        "swings": {swing["name"]: [_outcome(swing["low"]), _outcome(swing["high"])] for swing in data["swings"]},
        "switches": {
            search["name"]: [
                [s["below"], s["above"], _outcome(s["before"])[1], _outcome(s["after"])[1]] for s in search["switches"]
            ]
            for search in data["searches"]
        },
        "map": [
            [cell["rate_rps"], cell["ratio"], *(_outcome(each) for each in (cell["split"], *_colocated(cell)))]
            for cell in data["cells"]
        ],
    }


EXTRACTORS: dict[str, dict[str, Extract]] = {
    "0.1": {
        "plan": plan_01,
        "simulate": simulate_01,
        "compare": compare_01,
        "sweep": sweep_01,
        "sensitivity": sensitivity_01,
        "capacity": capacity_01,
        "pareto": pareto_01,
        "reproduce": reproduce_01,
        "machines": machines_01,
        "models": models_01,
        "workloads": workloads_01,
        "curves": curves_01,
        "workloads import": workloads_import_01,
        "models import": models_import_01,
        "curves import": curves_import_01,
        "text": text_01,
        "version": _nothing,
        "refusal": _nothing,
    },
    "2": {
        "plan": plan_02,
        "simulate": simulate_02,
        "sweep": grid_02,
        "sensitivity": sensitivity_02,
        "capacity": capacity_02,
        "reproduce": reproduce_01,
        "compare": compare_02,
        "pareto": pareto_02,
    },
}

QUESTIONS = {question.name: question for question in (*PLANS, *SIMULATIONS, *STUDIES, *CATALOG, *REFUSALS)}


# ------------------------------------------------------------------------------------------------------------- asking


def run(arguments: tuple[str, ...], folder: Path) -> subprocess.CompletedProcess[str]:
    """The installed program, from a folder without a checkout, in the plainest surroundings."""
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PROVISION"))}
    surroundings |= {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb", "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-m", "provisioner", *arguments]
    return subprocess.run(
        command,
        cwd=folder,
        env=surroundings,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        stdin=subprocess.DEVNULL,
    )


def parsed(text: str, ending: str) -> Json:
    if ending == ".json":
        return json.loads(text)
    if ending == ".csv":
        return [dict(row) for row in csv.DictReader(text.splitlines())]
    return text.splitlines()


def read_file(path: Path) -> Json:
    if not path.is_file():
        return None
    if path.suffix in {".csv", ".json", ".md"}:
        return parsed(path.read_text(), path.suffix)
    return "written" if path.stat().st_size else "empty"


def pose(question: Question) -> tuple[dict[str, Any], float]:
    """The answer to a question, and the time in s that it took."""
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_files(folder)
        for call in question.before:
            ended = run(call, folder)
            if ended.returncode:
                raise SystemExit(f"{question.name}: provision {' '.join(call)} ended with {ended.stderr}")
        ended = run(question.arguments, folder)
        output: Json = ended.stdout.splitlines()
        if "--json" in question.arguments and not ended.returncode:
            output = parsed(ended.stdout, ".json")
        said = [line for line in ended.stderr.splitlines() if line.strip()] if ended.returncode else []
        record = {
            "arguments": list(question.arguments),
            "exit": ended.returncode,
            "error": next((line for line in reversed(said) if line.startswith("error: ")), said[-1] if said else ""),
            "nearest": [line for line in said if line.startswith("nearest: ")],
            "output": output,
            "files": {file: read_file(folder / file) for file in question.files},
        }
    return record, time.perf_counter() - begun


def rounded(data: Json) -> Json:
    if isinstance(data, dict):
        return {key: rounded(value) for key, value in data.items()}
    if isinstance(data, list):
        return [rounded(value) for value in data]
    return float(f"{data:.{DIGITS}g}") if isinstance(data, float) else data


def answer(question: Question, record: dict[str, Any]) -> Json:
    """Exit code, message and the key numbers of a record, free of the layout of its JSON."""
    short: dict[str, Any] = {"exit": record["exit"]}
    if record["exit"]:
        return short | {"error": record["error"], "nearest": record["nearest"]}
    output = record["output"]
    schema = output.get("schema_version", "0.1") if isinstance(output, dict) else "0.1"
    try:
        short["answer"] = rounded(EXTRACTORS[str(schema)][question.kind](output))
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        short["answer"] = f"not extracted: schema {schema}, {type(error).__name__} {error}"
    if question.files:
        short["files"] = {
            name: len(data) if isinstance(data, list) else bool(data) for name, data in record["files"].items()
        }
    return short


# ---------------------------------------------------------------------------------------------------------- comparing


def kept(text: str) -> bool:
    return not text.lstrip().startswith(TEXT_NOT_COMPARED)


def comparable(data: Json) -> Json:
    """Without what may differ from run to run; texts as numbers where they are numbers."""
    if isinstance(data, dict):
        return {key: comparable(value) for key, value in data.items() if key not in NOT_COMPARED}
    if isinstance(data, list):
        rows = (row for row in data if not (isinstance(row, dict) and row.get("section") == "version"))
        return [comparable(row) for row in rows if not isinstance(row, str) or kept(row)]
    if isinstance(data, str):
        try:
            return float(data)  # a cell of a CSV
        except ValueError:
            return data
    return data


def same(one: Json, other: Json) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=1e-12) or (math.isnan(one) and math.isnan(other))
    return bool(one == other)


def shown(value: Json) -> str:
    text = json.dumps(value)
    return text if len(text) <= 90 else f"{text[:87]}..."


def differences(old: Json, new: Json, at: str = "") -> Iterator[str]:
    """Lines that say where two trees differ and by what."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in old:
            if key not in new:
                yield f"{at}.{key}: gone, was {shown(old[key])}"
            else:
                yield from differences(old[key], new[key], f"{at}.{key}")
        yield from (f"{at}.{key}: new, {shown(new[key])}" for key in new if key not in old)
    elif isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            yield f"{at}: {len(old)} entries, now {len(new)}"
        for place, (one, other) in enumerate(zip(old, new, strict=False)):
            yield from differences(one, other, f"{at}[{place}]")
    elif not same(old, new):
        relative = ""
        if all(isinstance(v, int | float) and not isinstance(v, bool) for v in (old, new)) and old:
            relative = f" ({(new - old) / abs(old):+.2e})"
        yield f"{at}: {shown(old)} -> {shown(new)}{relative}"


def compare(old: dict[str, Any], new: dict[str, Any], names: list[str], what: str, most: int) -> int:
    """Print what differs, by question; how many questions differ."""
    different = 0
    for name in names:
        if name not in old or name not in new:
            print(f"{name}: {'not in the old' if name not in old else 'not in the new'} {what}")
            different += 1
            continue
        lines = list(differences(comparable(old[name]), comparable(new[name])))
        if lines:
            different += 1
            print(f"{name}: {len(lines)} differences in its {what}")
            print("\n".join(f"    {line.lstrip('.')}" for line in lines[:most]))
            if len(lines) > most:
                print(f"    ... and {len(lines) - most} more (--lines)")
    print(f"{what}: {len(names) - different} of {len(names)} questions the same")
    return different


# --------------------------------------------------------------------------------------------------------------- main


def load(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text())) if path.is_file() else {}


def save_answers(path: Path, answers: dict[str, Any]) -> None:
    """A line for each question, so that a change of one is a change of a line."""
    lines = (
        f"{json.dumps(name)}:{json.dumps(answers[name], sort_keys=True, separators=(',', ':'))}"
        for name in sorted(answers)
    )
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.questions", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for full.json and answers.json")
    parser.add_argument("--compare", type=Path, help="such a folder of another version, or its answers.json alone")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=list(QUESTIONS), help="these questions alone")
    parser.add_argument("--reuse", action="store_true", help="ask nothing that --out has: extract and compare again")
    parser.add_argument("--jobs", type=int, default=2, help="questions asked at once (2)")
    parser.add_argument("--as-0.1", action="store_true", dest="as_0_1", help="ask with the defaults of 0.1")
    parser.add_argument("--lines", type=int, default=LINES, help=f"differences shown of a question ({LINES})")
    given = parser.parse_args()
    names = given.only or list(QUESTIONS)

    given.out.mkdir(parents=True, exist_ok=True)
    full = {name: record for name, record in load(given.out / "full.json").items() if name in QUESTIONS}
    wanted = [name for name in names if not (given.reuse and name in full)]
    asked = {name: as_in_0_1(QUESTIONS[name]) if given.as_0_1 else QUESTIONS[name] for name in names}
    begun = time.perf_counter()
    if wanted:
        run(("--version",), Path(tempfile.gettempdir()))
        with ThreadPoolExecutor(given.jobs) as pool:
            for name, (record, took_s) in zip(wanted, pool.map(lambda n: pose(asked[n]), wanted), strict=True):
                full[name] = record
                print(f"{took_s:6.1f} s  exit {record['exit']}  {name}", file=sys.stderr)
        print(f"{len(wanted)} questions in {time.perf_counter() - begun:.0f} s", file=sys.stderr)
    answers = {name: answer(QUESTIONS[name], full[name]) for name in full}
    (given.out / "full.json").write_text(json.dumps(full, sort_keys=True, indent=0) + "\n")
    save_answers(given.out / "answers.json", answers)

    if not given.compare:
        return 0
    alone = given.compare.is_file()
    different = compare(
        load(given.compare if alone else given.compare / "answers.json"), answers, names, "answer", given.lines
    )
    if not alone:
        different += compare(load(given.compare / "full.json"), full, names, "output", given.lines)
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main())
