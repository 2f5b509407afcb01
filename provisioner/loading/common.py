"""The part of a question that plans and simulations load alike: specs, model, replicas, limits, and remarks on them."""

import math
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Generic, Self, TypeVar

from provisioner.errors import InputError, UnknownNameError
from provisioner.loading.factors import Factors, load_factors
from provisioner.options import PlanOptions, SimulateOptions, spelled
from provisioner.options.defaults import DEFAULT_POLICY, STRICT_POLICIES, PolicyName, policies
from provisioner.perf import assumptions
from provisioner.perf.assumptions import Reference, ReplicaPerf
from provisioner.specs.catalog import Catalog, with_own
from provisioner.specs.engine import Engine
from provisioner.specs.hardware import Machine
from provisioner.specs.metrics import MEASURED, parse_target
from provisioner.specs.model import DTYPE_BYTES, KV_TYPES, ModelArchitecture
from provisioner.specs.network import on_network, parse_networks
from provisioner.specs.rate_levels import NO_PEAK
from provisioner.specs.slo import SLO, LatencyLimit, attainment, load_slo, parse_limit
from provisioner.specs.traces import Trace
from provisioner.specs.units import format_rate, parse_whole
from provisioner.specs.workload import Workload, prefix_remark

_ERROR = "not measured; its error: docs/explanation/validation.md"
# Remarks on machines whose curves are not measured, by a word in their provenance: on one machine, and on several.
_NOT_MEASURED = {
    "assumed": (
        "{}: part of its latency curve is assumed by its source, not measured",
        "{}: part of their latency curves is assumed by their sources, not measured",
    ),
    "derived": (f"latency of {{}}: derived from measured kernels, {_ERROR}",) * 2,
    "estimated": (f"latency of {{}}: estimated from other GPUs' kernels, {_ERROR}",) * 2,
}

_OWN_STACK = "; measured curves contain the host time of their own stack, and it adds none"
_NEXT_REFERENCE = "dgx-h100"  # of slowdowns, if a DGX-A100 cannot serve the model

# Options without effect if no design splits the phases.
_OF_SPLIT_PHASES = ("network", "transfer_retry_s", "share_links", "max_pending_tokens")

Asked = TypeVar("Asked", bound=PlanOptions | SimulateOptions)


@dataclass(frozen=True, slots=True)
class Loading(Generic[Asked]):
    """The options of a question, the specs that they name, the model in its number types, and factors on inputs."""

    options: Asked
    known: Catalog
    model: ModelArchitecture
    factors: Factors
    engine: Engine
    context_tokens: int = 0

    @classmethod
    def of(cls, options: Asked) -> Self:
        """Check the options and load the model and the factors."""
        options.check_needs()
        known = with_own(options.specs)
        model = known.model(options.model)
        for name, given, types in (("dtype", options.dtype, DTYPE_BYTES), ("kv_dtype", options.kv_dtype, KV_TYPES)):
            if given is not None and given not in types:
                raise UnknownNameError(f"number type of {spelled(name)}", given, types)
        for name in filter(None, parse_networks(options.network)):
            known.machine(name)
        model = model.in_dtype(options.dtype or model.dtype, options.kv_dtype or model.kv_dtype)  # type: ignore[arg-type]
        return cls(options, known, model, load_factors(options.scale, known), known.engine(options.engine))

    def serving(self, requests: Workload | Trace) -> Self:
        """This question with the context that replicas have room for: the one asked for, or the longest request.

        ``InputError`` for a context beyond the model's or below a request.
        """
        given, longest, what = self.options.context_tokens, requests.longest_tokens, spelled("context_tokens")
        if given is not None and given > self.model.trained_context_tokens:
            most = f"{self.model.trained_context_tokens:,} that {self.model.title} was trained for"
            raise InputError(f"{what}: {given:,} tokens are more than the {most}; give that or less")
        if given is not None and given < longest:
            longer = f"{requests.longer_than(given)} are longer than {given:,} tokens, the longest {longest:,}"
            raise InputError(f"{what}: {longer}; give {longest:,} or more, or leave it out")
        return replace(self, context_tokens=given or longest)

    @property
    def policies(self) -> tuple[PolicyName, PolicyName]:
        """The policies of designs that split the phases and of colocated ones; ``InputError`` if they cannot be."""
        asked, assumptions = self.options.policy, self.options.assumptions
        found = policies(asked or DEFAULT_POLICY[assumptions])  # type: ignore[arg-type,index]
        if assumptions != "measured" and found[0] in STRICT_POLICIES:
            why = "is of engines, which the published simulator does not know"
            raise InputError(f"{spelled('policy')} {asked}: {why}")
        return found

    def slo(self, *more: LatencyLimit) -> SLO:
        """The set of limits with the limits by name and more, and the factor on them."""
        given, share = self.options.limits, self.options.attainment
        limits = [
            parse_limit(*parse_target(name, spelled("limits")), text, spelled(name))
            for name, text in given.items()
            if name not in MEASURED
        ]
        each = [(name, text) for name, text in given.items() if name in MEASURED]
        if share is not None:
            limits.append(attainment(share, each))
        slo = load_slo(self.options.slo).with_limits((*limits, *more))
        for limit in slo.limits:
            if any(limit.metric == name for name, _ in each):
                which = f"{spelled(limit.metric)}: is a limit on each request, and {limit} is on the same metric"
                raise InputError(f"{which}; leave out one of them")
        return self.factors.slo(slo)

    def replica(self, name: str, tensor_parallel: int | None, batch_tokens: int | None = None) -> ReplicaPerf:
        """A replica on a machine, on the network asked for, without the factors; memory is kept for its iterations."""
        machine = self.on_network(self.known.machine(name))
        asked = (self.model, machine, tensor_parallel, self.options.assumptions, self.known, batch_tokens, self.engine)
        return assumptions.replica(*asked, self.context_tokens or None)  # type: ignore[arg-type]

    def on_network(self, machine: Machine) -> Machine:
        """A machine on the network asked for."""
        networks = parse_networks(self.options.network)
        network = networks.get(machine.name, networks.get(""))
        return machine if network is None else on_network(machine, network)

    def served_by(self, replicas: Iterable[ReplicaPerf]) -> str:
        """The engine in words, and that measured curves among those of the replicas contain another's host time."""
        measured = any(not {"derived", "estimated"} & {*perf.curve.provenance} for perf in replicas)
        return f"{self.engine.name} ({self.engine.title}){_OWN_STACK if measured else ''}"

    def reference(self, slo: SLO, replicas: Iterable[ReplicaPerf]) -> tuple[Reference, tuple[str, ...]]:
        """The reference of slowdowns, under the default engine, and a remark if it is not the DGX-A100.

        The DGX-A100 may not hold the model, or may lack its number type. Limits that are slowdowns then need a
        reference by name; without such limits a DGX-H100 is one, or else the first machine known that can serve the
        model, or the first of the replicas.
        """
        asked = (self.model, self.options.assumptions, self.known)
        if self.options.reference is not None:
            machine, mark, degree = self.options.reference.partition(":")
            at = parse_whole(degree, f"{spelled('reference')}: tensor parallelism", "GPUs") if mark else None
            return assumptions.reference(*asked, machine, at), ()  # type: ignore[arg-type]
        try:
            return assumptions.reference(*asked), ()  # type: ignore[arg-type]
        except InputError as error:
            slow = [str(part) for limit in slo.limits for part in limit.parts if part.kind == "slowdown"]
            if slow:
                raise InputError(
                    f"slowdowns, such as {slow[0]}, are against a DGX-A100 at TP 8, which cannot be: {error}; name "
                    f"another with {spelled('reference')} MACHINE or MACHINE:TP, or give limits in seconds"
                ) from None
            known = map(self._alone_on, (_NEXT_REFERENCE, *self.known.machines))
            found = next(filter(None, known), None) or Reference(next(iter(replicas)))
            remark = f"slowdowns are against {found}: a DGX-A100 cannot serve {self.model.title} ({error})"
            return found, (remark,)

    def _alone_on(self, machine: str) -> Reference | None:
        with suppress(InputError):
            return assumptions.reference(self.model, self.options.assumptions, self.known, machine, None)  # type: ignore[arg-type]
        return None

    def remarks(
        self, workload: Workload, replicas: Collection[ReplicaPerf], splits: bool, done: str = "planned"
    ) -> tuple[str, ...]:
        """Warnings about the data of a result; ``splits``: of a design that does; ``done`` is the verb: "planned"."""
        notes = [
            f"{spelled(name)} has no effect: between the machines of colocated designs nothing is sent or lent"
            for name in _OF_SPLIT_PHASES
            if not splits and getattr(self.options, name, None) not in (None, ())
        ]
        context = workload.prompt.tokens + workload.output.tokens
        longer = float(workload.weight[context > self.model.trained_context_tokens].sum())
        if longer > 0.0:
            notes.append(
                f"{longer:.1%} of the requests are longer than the {self.model.trained_context_tokens:,} tokens that "
                f"{self.model.title} was trained for; they are {done} as if it served them"
            )
        notes += prefix_remark(workload.context_share_reused)
        if self.options.model != self.model.name:
            types = f"in {self.model.dtype}, its KV cache in {self.model.kv_dtype}"
            notes.append(f"{self.options.model} is {done} as {self.model.name} {types}")
        assumed = {perf.machine.name for perf in replicas if splits and "assumed" in perf.machine.network}
        if assumed:
            which = next(iter(assumed)) if len(assumed) == 1 else f"{len(assumed)} instances"
            notes.append(
                f"network of {which}: not stated, assumed on the low side; give yours with {spelled('network')}"
            )
        for kind, remark in _NOT_MEASURED.items():
            machines = {perf.machine.name: perf.machine for perf in replicas if kind in perf.curve.provenance}
            names = [name for name, machine in machines.items() if not machine.cloud] or list(machines)
            if len(names) < len(machines):
                names.append(f"{len(machines) - len(names)} instances")
            if names:
                notes.append(remark[len(names) > 1].format(", ".join(names)))
            if kind == "estimated":
                known = {of.gpu: of.estimate_note for of in machines.values() if of.estimate_note}
                notes += [f"latency of {gpu}: {note}" for gpu, note in known.items()]
        return tuple(notes)


def arrival_remarks(workload: Workload, rate_rps: float, factor: float, cv: float, done: str) -> tuple[str, ...]:
    """Remarks that a rate is ``factor`` times the peak of the trace behind a workload, or that it is far burstier."""
    arrivals, notes = workload.arrivals, list[str]()
    measured = None if arrivals is None else arrivals.cv_within_windows or arrivals.cv
    peak_rps = None if arrivals is None else arrivals.peak_rate_rps
    if arrivals and peak_rps and arrivals.mean_rate_rps and math.isclose(rate_rps, factor * peak_rps, rel_tol=1e-9):
        ratio = peak_rps / arrivals.mean_rate_rps
        which = f"mean rate ({NO_PEAK})" if ratio == 1.0 else f"peak rate ({ratio:.3g} times its mean)"
        change = f"change them with {spelled('rate_rps')} and {spelled('cv')}"
        notes.append(f"{done} at the {which} of {workload.name}, {format_rate(rate_rps)}, and CV {cv:.3g}; {change}")
    if measured is None or measured <= 1.5 * max(cv, 1.0):
        return tuple(notes)
    how = "as Poisson, CV 1" if cv == 1.0 else f"with CV {cv:g}"
    more = "planned for" if done == "planned" else "the requests here"
    notes.append(
        f"the trace behind workload {workload.name} is burstier than {more}: its inter-arrival CV is {measured:.3g}, "
        f"{done} {how} (change it with {spelled('cv')})"
    )
    return tuple(notes)
