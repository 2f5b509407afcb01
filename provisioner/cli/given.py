"""Commands made of declared options: parameters for typer from a class of options, and the options that were typed.

``takes`` shows typer a command with the options of a class; the command itself receives the typed values, ``given``.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING
from functools import wraps
from typing import Annotated, Final

from provisioner.cli.help import option
from provisioner.files import check_name
from provisioner.options import Option, Options, declared

Value = str | bool | list[str]
Given = dict[str, Value]  # the typed values by keyword: texts, and for a switch the opposite of its default

Function = Callable[..., None]  # type: ignore[explicit-any]  # each command has parameters of its own
"""A command."""

JsonOption = Annotated[bool, option("--json", help="Print JSON.")]
_DebugOption = Annotated[bool, option("--debug", help="Show a traceback where something goes wrong.", panel="Other")]
_DEBUG: Final = inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=_DebugOption)


def parameter(name: str, declaration: Option, needed: bool) -> inspect.Parameter:
    """The parameter of a command from which typer makes an option."""
    shown = option(
        declaration.flag,
        metavar=declaration.kind.metavar or None,
        help=declaration.help,
        panel=declaration.group,
        default=declaration.shown_default,
    )
    kind: object = list[str] | None if declaration.kind.repeatable else str | None
    default: object = None
    if declaration.switch:
        kind, default = bool, False
    elif needed:
        kind, default = str, inspect.Parameter.empty
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, shown])


def takes(*kinds: type[Options]) -> Callable[[Function], Function]:
    """Give a command the options of classes in place of its parameter ``given``, and ``--debug``.

    ``--debug`` is not passed on: the command line looks for it before it parses anything.
    """
    options = {name: each for name, each in declared(*kinds).items() if each.flag}
    needed = [name for kind in kinds[:1] for name, each in declared(kind).items() if each.default is MISSING]
    shared = [parameter(name, each, name in needed) for name, each in options.items()]

    def decorate(command: Function) -> Function:
        parameters: list[inspect.Parameter] = []
        for own in inspect.signature(command, eval_str=True).parameters.values():
            parameters += shared if own.name == "given" else [own.replace(kind=inspect.Parameter.KEYWORD_ONLY)]
        parameters.append(_DEBUG)

        @wraps(command)
        def called(**typed: Value | None) -> None:
            own = {name: value for name, value in typed.items() if name not in options and name != "debug"}
            for name, value in own.items():
                for text in value if isinstance(value, list) else [value]:
                    if isinstance(text, str):
                        check_name(text, name.upper())
            command(**own, **({"given": given_of(options, typed)} if shared else {}))

        # typer reads both
        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        called.__annotations__ = {each.name: each.annotation for each in parameters}
        return called

    return decorate


def given_of(options: Mapping[str, Option], typed: Mapping[str, Value | None]) -> Given:
    """The options that were typed, as keywords."""
    return {
        name: not each.default if each.switch else value
        for name, each in options.items()
        if isinstance(value := typed.get(name), str) or value
    }


def parted(given: Given, kind: type[Options]) -> Given:
    """Take the options of a class out of those that were typed."""
    return {name: given.pop(name) for name in declared(kind) if name in given}
