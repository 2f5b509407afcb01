import importlib.util

import pytest

from provisioner.specs import catalog
from provisioner.specs.schema import load_workload

TRACES = {"coding": "AzureLLMInferenceTrace_code.csv", "conversation": "AzureLLMInferenceTrace_conv.csv"}


@pytest.fixture(scope="module")
def derive(repo_root):
    spec = importlib.util.spec_from_file_location("derive_workload", repo_root / "workloads" / "derive_workload.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", TRACES)
def test_deriving_again_gives_the_shipped_files_byte_for_byte(name, derive, shared_data, tmp_path):
    trace = shared_data / "azure-2023" / TRACES[name]
    assert derive.main([str(trace), "--name", name, "--out", str(tmp_path)]) == 0
    shipped = catalog.data_folder("workloads")
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
    assert workload.prompt_tokens.tolist() == [10, 20, 30]


def test_a_wrong_trace_is_one_line_and_writes_nothing(derive, tmp_path, capsys):
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n0,10,0\n")
    assert derive.main([str(trace), "--name", "mine", "--out", str(tmp_path)]) == 2
    assert (
        capsys.readouterr()
        .err.strip()
        .endswith("line 2: output_tokens: must be a whole number of tokens, 1 or more, got '0'")
    )
    assert list(tmp_path.iterdir()) == [trace]
