"""Help as plain text: the same on every terminal, and without loading a library that draws."""

import shutil
import textwrap
from collections import Counter
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from provisioner.cli.output import emit
from provisioner.errors import InputError, UnknownNameError
from provisioner.options.limits import LIMIT_FLAG, with_limits_named

TyperObject = Any  # type: ignore[explicit-any]  # the classes of typer's parser have no public names
"""A command, a parameter, a context or an error of typer."""

MAX_WIDTH: Final = 100
_NAME_WIDTH: Final = 24
_INDENT: Final = "  "


def option(
    *names: str, metavar: str | None = None, help: str, panel: str = "Output", default: object = ""
) -> TyperObject:
    """An option of a command: its names, the value's placeholder, its help, and its default as text."""
    return typer.Option(*names, metavar=metavar, help=help, rich_help_panel=panel, show_default=str(default) or False)


def argument(metavar: str, help: str) -> TyperObject:
    """A positional argument of a command."""
    return typer.Argument(metavar=metavar, help=help, show_default=False)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of help: names with their placeholder, text, and default as text."""

    names: str
    text: str
    default: str = ""


def panels(command: TyperObject, context: TyperObject) -> dict[str, list[Entry]]:
    """The options and arguments of a command by panel, in order; neighbours that share a text become one entry."""
    shown = [param for param in command.get_params(context) if not getattr(param, "hidden", False)]
    panels: dict[str, list[Entry]] = {}
    for (_, text), group in groupby(shown, key=lambda param: (param.param_type_name, _help_of(param))):
        first, *_ = params = list(group)
        positional = first.param_type_name == "argument"
        # long names first; typer keeps those of --help in no order
        spellings = (sorted(param.opts, key=lambda name: (-len(name), name)) for param in params)
        names = first.metavar if positional else ", ".join(name for each in spellings for name in each)
        metavar = "" if positional or first.metavar is None else f" {first.metavar}"
        default = first.show_default if isinstance(getattr(first, "show_default", False), str) else ""
        panel = "Arguments" if positional else getattr(first, "rich_help_panel", None) or "Other"
        panels.setdefault(panel, []).append(Entry(names + metavar, text, default))
    return panels


def _help_of(param: TyperObject) -> str:
    text = getattr(param, "help", None) or ""
    return "Show this help." if "--help" in param.opts else " ".join(text.split())


def subcommands(command: TyperObject) -> list[tuple[str, TyperObject]]:
    """The commands of a group by name; none for a command that is not a group."""
    return [(name, each) for name, each in getattr(command, "commands", {}).items() if not each.hidden]


def paragraphs(command: TyperObject) -> list[str]:
    """The description of a command, each paragraph on one line."""
    return [" ".join(part.split()) for part in (command.help or "").split("\n\n") if part.strip()]


def usage(command: TyperObject, context: TyperObject) -> str:
    """The usage of a command."""
    if subcommands(command):
        return f"{context.command_path} COMMAND"
    positional = [p.metavar for p in command.get_params(context) if p.param_type_name == "argument"]
    return " ".join([context.command_path, *positional, "[OPTIONS]"])


def help_text(command: TyperObject, context: TyperObject, width: int) -> str:
    """The help of a command, at most ``width`` columns wide."""
    parts = [f"Usage: {usage(command, context)}", *(textwrap.fill(each, width) for each in paragraphs(command))]
    commands = [Entry(name, paragraphs(each)[0]) for name, each in subcommands(command)]
    listed = ({"Commands": commands} if commands else {}) | panels(command, context)
    for panel, rows in listed.items():
        parts.append("\n".join([f"{panel}:", *(line for entry in rows for line in _definition(entry, width))]))
    return "\n\n".join(parts)


def _definition(entry: Entry, width: int) -> list[str]:
    """Two columns; a name that is too wide for its own stands on a line of its own."""
    hanging = " " * (len(_INDENT) + _NAME_WIDTH + 2)
    text = f"{entry.text} [default: {entry.default}]" if entry.default else entry.text
    name = f"{_INDENT}{entry.names:{_NAME_WIDTH}}  "
    first = name if len(name) == len(hanging) else hanging
    lines = textwrap.wrap(text, max(width, len(hanging) + 20), initial_indent=first, subsequent_indent=hanging)
    return lines if lines and first == name else [name.rstrip(), *lines]


def _show_help(context: TyperObject, _: TyperObject, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        emit(context.get_help())
        context.exit()


class _Helped:
    """A command or group with this module's help."""

    def format_help(self, ctx: TyperObject, formatter: TyperObject) -> None:
        """Write the help."""
        width = min(shutil.get_terminal_size((MAX_WIDTH, 24)).columns, MAX_WIDTH)
        formatter.write(help_text(self, ctx, width))

    def get_help_option(self, ctx: TyperObject) -> TyperObject:
        """The option ``--help``, off by default: without one, typer loads pydantic to convert a missing value."""
        option = super().get_help_option(ctx)  # type: ignore[misc]  # of the class that is mixed with this one
        if option is not None:
            option.default, option.callback = False, _show_help
        return option


class Command(_Helped, TyperCommand):
    """A command with this module's help, to which a limit on any percentile can be given as a flag."""

    def parse_args(self, ctx: TyperObject, args: list[str]) -> list[str]:
        """Parse the arguments, of which flags of limits become ``--limit``."""
        if any(LIMIT_FLAG in param.opts for param in self.params):
            args = list(with_limits_named(args))
        given = Counter(self.make_parser(ctx).parse_args(args=list(args))[2])
        for option in (each for each, times in given.items() if times > 1 and each.nargs == 1):
            if not (getattr(option, "multiple", True) or getattr(option, "is_flag", True)):
                raise InputError(f"{option.opts[0]}: is given {given[option]} times; give it once")
        return super().parse_args(ctx, args)


class CommandGroup(_Helped, TyperGroup):
    """A group of commands with this module's help; without arguments it shows that."""

    def parse_args(self, ctx: TyperObject, args: list[str]) -> list[str]:
        """Parse the arguments, of which none at all ask for help."""
        return super().parse_args(ctx, args or ["--help"])

    def resolve_command(self, ctx: TyperObject, args: list[str]) -> TyperObject:
        """Find a command by name; an unknown one is an error that offers the nearest."""
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            raise UnknownNameError("command", args[0], self.list_commands(ctx))
        return super().resolve_command(ctx, args)


class ShowByDefault(CommandGroup):
    """A group whose command ``show`` is meant when no command is named: ``workloads coding``."""

    def parse_args(self, ctx: TyperObject, args: list[str]) -> list[str]:
        """Parse the arguments, naming ``show`` where no command is named."""
        named = bool(args) and (args[0] in self.commands or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if named else ["show", *args])
