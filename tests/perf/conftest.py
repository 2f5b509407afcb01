import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from provisioner.perf.curves import curve_groups

ROOT = Path(__file__).resolve().parents[2]
GROUPS = curve_groups()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with an argument ``group`` runs over every shipped (model, machine, tensor parallelism)."""
    if "group" in metafunc.fixturenames:
        metafunc.parametrize("group", GROUPS, ids=["-".join(map(str, group)) for group in GROUPS])


@pytest.fixture(scope="session")
def perf_model_csv() -> Path:
    data = ROOT.parent / "shared" / "data"
    if not data.is_dir():
        pytest.skip("the public originals (../shared/data) are not on this machine")
    return data / "splitwise" / "perf_model.csv"


@pytest.fixture(scope="session")
def derive_curves() -> ModuleType:
    spec = importlib.util.spec_from_file_location("derive_curves", ROOT / "hardware_specs" / "derive_curves.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["derive_curves"] = module
    spec.loader.exec_module(module)
    return module
