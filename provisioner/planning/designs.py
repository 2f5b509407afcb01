"""Designs: which machine type has which role. Their names follow one rule, of which the paper's are instances."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from provisioner.errors import InputError, UnknownNameError
from provisioner.options import spelled
from provisioner.specs.hardware import Machine

Role = Literal["prompt", "token", "mixed"]


@dataclass(frozen=True, slots=True)
class Slot:
    """One pool of a design: a role, a machine type, and the prompt lengths that it serves (in tokens, inclusive)."""

    role: Role
    machine: Machine
    min_prompt_tokens: int = 1
    max_prompt_tokens: int | None = None
    tensor_parallel: int | None = None  # None where the machine is considered at one degree only

    @property
    def kind(self) -> str:
        """The machine, with the tensor parallelism of its replicas where several are considered."""
        return kind_of(self.machine.name, self.tensor_parallel)

    @property
    def serves_all(self) -> bool:
        """Whether every request passes through this pool, or only those of some prompt lengths."""
        return self.min_prompt_tokens <= 1 and self.max_prompt_tokens is None

    @property
    def requests(self) -> str:
        """The prompt lengths served, as text."""
        if self.serves_all:
            return "all requests"
        if self.max_prompt_tokens is None:
            return f"prompts of {self.min_prompt_tokens:,} tokens or more"
        return f"prompts of up to {self.max_prompt_tokens:,} tokens"


def kind_of(machine: str, tensor_parallel: int | None) -> str:
    """A machine and the tensor parallelism of its replicas, as ``dgx-h100:4``; the machine where that is None."""
    return machine if tensor_parallel is None else f"{machine}:{tensor_parallel}"


@dataclass(frozen=True, slots=True)
class Design:
    """A cluster's shape: its pools without their sizes.

    If machines are considered at several degrees of tensor parallelism, the name ends with those of its pools:
    Splitwise-HH:8+4.

    >>> from provisioner.specs.catalog import machine
    >>> split(machine("dgx-h100"), machine("dgx-a100")).name
    'Splitwise-HA'
    """

    name: str
    slots: tuple[Slot, ...]

    @property
    def key(self) -> str:
        """The name as it is typed, in lower case."""
        return self.name.lower()

    @property
    def family(self) -> str:
        """The name as it is typed, without tensor parallelism."""
        return self.key.partition(":")[0]

    @property
    def splits(self) -> bool:
        """Whether the two phases run on separate pools."""
        return any(slot.role != "mixed" for slot in self.slots)

    @property
    def shares_role(self) -> bool:
        """Whether some role is served by two machine types."""
        return any(not slot.serves_all for slot in self.slots)


def split(prompt: Machine, token: Machine, degrees: tuple[int | None, int | None] = (None, None)) -> Design:
    """The Splitwise design with these machines, and tensor parallelism, for the prompt and the token phase."""
    slots = Slot("prompt", prompt, tensor_parallel=degrees[0]), Slot("token", token, tensor_parallel=degrees[1])
    return Design(f"Splitwise-{prompt.letter}{token.letter}{_degrees(slots)}", slots)


def _degrees(slots: Iterable[Slot]) -> str:
    """The end of a design's name with its tensor parallelism; empty if no pool has a choice."""
    each = [slot.tensor_parallel for slot in slots]
    return "" if None in each else f":{'+'.join(map(str, each))}"


def baseline(machine: Machine, tensor_parallel: int | None = None) -> Design:
    """The colocated design: every machine does mixed batching.

    >>> from provisioner.specs.catalog import machine
    >>> baseline(machine("dgx-a100")).name
    'Baseline-A100'
    """
    short = machine.name.removeprefix("dgx-")
    slots = (Slot("mixed", machine, tensor_parallel=tensor_parallel),)
    return Design(f"Baseline-{short[:1].upper()}{short[1:]}{_degrees(slots)}", slots)


def designs(
    machines: Iterable[Machine], degrees: Mapping[str, tuple[int, ...]] = MappingProxyType({})
) -> tuple[Design, ...]:
    """Every ordered pair of machine types, and one colocated design per type.

    ``degrees`` has the tensor parallelism that each machine's replicas are considered at, by its name. If some
    machine has several, each combination is a design of its own.

    >>> from provisioner.specs.catalog import machine
    >>> [d.name for d in designs([machine("dgx-a100"), machine("dgx-h100")])]
    ['Splitwise-AA', 'Splitwise-AH', 'Splitwise-HA', 'Splitwise-HH', 'Baseline-A100', 'Baseline-H100']
    """
    several = any(len(each) > 1 for each in degrees.values())
    types = [(machine, degree) for machine in machines for degree in (degrees[machine.name] if several else (None,))]
    pairs = tuple(split(p, t, (prompt, token)) for p, prompt in types for t, token in types)
    return pairs + tuple(baseline(*each) for each in types)


def choose(known: tuple[Design, ...], names: Iterable[str]) -> tuple[Design, ...]:
    """The designs of these names, in lower or upper case, or an error that offers the nearest.

    A name without tensor parallelism stands for all designs of that name.
    """
    by_key: dict[str, tuple[Design, ...]] = {}
    for design in known:
        by_key[design.family] = (*by_key.get(design.family, ()), design)
    by_key |= {design.key: (design,) for design in known if design.key != design.family}
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
    degrees: Mapping[str, int | None] = MappingProxyType({}),
) -> tuple[Design, ...]:
    """Designs in which one role is served by two machine types, at least one of which has limited stock.

    The faster type (``speed``: prompts per second by machine name) takes the prompts above a threshold, the other those
    up to it. One role is shared at a time; the rest of the design has one type per role. ``degrees`` has the tensor
    parallelism of each machine's replicas, where several are considered.
    """
    types = tuple(machines)
    result: list[Design] = []

    def slot(role: Role, machine: Machine, *lengths: int | None) -> Slot:
        low, high = lengths or (1, None)
        return Slot(role, machine, low or 1, high, degrees.get(machine.name))

    def add(name: str, *slots: Slot) -> None:
        result.append(Design(f"{name}{_degrees(slots)}", slots))

    for first in types:
        for second in types:
            faster = (speed[first.name], first.name) > (speed[second.name], second.name)
            if not faster or not {first.name, second.name} & stocked:
                continue
            letters = f"({first.letter}+{second.letter})"
            for limit in thresholds:

                def both(
                    role: Role, limit: int = limit, first: Machine = first, second: Machine = second
                ) -> tuple[Slot, ...]:
                    return slot(role, first, limit + 1, None), slot(role, second, 1, limit)

                for other in types:
                    add(f"Splitwise-{letters}{other.letter}", *both("prompt"), slot("token", other))
                    add(f"Splitwise-{other.letter}{letters}", slot("prompt", other), *both("token"))
                add(f"Baseline-{letters}", *both("mixed"))
    return tuple(result)
