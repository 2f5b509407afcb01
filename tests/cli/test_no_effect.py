"""Options that would change nothing are refused in one line. ``tests/fuzz/test_effects.py`` looks for more of them."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.fuzz.files import make_all

H100 = "--machine dgx-h100 --tp 8"
CLUSTER = "--design baseline-h100 --mixed 1"
CURVE = "--model llama2-70b --machine dgx-h100 --tp 8"
NONE = "is of trace files, and coding is none; leave it out"
DRAWN = "--seed: nothing is drawn here, as of a folder of ServeGen; leave it out"
STATED = "changes nothing, as every file states its own; leave it out"
EITHER = "leave out one of them"
SIMULATED = "is of simulations, and none is asked for; leave it out"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"plan --objective throughput --rate 5 {H100}", "--rate: is what --objective throughput finds; leave it out"),
        (
            f"plan --objective throughput --scale rate=2 {H100}",
            "--scale rate: --objective throughput finds the rate; leave it out",
        ),
        (
            f"plan --seeds 1 --confidence 0.9 {H100}",
            "--confidence: is of a bound over request sets; give more --seeds than one",
        ),
        (
            f"plan --slo batch --confidence 0.9 --rate 2 {H100}",
            "--confidence: is of limits on latency, and there are none; leave it out",
        ),
        (
            f"plan --scale price:dgx-a100=2 --rate 2 {H100}",
            "--scale dgx-a100: is not among the machines considered (dgx-h100)",
        ),
        (f"capacity {CLUSTER} --scale rate=2", "--scale rate: the largest rate is the answer; leave it out"),
        (
            f"capacity {CLUSTER} --no-additions --exhaustive",
            f"--exhaustive: is of what is added for more load, and --no-additions leaves that out; {EITHER}",
        ),
        (
            f"compare --budget 40 {H100}",
            "--budget: 40 W is less than one machine takes, 10.2 kW at least (dgx-h100)",
        ),
        (f"plan {H100} --machine dgx-h100", "--machine: must be each given once, got ['dgx-h100', 'dgx-h100']"),
        ("plan --machine dgx-h100 --tp 8,8", "--tp: must be each given once, got 8,8"),
        (
            f"sensitivity --input rate --input rate --rate 2 {H100}",
            "--input: must be each given once, got ['rate', 'rate']",
        ),
        (f"plan --fast --seed 3 --rate 2 {H100}", DRAWN),
        (f"plan --trace trace.csv --seed 3 {H100}", DRAWN),
        (f"simulate {CLUSTER} --trace trace.csv --seed 3", DRAWN),
        (f"simulate {CLUSTER} --failed-rows refuse", f"--failed-rows: {NONE}"),
        (f"simulate {CLUSTER} --time-unit ms", f"--time-unit: {NONE}"),
        ("sweep --design splitwise-hh --prompt 1 --token 1 --span 0:60s", f"--span: {NONE}"),
        (f"sweep {CLUSTER} --vary rate=1,2 --block-tokens 16", f"--block-tokens: {NONE}"),
        (
            f"sensitivity --spread 0.3 --switch cv=1:4 {H100}",
            "--spread: is of the tornado; give --input beside --switch",
        ),
        (
            f"sensitivity --spread 0.3 --rates 1,2 --ratios 1 {H100}",
            "--spread: is of the tornado; give --input beside --rates",
        ),
        ("workloads coding --rate 3", f"--rate: {NONE}"),
        ("workloads coding --seed 3", f"--seed: {NONE}"),
        ("workloads workload.yaml --rate 3", "--rate: is of trace files, and workload.yaml is none; leave it out"),
        ("workloads trace.csv --seed 3", DRAWN),
        ("workloads --rate 3", "--rate: is of a trace file; name one"),
        ("workloads import trace.csv --seed 3", DRAWN),
        ("workloads import trace.csv --rate 3", "--rate: is that of the workload that --out writes; give both"),
        ("workloads import trace.csv --name x", "--name: is that of the workload that --out writes; give both"),
        (
            "workloads import trace.csv --block-tokens 16",
            "trace.csv: has no hash_ids of blocks; leave out --block-tokens",
        ),
        (
            "workloads import ragpulse --block-tokens 16",
            "ragpulse: has no hash_ids of blocks; leave out --block-tokens",
        ),
        (
            "workloads import servegen --failed-rows refuse",
            "servegen: has windows, no rows that failed; leave out --failed-rows",
        ),
        (f"curves import points.csv {CURVE} --input-tokens 999", f"--input-tokens: {STATED}"),
        (f"curves import points.csv {CURVE} --output-tokens 999", f"--output-tokens: {STATED}"),
        (f"curves import alone-256.json {CURVE} --concurrency 5", f"--concurrency: {STATED}"),
        ("reproduce --only machines --seeds 3", f"--seeds: {SIMULATED}"),
        ("reproduce --only machines --only transfer --seed 3", f"--seed: {SIMULATED}"),
        (
            "profile --model llama-3.1-8b --machine l4-x8 --out x --prompt-batches none --batched-prompt-tokens 128",
            "--batched-prompt-tokens: is of what --prompt-batches none leaves out; leave out one of them",
        ),
    ],
)
def test_an_option_without_effect_is_refused(provision: Run, tmp_path: Path, line: str, message: str) -> None:
    arguments = shlex.split(line)
    make_all(tmp_path, arguments)
    ended = provision(*arguments)
    assert (ended.code, ended.error) == (2, message)


@pytest.mark.parametrize(
    "line",
    [
        "workloads servegen --seed 3",
        "workloads trace.csv --rate 3",
        "workloads import servegen --seed 3 --span 0:10s",
        "workloads import mooncake.jsonl --block-tokens 1024",
        f"plan --fast --workload servegen --seed 3 --slo batch {H100}",
        f"simulate {CLUSTER} --trace servegen --seed 3",
        f"curves import alone-256.json {CURVE} --concurrency 1",
        f"curves import alone-256.json {CURVE} --input-tokens 999",
        f"curves import guidellm.json {CURVE} --input-tokens 999",
    ],
)
def test_where_it_has_an_effect_it_is_taken(provision: Run, tmp_path: Path, line: str) -> None:
    arguments = shlex.split(line)
    make_all(tmp_path, arguments)
    assert provision(*arguments).code == 0
