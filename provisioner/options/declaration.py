"""The declaration of an option: everything that Python, the command line, its help and its documentation say of it."""

import dataclasses
import re
from collections.abc import Container, Mapping
from dataclasses import MISSING, dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

from provisioner.options.defaults import ALSO_CALLED
from provisioner.options.kinds import SWITCH, Kind
from provisioner.spelling import FLAGS

BY_NAME: Final = "--"
"""The flag of a field that follows from the field's name: without its unit, one of several without their s."""

BY_KIND: Final = object()
"""The default of a field that is its kind's: nothing."""

_UNIT: Final = re.compile("_(rps|s|w|usd_per_h|bytes)$")


@dataclass(frozen=True, slots=True)
class Option:
    """An option: its kind of value, description under a heading, ``group``, default, and flag (none: in Python only).

    The flag of a ``switch`` turns it to the opposite of its default. Help shows a ``default_text`` in place of the
    default. The printed command has an option with another value than its default, and one that ``fixes`` the answer
    always. ``members`` are the options that are entries of this one, a mapping.
    """

    kind: Kind
    help: str
    group: str
    default: Any = None
    default_text: str = ""
    flag: str = BY_NAME
    fixes: bool = False
    members: Mapping[str, "Option"] = field(default_factory=dict)

    @property
    def switch(self) -> bool:
        """Whether the option is on or off."""
        return not self.kind.metavar

    @property
    def shown_default(self) -> str:
        """The default as help shows it; empty where there is none."""
        if self.default_text or self.switch or self.default in (MISSING, None, (), {}):
            return self.default_text
        return ", ".join(self.kind.texts(self.default))

    def typed(self, value: Any) -> list[str]:
        """The arguments that give a value on the command line; none for the value that is not typed, None."""
        if self.members:
            return [part for name, entry in value.items() for part in self._typed_entry(name, entry)]
        if value is None:
            return []
        if self.switch:
            return [self.flag] if value != self.default else []
        return [part for text in self.kind.texts(value) for part in (self.flag, text) if part]

    def _typed_entry(self, name: str, value: Any) -> list[str]:
        member = self.members.get(name)
        return [self.flag, *self.kind.texts({name: value})] if member is None else member.typed(value)


class Group(str):
    """A heading of help, under which options are declared as fields of a class."""

    __slots__ = ()

    def option(self, kind: Kind, help: str, *, default: Any = BY_KIND, **more: Any) -> Any:
        """Declare a field with a value; a default of MISSING makes it required.

        ``help`` may end with the default as users read it: ``[default: the workload's own]``. ``more`` are other fields
        of ``Option``.
        """
        help, _, default_text = help.partition(" [default: ")
        help = f"{help} Repeatable." if kind.repeatable else help
        default = kind.default if default is BY_KIND else default
        return _field(Option(kind, help, self, default, default_text.removesuffix("]"), **more))

    def fixing(self, kind: Kind, help: str, **more: Any) -> Any:
        """Declare a field that fixes the answer: the printed command always has it."""
        return self.option(kind, help, fixes=True, **more)

    def switch(self, help: str, *, default: bool = False, **more: Any) -> Any:
        """Declare a field that is on or off; the flag turns it to the opposite of its default."""
        return self.option(SWITCH, help, default=default, **more)


def changed(known: type, name: str, **changes: Any) -> Any:
    """Declare a field as another class has it, with some changes."""
    return _field(replace(declarations_of(known)[name], **changes))


def declarations_of(kind: type) -> dict[str, Option]:
    """The declarations of the fields of a class, by name."""
    return {each.name: each.metadata["option"] for each in dataclasses.fields(kind)}


def _field(declaration: Option) -> Any:
    default = declaration.default
    given = {"default_factory": default.copy} if isinstance(default, dict) else {"default": default}
    return field(**given, metadata={"option": declaration})


def register(name: str, each: dataclasses.Field[Any]) -> None:
    """Know the flag of a field, and those of its members; every class has to give a field the same flag."""
    declaration: Option = each.metadata["option"]
    if declaration.flag == BY_NAME:
        words = _UNIT.sub("", name).replace("tensor_parallel", "tp").replace("_", "-")
        words = words.removesuffix("s") if declaration.kind.repeatable else words
        declaration = replace(declaration, flag=f"--{words}")
        each.metadata = MappingProxyType({"option": declaration})
    for known, part in {name: declaration, **declaration.members}.items():
        if FLAGS.setdefault(known, part.flag) != part.flag:
            raise TypeError(f"{known}: has the flags {FLAGS[known]} and {part.flag}")


def flag_of(name: str) -> str:
    """The flag of a field."""
    return FLAGS[name]


def also_called(name: str, known: Container[str], separator: str) -> str:
    """The known name of an option that is written with another word of the field; otherwise the name as it is.

    >>> also_called("tpot_p99", ("tbt_p99",), "_"), also_called("decode_batches", ("decode_batches",), "_")
    ('tbt_p99', 'decode_batches')
    """
    first, mark, rest = name.partition(separator)
    other = f"{ALSO_CALLED.get(first, first)}{mark}{rest}"
    return other if name not in known and other in known else name


def flag_also_called(argument: str) -> str:
    """The argument of a command line, a flag of another word with the word of this program.

    >>> flag_also_called("--tpot-p99=60ms"), flag_also_called("--decode"), flag_also_called("--rate")
    ('--tbt-p99=60ms', '--token', '--rate')
    """
    flag, equals, value = argument.partition("=")
    if not flag.startswith("--"):
        return argument
    return f"--{also_called(flag[2:], [known[2:] for known in FLAGS.values()], '-')}{equals}{value}"
