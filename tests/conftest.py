from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FAST = frozenset({"specs", "perf", "queueing", "planning"})  # folders of tests that need no proof


def pytest_configure(config: pytest.Config) -> None:
    """Collect nothing but the fast folders where ``-m fast`` names no others: it takes longer than their tests."""
    if config.getoption("markexpr") == "fast" and config.args_source is config.ArgsSource.TESTPATHS:
        config.args[:] = [str(ROOT / "tests" / folder) for folder in sorted(FAST)]


@pytest.hookimpl(tryfirst=True)  # before -m selects by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the fast folders ``fast``, but not proofs nor what is marked ``slow``."""
    tests = ROOT / "tests"
    for item in items:
        folder = item.path.relative_to(tests).parts[0] if item.path.is_relative_to(tests) else ""
        proof = item.path.name.startswith("test_proof")
        if folder in FAST and not proof and item.get_closest_marker("slow") is None:
            item.add_marker("fast")


@pytest.fixture(scope="session")
def repo_root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The public originals that the shipped tables are derived from; they are not part of the project."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the public source data are not at {folder}")
    return folder
