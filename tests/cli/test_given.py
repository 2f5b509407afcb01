"""Options that commands share: what typer makes of them, and what a command gets."""

from __future__ import annotations

import inspect
from typing import Annotated, Any

import pytest
import typer

from provisioner.cli.given import Flag, Given, fields_of, group, only, takes, without
from provisioner.cli.help import Command, argument, option
from provisioner.cli.options import LIMITS, PLAN, WORKLOAD, whole
from provisioner.errors import InputError

NOISE = group(
    "Noise",
    loudness_db=Flag("--loudness", metavar="DB", help="How loud.", default="3", parse=whole("dB")),
    names=Flag("--name", metavar="NAME", help="Whose. Repeatable.", several=True),
    quiet=Flag("--quiet", help="None at all.", refuses={"loudness_db": "is silent; leave out --loudness"}),
)
TAIL = group("Tail", colour=Flag("--colour", metavar="NAME", help="Which."))

JsonOption = Annotated[bool, option("--json", help="JSON.")]


def command(got: list[dict[str, Any]]) -> Any:
    app = typer.Typer(rich_markup_mode=None, add_completion=False)

    @app.command(cls=Command)
    @takes(NOISE, TAIL)
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


def test_a_command_gets_the_parsed_values_of_what_was_typed() -> None:
    assert run() == {"where": "here", "given": {}, "json": False}
    assert run("there", "--loudness", "70", "--name", "a", "--name", "b", "--json", "--debug") == {
        "where": "there",
        "given": {"loudness_db": 70, "names": ("a", "b")},
        "json": True,
    }
    assert run("--quiet", "--colour", "red")["given"] == {"quiet": True, "colour": "red"}


def test_options_stand_where_the_command_takes_them() -> None:
    found = command([])
    assert [param.name for param in found.params] == [
        "where", "loudness_db", "names", "quiet", "colour", "json", "debug",
    ]  # fmt: skip
    panels = {param.name: param.rich_help_panel for param in found.params if param.param_type_name == "option"}
    assert (panels["quiet"], panels["colour"], panels["json"], panels["debug"]) == ("Noise", "Tail", "Output", "Other")
    shown = {param.name: param.show_default for param in found.params}
    assert (shown["loudness_db"], shown["colour"]) == ("3", False)


def test_what_cannot_be_parsed_or_excludes_another_is_refused() -> None:
    with pytest.raises(InputError, match=r"--loudness: must be a whole number of dB, 1 or more, got 1\.5"):
        run("--loudness", "1.5")
    with pytest.raises(InputError, match=r"^--quiet: is silent; leave out --loudness$"):
        run("--quiet", "--loudness", "x")  # before what is typed is looked at
    with pytest.raises(InputError, match=r"^--trace: takes requests and times as they are; leave out --rate$"):
        fields_of([WORKLOAD], {"trace": "t.csv", "rate_rps": "5"})
    assert fields_of([without(WORKLOAD, "rate_rps")], {"trace": "t.csv"}) == {"trace": "t.csv"}


def test_limits_become_one_field() -> None:
    typed = {"ttft_p99": "2s", "e2e_p50": "5x", "tbt_p50": None, "slo": "p99"}
    assert fields_of([LIMITS], typed) == {"slo": "p99", "limits": {"ttft_p99": "2s", "e2e_p50": "5x"}}
    assert fields_of(PLAN, {"rate_rps": None, "designs": [], "fast": False}) == {}


def test_parts_of_groups() -> None:
    assert list(only(NOISE, "quiet", "names")) == ["quiet", "names"]
    assert list(without(NOISE, "quiet")) == ["loudness_db", "names"]
    with pytest.raises(KeyError):
        only(NOISE, "silent")
    with pytest.raises(KeyError):
        without(NOISE, "silent")


def test_an_option_declared_twice_is_a_defect_seen_at_once() -> None:
    with pytest.raises(ValueError, match="duplicate parameter name: 'quiet'"):

        @takes(NOISE, only(NOISE, "quiet"))
        def twice(given: Given) -> None:
            """Twice."""

    with pytest.raises(ValueError, match="duplicate parameter name: 'colour'"):

        @takes(TAIL)
        def own(given: Given, colour: JsonOption = False) -> None:
            """Its own, and a group's."""


def test_a_command_without_shared_options_has_its_own() -> None:
    @takes()
    def show(json: JsonOption = False) -> None:
        """Show."""
        got.append(json)

    got: list[bool] = []
    assert list(inspect.signature(show).parameters) == ["json", "debug"]
    show(json=True, debug=True)
    assert got == [True]
