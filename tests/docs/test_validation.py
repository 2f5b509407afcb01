"""docs/validation.md is what the code gives today."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from provisioner.perf.assumptions import reference, replica
from provisioner.simulation.cluster import Cluster, Pool
from provisioner.simulation.measure import percentiles
from provisioner.simulation.policy import Policy
from provisioner.simulation.requests import drawn, sets
from provisioner.simulation.run import prepare, run
from provisioner.specs.catalog import workload
from provisioner.specs.slo import SPLITWISE_TABLE_VI

ROOT = Path(__file__).parents[2]
RUNS = ROOT.parent / "shared" / "reference" / "published-simulator-runs"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_validation", ROOT / "docs" / "generate_validation.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["generate_validation"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def section(page: str, title: str) -> list[str]:
    """The lines below a heading, up to the next."""
    lines = page.splitlines()
    start = lines.index(title) + 1
    return lines[start : next((k for k in range(start, len(lines)) if lines[k].startswith("## ")), len(lines))]


def test_page_is_fresh(generator: ModuleType) -> None:
    if not RUNS.is_dir():
        pytest.skip(f"no runs of the published simulator at {RUNS}")
    assert generator.PAGE.read_text(encoding="utf-8") == generator.page(RUNS)


def test_every_published_run_is_reproduced(generator: ModuleType) -> None:
    """What the page says: thirteen rows, each within 2 % (in fact 0.02 %), each with the verdict that was published."""
    page = generator.PAGE.read_text(encoding="utf-8")
    found = section(page, "## Thirteen runs of the published simulator")
    rows = [line.split("|")[1:-1] for line in found if line.count("|") == 7 and "%" in line]
    rows = [[cell.strip() for cell in row] for row in rows]
    assert len(rows) == 13
    assert all(float(row[k].removesuffix(" %")) < 0.02 for row in rows for k in (2, 3))
    assert all(row[4] == row[5] for row in rows)


def test_the_formulas_reproduce_the_lightly_loaded_run(generator: ModuleType) -> None:
    """32 + 8 machines are too idle to borrow from each other: there every percentile of the formulas agrees."""
    page = generator.PAGE.read_text(encoding="utf-8")
    row = next(line for line in section(page, "## The formulas against the thirteen runs") if "| 32 + 8 |" in line)
    errors = [int(cell) for cell in row.split("|")[4:13]]
    assert max(map(abs, errors)) <= 5


def test_simulation_of_strict_pools_wants_one_prompt_machine_more(generator: ModuleType) -> None:
    """What the page says of the formulas' 25 + 4: the P99 of TTFT with 25 and 26 prompt machines on forty sets."""
    perf, alone = replica("bloom-176b", "dgx-h100"), reference("bloom-176b")
    drawn_sets = [prepare(each, alone) for each in sets(lambda rng: drawn(workload("coding"), 70.0, 120.0, rng), 1, 40)]
    found = []
    for prompts in (25, 26):
        cluster = Cluster((Pool("prompt", perf, prompts), Pool("token", perf, 4)), Policy("split"))
        p99 = np.array([percentiles(run(cluster, each).latencies.slowdown("ttft"), (99,))[0] for each in drawn_sets])
        found.append((p99.mean(), int(np.sum(p99 <= SPLITWISE_TABLE_VI["ttft"][2]))))
    (short, met), (enough, mostly) = found
    text = " ".join(generator.PAGE.read_text(encoding="utf-8").split())
    assert f"have {short:.1f}x with 25 and {enough:.1f}x with 26" in text
    assert f"of which {met} and {mostly} meet the limit" in text
