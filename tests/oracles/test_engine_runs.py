"""Engines predict served runs as docs/explanation/validation.md says; the runs that no constant was fitted to count."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from statistics import mean

import pytest

from provisioner.specs import catalog
from tests.oracles.engine_runs import ENGINES, QUEUED_S, Errors, Run, is_fitted, page, read, served_errors

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
