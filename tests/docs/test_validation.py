"""docs/explanation/validation.md is what the code gives today."""

import csv
import importlib.util
import sys
from pathlib import Path
from statistics import median
from types import ModuleType

import numpy as np
import pytest

from provisioner.perf.assumptions import reference, replica
from provisioner.perf.evidence import derived_curves
from provisioner.simulation.cluster import Cluster, Pool
from provisioner.simulation.measure import percentiles
from provisioner.simulation.policy import Policy
from provisioner.simulation.requests import drawn, sets
from provisioner.simulation.run import prepare, run
from provisioner.specs.catalog import engine, machine, model, workload
from provisioner.specs.slo import SPLITWISE_TABLE_VI
from provisioner.studies.splitwise import paper
from tests.oracles import closed_loop, served
from tests.oracles.closed_loop import Run, held_out

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
    """The page has thirteen rows, each within 2 % (in fact 0.02 %), each with the verdict that was published."""
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
    """The page's text on the formulas' 25 prompt machines: the P99 of TTFT with 25 and 26 on forty sets."""
    perf = replica("bloom-176b", "dgx-h100", engine=engine(paper.ENGINE))
    alone = reference("bloom-176b")
    drawn_sets = [prepare(each, alone) for each in sets(lambda rng: drawn(workload("coding"), 70.0, 120.0, rng), 1, 40)]
    found = []
    for prompts in (25, 26):
        cluster = Cluster((Pool("prompt", perf, prompts), Pool("token", perf, 5)), Policy("split"))
        p99 = np.array([percentiles(run(cluster, each).latencies.both("ttft")[1], (99,))[0] for each in drawn_sets])
        found.append((p99.mean(), int(np.sum(p99 <= SPLITWISE_TABLE_VI["ttft"][2]))))
    (short, met), (enough, mostly) = found
    text = " ".join(generator.PAGE.read_text(encoding="utf-8").split())
    assert f"have {short:.1f}x with 25 and {enough:.1f}x with 26" in text
    assert f"of which {met} and {mostly} meet the limit" in text


def test_what_is_known_of_curves_that_were_not_measured_is_fresh(generator: ModuleType) -> None:
    """The sections that need no published runs."""
    assert generator.PAGE.read_text(encoding="utf-8").endswith(generator.not_measured())


@pytest.mark.parametrize(
    ("name", "at"), [("llama2-70b", "dgx-a100"), ("llama2-70b", "dgx-h100"), ("bloom-176b", "dgx-h100")]
)
def test_factors_of_the_splitwise_measurements_by_curves(generator: ModuleType, name: str, at: str) -> None:
    """The factors of the page, from the measurements read as text and the curves that plans would use: within 5 %."""
    with (ROOT / "hardware_specs" / "curves" / f"{at}__{name}.csv").open(encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["tensor_parallel"] == "8"]
    derived = derived_curves(model(name), machine(at), 8)
    prompt = [
        float(row["latency_s"]) / float(derived.prompt_s(int(row["prompt_tokens"])))
        for row in rows
        if row["phase"] == "prompt" and row["batch"] == "1"
    ]
    decode = [
        float(row["latency_s"]) / float(derived.decode_s(int(row["batch"]), int(row["context_tokens"])))
        for row in rows
        if row["phase"] == "decode"
    ]
    lines = generator.PAGE.read_text(encoding="utf-8").splitlines()
    cells = next(line for line in lines if line.startswith(f"| {name} | {at} | 8 |")).split("|")
    assert len(prompt) >= 5 and len(decode) >= 5
    assert float(cells[4]) == pytest.approx(median(prompt), rel=0.05)
    assert float(cells[7]) == pytest.approx(median(decode), rel=0.05)


def test_estimates_of_one_gpu_from_another_are_better_than_from_all(generator: ModuleType) -> None:
    """The page's advice with ``kernels_like``: the H100's row of both tables, in BF16."""
    found = section(generator.PAGE.read_text(encoding="utf-8"), "## Estimated curves")
    others, one = (line.split("|") for line in found if line.startswith("| h100-sxm-80gb |"))
    for k in (0, 1):
        assert float(one[3 + k].removesuffix(" % ")) < float(others[2 + k].split(" %")[0])


def test_an_overhead_is_reported_on_runs_that_it_was_not_fitted_to() -> None:
    """Two models with an overhead each: fitted without one it is the other's, and the error what lies between."""
    runs = [
        Run(model, "h100_sxm", False, tp, concurrency, 1024, 1024, 0.1, (ms + 10) / 1e3)
        for model, ms in (("maker/one", 1.0), ("maker/two", 3.0))
        for tp in (2, 4)
        for concurrency in (4, 8, 64)
    ]
    found = {each.name: each for each in held_out(runs, dict.fromkeys(runs, 0.01))}
    assert found["one bf16 TP 2"].runs == 3 and found["one"].runs == 6
    for name, fitted_s, off, bare_off in (("one", 3e-3, 2 / 11, 1 / 11), ("two", 1e-3, 2 / 13, 3 / 13)):
        each = found[name]
        assert (each.overhead.iteration_s, each.off, each.bare_off) == pytest.approx((fitted_s, off, bare_off))
        assert each.overhead.sequence_s == pytest.approx(0.0, abs=1e-9)


@pytest.mark.slow
def test_errors_against_a_serving_engine_are_what_the_oracles_print(
    generator: ModuleType, shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shared_data / "serving-measurements" / "vllm_closed_loop.csv"
    if not path.is_file():
        pytest.skip(f"{path.name} is not on this machine")
    closed_loop.main(path)
    assert printed_below("overhead fitted", capsys.readouterr().out) == generator.HELD_OUT.splitlines()
    served.main(path)
    of_runs, of_clients = capsys.readouterr().out.split("requests for each in flight")
    assert printed_below("mean of their sizes", of_runs) == generator.SERVED.splitlines()
    assert of_clients.splitlines()[1:] == generator.CLIENTS.splitlines()


def printed_below(heading: str, printed: str) -> list[str]:
    """The lines below the one that begins with ``heading``."""
    lines = printed.splitlines()
    return lines[next(k for k, line in enumerate(lines) if line.startswith(heading)) + 1 :]
