import csv
import re
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from provisioner.errors import InputError, UnknownNameError
from provisioner.specs import catalog, schema, shipped
from provisioner.specs.shipped import data_folder


def test_machines_as_published():
    a, h, capped = (catalog.machine(name) for name in ("dgx-a100", "dgx-h100", "dgx-h100-capped"))
    assert [m.letter for m in (a, h, capped)] == ["A", "H", "Hcap"]
    assert [m.memory_bytes for m in (a, h, capped)] == [8 * 80 * 2**30] * 3
    assert [m.memory_bandwidth_gb_per_s for m in (a, h, capped)] == [2039, 3352, 3352]
    assert [m.gpu_tdp_w for m in (a, h, capped)] == [400, 700, 700]
    # eight ports of 200 and 400 Gb/s
    assert [m.network_bytes_per_s for m in (a, h, capped)] == [200e9, 400e9, 400e9]
    assert (capped.power_cap, capped.max_power_w) == (0.5, pytest.approx(0.7 * h.max_power_w))
    assert all(machine.sources for machine in (a, h, capped))
    assert all("network_gbps" in machine.note and "InfiniBand" in machine.network for machine in (a, h, capped))


def test_models_as_published():
    llama, bloom = catalog.model("llama2-70b"), catalog.model("bloom-176b")
    # grouped-query attention: 8 of 64 heads hold keys and values
    assert llama.kv_bytes_per_token == 2 * 80 * 8 * 128 * 2 == 327_680
    assert bloom.kv_bytes_per_token == 2 * 70 * 112 * 128 * 2 == 4_014_080
    assert llama.weight_bytes == pytest.approx(138e9, rel=0.01)
    assert bloom.weight_bytes == pytest.approx(352e9, rel=0.01)
    for model in (llama, bloom):
        assert model.heads * model.head_dim == model.hidden_size


def test_names_are_unique_across_a_design():
    letters = [machine.letter for machine in catalog.SHIPPED.machines.values()]
    assert len(set(letters)) == len(letters)
    # two letters read together name one pair of machines: Splitwise-LAs is not LA and s
    pairs = [(first + second).lower() for first in letters for second in letters]
    assert len(set(pairs)) == len(pairs)


ESTIMATED = {"a10g-x4", "a10g-x8", "gb200", "l40s-x8", "l4-x8", "mi300x-x8", "rtx2080ti-x8", "rtx4090-x8"}


def test_every_machine_has_sources_and_physical_numbers():
    assert len(catalog.SHIPPED.whole_machines) == 15
    for name, machine in catalog.SHIPPED.whole_machines.items():
        assert machine.sources and "from memory" not in " ".join(machine.sources), name
        # a number of 8 bits is half as wide: twice the peak, within the rounding of datasheets
        if machine.peak_fp8_tflops:
            assert machine.peak_fp8_tflops == pytest.approx(2 * machine.peak_fp16_tflops, rel=0.015), name
        # beside its GPUs a machine draws something, and less than they do but where the cards are small
        rest_w = machine.max_power_w - machine.gpus * machine.gpu_tdp_w * machine.power_cap
        assert 400 < rest_w < 6500, name
        # FLOPs per byte of memory bandwidth: 87 of Turing to 420 of a card with GDDR
        assert 80 < 1e3 * machine.peak_fp16_tflops / machine.memory_bandwidth_gb_per_s < 450, name
        assert ("max_power_w is an estimate" in machine.note) == (name in ESTIMATED), name


def test_estimated_powers_are_what_their_notes_say():
    for name, rest_w in {
        "a10g-x4": 1000,
        "a10g-x8": 1500,
        "l4-x8": 1500,
        "l40s-x8": 1500,
        "rtx4090-x8": 1500,
        "rtx2080ti-x8": 1500,
        "mi300x-x8": 4600,
    }.items():
        machine = catalog.machine(name)
        # rounded to 100 W
        assert machine.max_power_w == pytest.approx(machine.gpus * machine.gpu_tdp_w + rest_w, abs=50), name
        assert f"{rest_w:,} W" in machine.note or "4.6 kW" in machine.note
    h100 = catalog.machine("dgx-h100")
    assert h100.max_power_w - 8 * h100.gpu_tdp_w == 4600
    assert catalog.machine("gb200").max_power_w == round(120_000 / 18)


def test_machines_name_tables_of_kernels_that_are_there_and_agree_with_their_limits():
    with (data_folder("hardware_specs") / "operators" / "gpus.csv").open() as file:
        gpus = {row["gpu"]: row for row in csv.DictReader(file)}
    named = {name: machine.kernels for name, machine in catalog.SHIPPED.whole_machines.items() if machine.kernels}
    assert named == {
        "dgx-a100": "a100-sxm-80gb",
        "dgx-b200": "b200-sxm-180gb",
        "dgx-h100": "h100-sxm-80gb",
        "dgx-h100-capped": "h100-sxm-80gb",
        "dgx-h200": "h200-sxm-141gb",
        "gb200": "gb200-nvl-186gb",
        "l40s-x8": "l40s-48gb",
    }
    like = {name: machine.kernels_like for name, machine in catalog.SHIPPED.machines.items() if machine.kernels_like}
    assert set(like.values()) <= set(gpus)
    assert set(like) & set(named) == {"gb200"}  # its products in bf16 and fp8 were not measured
    for name, kernels in named.items():
        machine, limits = catalog.machine(name), gpus[kernels]
        assert machine.peak_fp16_tflops * 1e12 == pytest.approx(float(limits["bf16_flops"]))
        assert machine.peak_fp8_tflops * 1e12 == pytest.approx(float(limits["fp8_flops"]))
        assert machine.memory_bandwidth_gb_per_s * 1e9 == pytest.approx(float(limits["memory_bytes_per_s"]))
        # a link's bandwidth is both ways in a machine, one way in the table
        assert machine.gpu_link_gb_per_s * 1e9 / 2 == pytest.approx(float(limits["link_bytes_per_s"]))


def test_one_chip_with_other_memory_has_the_same_peaks():
    for one, other, bandwidths in (("dgx-h200", "dgx-h100", 1.432), ("dgx-a100-40gb", "dgx-a100", 0.763)):
        a, b = catalog.machine(one), catalog.machine(other)
        assert (a.peak_fp16_tflops, a.peak_fp8_tflops, a.gpu_tdp_w) == (
            b.peak_fp16_tflops,
            b.peak_fp8_tflops,
            b.gpu_tdp_w,
        )
        assert a.memory_bandwidth_gb_per_s / b.memory_bandwidth_gb_per_s == pytest.approx(bandwidths, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "parameters", "kv_bytes"),
    [
        # parameters as the checkpoints' files add up to; KV cache of a token in bytes by hand
        ("llama-3.1-8b", 8_030_261_248, 2 * 32 * 8 * 128 * 2),
        ("llama-3.1-70b", 70_553_706_496, 2 * 80 * 8 * 128 * 2),
        ("llama-3.1-405b", 405_853_388_800, 2 * 126 * 8 * 128 * 2),
        ("qwen2.5-72b", 72_706_203_648, 2 * 80 * 8 * 128 * 2),
        ("qwen3-8b", 8_190_735_360, 2 * 36 * 8 * 128 * 2),
        ("qwen3-32b", 32_762_123_264, 2 * 64 * 8 * 128 * 2),
        ("mistral-small-24b", 23_572_403_200, 2 * 40 * 8 * 128 * 2),
    ],
)
def test_parameters_of_the_models_to_the_last_one(name, parameters, kv_bytes):
    model = catalog.model(name)
    layers, hidden, dim = model.layers, model.hidden_size, model.head_dim
    attention = hidden * model.heads * dim + 2 * hidden * model.kv_heads * dim + model.heads * dim * hidden
    norms = 2 * hidden
    if name == "qwen2.5-72b":  # biases of queries, keys and values
        attention += (model.heads + 2 * model.kv_heads) * dim
    if name.startswith("qwen3"):  # norms of queries and keys, one for all heads
        norms += 2 * dim
    layer = attention + 3 * hidden * model.intermediate_size + norms
    assert 2 * model.vocab_size * hidden + layers * layer + hidden == parameters == model.parameters
    assert model.kv_bytes_per_token == kv_bytes


@pytest.mark.parametrize("lookup", [catalog.machine, catalog.model, catalog.price_list, catalog.workload])
def test_unknown_names_are_refused_with_the_known_ones(lookup):
    with pytest.raises(UnknownNameError, match=r"^unknown .* 'no-such-thing' \(known: "):
        lookup("no-such-thing")


def test_nearest_names():
    with pytest.raises(UnknownNameError, match=r"did you mean dgx-h100\?"):
        catalog.machine("dgx-h10")
    with pytest.raises(UnknownNameError, match=r"did you mean conversation\?"):
        catalog.workload("conversations")


def test_what_is_shared_cannot_be_changed():
    with pytest.raises(TypeError):
        catalog.SHIPPED.machines["x"] = catalog.machine("dgx-a100")
    with pytest.raises(FrozenInstanceError):
        catalog.machine("dgx-a100").gpus = 4
    with pytest.raises(ValueError, match="read-only"):
        catalog.workload("coding").weight[0] = 1.0


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("memory_gib_per_gpu", -3, "memory_gib_per_gpu: must be above 0 GiB, got -3"),
        ("memory_bandwidth_gb_per_s", 0, "memory_bandwidth_gb_per_s: must be above 0 GB/s, got 0"),
        (
            "max_power_w",
            10.2,
            "max_power_w: 10.2 W is not plausible (50 to 1,000,000 W): is it in another unit?",
        ),
        ("power_cap", 1.5, "power_cap: must be above 0 and at most 1 of the TDP, got 1.5"),
    ],
)
def test_a_machine_checks_its_values_on_construction(field, value, message):
    with pytest.raises(InputError) as error:
        replace(catalog.machine("dgx-h100"), **{field: value})
    assert str(error.value) == f"machine dgx-h100: {message}"


def test_a_model_checks_its_values_on_construction():
    with pytest.raises(InputError, match=r"^model llama2-70b: parameters: 70 is not plausible"):
        replace(catalog.model("llama2-70b"), parameters=70)
    with pytest.raises(InputError, match=r"^model llama2-70b: kv_heads: must divide the 64 heads, got 7$"):
        replace(catalog.model("llama2-70b"), kv_heads=7)


def test_paper_prices_are_one_power_budget_and_one_cost_budget():
    paper = catalog.price_list("paper")
    h, a = paper.price("dgx-h100"), paper.price("dgx-a100")
    # how many DGX-A100 the power, and the money, of 40 DGX-H100 pay for
    assert 40 * h.provisioned_power_w // a.provisioned_power_w == 70
    assert 40 * h.cost_usd_per_h // a.cost_usd_per_h == 86
    ratio = a.provisioned_power_w / h.provisioned_power_w
    assert ratio == pytest.approx(24.8 / 44.0, rel=1e-6)
    capped = paper.price("dgx-h100-capped")
    assert capped.provisioned_power_w / h.provisioned_power_w == pytest.approx(30.8 / 44.0, rel=1e-9)
    assert capped.cost_usd_per_h == h.cost_usd_per_h == pytest.approx(8 * 4.76)
    assert a.cost_usd_per_h == pytest.approx(8 * 2.21)


def test_2026_prices_are_per_machine_with_the_machines_power():
    prices = catalog.price_list("2026")
    assert prices.price("dgx-h100").cost_usd_per_h == pytest.approx(8 * 3.99)
    assert prices.price("dgx-a100").cost_usd_per_h == pytest.approx(8 * 2.79)
    assert set(catalog.SHIPPED.machines) - set(prices.machines) == {"rtx2080ti-x8"}
    assert prices.date == "2026-09-20"
    assert "--prices FILE" in prices.note


@pytest.mark.parametrize("name", ["2026", "2026-reserved"])
def test_prices_say_vendor_date_and_what_of_the_power_is_estimated(name):
    for machine, price in catalog.price_list(name).machines.items():
        assert price.provisioned_power_w == catalog.machine(machine).max_power_w
        instance = bool(catalog.machine(machine).cloud)
        assert ("estimated" in price.source) == (machine in ESTIMATED or instance), machine
        if machine == "dgx-h100-capped":
            uncapped = catalog.price_list(name).price("dgx-h100")
            assert price.cost_usd_per_h == uncapped.cost_usd_per_h
            continue
        assert "2026" in price.source and "https://" in price.source, machine
        a_gpu = re.search(r"([\d.]+) \$/GPU-h", price.source)
        a_year = re.search(r"([\d,]+) \$ over 8,760 h", price.source)
        if a_gpu:
            assert price.cost_usd_per_h == pytest.approx(catalog.machine(machine).gpus * float(a_gpu[1]), rel=1e-3), (
                machine
            )
        elif a_year:
            assert price.cost_usd_per_h == pytest.approx(float(a_year[1].replace(",", "")) / 8760, abs=0.01), machine


def test_reserved_prices_are_below_those_on_demand():
    reserved, on_demand = catalog.price_list("2026-reserved"), catalog.price_list("2026")
    assert set(reserved.machines) < set(on_demand.machines)
    assert "not stated" in reserved.note
    for machine, price in reserved.machines.items():
        assert 0.4 < price.cost_usd_per_h / on_demand.price(machine).cost_usd_per_h < 1.0


def test_a_machine_without_a_price():
    with pytest.raises(InputError) as error:
        catalog.price_list("2026").price("rtx2080ti-x8")
    message = str(error.value)
    assert message.startswith(
        "price list 2026: has no price of rtx2080ti-x8; add it in a file given with prices FILE, or leave the "
        "machine out with machines (the list has dgx-a100, "
    )
    assert "\n" not in message
    with pytest.raises(InputError, match="has no price of gb200"):
        catalog.price_list("paper").price("gb200")


def test_own_price_list(tmp_path):
    file = tmp_path / "ours.yaml"
    file.write_text("machines:\n  dgx-a100: {cost_usd_per_h: 12, provisioned_power_w: 6.0e+3}\n")
    prices = catalog.price_list(file)
    assert (prices.name, prices.title, prices.currency) == ("ours", "ours", "USD")
    assert prices.price("dgx-a100").cost_usd_per_h == 12.0
    file.write_text(f"currency: EUR\n{file.read_text()}")
    assert catalog.price_list(file).currency == "EUR"
    assert prices.price("dgx-a100").provisioned_power_w == 6000.0


def test_data_folder_of_an_installed_package_comes_first(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "_PACKAGE", tmp_path / "provisioner")
    assert data_folder("workloads") == tmp_path / "workloads"
    inside = tmp_path / "provisioner" / "_data" / "workloads"
    inside.mkdir(parents=True)
    assert data_folder("workloads") == inside


def test_a_file_must_be_named_like_its_content(tmp_path, monkeypatch):
    folder = tmp_path / "hardware_specs" / "machines"
    folder.mkdir(parents=True)
    source = data_folder("hardware_specs") / "machines" / "dgx-a100.yaml"
    (folder / "other.yaml").write_text(source.read_text())
    monkeypatch.setattr(shipped, "_PACKAGE", tmp_path / "provisioner")
    with pytest.raises(InputError) as error:
        _ = catalog.Catalog().machines
    assert str(error.value) == "hardware_specs/machines/other.yaml: name: must be the file's own, other, got 'dgx-a100'"


def test_workload_from_a_file_and_from_a_trace(tmp_path):
    folder = data_folder("workloads")
    assert catalog.workload(folder / "coding.yaml").classes == catalog.workload("coding").classes
    trace = tmp_path / "mine.csv"
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n0,10,5\n1,20,6\n3,30,7\n")
    assert catalog.workload(trace).name == "mine"
    with pytest.raises(InputError, match=r"gone\.csv: no such file$"):
        catalog.workload(tmp_path / "gone.csv")


def test_each_file_is_read_once_and_only_what_is_asked_for(monkeypatch):
    opened = []
    read_text = schema.read_text
    monkeypatch.setattr(schema, "read_text", lambda path, *a, **k: opened.append(path) or read_text(path, *a, **k))
    known = catalog.Catalog()
    for _ in range(2):
        assert known.machine("dgx-a100") and known.machine("dgx-h100")
    assert {path.parent.name for path in opened} == {"machines", "instances"}
    of_machines = len(opened)
    for _ in range(2):
        assert known.models and known.price_list("2026")
    assert len(opened) == len(set(opened)) == of_machines + len(known.models) + len(known.price_lists)
    opened.clear()
    catalog._shipped_workload.__wrapped__("coding")
    assert [path.stem for path in opened] == ["coding", "coding"], "description and table of lengths"


@pytest.mark.parametrize("yaml", ["machines/dgx-a100.yaml", "models/llama2-70b.yaml", "prices/2026.yaml"])
def test_specs_are_parsed_in_c(yaml, monkeypatch):
    """The parser of libyaml takes a tenth of the time of the one in Python."""
    monkeypatch.setattr("yaml.SafeLoader", None)
    folder = data_folder("hardware_specs")
    assert schema.read_yaml(folder / yaml, yaml)


@pytest.mark.parametrize("module", ["provisioner.errors", "provisioner.specs.units", "provisioner.specs.catalog"])
def test_modules_of_the_start_up_import_the_standard_library_only(module, repo_root):
    code = f"import sys, {module}; print(*sorted(m.partition('.')[0] for m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=repo_root)
    heavy = {"numpy", "pydantic", "yaml", "pandas", "scipy", "pulp", "typer", "rich"}
    assert not heavy & set(done.stdout.split())


def test_reading_specs_and_traces_imports_no_pandas_or_scipy(repo_root):
    code = (
        "import sys; import provisioner.specs.schema, provisioner.specs.traces; "
        "print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=repo_root)
    assert not {"pandas", "scipy", "altair"} & set(done.stdout.split())


def own_folder(folder: Path) -> Path:
    """A user's own folder with a machine, a model, its price and a curve file."""
    for part in catalog.OWN_FOLDERS:
        (folder / part).mkdir(parents=True)
    shipped = data_folder("hardware_specs")
    text = (shipped / "machines" / "dgx-h100.yaml").read_text()
    (folder / "machines" / "mine.yaml").write_text(
        text.replace("name: dgx-h100", "name: mine").replace("letter: H", "letter: M")
    )
    text = (shipped / "models" / "llama2-70b.yaml").read_text()
    (folder / "models" / "tuned.yaml").write_text(text.replace("name: llama2-70b", "name: tuned"))
    (folder / "prices" / "2026.yaml").write_text(
        "machines:\n  mine: {cost_usd_per_h: 9, provisioned_power_w: 9000}\n"
        "  dgx-a100: {cost_usd_per_h: 1, provisioned_power_w: 6500}\n"
    )
    (folder / "curves" / "mine__tuned.csv").write_text("")
    return folder


def test_a_folder_of_ones_own_joins_the_shipped_specs(tmp_path: Path) -> None:
    folder = own_folder(tmp_path / "own")
    known = catalog.with_own(str(folder))
    assert set(known.machines) == {*catalog.SHIPPED.machines, "mine"}
    assert known.model("tuned").layers == 80
    prices = known.price_list("2026")
    assert (prices.price("mine").cost_usd_per_h, prices.price("dgx-a100").cost_usd_per_h) == (9, 1)
    assert prices.price("dgx-h100") == catalog.price_list("2026").price("dgx-h100")
    assert prices.date == catalog.price_list("2026").date
    assert dict(known.own_curves) == {("tuned", "mine"): folder / "curves" / "mine__tuned.csv"}
    assert catalog.with_own(str(folder)) is known
    assert "mine" not in catalog.SHIPPED.machines


def test_a_changed_file_of_ones_own_is_read_again(tmp_path: Path) -> None:
    folder = own_folder(tmp_path / "own")
    before = catalog.with_own(str(folder)).price_list("2026").price("mine")
    path = folder / "prices" / "2026.yaml"
    path.write_text(path.read_text().replace("cost_usd_per_h: 9", "cost_usd_per_h: 10"))
    assert (before.cost_usd_per_h, catalog.with_own(str(folder)).price_list("2026").price("mine").cost_usd_per_h) == (
        9,
        10,
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: None, "specs: must be a folder with machines, instances, models, prices, curves, engines, got "),
        (
            lambda f: f.mkdir(),
            "has no machines/*.yaml, instances/*.yaml, models/*.yaml, prices/*.yaml, curves/*.csv, engines/*.yaml",
        ),
        (
            lambda f: (own_folder(f) / "curves" / "mine-tuned.csv").write_text(""),
            "mine-tuned.csv: must be named MACHINE__MODEL.csv, such as dgx-h100__llama2-70b.csv",
        ),
        (
            lambda f: (own_folder(f) / "curves" / "mine__tune.csv").write_text(""),
            "mine__tune.csv: unknown model 'tune': did you mean tuned?",
        ),
        (
            lambda f: (own_folder(f) / "machines" / "two.yaml").write_text(
                (f / "machines" / "mine.yaml").read_text().replace("name: mine", "name: two")
            ),
            "machine two: letter: M is that of mine; designs need their own",
        ),
    ],
)
def test_a_bad_folder_of_ones_own_is_refused(tmp_path: Path, make, message: str) -> None:
    make(tmp_path / "own")
    with pytest.raises(InputError) as error:
        known = catalog.with_own(str(tmp_path / "own"))
        assert known.machines and known.own_curves
    assert message in str(error.value)


class TestNamesOfModels:
    """Names on the Hugging Face hub, in each model's own file."""

    @pytest.mark.parametrize(
        ("name", "model"),
        [
            ("meta-llama/Llama-3.1-70B-Instruct", "llama-3.1-70b"),
            ("Llama-3.1-70B-Instruct", "llama-3.1-70b"),
            ("meta-llama/meta-llama-3.1-8b", "llama-3.1-8b"),
            ("Qwen/Qwen3-8B", "qwen3-8b"),
            ("mistralai/Mistral-Small-24B-Instruct-2501", "mistral-small-24b"),
        ],
    )
    def test_an_alias_is_the_model(self, name: str, model: str) -> None:
        assert catalog.model(name) is catalog.model(model)

    @pytest.mark.parametrize(
        ("name", "model", "kv_dtype"),
        [
            ("Qwen/Qwen3-8B-FP8", "qwen3-8b", "bf16"),
            ("nvidia/Llama-3.1-70B-Instruct-FP8", "llama-3.1-70b", "bf16"),
            ("RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8-dynamic", "llama-3.1-8b", "bf16"),
            ("amd/Llama-3.1-405B-Instruct-FP8-KV", "llama-3.1-405b", "fp8"),
            ("llama-3.1-8b-fp8", "llama-3.1-8b", "bf16"),
        ],
    )
    def test_a_variant_in_fp8_sets_the_number_type(self, name: str, model: str, kv_dtype: str) -> None:
        variant = catalog.model(name)
        assert (variant.name, variant.dtype, variant.kv_dtype) == (model, "fp8", kv_dtype)

    @pytest.mark.parametrize(
        "name",
        [
            "Qwen/Qwen2.5-72B-Instruct-AWQ",
            "Qwen/Qwen2.5-72B-Instruct-GPTQ-Int4",
            "hugging-quants/Meta-Llama-3.1-70B-Instruct-AWQ-INT4",
            "RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w4a16",
            "RedHatAI/Llama-3.1-8B-Instruct-NVFP4A16",
            "unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit",
            "mlx-community/Qwen3-8B-4bit",
            "Qwen/Qwen3-8B-FP8-something",
        ],
    )
    def test_any_other_variant_is_refused(self, name: str) -> None:
        with pytest.raises(InputError, match="in a number type of which there is no latency data; import its config"):
            catalog.model(name)

    @pytest.mark.parametrize(
        ("name", "why"),
        [
            ("deepseek-v3", "mixture of experts and multi-head latent attention"),
            ("deepseek-ai/DeepSeek-R1", "mixture of experts and multi-head latent attention"),
            ("mistralai/Mixtral-8x7B-Instruct-v0.1", "mixture of experts"),
            ("Qwen/Qwen3-30B-A3B", "mixture of experts"),
            ("openai/gpt-oss-120b", "mixture of experts, and a sliding window in some layers"),
            ("google/gemma-2-9b-it", "a sliding window shorter than the context"),
            ("tiiuae/falcon-7b", "attention and MLP in parallel"),
            ("state-spaces/mamba-2.8b", "state space in place of attention"),
        ],
    )
    def test_a_model_that_is_not_described_says_why(self, name: str, why: str) -> None:
        with pytest.raises(InputError, match=rf"^model {name}: is not described: {why} \(known: bloom"):
            catalog.model(name)

    @pytest.mark.parametrize("name", ["llama-3.1-7b", "qwen3-vl-8b", "qwen2-72b", "someone/Llama-3.1-8B-pruned"])
    def test_another_size_or_architecture_is_not_offered_as_a_typing_error(self, name: str) -> None:
        with pytest.raises(UnknownNameError, match="unknown model") as refused:
            catalog.model(name)
        assert "did you mean" not in str(refused.value)

    def test_no_two_models_share_a_name_and_a_file_takes_its_place(self, tmp_path: Path) -> None:
        models = catalog.SHIPPED.models.values()
        names = [alias.lower().rpartition("/")[2] for model in models for alias in model.aliases]
        assert len(names) == len(set(names))
        (tmp_path / "models").mkdir()
        own = replace(catalog.model("qwen3-8b"), name="mine", aliases=("me/Mine-8B",))
        (tmp_path / "models" / "mine.yaml").write_text(schema.model_text(own))
        assert catalog.with_own(str(tmp_path)).model("me/mine-8b-fp8") == own.in_dtype("fp8")
