"""The declaration of an option: everything that Python, the command line, its help and its documentation say of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field
from types import MappingProxyType
from typing import Any, Final

from provisioner.options.defaults import ALSO_CALLED
from provisioner.options.values import SWITCH, Kind
from provisioner.spelling import FLAGS

BY_NAME: Final = "--"
"""The flag of a field that is the field's name."""


@dataclass(frozen=True, slots=True)
class Option:
    """An option: its flag, its kind of value, its default, and its description.

    One with an empty ``flag`` is known in Python only. One without ``metavar`` is a switch, which the flag turns to the
    opposite of its default. Help shows ``default_text`` in place of the default where that is not empty.

    ``group`` is the heading of help. The printed command that asks a question again has an option with another value
    than its default, and one that ``fixes`` the answer always. ``varies`` is the quantity in words of a number that a
    sweep can vary. ``members`` are the options that are entries of this one, a mapping.
    """

    flag: str
    kind: Kind
    help: str
    metavar: str | None
    group: str
    default: Any
    default_text: str = ""
    fixes: bool = False
    varies: str = ""
    members: Mapping[str, Option] = field(default_factory=dict)

    @property
    def repeatable(self) -> bool:
        """Whether the flag is typed once for each value."""
        return self.kind.repeatable

    @property
    def shown_default(self) -> str:
        """The default as help shows it; empty where there is none."""
        if self.default_text or self.metavar is None or self.default in (MISSING, None, (), {}):
            return self.default_text
        return ", ".join(self.kind.texts(self.default))

    def typed(self, value: Any) -> list[str]:
        """The arguments that give a value on the command line; none for the value that is not typed, None."""
        if self.members:
            return [part for name, entry in value.items() for part in self._typed_entry(name, entry)]
        if value is None:
            return []
        if self.metavar is None:
            return [self.flag] if value != self.default else []
        return [part for text in self.kind.texts(value) for part in (self.flag, text) if part]

    def _typed_entry(self, name: str, value: Any) -> list[str]:
        member = self.members.get(name)
        return [self.flag, *self.kind.texts({name: value})] if member is None else member.typed(value)


class Group(str):
    """A heading of help, under which options are declared as fields of a class."""

    __slots__ = ()

    def option(
        self,
        kind: Kind,
        help: str,
        *,
        flag: str = BY_NAME,
        metavar: str | None = None,
        default: Any = None,
        default_text: str = "",
        fixes: bool = False,
        varies: str = "",
        members: Mapping[str, Option] | None = None,
    ) -> Any:
        """Declare a field with a value; its flag is its name unless given. A default of MISSING makes it required."""
        metavar = metavar or kind.metavar
        return _field(Option(flag, kind, help, metavar, self, default, default_text, fixes, varies, members or {}))

    def switch(self, help: str, *, flag: str = BY_NAME, default: bool = False) -> Any:
        """Declare a field that is on or off; the flag turns it to the opposite of its default."""
        return _field(Option(flag, SWITCH, help, None, self, default))


def changed(kind: type, name: str, **changes: Any) -> Any:
    """Declare a field of a subclass as the inherited one with some changes."""
    inherited = next(each for each in dataclasses.fields(kind) if each.name == name)
    return _field(dataclasses.replace(declaration_of(inherited), **changes))


def declaration_of(each: dataclasses.Field[Any]) -> Option:
    """The declaration of a field."""
    declaration: Option = each.metadata["option"]
    return declaration


def _field(declaration: Option) -> Any:
    default = declaration.default
    metadata = {"option": declaration}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def register(name: str, each: dataclasses.Field[Any]) -> None:
    """Know the flag of a field, and those of its members; every class has to give a field the same flag."""
    declaration = declaration_of(each)
    if declaration.flag == BY_NAME:
        declaration = dataclasses.replace(declaration, flag=f"--{name.replace('_', '-')}")
        each.metadata = MappingProxyType({"option": declaration})
    for known, part in {name: declaration, **declaration.members}.items():
        if FLAGS.setdefault(known, part.flag) != part.flag:
            raise TypeError(f"{known}: has the flags {FLAGS[known]} and {part.flag}")


def flag_of(name: str) -> str:
    """The flag of a field."""
    return FLAGS[name]


def keywords() -> dict[str, str]:
    """The keyword of every flag."""
    return {flag: name for name, flag in FLAGS.items()}


def also_called(name: str, known: Iterable[str], separator: str) -> str:
    """The known name of an option that is written with another word of the field; otherwise the name as it is.

    >>> also_called("tpot_p99", ("tbt_p99",), "_"), also_called("decode_batches", ("decode_batches",), "_")
    ('tbt_p99', 'decode_batches')
    """
    names = tuple(known)
    first, mark, rest = name.partition(separator)
    other = f"{ALSO_CALLED.get(first, first)}{mark}{rest}"
    return other if name not in names and other in names else name


def flag_also_called(argument: str) -> str:
    """The argument of a command line, a flag of another word with the word of this program.

    >>> flag_also_called("--tpot-p99=60ms"), flag_also_called("--decode"), flag_also_called("--rate")
    ('--tbt-p99=60ms', '--token', '--rate')
    """
    flag, equals, value = argument.partition("=")
    if not flag.startswith("--"):
        return argument
    return f"--{also_called(flag[2:], [known[2:] for known in FLAGS.values()], '-')}{equals}{value}"
