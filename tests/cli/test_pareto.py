"""``provision pareto``: what is printed, written and refused."""

from __future__ import annotations

import csv
import json
import shlex
from pathlib import Path

import pytest

from provisioner.report.terminal import MAX_WIDTH
from tests.cli.conftest import Run, instead

FAST = ("pareto", "--fast", "--slo", "p99", "--prices", "paper", "--rate", "15", "--tp", "8")


def test_the_report(provision: Run) -> None:
    ended = provision(*FAST)
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert "beaten by none in cost, power and machines at once" in lines[0]
    assert "The frontier, the cheapest first" in ended.out and "over 12 designs of any size" in ended.out
    assert max(map(len, lines)) <= MAX_WIDTH


def test_simulated(provision: Run) -> None:
    one = ("--design", "baseline-h100", "--design", "baseline-a100", "--duration", "30s", "--seeds", "2")
    ended = provision("pareto", "--slo", "p99", "--prices", "paper", "--rate", "10", *one)
    assert ended.code == 0, ended.err
    assert "every point, and that there are no others" in ended.out and "clusters simulated in" in ended.out


def test_files_and_the_printed_command(provision: Run, tmp_path: Path) -> None:
    ended = provision(*FAST, "--out", "f.json", "--out", "f.csv", "--json")
    assert ended.code == 0, ended.err
    values = json.loads(ended.out)
    assert json.loads((tmp_path / "f.json").read_text(encoding="utf-8")) == values
    rows = list(csv.DictReader((tmp_path / "f.csv").read_text(encoding="utf-8").splitlines()))
    assert [float(row["power_w"]) for row in rows] == [point["power_w"] for point in values["points"]]
    again = provision(*shlex.split(values["command"])[1:], "--json")
    assert json.loads(again.out)["points"] == values["points"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--objective", "cost"), "unknown option '--objective'"),
        (("--time-limit", "0"), "--time-limit: must be above 0 s"),
        (("--design", "splitwise-hx"), "unknown design 'splitwise-hx'"),
        (("--rate", "-1"), "--rate: must be above 0 requests/s"),
    ],
)
def test_bad_input_is_one_line(provision: Run, arguments: tuple[str, ...], message: str) -> None:
    ended = provision(*instead(FAST, *arguments))
    assert ended.code == 2
    assert message in ended.error


def test_nothing_within_the_caps_is_infeasible(provision: Run) -> None:
    ended = provision(*FAST, "--max-machines", "2")
    assert ended.code == 3
    assert "error: no plan within the limits: --max-machines 2 binds" in ended.err
