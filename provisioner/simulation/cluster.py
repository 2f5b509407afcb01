"""The simulated cluster: pools of machines with their roles, and the machines that fail."""

from collections.abc import Hashable
from dataclasses import dataclass, fields
from itertools import count

from provisioner.errors import InputError
from provisioner.options.defaults import SPLITTING
from provisioner.perf.assumptions import ReplicaPerf
from provisioner.simulation.policy import Policy
from provisioner.specs.roles import ROLES, RoleName


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """Machines of one type with one role, serving the prompts of some lengths (in tokens, inclusive).

    ``batch_tokens`` are the most tokens of an iteration on its replicas; None: those of the cluster's policy.
    """

    role: RoleName
    perf: ReplicaPerf
    machines: int
    min_prompt_tokens: int = 1
    max_prompt_tokens: int | None = None
    batch_tokens: int | None = None

    def __post_init__(self) -> None:
        what = f"{self.role} pool of {self.perf.machine.name}"
        if self.role not in ROLES:
            raise InputError(f"pool: role: must be one of {', '.join(ROLES)}, got {self.role!r}")
        if isinstance(self.machines, bool) or not isinstance(self.machines, int) or self.machines < 1:
            raise InputError(f"{what}: machines: must be 1 or more, got {self.machines}")
        if self.batch_tokens is not None and self.batch_tokens < 1:
            raise InputError(f"{what}: batch_tokens: must be 1 or more, got {self.batch_tokens}")

    @property
    def replicas(self) -> int:
        """Replicas of the model in the pool."""
        return self.machines * self.perf.replicas_per_machine

    @property
    def behaviour(self) -> tuple[Hashable, ...]:
        """Everything that the pool's service of requests depends on, but for links: not the sizes of its machines."""
        served = (getattr(self, field.name) for field in fields(self) if field.name not in ("perf", "machines"))
        return (self.perf.behaviour, self.replicas, *served)


@dataclass(frozen=True, slots=True)
class Outage:
    """A machine that fails at ``at_s`` and comes back at ``until_s`` (None: never).

    ``machine`` counts from 0 through the pools of the cluster in order. Its requests start again from scratch.
    """

    machine: int
    at_s: float
    until_s: float | None = None

    def __post_init__(self) -> None:
        if self.machine < 0:
            raise InputError(f"outage: machine: must be 0 or more, got {self.machine}")
        if not 0.0 <= self.at_s < float("inf"):
            raise InputError(f"outage of machine {self.machine}: must begin at 0 s or later, got {self.at_s} s")
        if self.until_s is not None and not self.at_s < self.until_s < float("inf"):
            raise InputError(
                f"outage of machine {self.machine}: must end after it begins at {self.at_s:g} s, got {self.until_s} s"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Cluster:
    """Pools and how they schedule. All pools serve the same model under the same assumptions."""

    pools: tuple[Pool, ...]
    policy: Policy
    outages: tuple[Outage, ...] = ()

    def __post_init__(self) -> None:
        roles = sorted({pool.role for pool in self.pools})
        wanted = ["prompt", "token"] if self.policy.name in SPLITTING else ["mixed"]
        if roles != wanted:
            have = " and ".join(roles) or "no"
            raise InputError(f"policy {self.policy.name}: needs {' and '.join(wanted)} pools, got {have} pools")
        by_length = any(pool.min_prompt_tokens > 1 or pool.max_prompt_tokens is not None for pool in self.pools)
        if self.policy.name == "splitwise" and by_length:
            raise InputError("policy splitwise: pools by prompt length cannot lend machines; use the policy split")
        first = self.pools[0].perf
        for pool in self.pools:
            if pool.perf.model.name != first.model.name or pool.perf.assumptions != first.assumptions:
                raise InputError("cluster: all pools must serve the same model under the same assumptions")
        if self.policy.of_engines and (first.assumptions != "measured" or self.policy.transfer_retry_s > 0.0):
            raise InputError(f"policy {self.policy.name}: is of engines, which the published simulator does not know")
        for outage in self.outages:
            if outage.machine >= self.machines:
                raise InputError(f"outage: machine {outage.machine}: the cluster has machines 0 to {self.machines - 1}")

    def budget_tokens(self, pool: Pool) -> int:
        """The most tokens of an iteration on a replica of a pool."""
        return self.policy.batch_tokens if pool.batch_tokens is None else pool.batch_tokens

    @property
    def machines(self) -> int:
        """Machines of all pools."""
        return sum(pool.machines for pool in self.pools)

    @property
    def behaviour(self) -> Hashable:
        """Everything that a run depends on, equal for clusters with as many replicas on machines of other sizes.

        Links count where KV caches are sent, and machines where they fail.
        """
        sends = self.policy.name in SPLITTING
        links = tuple(pool.perf.link_share_bytes_per_s for pool in self.pools) if sends else ()
        machines = tuple(pool.machines for pool in self.pools) if self.outages else ()
        return self.policy, self.outages, links, machines, *(pool.behaviour for pool in self.pools)

    @property
    def machine_names(self) -> tuple[str, ...]:
        """Names of the machines in the order of the pools: the role and the number within it, from 1."""
        number = {role: count(1) for role in ROLES}
        return tuple(f"{pool.role}:{next(number[pool.role])}" for pool in self.pools for _ in range(pool.machines))
