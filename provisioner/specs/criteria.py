"""The criteria by which clusters are compared: one row each, for objectives, limits, tables and charts."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

Watch = Literal["design", "split", "machines", "splitting"]
CriterionName = Literal["cost", "power", "machines"]
ObjectiveName = Literal["cost", "power", "machines", "throughput"]


@dataclass(frozen=True, slots=True)
class Criterion:
    """A quantity that a choice makes smallest, or largest where ``largest``.

    ``field`` is its name in results (``Totals`` and ``Plan``); ``axis`` and ``shown_unit`` serve tables and charts,
    which show the field's value times ``shown_scale``. ``superlative`` begins "... for coding at 70 requests/s".
    """

    name: ObjectiveName
    field: str
    axis: str
    shown_unit: str
    superlative: str
    short: str
    shown_scale: float = 1.0
    largest: bool = False


_ROWS: Final = (
    Criterion("cost", "cost_usd_per_h", "cost ($/h)", "$/h", "The cheapest plan", "cheapest"),
    Criterion("power", "power_w", "power (kW)", "kW", "The plan with the least power", "least power", shown_scale=1e-3),
    Criterion("machines", "machines", "machines", "machines", "The plan with the fewest machines", "fewest machines"),
    Criterion(
        "throughput",
        "rate_rps",
        "throughput (requests/s)",
        "requests/s",
        "The plan with the largest throughput",
        "largest throughput",
        largest=True,
    ),
)

CRITERIA: Final[Mapping[str, Criterion]] = MappingProxyType({row.name: row for row in _ROWS})
"""Every criterion by name, in the order in which ties are broken; the last one is of a rate, not of a cluster."""

OF_CLUSTERS: Final[tuple[CriterionName, ...]] = ("cost", "power", "machines")
"""The criteria that are totals of a cluster's machines."""

WATCHES: Final[Mapping[Watch, str]] = MappingProxyType(
    {
        "design": "the best design",
        "split": "the machines of its pools",
        "machines": "the number of machines",
        "splitting": "whether to split",
    }
)
"""Properties of the best plan whose changes can be searched for, as phrases."""
