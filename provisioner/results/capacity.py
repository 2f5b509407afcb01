"""The result of a capacity: the largest rate that a cluster in hand holds, its binding limit, and additions."""

from dataclasses import dataclass
from typing import Literal

from provisioner.results.cluster import Cluster, HasCluster, Totals
from provisioner.results.result import ServingResult, derived
from provisioner.results.simulation import Attained, LatencyResult, SimulatedPool, Verdict
from provisioner.specs.criteria import CriterionName


@dataclass(frozen=True, slots=True)
class Tried:
    """A verdict on the cluster at a rate; ``worst_ratio`` is the largest percentile over its limit.

    It is infinite if the cluster does not keep up, and a lower bound if ``at_least``.
    """

    rate_rps: float
    outcome: Verdict
    worst_ratio: float
    at_least: bool
    stable: bool | None


@dataclass(frozen=True, slots=True)
class Addition:
    """The least to add to hold a rate: machines of each pool with their totals, or the reason why nothing would do.

    ``added`` has every pool, also one that needs no more, at the tensor parallelism that the whole pool then has; it
    and its ``totals`` are None if nothing would do. ``batch_tokens`` are the pools' token budgets, as of a
    ``Capacity``. ``proven`` says that nothing less passes; ``simulated`` counts the clusters that were simulated for
    it. ``reason`` also says that nothing has to be added.
    """

    rate_rps: float
    added: Cluster | None
    totals: Totals | None
    proven: bool
    simulated: int
    reason: str = ""
    batch_tokens: tuple[int | None, ...] = ()

    @derived
    def feasible(self) -> bool:
        """Whether some addition holds the rate."""
        return self.added is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity(HasCluster, ServingResult):
    """The largest rate that a cluster holds, to 1 %: at ``failed_rps`` it fails, the first failure above.

    It is at the tensor parallelism, of those that were ``considered`` for its pools, that holds most, and
    ``batch_tokens`` are the token budgets of its pools, None where they have none. ``passes_again_rps`` are rates
    somewhat above that at which it passes nevertheless: between them verdicts flip. ``breaks`` are the percentiles that
    miss their limit at the first failure or are undecided, the largest over its limit first; ``stable_beyond`` says
    whether the cluster keeps up there (None: untold). ``pools`` and ``latency`` are those of the cluster at its largest
    rate, ``tried`` has every verdict in the order of rates. All rates are without the headroom that they hold.
    ``objective`` is what additions have the least of; ``rule`` says when a cluster passes.
    """

    design: str
    pools: tuple[SimulatedPool, ...]
    totals: Totals
    batch_tokens: tuple[int | None, ...]
    considered: tuple[tuple[int, ...], ...]
    rate_rps: float
    failed_rps: float
    passes_again_rps: tuple[float, ...]
    breaks: tuple[LatencyResult, ...]
    stable_beyond: bool | None
    additions: tuple[Addition, ...]
    objective: CriterionName
    latency: tuple[LatencyResult, ...]
    attainment: Attained | None
    tried: tuple[Tried, ...]
    rule: str
    kind: Literal["capacity"] = "capacity"

    @derived
    def binding(self) -> str:
        """The limit that is missed by most at the first failure; ``capacity`` if the cluster does not keep up."""
        return self.breaks[0].label if self.stable_beyond and self.breaks else "capacity"
