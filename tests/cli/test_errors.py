"""Every way in which a command can go wrong: an exit code, one line, and nothing written."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from provisioner import api
from provisioner.cli import run as cli_run
from provisioner.errors import InfeasibleError
from tests.cli.conftest import Run

HH = ("plan", "--fast", "--slo", "p99", "--design", "splitwise-hh")

BAD_OPTIONS = [
    # unknown names, with the nearest known
    (("plan", "--workload", "codin"), "unknown workload 'codin': did you mean coding?"),
    (("plan", "--model", "llama2-7b"), "unknown model 'llama2-7b': the nearest is llama2-70b, of another size"),
    (("plan", "--model", "lama2-70b"), "unknown model 'lama2-70b': did you mean llama2-70b?"),
    (
        ("plan", "--model", "qwen3-vl-8b"),
        "unknown model 'qwen3-vl-8b': the nearest is qwen3-8b, of another",
    ),
    (
        ("plan", "--model", "deepseek-v3"),
        "model deepseek-v3: is not described: mixture of experts and multi-",
    ),
    (("plan", "--model", "Qwen/Qwen3-8B-AWQ"), "model Qwen/Qwen3-8B-AWQ: is qwen3-8b in a number type of which there"),
    (("plan", "--model", "llama2-70b", "--model", "qwen3-8b"), "--model: is given 2 times; give it once"),
    (("simulate", "--rate", "2", "--duration", "9", "--rate=3"), "--rate: is given 2 times; give it once"),
    (("models", "show", "--specs", "a", "--specs", "b"), "--specs: is given 2 times; give it once"),
    (("plan", "--machine", "dgx-h10"), "unknown machine 'dgx-h10': did you mean dgx-h100?"),
    (("plan", "--design", "splitwise-hx"), "unknown design 'splitwise-hx': did you mean splitwise-h"),
    (("plan", "--slo", "p98"), "unknown SLO 'p98': did you mean p9"),
    (("plan", "--prices", "2025"), "unknown price list '2025': did you mean 2026?"),
    (("plan", "--objective", "costs"), "unknown objective 'costs': did you mean cost?"),
    (("plan", "--assumptions", "measure"), "unknown set of assumptions 'measure': did you mean measured?"),
    (("plan", "--solver", "HiGS"), "unknown solver 'HiGS'"),
    (("plan", "--stock", "dgx-h10=4"), "unknown machine 'dgx-h10'"),
    (("machines", "dgx-h10"), "unknown machine 'dgx-h10': did you mean dgx-h100?"),
    (("models", "opt"), "unknown model 'opt'"),
    (("workloads", "codin"), "unknown workload 'codin': did you mean coding?"),
    (("curves", "dgx-h10"), "unknown model or machine 'dgx-h10': did you mean dgx-h100?"),
    # how commands are typed
    (("plann",), "unknown command 'plann': did you mean plan?"),
    (("plan", "--rat", "5"), "unknown option '--rat': did you mean --rate? (see provision plan --help)"),
    (("--xyzzy",), "unknown option '--xyzzy'; see provision --help"),
    (("workloads", "--jsn"), "unknown option '--jsn': did you mean --json?"),
    (("plan", "coding"), "unexpected extra argument"),
    (("plan", "--rate"), "'--rate' requires an argument"),
    (("plan", "--json=yes"), "'--json' does not take a value"),
    (("workloads", "import"), "missing argument 'FILE'; see provision workloads import --help"),
    # quantities
    (("plan", "--rate", "0"), "--rate: must be above 0 requests/s, got 0"),
    (("plan", "--rate", "-5"), "--rate: must be above 0 requests/s, got -5"),
    (("plan", "--rate", "nan"), "--rate: must be a number of requests/s, got 'nan'"),
    (("plan", "--rate", "inf"), "--rate: must be a number of requests/s, got 'inf'"),
    (("plan", "--rate", "many"), "--rate: must be a number of requests/s, got 'many'"),
    (("plan", "--ttft-p99", "2"), "--ttft-p99: must be a time with its unit, such as 2s, 60ms or 0.5min, got '2'"),
    (("plan", "--ttft-p99", "0s"), "--ttft-p99: must be a time above 0 s, got '0s'"),
    (("plan", "--tbt-p50", "-60ms"), "--tbt-p50: must be a time above 0 s, got '-60ms'"),
    (("plan", "--e2e-p90", "0x"), "--e2e-p90: must be a factor above 0x, got '0x'"),
    (("plan", "--e2e-p90", "nanx"), "--e2e-p90: must be a factor"),
    (("plan", "--limit"), "'--limit' requires an argument"),
    (("plan", "--ttft-p99"), "'--ttft-p99' requires an argument"),
    (("plan", "--tbt-p99.9"), "'--limit' requires an argument"),
    (("plan", "--limit", "tbt-p99"), "--limit: must be METRIC-pQ=VALUE, such as tbt-p99.9=60ms, got 'tbt-p99'"),
    (("plan", "--limit", "=5"), "--limit: must be METRIC-pQ=VALUE, such as tbt-p99.9=60ms, got '=5'"),
    (("plan", "--limit", "tbt-p99="), "--tbt-p99: must be a time with its unit, such as 2s, 60ms or 0.5min, got ''"),
    (("plan", "--limit", "tbt-pX=5ms"), "unknown limit 'tbt-pX': did you mean tbt-p99?"),
    (("plan", "--limit", "gap-pnan=5s"), "unknown limit 'gap-pnan': did you mean gap-p99?"),
    (("plan", "--limit", "tbtt-p99=5ms"), "unknown metric 'tbtt': did you mean tbt?"),
    (("plan", "--tbtt-p99.9", "5ms"), "unknown option '--tbtt-p99.9': did you mean --tbt-p99?"),
    (("plan", "--tpot-p100", "5ms"), "--limit tpot-p100: the percentile must be above 0 and at most 99.9, got 100"),
    (("plan", "--tbt-p0=5ms"), "--limit tbt-p0: the percentile must be above 0 and at most 99.9, got 0"),
    (("plan", "--tbt-p99.95=5ms"), "--limit tbt-p99.95: the percentile must be above 0 and at most 99.9, got 99.95"),
    (("plan", "--tbt-p99.9", "5"), "--limit tbt-p99.9: must be a time with its unit"),
    (("plan", "--tbt-p99", "5ms", "--limit", "tpot-p99=6ms"), "--tbt-p99: is given twice"),
    (("machines", "--tbt-p99.9", "3ms"), "unknown option '--tbt-p99.9'; see provision machines --help"),
    (("plan", "--headroom", "-0.1"), "--headroom: must be 0 or more, got -0.1"),
    (("plan", "--headroom", "x%"), "--headroom: must be a number of %"),
    (("plan", "--cv", "-1"), "--cv: must be 0 or more, got -1"),
    (("plan", "--max-cost", "0"), "--max-cost: must be above 0 $/h, got 0"),
    (("plan", "--max-power", "400GW"), "--max-power: must be a power above 0 W, such as 400000 or 400kW, got '400GW'"),
    (("plan", "--max-power", "-1kW"), "--max-power: must be a power above 0 W"),
    (("plan", "--max-machines", "1.5"), "--max-machines: must be a whole number of machines, 1 or more, got 1.5"),
    (("plan", "--max-machines", "0"), "--max-machines: must be a whole number of machines, 1 or more, got 0"),
    (("plan", "--tp", "biggest"), "--tp: must be largest, all, or numbers of GPUs such as 4,8, got 'biggest'"),
    (("plan", "--tp", "4,0"), "--tp: must be a whole number of GPUs, 1 or more, got 0"),
    (("plan", "--stock", "dgx-h100"), "--stock: must be NAME=COUNT, such as dgx-h100=20, got 'dgx-h100'"),
    (("plan", "--stock", "dgx-h100=-1"), "--stock dgx-h100: must be a whole number of machines, 0 or more, got -1"),
    (("plan", "--stock", "dgx-h100=1", "--stock", "dgx-h100=2"), "--stock: dgx-h100 is given twice"),
    (("plan", "--seed", "x"), "--seed: must be a number, got 'x'"),
    (("plan", "--seed", "-1"), "--seed: must be a whole number, 0 or more, got -1"),
    (("plan", "--objective", "throughput"), "is unbounded"),
    (("workloads", "import", "t.csv", "--rate", "0"), "--rate: must be above 0 requests/s, got 0"),
    # conflicts
    (("plan", "--trace", "t.csv", "--rate", "5"), "--trace: takes requests and times as they are; leave out --rate"),
    (("plan", "--trace", "t.csv", "--workload", "coding"), "leave out --workload"),
    (("plan", "--deadline", "9s", "--limit", "e2e-p99=9s"), "--deadline: is a limit on E2E P99, and so is --e2e-p99"),
    (("plan", "--fast", "--gap-p95", "1s"), "--fast: largest gap P95 <= 1 s is decided by simulation alone, as the"),
    (("pareto", "--fast", "--limit", "gap-p99=9x"), "--fast: largest gap P99 <= 9x is decided by simulation alone"),
    (("sensitivity", "--fast", "--largest-gap-p99", "1s"), "--fast: largest gap P99 <= 1 s is decided by simulation"),
    (("plan", "--context", "8z"), "--context: must be a number of tokens, got '8z'"),
    (("plan", "--context", "0"), "--context: must be a whole number"),
    (("plan", "--context", "4000"), "of the requests of coding are longer than 4,000 tokens, the longest 7,846; give"),
    # files
    (("plan", "--out", "plan.txt"), "--out plan.txt: must end in .csv, .md, .json"),
    (("plan", "--out", "none/plan.csv"), "--out none/plan.csv: the folder none does not exist"),
    (("plan", "--out", "p.csv", "--out", "./p.csv"), "--out ./p.csv: is given twice"),
    (("plan", "--write-lp", "none/m.lp"), "--write-lp none/m.lp: the folder none does not exist"),
    (("plan", "--workload", "none.csv"), "none.csv: no such file"),
    (("plan", "--trace", "none.csv"), "none.csv: no such file"),
    (("plan", "--slo", "none.yaml"), "none.yaml: cannot be read: No such file or directory"),
    (("plan", "--specs", "none"), "--specs: must be a folder with "),
    (("simulate", "--design", "baseline-h100", "--mixed", "4", "--specs", "none"), "--specs: must be a folder with "),
    (("plan", "--prices", "none.yaml"), "none.yaml: cannot be read: No such file or directory"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_OPTIONS, ids=[" ".join(a) for a, _ in BAD_OPTIONS])
def test_bad_option(provision: Run, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    ended = provision(*arguments)
    assert ended.code == 2
    assert message in ended.error
    assert list(tmp_path.iterdir()) == []


STUDIES = {
    "capacity": ("--design", "baseline-h100", "--mixed", "4"),
    "compare": ("--budget", "400kW"),
    "pareto": (),
    "plan": (),
    "sensitivity": (),
    "simulate": ("--design", "baseline-h100", "--mixed", "4"),
}


@pytest.mark.parametrize("name", STUDIES)
def test_an_unknown_ending_or_table_is_refused_before_the_work(
    provision: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    arguments = STUDIES[name]
    monkeypatch.setattr(api, name, defect)
    assert provision(name, *arguments).code == 1
    ended = provision(name, *arguments, "--out", "x.foo")
    assert (ended.code, ended.error.split(" .csv")[0]) == (2, "--out x.foo: must end in")
    assert ".svg" in ended.error
    assert list(tmp_path.iterdir()) == []
    ended = provision(name, *arguments, "--out", "x.csv", "--table", "none")
    assert ended.code == 2 and ended.error.startswith("unknown table 'none' (known: ")
    assert list(tmp_path.iterdir()) == []


HEADER = "arrival_s,prompt_tokens,output_tokens\n"
BAD_TRACES = [
    ("missing column", "arrival_s,prompt_tokens\n0,5\n", "line 1: misses output_tokens"),
    ("foreign columns", "a,b,c\n1,2,3\n", "line 1: no known trace columns"),
    ("negative tokens", HEADER + "0,5,5\n1,-5,5\n", "line 3: prompt_tokens: must be a whole number of tokens"),
    ("zero tokens", HEADER + "0,0,5\n", "line 2: prompt_tokens: must be a whole number of tokens, 1 or more, got '0'"),
    ("failed only", HEADER + "0,5,0\n", "has failed requests only (0 output tokens)"),
    ("time", HEADER + "0,5,5\nsoon,5,5\n", "line 3: arrival_s: must be a time in s, got 'soon'"),
    ("time nan", HEADER + "nan,5,5\n", "line 2: arrival_s: must be a time in s"),
    ("empty", "", "is empty"),
    ("header only", HEADER, "has a header but no requests"),
    ("binary", b"\x7fELF\x00\x01\x02\x00\xff", "is not a text file"),
]


@pytest.mark.parametrize(("content", "message"), [t[1:] for t in BAD_TRACES], ids=[t[0] for t in BAD_TRACES])
@pytest.mark.parametrize("use", [("plan", "--trace"), ("plan", "--workload"), ("workloads", "import")])
def test_bad_trace(provision: Run, tmp_path: Path, content: str | bytes, message: str, use: tuple[str, ...]) -> None:
    (tmp_path / "t.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    ended = provision(*use, "t.csv")
    assert ended.code == 2
    assert ended.error.startswith("t.csv: ")
    assert message in ended.error


BAD_YAML = [
    ("--slo", "ttft: {p99: 2}\n", "f.yaml: ttft.p99: must be a time with its unit"),
    ("--slo", "ttft: {q98: 2s}\n", "f.yaml: ttft.q98: unknown percentile"),
    ("--slo", "ttft: {p0: 2s}\n", "f.yaml: ttft.p0: the percentile must be above 0 and at most 99.9"),
    ("--slo", "ttft: {p99.95: 2s}\n", "f.yaml: ttft.p99.95: the percentile must be above 0 and at most 99.9"),
    ("--slo", "ttft: [\n", "f.yaml: line"),
    ("--slo", "", "f.yaml: is empty"),
    (
        "--prices",
        "machines: {dgx-h100: {cost_usd_per_h: 10, provisioned_power_kw: 10}}\n",
        "power_w: is missing (in W)",
    ),
    ("--prices", "machines: {dgx-h100: {cost_usd_per_h: 10, provisioned_power_w: 10.2}}\n", "is it in another unit?"),
    ("--prices", "machines: {dgx-h100: {cost_usd_per_h: -1, provisioned_power_w: 9e3}}\n", "must be above 0 $/h"),
    ("--prices", "machines: {dgx-h200: {cost_usd_per_h: 10, provisioned_power_w: 9e3}}\n", "has no price of it"),
]


@pytest.mark.parametrize(("option", "content", "message"), BAD_YAML)
def test_bad_yaml(provision: Run, tmp_path: Path, option: str, content: str, message: str) -> None:
    (tmp_path / "f.yaml").write_text(content)
    ended = provision("plan", option, "f.yaml")
    assert ended.code == 2
    assert message in ended.error


def test_infeasible_names_the_limit_and_the_nearest_relaxation(provision: Run, tmp_path: Path) -> None:
    ended = provision("plan", "--ttft-p99", "50ms", "--out", "p.csv", "--json")
    first, *others = ended.err.splitlines()
    assert (ended.code, ended.out) == (3, "")
    assert first.startswith("error: TTFT P99 of 50 ms is below the prompt time alone on every machine: ")
    assert others and all(line.startswith("nearest: --ttft-p99 ") for line in others)
    assert list(tmp_path.iterdir()) == []
    relaxed = others[0].split()[2]
    assert provision("plan", "--fast", "--ttft-p99", relaxed).code == 0


@pytest.mark.parametrize("limit", ["--max-cost 100", "--max-power 50kW", "--max-machines 3", "--stock dgx-h100=1"])
def test_infeasible_within_a_cap(provision: Run, limit: str) -> None:
    ended = provision(*HH, *limit.split())
    assert (ended.code, ended.out) == (3, "")
    first, *others = ended.err.splitlines()
    assert limit.split()[0] in first
    assert others and all(line.startswith("nearest: ") for line in others)


def test_binding_limit_is_named_even_if_the_message_does_not(provision: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise InfeasibleError("nothing\nfits", binding="TTFT P99", relaxations=["--rate 5", "--rate 4"])

    monkeypatch.setattr(api, "plan", refuse)
    assert provision("plan").err == "error: TTFT P99: nothing fits\nnearest: --rate 5\nnearest: --rate 4\n"


def test_failing_write_leaves_the_old_file(provision: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p.csv").write_text("old")

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("provisioner.files.os.fsync", fail)
    ended = provision(*HH, "--out", "p.csv")
    assert ended.code == 2
    assert ended.error == "--out p.csv: cannot be written: No space left on device"
    assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]
    assert (tmp_path / "p.csv").read_text() == "old"


def defect(*_: object, **__: object) -> None:
    raise ZeroDivisionError("division by zero")


def test_defect_is_one_line_without_debug(provision: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "plan", defect)
    ended = provision("plan")
    assert ended.code == 1
    expected = "this program failed (ZeroDivisionError: division by zero); rerun with --debug for the traceback"
    assert ended.error == expected


def test_debug_shows_the_traceback(provision: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = provision("plan", "--rate", "0", "--debug")
    assert ended.code == 2
    assert ended.err.startswith("Traceback (most recent call last):")
    assert ended.err.splitlines()[-1] == "error: --rate: must be above 0 requests/s, got 0"
    monkeypatch.setattr(api, "plan", defect)
    ended = provision("plan", "--debug")
    assert ended.code == 1
    assert "Traceback" in ended.err
    assert ended.err.splitlines()[-1] == "error: this program failed (ZeroDivisionError: division by zero)"


def test_interrupt(provision: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "plan", interrupt)
    ended = provision("plan")
    assert (ended.code, ended.error) == (130, "interrupted")


def test_an_interrupt_while_a_library_is_imported(provision: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as interrupt:
            raise ImportError("initialization failed") from interrupt

    monkeypatch.setattr(api, "plan", stopped)
    ended = provision("plan")
    assert (ended.code, ended.error) == (130, "interrupted")


def test_error_is_one_line_whatever_the_input(provision: Run) -> None:
    ended = provision("plan", "--workload", "a\nb\x1b[31m")
    assert ended.code == 2
    assert "\x1b" not in ended.error


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A shell command line in which ``provision`` is this program."""
    script = f'provision() {{ "{sys.executable}" -m provisioner "$@"; }}\n{command}'
    environment = os.environ | {"PYTHONPATH": str(Path(cli_run.__file__).parents[2])}
    return subprocess.run(
        ["bash", "-c", textwrap.dedent(script)], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    done = shell("provision curves | true; echo ${PIPESTATUS[0]}", tmp_path)
    assert (done.stdout, done.stderr) == ("141\n", "")
    done = shell("provision machines | head -1; echo ${PIPESTATUS[0]}", tmp_path)
    assert done.stdout.startswith("15 machine types\n")
    assert done.stderr == ""
    done = shell("provision --help | true; echo ${PIPESTATUS[0]}", tmp_path)
    assert done.stdout in ("141\n", "0\n")  # the pipe may still have taken so short a text
    assert done.stderr == ""
    done = shell("provision plan --rate 0 2>&1 >/dev/null | true; echo ${PIPESTATUS[0]}", tmp_path)
    assert done.stdout == "2\n"


def test_closed_stderr_leaves_the_exit_code(tmp_path: Path) -> None:
    done = shell("provision plan --rate 0 2>&-", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_output_that_cannot_be_written(tmp_path: Path) -> None:
    done = shell("provision machines > /dev/full", tmp_path)
    assert done.returncode == 2
    assert done.stderr == "error: standard output: cannot be written: No space left on device\n"
    for command in ("--help", "", "plan --help", "workloads import -h", "--version"):
        done = shell(f"provision {command} > /dev/full", tmp_path)
        assert done.returncode == 2
        assert done.stderr == "error: standard output: cannot be written: No space left on device\n"
    done = shell("provision plan --help >&-", tmp_path)
    assert (done.returncode, done.stderr) == (2, "error: standard output: is closed\n")
    done = shell("provision machines >&-", tmp_path)
    assert done.returncode == 2
    assert done.stderr == "error: standard output: is closed\n"


def test_output_in_another_encoding(tmp_path: Path) -> None:
    done = shell("PYTHONIOENCODING=ascii provision machines", tmp_path)
    assert done.returncode == 0
    assert "-----" in done.stdout
    assert "?" not in done.stdout
