"""A question with everything loaded: values alone, from which guesses, proofs and plans are computed."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

import numpy as np

from provisioner.options.defaults import PolicyName, policies
from provisioner.perf.assumptions import Reference, ReplicaPerf
from provisioner.planning.candidates import LatencyInputs
from provisioner.planning.designs import Design, ReplicaKey, shared_roles
from provisioner.planning.formulation import Caps, Criterion, Prices
from provisioner.planning.search import Search
from provisioner.progress import Progress
from provisioner.queueing.traffic import Traffic
from provisioner.results.cluster import Pool
from provisioner.specs.batch_job import BatchJob
from provisioner.specs.criteria import TIES, ObjectiveName, Tiebreak
from provisioner.specs.hardware import Machine
from provisioner.specs.slo import SLO
from provisioner.specs.traces import Trace
from provisioner.specs.workload import Workload

# Prompt lengths at which a role shared by two types may be divided: deciles of the workload's tokens between these.
_DIVISIONS: Final = (0.2, 0.35, 0.5, 0.65, 0.8)


@dataclass(frozen=True, slots=True)
class Judging:
    """The rule by which clusters are judged: with any ``survive`` machines lost, under a policy and those beside it.

    ``batch_tokens`` are the token budgets considered for each pool that computes prompts; none: the engine's own.
    """

    sets: int
    duration_s: float
    seed: int
    confidence: float
    cut_margin: float
    policy: PolicyName
    survive: int = 0
    batch_tokens: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Searching:
    """The search for the best cluster. No verdict on a cluster depends on it."""

    solver: str
    fast: bool = False
    exhaustive: bool = False
    write_lp: str | None = None


@dataclass(frozen=True, slots=True)
class Setting:
    """A loaded question: what the answer is computed from.

    ``traffic`` is at the planned rate, ``headroom_factor`` times the rate served. ``job`` is in place of a rate.
    ``named`` says whether designs were named. ``question`` has every option as a plain value, which is only shown.
    ``verdicts_rest_on`` are the inputs that change a verdict on a cluster beside rate, limits and judging. ``smaller``
    has machine types with fewer of the same GPUs, by machine, and their cost in $/h, if known: the smallest first.
    ``ties`` decide between clusters with the same objective.
    """

    model: str
    workload: str
    source: Workload | Trace  # what request sets are made of
    rate_rps: float  # that is served, without headroom
    headroom_factor: float
    traffic: Traffic
    slo: SLO
    job: BatchJob | None
    reference: Reference
    context_tokens: int
    replicas: Mapping[ReplicaKey, ReplicaPerf]
    designs: tuple[Design, ...]
    named: bool
    prices: Prices
    caps: Caps
    objective: ObjectiveName
    judging: Judging
    searching: Searching
    sources: tuple[str, ...]
    warnings: tuple[str, ...]
    versions: Mapping[str, str]
    engine: str
    question: Mapping[str, Any]
    verdicts_rest_on: Hashable
    smaller: Mapping[str, tuple[tuple[Machine, float | None], ...]] = field(default_factory=dict)
    ties: tuple[Tiebreak, ...] = TIES

    @property
    def criterion(self) -> Criterion:
        """The criterion of the objective; for the largest throughput, that of the cluster at it: cost."""
        return "cost" if self.objective == "throughput" else self.objective

    @property
    def rests_on(self) -> dict[str, Any]:
        """Fields that results have of their question: from the model to the currency of the prices."""
        names = ("model", "workload", "engine", "context_tokens", "sources", "versions")
        same = {name: getattr(self, name) for name in names} | {"reference": str(self.reference)}
        return same | {"slo": self.slo.name, "seed": self.judging.seed, "currency": self.prices.currency}

    @property
    def predicted(self) -> SLO:
        """The limits that the queueing formulas can decide, or a bound on them."""
        c = self.traffic.classes
        return self.slo.predicted(float(c.weight[c.output_tokens > 1.0].sum()))

    def at(self, planned_rps: float) -> Self:
        """This question at another rate, headroom included."""
        return replace(self, traffic=self.traffic_at(planned_rps), rate_rps=planned_rps / self.headroom_factor)

    def traffic_at(self, planned_rps: float) -> Traffic:
        """The traffic at another peak rate."""
        return self.traffic.scaled(1.0 / self.traffic.peak_rps).scaled(planned_rps)

    def within(self, caps: Caps) -> Self:
        """This question within other caps."""
        shown = {f"max_{name}": getattr(caps, name) for name in ("cost_usd_per_h", "power_w", "machines")}
        return replace(self, caps=caps, question={**self.question, **shown})

    def only(self, name: str, designs: tuple[Design, ...], judging: Judging) -> Self:
        """This question for the designs that a name stands for, all split or all colocated, judged by a rule."""
        policy = policies(judging.policy)[not designs[0].splits]
        return replace(
            self,
            designs=designs,
            named=True,
            judging=judging,
            question={**self.question, "designs": (name.lower(),), "policy": policy},
        )

    @property
    def machines(self) -> tuple[str, ...]:
        """Names of the machine types considered."""
        return tuple(dict.fromkeys(perf.machine.name for perf in self.replicas.values()))

    def replica(self, machine: str, tensor_parallel: int) -> ReplicaPerf:
        """The replica of a machine at a tensor parallelism that is considered."""
        return self.replicas[ReplicaKey(machine, tensor_parallel)]

    def pools(self, design: Design, sizes: Sequence[int]) -> tuple[Pool, ...]:
        """The pools of a design with these numbers of machines."""
        return tuple(
            Pool(
                slot.role,
                slot.machine.name,
                slot.tensor_parallel,
                slot.machine.gpus,
                machines * self.replicas[slot.replica].replicas_per_machine,
                slot.min_prompt_tokens,
                slot.max_prompt_tokens,
            )
            for slot, machines in zip(design.slots, sizes, strict=True)
        )

    def priced(self, design: Design, sizes: Sequence[int], totals: Mapping[Tiebreak, float]) -> dict[str, Any]:
        """The fields that results have of a cluster: design, pools, cost and power."""
        pools, cost, power = self.pools(design, sizes), totals["cost"], totals["power"]
        return {"design": design.name, "pools": pools, "cost_usd_per_h": cost, "power_w": power}

    def search(
        self,
        traffic: Traffic | None = None,
        designs: tuple[Design, ...] | None = None,
        progress: Progress = lambda _: None,
    ) -> Search:
        """The search over some designs at some traffic, those of the question unless given."""
        question = LatencyInputs(traffic or self.traffic, self.predicted, self.reference, self.replicas)
        designs = self.designs if designs is None else designs
        return Search(question, designs, self.prices, self.caps, self.searching.solver, progress, self.ties)

    def sharing_designs(self) -> tuple[Design, ...]:
        """The designs in which two types share a role, for where stock is short; none where designs were named."""
        if not self.caps.stock or self.named:
            return ()
        slots = [slot for design in self.designs for slot in design.slots]
        machines = {slot.machine.name: slot.machine for slot in slots}
        degrees = {name: max(slot.tensor_parallel for slot in slots if slot.machine.name == name) for name in machines}
        shown = any(design.shows_degrees for design in self.designs)
        lengths, weight = self.traffic.classes.prompt_tokens, self.traffic.classes.weight
        mean = np.array([float(np.sum(weight * lengths))])
        fastest = {name: self.replica(name, degree) for name, degree in degrees.items()}
        speed = {name: perf.replicas_per_machine / float(perf.prompt_s(mean)[0]) for name, perf in fastest.items()}
        by_length = np.argsort(lengths)
        tokens = np.cumsum((weight * lengths)[by_length])
        at = np.unique(lengths[by_length][np.searchsorted(tokens, np.array(_DIVISIONS) * tokens[-1])].astype(int))
        divisions = tuple(at[at < lengths.max()].tolist())
        return shared_roles(machines.values(), set(self.caps.stock), divisions, speed, degrees, shown)
