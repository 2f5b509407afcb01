"""Memory by the formula beside public start-up logs of vLLM, and docs/explanation/memory.md, which shows both."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import mean, median

import pytest

from provisioner.perf.memory import memory_bytes
from provisioner.specs.catalog import engine, machine, model
from provisioner.specs.engine import DEFAULT_ENGINE, EngineMemory
from provisioner.specs.hardware import Machine
from provisioner.specs.model import ModelArchitecture

PAGE = (Path(__file__).parents[2] / "docs" / "explanation" / "memory.md").read_text(encoding="utf-8")
GIB = 2**30
DEFAULT = engine(DEFAULT_ENGINE)
VLLM = replace(DEFAULT.memory, share=0.9)  # as in the logs, unless they say otherwise
BATCH_TOKENS = 2048


def shape(title: str, layers: int, hidden: int, heads: int, kv_heads: int, inner: int, vocab: int) -> ModelArchitecture:
    """A gated model of a public configuration."""
    tied, head_dim = "Granite" in title, hidden // heads
    layer = 2 * hidden * (heads + kv_heads) * head_dim + 3 * hidden * inner
    return replace(
        model("llama-3.1-8b"),
        name=title.lower(),
        title=title,
        layers=layers,
        hidden_size=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate_size=inner,
        vocab_size=vocab,
        tied_embeddings=tied,
        parameters=(2 - tied) * vocab * hidden + layers * layer,
    )


def gpu(gib: float, link: str = "nvlink") -> Machine:
    return replace(machine("dgx-h100"), name=f"{gib:g} GiB", memory_gib_per_gpu=gib, gpu_link=link)


LLAMA_8B, LLAMA_70B = model("llama-3.1-8b"), model("llama-3.1-70b")
QWEN_7B = shape("Qwen2.5-7B", 28, 3584, 28, 4, 18944, 152064)

# vLLM 0.19.0 with its defaults on an H100: 8,192 tokens, 1,024 sequences; graphs are captured beside the share
H100 = replace(VLLM, share=0.95, sampled_on_large_cards=1024, graphs_gib_per_layer=0.0)
PEAKS = [
    (shape("CodeLlama-7B", 32, 4096, 32, 32, 11008, 32016), 1, 0.77),
    (shape("Granite-3.1-2B", 40, 2048, 32, 8, 8192, 49155), 1, 0.75),
    (shape("Granite-3.1-8B", 40, 4096, 32, 8, 12800, 49155), 1, 0.85),
    (shape("Phi-4", 40, 5120, 40, 10, 17920, 100352), 1, 1.52),
    (LLAMA_8B, 1, 1.89),
    (LLAMA_8B, 4, 1.89),
    (LLAMA_70B, 2, 1.96),
    (LLAMA_70B, 4, 1.97),
    (QWEN_7B, 1, 2.21),
    (QWEN_7B, 4, 2.21),
    (model("qwen3-8b"), 1, 2.21),
    (model("qwen2.5-72b"), 2, 2.29),
]
"""Peak of the activations in GiB per GPU: model, TP, log."""

CONTEXTS = {1: (0.24, 0.25, 0.25, 0.26), 2: (2.06, 2.07, 2.09, 2.10), 4: (2.13, 2.13, 2.21, 2.21)}
"""Memory outside PyTorch in GiB per GPU in the same runs, by TP."""

GRAPHS = [
    ("Qwen2.5-7B, Jetson Thor, 0.19", 28, 0.32),
    ("Qwen3-VL-8B, B200", 36, 0.52),
    ("Qwen3-8B, RTX A6000", 36, 0.54),
    ("Granite-3.3-2B, L40S", 40, 0.62),
    ("Qwen2.5-0.5B, 16 GB card", 24, 0.40),
    ("Qwen2.5-1.5B, RTX 2000 Ada, 0.11", 28, 0.49),
    ("Qwen3-8B-FP8, RTX 4090, 0.10", 36, 0.68),
    ("Qwen2.5-7B, 0.24", 28, 0.65),
    ("Llama-3.1-8B, H100, 0.19", 32, 0.91),
    ("Qwen3-32B", 64, 1.86),
    ("Qwen3-8B, A100 40 GB, 0.19", 36, 2.44),
]
"""Memory of the captured CUDA graphs in GiB: run, layers, log."""

DRIVER = [
    (24, 23.525),
    (24, 23.56),
    (22.5, 22.06),
    (22.5, 22.3),
    (45, 44.42),
    (48, 47.37),
    (80, 79.19),
    (140.4, 139.81),
    (268, 267.69),
]
"""Memory of a card in GiB: as named here, and as CUDA reports it in logs."""

ROOMS: list[tuple[str, ModelArchitecture, Machine, int, EngineMemory, int, float]] = [
    ("Llama-3.1-8B, RTX 4090, 0.19", LLAMA_8B, gpu(24), 1, VLLM, BATCH_TOKENS, 41_408),
    ("Llama-3.1-8B, RTX 3090, 0.28", LLAMA_8B, gpu(24), 1, VLLM, BATCH_TOKENS, 41_648),
    ("Qwen2.5-7B, RTX 3090, 0.28", QWEN_7B, gpu(24), 1, VLLM, BATCH_TOKENS, 106_512),
    ("Qwen3-8B, RTX 5090, 0.24", model("qwen3-8b"), gpu(31.84), 1, replace(VLLM, share=0.92), BATCH_TOKENS, 89_040),
    (
        *("Qwen3-8B, A100 40 GB, 0.19", model("qwen3-8b"), gpu(40), 1),
        *(replace(VLLM, graphs_gib_per_layer=0.0), BATCH_TOKENS, 140_960),
    ),
    ("Llama-3.1-8B, H100, 0.19", LLAMA_8B, gpu(80), 1, H100, 8192, 476_016),
    ("Qwen2.5-7B, H100, 0.19", QWEN_7B, gpu(80), 1, H100, 8192, 1_096_000),
    ("Llama-3.1-8B, 2 H100, 0.19", LLAMA_8B, gpu(80), 2, H100, 8192, 2 * 63.76 * GIB / 131_072),
    ("Llama-3.1-8B, 4 H100, 0.19", LLAMA_8B, gpu(80), 4, H100, 8192, 4 * 67.44 * GIB / 131_072),
]
"""KV cache in tokens: run, model, card, TP, engine, tokens of an iteration, log."""


def error(found: float, log: float) -> str:
    return f"{round(100 * (found / log - 1), 1) + 0.0:+.1f}"


def peak_gib(shape: ModelArchitecture, tensor_parallel: int) -> float:
    parts = memory_bytes(shape, gpu(80), tensor_parallel, batch_tokens=8192, engine=replace(DEFAULT, memory=H100))
    return parts["activations"] / tensor_parallel / GIB


def test_peaks_of_activations() -> None:
    rows = []
    for each, degree, log in PEAKS:
        found = peak_gib(each, degree)
        rows.append(f"| {each.title} | {degree} | {log:.2f} | {found:.2f} | {error(found, log)} |")
        assert found == pytest.approx(log, rel=0.09)
    assert mean(abs(peak_gib(each, degree) / log - 1) for each, degree, log in PEAKS) < 0.02
    assert "\n".join(rows) in PAGE, "\n".join(["the rows should be:", *rows])


def test_room_for_kv_cache() -> None:
    rows = []
    for run, each, card, degree, memory, tokens, log in ROOMS:
        left = memory_bytes(each, card, degree, batch_tokens=tokens, engine=replace(DEFAULT, memory=memory))["KV cache"]
        found = left / each.kv_bytes_per_token
        rows.append(f"| {run} | {log:,.0f} | {found:,.0f} | {error(found, log)} |")
        assert found == pytest.approx(log, rel=0.05), run
    assert "\n".join(rows) in PAGE, "\n".join(["the rows should be:", *rows])


def test_constants_are_those_of_the_logs() -> None:
    assert VLLM.context_gib == pytest.approx(median(CONTEXTS[1]), abs=0.01)
    several = [gib - VLLM.context_gib for degree in (2, 4) for gib in CONTEXTS[degree]]
    assert VLLM.collectives_gib == pytest.approx(median(several), abs=0.03)
    assert 1024 * VLLM.graphs_gib_per_layer == pytest.approx(median(1024 * gib / n for _, n, gib in GRAPHS), abs=0.5)
    assert VLLM.driver_gib == pytest.approx(median(named - told for named, told in DRIVER), abs=0.03)
    rest = [log - (peak_gib(each, degree) - VLLM.workspace_gib) for each, degree, log in PEAKS]
    assert VLLM.workspace_gib == pytest.approx(median(rest), abs=0.01)
    for text in (f"| {run} | {layers} | {gib:.2f} | {1024 * gib / layers:.0f} |" for run, layers, gib in GRAPHS):
        assert text in PAGE, text
