import re

import pytest
import yaml

from provisioner.errors import InputError
from provisioner.specs import catalog, schema
from provisioner.specs.shipped import data_folder
from provisioner.specs.workload import from_lengths

SHOWN = "hardware_specs/machines/x.yaml"


@pytest.fixture
def machine_with(tmp_path):
    """Loads the DGX-A100's file with fields replaced, or left out where the value is None."""
    source = data_folder("hardware_specs") / "machines" / "dgx-a100.yaml"

    def load(**changed):
        content = yaml.safe_load(source.read_text()) | changed
        path = tmp_path / "x.yaml"
        path.write_text(yaml.safe_dump({k: v for k, v in content.items() if v is not None}))
        return schema.load_machine(path, SHOWN)

    return load


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"memory_gib_per_gpu": -3}, "memory_gib_per_gpu: must be above 0 GiB, got -3"),
        ({"memory_bandwidth_gb_per_s": 0}, "memory_bandwidth_gb_per_s: must be above 0 GB/s, got 0"),
        (
            {"memory_bandwidth_gb_per_s": "fast"},
            "memory_bandwidth_gb_per_s: must be a number of GB/s, got 'fast'",
        ),
        (
            {"memory_bandwidth_gb_per_s": "2039 GB/s"},
            "memory_bandwidth_gb_per_s: must be a number of GB/s, got '2039 GB/s'",
        ),
        # a wrong unit: TB/s for GB/s, kW for W, and a field that says GB for GiB
        (
            {"memory_bandwidth_gb_per_s": 2.039},
            "memory_bandwidth_gb_per_s: 2.039 GB/s is not plausible (50 to 200,000 GB/s): is it in another unit?",
        ),
        (
            {"max_power_w": 6.5},
            "max_power_w: 6.5 W is not plausible (50 to 1,000,000 W): is it in another unit?",
        ),
        (
            {"memory_gb_per_gpu": 80, "memory_gib_per_gpu": None},
            "memory_gib_per_gpu: is missing (in GiB)",
        ),
        (
            {"memory_gb_per_gpu": 80},
            "memory_gb_per_gpu: unknown field, got 80; did you mean memory_gib_per_gpu (in GiB)?",
        ),
        ({"paint": "gold"}, "paint: unknown field, got 'gold'"),
        ({"gpus": 8.5}, "gpus: must be a whole number, got 8.5"),
        ({"gpus": True}, "gpus: must be a whole number, got True"),
        ({"gpus": "eight"}, "gpus: must be a whole number, got 'eight'"),
        ({"gpu_tdp_w": [400]}, "gpu_tdp_w: must be a number of W, got [400]"),
        ({"gpu_tdp_w": True}, "gpu_tdp_w: must be a number of W, got True"),
        ({"gpu_tdp_w": float("nan")}, "gpu_tdp_w: must be a number of W, got nan"),
        ({"title": 5}, "title: must be a text, got 5"),
        ({"sources": "a book"}, "sources: must be a list, got 'a book'"),
        ({"sources": [1]}, "sources.0: must be a text, got 1"),
        ({"letter": None}, "letter: is missing"),
    ],
)
def test_a_wrong_machine_file_is_one_line_with_file_field_value_and_unit(machine_with, changed, message):
    with pytest.raises(InputError) as error:
        machine_with(**changed)
    assert str(error.value) == f"{SHOWN}: {message}"


def test_numbers_that_yaml_reads_as_text_are_numbers(machine_with):
    assert machine_with(max_power_w="6.5e3").max_power_w == 6500.0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is empty; must be a YAML mapping of fields to values"),
        (b"- 1\n- 2\n", r"holds a list; must be a YAML mapping of fields to values"),
        (b"just text", r"holds a str; must be"),
        (b"name: [1, 2\n", r"line \d: is not valid YAML: "),
        (b"a: b: c\n", r"line 1: is not valid YAML: mapping values are not allowed"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", r"is not a YAML text file"),
        (b"name: \x00\n", r"is not (a YAML text file|valid YAML: .*)"),
        (
            b"!!python/object/apply:os.getcwd []\n",
            r"line 1: is not valid YAML: could not determine a constructor",
        ),
        (b"x: " + b"[" * 200_000 + b"]" * 200_000, r"is nested too deeply"),
        (b"a" * (schema.MAX_SPEC_BYTES + 1), r"cannot be read: too large: 4,000,001 bytes; at most"),
    ],
)
def test_files_that_are_no_yaml_mapping(tmp_path, content, message):
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        schema.read_yaml(path, SHOWN)
    assert re.match(rf"{SHOWN}: ?{message}", str(error.value))
    assert "\n" not in str(error.value)


def test_missing_files_and_directories(tmp_path):
    with pytest.raises(InputError, match=r"^x\.yaml: cannot be read: No such file"):
        schema.read_yaml(tmp_path / "x.yaml", "x.yaml")
    with pytest.raises(InputError, match=r"^x: cannot be read: Is a directory"):
        schema.read_yaml(tmp_path, "x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "machines: {}",
            "machines: has no prices; give cost_usd_per_h and provisioned_power_w of each machine",
        ),
        ("title: x", "machines: is missing"),
        ("machines: {a: 5}", "machines.a: must be a mapping, got 5"),
        ("machines: [a]", "machines: must be a mapping, got ['a']"),
        (
            "machines: {a: {cost_usd_per_h: 5}}",
            "machines.a.provisioned_power_w: is missing (in W)",
        ),
        (
            "machines: {a: {cost_usd_per_h: -5, provisioned_power_w: 5000}}",
            "machines.a.cost_usd_per_h: must be above 0 $/h, got -5",
        ),
        (
            "machines: {a: {cost_usd_per_h: 5, provisioned_power_w: 5}}",
            "machines.a.provisioned_power_w: 5 W is not plausible (50 to 1,000,000 W): is it in another unit?",
        ),
        (
            "machines: {a: {cost_usd_per_h: free, provisioned_power_w: 5000}}",
            "machines.a.cost_usd_per_h: must be a number of $/h, got 'free'",
        ),
    ],
)
def test_wrong_price_files(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        catalog.price_list(str(path))
    assert str(error.value) == f"{path}: {message}"


@pytest.fixture
def workload_file(tmp_path):
    """Writes a small workload file and its bins, with text replaced, and loads it."""
    text = (
        "name: w\ntitle: W\nrate_rps: 2\nbins: w.csv\nsources: [made up]\n"
        "arrivals: {duration_s: 10, requests: 4, rate_by_minute_rps: [], index_of_dispersion: {1: 1.5}}\n"
    )
    bins = ",".join(schema.BINS) + "\n10,20,14.5,3,3,3,3\n30,30,30,5,9,7,1\n"

    def load(in_yaml=("", ""), in_bins=("", "")):
        (tmp_path / "w.yaml").write_text(text.replace(*in_yaml))
        (tmp_path / "w.csv").write_text(bins.replace(*in_bins))
        return schema.load_workload(tmp_path / "w.yaml", "workloads/w.yaml")

    return load


def test_a_workload_file(workload_file):
    workload = workload_file()
    assert workload.weight.tolist() == [0.75, 0.25]
    assert workload.prompt.tokens.tolist() == [14.5, 30]
    assert (workload.cv, workload.arrivals.cv, workload.arrivals.index_of_dispersion) == (1.0, None, {1: 1.5})


@pytest.mark.parametrize(
    ("in_yaml", "in_bins", "message"),
    [
        (("rate_rps: 2", "rate_rps: 0"), ("", ""), "w.yaml: rate_rps: must be above 0 requests/s, got 0"),
        (("rate_rps: 2", "cv: -1\nrate_rps: 2"), ("", ""), "w.yaml: cv: must be 0 or more, got -1"),
        (
            ("w.csv", "../w.csv"),
            ("", ""),
            "w.yaml: bins: must be the name of a file beside it, got '../w.csv'",
        ),
        (("w.csv", "v.csv"), ("", ""), "v.csv: cannot be read: No such file or directory"),
        (("", ""), ("prompt_low", "prompt_lo"), "w.csv: line 1: must be prompt_low,prompt_high,"),
        (("", ""), ("14.5", "many"), "w.csv: line 2: prompt_mean: must be a number, got 'many'"),
        (("", ""), ("14.5", "nan"), "w.csv: line 2: prompt_mean: must be a number, got 'nan'"),
        (("", ""), ("7,1", "7"), "w.csv: line 3: has 6 columns, must have 7"),
        (("", ""), ("10,20,14.5,3,3,3,3\n30,30,30,5,9,7,1\n", ""), "w.csv: has no bins"),
        (
            ("", ""),
            ("14.5", "25"),
            "w.yaml: class 1: prompt tokens must satisfy 1 <= low <= mean <= high, got 10, 25, 20",
        ),
        (("", ""), ("7,1", "7,0"), "w.yaml: class 2: weight: must be above 0, got 0"),
    ],
)
def test_wrong_workload_files(workload_file, in_yaml, in_bins, message):
    with pytest.raises(InputError) as error:
        workload_file(in_yaml, in_bins)
    assert str(error.value).startswith(f"workloads/{message}")


@pytest.mark.parametrize("name", ["coding", "conversation", "long-context"])
def test_saving_a_workload_gives_its_files_back(name, tmp_path):
    paths = schema.save_workload(
        catalog.workload(name),
        tmp_path,
        "Derived by derive_workload.py (in this folder) from the trace named under sources.",
    )
    for path in paths:
        assert path.read_bytes() == (data_folder("workloads") / path.name).read_bytes()


def _counts(path):
    return [float(line.rpartition(",")[2]) for line in path.read_text().splitlines()[1:]]


@pytest.mark.parametrize("name", ["summarisation", "rag", "agents"])
def test_a_workload_without_a_trace_is_saved_and_loaded(name, tmp_path):
    shipped = catalog.workload(name)
    saved, bins = schema.save_workload(shipped, tmp_path)
    assert "arrivals" not in yaml.safe_load(saved.read_text())
    assert sum(_counts(bins)) == pytest.approx(schema.UNMEASURED_REQUESTS)
    again = schema.load_workload(saved, "w.yaml")
    assert again.arrivals is None
    assert again.weight == pytest.approx(shipped.weight, rel=1e-9)
    assert (again.prompt.tokens == shipped.prompt.tokens).all()
    assert again.context_share_reused == shipped.context_share_reused
    # once more over the first: nothing fades
    assert schema.save_workload(again, tmp_path)[1] == bins
    assert sum(_counts(bins)) == pytest.approx(schema.UNMEASURED_REQUESTS)


def test_counts_add_up_to_the_requests_asked_for(tmp_path):
    workload = from_lengths("w", [5, 5, 7], [2, 2, 9])
    assert _counts(schema.save_workload(workload, tmp_path, requests=3)[1]) == [2, 1]
    assert _counts(schema.save_workload(workload, tmp_path)[1]) == pytest.approx([2e6 / 3, 1e6 / 3])
    with pytest.raises(InputError, match=r"^workload w: requests: must be above 0, got 0$"):
        schema.save_workload(workload, tmp_path, requests=0)


def test_a_trace_of_no_requests_leaves_the_counts_above_0(workload_file, tmp_path):
    workload = workload_file(("requests: 4", "requests: 0"))
    saved, bins = schema.save_workload(workload, tmp_path)
    assert _counts(bins) == [750_000, 250_000]
    assert schema.load_workload(saved, "w.yaml").weight.tolist() == [0.75, 0.25]


def test_arrivals_may_be_left_out_but_not_half_given(workload_file):
    arrivals = "arrivals: {duration_s: 10, requests: 4, rate_by_minute_rps: [], index_of_dispersion: {1: 1.5}}\n"
    assert workload_file((arrivals, "")).arrivals is None
    with pytest.raises(InputError, match=r"w\.yaml: arrivals\.duration_s: is missing \(in s\)$"):
        workload_file(("duration_s: 10, ", ""))
