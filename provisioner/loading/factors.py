"""Factors on inputs: questions of "what if prices, lengths, links or limits were larger or smaller"."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from provisioner.errors import InputError, UnknownNameError
from provisioner.options import FACTORS, MACHINE_FACTORS, PlanOptions, spelled
from provisioner.perf.assumptions import ReplicaPerf, scaled
from provisioner.specs.catalog import Catalog, with_own
from provisioner.specs.prices import MachinePrice
from provisioner.specs.slo import SLO
from provisioner.specs.trace_formats import TraceRules
from provisioner.specs.traces import Trace, read_trace
from provisioner.specs.units import parse_positive
from provisioner.specs.workload import Workload

if TYPE_CHECKING:
    from provisioner.planning.formulation import Prices

AnyPlanOptions = TypeVar("AnyPlanOptions", bound=PlanOptions)


@dataclass(frozen=True, slots=True)
class Factors:
    """Checked factors by input and machine type, "" for all; that of a type is the product of both.

    Those of all types stand first.
    """

    values: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def of(self, name: str, machine: str = "") -> float:
        """The factor on an input, 1 where none was given."""
        return math.prod(self.values.get((name, of), 1.0) for of in {"", machine})

    def replica(self, perf: ReplicaPerf) -> ReplicaPerf:
        """A replica with the factors on its times and its link."""
        machine = perf.machine.name
        prompt, decode, link = (self.of(name, machine) for name in ("prompt-time", "decode-time", "link-bandwidth"))
        if prompt == decode == link == 1.0:
            return perf
        return scaled(perf, prompt_time=prompt, decode_time=decode, link=link)

    def prices(self, prices: Mapping[str, MachinePrice], currency: str) -> "Prices":
        """Cost, in a currency, and power of machines by name, with the factors on them."""
        from provisioner.planning.formulation import Prices

        return Prices(
            {name: self.of("price", name) * price.cost_usd_per_h for name, price in prices.items()},
            {name: self.of("power", name) * price.provisioned_power_w for name, price in prices.items()},
            currency,
        )

    def slo(self, slo: SLO) -> SLO:
        """An SLO with the factor on its limits."""
        return slo if self.of("slo") == 1.0 else slo.scaled(self.of("slo"))

    def workload(self, workload: Workload) -> Workload:
        """A workload with the factors on its lengths."""
        prompt, output = self.of("prompt-tokens"), self.of("output-tokens")
        return workload if prompt == output == 1.0 else workload.scaled(prompt, output)

    def trace(self, path: str, rules: object, rate: bool = True, times: bool = True) -> Trace:
        """The trace of a file with the factors on its lengths, and on its rate if that counts; ``times`` if they do."""
        trace = read_trace(path, TraceRules.of(rules))
        if times and not trace.format.time_unit:
            raise InputError(f"{path}: {trace.untimed}; give {spelled('workload')} and {spelled('rate_rps')} instead")
        return trace.scaled(self.of("rate") if rate else 1.0, self.of("prompt-tokens"), self.of("output-tokens"))

    def refuse(self, names: Iterable[str], why: str) -> None:
        """Refuse factors that mean nothing for this question."""
        for name in names:
            if any(name == given for given, _ in self.values):
                raise InputError(f"{spelled('scale')} {name}: {why}")

    def notes(self) -> tuple[str, ...]:
        """Warnings for readers of the result."""
        changed = [f"{':'.join(filter(None, of))} x {value:g}" for of, value in self.values.items() if value != 1.0]
        return (f"a what-if: {', '.join(changed)} of what the data say",) if changed else ()


def load_factors(scale: Mapping[str, float], known: Catalog | None = None) -> Factors:
    """Factors from their names, as ``FACTORS`` and ``MACHINE_FACTORS`` have them, with ``:MACHINE`` for one type."""
    values: dict[tuple[str, str], float] = {}
    for given, value in sorted(scale.items(), key=lambda pair: ":" in pair[0]):
        name, _, machine = given.partition(":")
        what = f"{spelled('scale')} {given}"
        if name not in (*FACTORS, *MACHINE_FACTORS):
            raise UnknownNameError("factor", name, (*FACTORS, *MACHINE_FACTORS))
        factor = parse_positive(value, what)
        if machine and name in FACTORS:
            raise InputError(f"{what}: {name} is not an input of a machine type; leave out :{machine}")
        values[name, machine and (known or with_own(None)).machine(machine).name] = factor
    return Factors(values)


def with_own_rate(options: AnyPlanOptions, rate_rps: float) -> AnyPlanOptions:
    """The options with the workload's own rate written out, as the workload may change.

    ``rate_rps`` is that rate with the factor on it. Options with a rate, a trace or a backlog are as they were.
    """
    if options.rate_rps is not None or options.trace is not None or options.backlog_requests is not None:
        return options
    return replace(options, rate_rps=rate_rps / load_factors(options.scale, with_own(options.specs)).of("rate"))
