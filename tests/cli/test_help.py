import ast
import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from provisioner import cli
from provisioner.cli import main
from provisioner.cli.commands import command
from provisioner.cli.document import EXAMPLES, document
from provisioner.options import LIMIT_NAMES, PlanOptions, SimulateOptions
from provisioner.simulation.policy import Policy
from tests.cli.conftest import Run

STUDIES = ["compare", "capacity", "pareto", "sweep", "sensitivity", "reproduce"]
CATALOGUE = [
    *("machines", "models", "models show", "models import", "curves", "curves show", "curves import"),
    *("workloads", "workloads show", "workloads import"),
]
COMMANDS = ["", "plan", "simulate", "profile", *STUDIES, *CATALOGUE]


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("columns", [100, 70])
def test_help_is_plain_and_fits(provision: Run, monkeypatch: pytest.MonkeyPatch, name: str, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    ended = provision(*name.split(), "--help")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"Usage: {' '.join(['provision', *name.split()])}")
    assert max(map(len, ended.out.splitlines())) <= columns
    assert "\x1b" not in ended.out
    assert provision(*name.split(), "-h").out == ended.out


def test_no_arguments_show_the_help(provision: Run) -> None:
    assert provision().out == provision("--help").out


def test_version(provision: Run) -> None:
    ended = provision("--version")
    assert ended.code == 0
    assert ended.out.startswith("provisioner ")


@pytest.mark.parametrize(("name", "options"), [("plan", PlanOptions), ("simulate", SimulateOptions)])
def test_every_field_of_the_options_can_be_typed(name: str, options: type) -> None:
    typed = {param.name for param in command().commands[name].params}
    fields = {field.name for field in dataclasses.fields(options)} - {"limits"}
    assert fields | set(LIMIT_NAMES) <= typed
    assert typed - fields - set(LIMIT_NAMES) <= {"out", "json", "debug", "help"}


def test_defaults_are_those_of_the_options(provision: Run) -> None:
    text = " ".join(provision("plan", "--help").out.split())
    options = PlanOptions()
    for value in (options.workload, options.model, options.slo, options.objective, options.prices, options.solver):
        assert f"[default: {value}]" in text
    assert f"[default: {options.headroom:g}]" in text


def test_defaults_of_a_simulation_are_those_of_its_options_and_policies(provision: Run) -> None:
    defaults = {param.name: str(param.show_default) for param in command().commands["simulate"].params}
    policy, published = Policy("splitwise"), Policy("splitwise").as_published()
    for name in ("workload", "model", "slo", "sets", "assumptions", "seed"):
        assert defaults[name] == str(getattr(SimulateOptions(), name))
    for name in ("max_pending_tokens", "batch_tokens", "batch_requests", "max_preemptions"):
        assert defaults[name] == str(getattr(policy, name))
    assert defaults["transfer_retry_s"] == (
        f"{policy.transfer_retry_s:g}; {published.transfer_retry_s:g}s with splitwise-sim"
    )
    assert defaults["share_links"] == "shared; apart with splitwise-sim"
    assert (policy.share_links, published.share_links) == (True, False)
    assert "[default: 2 min]" in " ".join(provision("simulate", "--help").out.split())


def test_documentation_is_fresh() -> None:
    page = Path(__file__).parents[2] / "docs" / "cli.md"
    assert page.read_text(encoding="utf-8") == document(), "run: python -m provisioner.cli.document > docs/cli.md"


@pytest.mark.parametrize("typed", [typed for _, typed in EXAMPLES])
def test_examples_of_the_documentation_run(provision: Run, typed: str) -> None:
    ended = provision(*typed.split()[1:])
    assert ended.code == 0
    assert all(line.startswith(("compiling", "planning", "simulating", "writing")) for line in ended.err.splitlines())
    assert ended.out


def test_help_loads_typer_and_the_standard_library_only() -> None:
    code = (
        "import sys\n"
        "from provisioner.cli import main\n"
        "main(['--help']); main(['plan', '--help']); main(['simulate', '--help']); main(['sweep', '--help'])\n"
        "heavy = {'rich', 'numpy', 'pandas', 'scipy', 'pulp', 'pydantic', 'yaml', 'altair', 'numba', 'pyarrow'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_modules_of_the_command_line_import_nothing_heavy() -> None:
    ours = ("cli", "errors", "options", "progress", "specs.units")
    light = (*(f"provisioner.{name}" for name in ours), "typer")
    for path in Path(str(cli.__file__)).parent.glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                assert name.startswith(light) or name.split(".")[0] in sys.stdlib_module_names, f"{path.name}: {name}"


def test_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "provisioner", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("provisioner ")


def test_main_takes_the_arguments_of_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["provision", "--version"])
    assert main() == 0
    assert capsys.readouterr().out.startswith("provisioner ")
