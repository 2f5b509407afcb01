"""The faults that the fuzzed commands are searched for: each is found where it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.cases import case, parameters
from tests.fuzz.faults import contents, faults_of_end, faults_of_files
from tests.fuzz.files import make_all
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
        (Ended(2, "", "error: \x1b[31mred\n"), "control character '\\x1b' on stderr"),
        (Ended(0, "TTFT P50  nan ms\n", ""), "nan in the report"),
        (Ended(0, '{"ttft_p50": NaN}\n', ""), "has NaN"),
        (Ended(0, '{"cost_usd_per_h": 0.0}\n', ""), "unexplained zero: cost_usd_per_h"),
        (Ended(0, '{"metrics": {"ttft": {"p50": {"mean": 0}}}}\n', ""), "zero: metrics.ttft.p50.mean"),
        (Ended(0, '{"cost_usd_per_h": 0.0, "warnings": ["free"]}\n', ""), ""),
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
        ("r.csv", b"a,b\n1,nan\n", 0, "has nan"),
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


def test_cases_come_from_the_declarations(tmp_path: Path) -> None:
    assert {"plan", "sweep", "profile", "models import", "workloads show"} <= parameters().keys()
    assert "--headroom" in {each.flag for each in parameters()["plan"]}
    typed = {part.partition("=")[0] for number in range(125) for part in case("plan", 0, number).arguments}
    assert not {each.flag for each in parameters()["plan"]} - typed
    assert case("plan", 0, 7) == case("plan", 0, 7) != case("plan", 1, 7)
    assert make_all(tmp_path, ("--trace", "cut-3-of-trace.csv", "x", "--slo=slo.yaml")) == {
        "cut-3-of-trace.csv",
        "slo.yaml",
    }
    assert contents(tmp_path).keys() == {"cut-3-of-trace.csv", "slo.yaml"}
