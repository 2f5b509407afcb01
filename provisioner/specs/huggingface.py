"""Models from their Hugging Face ``config.json``, for architectures that ``ModelArchitecture`` can describe.

Known are families of dense decoders, each with the defaults of absent fields in the transformers library, its biases
and its norms, so that the number of parameters is exact. Other files are refused by their unsupported property.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from provisioner.errors import InputError
from provisioner.files import read_text
from provisioner.specs.catalog import architectures
from provisioner.specs.model import ModelArchitecture
from provisioner.specs.quantization import BESIDE, as_object, quantized
from provisioner.specs.units import json_error, quoted

MAX_CONFIG_BYTES: Final = 4_000_000  # a config.json is a few pages of text; a far larger file is a wrong one


@dataclass(frozen=True, slots=True)
class Family:
    """A ``model_type``: the class of its language model, its shape, and the defaults of absent fields.

    ``needs`` are fields without which a file is refused, because the library's default is one certain model's number.
    ``biases`` are those of attention: none, of queries, keys and values, or of the output as well; ``bias_fields`` say
    what a true field stands for. ``norms`` are those of a layer over the hidden size, ``qk_norm`` those of queries and
    keys: of a head, or of all. ``extra_positions`` are rows of learned positions beyond the context. With
    ``window_is_switched`` a window counts only with ``use_sliding_window``. ``detail`` says what a plan leaves out.
    """

    class_name: str
    needs: Sequence[str] = ()
    positions: str = "rotary"
    norm: str = "rms"
    norms: int = 2
    gated: bool = True
    tied: bool = False
    multi_query: bool = False
    window_is_switched: bool = False
    biases: Literal["none", "qkv", "all"] = "none"
    bias_fields: Mapping[str, str] = field(default_factory=lambda: {"attention_bias": "all"})
    mlp_bias: bool = False
    qk_norm: Literal["", "head", "all"] = ""
    embedding_norm: bool = False
    extra_positions: int = 0
    detail: str = ""


_TABLES: Final = architectures()
FAMILIES: Final[Mapping[str, Family]] = {name: Family(**row) for name, row in _TABLES["families"].items()}
"""Supported families by ``model_type``; that of a text part may end in ``_text``."""

_QUANTIZATION: Final = "quantization_config"
_EMBEDS: Final = ("modules.json", "config_sentence_transformers.json")  # of a model that embeds texts, beside it
_NEEDED: Final[Mapping[str, Sequence[str]]] = _TABLES["numbers"]
_MLP: Final = ("intermediate_size", "ffn_dim", "n_inner")
_WINDOW_IN_SOME: Final = "sliding window in some layers"
_UNSUPPORTED: Final[Mapping[str, Sequence[str]]] = _TABLES["unsupported"]
_BY_TYPE: Final[Mapping[str, str]] = {name: what for what, names in _TABLES["by_type"].items() for name in names}


def read_config(path: str | Path, name: str | None = None, title: str | None = None) -> ModelArchitecture:
    """Model of a ``config.json``, with the given name or the file's.

    ``note`` lists properties that were left out or taken from the family. Raises ``InputError`` in one line for a file
    that cannot be read, is no model's configuration, lacks a required field, or has an unsupported property.
    """
    path = Path(path)
    name = path.stem if name is None else name
    try:
        config = _read(path)
        for beside in (path.with_name(file) for file in (*BESIDE, *_EMBEDS) if path.name == "config.json"):
            if beside.is_file() and not (beside.name in BESIDE and config.get(_QUANTIZATION)):
                config[beside.name] = _beside(beside) if beside.name in BESIDE else True
        return _model(config, name, name if title is None else title)
    except InputError as error:
        raise InputError(f"{path}: {str(error).removeprefix(f'model {name}: ')}") from None


def _model(outer: dict[str, Any], name: str, title: str) -> ModelArchitecture:
    config = next((inner for key in ("text_config", "llm_config") if (inner := as_object(outer.get(key)))), outer)
    part_of = "" if config is outer and "vision_config" not in outer else _model_type(outer)
    model_type = _model_type(config)
    model_type = text if (text := model_type.removesuffix("_text")) in FAMILIES else model_type
    reasons = _not_understood(config, model_type) + (_not_understood(outer, part_of, False) if part_of else [])
    known = ", ".join(FAMILIES)
    if reasons:
        raise InputError(f"is not understood: {'; '.join(dict.fromkeys(reasons))} (known are dense decoders: {known})")
    if model_type not in FAMILIES:
        raise InputError(f"model_type: {quoted(model_type)} is not known; known are {known}")
    family = FAMILIES[model_type]
    classes, class_name = _classes(config), family.class_name
    embedder = re.sub("ForCausalLM|LMHeadModel|ForConditionalGeneration", "Model", class_name)
    embeds = embedder in classes or any(file in outer for file in _EMBEDS)
    if classes and not {class_name, embedder}.intersection(classes):  # one that classifies or ranks
        raise InputError(f"architectures: must be {class_name}, which generates text, got {quoted(', '.join(classes))}")
    shape = _shape(config, outer, family)
    shape["tied_embeddings"] |= embeds
    number_types, note = _number_types(config, outer, shape, family.gated)
    scaling = as_object(config.get("rope_scaling") or config.get("rope_parameters"))
    kind = f"{scaling.get('rope_type') or scaling.get('type') or 'scaled'}, factor {_short(scaling.get('factor'))}"
    notes = (
        "It embeds texts: no output head is counted." if embeds else "",
        f"The text part of {part_of}; weights and time of its other parts are not in it." if part_of else "",
        f"Its positions are scaled ({kind}); the context is the file's own number." if scaling.get("factor") else "",
        family.detail,
        note,
    )
    given = outer.get("_name_or_path")
    repository = f"{given} " if isinstance(given, str) and given.count("/") == 1 and given[0] != "/" else ""
    return ModelArchitecture(
        name=name,
        title=title,
        gated_mlp=family.gated,
        positions=family.positions,
        norm=family.norm,
        parameters=_parameters(config, family, shape),
        sources=(f"{repository}config.json of Hugging Face: {', '.join(_classes(outer) or classes) or model_type}",),
        note=" ".join(filter(None, notes)),
        **shape,
        **number_types,
    )


def _read(path: Path) -> dict[str, Any]:
    text = read_text(path, MAX_CONFIG_BYTES, shown="")
    if not text.strip():
        raise InputError("is empty; must be a model's config.json")
    try:
        content = json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < 18 else float(digits))
    except json.JSONDecodeError as error:
        raise InputError(json_error(error)) from None
    except (RecursionError, ValueError):
        raise InputError("is not a model's config.json: its JSON cannot be read") from None
    if not isinstance(content, dict):
        raise InputError(f"is JSON of a {type(content).__name__}; must be a model's config.json, an object")
    return content


def _beside(path: Path) -> dict[str, Any]:
    try:
        return _read(path)
    except InputError as error:
        raise InputError(f"{path.name} beside it: {str(error).split('; must be')[0]}") from None


def _model_type(config: Mapping[str, Any]) -> str:
    """Value of ``model_type``, or, if it is absent, the type of the class in ``architectures``."""
    given = config.get("model_type")
    if isinstance(given, str) and given:
        return given
    if given is not None:
        raise InputError(f"model_type: must be a text such as 'llama', got {quoted(given)}")
    for model_type, family in FAMILIES.items():
        if family.class_name in _classes(config):
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
        least = 2 if what == "mixture of experts" else 1
        given = ((name, config.get(name)) for name in fields)
        values = (f"{k}: {_short(v)}" for k, v in given if v and (not isinstance(v, int) or v >= least))
        if reason := next(values, "layer_types" if what == "linear attention" and "linear_attention" in kinds else ""):
            stated[what] = reason
    if config.get("is_causal") is False:
        stated["attention in both directions"] = "is_causal: false"
    if windows:
        stated |= _window(config, model_type, kinds)
    if others := kinds - {"full_attention", "sliding_attention", "linear_attention"}:
        stated[f"layers of the kind {', '.join(sorted(others))}"] = "layer_types"
    by_type = _BY_TYPE.get(model_type)
    if by_type and (windows or by_type != _WINDOW_IN_SOME):
        stated.setdefault(by_type, f"model_type: {model_type}")
    reasons = [f"{what} ({where})" for what, where in stated.items()]
    if model_type not in FAMILIES and "vision_config" in config and not {"text_config", "llm_config"} & config.keys():
        reasons.append("pictures beside text, without a text_config")
    return reasons


def _window(config: Mapping[str, Any], model_type: str, kinds: set[str]) -> dict[str, str]:
    """A sliding window that limits attention, with its field; empty without one, or if it is as long as the context."""
    window, switch = config.get("sliding_window"), config.get("use_sliding_window")
    needs_switch = model_type in FAMILIES and FAMILIES[model_type].window_is_switched
    if switch is False or (needs_switch and not switch) or kinds == {"full_attention"}:
        return {}
    context = next((config[name] for name in _NEEDED["trained_context_tokens"] if _is_whole(config.get(name))), None)
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
    for number, names in _NEEDED.items():
        shape[number] = _whole(config, *names)
        if shape[number] is None:
            raise InputError(f"{' or '.join(names)}: is missing")
    hidden, heads = shape["hidden_size"], shape["heads"]
    intermediate = _whole(config, *(_MLP[:1] if family.gated else _MLP))
    for need in (*family.needs, *_MLP[: family.gated]):
        null_is_none = need in ("num_key_value_heads", "sliding_window")
        unused = need == "sliding_window" and config.get("use_sliding_window") is False
        if not unused and (need not in config if null_is_none else config.get(need) is None):
            raise InputError(f"{need}: is missing; the library's default is that of one certain model")
    projected = _whole(config, "word_embed_proj_dim")
    if projected not in (None, hidden):
        raise InputError(f"is not understood: embedding unlike the layers' (word_embed_proj_dim: {projected})")
    head_dim = _whole(config, "head_dim")
    if head_dim is None and hidden % heads:
        raise InputError(f"head_dim: is missing, and the hidden size of {hidden} is no multiple of the {heads} heads")
    kv_heads = _whole(config, "num_key_value_heads")
    if family.multi_query:
        kv_heads = 1 if _switch(config, "multi_query", True) else heads
    tied_in = config if config.get("tie_word_embeddings") is not None else outer
    return shape | {
        "kv_heads": kv_heads or heads,
        "head_dim": head_dim or hidden // heads,
        "intermediate_size": intermediate or 4 * hidden,  # of a plain MLP without its size
        "tied_embeddings": _switch(tied_in, "tie_word_embeddings", family.tied),
    }


def _parameters(config: Mapping[str, Any], family: Family, shape: Mapping[str, Any]) -> float:
    """Parameters of the model: matrices, learned positions, norms and biases.

    There is a norm at the end, and BLOOM has one more after the embedding. A layer norm has a weight and a bias, an RMS
    norm a weight.
    """
    hidden, layers, head_dim = shape["hidden_size"], shape["layers"], shape["head_dim"]
    embedding = shape["vocab_size"] * hidden * (1 if shape["tied_embeddings"] else 2)
    if family.positions == "learned":
        embedding += (shape["trained_context_tokens"] + family.extra_positions) * hidden
    attention = 2 * hidden * (shape["heads"] + shape["kv_heads"]) * head_dim
    biases = next((biases for name, biases in family.bias_fields.items() if config.get(name)), family.biases)
    if biases != "none":
        attention += (shape["heads"] + 2 * shape["kv_heads"]) * head_dim + (hidden if biases == "all" else 0)
    inputs = 2 if family.gated else 1
    mlp = (inputs + 1) * hidden * shape["intermediate_size"]
    if config.get("mlp_bias") or family.mlp_bias:
        mlp += inputs * shape["intermediate_size"] + hidden
    norm = hidden * (2 if family.norm == "layer" else 1)
    normed_heads = {"": 0, "head": 2, "all": shape["heads"] + shape["kv_heads"]}
    qk_norm = "all" if config.get("qk_layernorm") else family.qk_norm
    layer = attention + mlp + family.norms * norm + normed_heads[qk_norm] * head_dim
    return float(embedding + layers * layer + norm * (2 if family.embedding_norm else 1))


def _number_types(
    config: Mapping[str, Any], outer: Mapping[str, Any], shape: Mapping[str, Any], gated: bool
) -> tuple[dict[str, Any], str]:
    """Number types of layers and KV cache as fields of ``ModelArchitecture``, and a note on them."""
    for where in (_QUANTIZATION, *BESIDE):
        if given := config.get(where) or outer.get(where):
            return quantized(given, shape, gated, where)
    stated = config if config.get("dtype") or config.get("torch_dtype") else outer
    _, given = _value(stated, "dtype", "torch_dtype")
    stored = "" if given is None else str(given).removeprefix("torch.")
    if stored not in ("", "float16", "bfloat16", "float32"):
        raise InputError(f"dtype: must be float16, bfloat16 or float32, got {quoted(given)}")
    in_32_bits = "Stored in 32 bits; described as served in 16, which is what vLLM makes of it."
    return {}, {"": "The file states no number type: 16 bits.", "float32": in_32_bits}.get(stored, "")
