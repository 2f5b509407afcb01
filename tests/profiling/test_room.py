"""Plans for the memory: the whole model, some layers, or too little."""

from __future__ import annotations

import pytest

from provisioner.errors import InputError
from provisioner.perf.points import Phase
from provisioner.profiling.grid import Grid, Work
from provisioner.profiling.room import USABLE_SHARE, Plan, plan, weights_bytes, work_bytes
from provisioner.profiling.shape import Shard
from provisioner.specs.model import ModelArchitecture
from tests.profiling.shapes import shaped

LLAMA_8B = shaped("llama-3.1-8b", 32, 4096, 32, 8, 128, 14336, 128256, True, "rotary", "rms")
LLAMA_70B = shaped("llama-3.1-70b", 80, 8192, 64, 8, 128, 28672, 128256, True, "rotary", "rms")
GIB = 2.0**30


def _plan(shape: ModelArchitecture, gib: float, gpus: int = 1, grid: Grid | None = None) -> Plan:
    return plan(Shard.of(shape, gpus), grid or Grid(), memory_bytes=gib * GIB, element_bytes=2)


def test_a_small_model_on_a_large_gpu_is_timed_whole() -> None:
    found = _plan(LLAMA_8B, 79)
    assert found.layers == 32
    # 128 KiB a token: 256 sequences of 1,024 tokens take 32 GiB beside 15 GiB of weights, 64 of 8,192 take 64 GiB
    assert [work.label for work, _ in found.left_out] == ["decode 64 at 8192"]
    assert "64." in found.left_out[0][1] and "GiB beside the weights" in found.left_out[0][1]
    assert set(found.works) | {work for work, _ in found.left_out} == set(Grid().works())


def test_what_does_not_fit_beside_the_whole_model_is_left_out() -> None:
    left_out = {work.label for work, _ in _plan(LLAMA_8B, 22).left_out}
    assert {"decode 256 at 1024", "decode 64 at 1024"} <= left_out
    assert not {"decode 8 at 1024", "prompt 8192 x 1"} & left_out


def test_a_large_model_is_timed_in_as_many_layers_as_leave_room_for_everything() -> None:
    found = _plan(LLAMA_70B, 79)
    assert 2 < found.layers < 80 and not found.left_out
    shard, longest = Shard.of(LLAMA_70B, 1), 8192

    def needed(layers: int) -> float:
        most = max(work_bytes(shard, work, layers, 2) for work in Grid().works())
        return weights_bytes(shard, layers, longest, 2) + most

    assert needed(found.layers) <= USABLE_SHARE * 79 * GIB < needed(found.layers + 1)


def test_a_share_of_a_large_model_is_timed_whole() -> None:
    assert _plan(LLAMA_70B, 79, gpus=4).layers == 80


def test_where_not_even_two_layers_leave_room_for_all_the_rest_is_left_out() -> None:
    found = _plan(LLAMA_70B, 12)
    assert found.layers == 2
    assert "decode 64 at 8192" in {work.label for work, _ in found.left_out}


def test_too_little_memory_is_refused_with_what_is_needed() -> None:
    message = r"2 layers, embedding and LM head take 7\.\d GiB at tensor_parallel 1, and of 3\.7 GiB too little"
    with pytest.raises(InputError, match=message):
        _plan(LLAMA_70B, 4)


def test_the_bias_of_alibi_takes_its_room() -> None:
    bloom = Shard.of(shaped("bloom-176b", 70, 14336, 112, 112, 128, 57344, 250880, False, "alibi", "layer"), 8)
    rotary = Shard.of(shaped("rotary", 70, 14336, 112, 112, 128, 57344, 250880, False, "rotary", "layer"), 8)
    work = Work("prompt", 8192, 1)
    assert work_bytes(bloom, work, 2, 2) - work_bytes(rotary, work, 2, 2) == 14 * 8192**2 * 2


@pytest.mark.parametrize("phase", ["prompt", "decode"])
def test_every_layer_held_takes_a_kv_cache_of_its_own(phase: Phase) -> None:
    """Llama-3.1-8B: 4 KiB a token and layer, 128 KiB a token in all."""
    work = Work(phase, 2048, 3)
    one, all_layers = (work_bytes(Shard.of(LLAMA_8B, 1), work, layers, 2) for layers in (1, 32))
    assert all_layers - one == 31 * 4096 * 3 * 2048
    halves = [work_bytes(Shard.of(LLAMA_8B, 2), work, layers, 2) for layers in (1, 32)]
    assert halves[1] - halves[0] == 31 * 2048 * 3 * 2048
