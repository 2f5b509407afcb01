"""Engines predict served runs as docs/explanation/validation.md says; the runs that no constant was fitted to count."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from statistics import mean

import numpy as np
import pytest

from provisioner.perf import assumptions
from provisioner.simulation import run as simulator
from provisioner.simulation.cluster import Cluster, Pool
from provisioner.simulation.policy import Policy
from provisioner.simulation.requests import RequestSet
from provisioner.specs import catalog
from provisioner.specs.engine import Engine
from tests.oracles.engine_runs import (
    ENGINES,
    MACHINES,
    OFFLINE,
    QUEUED_S,
    VARIED,
    Errors,
    Run,
    best_of_machine,
    is_fitted,
    load_ratios,
    page,
    parts,
    read,
    served_errors,
)
from tests.oracles.engines import Done, simulate

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data" / "serving-measurements"
TEXT = ROOT / "docs" / "engines_against_runs.txt"

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no served runs at {DATA}")


def test_the_page_has_the_text() -> None:
    whole = (ROOT / "docs" / "explanation" / "validation.md").read_text(encoding="utf-8")
    assert TEXT.read_text(encoding="utf-8") in whole


@pytest.mark.slow
@needs_data
def test_the_text_is_what_the_runs_give() -> None:
    assert page(DATA) == TEXT.read_text(encoding="utf-8")


@pytest.mark.slow
@needs_data
@pytest.mark.parametrize(
    ("served", "name"), [("vllm", "vllm-2025"), ("vllm", "vllm"), ("sglang", "sglang"), ("trtllm", "tensorrt-llm")]
)
def test_the_stated_errors_are_what_the_runs_give(served: str, name: str) -> None:
    engine = catalog.engine(name)
    stated = {(each.gpu, each.dtype): (each.runs, each.prompt, each.decode) for each in engine.errors}
    found = served_errors(read(DATA), served, engine)
    assert stated.keys() == found.keys()
    assert all(stated[key] == pytest.approx(found[key], abs=6e-4) for key in stated)


@pytest.fixture(scope="module")
def errors() -> dict[Run, float]:
    """Relative errors of TPOT in the 70B runs, and in those of the engine of 2026."""
    found: dict[Run, float] = {}
    runs = [run for run in read(DATA) if run.group[1] in ("Llama-3.1-70B", "qwen3-8b") and not run.ttft_s >= QUEUED_S]
    for served, name in ENGINES.items():
        of = [run for run in runs if run.group[0] == served]
        found |= dict(zip(of, Errors.of(of, catalog.engine(name)).tpot, strict=True)) if of else {}
    return found


@needs_data
@pytest.mark.parametrize(("served", "most"), [("vllm", 0.10), ("vllm-0.30", 0.10), ("trtllm", 0.15)])
def test_runs_not_fitted_to_are_predicted(errors: dict[Run, float], served: str, most: float) -> None:
    held = [abs(error) for run, error in errors.items() if run.group[0] == served and not is_fitted(run.group)]
    assert len(held) > 30 and mean(held) < most


@needs_data
def test_no_gpu_is_biased(errors: dict[Run, float]) -> None:
    """Within 12 % in FP8 and 16 bits, by GPU and engine."""
    groups: dict[tuple[str, str], list[float]] = defaultdict(list)
    for run, error in errors.items():
        if run.group[2] != "nvfp4":
            groups[run.group[0], run.group[3]].append(error)
    assert len(groups) == 6
    assert all(abs(mean(of)) < 0.12 for of in groups.values())


@needs_data
def test_ratios_of_gpus_at_equal_load_are_those_of_the_runs() -> None:
    """Each pair of runs of 70B at equal TP, lengths and requests in flight within 15 %, their means within 7 %."""
    found = load_ratios(read(DATA))
    assert sum(map(len, found.values())) == 76
    assert all(abs(ratio - 1) < 0.15 for of in found.values() for ratio in of)
    assert all(abs(mean(of) - 1) < 0.07 for of in found.values())


def by_both(this: Run, engine: Engine) -> tuple[Done, Done]:
    """A run by the project's simulator, and by the oracle with its memory and its client."""
    *_, gpu, degree = this.group
    machine = replace(catalog.machine(MACHINES[gpu]), gpus=degree)
    longest = this.prompt_tokens + 2 * this.output_tokens
    perf = assumptions.replica(this.shape, machine, degree, engine=engine, context_tokens=longest)
    count, at_once = this.client.waves * this.in_flight, this.in_flight
    prompts, outputs = this.client.lengths(this.prompt_tokens, this.output_tokens, count)
    requests = RequestSet(np.zeros(count), prompts, outputs, rate_rps=float("nan"), in_flight=at_once)
    cluster = Cluster((Pool("mixed", perf, 1),), Policy("chunked").under([perf]))
    done = simulator.run(cluster, simulator.prepare(requests, assumptions.Reference(perf)))
    assert done.status == "finished"
    of = done.requests
    ttft_s, tpot_s = of["first_s"] - of["arrival_s"], (of["last_s"] - of["first_s"]) / (outputs - 1)
    rate = float(outputs.sum() / of["last_s"].max())
    found = Done(float(ttft_s.mean()), float(tpot_s.mean()), np.nan, rate, int(done.clock["preemptions"]))
    expected = simulate(
        *(this.shape, MACHINES[gpu], degree, engine),
        in_flight=at_once,
        prompt_tokens=this.prompt_tokens,
        output_tokens=this.output_tokens,
        requests=count,
        client=this.client,
        admission_s=1e-9,
        capacity_tokens=perf.kv_capacity_tokens,
    )
    return found, expected


@needs_data
@pytest.mark.parametrize("served", ["sglang", "trtllm"])
def test_the_simulator_schedules_served_runs_as_the_oracle_does(served: str) -> None:
    """Estimate, reservation. Times differ, since curves count prompts that share an iteration as one."""
    engine = catalog.engine(ENGINES[served])
    runs = [run for run in read(DATA) if run.group[0] == served]
    short = [run for run in runs if run.group == ("sglang", "Qwen3-32B", "bf16", "h100", 1)]
    evictions = 0
    for this in (*runs[:: len(runs) // 8], *short):
        found, expected = by_both(this, engine)
        assert found.tpot_s == pytest.approx(expected.tpot_s, rel=0.05)
        assert found.ttft_s == pytest.approx(expected.ttft_s, rel=0.15)
        assert found.evictions == expected.evictions
        evictions += found.evictions
    assert (evictions > 0) == (served == "sglang")


@pytest.mark.parametrize("name", ["vllm", "vllm-2025", "tensorrt-llm", "sglang"])
def test_b200_serves_twice_the_offline_tokens_of_h200(name: str) -> None:
    """Llama2-70B in FP8 on MLPerf's lengths, all requests at once, best TP each: 1.6 to 2.2."""
    for client in (OFFLINE, VARIED):
        b200, h200 = (
            best_of_machine(MACHINES[gpu], "fp8", catalog.engine(name), client)[0] for gpu in ("b200", "h200")
        )
        assert 1.6 < b200 / h200 < 2.2


def test_parts_of_an_iteration_are_all_of_it() -> None:
    rows = [[cell.strip() for cell in line.split("|")[4:-1]] for line in parts()[2:]]
    for cells in rows:
        *each, whole, _ = (float(cell) for cell in cells)
        assert sum(each) == pytest.approx(whole, abs=0.3)
    assert [float(cells[4]) for cells in rows[:2]] == [0.0, 0.0]  # vllm has no host time: the four kernels are all
