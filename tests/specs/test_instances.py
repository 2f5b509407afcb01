"""Instances with part of a server's GPUs: what the files hold, and what is refused."""

from pathlib import Path

import pytest

from provisioner.errors import InputError
from provisioner.perf.curves import load_curve_set
from provisioner.perf.evidence import curves, degrees_of
from provisioner.perf.memory import kv_capacity_tokens
from provisioner.specs import catalog
from provisioner.specs.schema import load_instances
from provisioner.specs.shipped import data_folder

pytestmark = pytest.mark.fast

INSTANCES = {name: machine for name, machine in catalog.SHIPPED.machines.items() if machine.cloud}
FILES = sorted((data_folder("hardware_specs") / "instances").glob("*.yaml"))
GPUS = ("gpu", "memory_gib_per_gpu", "memory_bandwidth_gb_per_s", "peak_fp16_tflops", "gpu_tdp_w", "gpu_link")


def test_small_instances_of_every_gpu_that_clouds_sell_by_the_piece_are_there() -> None:
    sizes = {(machine.gpu.partition("-")[0], machine.gpus) for machine in INSTANCES.values()}
    for gpu in ("h100", "h200", "a100", "l40s", "l4", "a10g", "mi300x", "b200"):
        assert (gpu, 1) in sizes, gpu
    assert {(gpu, gpus) for gpu in ("h100", "h200", "a100", "l40s", "b200") for gpus in (2, 4)} <= sizes
    assert {machine.cloud for machine in INSTANCES.values()} == {
        *("AWS", "Azure", "DigitalOcean", "Google", "Lambda", "RunPod")
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_instance_has_the_gpus_of_its_server_and_a_share_of_its_power(path: Path) -> None:
    listed = load_instances(path, path.name)
    assert all("https://" in source for source in listed.sources)
    for name, row in listed.instances.items():
        machine, whole = catalog.machine(name), catalog.machine(row.gpu_of)
        assert row.gpus in (1, 2, 4) and row.gpus < whole.gpus and name.startswith(path.stem), name
        assert [getattr(machine, each) for each in GPUS] == [getattr(whole, each) for each in GPUS], name
        assert machine.memory_bytes == pytest.approx(whole.memory_bytes * row.gpus / whole.gpus), name
        assert machine.max_power_w == whole.max_power_w * row.gpus / whole.gpus, name
        assert machine.network_gbps <= whole.network_gbps and "max_power_w is an estimate" in machine.note, name


@pytest.mark.parametrize("name", INSTANCES)
def test_an_instance_has_a_price_with_its_source_and_date_and_is_dearer_with_more_gpus(name: str) -> None:
    prices, machine = catalog.price_list("2026"), catalog.machine(name)
    price = prices.price(name)
    assert machine.cloud in price.source and "https://" in price.source and "2026" in price.source
    assert price.provisioned_power_w == machine.max_power_w
    for other, larger in INSTANCES.items():
        if (larger.cloud, larger.gpu) == (machine.cloud, machine.gpu) and larger.gpus > machine.gpus:
            ratio = prices.price(other).cost_usd_per_h / price.cost_usd_per_h
            assert 0.9 <= ratio * machine.gpus / larger.gpus <= 1.5, other


@pytest.mark.parametrize("name", [name for name, machine in INSTANCES.items() if "assumed" in machine.network])
def test_an_assumed_network_is_the_number_that_its_text_says(name: str) -> None:
    machine = catalog.machine(name)
    assert machine.network == f"not stated, {machine.network_gbps:g} Gb/s assumed"


@pytest.mark.parametrize("model", ["llama2-70b", "llama-3.1-8b"])
@pytest.mark.parametrize("name", ["lambda-4x-h100", "runpod-2x-a100", "runpod-1x-l40s", "runpod-1x-h200"])
def test_curves_and_memory_of_a_replica_are_those_of_its_gpus_in_a_whole_machine(model: str, name: str) -> None:
    instance, served = catalog.machine(name), catalog.model(model)
    whole = next(each for each in catalog.SHIPPED.whole_machines.values() if each.gpu == instance.gpu)
    of_whole = degrees_of(served, whole)
    degrees = degrees_of(served, instance)
    assert degrees == {degree: kind for degree, kind in of_whole.items() if degree <= instance.gpus}
    for degree in degrees:
        one, other = curves(served, instance, degree), curves(served, whole, degree)
        assert one.times == other.times and one.machine == name and one.provenance == other.provenance
        try:
            room = kv_capacity_tokens(served, whole, degree)
        except InputError:
            with pytest.raises(InputError):
                kv_capacity_tokens(served, instance, degree)
        else:
            assert kv_capacity_tokens(served, instance, degree) == room


def test_measured_curves_are_of_the_gpu_and_its_power_cap() -> None:
    model, four = catalog.model("llama2-70b"), catalog.machine("lambda-4x-h100")
    assert curves(model, four, 4).times == load_curve_set(model, catalog.machine("dgx-h100"), 4).times
    capped = catalog.machine("lambda-4x-h100@70")
    assert curves(model, capped, 4).times == curves(model, catalog.machine("dgx-h100@70"), 4).times
    assert curves(model, capped, 4).times != curves(model, four, 4).times
    # another card of the same name is not the same GPU
    assert degrees_of(model, catalog.machine("azure-nc96ads-a100-v4"))[4] == "estimated"


ONE = "instances: {mine-1x: {gpu_of: %s, gpus: %s, letter: %s, sold_as: 1x, network: x, network_gbps: 10}}"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("dgx-h10", 1, "Q"), "instances.mine-1x.gpu_of: unknown machine 'dgx-h10': did you mean dgx-h100?"),
        (("dgx-h100", 0, "Q"), "machine mine-1x: gpus: must be above 0, got 0"),
        (("dgx-h100", 1, "H"), "letter: H is that of dgx-h100"),
    ],
)
def test_a_wrong_instance_of_ones_own_is_refused(tmp_path: Path, row: tuple[object, ...], message: str) -> None:
    (tmp_path / "instances").mkdir()
    (tmp_path / "instances" / "mine.yaml").write_text(f"cloud: Mine\nsources: []\n{ONE % row}\n")
    with pytest.raises(InputError) as error:
        _ = catalog.with_own(str(tmp_path)).machines
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("cost_usd_per_h: -1", "instances.mine-1x.cost_usd_per_h: must be above 0 $/h, got -1"),
        ("cost: 1", "instances.mine-1x.cost: unknown field, got 1"),
    ],
)
def test_a_wrong_price_of_an_instance_is_refused_with_its_place(tmp_path: Path, more: str, message: str) -> None:
    (tmp_path / "instances").mkdir()
    row = (ONE % ("dgx-h100", 1, "Q")).replace("10}", f"10, {more}}}")
    (tmp_path / "instances" / "mine.yaml").write_text(f"cloud: Mine\nsources: []\n{row}\n")
    with pytest.raises(InputError) as error:
        _ = catalog.with_own(str(tmp_path)).machines
    assert str(error.value).startswith(f"{tmp_path}/instances/mine.yaml: {message}")


def test_a_price_joins_the_list_that_its_file_names(tmp_path: Path) -> None:
    (tmp_path / "instances").mkdir()
    path, row = (
        tmp_path / "instances" / "mine.yaml",
        (ONE % ("dgx-h100", 2, "Q")).replace("10}", "10, cost_usd_per_h: 5}"),
    )
    path.write_text(f"cloud: Mine\nprice_list: paper\nprice_source: told, 2026\nsources: []\n{row}\n")
    price = catalog.with_own(str(tmp_path)).price_list("paper").price("mine-1x")
    assert (price.cost_usd_per_h, price.provisioned_power_w) == (5, 10200 / 4)
    assert price.source == "Mine 1x, told, 2026; power: estimated, the share of its GPUs in that of dgx-h100"
    path.write_text(path.read_text().replace("paper", "papers"))
    with pytest.raises(InputError, match=r"mine\.yaml: price_list: unknown price list .papers.: did you mean paper\?"):
        catalog.with_own(str(tmp_path)).price_list("2026")


def test_an_instance_of_ones_own_is_a_machine(tmp_path: Path) -> None:
    (tmp_path / "instances").mkdir()
    (tmp_path / "instances" / "mine.yaml").write_text(f"cloud: Mine\nsources: []\n{ONE % ('dgx-h100', 2, 'Q')}\n")
    known = catalog.with_own(str(tmp_path))
    assert known.machine("mine-1x").gpus == 2 and "mine-1x" not in known.whole_machines
