"""The one direction of imports, what is loaded when, and the public names."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

import provisioner

PACKAGE = Path(provisioner.__file__).parent
MODULES = sorted(
    ".".join(("provisioner", *path.relative_to(PACKAGE).with_suffix("").parts))
    for path in PACKAGE.rglob("*.py")
    if "_data" not in path.parts
)

# Who may import whom: specs <- options <- perf <- queueing <- planning <- api <- cli. The simulator stands beside
# queueing; loading makes what planning and simulation work on, verify proves plans by simulation,
# studies ask many of both; profiling measures on the GPU at hand.
LEVEL = {
    "errors": 0,
    "progress": 0,
    "spelling": 0,
    "files": 1,
    "version": 0,
    "specs": 1,
    "options": 2,
    "perf": 3,
    "results": 3,
    "queueing": 4,
    "simulation": 4,
    "profiling": 4,
    "planning": 5,
    "loading": 6,
    "verify": 8,
    "studies": 9,
    "report": 10,
    "api": 11,
    "cli": 12,
}
HEAVY = ("numpy", "pandas", "scipy", "pulp", "highspy", "pydantic", "altair", "numba", "pyarrow", "torch")
STUDIES = ("compare", "pareto", "result")
# Imported only when something is rendered, by the level below it.
LAZY = {
    ("provisioner.results.simulation", "report"),
    ("provisioner.api", "report"),
    *((f"provisioner.studies.{study}", "report") for study in STUDIES),
}


def part(module: str) -> str:
    """The part of the package that a module is in; the package itself has none."""
    return [*module.split("."), ""][1]


def file_of(module: str) -> Path:
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"


def imports(tree: ast.AST, lazy: bool = True) -> Iterator[str]:
    """Modules of this package that a module imports; those in functions too where ``lazy``."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not lazy:
            continue
        if (
            isinstance(node, ast.If)
            and isinstance(node.test, ast.Name)
            and node.test.id == "TYPE_CHECKING"
            and not lazy
        ):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("provisioner"))
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the direction"
            if (node.module or "").startswith("provisioner"):
                yield node.module or ""
                if node.module == "provisioner" or part(node.module or "") == node.names[0].name:
                    yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from imports(node, lazy)


def arrows() -> Iterator[tuple[str, str]]:
    """Every import of one module of the package by another: (module, target), lazy ones too."""
    for module in MODULES:
        for target in imports(ast.parse(file_of(module).read_text(encoding="utf-8"))):
            if (module, part(target)) not in LAZY:
                yield module, target


def test_imports_point_one_way() -> None:
    for module, target in arrows():
        mine, theirs = part(module), part(target)
        if mine in LEVEL and theirs not in ("", mine):
            assert theirs in LEVEL, f"{module} imports {target}, which has no level"
            assert LEVEL[theirs] < LEVEL[mine], f"{module} imports {target}"


def test_the_simulator_stands_apart_from_what_it_judges() -> None:
    beside = {"simulation", "errors", "options", "progress", "specs", "perf", "results"}
    for module, target in arrows():
        if part(module) == "simulation":
            assert part(target) in beside, f"{module} imports {target}"
        if part(module) in ("planning", "queueing"):
            assert part(target) != "simulation", f"{module} imports {target}"


def test_every_module_has_a_level() -> None:
    known = set(LEVEL) | {"", "__init__", "__main__", "py"}
    assert {part(module) for module in MODULES} <= known


def test_reports_are_imported_by_the_cli_and_where_a_plan_shows_itself_only() -> None:
    for module in MODULES:
        tree = ast.parse(file_of(module).read_text(encoding="utf-8"))
        if part(module) not in ("report", "cli"):
            lazily = {part(target) for target in imports(tree)} - {part(target) for target in imports(tree, lazy=False)}
            everything = {part(target) for target in imports(tree)}
            if "report" in everything:
                assert (module, "report") in LAZY and "report" in lazily, module


def loaded_after(statement: str) -> set[str]:
    code = f"import sys, json\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "statement",
    [
        "import provisioner",
        "import provisioner.cli, provisioner.options",
        "from provisioner import PlanOptions, InputError",
    ],
)
def test_nothing_heavy_is_loaded_for_help(statement: str) -> None:
    assert not loaded_after(statement) & set(HEAVY)


def test_options_and_errors_need_the_standard_library_only() -> None:
    modules = "provisioner.options, provisioner.errors, provisioner.specs.units, provisioner.specs.names"
    existing = [name for name in modules.split(", ") if file_of(name).is_file()]
    ours = {name.split(".")[0] for name in loaded_after(f"import {', '.join(existing)}")}
    bare = {name.split(".")[0] for name in loaded_after("import dataclasses, difflib, math, re, typing")}
    third_party = {name for name in ours - bare - {"provisioner"} if name not in sys.stdlib_module_names}
    assert not third_party


def test_a_plan_is_made_without_reports_or_data_frames() -> None:
    loaded = loaded_after("import provisioner.api, provisioner.planning.answer")
    assert not loaded & {"pandas", "altair", "rich", "scipy.stats", "scipy.optimize"}
    assert not any(name.startswith(("provisioner.report", "provisioner.cli")) for name in loaded)


def test_public_names() -> None:
    assert sorted(provisioner.__all__) == provisioner.__all__
    for name in provisioner.__all__:
        assert getattr(provisioner, name) is not None
    assert provisioner.__all__ == sorted([*provisioner._HOME, "__version__"])
    with pytest.raises(AttributeError, match="has no attribute 'plann'"):
        provisioner.plann  # noqa: B018


def test_the_version_is_that_of_the_installed_package() -> None:
    assert provisioner.__version__ == metadata.version("provisioner")
    assert "importlib.metadata" not in loaded_after("import provisioner")


def test_a_checkout_that_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert provisioner.__version__ == "0+unknown"


def test_only_the_package_asks_for_its_own_version() -> None:
    for module in MODULES:
        text = file_of(module).read_text(encoding="utf-8")
        assert module == "provisioner.version" or not re.search(r"""version\(["']provisioner["']\)""", text), module


def test_every_module_imports() -> None:
    for module in MODULES:
        if not module.endswith("__main__"):
            importlib.import_module(module.removesuffix(".__init__"))
