"""Designs: which machine type has which role. Their names follow one rule, of which the paper's are instances."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from provisioner.errors import InputError, UnknownNameError
from provisioner.specs.hardware import Machine

Role = Literal["prompt", "token", "mixed"]


@dataclass(frozen=True, slots=True)
class Slot:
    """One pool of a design: a role, a machine type, and the prompt lengths that it serves (in tokens, inclusive)."""

    role: Role
    machine: Machine
    min_prompt_tokens: int = 1
    max_prompt_tokens: int | None = None

    @property
    def serves_all(self) -> bool:
        """Whether every request passes through this pool, or only those of some prompt lengths."""
        return self.min_prompt_tokens <= 1 and self.max_prompt_tokens is None

    @property
    def requests(self) -> str:
        """The prompt lengths served, in words."""
        if self.serves_all:
            return "all requests"
        if self.max_prompt_tokens is None:
            return f"prompts of {self.min_prompt_tokens:,} tokens or more"
        return f"prompts of up to {self.max_prompt_tokens:,} tokens"


@dataclass(frozen=True, slots=True)
class Design:
    """A cluster's shape: its pools without their sizes.

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
    def splits(self) -> bool:
        """Whether the two phases run on separate pools."""
        return any(slot.role != "mixed" for slot in self.slots)

    @property
    def shares_role(self) -> bool:
        """Whether some role is served by two machine types."""
        return any(not slot.serves_all for slot in self.slots)


def split(prompt: Machine, token: Machine) -> Design:
    """The Splitwise design with these machines for the prompt and the token phase."""
    return Design(f"Splitwise-{prompt.letter}{token.letter}", (Slot("prompt", prompt), Slot("token", token)))


def baseline(machine: Machine) -> Design:
    """The colocated design: every machine does mixed batching.

    >>> from provisioner.specs.catalog import machine
    >>> baseline(machine("dgx-a100")).name
    'Baseline-A100'
    """
    short = machine.name.removeprefix("dgx-")
    return Design(f"Baseline-{short[:1].upper()}{short[1:]}", (Slot("mixed", machine),))


def designs(machines: Iterable[Machine]) -> tuple[Design, ...]:
    """Every ordered pair of machine types, and one colocated design per type.

    >>> from provisioner.specs.catalog import machine
    >>> [d.name for d in designs([machine("dgx-a100"), machine("dgx-h100")])]
    ['Splitwise-AA', 'Splitwise-AH', 'Splitwise-HA', 'Splitwise-HH', 'Baseline-A100', 'Baseline-H100']
    """
    types = tuple(machines)
    pairs = tuple(split(prompt, token) for prompt in types for token in types)
    return pairs + tuple(baseline(machine) for machine in types)


def choose(known: tuple[Design, ...], names: Iterable[str]) -> tuple[Design, ...]:
    """The designs of these names, in lower or upper case, or an error that offers the nearest."""
    by_key = {design.key: design for design in known}
    chosen = []
    for name in names:
        if name.lower() not in by_key:
            raise UnknownNameError("design", name, by_key)
        chosen.append(by_key[name.lower()])
    if len({design.key for design in chosen}) < len(chosen):
        raise InputError("--design: a design is named twice; name each once")
    return tuple(chosen)


def shared_roles(
    machines: Iterable[Machine], stocked: set[str], thresholds: tuple[int, ...], speed: dict[str, float]
) -> tuple[Design, ...]:
    """Designs in which one role is served by two machine types, at least one of which has limited stock.

    The faster type (``speed``: prompts per second by machine name) takes the prompts above a threshold, the other those
    up to it. One role is shared at a time; the rest of the design has one type per role.
    """
    types = tuple(machines)
    result: list[Design] = []
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
                    return Slot(role, first, limit + 1, None), Slot(role, second, 1, limit)

                for other in types:
                    result.append(Design(f"Splitwise-{letters}{other.letter}", (*both("prompt"), Slot("token", other))))
                    result.append(Design(f"Splitwise-{other.letter}{letters}", (Slot("prompt", other), *both("token"))))
                result.append(Design(f"Baseline-{letters}", both("mixed")))
    return tuple(result)
