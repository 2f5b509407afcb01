"""Quantizations of a model's layers, in the forms of ``config.json`` and of the files that exports put beside it."""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from provisioner.errors import InputError
from provisioner.specs.catalog import architectures
from provisioner.specs.model import DTYPE_BYTES, ON_SOME_GPUS
from provisioner.specs.units import quoted

BESIDE: Final = {"hf_quant_config.json": "modelopt", "quantize_config.json": "gptq", "quant_config.json": "awq"}
"""Files beside ``config.json`` that state a quantization, with the method of one that names none."""

MOST_NAMES: Final = 2000  # of modules in 16 bits: a hostile file could take minutes
_FORMATS: Final[Mapping[str, Mapping[str, Any]]] = architectures()["quantizations"]
_KNOWN: Final[Mapping[str, str]] = {name: dtype for dtype, row in _FORMATS.items() for name in row["names"]}
_TREES: Final = ("model", "language_model.model", "model.language_model")
_OUTSIDE: Final = ("lm_head", "embed", "norm", "vision", "visual", "multi_modal", "mm_projector", "router", "mtp")
_Part = tuple[str | None, dict[str, Any] | None]  # a name, None for all others; a quantization, None for 16 bits
_KEPT: Final = ("exclude_modules", "modules_to_not_convert", "ignored_layers", "ignore")


def as_object(value: Any) -> dict[str, Any]:
    """A JSON object, empty in place of anything else."""
    return value if isinstance(value, dict) else {}


def quantized(given: Any, shape: Mapping[str, Any], gated: bool, where: str) -> tuple[dict[str, Any], str]:
    """Fields of ``ModelArchitecture`` that a quantization sets, and a note on it; an unknown one is refused by name.

    ``where`` is its field in ``config.json``, or its file, one of ``BESIDE``; ``shape`` has the model's numbers. Scales
    of whole channels, matrices or blocks of 128 x 128 are not counted: they are below 0.1 %. Layers in several number
    types have the mean bytes of all, and count as the one that most are in, of those without latency data if any.
    """
    if not isinstance(given, dict):
        raise InputError(f"{where}: must be an object, got {quoted(given)}")
    given = given | as_object(given.get("quantization"))
    method = str(given.get("quant_method") or ("modelopt" if given.get("quant_algo") else BESIDE.get(where, "")))
    kept = [(str(name), None) for field in _KEPT if isinstance(given.get(field), list) for name in given[field]]
    named = [(name, None if part is None else _kind(part, method, where)) for name, part in _parts(given, method)]
    parts = [*kept, *named]
    title = _title(given, method)
    where = f"{where}: {title}"
    patterns = sum(name.startswith("re:") or "*" in name[:-1] for name, _ in parts if name)
    if len(parts) > MOST_NAMES or patterns > MOST_NAMES / 20:
        raise InputError(f"{where} names more than {MOST_NAMES:,} modules, or {MOST_NAMES // 20} patterns")
    sizes = _matrices(shape, gated)
    weights = Counter({kind: 0 for _, kind in parts if kind})
    left = set(sizes)
    for pattern, kind in parts:
        chosen = left if pattern is None else set(filter(_matcher(pattern, where), sizes))
        if pattern is not None and not chosen and (kind or not any(name in pattern for name in _OUTSIDE)):
            how = "quantizes" if kind else "leaves in 16 bits"
            raise InputError(f"{where} {how} a module that is not known, {quoted(pattern)}")
        if kind:
            weights[kind] += sum(sizes[names] for names in chosen & left)
        left = left - chosen
    every, narrow = sum(sizes.values()), sum(weights.values())
    share = 1.0 - narrow / every
    dtype, size = max(weights, key=lambda each: (each[0] not in DTYPE_BYTES, weights[each]))
    if narrow:
        size = sum(of * count for (_, of), count in weights.items()) / narrow
    several = ", ".join(f"{count / every:.1%} in {name}" for (name, _), count in weights.items())
    note = f"Quantized by {title}." + (f" Of the layers' weights {several}." if len(weights) > 1 else "")
    note += f" {share:.1%} of the layers' weights stay in 16 bits." if share else ""
    if dtype not in DTYPE_BYTES:
        note += f" There is no latency data of {dtype}: a plan needs your own measurements (provision curves import)."
    elif dtype in ON_SOME_GPUS:
        note += (
            f" Only some GPUs have latency data of {dtype}; on others a plan needs --dtype fp8 or your measurements."
        )
    fields = {"dtype": dtype, "share_in_16_bits": share, "bytes_per_weight": size}
    cache = given.get("kv_cache_quant_algo") or given.get("kv_cache_scheme")
    scheme = as_object(cache) or {"num_bits": 8 if str(cache).upper() == "FP8" else cache}
    if cache and (scheme.get("num_bits"), scheme.get("type", "float")) != (8, "float"):
        raise InputError(f"{where}: its KV cache in {quoted(cache)} is not understood; known are 16 bits and FP8")
    in_fp8 = f"{note} Its KV cache is in FP8, for which the file has scales (--kv-dtype bf16 changes that)."
    return (fields | {"kv_dtype": "fp8"}, in_fp8) if cache else (fields, note)


def _parts(given: dict[str, Any], method: str) -> list[_Part]:
    """Names and patterns of modules with their quantization; the first that fits a module counts.

    Modelopt lists layers, GPTQ may list modules of every layer, GPTQModel's ``dynamic`` has expressions that leave out
    (``-:``) or override, and groups of compressed-tensors have targets: modules, or ``Linear`` for all others.
    """
    layers = as_object(given.get("quantized_layers"))
    if layers := as_object(layers.get("quantized_layers")) or layers:
        return [*((name, as_object(layer)) for name, layer in layers.items()), (None, None)]
    if method == "gptq":
        rules = as_object(given.get("dynamic")).items()
        named = ((f"re:{rule.lstrip('+-:')}", rule[:2] == "-:", as_object(of)) for rule, of in rules)
        inside = given.get("modules_in_block_to_quantize") or []  # lists of modules that are quantized together
        listed = [str(name) for names in inside for name in (names if isinstance(names, list) else [names])]
        others = [*((name, given) for name in listed), (None, None)] if listed else [(None, given)]
        return [*((pattern, None if out else given | of) for pattern, out, of in named), *others]
    groups = [*map(as_object, as_object(given.get("config_groups")).values())]
    targets = [(str(at), {"config_groups": {"": of}}) for of in groups for at in of.get("targets") or ["Linear"]]
    others = [(None, given | of) for at, of in targets if at == "Linear"]
    if not groups or len(others) > 1:
        return [(None, given)]
    return [*((at, given | of) for at, of in targets if at != "Linear"), *others, (None, None)]


def _kind(given: dict[str, Any], method: str, where: str) -> tuple[str, float]:
    """Number type of a part's weights and bytes of one with its scales; ``InputError`` if it is not known."""
    dtype, weights = _form(given, method)
    odd = next((f" with {field}" for field in ("lm_head", "dynamic")[: 1 + (method != "gptq")] if given.get(field)), "")
    if odd or dtype not in _FORMATS:
        known = "known are 16 bits, FP8, INT8, AWQ, GPTQ, NVFP4 and MXFP4"
        raise InputError(f"{where}: {_title(given, method)}{odd} is not understood; {known}")
    row, group = _FORMATS[dtype], weights["group_size"]
    group = group if isinstance(group, int) else row["group"]
    scale = row["scale"] and row["scale"] + (0 if weights.get("symmetric", True) else row["bits"])
    return dtype, (row["bits"] + (scale / group if group > 0 else 0)) / 8


def _title(given: Mapping[str, Any], method: str) -> str:
    """A quantization as messages name it: its method with its details."""
    weights = _form(given, method)[1]
    bits = f"{weights['num_bits']} bits" if weights["num_bits"] else ""
    details = ", ".join(str(each)[:40] for each in (bits, given.get("quant_algo"), weights["type"]) if each)
    return (method or "a quantization without quant_method") + (f" ({details})" if details else "")


def _form(given: Mapping[str, Any], method: str) -> tuple[str, dict[str, Any]]:
    """Number type of weights in one form, empty if it is not known or they are in several, and the form."""
    weights: dict[str, Any] = {"num_bits": None, "type": None, "group_size": given.get("group_size")}
    algorithm = str(given.get("quant_algo") or method).upper()
    if algorithm in _KNOWN:
        dtype = _KNOWN[algorithm]
        return "fp8_block" if dtype == "fp8" and given.get("weight_block_size") else dtype, weights
    if method in ("awq", "gptq"):
        weights |= {"num_bits": given.get("bits") or given.get("w_bit"), "type": "int"}
        weights["group_size"] = weights["group_size"] or given.get("q_group_size")
        weights["symmetric"] = method == "awq" and not given.get("zero_point", True)
    groups = [*map(as_object, as_object(given.get("config_groups")).values())]
    if len(groups) > 1:
        return "", weights
    group = groups[0] if groups else {}
    if groups:
        weights |= {"group_size": -1} | {k: v for k, v in as_object(group.get("weights")).items() if v is not None}
    kind = f"{weights['num_bits']} {weights['type']}"
    inputs = as_object(group.get("input_activations"))
    of_groups = f"{weights['group_size']}{'' if inputs else ' None'}"
    dtype = _KNOWN.get(f"{kind} {of_groups if kind == '4 float' else inputs.get('num_bits')}", "")
    return "fp8_block" if dtype == "fp8" and weights.get("strategy") == "block" else dtype, weights


def _matrices(shape: Mapping[str, Any], gated: bool) -> dict[str, int]:
    """Matrices of the layers by their names in any tree, ``.NAME. .NAME.``, with their sizes over the hidden size."""
    inner, wide, narrow = shape["intermediate_size"], *(shape["head_dim"] * shape[k] for k in ("heads", "kv_heads"))
    parts: list[tuple[Any, ...]] = [("self_attn.o_proj", wide), ("mlp.down_proj", inner)]
    parts += [(f"self_attn.{k}_proj", "self_attn.qkv_proj", n) for k, n in (("q", wide), ("k", narrow), ("v", narrow))]
    parts += [(f"mlp.{name}_proj", "mlp.gate_up_proj", inner) for name in ("up", "gate")[: 1 + gated]]
    return {
        "." + ". .".join(f"{tree}.layers.{layer}.{name}" for tree in _TREES for name in names) + ".": size
        for layer in range(min(shape["layers"], 1000))  # more are refused
        for *names, size in parts
    }


def _matcher(pattern: str, where: str) -> Callable[[str], bool]:
    """Whether one of ``.NAME. .NAME.`` is meant by a name, one with wildcards, or an expression after ``re:``."""
    plain, text = pattern.removesuffix("*").removesuffix("."), pattern.removeprefix("re:")
    if text == pattern and "*" not in plain:
        return lambda names: f".{plain}." in names
    if text == pattern:
        text = ".*".join(map(re.escape, plain.split("*"))) + r"(\.|$)"
    if re.search(r"\)[*+?{]", text) or len(re.findall(r"[*+{]", text)) > 4:  # it could take for ever
        raise InputError(f"{where}: {quoted(pattern)} is too complex a pattern of modules")
    try:
        matches = re.compile(text).match
    except re.error:
        raise InputError(f"{where}: {quoted(pattern)} is no regular expression") from None
    return lambda names: any(map(matches, names[1:-1].split(". .")))
