"""Loaders shared by plans and simulations: limits, remarks on model and workload."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from provisioner.errors import InputError, UnknownNameError
from provisioner.options import spelled
from provisioner.specs.metrics import METRICS, parse_target
from provisioner.specs.model import DTYPE_BYTES
from provisioner.specs.network import on_network, parse_networks
from provisioner.specs.slo import LatencyLimit, parse_limit
from provisioner.specs.units import parse_whole

if TYPE_CHECKING:
    from provisioner.options import PlanOptions, SimulateOptions
    from provisioner.perf.assumptions import Reference, ReplicaPerf
    from provisioner.specs.catalog import Catalog
    from provisioner.specs.hardware import Machine
    from provisioner.specs.model import ModelArchitecture
    from provisioner.specs.slo import SLO
    from provisioner.specs.workload import Workload

_NOT_MEASURED = {
    "derived": "derived from measured kernels, not measured",
    "estimated": "estimated from other GPUs' kernels, not measured",
}


def latency_limits(limits: Mapping[str, str]) -> tuple[LatencyLimit, ...]:
    """Limits from their names and texts, such as ``ttft_p99`` and ``2s``."""
    parsed = []
    for name, text in limits.items():
        metric, percentile = parse_target(name, spelled("limits"))
        parsed.append(parse_limit(metric, percentile, text, spelled(name)))
    return tuple(parsed)


def check_predicted(slo: SLO) -> None:
    """Refuse limits that the queueing formulas cannot decide, for an answer by the formulas alone."""
    for limit in slo.limits:
        if limit not in slo.predicted.limits:
            raise InputError(
                f"{spelled('fast')}: {limit} is decided by simulation alone, as the formulas do not give the "
                f"{METRICS[limit.metric].label}; leave out one of them"
            )


def load_model(options: PlanOptions | SimulateOptions, known: Catalog) -> ModelArchitecture:
    """The model in the number types asked for."""
    model = known.model(options.model)
    for name, given in (("dtype", options.dtype), ("kv_dtype", options.kv_dtype)):
        if given is not None and given not in DTYPE_BYTES:
            raise UnknownNameError(f"number type of {spelled(name)}", given, DTYPE_BYTES)
    return model.in_dtype(options.dtype or model.dtype, options.kv_dtype or model.kv_dtype)  # type: ignore[arg-type]


def load_machines(options: PlanOptions | SimulateOptions, known: Catalog) -> Callable[[str], Machine]:
    """Machines by name, on the networks asked for."""
    networks = parse_networks(options.network)
    for name in networks:
        if name:
            known.machine(name)

    def machine(name: str) -> Machine:
        found = known.machine(name)
        network = networks.get(found.name, networks.get(""))
        return found if network is None else on_network(found, network)

    return machine


def load_reference(
    options: PlanOptions | SimulateOptions,
    model: ModelArchitecture,
    known: Catalog,
    slo: SLO,
    replicas: Iterable[ReplicaPerf],
) -> tuple[Reference, tuple[str, ...]]:
    """The reference of slowdowns, and a remark if it is not the DGX-A100.

    The DGX-A100 may not hold the model, or may lack its number type. Limits that are slowdowns then need a reference by
    name; without such limits the first of the replicas serves as one.
    """
    from provisioner.perf.assumptions import Reference, reference

    if options.reference is not None:
        machine, mark, degree = options.reference.partition(":")
        at = parse_whole(degree, f"{spelled('reference')}: tensor parallelism", "GPUs") if mark else None
        found = reference(model, options.assumptions, known, machine, at)  # type: ignore[arg-type]
        return found, ()
    try:
        return reference(model, options.assumptions, known), ()  # type: ignore[arg-type]
    except InputError as error:
        slow = [str(limit) for limit in slo.limits if limit.kind == "slowdown"]
        if slow:
            raise InputError(
                f"slowdowns, such as {slow[0]}, are against a DGX-A100 at TP 8, which cannot be: {error}; name another "
                f"with {spelled('reference')} MACHINE or MACHINE:TP, or give limits in seconds"
            ) from None
        first = next(iter(replicas))
        name = f"{first.machine.name} at TP {first.tensor_parallel}"
        return Reference(first), (f"slowdowns are against {name}: a DGX-A100 cannot serve {model.title} ({error})",)


def burstier(workload: Workload, cv: float, done: str = "planned") -> tuple[str, ...]:
    """Warning that the trace behind a workload is far burstier than the arrivals that are ``done`` with it."""
    measured = None if workload.arrivals is None else workload.arrivals.cv
    if measured is None or measured <= 1.5 * max(cv, 1.0):
        return ()
    how = f"{done} " + ("as Poisson, CV 1" if cv == 1.0 else f"with CV {cv:g}")
    more = "burstier than planned for" if done == "planned" else "burstier than the requests here"
    return (
        f"the trace behind workload {workload.name} is {more}: its inter-arrival CV is {measured:.3g}, {how} (change "
        f"it with {spelled('cv')})",
    )


def remarks(
    model: ModelArchitecture, workload: Workload, replicas: Collection[ReplicaPerf], done: str = "planned"
) -> tuple[str, ...]:
    """Warnings about the data of a result; ``done`` is the verb, such as "planned"."""
    notes = []
    context = workload.prompt_tokens + workload.output_tokens
    longer = float(workload.weight[context > model.trained_context_tokens].sum())
    if longer > 0.0:
        notes.append(
            f"{longer:.1%} of the requests are longer than the {model.trained_context_tokens:,} tokens that "
            f"{model.title} was trained for; they are {done} as if it served them"
        )
    if workload.context_share_reused is not None and workload.context_share_reused > 0.01:
        notes.append(
            f"{workload.context_share_reused:.0%} of the prompt tokens repeat a prefix seen before; prefix caching is "
            "not modelled, and would shorten the prompt phase"
        )
    assumed = list(dict.fromkeys(perf.machine.name for perf in replicas if "assumed" in perf.curve.provenance))
    if len(assumed) == 1:
        notes.append(f"{assumed[0]}: part of its latency curve is assumed by its source, not measured")
    elif assumed:
        notes.append(f"{', '.join(assumed)}: part of their latency curves is assumed by their sources, not measured")
    for kind, how in _NOT_MEASURED.items():
        of_kind = {perf.machine.name: None for perf in replicas if kind in perf.curve.provenance}
        if of_kind:
            notes.append(f"latency of {', '.join(of_kind)}: {how}; its error: docs/explanation/validation.md")
    return tuple(notes)
