"""The questions, by kind."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise


@dataclass(frozen=True)
class Question:
    """One call of the program; ``kind`` names the function that extracts its answer."""

    name: str
    arguments: tuple[str, ...]
    kind: str
    before: tuple[tuple[str, ...], ...] = ()  # calls in the same folder whose results are not kept
    files: tuple[str, ...] = ()  # what it writes, kept too


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

DENSE = "--model llama-3.1-70b --dtype fp8 --workload conversation --ttft-p99 1s --tbt-p99 50ms"

# of what 0.1 did not have, under today's defaults
PROMISES = [
    ask("promise-conversation", "plan --workload conversation", "promise"),
    ask("promise-dense", f"plan {DENSE} --rate 70", "promise"),
    ask("promise-survive-1", "plan --slo p99 --design splitwise-hh --design baseline-h100 --survive 1", "promise"),
    ask("promise-survive-2", "plan --slo p99 --design splitwise-ha --tp 2,4 --rate 20 --survive 2", "promise"),
    ask("promise-robust", f"plan {DENSE} --rate 20 --machine dgx-h100 --machine dgx-h200 --robust", "promise"),
    ask("promise-attainment", "plan --ttft 2s --tbt 100ms --attainment 99% --tp 4,8 --rate 30", "promise"),
    ask("promise-own-budgets", "plan --slo p99 --batch-tokens own --tp 4,8", "promise"),
    ask("promise-two-budgets", "plan --slo p99 --batch-tokens 512,2048 --workload conversation --rate 30", "promise"),
    ask("promise-deflect", "plan --slo p99 --policy deflect --design splitwise-hh --tp 8 --rate 30", "promise"),
    ask("promise-reserve", f"plan {DENSE} --rate 30 --machine dgx-h100 --engine tensorrt-llm", "promise"),
    ask("promise-vllm-2025", f"plan {DENSE} --rate 30 --machine dgx-b200 --engine vllm-2025", "promise"),
    ask("promise-instances", "plan --model llama-3.1-8b --rate 5 --ttft-p99 1s --tbt-p99 50ms --instances", "promise"),
    ask("promise-power", f"plan {DENSE} --rate 70 --objective power --machine dgx-h100 --machine dgx-b200", "promise"),
    ask("promise-machines", "plan --slo p90 --objective machines --headroom 20%", "promise"),
    ask("promise-stable", "plan --slo none --workload conversation --rate 40", "promise"),
    ask("promise-gap", "plan --gap-p99 500ms --ttft-p90 2s --rate 20 --tp 4,8", "promise"),
    ask("promise-stock", "plan --slo p99 --stock dgx-h100=5 --max-power 150kW", "promise"),
    ask("promise-network", "plan --slo p99 --design splitwise-hh --network ethernet-100 --rate 100", "promise"),
    ask("promise-throughput", f"plan {DENSE} --objective throughput --max-machines 3 --machine dgx-h200", "promise"),
    ask("promise-200", "plan --slo p99 --rate 200 --tp 2,4", "promise"),
    ask("promise-exhaustive", "plan --slo p99 --rate 15 --tp 8 --exhaustive --batch-tokens 1024,4096", "promise"),
    ask("promise-simulate", f"simulate --design splitwise-hh --prompt 4 --token 2 {SMALL}", "simulate"),
    ask("promise-simulate-fail", f"simulate --design splitwise-hh --prompt 4 --token 2 {SMALL} --fail token:1@9s"),
    ask("promise-simulate-mixed", f"simulate --design baseline-h100 --mixed 4 {SMALL} --batch-tokens 512", "simulate"),
    ask("promise-simulate-sglang", f"simulate --design baseline-h100 --mixed 3 {SMALL} --engine sglang", "simulate"),
    ask("promise-compare", f"compare --same machines --budget 4 {DENSE} --machine dgx-h100 --duration 20", "compare"),
    ask("promise-capacity", f"capacity --machine dgx-h100 --mixed 2 --design baseline-h100 {DENSE}", "capacity"),
    ask("promise-infeasible", f"plan {DENSE} --rate 70 --max-machines 1", "refusal"),
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


QUESTIONS = {question.name: question for question in (*PLANS, *SIMULATIONS, *STUDIES, *CATALOG, *REFUSALS, *PROMISES)}
