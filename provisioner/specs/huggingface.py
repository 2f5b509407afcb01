"""Models from their Hugging Face ``config.json``, for architectures that ``ModelArchitecture`` can describe.

Known are families of dense decoders, each with the defaults of absent fields in the transformers library, its biases
and its norms, so that the number of parameters is exact. Other files are refused by their unsupported property.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from provisioner.errors import InputError
from provisioner.specs.model import ModelArchitecture, NumberType
from provisioner.specs.units import quoted

MAX_CONFIG_BYTES: Final = 4_000_000
"""Largest accepted size of a config.json, in bytes: it is a few pages of text, and a far larger file is a wrong one."""


KvHeads = Literal["needed", "heads", "multi_query"]
Biases = Literal["none", "qkv", "all"]


@dataclass(frozen=True, slots=True)
class Family:
    """A ``model_type``: the class of its language model, its shape, and the defaults of absent fields.

    ``kv_heads`` is the default number of KV heads: as many as heads, one if ``multi_query``, or the field is required,
    because the library's default is one certain model's number; ``needs_head_dim`` and ``needs_window`` mark further
    fields of this kind. With ``window_is_switched`` a window counts only with ``use_sliding_window``. ``biases`` are
    those of attention: none, of queries, keys and values, or of the output as well. ``extra_positions`` are rows of
    learned positions beyond the context.
    """

    language_model: str
    positions: str = "rotary"
    norm: str = "rms"
    gated: bool = True
    tied: bool = False
    kv_heads: KvHeads = "needed"
    needs_head_dim: bool = False
    needs_window: bool = False
    window_is_switched: bool = False
    biases: Biases = "none"
    mlp_bias: bool = False
    qk_norm: bool = False
    embedding_norm: bool = False
    extra_positions: int = 0


def _plain(language_model: str, positions: str, kv_heads: KvHeads = "heads", **more: Any) -> Family:
    """A family like GPT-2: plain MLP, layer norms, biases everywhere, embedding and head tied."""
    shape = Family(language_model, positions, "layer", gated=False, tied=True, kv_heads=kv_heads, biases="all")
    return replace(shape, mlp_bias=True, **more)


FAMILIES: Final[Mapping[str, Family]] = {
    "bloom": _plain("BloomForCausalLM", "alibi", embedding_norm=True),
    "gemma": Family("GemmaForCausalLM", tied=True, needs_head_dim=True),
    "gpt2": _plain("GPT2LMHeadModel", "learned"),
    "gpt_bigcode": _plain("GPTBigCodeForCausalLM", "learned", "multi_query"),
    "llama": Family("LlamaForCausalLM", kv_heads="heads"),
    "mistral": Family("MistralForCausalLM", needs_window=True),
    "opt": _plain("OPTForCausalLM", "learned", extra_positions=2),
    "phi3": Family("Phi3ForCausalLM", kv_heads="heads"),
    "qwen2": Family("Qwen2ForCausalLM", biases="qkv", window_is_switched=True),
    "qwen3": Family("Qwen3ForCausalLM", needs_head_dim=True, qk_norm=True, window_is_switched=True),
}
"""Supported families. Defaults of absent fields follow the transformers library's configuration classes."""

_HIDDEN: Final = ("hidden_size", "n_embd", "n_embed")
_LAYERS: Final = ("num_hidden_layers", "n_layer")
_HEADS: Final = ("num_attention_heads", "n_head")
_CONTEXT: Final = ("max_position_embeddings", "n_positions", "seq_length")
_MLP: Final = ("intermediate_size", "ffn_dim", "n_inner")

_EXPERTS: Final = "mixture of experts"
_LINEAR: Final = "linear attention"
_STATE_SPACE: Final = "state space in place of attention"
_PARALLEL_RESIDUAL: Final = "attention and MLP in parallel"
_ENCODER: Final = "encoder and decoder"
_WINDOW_IN_SOME: Final = "sliding window in some layers"

_UNSUPPORTED: Final[Mapping[str, tuple[str, ...]]] = {
    _EXPERTS: (
        *("num_local_experts", "n_routed_experts", "num_experts", "num_experts_per_tok", "moe_intermediate_size"),
    ),
    "multi-head latent attention": ("kv_lora_rank", "q_lora_rank"),
    _STATE_SPACE: ("state_size", "ssm_state_size", "ssm_cfg", "mamba_d_state", "mamba_d_conv", "mamba_num_heads"),
    _LINEAR: ("linear_num_key_heads", "linear_num_value_heads", "linear_attn_config"),
    _ENCODER: ("is_encoder_decoder",),
    "cross-attention": ("add_cross_attention", "cross_attention_layers"),
    _PARALLEL_RESIDUAL: ("parallel_attn", "use_parallel_residual", "parallel_attn_mlp_res"),
    "attention in chunks": ("attention_chunk_size",),
    "attention in both directions": ("use_bidirectional_attention",),
    "soft-capped attention logits": ("attn_logit_softcapping",),
    "soft-capped output logits": ("final_logit_softcapping",),
    "layers that share keys and values": ("num_kv_shared_layers",),
    "layers of different shapes": ("block_configs", "hybrid_override_pattern", "layers_block_type"),
    "several tokens at once": ("num_nextn_predict_layers",),
}
"""Properties that ``ModelArchitecture`` does not describe, with the fields that state them; one expert is none."""

_BY_TYPE: Final[Mapping[str, str]] = {
    **dict.fromkeys(("mamba", "mamba2", "falcon_mamba", "rwkv", "jamba", "zamba2", "bamba"), _STATE_SPACE),
    **dict.fromkeys(("falcon", "phi", "gptj", "gpt_neox", "codegen", "cohere", "cohere2"), _PARALLEL_RESIDUAL),
    **dict.fromkeys(("t5", "mt5", "umt5", "bart", "mbart", "marian", "m2m_100", "pegasus", "whisper"), _ENCODER),
    **dict.fromkeys(("gemma2", "gemma3", "gemma3_text", "gemma3n", "gpt_oss"), _WINDOW_IN_SOME),
}
"""Properties of unsupported families that their files need not state."""


def read_config(path: str | Path, name: str | None = None, title: str | None = None) -> ModelArchitecture:
    """Model of a ``config.json``, with the given name or the file's.

    ``note`` lists properties that were left out or taken from the family. Raises ``InputError`` in one line for a file
    that cannot be read, is no model's configuration, lacks a required field, or has an unsupported property.
    """
    shown = str(path)
    outer = _read(Path(path), shown)
    config, part_of = _text_part(outer, shown)
    model_type = _model_type(config, shown)
    reasons = _not_understood(config, model_type)
    if part_of:
        reasons = list(dict.fromkeys([*reasons, *_not_understood(outer, part_of, windows=False)]))
    if reasons:
        raise InputError(
            f"{shown}: is not understood: {'; '.join(reasons)} (known are dense decoders: {', '.join(FAMILIES)})"
        )
    if model_type not in FAMILIES:
        raise InputError(f"{shown}: model_type: {quoted(model_type)} is not known; known are {', '.join(FAMILIES)}")
    family = FAMILIES[model_type]
    _check_class(config, family, shown)
    notes = [f"The text part of {part_of}; weights and time of its other parts are not in it."] if part_of else []
    fields = _shape(config, outer, family, shown)
    dtype, said = _number_type(config, outer, shown)
    scaling = config.get("rope_scaling")
    if isinstance(scaling, dict) and scaling.get("factor"):
        kind = f"{scaling.get('rope_type') or scaling.get('type') or 'scaled'}, factor {_short(scaling['factor'])}"
        notes.append(f"Its positions are scaled ({kind}); the context is the file's own number.")
    name = Path(path).stem if name is None else name
    try:
        return ModelArchitecture(
            name=name,
            title=name if title is None else title,
            gated_mlp=family.gated,
            positions=family.positions,
            norm=family.norm,
            parameters=_parameters(config, family, fields),
            dtype=dtype,
            sources=(_source(outer, config, model_type),),
            note=" ".join([*notes, *said]),
            **fields,
        )
    except InputError as error:
        raise InputError(f"{shown}: {str(error).removeprefix(f'model {name}: ')}") from None


def _read(path: Path, shown: str) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise InputError(f"{shown}: is {path.stat().st_size:,} bytes, too large for a model's config.json")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{shown}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InputError(f"{shown}: is not a text file in UTF-8; must be a model's config.json") from None
    if not text.strip():
        raise InputError(f"{shown}: is empty; must be a model's config.json")
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        at = f"line {error.lineno}, column {error.colno}"
        if error.pos >= len(text.rstrip()) - 1 or error.msg.startswith("Unterminated"):
            raise InputError(f"{shown}: ends in the middle of its JSON ({at}): is it cut off?") from None
        raise InputError(f"{shown}: is not JSON: {at}: {error.msg}") from None
    except (RecursionError, ValueError):
        raise InputError(f"{shown}: is not a model's config.json: its JSON cannot be read") from None
    if not isinstance(content, dict):
        raise InputError(f"{shown}: is JSON of a {type(content).__name__}; must be a model's config.json, an object")
    return content


def _text_part(outer: dict[str, Any], shown: str) -> tuple[dict[str, Any], str]:
    """Configuration of the text model, and the model type of the wrapper around it, if there is one."""
    inner = outer.get("text_config")
    return (inner, _model_type(outer, shown)) if isinstance(inner, dict) else (outer, "")


def _model_type(config: Mapping[str, Any], shown: str) -> str:
    """Value of ``model_type``, or, if it is absent, the type of the class in ``architectures``."""
    given = config.get("model_type")
    if isinstance(given, str) and given:
        return given
    if given is not None:
        raise InputError(f"{shown}: model_type: must be a text such as 'llama', got {quoted(given)}")
    for model_type, family in FAMILIES.items():
        if family.language_model in _classes(config):
            return model_type
    keys = ", ".join(list(config)[:6]) or "none"
    raise InputError(f"{shown}: has no model_type: is not a model's config.json (its keys: {quoted(keys)})")


def _classes(config: Mapping[str, Any]) -> list[str]:
    given = config.get("architectures")
    return [str(each) for each in given] if isinstance(given, list) else []


def _check_class(config: Mapping[str, Any], family: Family, shown: str) -> None:
    """Refuse a class of another kind, such as one that classifies, ranks or embeds."""
    given = _classes(config)
    if given and family.language_model not in given:
        raise InputError(
            f"{shown}: architectures: must be {family.language_model}, which generates text, "
            f"got {quoted(', '.join(given))}"
        )


def _not_understood(config: Mapping[str, Any], model_type: str, windows: bool = True) -> list[str]:
    """Properties of a configuration that ``ModelArchitecture`` does not describe, each with its field."""
    layer_types = config.get("layer_types")
    kinds = {str(kind) for kind in layer_types} if isinstance(layer_types, list) else set()
    reasons: dict[str, str] = {}
    for what, fields in _UNSUPPORTED.items():
        least = 2 if what == _EXPERTS else 1
        given = [(field, config[field]) for field in fields if config.get(field)]
        stated = next((f"{k}: {_short(v)}" for k, v in given if not isinstance(v, int) or v >= least), "")
        if not stated and what == _LINEAR and "linear_attention" in kinds:
            stated = "layer_types"
        if stated:
            reasons[what] = f"{what} ({stated})"
    if windows and (window := _window(config, model_type, kinds)):
        reasons[_WINDOW_IN_SOME] = window
    others = kinds - {"full_attention", "sliding_attention", "linear_attention"}
    if others:
        reasons["others"] = f"layers of the kind {', '.join(sorted(others))} (layer_types)"
    by_type = _BY_TYPE.get(model_type, "")
    if by_type and by_type not in reasons and (by_type != _WINDOW_IN_SOME or windows):
        reasons[by_type] = f"{by_type} (model_type: {model_type})"
    if model_type not in FAMILIES and "vision_config" in config and "text_config" not in config:
        reasons["pictures"] = "pictures beside text, without a text_config"
    return list(reasons.values())


def _window(config: Mapping[str, Any], model_type: str, kinds: set[str]) -> str:
    """Reason if a sliding window limits attention; empty if none does, such as one as long as the context."""
    window, switch = config.get("sliding_window"), config.get("use_sliding_window")
    needs_switch = model_type in FAMILIES and FAMILIES[model_type].window_is_switched
    context = next((config[name] for name in _CONTEXT if _is_whole(config.get(name))), None)
    if switch is False or (needs_switch and not switch) or kinds == {"full_attention"}:
        return ""
    if (_is_whole(window) and context is not None and window >= context) or not (
        window or "sliding_attention" in kinds
    ):
        return ""
    some = "sliding_attention" in kinds or model_type in _BY_TYPE or bool(switch)
    return f"{_WINDOW_IN_SOME if some else 'sliding window'} (sliding_window: {_short(window)})"


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _short(value: Any) -> str:
    if isinstance(value, str) and len(value) < 30:
        return value
    return json.dumps(value) if value is None or isinstance(value, bool | int | float) else "given"


def _value(config: Mapping[str, Any], names: tuple[str, ...], shown: str) -> tuple[str, Any]:
    """Pair (name, value) of a field under any of its spellings; the value is None if it is absent or null."""
    given = [(name, config[name]) for name in names if config.get(name) is not None]
    if len({json.dumps(value) for _, value in given}) > 1:
        both = ", ".join(f"{name}: {_short(value)}" for name, value in given)
        raise InputError(f"{shown}: {both}: are names of the same, and differ")
    return given[0] if given else (names[0], None)


def _whole(config: Mapping[str, Any], names: tuple[str, ...], shown: str) -> int | None:
    name, value = _value(config, names, shown)
    if value is not None and (not _is_whole(value) or value < 1):
        raise InputError(f"{shown}: {name}: must be a whole number above 0, got {quoted(value)}")
    return None if value is None else int(value)


def _needed(config: Mapping[str, Any], names: tuple[str, ...], shown: str) -> int:
    value = _whole(config, names, shown)
    if value is None:
        raise InputError(f"{shown}: {' or '.join(names)}: is missing")
    return value


def _switch(config: Mapping[str, Any], name: str, default: bool, shown: str) -> bool:
    value = default if config.get(name) is None else config[name]
    if not isinstance(value, bool):
        raise InputError(f"{shown}: {name}: must be true or false, got {quoted(value)}")
    return value


def _shape(config: Mapping[str, Any], outer: Mapping[str, Any], family: Family, shown: str) -> dict[str, Any]:
    """Numeric fields of ``ModelArchitecture`` from the file, and whether embedding and head are tied."""
    hidden = _needed(config, _HIDDEN, shown)
    heads = _needed(config, _HEADS, shown)
    intermediate = _whole(config, _MLP[:1] if family.gated else _MLP, shown)
    if intermediate is None:
        if family.gated or family.language_model == "OPTForCausalLM":
            raise InputError(f"{shown}: {'intermediate_size' if family.gated else 'ffn_dim'}: is missing")
        intermediate = 4 * hidden  # a plain MLP without its size is four times as wide as the model
    if family.needs_window and "sliding_window" not in config and config.get("use_sliding_window") is not False:
        raise InputError(f"{shown}: sliding_window: is missing, which here means one of 4,096 tokens; null is none")
    projected = _whole(config, ("word_embed_proj_dim",), shown)
    if projected is not None and projected != hidden:
        raise InputError(
            f"{shown}: is not understood: embedding of another size than the layers (word_embed_proj_dim: {projected})"
        )
    tied_in = config if config.get("tie_word_embeddings") is not None else outer
    return {
        "layers": _needed(config, _LAYERS, shown),
        "hidden_size": hidden,
        "heads": heads,
        "kv_heads": _kv_heads(config, family, heads, shown),
        "head_dim": _head_dim(config, family, hidden, heads, shown),
        "intermediate_size": intermediate,
        "vocab_size": _needed(config, ("vocab_size",), shown),
        "trained_context_tokens": _needed(config, _CONTEXT, shown),
        "tied_embeddings": _switch(tied_in, "tie_word_embeddings", family.tied, shown),
    }


def _kv_heads(config: Mapping[str, Any], family: Family, heads: int, shown: str) -> int:
    if family.kv_heads == "multi_query":
        return 1 if _switch(config, "multi_query", True, shown) else heads
    given = _whole(config, ("num_key_value_heads",), shown)
    if given is None and family.kv_heads != "heads" and "num_key_value_heads" not in config:
        raise InputError(f"{shown}: num_key_value_heads: is missing: the KV cache depends on it")
    return given or heads


def _head_dim(config: Mapping[str, Any], family: Family, hidden: int, heads: int, shown: str) -> int:
    given = _whole(config, ("head_dim",), shown)
    if given is not None:
        return given
    if family.needs_head_dim:
        raise InputError(f"{shown}: head_dim: is missing: this family's is not the hidden size over the heads")
    if hidden % heads:
        raise InputError(
            f"{shown}: head_dim: is missing, and the hidden size of {hidden} is no multiple of the {heads} heads"
        )
    return hidden // heads


def _parameters(config: Mapping[str, Any], family: Family, fields: Mapping[str, Any]) -> float:
    """Parameters of the model: matrices, learned positions, norms and biases.

    A layer has two norms, and there is one at the end; BLOOM has one more after the embedding, and Qwen3 one of a
    head's queries and one of its keys. A layer norm has a weight and a bias, an RMS norm a weight.
    """
    hidden, layers, head_dim = fields["hidden_size"], fields["layers"], fields["head_dim"]
    embedding = fields["vocab_size"] * hidden * (1 if fields["tied_embeddings"] else 2)
    if family.positions == "learned":
        embedding += (fields["trained_context_tokens"] + family.extra_positions) * hidden
    attention = 2 * hidden * (fields["heads"] + fields["kv_heads"]) * head_dim
    biases = "all" if config.get("attention_bias") else family.biases
    if biases != "none":
        attention += (fields["heads"] + 2 * fields["kv_heads"]) * head_dim + (hidden if biases == "all" else 0)
    inputs = 2 if family.gated else 1
    mlp = (inputs + 1) * hidden * fields["intermediate_size"]
    if config.get("mlp_bias") or family.mlp_bias:
        mlp += inputs * fields["intermediate_size"] + hidden
    norm = hidden * (2 if family.norm == "layer" else 1)
    layer = attention + mlp + 2 * norm + (2 * head_dim if family.qk_norm else 0)
    return float(embedding + layers * layer + norm * (2 if family.embedding_norm else 1))


_SIXTEEN_BITS: Final = ("float16", "bfloat16")
_IN_SIXTEEN_BITS: Final = ("lm_head", "embed", "norm", "vision", "visual", "multi_modal", "mm_projector")


def _number_type(config: Mapping[str, Any], outer: Mapping[str, Any], shown: str) -> tuple[NumberType, list[str]]:
    quantization = config.get("quantization_config") or outer.get("quantization_config")
    if quantization:
        return _quantized(quantization, shown)
    stated = config if config.get("dtype") or config.get("torch_dtype") else outer
    _, given = _value(stated, ("dtype", "torch_dtype"), shown)
    stored = str(given).removeprefix("torch.") if given is not None else ""
    if not stored:
        return "bf16", ["The file states no number type: 16 bits."]
    if stored == "float32":
        return "bf16", ["Stored in 32 bits; described as served in 16, which is what vLLM makes of it."]
    if stored not in _SIXTEEN_BITS:
        raise InputError(f"{shown}: dtype: must be {', '.join(_SIXTEEN_BITS)} or float32, got {quoted(given)}")
    return "bf16", []


def _quantized(given: Any, shown: str) -> tuple[NumberType, list[str]]:
    """Number type of a quantized model: FP8 of weights and inputs of all layers; others are refused by name."""
    where = f"{shown}: quantization_config"
    if not isinstance(given, dict):
        raise InputError(f"{where}: must be an object, got {quoted(given)}")
    method = str(given.get("quant_method") or "")
    what = _method_title(given, method)
    if not _is_fp8(given, method):
        raise InputError(f"{where}: {what} is not understood; known are 16 bits, and FP8 of weights and their inputs")
    kept = [
        str(name)
        for field in ("modules_to_not_convert", "ignored_layers", "ignore")
        if isinstance(given.get(field), list)
        for name in given[field]
        if not any(part in str(name) for part in _IN_SIXTEEN_BITS)
    ]
    if kept:
        raise InputError(
            f"{where}: {what} leaves {len(kept)} modules of the layers in 16 bits, such as {quoted(kept[0])}: layers "
            "in two number types are not understood"
        )
    said = [f"Quantized by {what}."]
    if given.get("kv_cache_scheme") or str(given.get("kv_cache_quant_algo") or "").upper() == "FP8":
        said.append("The file has scales for a KV cache in FP8; it counts as 16 bits unless --kv-dtype says fp8.")
    return "fp8", said


def _method_title(given: Mapping[str, Any], method: str) -> str:
    weights = _weights(given)
    bits = given.get("bits") or given.get("w_bit") or weights.get("num_bits")
    bits = bits or next((k for k, field in ((4, "load_in_4bit"), (8, "load_in_8bit")) if given.get(field)), None)
    kind = given.get("quant_algo") or weights.get("type")
    details = [str(each) for each in (bits and f"{bits} bits", kind) if each]
    if weights and not weights.get("inputs"):
        details.append("of weights alone")
    inside = f" ({', '.join(details)})" if details else ""
    return f"{method or 'a quantization without quant_method'}{inside}"


def _weights(given: Mapping[str, Any]) -> dict[str, Any]:
    """Weights of the first group in a compressed-tensors configuration, and whether inputs are quantized as well."""
    groups = given.get("config_groups")
    listed = groups.values() if isinstance(groups, dict) else ()
    group = next((each for each in listed if isinstance(each, dict)), {})
    weights = group.get("weights")
    return {**weights, "inputs": group.get("input_activations")} if isinstance(weights, dict) else {}


def _is_fp8(given: Mapping[str, Any], method: str) -> bool:
    if method in ("fp8", "fbgemm_fp8"):
        return str(given.get("fmt") or "e4m3") in ("e4m3", "float8_e4m3fn")
    if method == "modelopt":
        return given.get("quant_algo") == "FP8"
    groups = given.get("config_groups")
    if method != "compressed-tensors" or not isinstance(groups, dict) or not groups:
        return False
    schemes = [
        group.get(side) if isinstance(group, dict) else None
        for group in groups.values()
        for side in ("weights", "input_activations")
    ]
    return all(isinstance(x, dict) and (x.get("num_bits"), x.get("type")) == (8, "float") for x in schemes)


def _source(outer: Mapping[str, Any], config: Mapping[str, Any], model_type: str) -> str:
    """Source of the model: its repository if the file names it, and the class."""
    given = outer.get("_name_or_path")
    repository = f"{given} " if isinstance(given, str) and given.count("/") == 1 and given[0] != "/" else ""
    kinds = ", ".join(_classes(outer) or _classes(config)) or model_type
    return f"{repository}config.json of Hugging Face: {kinds}"
