import dataclasses

import numpy as np
import pytest

from provisioner.errors import InputError, ModelDoesNotFitError, UnknownNameError
from provisioner.perf.assumptions import (
    ReplicaPerf,
    reference,
    replica,
    slo_strict,
    tbt_divisor,
)
from provisioner.perf.curves import MIXED_FACTOR, Assumptions
from provisioner.specs import catalog

BOTH: tuple[Assumptions, ...] = ("measured", "splitwise-sim")


@pytest.mark.parametrize("assumptions", BOTH)
def test_every_shipped_group_gives_a_replica(group: tuple[str, str, int], assumptions: Assumptions) -> None:
    model, machine, tensor_parallel = group
    found: ReplicaPerf = replica(model, machine, tensor_parallel, assumptions)
    assert (found.model.name, found.machine.name, found.tensor_parallel) == group
    assert found.assumptions == found.curve.assumptions == assumptions
    assert found.replicas_per_machine == 8 // tensor_parallel
    assert found.kv_capacity_tokens > 4096 and found.kv_bytes_per_token > 0 and found.link_bytes_per_s > 1e11
    assert found.curve.sources
    tokens = np.array([1.0, 128.0, 1500.0, 9000.0])
    for times in (
        found.prompt_s(tokens),
        found.decode_s(tokens[:, None], tokens * 100),
        found.mixed_s(tokens[:, None], 5, tokens * 100),
        found.transfer_visible_s(tokens, found),
    ):
        assert (times > 0).all()
    assert found.mixed_s(tokens[:, None], 5, tokens * 100).shape == (4, 4)


def test_the_largest_tensor_parallelism_with_a_curve_is_the_default() -> None:
    assert replica("llama2-70b", "dgx-a100").tensor_parallel == 8
    few = dataclasses.replace(catalog.machine("dgx-a100"), gpus=4, network_gbps=800)
    assert replica("llama2-70b", few).tensor_parallel == 4


def test_a_mixed_iteration_is_1_1_prompt_iterations_but_contains_its_decode() -> None:
    h100 = replica("llama2-70b", "dgx-h100")
    mixed = float(h100.mixed_s(1500, 20, 20 * 1500))
    assert mixed == pytest.approx(MIXED_FACTOR * float(h100.prompt_s(1520)))
    crowded = float(h100.mixed_s(100, 300, 300 * 1500))
    assert crowded == float(h100.decode_s(300, 300 * 1500)) > MIXED_FACTOR * float(h100.prompt_s(400))
    simulated = replica("llama2-70b", "dgx-h100", assumptions="splitwise-sim")
    assert float(simulated.mixed_s(100, 300, 300 * 1500)) == 1.1 * float(simulated.prompt_s(400))


def test_the_simulators_decode_reads_its_token_curve_at_the_number_of_sequences() -> None:
    """By hand from the shipped knots at 128 and 256 tokens, below which the same line goes on."""
    bloom = replica("bloom-176b", "dgx-h100", assumptions="splitwise-sim")
    x, y = bloom.curve.decode.x, bloom.curve.decode.y
    assert x[:2].tolist() == [128, 256]
    for sequences in (1, 10, 128, 200):
        by_hand = y[0] + (y[1] - y[0]) * (sequences - 128) / 128
        for context in (0, 5_000_000):
            assert float(bloom.decode_s(sequences, context)) == pytest.approx(by_hand, rel=1e-14)


def test_the_reference_is_the_request_alone_on_a_dgx_a100() -> None:
    ours = reference("bloom-176b")
    alone = ours.replica
    assert (alone.machine.name, alone.tensor_parallel) == ("dgx-a100", 8)
    prompt, output = np.array([1500.0, 1020.0]), np.array([13.0, 129.0])
    tbt = alone.decode_s(1, prompt + output / 2)
    np.testing.assert_allclose(ours.ttft_s(prompt), alone.prompt_s(prompt))
    np.testing.assert_allclose(ours.tbt_s(prompt, output), tbt)
    np.testing.assert_allclose(ours.e2e_s(prompt, output), alone.prompt_s(prompt) + (output - 1) * tbt)
    np.testing.assert_allclose(ours.e2e_s(prompt, 1), alone.prompt_s(prompt))


def test_the_simulators_reference_reads_the_token_curve_at_the_prompt() -> None:
    theirs = reference("bloom-176b", "splitwise-sim")
    prompt, output = np.array([1500.0, 1024.0]), np.array([13.0, 129.0])
    curve = theirs.replica.curve
    token_s = np.interp(prompt, curve.decode.x, curve.decode.y)
    np.testing.assert_allclose(theirs.tbt_s(prompt, output), token_s, rtol=1e-14)
    prompt_s = np.interp(prompt, curve.prompt.x, curve.prompt.y)
    np.testing.assert_allclose(theirs.e2e_s(prompt, output), prompt_s + (output - 1) * token_s, rtol=1e-14)
    assert theirs.tbt_s(1500, np.ones((2, 3))).shape == (2, 3)


def test_the_rules_of_comparison_differ_as_published() -> None:
    assert tbt_divisor([2, 13], "measured").tolist() == [1, 12]
    assert tbt_divisor([2, 13], "splitwise-sim").tolist() == [2, 13]
    assert not slo_strict("measured") and slo_strict("splitwise-sim")


def test_unknown_names_and_groups_without_curves_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="unknown machine 'dgx-h10': did you mean dgx-h100"):
        replica("llama2-70b", "dgx-h10")
    with pytest.raises(UnknownNameError, match="unknown model 'llama'"):
        replica("llama", "dgx-h100")
    with pytest.raises(UnknownNameError, match=r"unknown set of assumptions 'splitwise'.*splitwise-sim"):
        replica("llama2-70b", "dgx-h100", assumptions="splitwise")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"bloom-176b in bf16 on dgx-a100 at TP 7: there are curves at TP 8"):
        replica("bloom-176b", "dgx-a100", 7)
    capped = dataclasses.replace(catalog.machine("dgx-h100-capped"), name="dgx-h100-third", power_cap=0.3)
    with pytest.raises(InputError, match="power caps are known from 50 to 100 % of the TDP, got 30"):
        replica("llama2-70b", capped)
    with pytest.raises(InputError, match="dgx-a100 has no FP8"):
        replica(catalog.model("llama2-70b").in_dtype("fp8"), "dgx-a100")
    odd = dataclasses.replace(catalog.model("llama-3.1-8b"), heads=33, kv_heads=11, head_dim=124)
    with pytest.raises(InputError, match="in bf16 on dgx-a100 at TP 2: there are curves at TP 1"):
        replica(odd, "dgx-a100", 2)
    unknown = dataclasses.replace(catalog.model("llama2-70b"), name="llama4")
    with pytest.raises(InputError, match="the published simulator states no weights for llama4"):
        replica(unknown, "dgx-a100", assumptions="splitwise-sim")


def test_a_model_that_does_not_fit_is_refused_before_its_curves_are_sought() -> None:
    four = dataclasses.replace(catalog.machine("dgx-h100"), name="half-dgx", gpus=4, network_gbps=1600)
    with pytest.raises(ModelDoesNotFitError, match=r"352\.5 GB, activations .* of 343\.6 GB"):
        replica("bloom-176b", four)
