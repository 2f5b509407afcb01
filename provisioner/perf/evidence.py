"""Evidence for the latency of a model on a machine: measurements of it, measured kernels, or the machine's limits.

``measured``: curves of this model on this machine, shipped or the user's own. ``derived``: summed from kernels that
were measured on this GPU. ``estimated``: the same sum with the utilisation of other GPUs. The best kind is taken. A
machine without measured curves has those of another one with the same GPUs, such as the server that an instance is part
of. A machine with a power cap has the curves of the uncapped machine, slowed down.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import lru_cache, partial
from typing import Any, Final, Literal

import numpy as np

from provisioner.errors import InputError
from provisioner.options.defaults import Evidence
from provisioner.perf.curves import (
    CurveSet,
    MixedIteration,
    PiecewiseLinear,
    curve_groups,
    evidence_of,
    load_curve_set,
    values_of,
)
from provisioner.perf.derived import DECODE_CONTEXT, context_slope_s_per_token, derived_points, iteration_s
from provisioner.perf.operators import GpuLimits, Operators, estimate_operators, gpu_limits, load_operators, measured
from provisioner.perf.points import CurvePoint
from provisioner.specs.catalog import Catalog, with_own
from provisioner.specs.catalog import engine as default_engine
from provisioner.specs.engine import DEFAULT_ENGINE, Engine
from provisioner.specs.hardware import Machine
from provisioner.specs.kernels import is_measured
from provisioner.specs.model import DTYPE_BYTES, ON_SOME_GPUS, ModelArchitecture, NumberType

DEGREES: Final = (8, 4, 2, 1)
"""Degrees of tensor parallelism at which curves are derived."""

KNOWN_PROMPT_TOKENS: Final = 16384
"""Longest prompt whose attention kernels were measured; beyond it they keep their utilisation."""

_SOURCE: Final = "AIConfigurator's and Vidur's kernel measurements (hardware_specs/operators/provenance.yaml)"


def degrees_of(model: ModelArchitecture, machine: Machine, own: Catalog | None = None) -> dict[int, Evidence]:
    """Degrees of tensor parallelism with latency curves for a model on a machine, with their evidence; largest first.

    The model need not fit at these degrees (``memory.kv_capacity_tokens``).
    """
    measured = measured_on(model, machine, own)
    degrees = {degree: evidence_of((model.name, name, degree), own) for degree, name in measured.items()}
    if not why_not_derived(model, machine):
        kind = kernels_evidence(model.dtype, machine)
        for degree in DEGREES:
            if degree <= machine.gpus and not (model.heads % degree or model.intermediate_size % degree):
                degrees.setdefault(degree, kind)
    return dict(sorted(degrees.items(), reverse=True))


def measured_on(model: ModelArchitecture, machine: Machine, own: Catalog | None) -> dict[int, str]:
    """Machine types whose measured curves a machine has, by degree.

    The machine's own, else those of its GPUs in another machine, else those of its GPUs without the cap.
    """
    if not _as_served(model, own):
        return {}
    known = own or with_own(None)
    gpus = {name: gpu_of(other) for name, other in known.machines.items()}
    uncapped = replace(machine, power_cap=1.0, capped_from="")
    nearest = (
        lambda name: name == machine.name,
        lambda name: gpus.get(name) == gpu_of(machine),
        lambda name: name == machine.capped_from,
        lambda name: gpus.get(name) == gpu_of(uncapped),
    )
    found: dict[int, str] = {}
    for is_near in nearest:
        for of, name, degree in curve_groups(own):
            if of == model.name and degree <= machine.gpus and is_near(name):
                found.setdefault(degree, name)
    return found


def gpu_of(machine: Machine) -> tuple[object, ...]:
    """The part of a machine that times of a replica depend on: its GPUs, their links, and their cap."""
    names = ("gpu", "power_cap", "memory_bandwidth_gb_per_s", "peak_fp16_tflops", "gpu_link", "gpu_link_gb_per_s")
    return tuple(getattr(machine, name) for name in names)


def _as_served(model: ModelArchitecture, own: Catalog | None) -> bool:
    """Whether a model has the number types of its file, in which its curves were measured."""
    filed = (own or with_own(None)).models.get(model.name) or model.in_dtype("bf16", "bf16")
    return (model.dtype, model.kv_dtype) == (filed.dtype, filed.kv_dtype)


def kernels_evidence(dtype: NumberType, machine: Machine) -> Literal["derived", "estimated"]:
    """Evidence of curves from kernels: derived if products in the number type were measured on the machine's GPU."""
    return "derived" if is_measured(machine.kernels, "gemm", dtype) else "estimated"


def why_not_derived(model: ModelArchitecture, machine: Machine) -> str:
    """Reason why no curve can be derived or estimated; empty if one can."""
    if model.dtype not in DTYPE_BYTES:
        return f"no kernels were measured in {model.dtype}; import your own measurements (provision curves import)"
    if model.dtype in ON_SOME_GPUS and not is_measured(machine.kernels, "gemm", model.dtype):
        known = " and ".join(gpu for gpu in gpu_limits() if is_measured(gpu, "gemm", model.dtype))
        how = "import your own measurements (provision curves import) or take --dtype fp8"
        return f"{machine.name} has no kernels in {model.dtype}, which only {known} have; {how}"
    lacks = "fp8" in (model.dtype, model.kv_dtype) and not machine.peak_fp8_tflops
    return f"{machine.name} has no FP8" if lacks else ""


def curves(
    model: ModelArchitecture,
    machine: Machine,
    tensor_parallel: int,
    own: Catalog | None = None,
    engine: Engine | None = None,
) -> CurveSet:
    """Curves of a model on a machine with the best evidence, for an engine; ``InputError`` says why there are none.

    The engine, the default one unless given, has no part in measured curves, which contain the time of their own.
    """
    if (name := measured_on(model, machine, own).get(tensor_parallel)) is not None:
        source = machine if name == machine.name else (own or with_own(None)).machine(name)
        measured = load_curve_set(model, source, tensor_parallel, "measured", own)
        if source.power_cap != machine.power_cap:
            return _slowed(measured, machine, own)
        return measured if name == machine.name else replace(measured, machine=machine.name)
    degrees = degrees_of(model, machine, own)
    if tensor_parallel not in degrees:
        why = why_not_derived(model, machine) or f"there are curves at TP {', '.join(map(str, degrees))}"
        raise InputError(
            f"no latency curves for {model.name} in {model.dtype} on {machine.name} at TP {tensor_parallel}: {why}"
        )
    curve = derived_curves(model, machine, tensor_parallel, engine or default_engine(DEFAULT_ENGINE))
    return curve if machine.power_cap == 1.0 else _slowed(curve, machine, own)


def _slowed(uncapped: CurveSet, machine: Machine, own: Catalog | None) -> CurveSet:
    """Curves of a capped machine from the uncapped one's: the slowdowns of ``specs.power_caps`` on both phases."""
    table = (own or with_own(None)).power_caps
    cap = table.at(machine.power_cap)

    def longer(point: CurvePoint) -> CurvePoint:
        by = cap.prompt_slowdown if point.phase == "prompt" else cap.token_slowdown
        seconds = {name: by * getattr(point, name) for name in ("latency_s", "min_s", "max_s")}
        return replace(point, provenance="assumed", power_average_fraction=None, power_peak_fraction=None, **seconds)

    of_fit = asdict(uncapped.context).items() if uncapped.context else ()
    slower: dict[str, Any] = {name: cap.token_slowdown * time for name, time in of_fit if isinstance(time, float)}
    return replace(
        uncapped,
        machine=machine.name,
        prompt=PiecewiseLinear(uncapped.prompt.x, cap.prompt_slowdown * uncapped.prompt.y),
        decode=PiecewiseLinear(uncapped.decode.x, cap.token_slowdown * uncapped.decode.y),
        slope_s_per_context_token=cap.token_slowdown * uncapped.slope_s_per_context_token,
        context=uncapped.context and replace(uncapped.context, **slower),
        points=tuple(longer(point) for point in uncapped.kept),
        refused=(),
        dips=(),
        provenance=tuple(sorted({"assumed", *uncapped.provenance} - {"measured"})),
        sources=(
            *uncapped.sources,
            f"{machine.name}: at {machine.power_cap:.0%} of the TDP prompt times are {cap.prompt_slowdown:.3g} and "
            f"token times {cap.token_slowdown:.3g} times those without cap: assumed, {'; '.join(table.sources)}",
        ),
        mixed=uncapped.mixed.with_decode(cap.token_slowdown),
    )


@lru_cache(maxsize=64)
def operators_of(machine: Machine, engine: Engine | None = None) -> Operators:
    """Operators of a machine's GPU, of the tables that an engine prefers: from its kernels, else estimated.

    ``engine`` is the default one unless given. ``InputError`` if there are no such kernels.
    """
    preference = (engine or default_engine(DEFAULT_ENGINE)).preference
    for field in ("kernels", "kernels_like"):
        table = getattr(machine, field)
        if table and table not in gpu_limits():
            known = ", ".join(gpu_limits())
            raise InputError(f"machine {machine.name}: {field}: must be one of {known}, got {table!r}")
    if machine.kernels:
        return load_operators(machine.kernels, preference)
    limits = GpuLimits(
        machine.gpu,
        bf16_flops=machine.peak_fp16_tflops * 1e12,
        fp8_flops=machine.peak_fp8_tflops * 1e12,
        memory_bytes_per_s=machine.memory_bandwidth_gb_per_s * 1e9,
        link_bytes_per_s=machine.gpu_link_gb_per_s * 1e9 / 2,  # one direction
        link="pcie" if machine.gpu_link == "pcie" else "nvlink",
    )
    return estimate_operators(
        limits, like=machine.kernels_like or None, lookup=partial(measured, preference=preference)
    )


@lru_cache(maxsize=512)
def derived_curves(
    model: ModelArchitecture, machine: Machine, tensor_parallel: int, engine: Engine | None = None
) -> CurveSet:
    """Curves summed from operators and an engine's time beside them, through the points of ``derived.derived_points``.

    Decode is base(batch) at 1,024 tokens of context per sequence plus the slope of a full batch. A mixed iteration
    takes the prompt time of all its tokens, the same slope for the batch's context, and a time per sequence.
    """
    gpu = operators_of(machine, engine)
    kind = kernels_evidence(model.dtype, machine)
    execution = (engine or default_engine(DEFAULT_ENGINE)).execution
    points = derived_points(model, gpu, tensor_parallel, execution, kind)
    single = [p for p in points if p.phase == "prompt" and p.batch == 1]
    axis = [p for p in points if p.phase == "decode" and p.context_per_sequence_tokens == DECODE_CONTEXT]
    slope = context_slope_s_per_token(model, gpu, tensor_parallel, execution)
    # a mixed iteration's time per sequence, from 2,048 tokens of which 64 are decoded, each at 1,024 of context
    time_s = partial(iteration_s, model, gpu, tensor_parallel, execution=execution)
    both_s = float(time_s(prompt_tokens=2048 - 64, batch=64, context_tokens=64 * 1024))
    per_sequence_s = max(both_s - float(time_s(prompt_tokens=2048)) - slope * 64 * 1024, 0.0) / 64
    if kind == "derived":
        borrowed = f"; estimated from other GPUs: {', '.join(gpu.estimated)}" if gpu.estimated else ""
        source = f"derived from {_SOURCE}, table {machine.kernels} of {_software(model, gpu)}{borrowed}"
    else:
        like = f" like {machine.kernels_like}" if machine.kernels_like else " as on all measured GPUs"
        noted = f"; {machine.estimate_note}" if machine.estimate_note else ""
        source = f"estimated from its peaks and bandwidths at the utilisation{like}; {_SOURCE}{noted}"
    return CurveSet(
        model=model.name,
        machine=machine.name,
        tensor_parallel=tensor_parallel,
        assumptions="measured",
        prompt=_through(single, "prompt_tokens"),
        decode=_through(axis, "batch"),
        axis_context_tokens=DECODE_CONTEXT,
        slope_s_per_context_token=slope,
        points=points,
        provenance=(kind,),
        sources=(f"{machine.gpu if machine.cloud else machine.name}: {source}",),
        mixed=MixedIteration(1.0, per_sequence_s, slope),
        known_prompt_tokens=KNOWN_PROMPT_TOKENS,
    )


def _software(model: ModelArchitecture, gpu: Operators) -> str:
    """Software of the products of a model's layers, and that of operators whose tables are of another.

    >>> from provisioner.specs.catalog import machine, model
    >>> _software(model("llama2-70b"), operators_of(machine("l40s-x8")))
    'vllm 0.24.0, all_reduce of pcie-ring 4.0'
    """
    used = {"gemm": ("bf16", model.dtype), "decode_attention": (model.kv_dtype,)}
    names: dict[str, list[str]] = {}
    for (operator, kind), source in sorted(gpu.sources.items()):
        if kind in used.get(operator, (kind,)):
            names.setdefault(" ".join(source), []).append(f"gemm {kind}" if operator == "gemm" else operator)
    first = " ".join(gpu.sources["gemm", model.dtype])
    others = [f"{', '.join(dict.fromkeys(of))} of {software}" for software, of in names.items() if software != first]
    return ", ".join((first, *others))


def _through(points: Sequence[CurvePoint], axis: str) -> PiecewiseLinear:
    """Curve through points, never falling: a kernel that is faster at a larger problem serves the smaller too."""
    seconds = values_of(points, "latency_s")
    return PiecewiseLinear(values_of(points, axis), np.minimum.accumulate(seconds[::-1])[::-1])
