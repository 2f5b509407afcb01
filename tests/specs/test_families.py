"""Families of models: parameters as they are published, and what differs between the families.

Published are the numbers of parameters that hub pages state (safetensors), if no other source is named.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from provisioner.errors import InputError
from provisioner.specs.huggingface import FAMILIES, read_config
from provisioner.specs.model import ModelArchitecture

CONFIGS = Path(__file__).parent / "configs"
NAMES = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
    *("vocab_size", "max_position_embeddings"),
)


def config(model_type: str, *numbers: int, **more: Any) -> dict[str, Any]:
    """A configuration of seven numbers, in the order of ``NAMES``, and other fields."""
    return {"model_type": model_type, "torch_dtype": "bfloat16", **dict(zip(NAMES, numbers, strict=True)), **more}


TIED = {"tie_word_embeddings": True}
GLM = {"head_dim": 128, "partial_rotary_factor": 0.5}
EXAONE = {"num_hidden_layers": None}
COUNTED = {
    "olmo-2-1b": (config("olmo2", 2048, 8192, 16, 16, 16, 100352, 4096), 1_484_916_736),
    "olmo-2-7b": (config("olmo2", 4096, 11008, 32, 32, 32, 100352, 4096), 7_298_617_344),
    "olmo-2-13b": (config("olmo2", 5120, 13824, 40, 40, 40, 100352, 4096), 13_716_198_400),
    "olmo-2-32b": (config("olmo2", 5120, 27648, 64, 40, 8, 100352, 4096), 32_234_279_936),
    "granite-3.1-2b": (
        config("granite", 2048, 8192, 40, 32, 8, 49155, 131072, embedding_multiplier=12.0, logits_scaling=8.0, **TIED),
        2_533_531_648,
    ),
    "seed-oss-36b": (
        config("seed_oss", 5120, 27648, 64, 80, 8, 155136, 524288, head_dim=128, attention_bias=True),
        36_151_104_512,
    ),
    "glm-4-9b-hf": (config("glm", 4096, 13696, 40, 32, 2, 151552, 131072, attention_bias=True, **GLM), 9_399_951_360),
    "glm-4-9b-0414": (config("glm4", 4096, 13696, 40, 32, 2, 151552, 32768, attention_bias=True, **GLM), 9_400_279_040),
    "internlm2.5-1.8b": (config("internlm2", 2048, 8192, 24, 16, 8, 92544, 32768, bias=False), 1_889_110_016),
    "internlm2.5-7b": (config("internlm2", 4096, 14336, 32, 32, 8, 92544, 32768, bias=False), 7_737_708_544),
    "internlm2.5-20b": (config("internlm2", 6144, 16384, 48, 48, 8, 92544, 32768, bias=False), 19_861_149_696),
    "ministral-3-3b": (  # language part
        config("ministral3", 3072, 9216, 26, 32, 8, 131072, 262144, head_dim=128, sliding_window=None, **TIED),
        3_429_006_336,
    ),
    "stablelm-2-1.6b": (
        config("stablelm", 2048, 5632, 24, 32, 32, 100352, 4096, use_qkv_bias=True, partial_rotary_factor=0.25),
        1_644_515_328,
    ),
    "smollm3-3b": (config("smollm3", 2048, 11008, 36, 16, 4, 128256, 65536, use_sliding_window=False), 3_075_098_624),
    # the language model of Qwen2-VL-2B is Qwen2-1.5B, of Qwen2.5-VL-7B Qwen2.5-7B, of Qwen3-VL-8B Qwen3-8B
    "qwen2-vl-2b": (config("qwen2_vl", 1536, 8960, 28, 12, 2, 151936, 32768, **TIED), 1_543_714_304),
    "qwen2.5-vl-7b": (config("qwen2_5_vl", 3584, 18944, 28, 28, 4, 152064, 128000), 7_615_616_512),
    "qwen3-vl-8b": (config("qwen3_vl_text", 4096, 12288, 36, 32, 8, 151936, 262144, head_dim=128), 8_190_735_360),
}
# Model cards state parameters without embeddings, in 10^9.
WITHOUT_EMBEDDINGS = {
    "exaone-3.5-2.4b": (config("exaone", 2560, 7168, 30, 32, 8, 102400, 32768, head_dim=80, **TIED), 2.14),
    "exaone-3.5-7.8b": (config("exaone", 4096, 14336, 32, 32, 8, 102400, 32768), 6.98),
    "exaone-3.5-32b": (config("exaone", 5120, 27392, 64, 40, 8, 102400, 32768), 30.95),
    "exaone-4.0-1.2b": (
        config("exaone4", 2048, 4096, 30, 32, 8, 102400, 65536, head_dim=64, sliding_window=None, **TIED),
        1.07,
    ),
}


def read(folder: Path, given: dict[str, Any], **beside: Any) -> ModelArchitecture:
    """The model of a configuration in a folder with other files."""
    for name, content in {"config": given, **beside}.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return read_config(folder / "config.json", "a-model")


@pytest.mark.parametrize("name", COUNTED)
def test_parameters_are_those_published(tmp_path: Path, name: str) -> None:
    given, parameters = COUNTED[name]
    assert read(tmp_path, given).parameters == parameters


@pytest.mark.parametrize("name", WITHOUT_EMBEDDINGS)
def test_parameters_without_embeddings_are_those_published(tmp_path: Path, name: str) -> None:
    given, parameters = WITHOUT_EMBEDDINGS[name]
    layers = {**given, "num_layers": given["num_hidden_layers"]}
    if given["model_type"] == "exaone":  # which has a name of its own for the layers
        del layers["num_hidden_layers"]
    model = read(tmp_path, layers)
    embeddings = (1 if model.tied_embeddings else 2) * model.vocab_size * model.hidden_size
    assert round((model.parameters - embeddings) / 1e9, 2) == parameters


def test_every_family_has_a_published_count() -> None:
    samples = [json.loads(path.read_text()) for path in CONFIGS.glob("*.json")]
    given = [each for each, _ in (*COUNTED.values(), *WITHOUT_EMBEDDINGS.values())]
    types = {each["model_type"].removesuffix("_text") for each in (*samples, *given)}
    elsewhere = {"gemma", "phi3", "opt", "gpt_bigcode"}  # test_huggingface.py
    assert FAMILIES.keys() <= types | elsewhere


def test_the_page_has_every_family() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "own-models.md").read_text(encoding="utf-8")
    assert not {name for name in FAMILIES if f"`{name}`" not in page}


def test_a_family_states_the_detail_that_a_plan_leaves_out(tmp_path: Path) -> None:
    assert read(tmp_path, COUNTED["olmo-2-7b"][0]).note == ""
    assert "Half of each head is turned" in read(tmp_path, COUNTED["glm-4-9b-hf"][0]).note
    assert "two of a layer's four norms take no time" in read(tmp_path, COUNTED["glm-4-9b-0414"][0]).note


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("seed-oss-36b", "attention_bias"),
        ("internlm2.5-7b", "bias"),
        ("glm-4-9b-0414", "num_key_value_heads"),
        ("ministral-3-3b", "head_dim"),
        ("olmo-2-7b", "intermediate_size"),
    ],
)
def test_a_number_that_only_one_model_has_is_not_guessed(tmp_path: Path, name: str, field: str) -> None:
    given = {key: value for key, value in COUNTED[name][0].items() if key != field}
    with pytest.raises(InputError, match=f"{field}: is missing; the library's default is that of one certain model"):
        read(tmp_path, given)


def test_windows_and_parallel_layers_of_a_family_stay_refused(tmp_path: Path) -> None:
    windows = {**WITHOUT_EMBEDDINGS["exaone-4.0-1.2b"][0], "sliding_window": 4096, "use_sliding_window": True}
    with pytest.raises(InputError, match=r"sliding window in some layers \(sliding_window: 4096\)"):
        read(tmp_path, windows)
    with pytest.raises(InputError, match=r"attention and MLP in parallel \(use_parallel_residual: true\)"):
        read(tmp_path, {**COUNTED["stablelm-2-1.6b"][0], "use_parallel_residual": True})


def test_text_parts_flat_and_nested(tmp_path: Path) -> None:
    flat = {**COUNTED["qwen2.5-vl-7b"][0], "vision_config": {"hidden_size": 1280}, "rope_scaling": {"type": "mrope"}}
    flat |= {"architectures": ["Qwen2_5_VLForConditionalGeneration"], "sliding_window": 32768}
    model = read(tmp_path, flat)
    assert model.note == "The text part of qwen2_5_vl; weights and time of its other parts are not in it."
    nested = {
        "model_type": "mistral3",
        "architectures": ["Mistral3ForConditionalGeneration"],
        "vision_config": {"model_type": "pixtral"},
        "text_config": {**COUNTED["ministral-3-3b"][0], "rope_parameters": {"rope_type": "yarn", "factor": 16.0}},
    }
    model = read(tmp_path, nested)
    assert (model.parameters, model.kv_bytes_per_token) == (3_429_006_336, 2 * 26 * 8 * 128 * 2)
    assert "The text part of mistral3" in model.note and "positions are scaled (yarn, factor 16.0)" in model.note
    internvl = {"model_type": "internvl_chat", "vision_config": {}, "llm_config": COUNTED["internlm2.5-7b"][0]}
    assert read(tmp_path, internvl).parameters == 7_737_708_544


class TestEmbeddings:
    QWEN3 = config("qwen3", 4096, 12288, 36, 32, 8, 151665, 40960, head_dim=128, architectures=["Qwen3ForCausalLM"])

    def test_an_embedding_model_has_no_output_head(self, tmp_path: Path) -> None:
        model = read(tmp_path, self.QWEN3, modules=[])
        assert model.parameters == 7_567_295_488  # Qwen/Qwen3-Embedding-8B
        assert model.note.startswith("It embeds texts: no output head is counted.")

    def test_so_has_a_class_without_one(self, tmp_path: Path) -> None:
        given = config("mistral", 4096, 14336, 32, 32, 8, 32000, 32768, sliding_window=None)
        model = read(tmp_path, {**given, "architectures": ["MistralModel"]})
        assert model.parameters == 7_110_660_096  # intfloat/e5-mistral-7b-instruct

    def test_files_beside_another_name_say_nothing(self, tmp_path: Path) -> None:
        read(tmp_path, self.QWEN3, modules=[], another=self.QWEN3)
        assert read_config(tmp_path / "another.json").parameters == 7_567_295_488 + 151665 * 4096
