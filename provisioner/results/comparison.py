"""The result of a comparison: every design at its best, within one budget or at one throughput."""

from dataclasses import dataclass
from typing import Final, Literal

from provisioner.results.plan import Plan
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
    """One design at its best, or the reason why it has no plan.

    ``label`` names it beside the others, ``policy`` is the one that it was judged under.
    ``failed_rps`` is the first rate at which none of its clusters within the budget passes, ``passes_again_rps`` the
    largest rate beyond at which one does all the same; both None if no rate was looked for.
    """

    label: str
    design: str
    policy: str
    colocated: bool
    plan: Plan | None = None
    reason: str = ""
    failed_rps: float | None = None
    passes_again_rps: float | None = None

    def of(self, criterion: ObjectiveName) -> float | None:
        """The plan's value of a criterion: requests/s, $/h, W or machines; None without a plan."""
        return None if self.plan is None else self.plan.of(criterion)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison(ServingResult):
    """Designs side by side, the best first; those without a plan last, with the reason.

    ``same`` is what they have in common: at most a ``budget`` of power, cost or machines, or the throughput
    ``rate_rps``. ``objective`` is what each is best in. Ratios are against the design labelled ``baseline``, "" if no
    design has a plan.
    """

    same: ObjectiveName
    budget: Budget | None
    rate_rps: float | None
    objective: ObjectiveName
    baseline: str
    designs: tuple[ComparedDesign, ...]
    method: str
    kind: Literal["comparison"] = "comparison"

    @property
    def planned(self) -> tuple[tuple[ComparedDesign, Plan], ...]:
        """The designs that have a plan, the best first, each with it."""
        return tuple((each, each.plan) for each in self.designs if each.plan is not None)

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
