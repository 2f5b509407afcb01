"""Models from ``config.json``: published parameter counts, and the content of each refusal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from provisioner.errors import InputError
from provisioner.specs import catalog
from provisioner.specs.huggingface import read_config
from provisioner.specs.model import ModelArchitecture
from provisioner.specs.schema import IMPORTED_MODEL, load_model, model_text

CONFIGS = Path(__file__).parent / "configs"

# Parameters as the models' repositories state them.
PUBLISHED = {
    "bloom-176b": 176_247_271_424,
    "gpt2-xl": 1_557_611_200,
    "llama2-70b": 68_976_648_192,
    "llama3.1-8b": 8_030_261_248,
    "llama3.1-70b": 70_553_706_496,
    "llama3.1-405b": 405_853_388_800,
    "mistral-small-24b": 23_572_403_200,
    "qwen2.5-72b": 72_706_203_648,
    "qwen3-8b": 8_190_735_360,
    "qwen3-32b": 32_762_123_264,
}
# What each refusal must name, and the field that says so.
REFUSED = {
    "deepseek-v3": ("mixture of experts (n_routed_experts: 256)", "multi-head latent attention (kv_lora_rank: 512)"),
    "falcon-7b": ("attention and MLP in parallel (parallel_attn: true)",),
    "gemma2-9b": (
        "soft-capped attention logits (attn_logit_softcapping: 50.0)",
        "sliding window in some layers (sliding_window: 4096)",
    ),
    "mamba-2.8b": ("state space in place of attention (state_size: 16)",),
    "mixtral-8x7b": ("mixture of experts (num_local_experts: 8)",),
    "phi-2": ("attention and MLP in parallel (model_type: phi)",),
    "qwen3-next-80b": ("mixture of experts (num_experts: 512)", "linear attention (linear_num_key_heads: 16)"),
    "t5-large": ("encoder and decoder (is_encoder_decoder: true)",),
}

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_attention_heads": 8,
    "num_hidden_layers": 6,
    "num_key_value_heads": 2,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
    "torch_dtype": "bfloat16",
}
GEMMA_7B = {
    "model_type": "gemma",
    "hidden_size": 3072,
    "intermediate_size": 24576,
    "num_attention_heads": 16,
    "num_hidden_layers": 28,
    "num_key_value_heads": 16,
    "head_dim": 256,
    "vocab_size": 256000,
    "max_position_embeddings": 8192,
    "dtype": "bfloat16",
}
PHI_4 = {
    "model_type": "phi3",
    "hidden_size": 5120,
    "intermediate_size": 17920,
    "num_attention_heads": 40,
    "num_hidden_layers": 40,
    "num_key_value_heads": 10,
    "vocab_size": 100352,
    "max_position_embeddings": 16384,
    "sliding_window": None,
    "torch_dtype": "bfloat16",
}
OPT_7B = {
    "model_type": "opt",
    "hidden_size": 4096,
    "ffn_dim": 16384,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "vocab_size": 50272,
    "word_embed_proj_dim": 4096,
    "max_position_embeddings": 2048,
    "torch_dtype": "float16",
}
STARCODER = {
    "model_type": "gpt_bigcode",
    "n_embd": 6144,
    "n_head": 48,
    "n_layer": 40,
    "n_inner": 24576,
    "n_positions": 8192,
    "multi_query": True,
    "vocab_size": 49152,
}
GPT2 = {"model_type": "gpt2", "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024, "vocab_size": 50257}
BLOOM_560M = {
    "model_type": "bloom",
    "hidden_size": 1024,
    "n_head": 16,
    "n_layer": 24,
    "vocab_size": 250880,
    "seq_length": 2048,
}


def changed(given: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """The fields with others; those that are ``...`` are left out."""
    return {name: value for name, value in {**given, **fields}.items() if value is not ...}


def read(folder: Path, config: Any, **more: Any) -> ModelArchitecture:
    path = folder / "a-model.json"
    path.write_text(config if isinstance(config, str) else json.dumps(config))
    return read_config(path, **more)


def refusal(folder: Path, config: Any) -> str:
    with pytest.raises(InputError) as refused:
        read(folder, config)
    line = str(refused.value)
    assert line.startswith(str(folder / "a-model.json: ")) and "\n" not in line
    return line.removeprefix(f"{folder / 'a-model.json'}: ")


def test_every_sample_is_in_a_table() -> None:
    assert {path.stem for path in CONFIGS.glob("*.json")} == PUBLISHED.keys() | REFUSED.keys()


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_those_published(name: str) -> None:
    assert read_config(CONFIGS / f"{name}.json").parameters == PUBLISHED[name]


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (GEMMA_7B, 8_537_680_896),
        (PHI_4, 14_659_507_200),
        (OPT_7B, 6_658_473_984),
        (STARCODER, 15_517_456_384),
        (GPT2, 124_439_808),
        (BLOOM_560M, 559_214_592),
    ],
    ids=["gemma-7b", "phi-4", "opt-6.7b", "starcoder", "gpt2", "bloom-560m"],
)
def test_parameters_of_other_families_are_those_published(
    tmp_path: Path, config: dict[str, Any], parameters: int
) -> None:
    assert read(tmp_path, config).parameters == parameters


def test_biases_and_untied_heads_count(tmp_path: Path) -> None:
    """The tensors of a llama with all biases, one by one."""
    hidden, wide, q, kv = 512, 1408, 8 * 64, 2 * 64
    matrices = [(hidden, q), (hidden, kv), (hidden, kv), (q, hidden), (hidden, wide), (hidden, wide), (wide, hidden)]
    layer = sum(rows * columns + columns for rows, columns in matrices) + 2 * hidden
    model = read(tmp_path, {**LLAMA, "attention_bias": True, "mlp_bias": True})
    assert model.parameters == 2 * 32000 * hidden + 6 * layer + hidden
    tied = read(tmp_path, {**LLAMA, "tie_word_embeddings": True})
    assert read(tmp_path, LLAMA).parameters - tied.parameters == 32000 * hidden and tied.tied_embeddings


@pytest.mark.parametrize(("name", "shipped"), [("bloom-176b", "bloom-176b"), ("llama2-70b", "llama2-70b")])
def test_a_shipped_model_is_what_its_config_says(name: str, shipped: str) -> None:
    model, known = read_config(CONFIGS / f"{name}.json", shipped), catalog.model(shipped)
    for field in ModelArchitecture.__dataclass_fields__:
        if field not in ("title", "aliases", "sources", "note", "parameters"):
            assert getattr(model, field) == getattr(known, field), field
    assert model.parameters == pytest.approx(known.parameters, rel=1e-4)


def test_kv_cache_and_head_size() -> None:
    model = read_config(CONFIGS / "mistral-small-24b.json")
    assert (model.head_dim, model.hidden_size // model.heads) == (128, 160)
    assert model.kv_bytes_per_token == 2 * 40 * 8 * 128 * 2


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_understood_is_named(name: str) -> None:
    with pytest.raises(InputError) as refused:
        read_config(CONFIGS / f"{name}.json")
    line = str(refused.value)
    assert all(part in line for part in REFUSED[name])
    assert "known are dense decoders: bloom, exaone, exaone4" in line and "\n" not in line


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_experts": 8, "num_experts_per_tok": 2}, "mixture of experts (num_experts: 8)"),
        ({"kv_lora_rank": 512}, "multi-head latent attention (kv_lora_rank: 512)"),
        ({"sliding_window": 1024}, "sliding window (sliding_window: 1024)"),
        (
            {"layer_types": ["full_attention", "sliding_attention"], "sliding_window": 1024},
            "sliding window in some layers (sliding_window: 1024)",
        ),
        ({"layer_types": ["full_attention", "linear_attention"]}, "linear attention (layer_types)"),
        ({"layer_types": ["full_attention", "conv"]}, "layers of the kind conv (layer_types)"),
        ({"attention_chunk_size": 8192}, "attention in chunks (attention_chunk_size: 8192)"),
        ({"final_logit_softcapping": 30.0}, "soft-capped output logits (final_logit_softcapping: 30.0)"),
        ({"use_parallel_residual": True}, "attention and MLP in parallel (use_parallel_residual: true)"),
        ({"add_cross_attention": True}, "cross-attention (add_cross_attention: true)"),
        ({"block_configs": [{}]}, "layers of different shapes (block_configs: given)"),
        ({"num_kv_shared_layers": 10}, "layers that share keys and values (num_kv_shared_layers: 10)"),
        ({"mamba_d_state": 16}, "state space in place of attention (mamba_d_state: 16)"),
        ({"model_type": "gpt_neox"}, "attention and MLP in parallel (model_type: gpt_neox)"),
        ({"model_type": "gemma3_text", "sliding_window": 512}, "sliding window in some layers (sliding_window: 512)"),
        ({"model_type": "gemma3_text"}, "sliding window in some layers (model_type: gemma3_text)"),
        ({"is_causal": False}, "attention in both directions (is_causal: false)"),
        (
            {"dual_chunk_attention_config": {"chunk_size": 8192}},
            "attention in chunks (dual_chunk_attention_config: given)",
        ),
        ({"model_type": "mllama", "vision_config": {}}, "pictures beside text, without a text_config"),
        ({"model_type": "starlight"}, "model_type: 'starlight' is not known; known are bloom, exaone"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "architectures: must be LlamaForCausalLM, which gener"),
        ({"model_type": 7}, "model_type: must be a text such as 'llama', got 7"),
        # numbers
        ({"hidden_size": ...}, "hidden_size or n_embd or n_embed: is missing"),
        ({"num_hidden_layers": None}, "num_hidden_layers or n_layer or num_layers: is missing"),
        ({"intermediate_size": ...}, "intermediate_size: is missing"),
        ({"vocab_size": ...}, "vocab_size: is missing"),
        ({"max_position_embeddings": ...}, "max_position_embeddings or n_positions or seq_length: is missing"),
        ({"hidden_size": "512"}, "hidden_size: must be a whole number above 0, got '512'"),
        ({"hidden_size": 512.5}, "hidden_size: must be a whole number above 0, got 512.5"),
        ({"num_hidden_layers": 0}, "num_hidden_layers: must be a whole number above 0, got 0"),
        ({"num_hidden_layers": True}, "num_hidden_layers: must be a whole number above 0, got True"),
        ({"vocab_size": -5}, "vocab_size: must be a whole number above 0, got -5"),
        ({"vocab_size": float("nan")}, "vocab_size: must be a whole number above 0, got nan"),
        ({"vocab_size": 10**9}, "vocab_size: 1e+09 is not plausible"),
        ({"vocab_size": 10**400}, "vocab_size: must be a whole number above 0, got inf"),
        (
            {"num_hidden_layers": 10**12, "quantization_config": {"quant_method": "fp8"}},
            "layers: 1e+12 is not plausible",
        ),
        ({"n_layer": 7}, "num_hidden_layers: 6, n_layer: 7: are names of the same, and differ"),
        ({"num_key_value_heads": 3}, "kv_heads: must divide the 8 heads, got 3"),
        (
            {"num_attention_heads": 7, "num_key_value_heads": 7},
            "head_dim: is missing, and the hidden size of 512 is no",
        ),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings: must be true or false, got 'no'"),
        # number types
        ({"torch_dtype": "int4"}, "dtype: must be float16, bfloat16 or float32, got 'int4'"),
        ({"dtype": "float16"}, "dtype: float16, torch_dtype: bfloat16: are names of the same, and differ"),
    ],
)
def test_a_file_is_refused_in_one_line_that_names_why(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    assert message in refusal(tmp_path, changed(LLAMA, **fields))


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (changed(LLAMA, model_type="mistral", architectures=..., sliding_window=None), "num_key_value_heads"),
        (changed(LLAMA, model_type="mistral", architectures=...), "sliding_window"),
        (changed(LLAMA, model_type="qwen3", architectures=...), "head_dim"),
        (changed(LLAMA, model_type="qwen2", architectures=...), "num_key_value_heads"),
        (changed(GEMMA_7B, head_dim=...), "head_dim"),
        (changed(OPT_7B, ffn_dim=...), "ffn_dim"),
    ],
)
def test_a_number_that_only_one_model_has_is_not_guessed(tmp_path: Path, config: dict[str, Any], field: str) -> None:
    given = changed(config, num_key_value_heads=...) if field == "num_key_value_heads" else config
    assert refusal(tmp_path, given).startswith(f"{field}: is missing")


def test_what_an_absent_field_means_in_its_family(tmp_path: Path) -> None:
    llama = read(tmp_path, changed(LLAMA, num_key_value_heads=...))
    assert (llama.kv_heads, llama.head_dim, llama.tied_embeddings) == (8, 64, False)
    assert read(tmp_path, GEMMA_7B).tied_embeddings
    gpt2 = read(tmp_path, GPT2)
    assert (gpt2.kv_heads, gpt2.intermediate_size, gpt2.gated_mlp, gpt2.tied_embeddings) == (12, 3072, False, True)
    assert read(tmp_path, STARCODER).kv_heads == 1
    assert read(tmp_path, {**STARCODER, "multi_query": False}).kv_heads == 48
    assert read(tmp_path, changed(LLAMA, model_type=...)).positions == "rotary"


@pytest.mark.parametrize(
    "fields",
    [
        {"sliding_window": None},
        {"sliding_window": 4096},
        {"sliding_window": 1024, "use_sliding_window": False},
        {"sliding_window": 1024, "layer_types": ["full_attention"] * 6},
        {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "sliding_window": 1024},
        {"num_local_experts": 1, "q_lora_rank": None, "attn_logit_softcapping": None, "is_encoder_decoder": False},
    ],
)
def test_what_changes_nothing_is_accepted(tmp_path: Path, fields: dict[str, Any]) -> None:
    assert read(tmp_path, {**LLAMA, **fields}).layers == 6


def test_a_window_that_is_switched_on_is_refused(tmp_path: Path) -> None:
    config = changed(LLAMA, model_type="qwen2", architectures=..., sliding_window=1024, use_sliding_window=True)
    assert "sliding window in some layers (sliding_window: 1024)" in refusal(tmp_path, config)


class TestNumberTypes:
    @pytest.mark.parametrize("stored", ["float16", "bfloat16", "torch.float16"])
    def test_sixteen_bits(self, tmp_path: Path, stored: str) -> None:
        model = read(tmp_path, {**LLAMA, "torch_dtype": stored})
        assert (model.dtype, model.kv_dtype, model.note) == ("bf16", "bf16", "")

    def test_other_storage_is_said(self, tmp_path: Path) -> None:
        assert "Stored in 32 bits" in read(tmp_path, {**LLAMA, "torch_dtype": "float32"}).note
        assert "states no number type" in read(tmp_path, changed(LLAMA, torch_dtype=...)).note


class TestTextParts:
    def wrapper(self, **inner: Any) -> dict[str, Any]:
        text = changed(LLAMA, architectures=..., torch_dtype=..., **inner)
        return {
            "architectures": ["LlavaForConditionalGeneration"],
            "model_type": "llava",
            "torch_dtype": "bfloat16",
            "text_config": text,
            "vision_config": {"hidden_size": 1024, "model_type": "clip_vision_model"},
        }

    def test_a_known_text_part_is_accepted_and_said(self, tmp_path: Path) -> None:
        model = read(tmp_path, self.wrapper())
        assert model.parameters == read(tmp_path, LLAMA).parameters
        assert model.note == "The text part of llava; weights and time of its other parts are not in it."

    def test_an_unknown_one_is_refused(self, tmp_path: Path) -> None:
        assert "model_type: 'mllama_text_model' is not known" in refusal(
            tmp_path, self.wrapper(model_type="mllama_text_model")
        )
        assert "sliding window in some layers" in refusal(tmp_path, self.wrapper(model_type="gemma3_text"))
        assert refusal(tmp_path, self.wrapper(num_hidden_layers=...)).startswith("num_hidden_layers")

    def test_what_the_wrapper_asks_for_counts_too(self, tmp_path: Path) -> None:
        assert "encoder and decoder" in refusal(tmp_path, {**self.wrapper(), "is_encoder_decoder": True})
        quantized = {**self.wrapper(), "quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128}}
        assert read(tmp_path, quantized).dtype == "w4a16"
        assert not read(tmp_path, self.wrapper()).tied_embeddings
        assert read(tmp_path, {**self.wrapper(), "tie_word_embeddings": True}).tied_embeddings
        apart = {**self.wrapper(tie_word_embeddings=False), "tie_word_embeddings": True}
        assert not read(tmp_path, apart).tied_embeddings


class TestForeignFiles:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "is empty; must be a model's config.json"),
            ("[1, 2]", "is JSON of a list; must be a model's config.json"),
            ("name: x\nlayers: 3\n", "is not JSON: line 1, column 1"),
            (
                '{"total_size": 5, "weight_map": {}}',
                "has no model_type: is not a model's config.json (its keys: 'total_",
            ),
            ("[" * 100_000, "is not a model's config.json: its JSON cannot be read"),
            (
                '{"model_type": "llama", "num_hidden_layers": ' + "9" * 5000 + "}",
                "num_hidden_layers: must be a whole number",
            ),
        ],
    )
    def test_one_line_says_what_it_is(self, tmp_path: Path, text: str, message: str) -> None:
        assert refusal(tmp_path, text).startswith(message)

    @pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.99])
    def test_a_file_that_was_cut_off(self, tmp_path: Path, share: float) -> None:
        text = json.dumps(LLAMA, indent=2)
        line = refusal(tmp_path, text[: int(len(text) * share)])
        assert line.startswith(("ends in the middle of its JSON", "is not JSON"))

    def test_files_that_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"none\.json: cannot be read: No such file"):
            read_config(tmp_path / "none.json")
        with pytest.raises(InputError, match="cannot be read: Is a directory"):
            read_config(tmp_path)
        binary = tmp_path / "weights.json"
        binary.write_bytes(b"\xff\xfe\x00\x01")
        with pytest.raises(InputError, match="is not a text file in UTF-8"):
            read_config(binary)
        binary.write_bytes(b" " * 5_000_000)
        with pytest.raises(InputError, match="too large: 5,000,000 bytes"):
            read_config(binary)


def test_names_and_sources(tmp_path: Path) -> None:
    config = {**LLAMA, "_name_or_path": "somebody/a-llama"}
    model = read(tmp_path, config)
    assert (model.name, model.title) == ("a-model", "a-model")
    assert model.sources == ("somebody/a-llama config.json of Hugging Face: LlamaForCausalLM",)
    named = read(tmp_path, {**config, "_name_or_path": "/data/checkpoints/7"}, name="mine", title="Mine")
    assert (named.name, named.title) == ("mine", "Mine")
    assert named.sources == ("config.json of Hugging Face: LlamaForCausalLM",)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_written_model_reads_back_the_same(tmp_path: Path, name: str) -> None:
    model = read_config(CONFIGS / f"{name}.json")
    path = tmp_path / f"{name}.yaml"
    path.write_text(model_text(model), encoding="utf-8")
    assert load_model(path, path.name) == model
    assert path.read_text().splitlines()[0] == IMPORTED_MODEL
    assert yaml.safe_load(path.read_text())["parameters"] == PUBLISHED[name]
