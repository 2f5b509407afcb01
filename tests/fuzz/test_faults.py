"""The faults that the fuzzed commands are searched for: each is found where it is."""

from __future__ import annotations

import math
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from provisioner.perf.measurements import read_measurements
from provisioner.perf.measurements.summaries import FORMS as SUMMARIES
from provisioner.specs.trace_formats import FORMATS, TraceRules
from provisioner.specs.traces import read_trace
from tests.fuzz.cases import case, parameters
from tests.fuzz.faults import contents, faults_of_end, faults_of_files
from tests.fuzz.files import CHANGES, GOOD, make_all
from tests.fuzz.test_commands import CASES
from tests.fuzz.worker import Ended


@pytest.mark.parametrize(
    ("ended", "fault"),
    [
        (Ended(0, "a report\n", "planning: 1 of 2\n"), ""),
        (Ended(2, "", "planning: 1 of 2\nerror: --rate: must be above 0\n"), ""),
        (Ended(3, "", "error: no plan\nnearest: --rate 2\n"), ""),
        (Ended(None, "", ""), "hang"),
        (Ended(-11, "", ""), "crash: signal 11"),
        (Ended(1, "", "error: this program failed\n"), "exit code 1: "),
        (Ended(2, "", "Traceback (most recent call last)\nerror: x\n"), "traceback"),
        (Ended(2, "", "x.py:1: RuntimeWarning: divide\nerror: x\n"), "warning: RuntimeWarning: divide"),
        (Ended(2, "", "x\n"), "with 0 lines of error"),
        (Ended(2, "half of it", "error: x\n"), "with a result"),
        (Ended(0, "", ""), "without a result"),
        (Ended(3, "No design has a plan\n", "error: no design has a plan; the nearest is A: TTFT P99\n"), ""),
        (Ended(3, "", "error: no design has a plan; the nearest is A: TTFT P99\n"), "without a result"),
        (Ended(3, "a report\n", "error: no plan\n"), "with a result"),
        (Ended(2, "", "error: \x1b[31mred\n"), "control character '\\x1b' on stderr"),
        (Ended(0, "TTFT P50  nan ms\n", ""), "the report: nan"),
        (Ended(0, "throughput  0.0 requests/s\n", ""), "unexplained zero: 0.0 requests/s"),
        (Ended(0, "links of Infinity Fabric\n", ""), ""),
        (Ended(0, "throughput  10 requests/s, at 1.0 requests/s\n", ""), ""),
        (Ended(0, '{"ttft_p50": NaN}\n', ""), "has NaN"),
        (Ended(0, '{"cost_usd_per_h": 0.0}\n', ""), "unexplained zero: cost_usd_per_h"),
        (Ended(0, '{"metrics": {"ttft": {"p50": {"mean": 0}}}}\n', ""), "zero: metrics.ttft.p50.mean"),
        (Ended(0, '{"cost_usd_per_h": 0.0, "warnings": ["free"]}\n', ""), ""),
        (Ended(0, '{"cost_usd_per_h": 0.0, "warnings": ["bursty: CV 10"]}\n', ""), "unexplained zero"),
        (Ended(0, '{"points": [{"throughput_rps": 0, "why": "unstable"}]}\n', ""), ""),
        (Ended(0, '{"question": {"rate_rps": 0}, "headroom": 0, "gap": 0}\n', ""), ""),
        (Ended(0, '{"ttft": 1', ""), "is not JSON"),
    ],
)
def test_faults_of_an_end(ended: Ended, fault: str) -> None:
    arguments = ("--json",) if ended.out.startswith("{") else ()
    faults = list(faults_of_end(ended, arguments, False))
    assert any(fault in each for each in faults) if fault else not faults, faults


def test_an_accepted_wrong_value_is_a_fault() -> None:
    assert list(faults_of_end(Ended(0, "a report\n", ""), (), True)) == ["a wrong value is accepted"]


@pytest.mark.parametrize(
    ("name", "content", "code", "fault"),
    [
        ("r.csv", b"a,b\n1,2\n", 0, ""),
        ("r.csv", b"a,b\n1,2\n", 2, "was written, with exit code 2"),
        ("r.csv.journal", b"{}\n", 130, ""),
        (".r.csv.abcd1234", b"a,b\n", 0, "a temporary file is left"),
        ("r.csv", b"a,b\n1", 0, "is cut off"),
        ("r.csv", b"a,b\n1\n", 0, "rows of several lengths"),
        ("r.csv", b"a,b\n1,nan\n", 0, "has b nan"),
        ("r.csv", b"a,rate_rps\n1,0.0\n", 0, "unexplained zero: rate_rps"),
        ("r.csv", b"why,rate_rps\nunstable,0\n", 0, ""),
        ("r.svg", b'<svg><path d="M0,NaN"/></svg>', 0, "has NaN"),
        ("r.html", b"<html><td>nan</td></html>", 0, "nan in"),
        ("r.html", b"<html><script>inf = 1</script><p>0 requests/s</p></html>", 0, "zero: 0 requests/s"),
        ("r.html", b'<html><script type="application/json">{"a": NaN}</script></html>', 0, "has NaN"),
        ("r.html", b"<html><a href=' javascript:alert(1)'>x</a></html>", 0, "link to a script"),
        ("p.csv", b"\\* a program *\\\nC0: x, y, z\nEnd\n", 0, ""),
        ("p.lp", b"C0: 3 x + inf y <= 1\nEnd\n", 0, "has inf"),
        ("r.md", b"| inf |\n", 0, "inf in"),
        ("r.png", b"\x89PNG", 0, "is cut off"),
        ("r.json", b'{"a": NaN}\n', 0, "has NaN"),
        ("r.md", b"[x](javascript:alert(1))\n", 0, "link to a script"),
        ("given.csv", None, 0, "was removed"),
    ],
)
def test_faults_of_files(tmp_path: Path, name: str, content: bytes | None, code: int, fault: str) -> None:
    before = {"given.csv": b"a\n"}
    if content is not None:
        (tmp_path / "given.csv").write_bytes(b"a\n")
        (tmp_path / name).write_bytes(content)
    faults = list(faults_of_files(before, tmp_path, code))
    assert any(fault in each for each in faults) if fault else not faults, faults


@pytest.mark.parametrize(("number", "fault"), [(0.5, ""), (None, ""), (math.nan, "a nan"), (-math.inf, "a -inf")])
def test_faults_of_parquet(tmp_path: Path, number: float | None, fault: str) -> None:
    parquet.write_table(pyarrow.table({"a": [1.0, number]}), tmp_path / "r.parquet")
    faults = list(faults_of_files({}, tmp_path, 0))
    assert any(fault in each for each in faults) if fault else not faults, faults


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", parameters())
def test_every_option_is_drawn_with_a_value_that_it_takes(name: str, seed: int) -> None:
    cases = [case(name, seed, number) for number in range(CASES)]
    drawn = {part.partition("=")[0] for each in cases if not each.must_fail for part in each.arguments}
    assert not {each.flag for each in parameters()[name] if each.flag} - drawn


@pytest.mark.parametrize("name", parameters())
def test_every_option_has_values_beyond_what_it_takes(name: str) -> None:
    free = ("--title", "--table")  # any text
    none = {each.flag for each in parameters()[name] if not each.switch and not each.values.wrong}
    assert not none - {*free}
    known = {each.flag: each.values for each in parameters()[name]}
    if "--rate" in known:
        assert "1010000" in known["--rate"].wrong and "1000000" in known["--rate"].odd  # the ends of its range


def test_every_form_of_a_trace_is_among_the_files(tmp_path: Path) -> None:
    for form in FORMATS:
        (name,) = (name for name in GOOD["trace"] if name.rpartition(".")[0] == f"form-{form.name}")
        make_all(tmp_path, [name])
        assert read_trace(str(tmp_path / name), TraceRules()).format == form


def test_every_form_of_a_result_is_among_the_files(tmp_path: Path) -> None:
    for k, form in enumerate(SUMMARIES):
        make_all(tmp_path, [name := f"tool-{k}.json"])
        measured = read_measurements([tmp_path / name], model="llama2-70b", machine="dgx-h100", tensor_parallel=8)
        assert name in GOOD["measurement"] and [each.tool for each in measured.recognised] == [form.tool]


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_changes_a_file(tmp_path: Path, change: str) -> None:
    for name in ("trace.csv", "config.json", "prices.yaml"):
        make_all(tmp_path, [name, changed := f"{change}-3-of-{name}"])
        assert (tmp_path / changed).read_bytes() != (tmp_path / name).read_bytes()


def test_cases_come_from_the_declarations(tmp_path: Path) -> None:
    assert {"plan", "sweep", "profile", "models import", "workloads show"} <= parameters().keys()
    assert "--headroom" in {each.flag for each in parameters()["plan"]}
    assert case("plan", 0, 7) == case("plan", 0, 7) != case("plan", 1, 7)
    assert make_all(tmp_path, ("--trace", "cut-3-of-trace.csv", "x", "--slo=slo.yaml")) == {
        "cut-3-of-trace.csv",
        "slo.yaml",
    }
    assert contents(tmp_path).keys() == {"cut-3-of-trace.csv", "slo.yaml"}
