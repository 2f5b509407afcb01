"""Answers in brief, and questions with some inputs changed: what studies of many plans are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Literal

from provisioner.errors import InfeasibleError, Interrupted
from provisioner.loading.setting import load_setting
from provisioner.options import PlanOptions
from provisioner.planning.setting import Setting
from provisioner.progress import worded
from provisioner.studies.work import Workers, time_left
from provisioner.verify.answer import best_plan
from provisioner.verify.verdicts import Verdicts

if TYPE_CHECKING:
    from provisioner.results.plan import Plan

Watch = Literal["design", "split", "machines", "splitting"]
WATCHES: Final[Mapping[str, str]] = {
    "design": "the best design",
    "split": "the machines of its pools",
    "machines": "the number of machines",
    "splitting": "whether the best design splits the phases",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer at some factors on the inputs: the best plan in brief, or why there is none."""

    scale: Mapping[str, float]
    feasible: bool
    design: str = ""
    splits: bool = False
    pools: tuple[tuple[str, str, int], ...] = ()  # role, machine, machines
    cost_usd_per_h: float | None = None
    power_w: float | None = None
    machines: int | None = None
    rate_rps: float | None = None
    reason: str = ""

    def of(self, objective: str) -> float | None:
        """The value of an objective, None where there is no plan."""
        known = {
            "cost": self.cost_usd_per_h,
            "power": self.power_w,
            "machines": self.machines,
            "throughput": self.rate_rps,
        }
        return known[objective]

    @property
    def sizes(self) -> str:
        """The machines of the pools, as they are written: ``27 + 3``."""
        return " + ".join(str(machines) for *_, machines in self.pools)

    def watched(self, watch: Watch) -> str:
        """What is watched for a switch, in words; all outcomes without a plan are alike."""
        if not self.feasible:
            return "no plan"
        if watch == "machines":
            return f"{self.machines} machines"
        if watch == "splitting":
            return "split" if self.splits else "colocated"
        return self.design if watch == "design" else f"{self.design} {self.sizes}"

    def row(self) -> dict[str, Any]:
        """The answer as a row of a table."""
        return {
            "feasible": self.feasible,
            "design": self.design,
            "pools": " + ".join(f"{n} {machine} ({role})" for role, machine, n in self.pools),
            "machines": self.machines,
            "cost_usd_per_h": self.cost_usd_per_h,
            "power_w": self.power_w,
            "rate_rps": self.rate_rps,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Question:
    """A question with what is known of it already: elsewhere, in another process, nothing is."""

    options: PlanOptions
    verdicts: Verdicts = field(default_factory=Verdicts, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return Question, (self.options,)


@dataclass(frozen=True, slots=True)
class Change:
    """What is changed about a question: factors, and other options in place of its own."""

    scale: Mapping[str, float]
    options: Mapping[str, Any] = field(default_factory=dict)


def outcome(question: Question, change: Change) -> Outcome:
    """The answer with some inputs multiplied, on top of the factors that the question has itself."""
    scale = dict(question.options.scale)
    for name, factor in change.scale.items():
        scale[name] = scale.get(name, 1.0) * factor
    options = replace(question.options, **{**change.options, "scale": scale})
    setting = load_setting(options)
    try:
        plan = best_plan(setting, verdicts=question.verdicts)
    except InfeasibleError as error:
        return Outcome(dict(change.scale), False, reason=str(error))
    return outcome_of(plan, setting, change.scale)


def outcome_of(plan: Plan, setting: Setting, scale: Mapping[str, float]) -> Outcome:
    """A plan in brief."""
    return Outcome(
        scale=dict(scale),
        feasible=True,
        design=plan.design,
        splits=any(pool.role != "mixed" for pool in plan.pools),
        pools=tuple((pool.role, pool.machine, pool.machines) for pool in plan.pools),
        cost_usd_per_h=plan.cost_usd_per_h,
        power_w=plan.power_w,
        machines=plan.machines,
        rate_rps=plan.rate_rps,
    )


def outcomes(
    question: Question, changes: Sequence[Change], what: str, pool: Workers, progress: Callable[[str], None]
) -> list[Outcome]:
    """The outcomes of all changes, in their order."""
    found: dict[int, Outcome] = {}
    began = monotonic()

    def tell() -> None:
        progress(worded(time_left(len(found), len(changes), began), f"{what}: "))

    try:
        for index, found_here in pool.map(outcome, question, changes, tell):
            found[index] = found_here
            tell()
    except KeyboardInterrupt:
        raise Interrupted(f"{len(found)} of {len(changes)} {what} done") from None
    return [found[index] for index in range(len(changes))]
