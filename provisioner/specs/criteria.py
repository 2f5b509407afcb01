"""The criteria by which clusters are compared: one row each, for objectives, limits, tables and charts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from provisioner.specs.money import in_currency
from provisioner.specs.units import format_cost, format_power, format_rate

Watch = Literal["design", "split", "machines", "splitting"]
CriterionName = Literal["cost", "power", "machines"]
ObjectiveName = Literal["cost", "power", "machines", "throughput"]
Tiebreak = Literal["complexity", "cost", "power", "machines"]


@dataclass(frozen=True, slots=True)
class Criterion:
    """A quantity that a choice makes smallest, or largest where ``largest``.

    ``field`` is its name in results (``Totals`` and ``Plan``); tables and charts show its value times ``shown_scale``
    in the ``unit``, texts the ``amount``. ``superlative`` begins "... for coding at 70 requests/s".
    """

    name: ObjectiveName
    field: str
    unit: str
    amount: Callable[[float], str]
    superlative: str
    short: str
    shown_scale: float = 1.0
    largest: bool = False

    @property
    def shown_unit(self) -> str:
        """The unit, an amount of money in the currency that is shown."""
        return in_currency(self.unit)

    @property
    def axis(self) -> str:
        """The title of an axis: the name with its unit."""
        return self.name if self.unit == self.name else f"{self.name} ({self.shown_unit})"

    def gain(self, value: float, other: float) -> float:
        """The ratio of two values that is above 1 where ``value`` is the better one.

        >>> CRITERIA["cost"].gain(80.0, 100.0), CRITERIA["throughput"].gain(80.0, 100.0)
        (1.25, 0.8)
        """
        return value / other if self.largest else other / value


def _machines(count: float) -> str:
    return "1 machine" if count == 1 else f"{count:,.0f} machines"


_ROWS: Final = (
    Criterion("cost", "cost_usd_per_h", "$/h", format_cost, "The cheapest plan", "cheapest"),
    Criterion("power", "power_w", "kW", format_power, "The plan with the least power", "least power", shown_scale=1e-3),
    Criterion("machines", "machines", "machines", _machines, "The plan with the fewest machines", "fewest machines"),
    Criterion(
        "throughput",
        "rate_rps",
        "requests/s",
        format_rate,
        "The plan with the largest throughput",
        "largest throughput",
        largest=True,
    ),
)

CRITERIA: Final[Mapping[str, Criterion]] = MappingProxyType({row.name: row for row in _ROWS})
"""Every criterion by name; the last one is of a rate, not of a cluster."""

OF_CLUSTERS: Final[tuple[CriterionName, ...]] = ("cost", "power", "machines")
"""The criteria that are totals of a cluster's machines."""

TIES: Final[tuple[Tiebreak, ...]] = ("complexity", *OF_CLUSTERS)
"""Quantities that decide, the first one first, between clusters alike in the objective: the simplest one wins."""


def order(objective: CriterionName, ties: Sequence[Tiebreak] = TIES) -> tuple[Tiebreak, ...]:
    """The objective, then what breaks its ties, in the order in which they decide.

    >>> order("power")
    ('power', 'complexity', 'cost', 'machines')
    """
    return (objective, *(each for each in ties if each != objective))


WATCHES: Final[Mapping[Watch, str]] = MappingProxyType(
    {
        "design": "the best design",
        "split": "the machines of its pools",
        "machines": "the number of machines",
        "splitting": "whether to split",
    }
)
"""Properties of the best plan whose changes can be searched for, as phrases."""
