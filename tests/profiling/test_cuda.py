"""On a GPU: graphs compute the same, a tiny profile is timed by them, and its driver and clocks are recorded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from provisioner.profiling import timing
from provisioner.profiling.layers import Decoder, Place, Window
from provisioner.profiling.run import profile
from provisioner.profiling.shape import Shard
from provisioner.specs.model import ModelArchitecture
from tests.profiling.shapes import KINDS, SMALL_GRID, TINY

torch = pytest.importorskip("torch", reason="PyTorch is not installed (the extra provisioner[profile])")
if not torch.cuda.is_available():
    pytest.skip("there is no GPU", allow_module_level=True)


@pytest.mark.parametrize("shape", KINDS, ids=[shape.name for shape in KINDS])
def test_a_captured_iteration_gives_what_the_cpu_gives(shape: ModelArchitecture) -> None:
    on_gpu = Place.of("cuda", "float32")
    on_cpu = Place.of("cpu", "float32")
    decoder = Decoder.random(Shard.of(shape, 1), on_gpu, shape.layers, 16)
    ids = torch.randint(shape.vocab_size, (2, 16), device="cuda")
    caches = decoder.caches(2, 16)
    other = [replace(c, keys=c.keys.cpu(), values=c.values.cpu()) for c in caches]
    found: list[Any] = [None]
    with torch.inference_mode():
        window = Window.of(decoder.shard, on_gpu, 15, 1)

        def step() -> None:
            found[0] = decoder.iterate(ids[:, 15:], caches, window)

        graph = timing._captured(step)
        assert graph is not None
        graph.replay()
        torch.cuda.synchronize()
        expected = _on_cpu(decoder, on_cpu).iterate(ids[:, 15:].cpu(), other, Window.of(decoder.shard, on_cpu, 15, 1))
    torch.testing.assert_close(found[0].cpu(), expected, rtol=0, atol=1e-3 * float(expected.abs().max()))


def _on_cpu(decoder: Decoder, place: Place) -> Decoder:
    def moved(value: Any) -> Any:
        return tuple(each.cpu() for each in value) if isinstance(value, tuple) else value.cpu()

    names = ("attention_norm", "qkv", "out", "mlp_norm", "up", "down")
    layers = tuple(replace(each, **{n: moved(getattr(each, n)) for n in names}) for each in decoder.layers)
    return replace(
        decoder,
        place=place,
        embedding=decoder.embedding.cpu(),
        positions=None if decoder.positions is None else decoder.positions.cpu(),
        layers=layers,
        norm=moved(decoder.norm),
        head=decoder.head.cpu(),
    )


def test_a_profile_on_the_gpu_is_by_graphs_and_records_the_gpu() -> None:
    found = profile(TINY, "a-gpu", grid=SMALL_GRID, repeats=5)
    assert len(found.points) == len(SMALL_GRID.works())
    assert found.dtype in ("bf16", "fp16") and not found.without_graph
    assert found.environment["device_name"] == torch.cuda.get_device_name()
    assert found.environment["cuda"]
