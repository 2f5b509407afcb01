"""The one direction of imports, the length of files, what is loaded when, and the public names."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest

import provisioner

PACKAGE = Path(provisioner.__file__).parent
FILES = sorted(path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix in {".py", ".js", ".jinja"})
MODULES = {
    ".".join(("provisioner", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in FILES
    if path.suffix == ".py"
}
MOST_LINES = 600

# Folders and modules of the package from the ground up: a module imports its own folder and lower floors only. The
# package itself is the roof.
FLOORS = (
    {"errors", "progress", "spelling", "version"},
    {"deadline"},
    {"files"},
    {"specs"},
    {"options", "results"},
    {"perf"},
    {"queueing", "simulation", "profiling"},
    {"planning"},
    {"loading"},
    {"verify"},
    {"studies", "report"},
    {"api"},
    {"cli"},
    {"__main__", ""},
)
FLOOR = {part: floor for floor, parts in enumerate(FLOORS) for part in parts}
HEAVY = ("numpy", "pandas", "scipy", "pulp", "highspy", "pydantic", "altair", "numba", "pyarrow", "torch")


def part(module: str) -> str:
    """The folder of the package, or the module in the package itself, that a module is in; "" for the package."""
    return [*module.split("."), ""][1]


@cache
def imported(module: str) -> frozenset[str]:
    """All modules of the package that a module imports: at its head, for types alone, in functions, and by importlib.

    A module that asks importlib imports whatever one of its texts names.
    """
    nodes = list(ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))))
    names = [name for node in nodes for name in _imports(node)]
    called = [ast.unparse(node) for node in nodes if isinstance(node, ast.Name | ast.Attribute)]
    if any(name.endswith("import_module") for name in called):
        texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
        names += [text.rstrip(".") for text in texts]
    return frozenset(known for name in names if (known := _module_of(name)) is not None) - {module}


def _imports(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "relative imports hide the direction"
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _module_of(name: str) -> str | None:
    """The module of the package that a dotted name is, or is in; names in the package itself may leave that out."""
    if not re.fullmatch(r"[a-z_]+(\.\w+)*", name):
        return None
    parts = name.removeprefix("provisioner.").split(".") if name != "provisioner" else []
    absolute = name.split(".")[0] == "provisioner"
    for count in range(len(parts), -1 if absolute else 0, -1):
        module = ".".join(("provisioner", *parts[:count]))
        if module in MODULES:
            return module
    return None


def test_imports_of_every_kind_are_seen() -> None:
    assert {"provisioner.options.plan", "provisioner.options.base"} <= imported("provisioner.options")
    assert {"provisioner.api", "provisioner.report.reports"} <= imported("provisioner")  # for types, and by importlib
    assert "provisioner.loading.scenario" in imported("provisioner.api")  # in a function
    assert "provisioner.results" in imported("provisioner.cli.commands")  # by the part of a name that is known


def test_no_import_goes_round_in_a_circle() -> None:
    left = {module: imported(module) for module in MODULES}
    while True:
        targets = {target for module in left for target in left[module]}
        kept = {module for module in left if module in targets and left[module] & left.keys()}
        if kept == left.keys():
            break
        left = {module: left[module] & kept for module in kept}
    assert not left, "\n".join(f"{module} imports {', '.join(sorted(left[module]))}" for module in sorted(left))


def test_imports_go_down() -> None:
    up = [
        f"{module} imports {target}"
        for module in MODULES
        for target in sorted(imported(module))
        if part(module) != part(target) and FLOOR[part(module)] <= FLOOR[part(target)]
    ]
    assert not up, "\n".join(up)


def test_what_proposes_clusters_knows_nothing_of_what_judges_them() -> None:
    for module in MODULES:
        if part(module) in ("planning", "queueing"):
            assert not any(part(target) == "simulation" for target in imported(module)), module


def test_no_file_is_long() -> None:
    lines = {str(path.relative_to(PACKAGE)): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert not {name: count for name, count in lines.items() if count > MOST_LINES}


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


def test_importing_the_package_costs_little() -> None:
    """Nothing of it but its versions, and the place of its reports; no dataclass, whose module is half of the time."""
    loaded = loaded_after("import provisioner")
    parts = {"provisioner", "provisioner.results", "provisioner.results.loader", "provisioner.version"}
    assert {name for name in loaded if part(name) or name == "provisioner"} & MODULES.keys() == parts
    assert not loaded & {"dataclasses", "inspect"}


def test_options_and_errors_need_the_standard_library_only() -> None:
    modules = "provisioner.options, provisioner.errors, provisioner.specs.units"
    ours = {name.split(".")[0] for name in loaded_after(f"import {modules}")}
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
    assert provisioner._HOME.keys() <= set(provisioner.__all__)
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
        text = MODULES[module].read_text(encoding="utf-8")
        assert module == "provisioner.version" or not re.search(r"""version\(["']provisioner["']\)""", text), module


def test_every_module_imports() -> None:
    for module in MODULES:
        if not module.endswith("__main__"):
            importlib.import_module(module)
