"""``provision sweep``: what it prints and writes, how it is stopped, and what it refuses."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from provisioner import api
from tests.cli.conftest import Run
from tests.waiting import wait_until

GRID = ("sweep", "--design", "splitwise-hh", "--prompt", "4:8", "--token", "1:3", "--rate", "20", "--duration", "15")
LOAD = ("sweep", "--cluster", "splitwise-hh=8+2", "--cluster", "baseline-h100=8", "--duration", "10")


def test_a_sweep_of_sizes(provision: Run) -> None:
    ended = provision(*GRID, "--prices", "paper", "--out", "s.json", "--out", "s.md")
    assert ended.code == 0
    assert max(map(len, ended.out.splitlines())) <= 100
    assert ended.out.startswith("Splitwise-HH: ") and "15 simulated whole: " in ended.out
    assert "written to  s.json, s.md" in ended.out
    written = json.loads(Path("s.json").read_text(encoding="utf-8"))
    prompt, token = (pool["machines"] for pool in written["clusters"][written["optimum"]]["pools"])
    assert f"{prompt} dgx-h100 (prompt) + {token} dgx-h100 (token)" in ended.out
    page = Path("s.md").read_text(encoding="utf-8")
    assert written["command"] in page and "## Inputs" in page
    again = provision(*shlex.split(written["command"])[1:], "--json")
    assert {**json.loads(again.out), "question": None} == {**written, "question": None}
    assert sorted(path.name for path in Path().iterdir()) == ["s.json", "s.md"]


def test_a_sweep_over_an_input(provision: Run) -> None:
    ended = provision(*LOAD, "--vary", "rate=10:40:15", "--json")
    assert ended.code == 0
    found = json.loads(ended.out)
    assert found["varied"]["values"] == [10.0, 25.0, 40.0] and len(found["points"]) == 6
    alone = api.simulate(design="baseline-h100", mixed_machines=8, rate_rps=25.0, duration_s=10.0)
    assert found["points"][4]["throughput_rps"] == alone.throughput_rps
    text = provision(*LOAD, "--vary", "rate=10:40:15").out
    assert max(map(len, text.splitlines())) <= 100 and text.startswith("Latency against load: Splitwise-HH 8 + 2 ")
    again = json.loads(provision(*shlex.split(found["command"])[1:], "--json").out)
    assert again["points"] == found["points"]


def test_limits_on_any_percentile_and_on_the_largest_gap(provision: Run, tmp_path: Path) -> None:
    ended = provision(
        *("sweep", "--design", "colocated-h100", "--colocated", "5:6", "--rate", "10", "--duration", "15"),
        *("--slo", "batch", "--largest-gap-p99", "1ms", "--tbt-p99.9=9s", "--limit", "tpot-p95=5x", "--out", "s.csv"),
    )
    assert ended.code == 0 and "no cluster of the 2 swept passes" in ended.out
    told = " ".join(ended.out.split())
    assert "largest gap P99 <= 1 ms" in told and "TBT P99.9 <= 9 s" in told
    header = (tmp_path / "s.csv").read_text().splitlines()[0].split(",")
    assert {"gap_p99_s", "tbt_p99.9_s", "tbt_p95_slowdown"} <= set(header)


def test_one_cluster_by_its_design(provision: Run) -> None:
    ended = provision("sweep", "--design", "baseline-h100", "--mixed", "8", "--duration", "10", "--vary", "cv=0.5,1,2")
    assert ended.code == 0 and "Latency against burstiness: Baseline-H100 8 passes " in ended.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sweep",), "--design: is missing"),
        (("sweep", "--design", "splitwise-hh", "--prompt", "1:4"), "--token: is missing"),
        ((*GRID[:3], "--prompt", "4:1", "--token", "1"), "--prompt: must rise, got '4:1'"),
        ((*GRID[:3], "--prompt", "a:b", "--token", "1"), "--prompt: must be a number of machines, got 'a'"),
        ((*GRID, "--cluster", "splitwise-hh=1+1"), "--cluster: is for --vary"),
        ((*GRID, "--resume"), "--resume: goes on with the journal beside the first --out"),
        ((*GRID, "--threads", "0"), "--threads: must be a whole number, 1 or more, got 0"),
        ((*GRID, "--out", "s.txt"), "--out s.txt: must end in "),
        ((*GRID, "--objective", "throughput"), "unknown objective of a sweep 'throughput'"),
        ((*GRID, "--vary", "rate=1:2:1"), "--prompt: must be one number with --vary"),
        ((*LOAD, "--vary", "rate"), "--vary: must be INPUT=FROM:TO:STEP"),
        ((*LOAD, "--vary", "rat=1:2:1"), "unknown input to vary 'rat': did you mean rate?"),
        ((*LOAD, "--vary", "rate=1:2:1", "--rate", "3"), "--vary rate: takes its values from the range"),
        ((*LOAD, "--vary", "rate=1:2:1", "--prompt", "3"), "--cluster: has the number of machines; leave out --prompt"),
        ((*LOAD, "--vary", "rate=1:2:1", "--objective", "cost"), "--objective: is of a sweep of sizes"),
        ((*LOAD[:3], "--vary", "slo=1:2:1", "--trace", "none.csv"), "none.csv: no such file"),
        ((*GRID, "--trace", "none.csv", "--workload", "coding"), "--trace: takes requests and times as they are"),
    ],
)
def test_what_makes_no_sense_is_one_line(provision: Run, arguments: tuple[str, ...], message: str) -> None:
    ended = provision(*arguments)
    assert ended.code == 2 and ended.error.startswith(message)
    assert not list(Path().iterdir())


def test_an_interrupt_keeps_the_journal_and_says_how_to_go_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "provisioner", "sweep", "--design", "splitwise-hh", "--prompt", "3:20"]
    command += ["--token", "1:10", "--rate", "60", "--out", "s.json"]
    running = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    journal = tmp_path / "s.json.journal"
    wait_until(lambda: running.poll() is not None or (journal.exists() and journal.read_bytes().count(b"\n") >= 5))
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert (running.returncode, out) == (130, "")
    last = err.splitlines()[-1]
    assert re.match(r"error: interrupted: \d+ of 180 points done; kept in s\.json\.journal, --resume goes on", last)
    assert journal.exists() and not (tmp_path / "s.json").exists()
