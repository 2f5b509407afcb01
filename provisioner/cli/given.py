"""Options that commands share: declared once, in groups, and given to a command as one dictionary.

An option is declared under the name of the field or keyword that it gives. ``takes`` shows typer a command that has
the options of groups; the command itself gets the parsed values of those that were typed, as ``given``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import wraps
from typing import Annotated, Any

from provisioner.cli.help import option
from provisioner.errors import InputError
from provisioner.options import LIMIT_NAMES

Given = dict[str, Any]
"""Parsed values of the shared options that were typed, by field."""


@dataclass(frozen=True, slots=True)
class Flag:
    """An option: how it is typed, what help says of it, and what makes its value of the text and its name.

    Without a ``metavar`` it is on or off. The text is a list of texts where it can be typed ``several`` times.
    ``refuses`` are fields that cannot be given beside it, each with what is then said.
    """

    name: str
    _: KW_ONLY
    help: str
    metavar: str | None = None
    default: object = ""
    several: bool = False
    parse: Callable[[Any, str], Any] | None = None
    refuses: Mapping[str, str] = field(default_factory=dict)
    panel: str = "Output"

    def parameter(self, name: str) -> inspect.Parameter:
        """The parameter of a command from which typer makes the option."""
        shown = option(self.name, metavar=self.metavar, help=self.help, panel=self.panel, default=self.default)
        kind: Any = bool if self.metavar is None else list[str] | None if self.several else str | None
        default = False if self.metavar is None else None
        return inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, shown]
        )

    def value(self, typed: Any) -> Any:
        """The value of what was typed."""
        if self.parse is not None:
            return self.parse(typed, self.name)
        return tuple(typed) if self.several else typed


Group = Mapping[str, Flag]
"""Options by the field that each gives, in the order of help."""

_DEBUG = {"debug": Flag("--debug", help="Show a traceback where something goes wrong.", panel="Other")}


def group(panel: str, **flags: Flag) -> Group:
    """Options that help shows under one heading."""
    return {name: replace(flag, panel=panel) for name, flag in flags.items()}


def only(options: Group, *names: str) -> Group:
    """Some of a group."""
    return {name: options[name] for name in names}


def without(options: Group, *names: str) -> Group:
    """All of a group but some."""
    left_out = only(options, *names)
    return {name: flag for name, flag in options.items() if name not in left_out}


def takes(*groups: Group) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of groups, where its parameter ``given`` stands, and ``--debug``, which all have.

    ``--debug`` is not passed on: the command line looks for it before it parses anything.
    """
    shared = [flag.parameter(name) for each in groups for name, flag in each.items()]
    names = {each.name for each in shared}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        parameters: list[inspect.Parameter] = []
        for own in inspect.signature(command, eval_str=True).parameters.values():
            parameters += shared if own.name == "given" else [own.replace(kind=inspect.Parameter.KEYWORD_ONLY)]
        parameters += [flag.parameter(name) for name, flag in _DEBUG.items()]

        @wraps(command)
        def called(**typed: Any) -> None:
            own = {name: value for name, value in typed.items() if name not in names and name not in _DEBUG}
            if shared:
                own["given"] = fields_of(groups, {name: typed[name] for name in names})
            command(**own)

        # typer reads both
        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        called.__annotations__ = {each.name: each.annotation for each in parameters}
        return called

    return decorate


def fields_of(groups: Iterable[Group], typed: Mapping[str, Any]) -> Given:
    """The parsed values of what was typed; limits become one field, what was not typed is left out."""
    options = {name: flag for each in groups for name, flag in each.items()}
    given = {name: value for name, value in typed.items() if value is not None and value is not False and value != []}
    for name in given:
        for other, why in options[name].refuses.items():
            if other in given:
                raise InputError(f"{options[name].name}: {why}")
    limits = {name: given.pop(name) for name in LIMIT_NAMES if name in given}
    fields = {name: options[name].value(value) for name, value in given.items()}
    return fields | ({"limits": limits} if limits else {})
