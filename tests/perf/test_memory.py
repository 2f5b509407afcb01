import dataclasses

import pytest

from provisioner.errors import InputError, ModelDoesNotFitError
from provisioner.loading.scenario import load_scenario
from provisioner.options import SimulateOptions
from provisioner.perf.curves import curve_groups
from provisioner.perf.memory import (
    SIMULATOR_WEIGHT_BYTES,
    kv_bytes_per_token,
    kv_capacity_tokens,
    memory_bytes,
    weight_bytes,
)
from provisioner.specs.catalog import SHIPPED, engine, machine, model
from provisioner.specs.engine import DEFAULT_ENGINE

VLLM = engine(DEFAULT_ENGINE).memory
OF_019 = engine("provisioner-0.1")  # whose room was measured


def test_capacity_by_hand() -> None:
    """0.9 of 8 x 79.53 GiB less two bytes a parameter and what the engine keeps, over the KV cache of a token."""
    llama, bloom = model("llama2-70b"), model("bloom-176b")
    assert kv_bytes_per_token(llama) == 2 * 80 * 8 * 128 * 2 == 327_680
    assert kv_bytes_per_token(bloom) == 2 * 70 * 112 * 128 * 2 == 4_014_080
    gib = 2**30
    sampling = {llama: 14 * 512 * 32_000 + 2 * 2048 * 8192, bloom: 14 * 512 * 250_880 + 2 * 2048 * 14_336}
    for each, degree in ((llama, 8), (llama, 2), (bloom, 8)):
        mlp = 2 * 2048 * ((3 if each is llama else 2) * each.intermediate_size / degree + 2 * each.hidden_size)
        kept = 0.125 * gib + max(mlp, sampling[each]) + (0.25 + 1.85) * gib + each.layers * 18 / 1024 * gib
        left = degree * (0.9 * (80 - 0.47) * gib - kept) - 2 * each.parameters
        for name in ("dgx-h100", "dgx-a100"):
            held = kv_capacity_tokens(each, machine(name), degree, engine=OF_019)
            assert held == pytest.approx(left / each.kv_bytes_per_token)
    assert kv_capacity_tokens(llama, machine("dgx-a100"), 8, engine=OF_019) == pytest.approx(1.354e6, rel=1e-3)
    assert kv_capacity_tokens(bloom, machine("dgx-a100"), 8, engine=OF_019) == pytest.approx(54_260, rel=1e-3)


def test_parts_make_up_the_memory() -> None:
    for name, each in SHIPPED.machines.items():
        for degree in (1, each.gpus):
            parts = memory_bytes(model("llama-3.1-8b"), each, degree)
            assert sum(parts.values()) == pytest.approx(each.memory_bytes * degree / each.gpus), name
            assert min(size for part, size in parts.items() if part != "KV cache") > 0
            collectives_gib = VLLM.pcie_collectives_gib if each.gpu_link == "pcie" else VLLM.collectives_gib
            expected = degree * (VLLM.context_gib + (degree > 1) * collectives_gib)
            assert parts["context"] / 2**30 == pytest.approx(expected)


def test_an_rtx_4090_has_the_room_that_vllm_reports() -> None:
    """Llama-3.1-8B on one card of 24 GB: vLLM 0.19 reports 41,408 tokens. The message names what takes the rest."""
    shorter = dataclasses.replace(model("llama-3.1-8b"), trained_context_tokens=32_768)
    assert kv_capacity_tokens(shorter, machine("rtx4090-x8"), 1, engine=OF_019) == pytest.approx(41_408, rel=0.05)
    with pytest.raises(ModelDoesNotFitError) as caught:
        kv_capacity_tokens(model("llama-3.1-8b"), machine("rtx4090-x8"), 1, engine=OF_019)
    assert str(caught.value).endswith(
        "the weights take 16.1 GB, activations 0.6, CUDA graphs 0.6, context 0.3, driver 0.5, unused share 2.5 of"
        " 25.8 GB (1 x 24 GiB), which leaves 39,635 tokens of KV cache, less than the 131,072 of the"
        " longest request served"
    )
    assert kv_capacity_tokens(
        model("llama-3.1-8b"), machine("rtx4090-x8"), 1, context_tokens=39_000, engine=OF_019
    ) == pytest.approx(39_635, abs=1)
    with pytest.raises(ModelDoesNotFitError, match="less than the 40,000 of the longest request served"):
        kv_capacity_tokens(model("llama-3.1-8b"), machine("rtx4090-x8"), 1, context_tokens=40_000, engine=OF_019)


def test_more_tokens_an_iteration_leave_less_room() -> None:
    each, card = model("llama-3.1-8b"), machine("rtx4090-x8")
    held = [memory_bytes(each, card, 1, batch_tokens=tokens)["KV cache"] for tokens in (256, 2048, 8192, 32768)]
    assert held == sorted(held, reverse=True) and held[2] - held[3] == 24576 * 2 * (3 * 14336 + 2 * 4096)
    options = {"model": "llama-3.1-8b", "design": "baseline-rtx4090-x8", "mixed_machines": 1, "tensor_parallel": 2}
    options |= {"rate_rps": 1.0, "duration_s": 5.0}
    few, many = (
        load_scenario(SimulateOptions(**options, batch_tokens=tokens)).cluster.pools[0].perf.kv_capacity_tokens
        for tokens in (2048, 32768)
    )
    assert few - many > 10_000


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
        kv_capacity_tokens(model("bloom-176b"), half, 4, engine=OF_019)
    assert str(caught.value) == (
        "bloom-176b does not fit on 4 of the 4 GPUs of quad: the weights take 352.5 GB, activations 8.0, CUDA graphs"
        " 5.3, context 9.0, driver 2.0, unused share 34.2 of 343.6 GB (4 x 80 GiB), which leaves none; if they fitted,"
        " reading them for a token would take 43.2 ms at 4 x 2039 GB/s,"
        " and sending the KV cache of 1,000 tokens 40.1 ms at 800 Gb/s"
    )
    assert pytest.approx(43.2, rel=1e-3) == 352.5 / (4 * 2.039)
    assert 1000 * model("bloom-176b").kv_bytes_per_token / 100e9 == pytest.approx(0.0401, rel=2e-3)
    small = dataclasses.replace(machine("dgx-a100"), name="dgx-40", memory_gib_per_gpu=40)
    with pytest.raises(ModelDoesNotFitError, match=r"352\.5 GB, .* of 171\.8 GB \(4 x 40 GiB\)"):
        kv_capacity_tokens(model("bloom-176b"), small, 4)
    with pytest.raises(ModelDoesNotFitError, match=r"338\.0 GB|does not fit on 8"):
        kv_capacity_tokens(model("bloom-176b"), small, 8, "measured")


def test_weights_that_leave_less_than_one_full_context_are_refused() -> None:
    llama = model("llama2-70b")
    kept = memory_bytes(llama, machine("dgx-a100-40gb"), 4)
    taken = sum(kept[part] for part in ("weights", "activations", "CUDA graphs", "context")) + 1900 * 327_680
    needed_gib = VLLM.driver_gib + taken / VLLM.share / 4 / 2**30
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
        assert kv_capacity_tokens(model(name), machine(at), tensor_parallel) > 20_000
