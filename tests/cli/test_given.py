"""Commands made of declared options: what typer makes of a class of options, and what a command gets."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import pytest
import typer

from provisioner.cli.given import Given, JsonOption, takes
from provisioner.cli.help import Command, argument, option
from provisioner.options import Options
from provisioner.options.declaration import Group
from provisioner.options.kinds import TEXT, whole

NOISE = Group("Noise")
TAIL = Group("Tail")


@dataclass(frozen=True, slots=True, kw_only=True)
class BarkOptions(Options):
    """Options of a command of the tests."""

    GROUPS: ClassVar[tuple[str, ...]] = (NOISE, TAIL)

    colour: str | None = TAIL.option(TEXT, "The colour.")
    loudness_db: int = NOISE.option(whole("dB"), "The loudness.", flag="--loudness", default=3)
    hearers: tuple[str, ...] = NOISE.option(TEXT.several(), "Who hears. Repeatable.", flag="--hearer", default=())
    quiet: bool = NOISE.switch("None at all.")
    echo: bool = NOISE.switch("Without an echo.", flag="--no-echo", default=True)
    python_only: int | None = NOISE.option(whole(), "No flag.", flag="")


def command(got: list[dict[str, Any]]) -> Any:
    app = typer.Typer(rich_markup_mode=None, add_completion=False)

    @app.command(cls=Command)
    @takes(BarkOptions)
    def bark(
        where: Annotated[str, argument("WHERE", "Where.")] = "here", *, given: Given, json: JsonOption = False
    ) -> None:
        """Bark."""
        got.append({"where": where, "given": given, "json": json})

    return typer.main.get_command(app)


def run(*typed: str) -> dict[str, Any]:
    got: list[dict[str, Any]] = []
    command(got).main(list(typed), standalone_mode=False)
    assert len(got) == 1
    return got[0]


def test_a_command_gets_what_was_typed() -> None:
    assert run() == {"where": "here", "given": {}, "json": False}
    assert run("there", "--loudness", "70", "--hearer", "a", "--hearer", "b", "--json", "--debug") == {
        "where": "there",
        "given": {"loudness_db": "70", "hearers": ["a", "b"]},
        "json": True,
    }
    assert run("--quiet", "--no-echo", "--colour", "red")["given"] == {"quiet": True, "echo": False, "colour": "red"}


def test_options_stand_where_the_command_takes_them() -> None:
    found = command([])
    assert [param.name for param in found.params] == [
        "where", "loudness_db", "hearers", "quiet", "echo", "colour", "json", "debug",
    ]  # fmt: skip
    panels = {param.name: param.rich_help_panel for param in found.params if param.param_type_name == "option"}
    assert (panels["quiet"], panels["colour"], panels["json"], panels["debug"]) == ("Noise", "Tail", "Output", "Other")
    shown = {param.name: param.show_default for param in found.params}
    assert (shown["loudness_db"], shown["colour"], shown["echo"]) == ("3", False, False)


def test_an_option_declared_twice_is_a_defect_seen_at_once() -> None:
    with pytest.raises(ValueError, match="duplicate parameter name: 'colour'"):

        @takes(BarkOptions)
        def own(given: Given, colour: JsonOption = False) -> None:
            """Its own, and a class's."""

    with pytest.raises(TypeError, match=r"colour: has the flags --colour and --color"):

        @dataclass(frozen=True, slots=True, kw_only=True)
        class OtherOptions(Options):
            """Another flag of the same name."""

            colour: str | None = TAIL.option(TEXT, "The color.", flag="--color")


def test_a_command_without_shared_options_has_its_own() -> None:
    @takes()
    def show(
        json: JsonOption = False, *, level: Annotated[str | None, option("--level", help="Level.")] = None
    ) -> None:
        """Show."""
        got.append(json)

    got: list[bool] = []
    assert list(inspect.signature(show).parameters) == ["json", "level", "debug"]
    show(json=True, level=None, debug=True)
    assert got == [True]
