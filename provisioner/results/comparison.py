"""The result of a comparison: every design at its best, within one budget or at one throughput."""

import math
from dataclasses import dataclass
from typing import Final, Literal

from provisioner.results.plan import Contender, Plan, Splitting
from provisioner.results.result import ServingResult, derived
from provisioner.specs.criteria import CRITERIA, CriterionName, ObjectiveName

COMPARED: Final[tuple[ObjectiveName, ...]] = ("throughput", "cost", "power", "machines")
"""The quantities that are given relative to the baseline, in order."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that a design may use: ``value`` in W, $/h or machines, read from the text ``given``.

    ``machine`` is the machine type whose number was given, None where the amount itself was.
    """

    criterion: CriterionName
    value: float
    given: str
    machine: str | None = None

    def __str__(self) -> str:
        amount = CRITERIA[self.criterion].amount(self.value)
        return amount if self.machine is None or self.criterion == "machines" else f"{amount} (as {self.given})"


@dataclass(frozen=True, slots=True)
class ComparedDesign:
    """One design at its best over its degrees of tensor parallelism, or the reason why it has no plan.

    ``label`` names it beside the others, ``design`` is it at its best degrees; ``policy`` is the one that it was judged
    under. ``failed_rps`` is the first rate at which none of its clusters within the budget passes, ``passes_again_rps``
    the largest rate beyond at which one does all the same; both None if no rate was looked for. Without a plan
    ``miss_ratio`` is how many times over a limit its nearest cluster is, None if that is not known. ``proven`` says
    that nothing better of it, or nothing at all, passes.
    """

    label: str
    design: str
    policy: str
    colocated: bool
    plan: Plan | None = None
    reason: str = ""
    failed_rps: float | None = None
    passes_again_rps: float | None = None
    miss_ratio: float | None = None
    proven: bool = True

    @property
    def contender(self) -> Contender | None:
        """The design's cluster as one side of what splitting brings; None without a plan."""
        if (plan := self.plan) is None:
            return None
        same = {name: getattr(plan, name) for name in ("design", "pools", "cost_usd_per_h", "power_w", "rate_rps")}
        policy = "" if plan.evidence is None else plan.evidence.policy
        return Contender(**same, policy=policy, batch_tokens=tuple(pool.batch_tokens for pool in plan.pools))

    def of(self, criterion: ObjectiveName) -> float | None:
        """The plan's value of a criterion: requests/s, $/h, W or machines; None without a plan."""
        return None if self.plan is None else self.plan.of(criterion)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison(ServingResult):
    """Designs side by side, the best first; those without a plan last, with the reason.

    ``same`` is what they have in common: at most a ``budget`` of power, cost or machines, or the throughput
    ``rate_rps``. ``objective`` is what each is best in; ``budgets_chosen``: each pool has the best of several token
    budgets. Ratios are against the design labelled ``baseline``, "" if no
    design has a plan.
    """

    same: ObjectiveName
    budget: Budget | None
    rate_rps: float | None
    objective: ObjectiveName
    baseline: str
    designs: tuple[ComparedDesign, ...]
    budgets_chosen: bool
    method: str
    kind: Literal["comparison"] = "comparison"

    @property
    def planned(self) -> tuple[tuple[ComparedDesign, Plan], ...]:
        """The designs that have a plan, the best first, each with it."""
        return tuple((each, each.plan) for each in self.designs if each.plan is not None)

    @property
    def unanswered(self) -> str:
        """The nearest miss if no design has a plan, in a line; else ""."""
        if self.planned:
            return ""
        nearest = min(self.designs, key=lambda each: math.inf if each.miss_ratio is None else each.miss_ratio)
        return f"no design has a plan; the nearest is {nearest.label}: {nearest.reason}"

    def split_against_colocated(self, design: ComparedDesign | None = None) -> Splitting | None:
        """A design that splits the phases, the best unless given, beside the best colocated one of all compared.

        None if one of the two is not proven the best of its kind, or none of its kind is compared.
        """
        kinds = [[each for each in self.designs if each.colocated is kind] for kind in (False, True)]
        split = kinds[0] if design is None else [design]
        if not all(kinds) or not all(each.proven for each in (*split, *kinds[1])):
            return None
        return Splitting(split[0].contender, kinds[1][0].contender, self.objective, self.budgets_chosen)

    @derived
    def splitting(self) -> dict[str, float | None]:
        """The gain of each design that splits the phases over the best colocated one compared, by label.

        The ratio of the objective, above 1 if splitting pays; None for colocated designs, and where it is not known.
        """
        found = {each.label: None if each.colocated else self.split_against_colocated(each) for each in self.designs}
        return {label: None if of is None else of.gain for label, of in found.items()}

    @derived
    def ratios(self) -> dict[str, dict[ObjectiveName, float | None]]:
        """Each design's quantities over those of the baseline, by label; None if either has no plan."""
        base = next((plan for each, plan in self.planned if each.label == self.baseline), None)
        return {
            each.label: {
                name: None if each.plan is None or base is None else each.plan.of(name) / base.of(name)
                for name in COMPARED
            }
            for each in self.designs
        }
