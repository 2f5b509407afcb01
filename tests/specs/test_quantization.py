"""Quantizations: number type, bytes of the weights, and the modules that stay in 16 bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from provisioner.errors import InputError
from provisioner.perf.evidence import degrees_of, derived_curves, why_not_derived
from provisioner.specs import catalog
from provisioner.specs.huggingface import read_config
from provisioner.specs.model import DTYPE_BYTES, ModelArchitecture
from provisioner.specs.schema import load_model, model_text
from provisioner.specs.shipped import data_folder
from tests.specs.test_huggingface import LLAMA

CASES = Path(__file__).parents[3] / "shared" / "cases" / "models"
ATTENTION, MLP = 2 * 512 * (8 + 2) * 64, 3 * 512 * 1408
LAYERS = 6 * (ATTENTION + MLP)


def read(folder: Path, quantization: Any = None, **beside: Any) -> ModelArchitecture:
    """A llama with a ``quantization_config``, or with other files beside it."""
    config = LLAMA if quantization is None else {**LLAMA, "quantization_config": quantization}
    for name, content in {"config": config, **beside}.items():
        (folder / f"{name}.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return read_config(folder / "config.json", "a-llama")


def layer_bytes(model: ModelArchitecture) -> float:
    """Bytes of the layers' matrices."""
    return model.weight_bytes - 2 * (model.parameters - LAYERS)


def compressed(bits: int, kind: str, inputs: int | None = None, **more: Any) -> dict[str, Any]:
    """A quantization in the form of compressed-tensors."""
    activations = None if inputs is None else {"num_bits": inputs, "type": kind}
    weights = {"num_bits": bits, "type": kind, **more}
    group = {"targets": ["Linear"], "weights": weights, "input_activations": activations}
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}, "ignore": ["lm_head"]}


MODELOPT = {"producer": {"name": "modelopt", "version": "0.23.0"}}
# The number type of the layers, and bits of a weight with its scales, as the formats define them.
KNOWN: list[tuple[dict[str, Any], str, float]] = [
    ({"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}, "fp8_block", 8),
    (compressed(8, "float", 8, strategy="block"), "fp8_block", 8),
    ({"quant_method": "fbgemm_fp8", "modules_to_not_convert": ["lm_head"]}, "fp8", 8),
    ({"quant_method": "modelopt", "quant_algo": "FP8", "ignore": ["lm_head"]}, "fp8", 8),
    ({"quant_algo": "FP8", "ignore": ["lm_head"]}, "fp8", 8),
    (compressed(8, "float", 8), "fp8", 8),
    (compressed(8, "int", 8), "int8", 8),
    (compressed(8, "int", group_size=128), "w8a16", 8 + 16 / 128),
    (compressed(8, "float"), "w8a16", 8),
    (compressed(4, "int", group_size=128, symmetric=True), "w4a16", 4 + 16 / 128),
    (compressed(4, "int", group_size=32, symmetric=False), "w4a16", 4 + 20 / 32),
    (compressed(4, "int", group_size=None), "w4a16", 4),
    (compressed(4, "int", 8, group_size=128), "w4a8", 4 + 16 / 128),
    (compressed(4, "float", 4, group_size=16), "nvfp4", 4.5),
    (compressed(4, "float", group_size=16), "nvfp4a16", 4.5),
    (compressed(4, "float", group_size=32), "mxfp4", 4.25),
    (
        {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True},
        "w4a16",
        4 + 20 / 128,
    ),
    ({"quant_method": "awq", "w_bit": 4, "q_group_size": 64, "zero_point": False}, "w4a16", 4 + 16 / 64),
    ({"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True, "desc_act": False}, "w4a16", 4 + 20 / 128),
    ({"quant_method": "gptq", "bits": 8, "group_size": 32}, "w8a16", 8 + 24 / 32),
    ({"quant_method": "gptq", "bits": 4, "group_size": -1}, "w4a16", 4),
    ({"quant_method": "mxfp4"}, "mxfp4", 4.25),
    ({"quant_method": "modelopt", "quant_algo": "NVFP4", "group_size": 16}, "nvfp4", 4.5),
    ({"quant_method": "modelopt", "quant_algo": "W4A16_AWQ"}, "w4a16", 4 + 16 / 128),
    ({"quant_method": "modelopt", "quant_algo": "MXFP8"}, "mxfp8", 8.25),
]


@pytest.mark.parametrize(("quantization", "dtype", "bits"), KNOWN)
def test_number_type_and_bytes(tmp_path: Path, quantization: dict[str, Any], dtype: str, bits: float) -> None:
    model = read(tmp_path, quantization)
    assert (model.dtype, model.kv_dtype, model.share_in_16_bits) == (dtype, "bf16", 0.0)
    assert layer_bytes(model) == pytest.approx(LAYERS * bits / 8, rel=1e-12)
    assert ("There is no latency data" in model.note) == (dtype not in DTYPE_BYTES)
    assert ("Only some GPUs have latency data" in model.note) == (dtype in ("fp8_block", "nvfp4"))


class TestFilesBeside:
    def test_modelopt_states_fp8_there_only(self, tmp_path: Path) -> None:
        stated = {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8", "exclude_modules": ["lm_head"]}
        model = read(tmp_path, hf_quant_config={**MODELOPT, "quantization": stated})
        assert (model.dtype, model.kv_dtype, layer_bytes(model)) == ("fp8", "fp8", LAYERS)
        assert "Quantized by modelopt (FP8)." in model.note and "KV cache is in FP8" in model.note

    def test_older_exports_of_gptq_and_awq(self, tmp_path: Path) -> None:
        assert read(tmp_path, quantize_config={"bits": 4, "group_size": 128}).dtype == "w4a16"
        (tmp_path / "quantize_config.json").unlink()
        model = read(tmp_path, quant_config={"w_bit": 4, "q_group_size": 128, "zero_point": True})
        assert model.bytes_per_weight == 0.51953125 and "Quantized by awq (4 bits, int)." in model.note

    def test_a_bad_one_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"config\.json: hf_quant_config\.json beside it: is empty"):
            read(tmp_path, hf_quant_config="")
        with pytest.raises(InputError, match=r"hf_quant_config\.json: modelopt \(FP6\) is not understood"):
            read(tmp_path, hf_quant_config={**MODELOPT, "quantization": {"quant_algo": "FP6"}})

    def test_config_json_comes_first(self, tmp_path: Path) -> None:
        other = {**MODELOPT, "quantization": {"quant_algo": "NVFP4"}}
        assert read(tmp_path, {"quant_method": "fp8"}, hf_quant_config=other).dtype == "fp8"

    @pytest.mark.skipif(not CASES.is_dir(), reason=f"{CASES} is not there")
    def test_the_case_of_the_issue(self) -> None:
        model = read_config(CASES / "modelopt-fp8" / "config.json", "llama-fp8")
        assert f"{model.weight_bytes / 2**30:.1f}" == "67.7" and model.kv_bytes_per_token == 163_840


class TestMixedPrecision:
    @pytest.mark.parametrize(
        ("field", "kept", "in_16_bits"),
        [
            ("exclude_modules", ["lm_head", "model.layers.0*", "model.layers.5.*"], 2 * (ATTENTION + MLP)),
            ("exclude_modules", ["*.self_attn*"], 6 * ATTENTION),
            ("ignore", ["re:.*lm_head", "re:model\\.layers\\.[05]\\..*"], 2 * (ATTENTION + MLP)),
            ("ignore", ["re:.*down_proj$", "re:.*vision.*"], 6 * 512 * 1408),
            ("modules_to_not_convert", ["model.layers.0.self_attn.q_proj"], 512 * 512),
            ("modules_to_not_convert", ["self_attn", "lm_head"], 6 * ATTENTION),
            ("ignored_layers", ["model.layers.1.mlp.gate_up_proj"], 2 * 512 * 1408),
            ("ignore", ["model.language_model.layers.1.self_attn.k_proj"], 512 * 128),
        ],
    )
    def test_bytes_of_modules_in_16_bits(self, tmp_path: Path, field: str, kept: list[str], in_16_bits: int) -> None:
        model = read(tmp_path, {"quant_method": "modelopt", "quant_algo": "FP8", field: kept})
        assert model.share_in_16_bits == pytest.approx(in_16_bits / LAYERS)
        assert layer_bytes(model) == pytest.approx(LAYERS + in_16_bits)
        assert f"{in_16_bits / LAYERS:.1%} of the layers' weights stay in 16 bits" in model.note

    def test_layers_of_modelopt_in_their_own_number_types(self, tmp_path: Path) -> None:
        """Attention of five layers in FP8, their MLP in NVFP4; the sixth layer is not listed."""
        fused = {"self_attn.qkv_proj": "FP8", "self_attn.o_proj": "FP8", "mlp.gate_up_proj": "NVFP4"}
        layers = {f"model.layers.{k}.{name}": {"quant_algo": of} for k in range(5) for name, of in fused.items()}
        layers |= {f"model.layers.{k}.mlp.down_proj": {"quant_algo": "NVFP4", "group_size": 16} for k in range(5)}
        stated = {"quant_algo": "MIXED_PRECISION", "kv_cache_quant_algo": "FP8", "quantized_layers": layers}
        model = read(tmp_path, hf_quant_config={**MODELOPT, "quantization": stated})
        assert (model.dtype, model.kv_dtype) == ("nvfp4", "fp8")
        assert model.share_in_16_bits == pytest.approx(1 / 6)
        assert layer_bytes(model) == pytest.approx(5 * (ATTENTION + MLP * 4.5 / 8) + 2 * (ATTENTION + MLP))
        assert "modelopt (MIXED_PRECISION). Of the layers' weights" in model.note and "in nvfp4" in model.note
        assert read(tmp_path, hf_quant_config={**stated, "quantized_layers": {"quantized_layers": layers}}) == model

    def test_groups_of_compressed_tensors_have_their_targets(self, tmp_path: Path) -> None:
        """A name or an expression comes before the class of all others; without that class the others stay."""
        given = compressed(4, "float", 4, group_size=16)
        attention = compressed(8, "float", 8)["config_groups"]["group_0"] | {"targets": ["re:.*self_attn.*"]}
        groups = {**given["config_groups"], "group_1": attention}
        model = read(
            tmp_path, {**given, "config_groups": groups, "ignore": ["lm_head", "model.layers.0.mlp.down_proj"]}
        )
        down = 512 * 1408
        bits_16 = layer_bytes(model) - 6 * ATTENTION - (6 * MLP - down) * 4.5 / 8
        assert bits_16 == pytest.approx(2 * down) and model.share_in_16_bits == pytest.approx(down / LAYERS)
        alone = read(tmp_path, {**given, "config_groups": {"group_0": attention}})
        assert alone.dtype == "fp8" and layer_bytes(alone) == pytest.approx(6 * ATTENTION + 2 * 6 * MLP)

    def test_rules_of_gptqmodel(self, tmp_path: Path) -> None:
        """Two layers of TinyLlama in 4 and in 8 bits, 2.1 GB as ModelCloud publishes it (GPTQ-4bits-dynamic-cfg)."""
        shape = {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "vocab_size": 32000}
        heads = {"num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 64, "tie_word_embeddings": False}
        rules = {r"-:model\.layers\.([2-9]\d*|[1-9]\d+)\..*": {}, r".*\.1\..*": {"bits": 8, "group_size": 32}}
        quantization = {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True, "dynamic": rules}
        config = {**LLAMA, **shape, **heads, "quantization_config": quantization}
        (tmp_path / "tiny.json").write_text(json.dumps(config))
        model = read_config(tmp_path / "tiny.json")
        assert model.share_in_16_bits == pytest.approx(20 / 22) and model.dtype == "w8a16"
        assert model.bytes_per_weight == pytest.approx((4 + 20 / 128 + 8 + 24 / 32) / 16)
        assert f"{model.weight_bytes / 1e9:.1f}" == "2.1"

    def test_gptq_of_some_modules_leaves_the_others_in_16_bits(self, tmp_path: Path) -> None:
        listed = [["mlp.up_proj", "mlp.gate_proj"], ["mlp.down_proj"]]
        given = {"quant_method": "gptq", "bits": 4, "group_size": 128, "modules_in_block_to_quantize": listed}
        model = read(tmp_path, given)
        assert model.share_in_16_bits == pytest.approx(6 * ATTENTION / LAYERS)
        everything = [*listed, [f"self_attn.{name}_proj" for name in "qkvo"]]
        assert read(tmp_path, given | {"modules_in_block_to_quantize": everything}).share_in_16_bits == 0.0
        with pytest.raises(InputError, match="quantizes a module that is not known"):
            read(tmp_path, given | {"modules_in_block_to_quantize": ["mlp.gate"]})

    def test_layer_one_is_not_layer_ten(self, tmp_path: Path) -> None:
        config = {**LLAMA, "num_hidden_layers": 12, "quantization_config": {"quant_method": "fp8"}}
        config["quantization_config"]["ignored_layers"] = ["model.layers.1"]
        (tmp_path / "deep.json").write_text(json.dumps(config))
        assert read_config(tmp_path / "deep.json").share_in_16_bits == pytest.approx(1 / 12)

    def test_their_time_is_between_that_of_both(self) -> None:
        model = catalog.model("llama-3.1-8b")
        fp8 = model.in_dtype("fp8")
        mixed = ModelArchitecture(**{name: getattr(fp8, name) for name in fp8.__slots__} | {"share_in_16_bits": 0.25})
        machine = catalog.machine("dgx-h100")
        narrow, wide, both = (derived_curves(each, machine, 1).decode.y for each in (fp8, model, mixed))
        assert both == pytest.approx(0.75 * narrow + 0.25 * wide)

    def test_a_module_that_is_not_known_is_refused(self, tmp_path: Path) -> None:
        for kept in ("model.layers.0.attention.wq", "re:.*cross_attn.*", "", "*", "o_pro"):
            with pytest.raises(InputError, match="leaves in 16 bits a module that is not known"):
                read(tmp_path, {"quant_method": "fp8", "ignored_layers": [kept]})

    @pytest.mark.parametrize(
        ("kept", "message"),
        [
            (["re:(a+)+$"], "too complex a pattern"),
            (["re:" + ".*" * 20 + "x"], "too complex a pattern"),
            (["re:("], "is no regular expression"),
            ([f"model.layers.{number}" for number in range(3000)], "more than 2,000 modules, or 100 patterns"),
            (["re:.*q_proj"] * 101, "more than 2,000 modules, or 100 patterns"),
        ],
    )
    def test_hostile_patterns_end_at_once(self, tmp_path: Path, kept: list[str], message: str) -> None:
        with pytest.raises(InputError, match=message):
            read(tmp_path, {"quant_method": "fp8", "ignored_layers": kept})


@pytest.mark.parametrize(
    ("quantization", "message"),
    [
        (
            {"quant_method": "bitsandbytes", "load_in_4bit": True},
            "bitsandbytes is not understood; known are 16 bits, FP8",
        ),
        ({"quant_method": "gptq", "bits": 3, "group_size": 128}, "gptq (3 bits, int) is not understood"),
        ({"quant_method": "gptq", "bits": 4, "lm_head": True}, "gptq (4 bits, int) with lm_head is not understood"),
        ({"quant_method": "awq", "bits": 4, "dynamic": {"-:.*": {}}}, "with dynamic is not understood"),
        ({"quant_method": "gptq", "bits": 4, "dynamic": {".*q_proj": {"bits": 3}}}, "gptq (3 bits, int) is not"),
        (
            {"quant_method": "gptq", "bits": 4, "dynamic": {"lm_head": {}}},
            "quantizes a module that is not known, 're:lm",
        ),
        ({"quant_algo": "MIXED_PRECISION"}, "modelopt (MIXED_PRECISION) is not understood"),
        ({"quant_algo": "MIXED_PRECISION", "quantized_layers": {"a": {"quant_algo": "FP6"}}}, "modelopt (FP6) is not"),
        (
            {"quant_algo": "MIXED_PRECISION", "quantized_layers": {"a": {"quant_algo": "FP8"}}},
            "module that is not known",
        ),
        ({**compressed(8, "float"), "ignore": ["Linear"]}, "leaves in 16 bits a module that is not known, 'Linear'"),
        ({"bits": 4}, "a quantization without quant_method is not understood"),
        ({"quant_method": "fp8", "kv_cache_scheme": {"num_bits": 4}}, "KV cache in"),
        ({"quant_algo": "FP8", "kv_cache_quant_algo": "INT8"}, "KV cache in 'INT8' is not understood"),
        (
            {"quant_method": "compressed-tensors", "config_groups": {"0": {}, "1": {}}},
            "compressed-tensors is not understood",
        ),
        ("fp8", "must be an object, got 'fp8'"),
    ],
)
def test_other_quantizations_are_named(tmp_path: Path, quantization: Any, message: str) -> None:
    with pytest.raises(InputError) as refused:
        read(tmp_path, quantization)
    line = str(refused.value)
    assert "quantization_config: " in line and message in line and "\n" not in line


def test_a_kv_cache_in_fp8_counts_as_such(tmp_path: Path) -> None:
    scheme = {"num_bits": 8, "type": "float"}
    model = read(tmp_path, {**compressed(8, "float", 8), "kv_cache_scheme": scheme})
    assert (model.kv_dtype, model.kv_bytes_per_token) == ("fp8", 2 * 6 * 2 * 64)


def test_a_written_model_reads_back_the_same(tmp_path: Path) -> None:
    model = read(tmp_path, {"quant_method": "awq", "bits": 4, "group_size": 128, "modules_to_not_convert": ["q_proj"]})
    path = tmp_path / "a-llama.yaml"
    path.write_text(model_text(model), encoding="utf-8")
    assert load_model(path, path.name) == model


class TestLatency:
    def test_there_is_none_without_own_measurements(self, tmp_path: Path) -> None:
        model, machine = (
            read(tmp_path, next(given for given, dtype, _ in KNOWN if dtype == "w4a16")),
            catalog.machine("dgx-h100"),
        )
        assert "no kernels were measured in w4a16; import your own measurements" in why_not_derived(model, machine)
        assert degrees_of(model, machine) == {}

    @pytest.mark.parametrize(
        ("quantization", "there", "elsewhere"),
        [
            ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, ("dgx-b200", "gb200"), ("dgx-h100", "b300-x8")),
            (
                {"quant_method": "fp8", "weight_block_size": [128, 128]},
                ("dgx-h100", "dgx-h200", "dgx-b200", "gb200"),
                ("l40s-x8", "mi300x-x8"),
            ),
        ],
    )
    def test_products_of_some_gpus_are_derived_there_and_refused_elsewhere(
        self, tmp_path: Path, quantization: dict[str, Any], there: tuple[str, ...], elsewhere: tuple[str, ...]
    ) -> None:
        model = read(tmp_path, quantization)
        for name in there:
            assert set(degrees_of(model, catalog.machine(name)).values()) == {"derived"}
        for name in elsewhere:
            why = why_not_derived(model, catalog.machine(name))
            assert why.startswith(f"{name} has no kernels in {model.dtype}, which only ") and "gb200-nvl-186gb" in why
            assert degrees_of(model, catalog.machine(name)) == {}
            assert degrees_of(model.in_dtype("fp8"), catalog.machine(name))

    def test_own_measurements_hold_in_the_number_type_of_the_file(self, tmp_path: Path) -> None:
        for part in ("models", "curves"):
            (tmp_path / "own" / part).mkdir(parents=True, exist_ok=True)
        model = read(tmp_path, next(given for given, dtype, _ in KNOWN if dtype == "w4a16"))
        (tmp_path / "own" / "models" / "a-llama.yaml").write_text(model_text(model))
        shipped = data_folder("hardware_specs") / "curves" / "dgx-a100__bloom-176b.csv"
        rows = (
            ("prompt,128,1,0", "0.01"),
            ("prompt,1024,1,0", "0.05"),
            ("decode,128,1,128", "0.01"),
            ("decode,128,64,8192", "0.02"),
        )
        lines = [f"a-llama,dgx-h100,1,{point},{s},1,{s},{s},measured,," for point, s in rows]
        lines.insert(0, shipped.read_text().splitlines()[0])
        (tmp_path / "own" / "curves" / "dgx-h100__a-llama.csv").write_text("\n".join(lines) + "\n")
        own = catalog.with_own(str(tmp_path / "own"))
        assert degrees_of(own.model("a-llama"), own.machine("dgx-h100"), own) == {1: "measured"}
        assert "measured" not in degrees_of(own.model("a-llama").in_dtype("fp8"), own.machine("dgx-h100"), own).values()


def test_a_model_states_the_bytes_of_a_type_without_kernels() -> None:
    known = catalog.model("llama-3.1-8b")
    fields = {name: getattr(known, name) for name in known.__slots__}
    with pytest.raises(InputError, match=r"bytes_per_weight: must be 0\.1 to 4 for w4a16"):
        ModelArchitecture(**fields | {"dtype": "w4a16"})
    with pytest.raises(InputError, match="share_in_16_bits 0 to 1"):
        ModelArchitecture(**fields | {"share_in_16_bits": 1.5})
