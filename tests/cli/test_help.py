import ast
import subprocess
import sys
from pathlib import Path

import pytest

import provisioner
from provisioner import cli
from provisioner.cli import main
from provisioner.cli.document import refreshed
from provisioner.options import SimulateOptions, declared
from provisioner.simulation.policy import Policy
from tests.cli.conftest import Run
from tests.docs.cli_page import CLI_PAGE

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
    assert ended.out == f"provisioner {provisioner.__version__}\n"


def test_defaults_are_those_of_the_policies() -> None:
    policy, published = Policy("splitwise"), Policy("splitwise").as_published()
    options = declared(SimulateOptions)
    for name in ("max_pending_tokens", "max_preemptions"):
        assert options[name].shown_default == str(getattr(policy, name))
    for name in ("batch_tokens", "batch_requests"):
        of_paper = f"{getattr(policy, name)} with policies of the Splitwise paper"
        assert options[name].shown_default == f"the engine's; {of_paper}"
    assert options["transfer_retry_s"].shown_default == (
        f"{policy.transfer_retry_s:g}; {published.transfer_retry_s:g}s with splitwise-sim"
    )
    assert options["share_links"].shown_default == "shared; apart with splitwise-sim"
    assert (policy.share_links, published.share_links) == (True, False)


def test_documentation_is_fresh() -> None:
    text = CLI_PAGE.read_text(encoding="utf-8")
    assert text == refreshed(text), "run: python -m provisioner.cli.document docs/reference/cli.md"


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
    ours = ("cli", "deadline", "errors", "files", "options", "progress", "specs.units", "spelling")
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
