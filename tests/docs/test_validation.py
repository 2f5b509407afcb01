"""docs/validation.md is what the code gives today."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
RUNS = ROOT.parent / "shared" / "reference" / "published-simulator-runs"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_validation", ROOT / "docs" / "generate_validation.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_page_is_fresh(generator: ModuleType) -> None:
    if not RUNS.is_dir():
        pytest.skip(f"no runs of the published simulator at {RUNS}")
    assert generator.PAGE.read_text(encoding="utf-8") == generator.page(RUNS)


def test_lightly_loaded_run_is_reproduced(generator: ModuleType) -> None:
    """32 + 8 machines are too idle to borrow from each other: there every percentile agrees."""
    page = generator.PAGE.read_text(encoding="utf-8")
    row = next(line for line in page.splitlines() if "| 32 + 8 |" in line)
    errors = [int(cell) for cell in row.split("|")[4:13]]
    assert max(map(abs, errors)) <= 3
