"""The roles of a pool: one row each, for flags, tables, files and charts."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

RoleName = Literal["prompt", "token", "mixed"]


@dataclass(frozen=True, slots=True)
class Role:
    """Work of the replicas of a pool: one phase, or both together.

    ``aliases`` are other names of the field; ``prompts`` and ``tokens`` say which phases run there.
    """

    name: RoleName
    letter: str
    aliases: tuple[str, ...]
    prompts: bool
    tokens: bool


_ROWS: Final = (
    Role("prompt", "P", ("prefill",), prompts=True, tokens=False),
    Role("token", "T", ("decode",), prompts=False, tokens=True),
    Role("mixed", "M", ("colocated",), prompts=True, tokens=True),
)

ROLES: Final[Mapping[str, Role]] = MappingProxyType({role.name: role for role in _ROWS})
"""Every role by name, in the order of reports."""

ROLE_ALIASES: Final[Mapping[str, RoleName]] = MappingProxyType(
    {alias: role.name for role in ROLES.values() for alias in (role.name, *role.aliases)}
)
"""The name of a role by every name that it is known by."""
