"""Laws over every declared option: it survives the command line, has one flag, and is documented once."""

from __future__ import annotations

import dataclasses
import inspect
import pickle
import re
import shlex
from contextlib import suppress
from typing import Any

import pytest

import provisioner
from provisioner.cli.commands import _at_fixed_sizes, command
from provisioner.cli.given import given_of
from provisioner.errors import InputError, UnknownNameError
from provisioner.options import (
    LIMIT_NAMES,
    CapacityOptions,
    CompareOptions,
    Option,
    Options,
    ParetoOptions,
    PlanOptions,
    ProfileOptions,
    ReproduceOptions,
    SensitivityOptions,
    SimulateOptions,
    SweepOptions,
    VaryOptions,
    declared,
    documentation,
    flag_also_called,
    flag_of,
    spelled,
    spelled_as_flags,
)
from provisioner.options.command import command_of, given_and_defaults, typed
from provisioner.options.conflicts import CONFLICTS, NEEDS, Conflict
from provisioner.options.shared import Question
from provisioner.specs.metrics import MEASURED

KINDS: dict[type[Options], str] = {
    PlanOptions: "plan",
    SimulateOptions: "simulate",
    CompareOptions: "compare",
    CapacityOptions: "capacity",
    ParetoOptions: "pareto",
    SensitivityOptions: "sensitivity",
    ReproduceOptions: "reproduce",
    SweepOptions: "sweep",
    VaryOptions: "sweep",
    ProfileOptions: "profile",
}
"""Every class of options, with its command."""

NEEDED: dict[type[Options], dict[str, Any]] = {
    CapacityOptions: {"designs": ("splitwise-hh",)},
    VaryOptions: {"name": "cv", "values": "1,2"},
    ProfileOptions: {"model": "tiny", "machine": "dgx-a100", "out": "own"},
}
"""Options that a class cannot be made without."""

SAMPLES: dict[str, Any] = {
    "workload": "my trace.csv",
    "rate_rps": 12.5,
    "headroom": 0.2,
    "trace": "t.csv",
    "time_unit": "us",
    "block_tokens": 128,
    "span_s": (64_800.0, 68_400.0),
    "failed_rows": "refuse",
    "cv": 0.0,
    "independent": True,
    "instances": True,
    "model": "bloom-176b",
    "slo": "p99",
    "limits": {"tbt_p99.9": "60ms", "gap_p42": "1.5x"},
    **{name: "1.5x" if name.startswith("e2e") else "2s" for name in LIMIT_NAMES},
    **dict.fromkeys(MEASURED, "2s"),
    "attainment": 0.95,
    "deadline_s": 300.0,
    "backlog_requests": 2_000_000,
    "within_s": 28_800.0,
    "against": "none",
    "designs": ("splitwise-ha", "baseline-h100"),
    "machines": ("dgx-h100", "dgx-a100"),
    "tensor_parallel": (4, 8),
    "power_caps": (50.0, 87.5),
    "evidence": "derived",
    "stock": {"dgx-h100": 20, "dgx-a100": 0},
    "objective": "power",
    "max_cost_usd_per_h": 1234.5,
    "max_power_w": 4e5,
    "max_machines": 40,
    "prices": "paper",
    "assumptions": "splitwise-sim",
    "dtype": "fp8",
    "kv_dtype": "bf16",
    "reference": "dgx-h100:4",
    "network": ("dgx-a100=400", "2xethernet-25"),
    "specs": "my own",
    "scale": {"slo": 1.5, "price:dgx-a100": 0.25},
    "solver": "HiGHS_CMD",
    "seed": 7,
    "write_lp": "m.lp",
    "fast": True,
    "sets": 3,
    "duration_s": 90.5,
    "confidence": 0.9,
    "policy": "chunked",
    "exhaustive": True,
    "time_limit_s": 10.0,
    "cut_margin": 1.5,
    # simulations
    "rates_rps": (30.0, 0.0, 70.5),
    "in_flight": 8,
    "requests": 100,
    "warm_up": 0.25,
    "cool_down": 0.1,
    "design": "splitwise-hh:2+4",
    "prompt_machines": 18,
    "token_machines": 3,
    "mixed_machines": 5,
    "pools": ("prompt:dgx-h100=20", "token:dgx-a100:4=2"),
    "prompt_tensor_parallel": 4,
    "token_tensor_parallel": 2,
    "failures": ("prompt:3@30s-60s", "token:1@5s"),
    "max_pending_tokens": 0,
    "batch_tokens": (512, 2048),
    "survive": 1,
    "robust": True,
    "batch_requests": 64,
    "max_preemptions": 2,
    "transfer_retry_s": 0.5,
    "share_links": False,
    "deflect_below_tokens": 16,
    "percentiles": (95.0, 99.9),
    "repeat": 3,
    "records": "r.parquet",
    "timeline": "t.svg",
    # studies
    "same": "machines",
    "budget": "1500 $/h",
    "baseline": "splitwise-hh",
    "chunked": True,
    "dask": "tcp://127.0.0.1:8786",
    "prompt": 3,
    "token": 1,
    "mixed": 4,
    "to": (14.0, 16.5),
    "additions": False,
    "inputs": ("price:dgx-a100", "cv"),
    "spread": 0.3,
    "engine": "provisioner-0.1,batch_tokens=4096",
    "switches": {"price:dgx-a100": (0.2, 1.0)},
    "watch": "split",
    "tolerance": 0.02,
    "probes": 0,
    "ratios": (1.0, 12.5),
    "only": ("fig-12", "machines"),
    "resume": True,
    "threads": 2,
    "clusters": ("splitwise-hh=35+5", "baseline-h100=40"),
    # a profile
    "machine": "dgx-h100",
    "out": "own",
    "prompt_tokens": (64, 2048),
    "prompt_batches": (),
    "batched_prompt_tokens": 256,
    "decode_batches": (1, 64),
    "context_tokens": 256,
    "other_context_tokens": (),
    "context_batches": (1, 2),
    "device": "cpu",
    "repeats": 2,
    "memory_bytes": 24.0 * 2**30,
}
"""A value of every option, other than its default."""

OTHERWISE: dict[tuple[type[Options], str], Any] = {
    **{(kind, "tensor_parallel"): 4 for kind in (SimulateOptions, SweepOptions, VaryOptions)},
    **{(kind, "batch_tokens"): 4096 for kind in (SimulateOptions, SweepOptions, VaryOptions)},
    (ProfileOptions, "tensor_parallel"): 2,
    (ProfileOptions, "warm_up"): 1,
    (ProfileOptions, "dtype"): "fp32",
    (SensitivityOptions, "rates_rps"): (10.0, 20.5),
    **{(SweepOptions, role): "1:40:3" for role in ("prompt", "token", "mixed")},
}
"""Values of options that another kind of question has by the same name."""

EVERY = [(kind, name) for kind in KINDS for name, each in declared(kind).items() if each.flag]


def sample(kind: type[Options], name: str) -> Any:
    return OTHERWISE.get((kind, name), SAMPLES[name])


def parsed(kind: type[Options], typed_arguments: list[str]) -> Options:
    """The options that the arguments of the command ask for."""
    name = KINDS[kind]
    context = command().commands[name].make_context(name, typed_arguments)
    options = {**declared(SweepOptions), **declared(kind)} if kind is VaryOptions else declared(kind)
    given = given_of(options, context.params)
    if kind is VaryOptions:
        given = _at_fixed_sizes(given)
    return kind.of(**given)


def typed_all(kind: type[Options], options: Options) -> list[str]:
    """Every option that is not its default, as it is typed."""
    flags = []
    known = declared(kind)
    for name, value in options.given().items():
        if (kind, name) in EVERY and name != "name":
            flags += known[name].typed(value)
        elif name not in known and name in getattr(options, "limits", ()):
            flags += known["limits"].typed({name: value})
    if isinstance(options, VaryOptions):
        flags += [flag_of("name"), f"{options.name}={options.values}"]
    return flags


@pytest.mark.parametrize(("kind", "name"), EVERY, ids=[f"{KINDS[kind]} {name}" for kind, name in EVERY])
def test_an_option_survives_the_command_line(kind: type[Options], name: str) -> None:
    if (kind, name) == (VaryOptions, "name"):
        value: Any = "duration"
    else:
        value = sample(kind, name)
    asked = kind.of(**{**NEEDED.get(kind, {}), name: value})
    members = {each for field in dataclasses.fields(kind) for each in field.metadata["option"].members}
    if name not in members:
        assert getattr(asked, name) == value, "the sample is typed"
        assert value != declared(kind)[name].default, "the sample is another value than the default"
    assert parsed(kind, typed_all(kind, asked)) == asked


@pytest.mark.parametrize("kind", KINDS, ids=[kind.__name__ for kind in KINDS])
def test_options_are_values(kind: type[Options]) -> None:
    options = kind.of(**NEEDED.get(kind, {}))
    assert pickle.loads(pickle.dumps(options)) == options == dataclasses.replace(options)
    assert "\n" not in documentation(kind).partition("\n")[0]
    for name, each in declared(kind).items():
        assert each.help.endswith((".", ")")) and each.group, name
        assert name in documentation(kind)


def test_the_printed_commands_ask_the_same() -> None:
    plan = PlanOptions.of(
        **{n: sample(PlanOptions, n) for n in ("rate_rps", "ttft_p99", "stock", "scale", "network", "power_caps")}
    )
    question = dataclasses.asdict(plan)
    assert parsed(PlanOptions, typed(question, PlanOptions)) == plan
    assert typed({"within_s": 28_800.0}, PlanOptions) == ["--within", "28800s"]
    fast = typed({**question, "fast": True}, PlanOptions)
    assert "--fast" in fast and "--seeds" not in fast and "--cut-margin" not in fast
    simulation = SimulateOptions.of(pools=SAMPLES["pools"], share_links=False, rates_rps=(30.0, 70.0), seed=2)
    again = shlex.split(command_of("simulate", dataclasses.asdict(simulation), SimulateOptions))
    assert parsed(SimulateOptions, again[2:]) == simulation


def test_text_and_typed_values_are_the_same() -> None:
    assert PlanOptions.of(
        rate_rps="70",
        headroom="20%",
        max_power_w="400kW",
        duration_s="10min",
        stock=["dgx-h100=3"],
        scale="slo=1.5",
        tensor_parallel="4,8",
        designs="splitwise-hh",
        backlog_requests=None,
        tpot_p99="60ms",
    ) == PlanOptions(
        rate_rps=70,
        headroom=0.2,
        max_power_w=400_000,
        duration_s=600,
        stock={"dgx-h100": 3},
        scale={"slo": 1.5},
        tensor_parallel=(4, 8),
        designs=("splitwise-hh",),
        limits={"tbt_p99": "60ms"},
        slo="none",
    )
    roles = SimulateOptions.of(pools=("prefill:dgx-h100=2", "decode:dgx-a100=1"), failures="colocated:1@3s")
    assert roles.pools == ("prompt:dgx-h100=2", "token:dgx-a100=1") and roles.failures == ("mixed:1@3s",)


@pytest.mark.parametrize(
    ("given", "slo"),
    [
        ({}, "splitwise"),
        ({"ttft_p99": "2s"}, "none"),
        ({"limits": {"itl_p99.9": "2s"}}, "none"),
        ({"limits": {}}, "splitwise"),
        ({"ttft_p99": "2s", "slo": "splitwise"}, "splitwise"),
        ({"deadline_s": "60s"}, "batch"),
        ({"deadline_s": "60s", "ttft_p50": "1s"}, "none"),
        ({"slo": None, "tpot_p99": "2s"}, "none"),
    ],
)
def test_limits_given_by_hand_stand_alone_unless_an_slo_is_named(given: dict[str, Any], slo: str) -> None:
    kinds = [PlanOptions, CompareOptions, SensitivityOptions]
    kinds += [SimulateOptions] if "deadline_s" not in given else []
    assert {kind.of(**given).slo for kind in kinds} == {slo}
    if all(name in PlanOptions.__dataclass_fields__ for name in given) and given.get("slo", "") is not None:
        assert PlanOptions(**given).slo == slo
    capacity = {} if "deadline_s" in given else given
    assert CapacityOptions.of(designs="splitwise-hh", **capacity).slo == (slo if capacity else "splitwise")


@pytest.mark.parametrize(
    ("written", "known"),
    [
        ("--prefill", "--prompt"),
        ("--decode-tp", "--token-tp"),
        ("--colocated=3", "--mixed=3"),
        *((same, same) for same in ("--decode-batches", "--rate", "decode", "--", "--out=itl")),
    ],
)
def test_other_words_of_the_field_are_understood(written: str, known: str) -> None:
    assert flag_also_called(written) == known


def test_designs_and_inputs_have_other_names_too() -> None:
    assert PlanOptions.of(designs="colocated-h100").designs == ("baseline-h100",)
    assert SimulateOptions.of(design="Colocated-a100:4").design == "baseline-a100:4"
    assert CompareOptions.of(baseline="colocated-h100").baseline == "baseline-h100"
    assert VaryOptions.of(name="decode-tp", values="4", clusters="colocated-h100=3").name == "token-tp"
    found = SensitivityOptions.of(inputs=["prefill-time:dgx-a100", "decode-time"], switches="prefill-time=1:2")
    assert found.inputs == ("prompt-time:dgx-a100", "decode-time") and found.switches == {"prompt-time": (1.0, 2.0)}


def test_every_metric_has_flags_and_keywords() -> None:
    assert tuple(f"{metric}_p{q}" for metric in MEASURED for q in (50, 90, 95, 99)) == LIMIT_NAMES
    for kind in KINDS:
        names = set(declared(kind))
        assert names >= {"limits", *LIMIT_NAMES} or not names & {"limits", *LIMIT_NAMES}


LIMITED = [kind for kind in KINDS if "limits" in declared(kind) and kind is not VaryOptions]


@pytest.mark.parametrize("kind", LIMITED, ids=[kind.__name__ for kind in LIMITED])
@pytest.mark.parametrize(
    ("arguments", "limits"),
    [
        (["--limit", "tbt-p99.9=50ms", "--limit", "ttft-p99=2s"], {"ttft_p99": "2s", "tbt_p99.9": "50ms"}),
        (["--tbt-p99.9", "50ms"], {"tbt_p99.9": "50ms"}),
        (["--tbt-p99.9=50ms", "--tbt-p95", "5x"], {"tbt_p95": "5x", "tbt_p99.9": "50ms"}),
        (["--tpot-p99", "50ms", "--itl-p0.5=1ms"], {"tbt_p0.5": "1ms", "tbt_p99": "50ms"}),
        (["--gap-p95", "1s", "--largest-gap-p99=2s", "--e2e-p33.3", "9s"],
         {"gap_p95": "1s", "gap_p99": "2s", "e2e_p33.3": "9s"}),
    ],
)  # fmt: skip
def test_limits_as_they_are_typed(kind: type[Options], arguments: list[str], limits: dict[str, str]) -> None:
    asked = kind.of(limits=limits, **NEEDED.get(kind, {}))
    design = ["--design", "splitwise-hh"] if kind is CapacityOptions else []
    assert parsed(kind, [*design, *arguments]) == asked
    assert list(asked.part(Question).limits) == list(limits), "in the order of reports"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--limit", "tbt-p99=1s", "--limit", "tbt-p99=2s"],
        ["--tbt-p99", "1s", "--tbt-p99", "1s"],
        ["--tbt-p99", "1s", "--limit", "tpot-p99.0=2s"],
        ["--itl-p99=1s", "--tbt-p99=2s"],
    ],
)
def test_a_limit_given_twice_is_refused(arguments: list[str]) -> None:
    with spelled_as_flags(), pytest.raises(InputError, match=r"^--tbt-p99: is given twice$"):
        parsed(PlanOptions, arguments)


def test_a_keyword_given_twice_is_refused() -> None:
    for given in ({"limits": {"tpot_p99": "1s"}, "tbt_p99": "2s"}, {"tpot_p99": "1s", "tbt_p99": "2s"}):
        with pytest.raises(InputError, match=r"^tbt_p99: is given twice$"):
            PlanOptions.of(**given)
    both = PlanOptions.of(limits={"tbt_p99.9": "1s"}, tpot_p99="2s")
    assert both.limits == {"tbt_p99": "2s", "tbt_p99.9": "1s"}


def takes(kind: type[Options], name: str, value: Any) -> bool:
    with suppress(InputError):
        return bool(declared(kind)[name].kind.parse(value, name) == value)
    return False


def cases() -> list[tuple[Conflict, str, type[Options]]]:
    return [
        (conflict, other, kind)
        for conflict in CONFLICTS
        for other in conflict.others
        for kind in KINDS
        if {conflict.option, other} <= set(declared(kind)) and conflict.of in ("", kind.QUESTION)
        if conflict.value is None or takes(kind, conflict.option, conflict.value)
    ]


def test_every_conflict_and_need_is_of_options() -> None:
    names = {name for kind in KINDS for name in (*declared(kind), *(each.name for each in dataclasses.fields(kind)))}
    assert {name for conflict in CONFLICTS for name in (conflict.option, *conflict.others)} <= names
    assert {name for pair in NEEDS for name in pair} <= names
    assert {(id(conflict), other) for conflict, other, _ in cases()} == {
        (id(conflict), other) for conflict in CONFLICTS for other in conflict.others
    }


@pytest.mark.parametrize(
    ("conflict", "other", "kind"), cases(), ids=[f"{k.__name__} {c.option} {o}" for c, o, k in cases()]
)
def test_what_excludes_each_other_is_refused_in_the_words_of_the_caller(
    conflict: Conflict, other: str, kind: type[Options]
) -> None:
    both = {name: sample(kind, name) for name in (conflict.option, other)}
    both |= {} if conflict.value is None else {conflict.option: conflict.value}
    needed = {name: value for name, value in NEEDED.get(kind, {}).items() if name not in both}
    with pytest.raises(InputError) as in_python:
        kind.of(**both, **needed)
    assert "--" not in str(in_python.value)
    assert spelled(other) in str(in_python.value) or spelled(conflict.option) in str(in_python.value)
    with spelled_as_flags(), pytest.raises(InputError) as typed_as_flags:
        kind.of(**both, **needed)
    assert str(typed_as_flags.value).startswith("--")
    assert str(in_python.value).count(";") == str(typed_as_flags.value).count(";")


def test_what_excludes_others_by_its_value_or_alone_stands_beside_them_else() -> None:
    assert PlanOptions.of(objective="power", rate_rps=5.0).rate_rps == 5.0
    assert PlanOptions.of(sets=2, confidence=0.9).confidence == 0.9
    assert SensitivityOptions.of(switches={"cv": "1:4"}, spread=0.3, inputs="rate").spread == 0.3
    assert SensitivityOptions.of(spread=0.3).spread == 0.3


def test_what_is_needed_is_named() -> None:
    for options, message in (
        (SimulateOptions(requests=50), "requests: is the number in a closed loop; give in_flight too, or rate_rps"),
        (PlanOptions(within_s=60.0), "within_s: is the time for a backlog_requests"),
        (PlanOptions(backlog_requests=50), "backlog_requests: in what time"),
        (SensitivityOptions(ratios=(1.0,)), "rates_rps and ratios: make the map together"),
    ):
        with pytest.raises(InputError, match=message):
            options.check_needs()
    SimulateOptions(requests=50, in_flight=5).check_needs()
    SimulateOptions(rates_rps=(5.0,)).check_needs()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rate_rps": 0}, "rate_rps: must be above 0 requests/s, got 0"),
        ({"confidence": 0.5}, "confidence: must be above 0.5 and below 1, got 0.5"),
        ({"sets": 16}, "sets: must be from 1 to 15 request sets, got 16"),
        ({"cut_margin": 1}, "cut_margin: must be above 1, to 100 times, got 1"),
        ({"policy": "mixt"}, "unknown policy 'mixt': did you mean mixed"),
        ({"stock": {"dgx-h100": -1}}, "stock dgx-h100: must be a whole number of machines, 0 or more"),
        ({"limits": {"ttft_p99": "0s"}}, "ttft_p99: must be a time above 0 s"),
        ({"limits": "2s"}, "limits: must be METRIC-pQ=VALUE, such as tbt-p99.9=60ms, got '2s'"),
        ({"limits": 5}, "limits: must be METRIC-pQ=VALUE, such as tbt-p99.9=60ms, got 5"),
        ({"limits": {"ttft-p": "2s"}}, "unknown limit 'ttft-p': did you mean ttft-p99"),
        ({"limits": {"tbtt_p99": "2s"}}, "unknown metric 'tbtt': did you mean tbt"),
        ({"limits": {"tbt_p99.95": "2s"}}, r"limits tbt_p99.95: the percentile must be above 0 and at most 99.9"),
        ({"limits": {"tbt_p99.9": 2.0}}, "limits tbt_p99.9: must be a time with its unit, such as 2s"),
        ({"limits": {"tpot_p99": "2s", "tbt_p99.0": "3s"}}, "tbt_p99: is given twice"),
        ({"stock": 5}, "stock: must be NAME=COUNT, such as dgx-h100=20, got 5"),
        ({"scale": ["prefill-time=2", "prompt-time=3"]}, "scale: prompt-time is given twice"),
        ({"designs": 5}, "designs: must be a name or several, got 5"),
        ({"workload": 5}, "workload: must be a name, got 5"),
        ({"fast": "yes"}, "fast: must be True or False, got 'yes'"),
        ({"tensor_parallel": "biggest"}, "tensor_parallel: must be largest, all, or numbers"),
    ],
)
def test_values_are_checked_when_options_are_made(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PlanOptions(**given)


def test_unknown_options_offer_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown option 'ttft_p98': did you mean ttft_p99"):
        PlanOptions.of(ttft_p98="2s")
    with pytest.raises(UnknownNameError, match="unknown option 'budgets': did you mean budget"):
        CompareOptions.made(PlanOptions(), {"budgets": 3})


def test_options_of_a_plan_with_the_keywords_of_a_study() -> None:
    plan = PlanOptions(rate_rps=5.0)
    study = CompareOptions.made(plan, {"same": "throughput"})
    assert study.part(PlanOptions) == plan and study.same == "throughput"
    for keywords in ({"rate_rps": 6.0}, {"ttft_p99": "2s"}):
        with pytest.raises(InputError, match="give options or keywords, not both"):
            CompareOptions.made(plan, keywords)
    with pytest.raises(InputError, match="options: must be PlanOptions, got SimulateOptions"):
        PlanOptions.made(SimulateOptions(), {})


FUNCTIONS = {
    kind: getattr(provisioner, name)
    for kind, name in {**KINDS, VaryOptions: "vary"}.items()
    if kind is not ProfileOptions
}


@pytest.mark.parametrize("kind", FUNCTIONS, ids=[kind.__name__ for kind in FUNCTIONS])
def test_functions_show_their_keywords(kind: type[Options]) -> None:
    function = FUNCTIONS[kind]
    shown = inspect.signature(function).parameters
    assert set(declared(kind)) <= set(shown)
    text = inspect.getdoc(function) or ""
    for name, each in declared(kind).items():
        assert shown[name].default is each.default or shown[name].default == each.default
        assert f"    {name}: " in text
    assert "--" not in text.partition("Keywords:")[2]


def test_a_flag_is_of_one_field() -> None:
    """In one class; over classes a field always has the same flag."""
    for kind in KINDS:
        flags = [each.flag for each in declared(kind).values() if each.flag]
        assert len(set(flags)) == len(flags)
        for name, each in declared(kind).items():
            assert flag_of(name) == each.flag
            assert isinstance(each, Option)


def test_varied_values_are_shown_as_they_are_typed() -> None:
    given, _ = given_and_defaults({"name": "rate", "values": (5.0, 7.5, 10.0)}, VaryOptions)
    assert given == (("name", "rate"), ("values", "5,7.5,10"))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_empty_value_is_refused_for_every_option(kind: type[Options]) -> None:
    for name, option in declared(kind).items():
        if not option.switch and option.flag:
            needed = {each: value for each, value in NEEDED.get(kind, {}).items() if each != name}
            for empty in ("", " ", [""]) if option.kind.repeatable else ("", " "):
                with pytest.raises(InputError, match=rf"^{re.escape(spelled(name))}.*(empty|must be|got ''|is needed)"):
                    kind.of(**{name: empty}, **needed)


def test_what_a_study_leaves_out_is_refused() -> None:
    for asked, name in ((CapacityOptions, "fast"), (CompareOptions, "write_lp"), (SensitivityOptions, "exhaustive")):
        with pytest.raises(InputError, match=f"^{name}: is no option of this question"):
            asked(**{**NEEDED.get(asked, {}), name: "x.lp" if name == "write_lp" else True})
