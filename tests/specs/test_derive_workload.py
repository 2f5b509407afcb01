import importlib.util
import json

import numpy as np
import pytest

from provisioner.specs import catalog
from provisioner.specs.schema import load_workload
from provisioner.specs.shipped import data_folder

TRACES = {
    "coding": "azure-2023/AzureLLMInferenceTrace_code.csv",
    "conversation": "azure-2023/AzureLLMInferenceTrace_conv.csv",
    "long-context": "mooncake/conversation_trace.jsonl",
}


@pytest.fixture(scope="module")
def derive(repo_root):
    spec = importlib.util.spec_from_file_location("derive_workload", repo_root / "workloads" / "derive_workload.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", TRACES)
def test_deriving_again_gives_the_shipped_files_byte_for_byte(name, derive, shared_data, tmp_path):
    trace = shared_data / TRACES[name]
    assert derive.main([str(trace), "--name", name, "--out", str(tmp_path)]) == 0
    shipped = data_folder("workloads")
    assert (tmp_path / f"{name}.yaml").read_bytes() == (shipped / f"{name}.yaml").read_bytes()
    assert (tmp_path / f"{name}.csv").read_bytes() == (shipped / f"{name}.csv").read_bytes()


def test_a_workload_of_one_s_own(derive, tmp_path, capsys):
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n0,10,5\n1,20,6\n3,30,7\n")
    arguments = [str(trace), "--name", "mine", "--rate", "12", "--source", "our logs", "--out", str(tmp_path)]
    assert derive.main(arguments) == 0
    assert capsys.readouterr().out.startswith("3 classes: ")
    workload = load_workload(tmp_path / "mine.yaml", "mine.yaml")
    assert (workload.rate_rps, workload.sources) == (12.0, ("our logs",))
    assert "paper" not in workload.note
    assert workload.prompt.tokens.tolist() == [10, 20, 30]


def test_a_wrong_trace_is_one_line_and_writes_nothing(derive, tmp_path, capsys):
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n0,10,-1\n")
    assert derive.main([str(trace), "--name", "mine", "--out", str(tmp_path)]) == 2
    assert (
        capsys.readouterr()
        .err.strip()
        .endswith("line 2: output_tokens: must be a whole number of tokens, 1 or more, got '-1'")
    )
    assert list(tmp_path.iterdir()) == [trace]


def test_long_context_is_what_its_trace_says(shared_data):
    requests = [json.loads(line) for line in (shared_data / TRACES["long-context"]).read_text().splitlines()]
    workload = catalog.workload("long-context")
    for side, field, mean in (
        ("prompt", "input_length", workload.mean_prompt_tokens),
        ("output", "output_length", workload.mean_output_tokens),
    ):
        lengths = np.array([request[field] for request in requests])
        assert mean == pytest.approx(lengths.mean(), rel=1e-6)
        for q in (0.5, 0.9, 0.99):
            assert workload.quantile(side, q) == pytest.approx(np.quantile(lengths, q), rel=0.01)
    seconds = (requests[-1]["timestamp"] - requests[0]["timestamp"]) / 1000
    assert workload.rate_rps == pytest.approx((len(requests) - 1) / seconds, rel=1e-5)
    assert (workload.arrivals.requests, workload.cv) == (len(requests), 1.0)
    gaps = np.diff([request["timestamp"] for request in requests])
    assert np.median(gaps[gaps > 0]) == 3000  # the note's steps of 3 s

    seen: set[int] = set()
    repeated = 0
    for request in requests:
        left = request["input_length"]
        for block in request["hash_ids"]:
            if block not in seen:
                break
            repeated += min(512, left)
            left -= 512
        seen.update(request["hash_ids"])
    assert workload.context_share_reused == pytest.approx(
        repeated / sum(request["input_length"] for request in requests), rel=0.01
    )


def test_no_row_of_the_long_context_trace_can_be_read_off_its_bins(shared_data):
    workload = catalog.workload("long-context")
    single = (workload.prompt.low == workload.prompt.high) & (workload.output.low == workload.output.high)
    assert workload.weight[single].sum() < 0.03
    requests = [json.loads(line) for line in (shared_data / TRACES["long-context"]).read_text().splitlines()]
    assert workload.classes < 0.25 * len({(each["input_length"], each["output_length"]) for each in requests})
