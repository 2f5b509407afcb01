"""``provision simulate``: what it prints and writes, and every way in which it can be asked for wrongly."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from provisioner import api
from provisioner.errors import Interrupted
from provisioner.report.terminal import MAX_WIDTH
from provisioner.simulation import serve as serving
from tests.cli.conftest import Run, instead
from tests.docs.cli_page import documented

HH = ("simulate", "--design", "splitwise-hh", "--prompt", "18", "--token", "3", "--duration", "20")
SMALL = ("simulate", "--design", "splitwise-hh", "--prompt", "2", "--token", "1")
PUBLISHED = Path(__file__).parents[3] / "shared" / "reference" / "published-simulator-runs"


def figure(simulated: dict[str, Any], metric: str, percentile: str) -> dict[str, Any]:
    return next(
        row for row in simulated["latency"] if row["metric"] == metric and f"p{row['percentile']:g}" == percentile
    )


def answer(provision: Run, *arguments: str) -> dict[str, Any]:
    ended = provision(*arguments, "--json")
    assert ended.code == 0, ended.err
    values: dict[str, Any] = json.loads(ended.out)
    return values


def test_default_output(provision: Run) -> None:
    ended = provision(*HH, "--slo", "p99")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0] == "Splitwise-HH: 18 dgx-h100 (prompt) + 3 dgx-h100 (token)"
    assert lines[1] == "Simulated: coding on llama2-70b, 70 requests/s for 20 s: meets SLO p99."
    for part in ("stable ", "throughput ", "Latency", "Pools", "KV memory", "Warnings", "Sources", "policy "):
        assert part in ended.out
    assert "95 % interval" not in ended.out
    assert max(map(len, lines)) <= MAX_WIDTH
    assert ended.out.endswith("\n") and not ended.out.endswith("\n\n")


def test_several_sets_have_intervals(provision: Run) -> None:
    ended = provision(*HH, "--seeds", "3")
    assert "95 % interval" in ended.out and " to " in ended.out
    assert "3 request sets" in ended.out


def test_json_has_what_was_promised(provision: Run) -> None:
    found = answer(provision, *HH, "--percentile", "95", "--percentile", "99.9")
    assert list(found) == documented("The simulation as JSON")
    for kind in ("slowdown", "seconds"):
        for metric in ("ttft", "tbt", "e2e", "gap"):
            figures = [row for row in found["latency"] if row["metric"] == metric]
            assert [row["percentile"] for row in figures] == [50.0, 90.0, 95.0, 99.0, 99.9]
            values = [row[kind]["mean"] for row in figures]
            assert values == sorted(values) and values[0] > 0
    assert found["slo_met"] in (True, False) and sum(row["limit"] is not None for row in found["latency"]) == 9
    assert found["requests"] > found["measured_requests"] > 1000
    assert found["wall_s"] > 0
    assert [pool["energy_kwh"] for pool in found["pools"]] == [None, None]


def test_limits_on_any_percentile_and_on_the_largest_gap(provision: Run, tmp_path: Path) -> None:
    asked = (*HH, "--slo", "batch", "--gap-p99", "2s", "--tpot-p95=5x", "--tbt-p99.9", "9s", "--limit", "ttft-p95=1s")
    found = answer(provision, *asked, "--out", "s.csv", "--out", "s.html")
    limits = {(each["metric"], each["percentile"]): each["met"] for each in found["latency"] if each["limit"]}
    assert limits == {("ttft", 95): "pass", ("tbt", 95): "pass", ("tbt", 99.9): "pass", ("gap", 99): "pass"}
    assert found["slo_met"] and found["slo"].startswith("TTFT P95 <= 1 s, TBT P95 <= 5x, TBT P99.9 <= 9 s, largest gap")
    limited = [row for row in csv.DictReader((tmp_path / "s.csv").open()) if row["limit"]]
    assert [(row["metric"], row["percentile"], row["limit"], row["limit_kind"]) for row in limited] == [
        ("ttft", "95.0", "1.0", "seconds"), ("tbt", "95.0", "5.0", "slowdown"),
        ("tbt", "99.9", "9.0", "seconds"), ("gap", "99.0", "2.0", "seconds"),
    ]  # fmt: skip
    page = " ".join(re.sub(r"<[^>]+>", " ", (tmp_path / "s.html").read_text()).split())
    assert all(text in page for text in ("TBT P99.9", "largest gap P99", "--limit tbt-p99.9=9s", "--gap-p99 2s"))
    missed = answer(provision, *HH, "--slo", "batch", "--limit", "gap-p99=1ms")
    assert not missed["slo_met"] and figure(missed, "gap", "p99")["met"] == "fail"


def test_the_command_in_the_result_asks_the_same_again(provision: Run) -> None:
    asked = (
        *("simulate", "--pool", "prompt:dgx-h100=12", "--pool", "token:dgx-a100:4=2", "--rates", "20,40"),
        *("--policy", "split", "--links", "apart", "--transfer-retry", "2s", "--warm-up", "20%", "--cool-down", "0.1"),
        *("--fail", "prompt:3@30s-60s", "--percentile", "95", "--ttft-p99", "2s", "--seed", "7", "--seeds", "2"),
        *("--max-pending-tokens", "4096", "--batch-tokens", "4096", "--batch-requests", "64", "--cv", "2"),
        *("--max-preemptions", "2", "--independent"),
    )
    found = answer(provision, *asked)
    typed = found["command"].split()
    assert typed[:2] == ["provision", "simulate"]
    again = answer(provision, *typed[1:])
    for same in (found, again):
        same.pop("wall_s")
    assert again == found


def test_files_hold_the_same_simulation(provision: Run, tmp_path: Path) -> None:
    names = ("o.csv", "o.md", "o.json", "r.parquet", "t.svg")
    ended = provision(
        *HH, "--out", "o.csv", "--out", "o.md", "--out", "o.json", "--records", "r.parquet", "--timeline", "t.svg"
    )
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[-1] == "  written to  r.parquet, t.svg, o.csv, o.md, o.json"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    found = json.loads((tmp_path / "o.json").read_text(encoding="utf-8"))
    rows = list(csv.DictReader((tmp_path / "o.csv").read_text(encoding="utf-8").splitlines()))
    assert [float(row["seconds"]) for row in rows] == [row["seconds"]["mean"] for row in found["latency"]]
    assert found["command"] in (tmp_path / "o.md").read_text(encoding="utf-8")


def test_a_trace_is_taken_as_it_is(provision: Run, trace: Path) -> None:
    found = answer(provision, *SMALL, "--trace", str(trace))
    assert found["requests"] == found["measured_requests"] == 40
    assert found["rate_rps"] == pytest.approx(2.0)
    assert found["sets"] == 1
    half = answer(provision, *SMALL, "--trace", str(trace), "--warm-up", "0.5")
    assert (half["requests"], half["measured_requests"]) == (40, 20)
    at_a_rate = answer(provision, *SMALL, "--workload", str(trace), "--rate", "3", "--seeds", "2")
    assert at_a_rate["rate_rps"] == 3.0 and at_a_rate["sets"] == 2


def test_a_published_run_is_reproduced(provision: Run) -> None:
    if not PUBLISHED.is_dir():
        pytest.skip(f"no runs of the published simulator at {PUBLISHED}")
    runs = json.loads((PUBLISHED / "runs.json").read_text(encoding="utf-8"))["runs"]
    run = next(run for run in runs if run["design"] == "splitwise-ha" and run["machines"] == {"prompt": 28, "token": 6})
    found = answer(
        provision,
        *("simulate", "--model", "bloom-176b", "--design", "splitwise-ha", "--prompt", "28", "--token", "6"),
        *("--trace", str(PUBLISHED / "coding-70rps-120s.csv"), "--assumptions", "splitwise-sim"),
    )
    for metric, percentiles in run["slowdown"].items():
        for percentile, value in percentiles.items():
            assert figure(found, metric, percentile)["slowdown"]["mean"] == pytest.approx(value, rel=0.02)
    assert found["slo_met"] == run["meets_splitwise_slo"]
    assert found["requests"] == 8502


BAD = [
    # the cluster
    (("simulate",), "--design: is missing: name one, such as --design splitwise-hh --prompt 27 --token 3"),
    (
        ("simulate", "--design", "splitwise-hx", "--prompt", "1"),
        "unknown design 'splitwise-hx': did you mean splitwise-h",
    ),
    (
        ("simulate", "--design", "splitwise-hh", "--prompt", "1"),
        "--token: is missing: design Splitwise-HH needs a number",
    ),
    (instead(SMALL, "--prompt", "0"), "--prompt: must be a whole number of machines, 1 or more, got 0"),
    (instead(SMALL, "--prompt", "1.5"), "--prompt: must be a whole number of machines, 1 or more, got 1.5"),
    ((*SMALL, "--mixed", "3"), "--mixed: design Splitwise-HH has no mixed machines"),
    ((*SMALL, "--pool", "mixed:dgx-h100=3"), "--pool: describes the whole cluster; leave out --design"),
    (
        ("simulate", "--pool", "mixed:dgx-h100=3", "--mixed", "3"),
        "--pool: has the number of machines; leave out --mixed",
    ),
    (
        ("simulate", "--pool", "mixed:dgx-h100=0"),
        "--pool mixed:dgx-h100=0: must be a whole number of machines, 1 or more",
    ),
    (("simulate", "--pool", "mixd:dgx-h100=1"), "unknown role 'mixd': did you mean mixed?"),
    (("simulate", "--pool", "mixed:dgx-h10=1"), "unknown machine 'dgx-h10': did you mean dgx-h100?"),
    (
        ("simulate", "--pool", "mixed=1"),
        "--pool: must be ROLE:MACHINE=COUNT, such as prompt:dgx-h100=20, got 'mixed=1'",
    ),
    (("simulate", "--pool", "prompt:dgx-h100=1"), "policy strict: needs prompt and token pools, got prompt pools"),
    (
        (*SMALL, "--model", "bloom-176b", "--tp", "2"),
        "bloom-176b does not fit on 2 of the 8 GPUs of dgx-h100: the weights",
    ),
    ((*SMALL, "--tp", "3"), "no latency curves for llama2-70b in bf16 on dgx-h100 at TP 3"),
    (
        ("simulate", "--design", "baseline-h100", "--mixed", "1", "--token-tp", "4"),
        "--token-tp: design Baseline-H100 has no",
    ),
    ((*SMALL, "--fail", "prompt:3@30s"), "--fail prompt:3@30s: the cluster has prompt machines 1 to 2"),
    ((*SMALL, "--fail", "prompt:0@30s"), "--fail prompt:0@30s: machine: must be a whole number, 1 or more, got 0"),
    ((*SMALL, "--fail", "mixed:1@30s"), "--fail mixed:1@30s: the cluster has no mixed machines"),
    ((*SMALL, "--fail", "prompt:1@30"), "--fail prompt:1@30: must be a time with its unit"),
    ((*SMALL, "--fail", "prompt:1@30s-10s"), "--fail prompt:1@30s-10s: must end after it begins"),
    (
        (*SMALL, "--fail", "prompt:1"),
        "--fail: must be ROLE:NUMBER@FROM-UNTIL, such as prompt:3@30s-60s, got 'prompt:1'",
    ),
    ((*SMALL, "--fail", "prompt:1@3s", "--fail", "prompt:1@4s-5s"), "--fail: a machine fails again before it is back"),
    # the requests
    ((*SMALL, "--rate", "0"), "--rate: must be above 0 requests/s, got 0"),
    ((*SMALL, "--rate", "nan"), "--rate: must be a number of requests/s, got 'nan'"),
    ((*SMALL, "--rate", "1e6"), "120,000,000 requests would take about 18.0 GB of memory; at most 20,000,000"),
    ((*SMALL, "--rate", "0.0001"), "no request arrives in that time: take a longer time or a higher rate"),
    ((*SMALL, "--duration", "-3"), "--duration: must be above 0 s, got -3"),
    ((*SMALL, "--duration", "3 parsec"), "--duration: must be a time with its unit"),
    ((*SMALL, "--seeds", "0"), "--seeds: must be a whole number of request sets, 1 or more, got 0"),
    (
        (*SMALL, "--rates", "3,x"),
        "--rates: must be numbers with commas between, such as 30,50,70, or a file, got '3,x'",
    ),
    ((*SMALL, "--rates", "0,0"), "rates: at least one window must have a rate above 0 requests/s"),
    ((*SMALL, "--rates", "3,-4"), "--rates: must be 0 requests/s or more, got -4"),
    ((*SMALL, "--rates", "3,4", "--rate", "5"), "--rate: --rates has a rate for each minute"),
    ((*SMALL, "--rates", "3,4", "--duration", "5"), "--duration: --rates has a rate for each minute"),
    ((*SMALL, "--requests", "50"), "--requests: is the number in a closed loop; give --in-flight too"),
    ((*SMALL, "--in-flight", "5", "--rate", "5"), "--rate: a closed loop (--in-flight) has no arrival times"),
    ((*SMALL, "--in-flight", "50", "--requests", "60"), "leave none to measure: more than 100 are needed"),
    ((*SMALL, "--warm-up", "60%", "--cool-down", "0.4"), "--warm-up and --cool-down: must leave a part to measure"),
    ((*SMALL, "--cv", "-1"), "--cv: must be 0 or more, got -1"),
    ((*SMALL, "--workload", "codin"), "unknown workload 'codin': did you mean coding?"),
    ((*SMALL, "--trace", "none.csv"), "none.csv: no such file"),
    (
        (*SMALL, "--trace", "t.csv", "--workload", "coding"),
        "--trace: takes requests and times as they are; leave out --wor",
    ),
    (
        (*SMALL, "--trace", "t.csv", "--rate", "5"),
        "--rate: a --trace is simulated at its own times; give its file to --wor",
    ),
    ((*SMALL, "--trace", "t.csv", "--seeds", "5"), "--seeds: a --trace is one request set, taken as it is"),
    ((*SMALL, "--trace", "t.csv", "--cv", "2"), "--cv: changes a workload; a --trace is taken as it is"),
    # policy, percentiles, assumptions
    ((*SMALL, "--policy", "splitwize"), "unknown policy 'splitwize': did you mean splitwise?"),
    ((*SMALL, "--policy", "mixed"), "policy mixed: needs mixed pools, got prompt and token pools"),
    ((*SMALL, "--links", "share"), "unknown value of --links 'share': did you mean shared?"),
    ((*SMALL, "--transfer-retry", "-1"), "--transfer-retry: must be above 0 s, got -1"),
    ((*SMALL, "--batch-tokens", "0"), "--batch-tokens: must be a whole number of tokens, 1 or more, got 0"),
    ((*SMALL, "--max-preemptions", "0"), "--max-preemptions: must be a whole number, 1 or more, got 0"),
    ((*SMALL, "--percentile", "100"), "--percentile: must be above 0 and below 100, got 100"),
    ((*SMALL, "--assumptions", "measure"), "unknown set of assumptions 'measure': did you mean measured?"),
    ((*SMALL, "--repeat", "0"), "--repeat: must be a whole number of runs, 1 or more, got 0"),
    # files, before the work starts
    ((*SMALL, "--records", "none/r.parquet"), "--records none/r.parquet: the folder none does not exist"),
    ((*SMALL, "--records", "r.xlsx"), "--records r.xlsx: must end in .parquet, .csv, which says the format"),
    ((*SMALL, "--timeline", "t.bmp"), "--timeline t.bmp: must end in .png, .svg, .pdf, which says the format"),
    ((*SMALL, "--out", "o.txt"), "--out o.txt: must end in .csv, .md, .json"),
    ((*SMALL, "--records", "r.csv", "--out", "./r.csv"), "--out ./r.csv: is given twice"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(a[1:]) for a, _ in BAD])
def test_bad_input(
    provision: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("the work had started")

    monkeypatch.setattr(serving, "run", never)
    ended = provision(*arguments)
    assert ended.code == 2
    assert message in ended.error
    assert list(tmp_path.iterdir()) == []


def test_a_request_that_no_machine_can_hold(provision: Run, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,20,5\n1,9000000,5\n")
    ended = provision(*SMALL, "--trace", "t.csv")
    assert ended.code == 2
    assert "tokens of KV cache, less than the 9,000,005 of the longest request served" in ended.error


def test_a_rate_that_nothing_can_keep_up_with_ends_and_says_so(provision: Run) -> None:
    found = answer(provision, *SMALL, "--rate", "60", "--duration", "60")
    assert not found["stable"] and found["instability"].startswith("requests wait ever longer: by ")
    assert found["unfinished"] == 0
    assert found["slo_met"] is False


def test_requests_that_nothing_can_serve_end_and_are_told(provision: Run) -> None:
    asked = (*SMALL, "--rate", "2", "--duration", "60", "--policy", "split", "--fail", "token:1@20s")
    found = answer(provision, *asked)
    assert found["unfinished"] > 20 and not found["stable"]
    assert "because no machine in service could take them" in found["instability"]
    assert figure(found, "e2e", "p99")["seconds"]["mean"] is None
    assert "never" in provision(*asked).out


def test_the_median_of_repeats_is_reported(provision: Run) -> None:
    ended = provision(*SMALL, "--rate", "5", "--duration", "10", "--repeat", "3")
    assert "median of warm runs" in ended.out
    assert "median of warm runs" not in provision(*SMALL, "--rate", "5", "--duration", "10").out


def test_rates_can_be_read_from_a_file(provision: Run, tmp_path: Path) -> None:
    (tmp_path / "rates.txt").write_text("5\n10\n")
    found = answer(provision, *SMALL, "--rates", "rates.txt")
    assert found["question"]["rates_rps"] == [5.0, 10.0] and found["rate_rps"] == 7.5
    (tmp_path / "rates.txt").write_text("5\nten\n")
    assert (
        provision(*SMALL, "--rates", "rates.txt").error
        == "rates.txt: line 2: must be a number of requests/s, got 'ten'"
    )


def test_an_interrupt_says_what_was_done(provision: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise Interrupted("3 of 5 request sets done")

    monkeypatch.setattr(api, "simulate", interrupt)
    ended = provision(*SMALL)
    assert (ended.code, ended.error) == (130, "interrupted: 3 of 5 request sets done; nothing written")


def test_ctrl_c_stops_before_the_next_request_sets_and_writes_nothing(tmp_path: Path) -> None:
    arguments = ["simulate", "--design", "splitwise-hh", "--prompt", "270", "--token", "40", "--rate", "1000"]
    running = subprocess.Popen(
        [sys.executable, "-m", "provisioner", *arguments, "--duration", "300", "--seeds", "100", "--records", "r.csv"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(api.__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stderr is not None
    for line in running.stderr:
        if line.startswith("simulating: "):
            break
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130 and out == ""
    assert err.splitlines()[-1].startswith("error: interrupted: ")
    assert err.splitlines()[-1].endswith(" of 100 request sets done; nothing written")
    assert list(tmp_path.iterdir()) == []
