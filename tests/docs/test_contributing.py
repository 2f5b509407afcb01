"""The walks of CONTRIBUTING.md: each diff applies to a copy of the package, touches few files, and works."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
WALKS = dict(re.findall(r"<!-- walk: (\w+) -->\n```diff\n(.*?)```", PAGE, re.DOTALL))

OPTION = """
from provisioner.cli import main
from provisioner.errors import InputError
from provisioner.loading.scenario import load_scenario
from provisioner.options import SimulateOptions
from provisioner.options.command import command_of

cluster = {"design": "baseline-h100", "mixed_machines": 20, "duration_s": 5}
asked = SimulateOptions.of(**cluster, first_set="1")
ours, shipped = load_scenario(asked), load_scenario(SimulateOptions.of(**cluster))
assert ours.request_set(0).arrival_s.tolist() == shipped.request_set(1).arrival_s.tolist()
assert " --first-set 1 " in command_of("simulate", {**cluster, "first_set": 1}, SimulateOptions)
try:
    SimulateOptions.of(**cluster, first_set=-1)
except InputError as error:
    assert str(error).startswith("first_set: must be a whole number"), error
else:
    raise AssertionError("-1 is taken")
main(["simulate", "--help"])
"""
METRIC = """
import numpy as np
from provisioner.cli import main
from provisioner.options import PlanOptions
from provisioner.simulation.measure import Latencies
from provisioner.specs.slo import Percentile

one, two = np.ones(2), np.array([1, 10])
run = Latencies(0 * one, one, np.array([3.0, 21.0]), one, two, two - 1.0, one, one, 2 * one, one > 0)
seconds, slowdown = run.both("norm")
assert (seconds.tolist(), slowdown.tolist()) == ([3.0, 2.1], [1.5, 10.5])
assert PlanOptions.of(norm_p99="80ms", limits={"norm-p99.9": "2x"}).limits == {"norm_p99": "80ms", "norm_p99.9": "2x"}
assert Percentile("norm", 99.9).label == "E2E/token P99.9"
main(["plan", "--help"])
"""
RESULT = """
import json
import provisioner
from provisioner.results.bill import Bill

bill = Bill(cluster="7 + 1", cost_usd_per_h=255.36, hours=720)
assert json.loads(bill.to_json()) == {
    "schema_version": 2, "cluster": "7 + 1", "cost_usd_per_h": 255.36, "hours": 720.0, "kind": "bill"
}
assert bill.to_frame().hours.tolist() == [720]
assert "$183,859.20" in str(bill) and "$183,859.20" in bill._repr_html_()
for name in ("bill.csv", "bill.html", "bill.md"):
    bill.save(name)
"""
CHECKS = {"option": (OPTION, 2, "--first-set"), "metric": (METRIC, 2, "--norm-p99"), "result": (RESULT, 3, "")}


@pytest.mark.parametrize("name", CHECKS)
def test_walk(name: str, tmp_path: Path) -> None:
    program, most, shown = CHECKS[name]
    diff = WALKS[name]
    assert len(re.findall(r"^\+\+\+ ", diff, re.MULTILINE)) <= most
    shutil.copytree(ROOT / "provisioner", tmp_path / "provisioner", ignore=shutil.ignore_patterns("__pycache__"))
    for data in ("hardware_specs", "workloads"):
        (tmp_path / data).symlink_to(ROOT / data)
    subprocess.run(["git", "apply", "-"], input=diff, text=True, cwd=tmp_path, check=True)
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "GIT_CEILING_DIRECTORIES": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout


def test_every_walk_is_tested() -> None:
    assert WALKS.keys() == CHECKS.keys()
