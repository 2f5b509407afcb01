"""``provision capacity``: what is printed, written and refused."""

from __future__ import annotations

import csv
import json
import shlex
from pathlib import Path

import pytest

from provisioner.report.terminal import MAX_WIDTH
from tests.cli.conftest import Run

SMALL = ("--slo", "p99", "--prices", "paper", "--duration", "30s", "--seeds", "2", "--tp", "8")
HH = ("capacity", *SMALL, "--design", "splitwise-hh", "--prompt", "3", "--token", "1")


def test_the_report(provision: Run) -> None:
    ended = provision(*HH, "--to", "14", "--to", "16")
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert lines[0].startswith("Splitwise-HH with 3 dgx-h100 (prompt) + 1 dgx-h100 (token) at TP 8+8 holds ")
    assert "the first failure, to 1 %" in ended.out and "What to add for more, the least cost" in ended.out
    assert sum(line.strip().startswith(("14", "16")) for line in lines) == 2
    assert max(map(len, lines)) <= MAX_WIDTH


def test_files_and_the_printed_command(provision: Run, tmp_path: Path) -> None:
    ended = provision(*HH, "--no-additions", "--out", "c.json", "--out", "c.csv", "--json")
    assert ended.code == 0, ended.err
    values = json.loads(ended.out)
    assert json.loads((tmp_path / "c.json").read_text(encoding="utf-8")) == values
    rows = list(csv.DictReader((tmp_path / "c.csv").read_text(encoding="utf-8").splitlines()))
    assert [float(row["rate_rps"]) for row in rows] == [values["rate_rps"]]
    again = provision(*shlex.split(values["command"])[1:], "--json")
    assert json.loads(again.out) == values


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--mixed", "3"), "--design: is needed: the design of the cluster in hand"),
        (("--design", "splitwise-hh", "--prompt", "3"), "--token: is needed"),
        (("--design", "splitwise-hh", "--prompt", "x", "--token", "1"), "--prompt: must be a number of machines"),
        (("--design", "baseline-h100", "--prompt", "3"), "--prompt: Baseline-H100 has no prompt machines"),
        (("--design", "baseline-h100", "--mixed", "3", "--to", "0"), "--to: must be above 0 requests/s"),
        (("--design", "baseline-h100", "--mixed", "3", "--rate", "4"), "unknown option '--rate'"),
        (
            ("--design", "baseline-h100", "--mixed", "3", "--to", "4", "--no-additions"),
            "--to: is of what is added",
        ),
    ],
)
def test_bad_input_is_one_line(provision: Run, arguments: tuple[str, ...], message: str) -> None:
    ended = provision("capacity", *SMALL, *arguments)
    assert ended.code == 2
    assert message in ended.error


def test_a_cluster_that_holds_nothing_is_infeasible(provision: Run) -> None:
    ended = provision(*HH, "--ttft-p99", "10ms")
    assert ended.code == 3
    assert "holds no rate" in ended.err and "TTFT P99" in ended.err and ended.out == ""
