"""Every number of a simulation can be varied, and a point is the simulation with that number."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from types import NoneType
from typing import Any, get_args

import pandas as pd
import pytest

from provisioner import api
from provisioner.api import vary
from provisioner.errors import InputError, UnknownNameError
from provisioner.options import FACTORS, MACHINE_FACTORS, SimulateOptions, flag_of, spelled_as_flags
from provisioner.report.chart import LineChart
from provisioner.report.terminal import render
from provisioner.report.views.grid import document
from provisioner.report.views.registry import charts
from provisioner.specs.metrics import name_of
from provisioner.studies.inputs import INPUTS, check_varied, factor, input_of

SPLIT: dict[str, Any] = {"design": "splitwise-hh", "prompt_machines": 6, "token_machines": 2}
OPEN: dict[str, Any] = {**SPLIT, "rate_rps": 20.0, "duration_s": 10.0}
LENT: dict[str, Any] = {**OPEN, "policy": "splitwise"}

CHUNKED: dict[str, Any] = {
    "design": "baseline-h100",
    "mixed_machines": 8,
    "policy": "chunked",
    "rate_rps": 20.0,
    "duration_s": 10.0,
}

# Numbers that are no quantity to vary: sizes are swept, a seed only names the request sets, repeats time one run.
NOT_VARIED = {
    *("prompt_machines", "token_machines", "mixed_machines", "seed", "repeat", "block_tokens"),
    *("attainment", "context_tokens"),
}

CASES: dict[str, tuple[dict[str, Any], str, tuple[float, ...]]] = {
    "rate": ({**SPLIT, "duration_s": 10.0}, "10:20:5", (10.0, 15.0, 20.0)),
    "cv": (OPEN, "0,2", (0.0, 2.0)),
    "duration": ({**SPLIT, "rate_rps": 20.0}, "5,0.2min", (5.0, 12.0)),
    "seeds": (OPEN, "1:3", (1, 2, 3)),
    "in-flight": ({**SPLIT, "requests": 150}, "8,32", (8, 32)),
    "requests": ({**SPLIT, "in_flight": 16}, "100:300:100", (100, 200, 300)),
    "warm-up": (OPEN, "0,20%", (0.0, 0.2)),
    "cool-down": (OPEN, "0:0.2:0.1", (0.0, 0.1, 0.2)),
    "tp": (OPEN, "4,8", (4, 8)),
    "prompt-tp": (OPEN, "4,8", (4, 8)),
    "token-tp": (OPEN, "2,8", (2, 8)),
    "max-pending-tokens": ({**LENT, "rate_rps": 40.0}, "0,1e4", (0, 10_000)),
    "batch-tokens": (CHUNKED, "256:1024:256", (256, 512, 768, 1024)),
    "batch-requests": (OPEN, "2,512", (2, 512)),
    "max-preemptions": ({**LENT, "rate_rps": 40.0}, "1:2", (1, 2)),
    "transfer-retry": ({**OPEN, "policy": "split"}, "0:2s:500ms", (0.0, 0.5, 1.0, 1.5, 2.0)),
    "deflect-below": ({**OPEN, "policy": "deflect"}, "0:2000:1000", (0, 1000, 2000)),
}


def test_every_number_of_a_simulation_is_an_input() -> None:
    numbers = {
        each.name
        for each in dataclasses.fields(SimulateOptions)
        if set(get_args(each.type) or (each.type,)) - {Mapping[str, int]} <= {int, float, NoneType}  # or by role
    }
    assert {each.field for each in INPUTS.values()} == numbers - NOT_VARIED
    assert set(CASES) == set(INPUTS)


@pytest.mark.parametrize("name", INPUTS)
def test_names_are_those_of_the_flags(name: str) -> None:
    field = INPUTS[name].field
    assert flag_of(field) == f"--{name}"
    assert input_of(field) is input_of(field.replace("_", "-")) is INPUTS[name]


@pytest.mark.parametrize("name", CASES)
def test_a_point_is_the_simulation_with_that_number(name: str) -> None:
    given, typed, values = CASES[name]
    varied = INPUTS[name]
    found = vary(SimulateOptions(**given), name=name, values=typed)
    frame = found.to_frame()
    assert found.values == values and frame[varied.column].tolist() == list(values)
    assert [type(value) for value in found.values] == [type(value) for value in values]
    assert str(frame[varied.column].dtype) == ("int64" if varied.kind.minimum is not None else "float64")
    for value, (_, row) in zip(values, frame.iterrows(), strict=True):
        alone = api.simulate(**{**given, varied.field: value})
        for each in alone.latency:
            if each.metric != "gap":
                assert row[f"{name_of(each.metric, each.percentile)}_slowdown"] == each.slowdown.mean
        assert row["throughput_rps"] == alone.throughput_rps and row["requests"] == alone.requests
        assert (None if pd.isna(row["stable"]) else row["stable"]) == alone.stable


@pytest.mark.parametrize("name", ["batch-requests", "transfer-retry", "max-pending-tokens", "token-tp", "in-flight"])
def test_an_input_changes_the_answer(name: str) -> None:
    given, typed, _ = CASES[name]
    if name == "transfer-retry":  # only memory that is full makes a transfer wait
        given = {**given, "prompt_machines": 12, "token_machines": 1, "token_tensor_parallel": 2, "rate_rps": 60.0}
    frame = vary(SimulateOptions(**given), name=name, values=typed).to_frame()
    assert frame["e2e_p99_slowdown"].nunique() > 1


def test_one_request_an_iteration_is_the_slowest() -> None:
    frame = vary(SimulateOptions(**OPEN), name="batch-requests", values=[1, 4, 64]).to_frame()
    assert frame["e2e_p99_s"].is_monotonic_decreasing and (frame["token_mean_batch"] <= frame["batch_requests"]).all()


def test_more_requests_in_flight_are_as_many_in_the_cluster() -> None:
    """Little's law: requests in a closed loop are its throughput times the mean time of one."""
    found = vary(SimulateOptions(**SPLIT, requests=3_000), name="in-flight", values="8,64")
    for value, point in zip(found.values, found.points, strict=True):
        alone = api.simulate(**SPLIT, requests=3_000, in_flight=int(value), percentiles=tuple(range(1, 100)))
        mean_s = sum(each.seconds.mean for each in alone.latency if each.metric == "e2e") / 99
        assert (point.throughput_rps or 0.0) * mean_s == pytest.approx(value, rel=0.1)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("batch-tokens", "512.5", "must be a whole number of tokens, 1 or more, got 512.5"),
        ("batch-tokens", "256:1024:0.5", "must be a whole number of tokens, 1 or more, got 0.5"),
        ("batch-tokens", 0, "must be a whole number of tokens, 1 or more, got 0"),
        ("in-flight", [8, 8.5], "must be a whole number of requests, 1 or more, got 8.5"),
        ("max-pending-tokens", "-1", "must be a whole number of tokens, 0 or more, got -1"),
        ("max-preemptions", "0", "must be a whole number, 1 or more, got 0"),
        ("tp", "4.5", "must be a whole number of GPUs, 1 or more, got 4.5"),
        ("seeds", "1,many", "must be a number of request sets, got 'many'"),
        ("seeds", "0:3", "must be a whole number of request sets, 1 or more, got 0"),
        ("batch-tokens", "8:4", "must rise, got '8:4'"),
        ("batch-tokens", "1:1e9", "'1:1e9' has more than the 100,000 values of a range"),
        ("batch-tokens", "4,4.0", "4 is given twice"),
        ("batch-tokens", [], "is empty"),
        ("cv", "0:2:0", "must rise by a step above 0, got '0:2:0'"),
        ("cv", "-1", "must be 0 or more, got -1"),
        ("duration", "0", "must be above 0 s, got 0"),
        ("duration", "0s", "must be a time above 0 s, got '0s'"),
        ("duration", "5parsecs", "must be a time with its unit"),
        ("duration", "10:60", "must be FROM:TO:STEP"),
        ("transfer-retry", "-1s", "must be a time above 0 s, got '-1s'"),
        ("warm-up", "0.5:1.5:0.5", "must be between 0 and 1"),
        ("rate", "nan", "must be a number of requests/s, got 'nan'"),
    ],
)
def test_values_are_refused_in_the_words_of_the_flag(name: str, values: Any, message: str) -> None:
    with spelled_as_flags(), pytest.raises(InputError) as refused:
        INPUTS[name].values(values)
    assert str(refused.value).startswith(f"--vary {name}: {message}")


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("rate", {"in_flight": 8}, "a closed loop (--in-flight) has no arrival times; leave out --in-flight"),
        ("duration", {"in_flight": 8}, "a closed loop (--in-flight) has no arrival times; leave out --in-flight"),
        ("cv", {"in_flight": 8}, "a closed loop (--in-flight) has no arrival times; leave out --in-flight"),
        ("cool-down", {"in_flight": 8}, "a closed loop (--in-flight) has no arrival times; leave out --in-flight"),
        ("in-flight", {"rate_rps": 5.0}, "a closed loop (--in-flight) has no arrival times; leave out --rate"),
        ("in-flight", {"rates_rps": (5.0,)}, "a closed loop (--in-flight) has no arrival times; leave out --rates"),
        ("in-flight", {"duration_s": 5.0}, "a closed loop (--in-flight) has no arrival times; leave out --duration"),
        ("in-flight", {"cv": 2.0}, "a closed loop (--in-flight) has no arrival times; leave out --cv"),
        ("requests", {"rate_rps": 5.0}, "is the number in a closed loop; give --in-flight too"),
        ("requests", {}, "is the number in a closed loop; give --in-flight too"),
        ("duration", {"trace": "t.csv"}, "a --trace is simulated at its own times; leave out --trace"),
        ("in-flight", {"trace": "t.csv"}, "a --trace is simulated at its own times; leave out --trace"),
        ("seeds", {"trace": "t.csv"}, "a --trace is one request set, taken as it is; leave out --trace"),
        ("cv", {"trace": "t.csv"}, "changes a workload; a --trace is taken as it is; leave out --trace"),
        ("rate", {"rates_rps": (5.0,)}, "--rates has a rate for each minute; leave out --rates"),
        ("duration", {"rates_rps": (5.0,)}, "--rates has a rate for each minute; leave out --rates"),
        ("seeds", {"sets": 3}, "takes its values from the range; leave out --seeds"),
        ("tp", {"tensor_parallel": 8}, "takes its values from the range; leave out --tp"),
        ("rate", {"scale": {"rate": 2.0}}, "is scaled with --scale too; leave out one"),
    ],
)
def test_what_means_nothing_together_is_refused(name: str, given: dict[str, Any], message: str) -> None:
    with spelled_as_flags(), pytest.raises(InputError) as refused:
        vary(SimulateOptions(**SPLIT, **given), name=name, values="1,2")
    assert str(refused.value) == f"--vary {name}: {message}"
    with pytest.raises(InputError) as in_python:
        vary(SimulateOptions(**SPLIT, **given), name=name, values="1,2")
    assert str(in_python.value).startswith(f"name {name}: ") and "--" not in str(in_python.value)


def test_what_goes_together_is_not_refused() -> None:
    for name in ("rate", "tp", "batch-tokens", "warm-up"):
        check_varied(INPUTS[name], SimulateOptions(trace="t.csv"))
    for name in ("tp", "seeds", "warm-up", "requests"):
        check_varied(INPUTS[name], SimulateOptions(in_flight=8))
    check_varied(INPUTS["in-flight"], SimulateOptions(requests=100))
    check_varied(factor("rate"), SimulateOptions(rate_rps=2.0))


def test_unknown_names_list_what_can_be_varied_the_nearest_first() -> None:
    with pytest.raises(UnknownNameError) as refused:
        input_of("batch-token")
    assert refused.value.known[0] == "batch-tokens" and "did you mean batch-tokens?" in str(refused.value)
    assert set(refused.value.known) == {*INPUTS, *FACTORS, *MACHINE_FACTORS}
    for name in ("prompt", "token", "mixed"):
        with spelled_as_flags(), pytest.raises(InputError, match=f"--vary {name}: pool sizes are swept without --vary"):
            input_of(name)
    for name in ("tp:dgx-a100", "slo:dgx-a100"):
        with pytest.raises(InputError, match=f"name {name}: .* is not an input of a machine type"):
            input_of(name)


def test_a_value_that_no_machine_serves_is_a_row_wherever_it_stands() -> None:
    found = vary(SimulateOptions(**OPEN), name="tp", values="1,3,8")
    assert [point.state for point in found.points] == ["infeasible", "infeasible", "pass"]
    assert "does not fit on 1 of the 8 GPUs" in found.points[0].why
    assert "no latency curves" in found.points[1].why
    assert found.to_frame()["tensor_parallel"].tolist() == [1, 3, 8]
    with pytest.raises(InputError, match=r"does not fit on 1 of the 8 GPUs"):
        vary(SimulateOptions(**OPEN), name="tp", values="1,3")


def test_reports_and_pictures_name_the_input_its_unit_workload_and_model() -> None:
    found = vary(SimulateOptions(**SPLIT, rate_rps=20.0), name="duration", values="5,10")
    assert found.load == "20 requests/s for 5 to 10 s"
    assert document(found).headline.startswith("Latency against duration")
    assert "Varied: duration (s), 5, 10; coding on llama2-70b" in document(found).subtitle
    for chart in charts(found).values():
        assert isinstance(chart, LineChart) and "coding on llama2-70b" in chart.title
        if not chart.steps:
            assert chart.x.label == "duration (s)" and "against duration" in chart.title


def test_loads_at_both_ends() -> None:
    loop = vary(SimulateOptions(**SPLIT, requests=50), name="in-flight", values="4,16,8")
    assert loop.load == "4 to 16 requests in flight"
    rate = vary(SimulateOptions(**SPLIT, duration_s=3.0), name="rate", values="5,10")
    assert rate.load == "5 to 10 requests/s for 3 s" and "for 3 s each" in document(rate).subtitle


def test_warnings_of_one_value_name_it() -> None:
    found = vary(SimulateOptions(**{**OPEN, "duration_s": 3.0}), name="cv", values="1,20")
    burstier = [note for note in found.warnings if "burstier" in note]
    assert len(burstier) == 1 and burstier[0].startswith("cv 1: the trace behind workload coding is burstier")
    assert any(note.startswith("14.9% of the requests are longer") for note in found.warnings)


def test_numbers_of_request_sets_have_intervals_where_there_are_several() -> None:
    found = vary(SimulateOptions(**OPEN), name="seeds", values="1,3")
    assert found.sets == 3 and "the mean over its request sets" in str(found)
    one, three = (point.latency[-1] for point in found.points)
    assert one.name == three.name == "e2e_p99" and one.slowdown_range is None and three.slowdown_range is not None
    assert three.slowdown_range[0] < three.slowdown < three.slowdown_range[1]
    frame = found.to_frame()
    assert frame["e2e_p99_slowdown_low"].isna().tolist() == [True, False]


def test_whole_numbers_keep_their_digits() -> None:
    found = vary(SimulateOptions(**LENT), name="max-pending-tokens", values=[1_234_567, 8192])
    assert "| 1234567 |" in str(found) and "e+06" not in str(found)


@pytest.mark.parametrize("name", ["max-pending-tokens", "decode-time:dgx-h100-capped", "duration", "in-flight"])
def test_tables_fit_a_terminal(name: str) -> None:
    given: dict[str, Any] = {"prompt_machines": 12, "token_machines": 3, "design": "splitwise-hhcap", "requests": 100}
    if name != "in-flight":
        given = {**given, "requests": None, "rate_rps": 5.0, **({} if name == "duration" else {"duration_s": 3.0})}
    if name == "max-pending-tokens":
        given["policy"] = "splitwise"
    found = vary(SimulateOptions(**given), name=name, values=[1000, 8192] if "max" in name else [1, 2])
    assert max(map(len, render(document(found), 100).splitlines())) <= 100


def test_the_command_asks_the_same() -> None:
    found = vary(SimulateOptions(**OPEN), name="tensor_parallel", values=[8, 4])
    typed = shlex.split(found.command)
    assert (
        found.varied is not None
        and found.varied.name == "tp"
        and typed[typed.index("--vary") + 1] == "tp=4,8"
        and "--tp" not in typed
    )
    retried = vary(SimulateOptions(**LENT), name="transfer-retry", values="0:1:0.5")
    assert "transfer-retry=0:1:0.5" in shlex.split(retried.command)
