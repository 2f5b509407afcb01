import json
from pathlib import Path
from typing import Any

import pytest

from provisioner.report.terminal import MAX_WIDTH
from provisioner.specs import catalog
from provisioner.specs.shipped import data_folder
from tests.cli.conftest import Run

EVERY = [
    ("machines",),
    ("machines", "dgx-h100-capped"),
    ("models",),
    ("models", "llama2-70b"),
    ("models", "bloom-176b"),
    ("models", "show", "bloom-176b"),
    ("workloads",),
    ("workloads", "coding"),
    ("workloads", "show", "conversation"),
    ("curves",),
    ("curves", "dgx-h100"),
    ("curves", "bloom-176b"),
    ("curves", "show", "bloom-176b"),
    ("curves", "mi300x-x8"),
    ("curves", "qwen3-8b"),
    ("engines",),
    ("engines", "vllm"),
    ("engines", "tensorrt-llm"),
]


@pytest.mark.parametrize("arguments", EVERY, ids=[" ".join(each) for each in EVERY])
def test_shows_plain_text_and_json(provision: Run, arguments: tuple[str, ...]) -> None:
    ended = provision(*arguments)
    assert (ended.code, ended.err) == (0, "")
    assert "\x1b" not in ended.out
    assert max(map(len, ended.out.splitlines())) <= MAX_WIDTH
    assert "nan" not in ended.out.split()
    assert json.loads(provision(*arguments, "--json").out)


def test_lists_name_everything_shipped(provision: Run) -> None:
    for command, names in (
        ("machines", catalog.SHIPPED.machines),
        ("models", catalog.SHIPPED.models),
        ("workloads", catalog.workloads()),
    ):
        text = provision(command).out
        assert all(name in text for name in names)
        assert [each["name"] for each in json.loads(provision(command, "--json").out)] == list(names)


@pytest.mark.parametrize("group", ["models", "curves", "workloads"])
def test_a_name_alone_is_shown(provision: Run, group: str) -> None:
    for rest in ((), ("llama2-70b",), ("--json",)) if group != "workloads" else ((), ("coding",), ("--json",)):
        assert provision(group, *rest).out == provision(group, "show", *rest).out


def test_machine(provision: Run) -> None:
    text = provision("machines", "dgx-h100").out
    for part in (
        "8 x h100-sxm-80gb",
        "640.0 GiB",
        "3,352 GB/s",
        "Prices",
        "31.92",
        "38.08",
        "Sources",
        "llama2-70b at TP",
    ):
        assert part in text
    values = json.loads(provision("machines", "dgx-h100", "--json").out)
    assert values["prices"]["2026"]["cost_usd_per_h"] == 31.92
    assert values["sources"]
    assert {"model": "bloom-176b", "tensor_parallel": 8} in values["curves"]
    assert values["other_curves"]["evidence"] == "derived"
    assert values["other_curves"]["kernels"] == ["h100-sxm-80gb"]


def test_model(provision: Run) -> None:
    text = provision("models", "llama2-70b").out
    for part in ("327,680 bytes per token", "64 of dimension 128, 8 for keys and values", "Where it runs", "Sources"):
        assert part in text
    fits = json.loads(provision("models", "llama2-70b", "--json").out)["machines"]
    assert {fit["tensor_parallel"] for fit in fits if fit["evidence"] == "measured"} == {2, 4, 8}
    assert {fit["machine"] for fit in fits} == set(catalog.SHIPPED.whole_machines)
    assert all(bool(fit["reason"]) == (fit["kv_capacity_tokens"] is None) for fit in fits)
    assert all((fit["kv_capacity_tokens"] or 1) > 0 and fit["error"] for fit in fits)


def test_workload(provision: Run) -> None:
    text = provision("workloads", "coding").out
    for part in ("70 requests/s", "Lengths", "1,469", "Arrivals in its trace", "8,819", "13.2", "Sources"):
        assert part in text
    values = json.loads(provision("workloads", "--json", "coding").out)
    assert (values["prompt_tokens"]["p50"], values["output_tokens"]["p50"]) == (1469, 13)


def test_curves(provision: Run) -> None:
    text = provision("curves").out
    assert "6 measured points were refused" in text
    assert "estimated  like a40-48gb" in text
    groups = json.loads(provision("curves", "--json").out)["measured"]
    assert len(groups) == 12
    refused = [group for group in groups if group["refused"]]
    assert [(group["model"], group["tensor_parallel"]) for group in refused] == [("llama2-70b", 2)] * 3
    assert all("although the work rises" in each["reason"] for group in refused for each in group["refused"])
    one = provision("curves", "llama2-70b").out
    for part in (
        "refused: 512 x 64",
        "levelled to",
        "measured from 128 to 8,192 batched tokens",
        "prompt: runs",
        "decode: batch beyond the last",
        "assumed",
        "Sources",
        "no room",
        "TTFT and TPOT in 153 runs",
    ):
        assert part in one


def test_a_model_without_measured_curves_has_others(provision: Run) -> None:
    text = provision("curves", "qwen3-8b").out
    assert "measured" not in text.split() and "derived" in text.split() and "estimated" in text.split()
    values = json.loads(provision("curves", "qwen3-8b", "--json").out)
    assert values["measured"] == [] and {row["model"] for row in values["coverage"]} == {"qwen3-8b"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("machines", "dgx-h10"), "unknown machine 'dgx-h10': did you mean dgx-h100?"),
        (("models", "show", "llama2-7b"), "unknown model 'llama2-7b': the nearest is llama2-70b, of another size"),
        (("curves", "dgx-b20"), "unknown model or machine 'dgx-b20': did you mean dgx-b200?"),
        (("curves", ""), "unknown model or machine ''"),
        (("curves", "mine", "--specs", "own"), "unknown model or machine 'mine'"),
        (("machines", "--specs", "none"), "--specs: must be a folder with machines"),
        (("models", "--specs", "trace.csv"), "--specs: must be a folder with machines"),
        (("curves", "--specs", "empty"), "--specs: empty has no machines/*.yaml"),
        (("machines", "--specs", "broken"), "broken/machines/mine.yaml: gpus: "),
        (("curves", "--specs", "odd"), "odd/curves/x.csv: must be named MACHINE__MODEL.csv"),
    ],
)
def test_nonsense_is_one_line(provision: Run, trace: Path, arguments: tuple[str, ...], message: str) -> None:
    for folder, part in (("own", "models"), ("broken", "machines"), ("odd", "curves"), ("empty", "models")):
        (trace.parent / folder / part).mkdir(parents=True)
    shipped = data_folder("hardware_specs")
    own = (shipped / "models" / "qwen3-8b.yaml").read_text().replace("name: qwen3-8b", "name: ours", 1)
    (trace.parent / "own" / "models" / "ours.yaml").write_text(own)
    machine = (shipped / "machines" / "l40s-x8.yaml").read_text().replace("name: l40s-x8", "name: mine", 1)
    (trace.parent / "broken" / "machines" / "mine.yaml").write_text(machine.replace("gpus: 8", "gpus: many"))
    (trace.parent / "odd" / "curves" / "x.csv").write_text("")
    ended = provision(*arguments)
    assert ended.code == 2
    assert message in ended.error


def test_ones_own_are_shown_with_specs(provision: Run, tmp_path: Path) -> None:
    shipped = data_folder("hardware_specs")
    (tmp_path / "own" / "models").mkdir(parents=True)
    text = (shipped / "models" / "qwen3-8b.yaml").read_text().replace("name: qwen3-8b", "name: ours", 1)
    (tmp_path / "own" / "models" / "ours.yaml").write_text(text)
    listed = provision("models", "--specs", "own").out
    assert "ours *" in listed and "*: of one's own, from own." in " ".join(listed.split())
    assert provision("models", "ours").code == 2
    for command in ("models", "curves"):
        ended = provision(command, "ours", "--specs", "own")
        assert (ended.code, ended.err) == (0, "") and "derived" in ended.out
        assert json.loads(provision(command, "ours", "--specs", "own", "--json").out)
    assert "ours *" in provision("curves", "dgx-h100", "--specs", "own").out


def test_import_says_what_it_recognised(provision: Run, trace: Path) -> None:
    ended = provision("workloads", "import", trace.name)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("own trace of 40 requests\n")
    for part in (
        "arrival_s, prompt_tokens, output_tokens",
        "P99",
        "mean rate",
        "peak rate",
        "CV of the gaps",
        "duration",
    ):
        assert part in ended.out
    assert sorted(path.name for path in trace.parent.iterdir()) == ["trace.csv"]


AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.97,4808,10\n2023-11-16 18:17:04.03,3180,8\n"
MOONCAKE = (
    '{"timestamp": 0, "input_length": 1024, "output_length": 50, "hash_ids": [1, 2]}\n'
    '{"timestamp": 900, "input_length": 1024, "output_length": 50, "hash_ids": [1, 3]}\n'
)
SPLITWISE = "request_id,arrival_timestamp,prompt_size,token_size\n0,0,100,10\n1,1,200,20\n"
VIDUR = "arrived_at,num_prefill_tokens,num_decode_tokens\n0,100,10\n1,200,20\n"


@pytest.mark.parametrize(
    ("content", "known"),
    [(AZURE, "azure"), (MOONCAKE, "mooncake"), (SPLITWISE, "splitwise-sim"), (VIDUR, "vidur")],
)
def test_import_recognises_every_format(provision: Run, tmp_path: Path, content: str, known: str) -> None:
    (tmp_path / "t").write_text(content)
    values = json.loads(provision("workloads", "import", "t", "--json").out)
    assert (values["format"], values["requests"], values["written"]) == (known, 2, [])
    assert provision("workloads", "import", "t").code == 0


def test_import_warns_of_prefixes(provision: Run, tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(MOONCAKE)
    ended = provision("workloads", "import", "t.jsonl")
    assert "25.0 %" in ended.out
    assert "25% of the prompt tokens repeat a prefix seen before; prefix caching is not modelled" in " ".join(
        ended.out.split()
    )


def test_imported_workload_plans(provision: Run, trace: Path) -> None:
    ended = provision("workloads", "import", trace.name, "--out", ".", "--name", "mine", "--rate", "30")
    assert ended.code == 0
    assert "provision plan --workload mine.yaml" in ended.out
    folder = trace.parent
    assert sorted(path.name for path in folder.iterdir()) == ["mine.csv", "mine.yaml", "trace.csv"]
    again = catalog.workload(folder / "mine.yaml")
    assert (again.name, again.rate_rps) == ("mine", 30)
    plan = json.loads(provision("plan", "--fast", "--slo", "batch", "--workload", "mine.yaml", "--json").out)
    assert (plan["workload"], plan["rate_rps"]) == ("mine", 30)
    assert provision("workloads", "mine.yaml").code == 0
    # once more over its own files, and named by a file
    assert provision("workloads", "import", trace.name, "--out", "mine.yaml").code == 0
    assert catalog.workload(folder / "mine.yaml").rate_rps == pytest.approx(2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--out", "none"), "--out none: must be a folder that exists, or a file ending in .yaml"),
        (("--out", "none/w.yaml"), "the folder none does not exist"),
        (("--out", "w.csv"), "must be a folder that exists, or a file ending in .yaml"),
        (("--out", "."), "--out .: would overwrite the trace itself; give another name with --name"),
        (("--out", "trace.yaml"), "would overwrite the trace itself"),
        (("--out", "notes.yaml"), "notes.csv exists and is not a workload's table"),
        (("--out", "w.yaml", "--name", "v"), "--out w.yaml: names the workload w, --name v; leave out one of them"),
        (("--out", ".", "--name", "../x"), "--name ../x: must be letters, digits"),
        (("--out", "a b.yaml"), "'a b' does not do as a name of files"),
    ],
)
def test_import_refuses_to_write(provision: Run, trace: Path, arguments: tuple[str, ...], message: str) -> None:
    (trace.parent / "notes.csv").write_text("my own table\n")
    before = {path.name: path.read_bytes() for path in trace.parent.iterdir()}
    ended = provision("workloads", "import", trace.name, *arguments)
    assert ended.code == 2
    assert message in ended.error
    assert {path.name: path.read_bytes() for path in trace.parent.iterdir()} == before


def test_a_trace_without_duration_needs_a_rate(provision: Run, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("arrival_s,prompt_tokens,output_tokens\n1,100,10\n1,200,20\n")
    assert provision("workloads", "import", "t.csv").code == 0
    assert "--rate" in provision("workloads", "import", "t.csv", "--out", "w.yaml").error
    assert provision("workloads", "import", "t.csv", "--out", "w.yaml", "--rate", "3").code == 0


def test_room_and_errors_are_of_the_engine(provision: Run) -> None:
    def row(*more: str) -> dict[str, Any]:
        rows = json.loads(provision("models", "llama-3.1-70b", "--json", *more).out)["machines"]
        key = "dgx-h100", "fp8", 4
        return next(each for each in rows if (each["machine"], each["dtype"], each["tensor_parallel"]) == key)

    default, whole = row(), row("--engine", "vllm,share=1")
    assert whole["kv_capacity_tokens"] > default["kv_capacity_tokens"]
    assert whole["error"]["decode"] != default["error"]["decode"]
    assert "given by hand" in provision("engines", "vllm,share=1").out
    refused = provision("curves", "dgx-h100", "--engine", "nope")
    assert refused.code == 2 and "unknown engine" in refused.err
