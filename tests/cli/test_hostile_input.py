"""Hostile input: files without end, names that no file has, numbers out of range, characters that terminals obey."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from provisioner import InputError, api
from provisioner.files import MOST_BYTES, check_name, read_text
from provisioner.options import Options, PlanOptions, SimulateOptions, declared
from provisioner.options.imports import CurveImportOptions
from provisioner.options.profiling import ProfileOptions
from provisioner.specs.shipped import data_folder
from tests.cli.conftest import Run

H100 = ("simulate", "--design", "baseline-h100", "--mixed", "1")
CURVES = ("curves", "import", "F", "--model", "llama2-70b", "--machine", "dgx-h100", "--tp", "8")
READERS = [
    ("plan", "--slo", "F"),
    ("plan", "--prices", "F"),
    ("plan", "--trace", "F"),
    ("plan", "--workload", "F"),
    (*H100, "--rates", "F"),
    ("workloads", "F"),
    ("workloads", "import", "F"),
    ("models", "import", "F"),
    CURVES,
]


@pytest.mark.parametrize("arguments", READERS, ids=" ".join)
def test_a_file_without_end_is_refused(provision: Run, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    ended = provision(*("/dev/zero" if each == "F" else each for each in arguments))
    assert ended.code == 2 and "/dev/zero" in ended.error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "option", ["slo", "prices", "specs", "trace", "workload", "write-lp", "out", "model", "solver"]
)
@pytest.mark.parametrize(
    ("name", "problem"),
    [
        (f"{'a' * 256}.csv", "has 260 bytes; a file's may have 255"),
        ("a\udcff.csv", "the name 'a\\udcff.csv' is not UTF-8"),
        ("a\0.csv", "has a NUL"),
    ],
)
def test_a_name_that_no_file_can_have_is_refused(
    provision: Run, tmp_path: Path, option: str, name: str, problem: str
) -> None:
    ended = provision("plan", f"--{option}", name)
    assert ended.code == 2
    assert ended.error.startswith(f"--{option}: ") and problem in ended.error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [("workloads",), ("workloads", "import"), ("models", "import"), ("machines",)])
def test_a_subject_that_no_file_can_be_named_is_refused(provision: Run, command: tuple[str, ...]) -> None:
    ended = provision(*command, "a" * 300)
    assert ended.code == 2 and "has 300 bytes" in ended.error


def test_names_and_sizes_of_files(tmp_path: Path) -> None:
    check_name("/".join(["é" * 120] * 9), "--out")
    path = tmp_path / "f.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n")
    assert read_text(path) == "one\ntwo\nthree\n"
    assert read_text(path, path.stat().st_size)
    with pytest.raises(InputError, match=r"too large: 18 bytes; at most 17 bytes are read"):
        read_text(path, 17)
    with path.open("r+b") as file:
        file.truncate(MOST_BYTES + 1)  # a sparse file
    with pytest.raises(InputError, match="too large"):
        read_text(path)
    with pytest.raises(InputError, match="has a NUL"):
        PlanOptions(slo="a\0")


def test_many_rates_are_not_taken_for_the_name_of_a_file(provision: Run) -> None:
    rates = ",".join(["0.5"] * 100)
    assert SimulateOptions.of(rates_rps=rates).rates_rps == (0.5,) * 100
    ended = provision(*H100, "--rates", "a" * 300)
    assert ended.code == 2 and "has 300 bytes" in ended.error
    assert "or a file, got 'none.txt'" in provision(*H100, "--rates", "none.txt").error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(28, "No space left on device", "j.journal"), "j.journal: No space left on device"),
        (MemoryError(), "this machine: has not enough memory"),
    ],
)
def test_a_machine_at_its_end_is_no_defect(
    provision: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, line: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(api, "plan", fail)
    ended = provision("plan")
    assert (ended.code, ended.error) == (2, line)


S = (*H100, "--rate", "5", "--duration", "1")
REPLICA = ("--model", "llama2-70b", "--machine", "dgx-h100", "--tp", "8")
RANGES = [
    ((*S, "--batch-tokens", "1e9"), "--batch-tokens: must be from 1 to 1,000,000 tokens, got 1e9"),
    ((*S, "--batch-requests", "1e9"), "--batch-requests: must be from 1 to 100,000 requests"),
    ((*S, "--seeds", "1e9"), "--seeds: must be from 1 to 1,000 request sets"),
    ((*S, "--cv", "1e6"), "--cv: must be from 0 to 100, got 1e6"),
    ((*S, "--seed", "1e300"), "--seed: must be from 0 to 4,294,967,295"),
    ((*S, "--transfer-retry", "1e-300"), "--transfer-retry: must be 0, or from 1 ms to 1 h, got 1e-300"),
    ((*H100, "--rate", "1e9"), "--rate: must be from 1e-06 to 1,000,000 requests/s, got 1e9"),
    ((*H100, "--rates", "5,1e9"), "--rates: must be from 0 to 1,000,000 requests/s, got 1e9"),
    ((*H100, "--rate", "1", "--duration", "1e300"), "--duration: must be from 1e-06 to 31,622,400 s, got 1e300"),
    ((*H100[:-1], "1e9"), "--mixed: must be from 1 to 100,000 machines"),
    (("plan", "--headroom", "1e300"), "--headroom: must be from 0 to 10, got 1e300"),
    (("plan", "--scale", "price=1e300"), "--scale price: must be from 1e-06 to 1,000,000, got 1e300"),
    (("plan", "--stock", "dgx-h100=1e9"), "--stock dgx-h100: must be from 0 to 100,000 machines"),
    (("plan", "--max-cost", "1e300"), "--max-cost: must be from 1e-06 to 1,000,000,000 $/h"),
    (("plan", "--max-power", "1e300"), "--max-power: must be from 1 to 1e+15 W"),
    (("plan", "--cut-margin", "1e300"), "--cut-margin: must be above 1, to 100 times, got 1e300"),
    (("plan", "--ttft-p99", "1e300s"), "--ttft-p99: must be from 1e-9 to 1e9 s, got '1e300s'"),
    (("plan", "--ttft-p99", "1e-300x"), "--ttft-p99: must be from 1e-9 to 1e9 x"),
    (("plan", "--deadline", "1e9h"), "--deadline: must be from 1e-9 to 1e9 s"),
    (("plan", "--backlog", "1e300", "--within", "8h"), "--backlog: must be from 1 to 1,000,000,000 requests"),
    (("plan", "--rate", "1e-300"), "--rate: must be from 1e-06 to 1,000,000 requests/s"),
    (("curves", "import", "x.json", *REPLICA, "--input-tokens", "0.5"), "--input-tokens: must be from 1 to 1,000,000"),
    (("curves", "import", "x.json", *REPLICA, "--output-tokens", "0"), "--output-tokens: must be"),
]


@pytest.mark.parametrize(("arguments", "message"), RANGES, ids=[message.split(":")[0] for _, message in RANGES])
def test_a_number_out_of_range_is_refused_with_the_range(
    provision: Run, arguments: tuple[str, ...], message: str
) -> None:
    ended = provision(*arguments)
    assert ended.code == 2
    assert ended.error.startswith(message)


@pytest.mark.parametrize("kind", [PlanOptions, SimulateOptions, ProfileOptions, CurveImportOptions])
def test_every_number_has_a_range(kind: type[Options]) -> None:
    for name, option in declared(kind).items():
        if option.kind.number and name != "percentiles":
            with pytest.raises(InputError, match="must be"):
                option.kind.parse(1e300, name)


@pytest.mark.parametrize(
    "option",
    ["--policy=split", "--confidence=0.9", "--exhaustive", "--cut-margin=2"],
)
def test_an_option_of_the_proof_is_refused_where_nothing_is_proven(provision: Run, option: str) -> None:
    for command in ("plan", "pareto", "compare"):
        ended = provision(command, "--fast", option)
        flag = option.split("=")[0]
        assert (ended.code, ended.error.split(";")[0]) == (
            2,
            f"{flag}: is of the proof by simulation, which --fast leaves out",
        )
    assert "unknown policy 'nope'" in provision("plan", "--fast", "--policy", "nope").error


RED = "a\x1b[31mred\x9b\u202e.csv"
SHOWN = "a\\x1b[31mred\\x9b\\u202e.csv"


def test_no_name_of_a_file_reaches_the_terminal_as_an_escape_sequence(
    provision: Run, tmp_path: Path, trace: Path
) -> None:
    trace.rename(tmp_path / RED)
    for command in (("workloads",), ("workloads", "import"), (*H100, "--trace")):
        ended = provision(*command, RED)
        assert ended.code == 0 and SHOWN.removesuffix(".csv") in ended.out
        assert not any(mark in ended.out + ended.err for mark in "\x1b\x9b\u202e")
    assert SHOWN in provision("plan", "--slo", RED).error
    provision(*H100, "--trace", RED, "--out", "x.md")
    assert "\x1b" not in (tmp_path / "x.md").read_text()


def test_titles_and_sources_are_shown_without_escape_sequences(provision: Run, tmp_path: Path) -> None:
    folder = tmp_path / "own" / "models"
    folder.mkdir(parents=True)
    text = (data_folder("hardware_specs") / "models" / "llama2-70b.yaml").read_text()
    text = text.replace("title: Llama2-70B", 'title: "\\e[31mred\\e]0;t\\a"').replace("llama2-70b", "red")
    (folder / "red.yaml").write_text(text)
    ended = provision("models", "red", "--specs", "own")
    assert ended.code == 0 and "\\x1b[31mred" in ended.out and "\x1b" not in ended.out and "\a" not in ended.out


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_equal_prompts_on_a_mixed_pool_whose_prompts_always_carry(provision: Run, tmp_path: Path) -> None:
    rows = "".join(f"{k / 10:.1f},2000,100\n" for k in range(100))
    (tmp_path / "t.csv").write_text(f"arrival_s,prompt_tokens,output_tokens\n{rows}")
    question = ("--model", "llama-3.1-8b", "--tp", "1", "--design", "baseline-h100", "--slo", "batch", "--fast")
    ended = provision("plan", "--trace", "t.csv", *question, "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["machines"] == 1


CONSTANT = "".join(f"{k},512,{{output}}\n" for k in range(40))


@pytest.mark.parametrize("output", [1, 2, 128])
@pytest.mark.parametrize("requests", [2, 40])
@pytest.mark.parametrize("design", ["splitwise-hh", "baseline-h100"])
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_equal_requests_are_planned_without_a_warning_and_in_order(
    provision: Run, tmp_path: Path, output: int, requests: int, design: str
) -> None:
    rows = CONSTANT.format(output=output).splitlines()[:requests]
    (tmp_path / "t.csv").write_text("\n".join(["arrival_s,prompt_tokens,output_tokens", *rows]) + "\n")
    for asked in (("--trace", "t.csv"), ("--workload", "t.csv", "--rate", "5"), ("--workload", "t.csv", "--cv", "0")):
        ended = provision("plan", "--fast", "--tp", "8", "--design", design, "--slo", "batch", *asked, "--json")
        assert (ended.code, ended.err) == (0, "")
        for metric in ("ttft", "tbt", "e2e"):
            seconds = [each["seconds"] for each in json.loads(ended.out)["latency"] if each["metric"] == metric]
            none = metric == "tbt" and output == 1  # an answer of one token has no time between tokens
            assert len(seconds) == 3 and seconds == ([None] * 3 if none else sorted(seconds))
    sizes = ("--prompt", "1", "--token", "1") if design == "splitwise-hh" else ("--mixed", "1")
    ended = provision("simulate", "--trace", "t.csv", "--design", design, *sizes)
    assert (ended.code, ended.err) == (0, "")


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_published_curve_that_falls_gives_long_prompts_no_negative_time(provision: Run) -> None:
    asked = ("--assumptions", "splitwise-sim", "--workload", "agents")
    ended = provision("plan", "--fast", *asked, "--json")
    assert ended.code == 0
    assert "dgx-a100 at TP 2 is left out: its curve ends before 127,562 tokens" in json.loads(ended.out)["warnings"]
    ended = provision("plan", "--fast", "--tp", "2", *asked)
    assert ended.code == 2 and "no machine can serve llama2-70b: dgx-a100 at TP 2 is left out" in ended.error


TRACE_READERS = {
    "workloads": ("workloads", "show"),
    "import": ("workloads", "import"),
    **{name: (name, "--workload") for name in ("plan", "pareto", "sensitivity")},
    "compare": ("compare", "--budget", "400kW", "--workload"),
    "plan a trace": ("plan", "--trace"),
    "capacity": ("capacity", "--design", "baseline-h100", "--mixed", "1", "--workload"),
    "simulate": ("simulate", "--design", "baseline-h100", "--mixed", "1", "--workload"),
    "simulate a trace": ("simulate", "--design", "baseline-h100", "--mixed", "1", "--trace"),
    "sweep": ("sweep", "--design", "baseline-h100", "--mixed", "1:2", "--workload"),
}
MOONCAKE = "timestamp,input_length,output_length\n"
FAULTS = {
    "unit": (MOONCAKE + "0.5,10,3\n1.5,10,3\n", (), "give --time-unit ("),
    "dates": ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,1,1\n", ("--time-unit", "s"), "leave out"),
    "failed": (MOONCAKE + "0,10,3\n500,10,0\n", ("--failed-rows", "refuse"), "--failed-rows drop leaves it out"),
    "span": ("arrival_s,prompt_tokens,output_tokens\n1,10,3\n2,10,3\n", ("--span", "1h:2h"), "of which --span takes"),
}


@pytest.mark.parametrize("command", TRACE_READERS.values(), ids=TRACE_READERS)
@pytest.mark.parametrize(("content", "options", "message"), FAULTS.values(), ids=FAULTS)
def test_a_message_on_a_trace_names_options_that_the_command_has(
    provision: Run, tmp_path: Path, command: tuple[str, ...], content: str, options: tuple[str, ...], message: str
) -> None:
    (tmp_path / "t.csv").write_text(content)
    ended = provision(*command, "t.csv", *options)
    assert (ended.code, message in ended.error) == (2, True), ended.error
    helped = provision(*command[: 2 if command[0] == "workloads" else 1], "--help").out
    assert {*re.findall(r"--[a-z][a-z-]+", ended.error)} <= {*re.findall(r"--[a-z][a-z-]+", helped)}


def test_a_workload_without_a_rate_is_shown_with_one(provision: Run, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("arrival_s,prompt_tokens,output_tokens\n1,10,3\n1,20,4\n")
    assert (
        "so it has no rate: give one with --rate, or write it down with provision workloads import"
        in provision("workloads", "t.csv").error
    )
    assert "rate to plan for  3 requests/s" in provision("workloads", "t.csv", "--rate", "3").out
    planned = provision(
        "plan", "--workload", "t.csv", "--rate", "2", "--fast", "--tp", "8", "--design", "baseline-h100"
    )
    assert (planned.code, "at 2 requests/s" in planned.out) == (0, True)
