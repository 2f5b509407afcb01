import dataclasses

import pytest

from provisioner.errors import InputError, ModelDoesNotFitError
from provisioner.perf.curves import curve_groups
from provisioner.perf.memory import (
    SIMULATOR_WEIGHT_BYTES,
    USABLE_MEMORY_FRACTION,
    kv_bytes_per_token,
    kv_capacity_tokens,
    usable_memory_bytes,
    weight_bytes,
)
from provisioner.specs.catalog import machine, model


def test_capacity_by_hand() -> None:
    """8 x 80 GiB x 0.9 less two bytes a parameter, over 2 x layers x KV heads x 128 x 2 bytes."""
    usable = 8 * 80 * 2**30 * 0.9
    assert usable_memory_bytes(machine("dgx-a100"), 8) == pytest.approx(usable)
    llama, bloom = model("llama2-70b"), model("bloom-176b")
    assert kv_bytes_per_token(llama) == 2 * 80 * 8 * 128 * 2 == 327_680
    assert kv_bytes_per_token(bloom) == 2 * 70 * 112 * 128 * 2 == 4_014_080
    for each, per_token in ((llama, 327_680), (bloom, 4_014_080)):
        expected = (usable - 2 * each.parameters) / per_token
        assert kv_capacity_tokens(each, machine("dgx-h100"), 8) == pytest.approx(expected)
    assert kv_capacity_tokens(llama, machine("dgx-a100"), 8) == pytest.approx(1.466e6, rel=1e-3)
    assert kv_capacity_tokens(bloom, machine("dgx-a100"), 8) == pytest.approx(66_260, rel=1e-3)
    assert kv_capacity_tokens(llama, machine("dgx-a100"), 2) == pytest.approx(
        (2 * 80 * 2**30 * 0.9 - 2 * llama.parameters) / 327_680
    )


def test_the_simulators_memory_ignores_grouped_query_attention() -> None:
    llama, bloom = model("llama2-70b"), model("bloom-176b")
    assert kv_bytes_per_token(llama, "splitwise-sim") == 2 * 8192 * 80 * 2
    assert kv_bytes_per_token(bloom, "splitwise-sim") == 2 * 14336 * 70 * 2 == 4_014_080
    assert kv_capacity_tokens(bloom, machine("dgx-a100"), 8, "splitwise-sim") == pytest.approx(
        (8 * 80 * 2**30 - 329e9) / 4_014_080
    )
    assert kv_capacity_tokens(llama, machine("dgx-h100"), 8, "splitwise-sim") == pytest.approx(
        (8 * 80 * 2**30 - 135e9) / 2_621_440
    )
    for name, published in SIMULATOR_WEIGHT_BYTES.items():
        assert published == pytest.approx(model(name).weight_bytes, rel=0.07)
    with pytest.raises(InputError, match="states no weights for other"):
        weight_bytes(dataclasses.replace(llama, name="other"), "splitwise-sim")


def test_a_model_that_does_not_fit_is_refused_with_the_numbers() -> None:
    half = dataclasses.replace(machine("dgx-a100"), name="quad", gpus=4, network_gbps=800)
    with pytest.raises(ModelDoesNotFitError) as caught:
        kv_capacity_tokens(model("bloom-176b"), half, 4)
    assert str(caught.value) == (
        "bloom-176b does not fit on 4 of the 4 GPUs of quad: the weights take 352.5 GB of 309.2 GB usable"
        " (4 x 80 GiB x 0.9); if they fitted, reading them for a token would take 43.2 ms at 4 x 2039 GB/s,"
        " and sending the KV cache of 1,000 tokens 40.1 ms at 800 Gb/s"
    )
    assert pytest.approx(43.2, rel=1e-3) == 352.5 / (4 * 2.039)
    assert 1000 * model("bloom-176b").kv_bytes_per_token / 100e9 == pytest.approx(0.0401, rel=2e-3)
    small = dataclasses.replace(machine("dgx-a100"), name="dgx-40", memory_gib_per_gpu=40)
    with pytest.raises(ModelDoesNotFitError, match=r"352\.5 GB of 154\.6 GB usable \(4 x 40 GiB x 0\.9\)"):
        kv_capacity_tokens(model("bloom-176b"), small, 4)
    with pytest.raises(ModelDoesNotFitError, match=r"338\.0 GB|does not fit on 8"):
        kv_capacity_tokens(model("bloom-176b"), small, 8, "measured")


def test_weights_that_leave_less_than_one_full_context_are_refused() -> None:
    """44.2 GiB a GPU leave Llama2-70B 1,900 tokens of the 4,096 it was trained for at TP 4 on 36 GiB GPUs."""
    llama = model("llama2-70b")
    needed_gib = (llama.weight_bytes + 1900 * 327_680) / USABLE_MEMORY_FRACTION / 4 / 2**30
    tight = dataclasses.replace(machine("dgx-a100"), name="tight", memory_gib_per_gpu=needed_gib)
    with pytest.raises(ModelDoesNotFitError, match=r"leaves 1,900 tokens of KV cache, less than the 4,096"):
        kv_capacity_tokens(llama, tight, 4)
    roomy = dataclasses.replace(tight, memory_gib_per_gpu=needed_gib + 1)
    assert kv_capacity_tokens(llama, roomy, 4) > 4096


@pytest.mark.parametrize("tensor_parallel", [0, 9, -1])
def test_a_replica_needs_gpus_that_the_machine_has(tensor_parallel: int) -> None:
    with pytest.raises(InputError, match=f"tensor_parallel: must be from 1 to the 8 GPUs.*got {tensor_parallel}"):
        kv_capacity_tokens(model("llama2-70b"), machine("dgx-a100"), tensor_parallel)


def test_every_shipped_group_fits() -> None:
    for name, at, tensor_parallel in curve_groups():
        assert kv_capacity_tokens(model(name), machine(at), tensor_parallel) > 40_000
