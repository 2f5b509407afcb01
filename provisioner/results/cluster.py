"""A cluster: its pools of replicas on machines, and its totals."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Final, Self

from provisioner.results.result import derived
from provisioner.specs.criteria import CriterionName
from provisioner.specs.money import monthly
from provisioner.specs.roles import RoleName


@dataclass(frozen=True, slots=True)
class Pool:
    """Replicas of one kind with one role, the parts of a cluster.

    A replica is ``tensor_parallel`` GPUs of a machine type that has ``gpus_per_machine``. The pool serves prompts from
    ``min_prompt_tokens`` to ``max_prompt_tokens`` (None: without end).

    >>> pool = Pool("token", "dgx-h100", tensor_parallel=4, gpus_per_machine=8, replicas=6)
    >>> pool.machines, str(pool)
    (3, '3 token dgx-h100 at TP 4')
    """

    role: RoleName
    machine: str
    tensor_parallel: int
    gpus_per_machine: int
    replicas: int
    min_prompt_tokens: int = 1
    max_prompt_tokens: int | None = None

    @derived
    def machines(self) -> int:
        """Machines that hold the replicas, in whole machines."""
        return -(-self.replicas // (self.gpus_per_machine // self.tensor_parallel))

    @property
    def serves_all(self) -> bool:
        """Whether every request passes through this pool, or only those of some prompt lengths."""
        return self.min_prompt_tokens <= 1 and self.max_prompt_tokens is None

    @property
    def requests(self) -> str:
        """The prompt lengths served, as a phrase."""
        if self.serves_all:
            return "all requests"
        if self.max_prompt_tokens is None:
            return f"prompts of {self.min_prompt_tokens:,} tokens or more"
        return f"prompts of up to {self.max_prompt_tokens:,} tokens"

    def __str__(self) -> str:
        return f"{self.machines} {self.role} {self.machine} at TP {self.tensor_parallel}"


_PARTS: Final = (("role", "roles"), ("machine type", "machine types"), ("degree of TP", "degrees of TP"))
"""Kinds of parts that make a cluster complex, the weightiest first."""
_DIGIT: Final = 10  # more than a cluster has different parts of a kind, since it has fewer pools


def complexity(pools: Iterable[tuple[RoleName, str, int]]) -> int:
    """Complexity of pools, given as role, machine type and tensor parallelism: how many of each differ, as digits.

    The smaller number is the simpler cluster: that with fewer roles, then types, then degrees of tensor parallelism.

    >>> complexity([("prompt", "dgx-h100", 4), ("token", "dgx-h100", 2)]), complexity([("mixed", "dgx-h100", 4)])
    (212, 111)
    """
    value = 0
    for parts in zip(*pools, strict=True):
        value = value * _DIGIT + len(set(parts))
    return value


def added_complexity(value: float, simpler: float) -> str:
    """The parts of the first kind in which two complexities differ, as text.

    >>> added_complexity(212, 111), added_complexity(213, 211)
    ('1 more role', '2 more degrees of TP')
    """
    weights = [_DIGIT**k for k in reversed(range(len(_PARTS)))]
    for names, weight in zip(_PARTS, weights, strict=True):
        if more := int(value // weight - simpler // weight):
            return f"{abs(more)} {'more' if more > 0 else 'fewer'} {names[abs(more) > 1]}"
    return ""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A design with the sizes of its pools: the one value for a cluster, everywhere.

    >>> h = Pool("prompt", "dgx-h100", 8, 8, replicas=15), Pool("token", "dgx-h100", 8, 8, replicas=2)
    >>> str(Cluster("Splitwise-HH", h)), Cluster("Splitwise-HH", h).sizes, Cluster("Splitwise-HH", h).machines
    ('Splitwise-HH 15 + 2', '15 + 2', 17)
    """

    design: str
    pools: tuple[Pool, ...]

    @property
    def machines(self) -> int:
        """Machines of all pools together."""
        return sum(pool.machines for pool in self.pools)

    @property
    def splits(self) -> bool:
        """Whether the two phases run on separate pools."""
        return any(pool.role != "mixed" for pool in self.pools)

    @property
    def complexity(self) -> int:
        """Different roles, machine types and degrees of tensor parallelism of its pools, as digits (``complexity``)."""
        return complexity((pool.role, pool.machine, pool.tensor_parallel) for pool in self.pools)

    @property
    def degrees(self) -> str:
        """Tensor parallelism of the pools in order, as names of designs have it: ``8+4``."""
        return "+".join(str(pool.tensor_parallel) for pool in self.pools)

    @property
    def sizes(self) -> str:
        """Machines of the pools in order: ``15 + 2``."""
        return " + ".join(str(pool.machines) for pool in self.pools)

    @property
    def by_role(self) -> str:
        """Machines of the pools with their roles: ``15 prompt + 2 token``; with machine types where a role has two."""
        shared = max(Counter(pool.role for pool in self.pools).values(), default=0) > 1
        return self.by_machine if shared else " + ".join(f"{pool.machines} {pool.role}" for pool in self.pools)

    @property
    def by_machine(self) -> str:
        """Machines of the pools with roles and types: ``15 prompt dgx-h100 + 2 token dgx-a100``."""
        return " + ".join(f"{pool.machines} {pool.role} {pool.machine}" for pool in self.pools)

    @property
    def listed(self) -> str:
        """The machines with the roles behind them: ``15 dgx-h100 (prompt) + 2 dgx-a100 (token)``."""
        return " + ".join(f"{pool.machines} {pool.machine} ({pool.role})" for pool in self.pools)

    @property
    def headline(self) -> str:
        """The cluster in one line: ``Splitwise-HA: 15 dgx-h100 (prompt) + 2 dgx-a100 (token)``."""
        return f"{self.design}: {self.listed}"

    def __str__(self) -> str:
        return f"{self.design} {self.sizes}"


class HasCluster:
    """A value with a design and its pools, such as a plan, a simulation or a capacity."""

    __slots__ = ()
    design: str
    pools: tuple[Pool, ...]

    @property
    def cluster(self) -> Cluster:
        """The design with these pools."""
        return Cluster(self.design, self.pools)


@dataclass(frozen=True, slots=True)
class Totals:
    """The sums over a cluster: cost in $/h, provisioned power in W, and machines."""

    cost_usd_per_h: float
    power_w: float
    machines: int

    @derived
    def cost_usd_per_month(self) -> float:
        """Cost of a month, of 730 h."""
        return monthly(self.cost_usd_per_h)

    def of(self, criterion: CriterionName) -> float:
        """The total of a criterion."""
        return {"cost": self.cost_usd_per_h, "power": self.power_w, "machines": float(self.machines)}[criterion]

    @classmethod
    def over(cls, parts: Iterable[Self]) -> Self:
        """The sum of several totals."""
        listed = tuple(parts)
        return cls(*(sum(getattr(part, each.name) for part in listed) for each in fields(cls)))
