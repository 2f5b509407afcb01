"""``provision compare``: what is printed, written and refused."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest

from provisioner.report.terminal import MAX_WIDTH
from tests.cli.conftest import Run

FAST = ("compare", "--fast", "--slo", "p99", "--prices", "paper")
TWO = ("--design", "splitwise-hh", "--design", "baseline-h100")
SMALL = ("--slo", "p99", "--prices", "paper", "--duration", "30s", "--seeds", "2")


def test_every_design_within_the_power_of_forty_machines(provision: Run) -> None:
    ended = provision(*FAST, "--model", "bloom-176b", "--same", "power", "--budget", "40 dgx-h100")
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert "within 408.0 kW (as 40 dgx-h100)" in ended.out and "Against Baseline-A100" in ended.out
    assert max(map(len, lines)) <= MAX_WIDTH and "\x1b" not in ended.out
    for design in ("Splitwise-AA", "Splitwise-HA", "Splitwise-HHcap", "Baseline-A100", "Baseline-H100"):
        assert design in ended.out


def test_simulated_with_chunked_prefill_beside(provision: Run) -> None:
    asked = ("--same", "machines", "--budget", "3", "--design", "baseline-h100", "--tp", "8")
    ended = provision("compare", *SMALL, *asked, "--policy", "mixed", "--chunked")
    assert ended.code == 0, ended.err
    assert "Baseline-H100, chunked" in ended.out and "How sharp the largest rates are" in ended.out
    assert max(map(len, ended.out.splitlines())) <= MAX_WIDTH


def test_a_rate_alone_is_the_same_throughput(provision: Run) -> None:
    ended = provision(*FAST, *TWO, "--rate", "12", "--objective", "power", "--json")
    assert ended.code == 0, ended.err
    values = json.loads(ended.out)
    assert (values["same"], values["rate_rps"], values["objective"]) == ("throughput", 12.0, "power")
    powers = [design["plan"]["power_w"] for design in values["designs"]]
    assert powers == sorted(powers)
    base = next(design for design in values["designs"] if design["label"] == values["baseline"])
    assert values["ratios"][base["label"]]["power"] == 1.0 and base["plan"]["objective"] == "power"


def test_files_and_the_printed_command(provision: Run, tmp_path: Path) -> None:
    asked = (*FAST, *TWO, "--same", "cost", "--budget", "300 $/h", "--baseline", "splitwise-hh", "--tp", "4,8")
    ended = provision(*asked, "--out", "c.csv", "--out", "c.json", "--out", "c.md")
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[-1].split() == ["written", "to", "c.csv,", "c.json,", "c.md"]
    values = json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))
    rows = list(csv.DictReader((tmp_path / "c.csv").read_text(encoding="utf-8").splitlines()))
    assert [float(row["rate_rps"]) for row in rows] == [design["plan"]["rate_rps"] for design in values["designs"]]
    assert values["baseline"] == "Splitwise-HH"
    assert values["command"] in (tmp_path / "c.md").read_text(encoding="utf-8")
    again = provision(*_typed(values["command"]), "--json")
    assert json.loads(again.out)["designs"] == values["designs"]


@pytest.mark.parametrize("how", [("--fast", "--slo", "p99"), SMALL])
def test_the_command_of_each_row_asks_for_its_plan(provision: Run, how: tuple[str, ...]) -> None:
    ended = provision("compare", *how, *TWO, "--rate", "40", "--tp", "2,8", "--json")
    assert ended.code == 0, ended.err
    for row in json.loads(ended.out)["designs"]:
        again = json.loads(provision(*_typed(row["plan"]["command"]), "--json").out)
        assert (again["design"], again["cost_usd_per_h"]) == (row["plan"]["design"], row["plan"]["cost_usd_per_h"])


def _typed(command: str) -> list[str]:
    import shlex

    typed = shlex.split(command)
    assert typed[0] == "provision"
    return typed[1:]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--budget: is needed with --same power, such as 400kW"),
        (("--same", "power", "--budget", "1500 $/h"), "--budget: must be a power with --same power"),
        (("--same", "engery", "--budget", "4"), "unknown thing to hold the same 'engery'"),
        (("--budget", "4kW", "--rate", "5"), "--rate: is what --same power finds"),
        (("--budget", "40 dgx-h10"), "unknown machine 'dgx-h10': did you mean dgx-h100?"),
        (("--same", "cost", "--budget", "300", "--baseline", "x"), "unknown baseline 'x'"),
        (("--same", "cost", "--budget", "300", "--max-cost", "200"), "--max-cost: is what --budget gives"),
        (("--rate", "5", "--chunked"), "--chunked: is simulated"),
        (("--rate", "5", "--out", "c.txt"), "must end in"),
    ],
)
def test_bad_input_is_one_line(provision: Run, arguments: tuple[str, ...], message: str) -> None:
    ended = provision(*FAST, *TWO, *arguments)
    assert ended.code == 2
    assert message in ended.error


def test_no_design_with_a_plan_is_shown_and_infeasible(provision: Run, tmp_path: Path) -> None:
    ended = provision(*FAST, *TWO, "--rate", "12", "--ttft-p99", "60ms", "--out", "c.json")
    assert ended.code == 3
    assert ended.out.startswith("No design has a plan\n")
    assert ended.out.count("TTFT P99") >= 2
    rows = json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))["designs"]
    nearest = min(rows, key=lambda row: row["miss_ratio"])
    assert 1.0 < nearest["miss_ratio"] < math.inf
    assert (
        ended.err.strip().splitlines()[-1]
        == f"error: no design has a plan; the nearest is {nearest['label']}: {nearest['reason']}"
    )


def test_nothing_within_a_budget_is_infeasible(provision: Run) -> None:
    asked = ("--same", "machines", "--budget", "2", "--ttft-p99", "30ms", "--tp", "8")
    ended = provision("compare", *SMALL, *TWO, *asked)
    assert ended.code == 3 and ended.out.startswith("No design has a plan\n")
    assert ended.err.splitlines()[-1].startswith(
        "error: no design has a plan; the nearest is Splitwise-HH: TTFT P99 of 30 ms is below "
    )


def test_a_design_is_one_row_over_its_degrees_unless_it_names_them(provision: Run) -> None:
    asked = ("--same", "machines", "--budget", "4", "--json")
    labels = {}
    for names in (("splitwise-hh",), ("splitwise-hh:2+4", "baseline-h100:2")):
        ended = provision(*FAST, *asked, *(part for name in names for part in ("--design", name)))
        assert ended.code == 0, ended.err
        labels[names] = {row["label"] for row in json.loads(ended.out)["designs"]}
    assert list(labels.values()) == [{"Splitwise-HH"}, {"Splitwise-HH:2+4", "Baseline-H100:2"}]
