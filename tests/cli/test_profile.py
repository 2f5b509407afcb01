"""``provision profile``: what it checks, times, writes, keeps and says, on the CPU with a tiny model of one's own."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from itertools import chain
from pathlib import Path

import pytest
import yaml

from provisioner.cli import profile_command
from provisioner.errors import InputError
from provisioner.options import ProfileOptions, declared
from provisioner.options.kinds import MEMORY
from provisioner.perf.points import read_points
from provisioner.profiling.grid import Grid
from provisioner.specs import catalog
from tests.cli.conftest import Ended, Run, instead
from tests.profiling.clock import by_work
from tests.profiling.shapes import TINY

MACHINE = "dgx-a100"
GRID = {
    "--prompt-tokens": "64,2048",
    "--prompt-batches": "none",
    "--decode-batches": "1,64",
    "--context": "256",
    "--other-contexts": "none",
    "--repeats": "2",
}
ASK = ("profile", "--model", "tiny", "--machine", MACHINE, "--device", "cpu", "--out", "own", *chain(*GRID.items()))
MODEL = asdict(TINY) | {"title": "Tiny", "parameters": 90_000, "trained_context_tokens": 131_072, "sources": ["a test"]}


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder of own specs with the tiny model."""
    folder = tmp_path / "own"
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "tiny.yaml").write_text(yaml.safe_dump(MODEL))
    return folder


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times by work, which no other work on these cores disturbs; skips without PyTorch."""
    need_torch()
    monkeypatch.setattr("provisioner.profiling.run.time_step", by_work)


def need_torch() -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed (the extra provisioner[profile])")


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def words(ended: Ended) -> str:
    assert ended.code == 0, ended.err
    return " ".join(ended.out.split())


def provenance(path: Path) -> set[tuple[str, str]]:
    with path.open(newline="") as file:
        return {(row["tensor_parallel"], row["provenance"]) for row in csv.DictReader(file)}


def test_a_profile_is_simulated_and_planned_with(provision: Run, own: Path) -> None:
    """By the clock on the wall: the command, then a simulation and a plan on the curve that it wrote."""
    need_torch()
    text = words(provision(*instead(ASK, "--decode-batches", "1,256", "--repeats", "9")))
    assert text.startswith("4 points of tiny on dgx-a100 at TP 1, measured")
    assert "own/curves/dgx-a100__tiny.csv" in text and "timed on a CPU" in text and "timed in fp32" in text
    assert files(own) == ["curves/dgx-a100__tiny.csv", "curves/dgx-a100__tiny__tp1.yaml", "models/tiny.yaml"]
    points = read_points(own / "curves" / "dgx-a100__tiny.csv", model="tiny", machine=MACHINE)[1]
    about = yaml.safe_load((own / "curves" / "dgx-a100__tiny__tp1.yaml").read_text())
    assert about["environment"]["device"] == "cpu" and about["all_reduces"] is None
    replica = ("--specs", "own", "--model", "tiny", "--tp", "1")
    (alone,) = [p.latency_s for p in points if p.phase == "decode" and p.batch == 1]
    rate = 1 / (400 * alone)  # of 8 replicas seldom one has two requests, however fast this machine is
    load = ("--rate", f"{rate:.3g}", "--slo", "batch", "--ttft-p99", "60s", "--json")
    cluster = ("--pool", "mixed:dgx-a100=1", "--duration", f"{100 / rate:.0f}s")
    ended = provision("simulate", *replica, *cluster, *load)
    assert ended.code == 0, ended.err
    simulated = json.loads(ended.out)
    tbt_s = next(r["seconds"]["mean"] for r in simulated["latency"] if (r["metric"], r["percentile"]) == ("tbt", 50.0))
    assert tbt_s == pytest.approx(alone, rel=0.05)
    plan = json.loads(provision("plan", "--fast", "--machine", MACHINE, *replica, *load).out)
    assert plan["pools"][0]["tensor_parallel"] == 1


def test_json_has_points_files_and_what_was_done(provision: Run, own: Path, steady: None) -> None:
    data = json.loads(provision(*ASK, "--json").out)
    assert [point["provenance"] for point in data["points"]] == ["measured"] * 4
    assert data["written"] == ["own/curves/dgx-a100__tiny.csv", "own/curves/dgx-a100__tiny__tp1.yaml"]
    assert data["grid"]["other_context_tokens"] == [] and data["layers_timed"] == 2 and len(data["remarks"]) >= 2


def test_no_row_of_a_share_is_measured_and_other_degrees_stay(provision: Run, own: Path, steady: None) -> None:
    """With the all-reduces of A100 kernels the rows are derived; the file beside them says what was added."""
    path = own / "curves" / "dgx-a100__tiny.csv"
    assert provision(*ASK).code == 0
    text = words(provision(*ASK, "--tp", "2"))
    assert "at TP 2, derived" in text and "of it all-reduces, ms" in text and "its points at TP 1 are kept" in text
    assert provenance(path) == {("1", "measured"), ("2", "derived")}
    about = yaml.safe_load((own / "curves" / "dgx-a100__tiny__tp2.yaml").read_text())
    added = about["all_reduces"]["added_s"]
    points = read_points(path, model="tiny", machine=MACHINE)
    assert len(added) == len(points[2]) == 4 and min(added.values()) > 5e-6
    assert (own / "curves" / "dgx-a100__tiny__tp1.yaml").is_file()
    text = words(provision(*ASK[:4], "rtx4090-x8", *ASK[5:], "--tp", "2"))
    assert "at TP 2, estimated" in text
    before = path.read_text()
    text = words(provision(*ASK))
    assert "the 4 points at TP 1 that the file had are replaced" in text and "its points at TP 2 are kept" in text
    assert path.read_text() == before


def test_a_gpu_unlike_the_machines_is_said(provision: Run, own: Path, steady: None) -> None:
    from provisioner.profiling.run import profile

    grid = Grid(prompt_tokens=(16, 64), decode_batches=(1, 2), other_context_tokens=())
    found = profile(TINY, MACHINE, grid=grid, device="cpu")
    asked = profile_command._ask(ProfileOptions(model="tiny", machine=MACHINE, out="own"))
    for gib, doubts in ((79.2, 0), (140.4, 1)):
        found.environment.update(device="cuda", device_name="A GPU", device_memory_gib=gib)
        said = [doubt for doubt in profile_command._doubts(asked, found) if "A GPU has" in doubt]
        assert len(said) == doubts


def test_points_that_the_curve_leaves_out_are_said(
    provision: Run, own: Path, steady: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch of 4 that is ten times faster than one sequence."""
    from provisioner.profiling import run

    timed = run._time_work

    def odd(job: object, work: object) -> object:
        found = timed(job, work)  # type: ignore[arg-type]
        return found.scaled(0.001, type(found)(0, 0, 0)) if work.batch == 4 else found  # type: ignore[attr-defined]

    monkeypatch.setattr(run, "_time_work", odd)
    assert "the curve leaves out 256 x 4 decode" in words(provision(*instead(ASK, "--decode-batches", "1,2,4,64")))
    before = files(own)
    ended = provision(*instead(ASK, "--decode-batches", "1,4"))
    assert ended.code == 2 and "must have 2 or more" in ended.err
    assert "nothing was written: delete own/curves/dgx-a100__tiny__tp1.journal" in ended.err
    assert files(own) == sorted([*before, "curves/dgx-a100__tiny__tp1.journal"])


class TestRefusals:
    @pytest.mark.parametrize(
        ("more", "message"),
        [
            (("--model", "tiny2"), "unknown model 'tiny2': the nearest is tiny,"),
            (("--machine", "dgx-a10"), "unknown machine 'dgx-a10': did you mean dgx-a100?"),
            (("--tp", "16"), "--tp: must be at most the 8 GPUs of dgx-a100, got 16"),
            (("--tp", "0"), "--tp: must be a whole number of GPUs, 1 or more, got 0"),
            (("--tp", "8"), "model tiny: tensor_parallel 8: must divide heads = 4"),
            (("--decode-batches", "4"), "--decode-batches: must have 2 or more batches, else there is no curve"),
            (("--other-contexts", "32"), "--context-batches: must have fewer batches above 1 than decode_batches"),
            (("--prompt-tokens", "64,x"), "--prompt-tokens: must be a number of tokens, got 'x'"),
            (("--prompt-tokens", "64"), "--prompt-tokens: must have 2 or more sizes"),
            (("--context", "-1"), "--context: must be a whole number of tokens, 1 or more, got -1"),
            (("--repeats", "0"), "--repeats: must be a whole number, 1 or more, got 0"),
            (("--memory", "24"), "--memory: must be memory above 0 with its unit, such as 24GiB or 80GB, got '24'"),
            (("--specs", "none"), "--specs: must be a folder with"),
            (("--out", "no/own"), "--out no/own: the folder no does not exist"),
            (("--out", "points.csv"), "--out points.csv: must be a folder of own specs"),
            (("--out", "there", "--specs", "own"), "--out there: has no model tiny, which own has: give --out own"),
            (("--machine", "dgx-h100"), "dgx-h100__tiny.csv: row 1: missing column model"),
            (("--model", "fp8"), "--model fp8: is not all in bf16, and fp8 is not built here"),
        ],
    )
    def test_before_pytorch_is_loaded(
        self, provision: Run, own: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...], message: str
    ) -> None:
        monkeypatch.setitem(sys.modules, "torch", None)
        (own / "curves").mkdir()
        (own / "curves" / "dgx-h100__tiny.csv").write_text("a,b\n")
        (own / "models" / "fp8.yaml").write_text(yaml.safe_dump(MODEL | {"name": "fp8", "dtype": "fp8"}))
        before = files(own.parent)
        ended = provision(*instead(ASK, *more))
        assert ended.code == 2 and message in ended.error
        assert files(own.parent) == before and not (own.parent / "there").exists()

    def test_without_pytorch(self, provision: Run, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "torch", None)
        ended = provision(*ASK)
        assert ended.code == 2
        assert ended.error == "provision profile: needs PyTorch: pip install 'provisioner[profile]'"
        assert files(own) == ["models/tiny.yaml"] and not (own / "curves").exists()

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            (("--dtype", "fp8"), "--dtype: fp8 is not built here"),
            (("--dtype", "int4"), "--dtype: must be bf16, fp16, fp32, got 'int4'"),
            (("--device", "tpu"), "--device: must be cuda, cuda:N or cpu, got 'tpu'"),
            (("--memory", "0.1MB"), "too little is left for a curve"),
        ],
    )
    def test_on_the_device_nothing_stays(self, provision: Run, own: Path, more: tuple[str, ...], message: str) -> None:
        need_torch()
        ended = provision(*instead(ASK, *more))
        assert ended.code == 2 and message in ended.error
        assert files(own) == ["models/tiny.yaml"] and not (own / "curves").exists()

    def test_no_options(self, provision: Run) -> None:
        assert provision("profile").error == "missing option '--model'; see provision profile --help"


def test_an_interrupt_keeps_the_points_and_resume_goes_on(provision: Run, own: Path) -> None:
    """Ctrl-C to a process of its own while it times; then the rest in this one."""
    need_torch()
    code = (  # a shell's background jobs are started with interrupts ignored
        "import signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from provisioner.profiling import run\ntimed, done = run._time_work, []\n"
        "def slow(job, work):\n"
        "    if done:\n        print('timing', file=sys.stderr, flush=True)\n        import time; time.sleep(600)\n"
        "    done.append(work)\n    return timed(job, work)\n"
        "run._time_work = slow\nfrom provisioner.cli import main\nsys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, *ASK]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=own.parent
    ) as run:
        assert run.stderr is not None
        while run.stderr.readline() != "timing\n":
            assert run.poll() is None
        run.send_signal(signal.SIGINT)
        out, said = run.communicate(timeout=60)
    assert (run.returncode, out) == (130, "")
    assert said.splitlines()[-1] == (
        "error: interrupted: 1 of 4 points timed; kept in the journal, --resume goes on from there"
    )
    journal = "curves/dgx-a100__tiny__tp1.journal"
    assert files(own) == [journal, "models/tiny.yaml"]
    assert f"own/{journal}: is of a study that was interrupted: go on with --resume" in provision(*ASK).error
    assert (
        "is of another question (it differs in repeats)" in provision(*instead(ASK, "--repeats", "3"), "--resume").error
    )
    kept = json.loads((own / journal).read_text().splitlines()[1])["record"]["latency_s"]
    data = json.loads(provision(*ASK, "--resume", "--json").out)
    assert data["points"][0]["latency_s"] == kept
    assert data["environment"]["points_of_earlier_sessions"] == 1
    assert files(own) == ["curves/dgx-a100__tiny.csv", "curves/dgx-a100__tiny__tp1.yaml", "models/tiny.yaml"]


def test_progress_says_how_far_it_is(provision: Run, own: Path, steady: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provisioner.cli.progress._FIRST_S", 0.0)
    monkeypatch.setattr("provisioner.cli.progress._NEXT_S", 0.0)
    lines = provision(*ASK).err.splitlines()
    assert lines[0] == "timing: making random weights: the whole model"
    assert lines[1].startswith("timing: prompt 64 x 1: ") and lines[1].endswith("(1 of 4)")
    assert lines[4].startswith("timing: decode 64 at 256: ") and lines[4].endswith("(4 of 4)")


class TestOptions:
    def test_every_field_of_the_grid_can_be_typed(self) -> None:
        assert set(asdict(Grid())) <= set(declared(ProfileOptions))

    @pytest.mark.parametrize("columns", [100, 70])
    def test_help_fits(self, provision: Run, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
        monkeypatch.setenv("COLUMNS", str(columns))
        ended = provision("profile", "--help")
        assert (ended.code, ended.err) == (0, "") and ended.out.startswith("Usage: provision profile [OPTIONS]")
        assert max(map(len, ended.out.splitlines())) <= columns

    @pytest.mark.parametrize(
        "text", ["", "GiB", "-1GiB", "0GB", "nanGB", "infGB", "1e400GB", "3 apples", "2B", "1..2GB"]
    )
    def test_what_is_no_memory(self, text: str) -> None:
        with pytest.raises(InputError, match=r"--memory: must be memory above 0 with its unit"):
            MEMORY.parse(text, "--memory")

    def test_memory(self) -> None:
        given = {"80GB": 80e9, "80gib": 80 * 2**30, "512 MiB": 2**29, "1TiB": 2**40, "1e3kB": 1e6}
        assert {text: MEMORY.parse(text, "") for text in given} == given


def test_the_machine_of_the_tests_has_measured_all_reduces() -> None:
    assert catalog.machine(MACHINE).kernels and not catalog.machine("rtx4090-x8").kernels
