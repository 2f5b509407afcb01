"""Models from their Hugging Face ``config.json``, for architectures that ``ModelArchitecture`` can describe.

Known are families of dense decoders, each with the defaults of absent fields in the transformers library, its biases
and its norms, so that the number of parameters is exact. Other files are refused by their unsupported property.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from provisioner.errors import InputError
from provisioner.files import read_text
from provisioner.specs.model import ModelArchitecture, NumberType
from provisioner.specs.units import json_error, quoted

MAX_CONFIG_BYTES: Final = 4_000_000
"""Largest accepted size of a config.json, in bytes: it is a few pages of text, and a far larger file is a wrong one."""


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
    kv_heads: Literal["needed", "heads", "multi_query"] = "needed"
    needs_head_dim: bool = False
    needs_window: bool = False
    window_is_switched: bool = False
    biases: Literal["none", "qkv", "all"] = "none"
    mlp_bias: bool = False
    qk_norm: bool = False
    embedding_norm: bool = False
    extra_positions: int = 0


_like_gpt2 = partial(Family, norm="layer", gated=False, tied=True, kv_heads="heads", biases="all", mlp_bias=True)

FAMILIES: Final[Mapping[str, Family]] = {
    "bloom": _like_gpt2("BloomForCausalLM", "alibi", embedding_norm=True),
    "gemma": Family("GemmaForCausalLM", tied=True, needs_head_dim=True),
    "gpt2": _like_gpt2("GPT2LMHeadModel", "learned"),
    "gpt_bigcode": _like_gpt2("GPTBigCodeForCausalLM", "learned", kv_heads="multi_query"),
    "llama": Family("LlamaForCausalLM", kv_heads="heads"),
    "mistral": Family("MistralForCausalLM", needs_window=True),
    "opt": _like_gpt2("OPTForCausalLM", "learned", extra_positions=2),
    "phi3": Family("Phi3ForCausalLM", kv_heads="heads"),
    "qwen2": Family("Qwen2ForCausalLM", biases="qkv", window_is_switched=True),
    "qwen3": Family("Qwen3ForCausalLM", needs_head_dim=True, qk_norm=True, window_is_switched=True),
}
"""Supported families. Defaults of absent fields follow the transformers library's configuration classes."""

_CONTEXT: Final = ("max_position_embeddings", "n_positions", "seq_length")
_NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "layers": ("num_hidden_layers", "n_layer"),
    "hidden_size": ("hidden_size", "n_embd", "n_embed"),
    "heads": ("num_attention_heads", "n_head"),
    "vocab_size": ("vocab_size",),
    "trained_context_tokens": _CONTEXT,
}
"""Names in the file of numbers that every model has."""

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
    name = Path(path).stem if name is None else name
    try:
        return _model(_read(Path(path)), name, name if title is None else title)
    except InputError as error:
        raise InputError(f"{path}: {str(error).removeprefix(f'model {name}: ')}") from None


def _model(outer: dict[str, Any], name: str, title: str) -> ModelArchitecture:
    inner = outer.get("text_config")
    config = inner if isinstance(inner, dict) else outer
    part_of = "" if config is outer else _model_type(outer)
    model_type = _model_type(config)
    reasons = _not_understood(config, model_type)
    if part_of:
        reasons += _not_understood(outer, part_of, windows=False)
    known = ", ".join(FAMILIES)
    if reasons:
        raise InputError(f"is not understood: {'; '.join(dict.fromkeys(reasons))} (known are dense decoders: {known})")
    if model_type not in FAMILIES:
        raise InputError(f"model_type: {quoted(model_type)} is not known; known are {known}")
    family = FAMILIES[model_type]
    classes = _classes(config)
    if classes and family.language_model not in classes:  # one that classifies, ranks or embeds
        raise InputError(
            f"architectures: must be {family.language_model}, which generates text, got {quoted(', '.join(classes))}"
        )
    shape = _shape(config, outer, family)
    dtype, note = _number_type(config, outer)
    scaling = _object(config.get("rope_scaling"))
    if scaling.get("factor"):
        kind = f"{scaling.get('rope_type') or scaling.get('type') or 'scaled'}, factor {_short(scaling['factor'])}"
        note = f"Its positions are scaled ({kind}); the context is the file's own number. {note}"
    if part_of:
        note = f"The text part of {part_of}; weights and time of its other parts are not in it. {note}"
    given = outer.get("_name_or_path")
    repository = f"{given} " if isinstance(given, str) and given.count("/") == 1 and given[0] != "/" else ""
    return ModelArchitecture(
        name=name,
        title=title,
        gated_mlp=family.gated,
        positions=family.positions,
        norm=family.norm,
        parameters=_parameters(config, family, shape),
        dtype=dtype,
        sources=(f"{repository}config.json of Hugging Face: {', '.join(_classes(outer) or classes) or model_type}",),
        note=note.strip(),
        **shape,
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        text = read_text(path, MAX_CONFIG_BYTES)
        if not text.strip():
            raise InputError("is empty; must be a model's config.json")
        content = json.loads(text)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InputError("is not a text file in UTF-8; must be a model's config.json") from None
    except json.JSONDecodeError as error:
        raise InputError(json_error(error)) from None
    except (RecursionError, ValueError):
        raise InputError("is not a model's config.json: its JSON cannot be read") from None
    if not isinstance(content, dict):
        raise InputError(f"is JSON of a {type(content).__name__}; must be a model's config.json, an object")
    return content


def _object(value: Any) -> dict[str, Any]:
    """A JSON object, empty in place of anything else."""
    return value if isinstance(value, dict) else {}


def _model_type(config: Mapping[str, Any]) -> str:
    """Value of ``model_type``, or, if it is absent, the type of the class in ``architectures``."""
    given = config.get("model_type")
    if isinstance(given, str) and given:
        return given
    if given is not None:
        raise InputError(f"model_type: must be a text such as 'llama', got {quoted(given)}")
    for model_type, family in FAMILIES.items():
        if family.language_model in _classes(config):
            return model_type
    keys = ", ".join(list(config)[:6]) or "none"
    raise InputError(f"has no model_type: is not a model's config.json (its keys: {quoted(keys)})")


def _classes(config: Mapping[str, Any]) -> list[str]:
    given = config.get("architectures")
    return [str(each) for each in given] if isinstance(given, list) else []


def _not_understood(config: Mapping[str, Any], model_type: str, windows: bool = True) -> list[str]:
    """Properties of a configuration that ``ModelArchitecture`` does not describe, each with its field."""
    layer_types = config.get("layer_types")
    kinds = {str(kind) for kind in layer_types} if isinstance(layer_types, list) else set()
    stated: dict[str, str] = {}
    for what, fields in _UNSUPPORTED.items():
        least = 2 if what == _EXPERTS else 1
        given = ((field, config.get(field)) for field in fields)
        values = (f"{k}: {_short(v)}" for k, v in given if v and (not isinstance(v, int) or v >= least))
        if reason := next(values, "layer_types" if what == _LINEAR and "linear_attention" in kinds else ""):
            stated[what] = reason
    if windows:
        stated |= _window(config, model_type, kinds)
    if others := kinds - {"full_attention", "sliding_attention", "linear_attention"}:
        stated[f"layers of the kind {', '.join(sorted(others))}"] = "layer_types"
    by_type = _BY_TYPE.get(model_type)
    if by_type and (windows or by_type != _WINDOW_IN_SOME):
        stated.setdefault(by_type, f"model_type: {model_type}")
    reasons = [f"{what} ({field})" for what, field in stated.items()]
    if model_type not in FAMILIES and "vision_config" in config and "text_config" not in config:
        reasons.append("pictures beside text, without a text_config")
    return reasons


def _window(config: Mapping[str, Any], model_type: str, kinds: set[str]) -> dict[str, str]:
    """A sliding window that limits attention, with its field; empty without one, or if it is as long as the context."""
    window, switch = config.get("sliding_window"), config.get("use_sliding_window")
    needs_switch = model_type in FAMILIES and FAMILIES[model_type].window_is_switched
    if switch is False or (needs_switch and not switch) or kinds == {"full_attention"}:
        return {}
    context = next((config[name] for name in _CONTEXT if _is_whole(config.get(name))), None)
    slides = "sliding_attention" in kinds
    if not (window or slides) or (_is_whole(window) and context is not None and window >= context):
        return {}
    some = slides or model_type in _BY_TYPE or bool(switch)
    return {_WINDOW_IN_SOME if some else "sliding window": f"sliding_window: {_short(window)}"}


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _short(value: Any) -> str:
    if isinstance(value, str) and len(value) < 30:
        return value
    return json.dumps(value) if value is None or isinstance(value, bool | int | float) else "given"


def _value(config: Mapping[str, Any], *names: str) -> tuple[str, Any]:
    """Pair (name, value) of a field under any of its spellings; the value is None if it is absent or null."""
    given = [(name, config[name]) for name in names if config.get(name) is not None]
    if len({json.dumps(value) for _, value in given}) > 1:
        both = ", ".join(f"{name}: {_short(value)}" for name, value in given)
        raise InputError(f"{both}: are names of the same, and differ")
    return given[0] if given else (names[0], None)


def _whole(config: Mapping[str, Any], *names: str) -> int | None:
    name, value = _value(config, *names)
    if value is not None and (not _is_whole(value) or value < 1):
        raise InputError(f"{name}: must be a whole number above 0, got {quoted(value)}")
    return None if value is None else int(value)


def _switch(config: Mapping[str, Any], name: str, default: bool) -> bool:
    value = default if config.get(name) is None else config[name]
    if not isinstance(value, bool):
        raise InputError(f"{name}: must be true or false, got {quoted(value)}")
    return value


def _shape(config: Mapping[str, Any], outer: Mapping[str, Any], family: Family) -> dict[str, Any]:
    """Numeric fields of ``ModelArchitecture`` from the file, and whether embedding and head are tied."""
    shape: dict[str, Any] = {}
    for field, names in _NEEDED.items():
        shape[field] = _whole(config, *names)
        if shape[field] is None:
            raise InputError(f"{' or '.join(names)}: is missing")
    hidden, heads = shape["hidden_size"], shape["heads"]
    intermediate = _whole(config, *(_MLP[:1] if family.gated else _MLP))
    if intermediate is None and (family.gated or family.language_model == "OPTForCausalLM"):
        raise InputError(f"{'intermediate_size' if family.gated else 'ffn_dim'}: is missing")
    if family.needs_window and "sliding_window" not in config and config.get("use_sliding_window") is not False:
        raise InputError("sliding_window: is missing, which here means one of 4,096 tokens; null is none")
    projected = _whole(config, "word_embed_proj_dim")
    if projected not in (None, hidden):
        raise InputError(
            f"is not understood: embedding of another size than the layers (word_embed_proj_dim: {projected})"
        )
    head_dim = _whole(config, "head_dim")
    if head_dim is None and family.needs_head_dim:
        raise InputError("head_dim: is missing: this family's is not the hidden size over the heads")
    if head_dim is None and hidden % heads:
        raise InputError(f"head_dim: is missing, and the hidden size of {hidden} is no multiple of the {heads} heads")
    kv_heads = _whole(config, "num_key_value_heads")
    if family.kv_heads == "multi_query":
        kv_heads = 1 if _switch(config, "multi_query", True) else heads
    elif family.kv_heads == "needed" and "num_key_value_heads" not in config:
        raise InputError("num_key_value_heads: is missing: the KV cache depends on it")
    tied_in = config if config.get("tie_word_embeddings") is not None else outer
    return shape | {
        "kv_heads": kv_heads or heads,
        "head_dim": head_dim or hidden // heads,
        "intermediate_size": intermediate or 4 * hidden,  # of a plain MLP without its size
        "tied_embeddings": _switch(tied_in, "tie_word_embeddings", family.tied),
    }


def _parameters(config: Mapping[str, Any], family: Family, shape: Mapping[str, Any]) -> float:
    """Parameters of the model: matrices, learned positions, norms and biases.

    A layer has two norms, and there is one at the end; BLOOM has one more after the embedding, and Qwen3 one of a
    head's queries and one of its keys. A layer norm has a weight and a bias, an RMS norm a weight.
    """
    hidden, layers, head_dim = shape["hidden_size"], shape["layers"], shape["head_dim"]
    embedding = shape["vocab_size"] * hidden * (1 if shape["tied_embeddings"] else 2)
    if family.positions == "learned":
        embedding += (shape["trained_context_tokens"] + family.extra_positions) * hidden
    attention = 2 * hidden * (shape["heads"] + shape["kv_heads"]) * head_dim
    biases = "all" if config.get("attention_bias") else family.biases
    if biases != "none":
        attention += (shape["heads"] + 2 * shape["kv_heads"]) * head_dim + (hidden if biases == "all" else 0)
    inputs = 2 if family.gated else 1
    mlp = (inputs + 1) * hidden * shape["intermediate_size"]
    if config.get("mlp_bias") or family.mlp_bias:
        mlp += inputs * shape["intermediate_size"] + hidden
    norm = hidden * (2 if family.norm == "layer" else 1)
    layer = attention + mlp + 2 * norm + (2 * head_dim if family.qk_norm else 0)
    return float(embedding + layers * layer + norm * (2 if family.embedding_norm else 1))


_SIXTEEN_BITS: Final = ("float16", "bfloat16")
_IN_SIXTEEN_BITS: Final = ("lm_head", "embed", "norm", "vision", "visual", "multi_modal", "mm_projector")


def _number_type(config: Mapping[str, Any], outer: Mapping[str, Any]) -> tuple[NumberType, str]:
    """Number type of the layers, and a note on it."""
    quantization = config.get("quantization_config") or outer.get("quantization_config")
    if quantization:
        return "fp8", _quantized(quantization)
    stated = config if config.get("dtype") or config.get("torch_dtype") else outer
    _, given = _value(stated, "dtype", "torch_dtype")
    stored = "" if given is None else str(given).removeprefix("torch.")
    notes = {
        **dict.fromkeys(_SIXTEEN_BITS, ""),
        "": "The file states no number type: 16 bits.",
        "float32": "Stored in 32 bits; described as served in 16, which is what vLLM makes of it.",
    }
    if stored not in notes:
        raise InputError(f"dtype: must be {', '.join(_SIXTEEN_BITS)} or float32, got {quoted(given)}")
    return "bf16", notes[stored]


def _quantized(given: Any) -> str:
    """Note on a model in FP8, weights and inputs of all layers; other quantizations are refused by name."""
    where = "quantization_config"
    if not isinstance(given, dict):
        raise InputError(f"{where}: must be an object, got {quoted(given)}")
    method = str(given.get("quant_method") or "")
    groups = map(_object, _object(given.get("config_groups")).values())
    schemes = [(_object(group.get("weights")), _object(group.get("input_activations"))) for group in groups]
    title = _method_title(given, method, *(schemes[0] if schemes else ({}, {})))
    plain = str(given.get("fmt") or "e4m3") in ("e4m3", "float8_e4m3fn")
    sides = [(side.get("num_bits"), side.get("type")) for scheme in schemes for side in scheme]
    is_fp8 = {
        "fp8": plain,
        "fbgemm_fp8": plain,
        "modelopt": given.get("quant_algo") == "FP8",
        "compressed-tensors": set(sides) == {(8, "float")},
    }
    if not is_fp8.get(method):
        raise InputError(f"{where}: {title} is not understood; known are 16 bits, and FP8 of weights and their inputs")
    kept = [
        str(name)
        for field in ("modules_to_not_convert", "ignored_layers", "ignore")
        if isinstance(given.get(field), list)
        for name in given[field]
        if not any(part in str(name) for part in _IN_SIXTEEN_BITS)
    ]
    if kept:
        raise InputError(
            f"{where}: {title} leaves {len(kept)} modules of the layers in 16 bits, such as {quoted(kept[0])}: layers "
            "in two number types are not understood"
        )
    said = f"Quantized by {title}."
    if given.get("kv_cache_scheme") or str(given.get("kv_cache_quant_algo") or "").upper() == "FP8":
        said += " The file has scales for a KV cache in FP8; it counts as 16 bits unless --kv-dtype says fp8."
    return said


def _method_title(given: Mapping[str, Any], method: str, weights: Mapping[str, Any], inputs: Mapping[str, Any]) -> str:
    bits = given.get("bits") or given.get("w_bit") or weights.get("num_bits")
    bits = bits or next((k for k, field in ((4, "load_in_4bit"), (8, "load_in_8bit")) if given.get(field)), None)
    kind = given.get("quant_algo") or weights.get("type")
    details = [bits and f"{bits} bits", kind, weights and not inputs and "of weights alone"]
    inside = ", ".join(str(each) for each in details if each)
    return (method or "a quantization without quant_method") + (f" ({inside})" if inside else "")
