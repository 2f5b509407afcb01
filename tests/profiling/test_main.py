"""``python -m provisioner.profiling``: a run, its exit codes, an interrupt, and its imports."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import asdict
from itertools import chain
from pathlib import Path

import pytest
import yaml

from provisioner.perf.points import read_points
from provisioner.profiling.__main__ import main
from tests.profiling.shapes import TINY

GRID = {
    "--prompt-tokens": "16,64",
    "--batched-prompt-tokens": "16",
    "--prompt-batches": "2",
    "--context-tokens": "32",
    "--decode-batches": "1,2",
    "--other-context-tokens": "64",
    "--context-batches": "1",
    "--repeats": "2",
}


@pytest.fixture
def given(tmp_path: Path) -> list[str]:
    shape = tmp_path / "shape.yaml"
    shape.write_text(yaml.safe_dump(asdict(TINY)))
    out = str(tmp_path / "curve.csv")
    return ["--shape", str(shape), "--machine", "a-cpu", "--device", "cpu", "--out", out, *chain(*GRID.items())]


def test_a_run_writes_both_files_and_says_what_was_not_measured(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed (the extra provisioner[profile])")
    assert main([*given, "--tp", "2"]) == 0
    shown = capsys.readouterr()
    assert "6 points of tiny on a-cpu at TP 2, assumed: " in shown.out
    assert "not measured: all-reduce not measured" in shown.out
    assert "(6 of 6)" in shown.err
    points = read_points(tmp_path / "curve.csv", model="tiny", machine="a-cpu")
    assert list(points) == [2] and {point.provenance for point in points[2]} == {"assumed"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--dtype", "fp8"], "dtype: fp8 is not built here"),
        (["--out", "none/curve.csv"], "the folder none does not exist"),
        (["--shape", "none.yaml"], "none.yaml: cannot be read"),
        (["--decode-batches", "4"], "decode_batches: must have 2 or more batches"),
        (["--memory-gib", "-1"], "memory_bytes: must be above 0 bytes"),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    given: list[str], more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed (the extra provisioner[profile])")
    assert main([*given, *more]) == 2
    shown = capsys.readouterr()
    assert message in shown.err and shown.err.count("\n") == 1 and not shown.out


def test_without_pytorch_the_extra_is_named(
    given: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(given) == 2
    assert capsys.readouterr().err == "error: provision profile: needs PyTorch: pip install 'provisioner[profile]'\n"


@pytest.mark.parametrize("error", [OSError("libcudart.so.12: cannot open"), ImportError("libcudart.so.12: no file")])
def test_a_broken_pytorch_is_not_called_absent(
    error: Exception, given: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: str) -> None:
        raise error

    monkeypatch.setattr("provisioner.profiling.torch_import.import_module", broken)
    assert main(given) == 2
    assert f"PyTorch cannot be loaded: {error}" in capsys.readouterr().err


def test_an_interrupt_writes_nothing(given: list[str], tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed (the extra provisioner[profile])")
    code = (  # a shell's background jobs are started with interrupts ignored
        "import signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from provisioner.profiling.__main__ import main\nsys.exit(main())"
    )
    command = [sys.executable, "-c", code, *given, "--repeats", "100000"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as run:
        assert run.stderr is not None
        assert "making random weights" in run.stderr.readline()
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "interrupted: 0 of 6 points timed; nothing written" in said and "Traceback" not in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shape.yaml"]


def test_a_bare_machine_needs_nothing_but_pytorch_and_yaml() -> None:
    """Whatever else the package needs is not loaded, so that the file can be made where only PyTorch is."""
    code = (
        "import sys\nimport provisioner.profiling.__main__\n"
        "print(' '.join(sorted({name.split('.')[0] for name in sys.modules} - set(sys.stdlib_module_names))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours = {name for name in done.stdout.split() if not name.startswith("_")}
    assert not ours & {"numpy", "pydantic", "pulp", "numba", "pandas", "scipy", "torch", "altair"}
    assert "provisioner" in ours
