"""Designs: which machine type has which role. Their names follow one rule, of which the paper's are instances."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from provisioner.deadline import check_time
from provisioner.errors import InputError, UnknownNameError
from provisioner.options import spelled
from provisioner.results.cluster import complexity
from provisioner.specs.hardware import Machine
from provisioner.specs.roles import ROLES, RoleName


class ReplicaKey(NamedTuple):
    """A kind of replica: its machine type, and its tensor parallelism in GPUs."""

    machine: str
    tensor_parallel: int


@dataclass(frozen=True, slots=True)
class Slot:
    """One pool of a design: a role, a kind of replica, and the prompt lengths that it serves (in tokens, inclusive)."""

    role: RoleName
    machine: Machine
    tensor_parallel: int
    min_prompt_tokens: int = 1
    max_prompt_tokens: int | None = None

    @property
    def replica(self) -> ReplicaKey:
        """The kind of its replicas."""
        return ReplicaKey(self.machine.name, self.tensor_parallel)

    @property
    def serves_all(self) -> bool:
        """Whether every request passes through this pool, or only those of some prompt lengths."""
        return self.min_prompt_tokens <= 1 and self.max_prompt_tokens is None

    def serves(self, prompt_tokens: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether requests of these prompt lengths pass through this pool.

        A class stands for several lengths and has their mean, so that two pools divide the line between whole tokens.
        """
        end = math.inf if self.max_prompt_tokens is None else self.max_prompt_tokens + 1.0
        return (prompt_tokens >= self.min_prompt_tokens) & (prompt_tokens < end)


@dataclass(frozen=True, slots=True)
class Design:
    """A cluster's shape: its pools without their sizes.

    ``family`` names the machine types of its roles; with several degrees of tensor parallelism: Splitwise-HH:8+4.
    """

    family: str
    slots: tuple[Slot, ...]
    shows_degrees: bool = False

    @property
    def name(self) -> str:
        """The family, with the tensor parallelism of the pools if it shows."""
        degrees = "+".join(str(slot.tensor_parallel) for slot in self.slots)
        return f"{self.family}:{degrees}" if self.shows_degrees else self.family

    @property
    def key(self) -> str:
        """The name as it is typed, in lower case."""
        return self.name.lower()

    @property
    def splits(self) -> bool:
        """Whether the two phases run on separate pools."""
        return any(slot.role != "mixed" for slot in self.slots)

    @property
    def shares_role(self) -> bool:
        """Whether some role is served by two machine types."""
        return any(not slot.serves_all for slot in self.slots)

    @property
    def complexity(self) -> int:
        """The complexity of its clusters: fewer roles, then machine types, then degrees of tensor parallelism are less.

        >>> from provisioner.specs.catalog import machine
        >>> [(d.name, d.complexity) for d in designs([machine("dgx-a100"), machine("dgx-h100")])][1:5:3]
        [('Splitwise-AH', 221), ('Baseline-A100', 111)]
        """
        return complexity((slot.role, *slot.replica) for slot in self.slots)

    def used(self, sizes: Sequence[int]) -> Counter[str]:
        """Machines of each type, by name, at these sizes of the pools."""
        used: Counter[str] = Counter()
        for slot, machines in zip(self.slots, sizes, strict=True):
            used[slot.machine.name] += machines
        return used


def baseline(machine: Machine, tensor_parallel: int | None = None, shows_degrees: bool = False) -> Design:
    """The colocated design: every machine does mixed batching. A replica is a whole machine unless given otherwise.

    >>> from provisioner.specs.catalog import machine
    >>> baseline(machine("dgx-a100")).name
    'Baseline-A100'
    """
    short = machine.name.removeprefix("dgx-")
    slot = Slot("mixed", machine, tensor_parallel or machine.gpus)
    return Design(f"Baseline-{short[:1].upper()}{short[1:]}", (slot,), shows_degrees)


def designs(
    machines: Iterable[Machine],
    degrees: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
    within_clouds: bool = False,
) -> tuple[Design, ...]:
    """Every ordered pair of machine types, and one colocated design per type.

    ``within_clouds`` leaves out pairs of an instance with what another cloud sells, or with a machine of no cloud: KV
    caches do not cross between them. ``degrees`` has the tensor parallelism that each machine's replicas are considered
    at, by its name; a replica is a whole machine otherwise. If some machine has several, each combination is a design
    of its own, and names show them.

    >>> from provisioner.specs.catalog import machine
    >>> [d.name for d in designs([machine("dgx-a100"), machine("dgx-h100")])]
    ['Splitwise-AA', 'Splitwise-AH', 'Splitwise-HA', 'Splitwise-HH', 'Baseline-A100', 'Baseline-H100']
    """
    several = any(len(each) > 1 for each in degrees.values())
    types = [(machine, degree) for machine in machines for degree in degrees.get(machine.name, (machine.gpus,))]
    prompts, tokens = ([Slot(role, *each) for each in types] for role in ("prompt", "token"))
    pairs: list[Design] = []
    for prompt in prompts:
        check_time()
        letter = prompt.machine.letter
        pairs += [
            Design(f"Splitwise-{letter}{token.machine.letter}", (prompt, token), several)
            for token in tokens
            if not within_clouds or prompt.machine.cloud == token.machine.cloud
        ]
    return (*pairs, *(baseline(*each, several) for each in types))


def choose(known: tuple[Design, ...], names: Iterable[str]) -> tuple[Design, ...]:
    """The designs of these names in any case, one without degrees for all of its family; an error has the nearest."""
    by_key: dict[str, list[Design]] = {}
    for design in known:
        by_key.setdefault(design.family.lower(), []).append(design)
    by_key |= {design.key: [design] for design in known if design.shows_degrees}
    chosen: list[Design] = []
    for name in names:
        if name.lower() not in by_key:
            raise UnknownNameError("design", name, by_key)
        chosen += by_key[name.lower()]
    if len({design.key for design in chosen}) < len(chosen):
        raise InputError(f"{spelled('designs')}: a design is named twice; name each once")
    return tuple(chosen)


def shared_roles(
    machines: Iterable[Machine],
    stocked: set[str],
    thresholds: tuple[int, ...],
    speed: Mapping[str, float],
    degrees: Mapping[str, int],
    shows_degrees: bool = False,
) -> tuple[Design, ...]:
    """Designs in which one role is served by two machine types, at least one of which has limited stock.

    The faster type (``speed``: prompts per second by machine name) takes the prompts above a threshold, the other those
    up to it. One role is shared at a time. ``degrees`` has the tensor parallelism of each machine's replicas.
    """
    types = tuple(machines)
    result: list[Design] = []

    def slot(role: RoleName, machine: Machine, low: int = 1, high: int | None = None) -> Slot:
        return Slot(role, machine, degrees[machine.name], low, high)

    for (first, second), limit in product(permutations(types, 2), thresholds):
        faster = (speed[first.name], first.name) > (speed[second.name], second.name)
        if not faster or first.cloud != second.cloud or not {first.name, second.name} & stocked:
            continue
        letters = f"({first.letter}+{second.letter})"
        prompt, token, mixed = (
            (slot(role.name, first, limit + 1), slot(role.name, second, 1, limit)) for role in ROLES.values()
        )
        for other in (other for other in types if other.cloud == first.cloud):
            result += [
                Design(f"Splitwise-{letters}{other.letter}", (*prompt, slot("token", other)), shows_degrees),
                Design(f"Splitwise-{other.letter}{letters}", (slot("prompt", other), *token), shows_degrees),
            ]
        result.append(Design(f"Baseline-{letters}", mixed, shows_degrees))
    return tuple(result)
