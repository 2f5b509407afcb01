"""Cases: command lines drawn by a seed from the declared commands and options.

``python -m tests.fuzz.cases COMMAND SEED NUMBER`` shows a case.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from provisioner.cli.commands import command
from provisioner.cli.help import TyperObject, subcommands
from provisioner.options import flag_of
from provisioner.options.conflicts import CONFLICTS, NEEDS
from provisioner.spelling import FLAGS
from tests.fuzz.files import KEPT
from tests.fuzz.values import HOSTILE, Values, changed_files, of_parameter

_UNTRIED: Final = ("--help", "--debug")
_PLAN: Final = "--machine dgx-h100 --tp 8 --rate 2"
_BRIEF: Final = "--seeds 1 --duration 5"
BASES: Final = {
    "plan": (f"{_PLAN} --fast", f"{_PLAN} {_BRIEF} --slo batch", f"{_PLAN} {_BRIEF} --slo p90 --ttft-p90 4s"),
    "simulate": (
        "--design baseline-h100 --mixed 2 --rate 2 --duration 5",
        "--design splitwise-hh --prompt 1 --token 1 --rate 2 --duration 5",
    ),
    "compare": (
        "--fast --same throughput --rate 2 --machine dgx-h100 --tp 8",
        "--fast --same machines --budget 2 --machine dgx-h100 --tp 8 --slo p90",
    ),
    "capacity": (
        f"--design baseline-h100 --mixed 1 --slo batch --no-additions {_BRIEF}",
        f"--design splitwise-hh --prompt 1 --token 1 --tp 8 --slo p90 --no-additions {_BRIEF}",
    ),
    "pareto": (f"{_PLAN} --fast", f"{_PLAN} {_BRIEF} --slo batch"),
    "sweep": (
        "--design splitwise-hh --prompt 1:2 --token 1 --rate 2 --duration 5",
        "--vary rate=1:3:1 --design baseline-h100 --mixed 1 --duration 5",
    ),
    "sensitivity": (f"{_PLAN} --fast --input rate", f"{_PLAN} --fast --switch cv=1:4 --probes 1 --tolerance 0.5"),
    "reproduce": ("--only machines", "--only curves"),
    "profile": (
        "--model llama-3.1-8b --machine l4-x8 --out own --device cpu --repeats 1 --warm-up 0 --prompt-tokens 128,256 "
        "--prompt-batches none --decode-batches 1,2 --other-contexts none --context 128",
    ),
    "models import": ("config.json",),
    "curves import": ("alone-256.json alone-1024.json appended.json --model llama2-70b --machine dgx-h100 --tp 8",),
    "workloads import": ("trace.csv", "mooncake.jsonl"),
}
"""Small questions, to which a case adds; a command without one has none."""

_OFTEN: Final = {"--json": 0.4, "--out": 0.35, "--resume": 0.15}
"""Options that a case has beside the one that it is about, with their shares."""

_ODDLY: Final = 0.15
"""Share of these with an odd value."""

_OF_OWN: Final = {"--model": "mine", "--machine": "mine-h100"}
_OWN: Final = 0.6
"""Share of the cases with a folder of own specs that take the model, or the machine, of the folder."""

_KEPT: Final = 0.3
"""Share of the cases that go on from a journal in which there is a misshapen one."""

_FORMS: Final = (("good", 20), ("pair", 25), ("many", 15), ("wrong", 10), ("odd", 20), ("file", 10))
_FIRST_FORMS: Final = (("good", 60), ("pair", 40))
"""Forms of a case with their shares; those of the first case that is about an option."""


@dataclass(frozen=True)
class Parameter:
    """An option of a command, or an argument, whose ``flag`` is empty."""

    flag: str
    switch: bool
    repeatable: bool
    values: Values
    changed_files: tuple[str, ...]

    def typed(self, value: str) -> list[str]:
        """The arguments that give a value."""
        if self.switch:
            return [self.flag]
        if not self.flag:
            return [value]
        return [f"{self.flag}={value}"] if not value or value.startswith("-") else [self.flag, value]


@dataclass(frozen=True)
class Case:
    """A command line. One that ``must_fail`` has a value that its option has to refuse."""

    command: str
    seed: int
    number: int
    arguments: tuple[str, ...]
    must_fail: bool

    @property
    def line(self) -> str:
        """The command line as one can type it in a shell."""
        return " ".join(["provision", *map(shell_text, self.arguments)])


def shell_text(text: str) -> str:
    """A text as a shell takes it, with no character that a terminal obeys.

    >>> shell_text("a b"), shell_text("dgx-h100"), shell_text(chr(27) + "[0m")
    ("'a b'", 'dgx-h100', "$'\\\\x1b[0m'")
    """
    if text and all(c.isascii() and (c.isalnum() or c in "-_./=:,+%@") for c in text):
        return text
    if text.isprintable() and "'" not in text:
        return f"'{text}'"
    coded = text.encode("utf-8", "surrogateescape")
    return "$'" + "".join(chr(b) if 32 <= b < 127 and chr(b) not in "'\\" else f"\\x{b:02x}" for b in coded) + "'"


def _leaves(each: TyperObject, name: str = "") -> Iterator[tuple[str, TyperObject]]:
    below = subcommands(each)
    for word, one in below:
        yield from _leaves(one, f"{name} {word}".strip())
    if not below:
        yield name, each


@cache
def parameters() -> dict[str, tuple[Parameter, ...]]:
    """The parameters of every command, from their declarations."""
    found = {}
    for name, each in _leaves(command()):
        params = each.get_params(each.context_class(each, info_name=name))
        found[name] = tuple(_parameter(name, param) for param in params if param.opts[-1] not in _UNTRIED)
    return found


def _parameter(of: str, param: TyperObject) -> Parameter:
    argument = param.param_type_name == "argument"
    flag = "" if argument else max(param.opts, key=len)
    text, metavar = getattr(param, "help", None) or "", param.metavar or ""
    writes = flag == "--out" or text.startswith(("Write", "Draw"))
    key = of if argument else flag
    repeatable = bool(getattr(param, "multiple", False)) or metavar.endswith("...")
    values = of_parameter(key, metavar.removesuffix("...") if argument else metavar, text, writes)
    return Parameter(flag, bool(getattr(param, "is_flag", False)), repeatable, values, tuple(changed_files(key)))


def _excluded(flag: str) -> set[str]:
    """The flags that an option excludes."""
    pairs = ((c.option, other) for c in CONFLICTS for other in c.others)
    both = {(flag_of(one), flag_of(other)) for one, other in pairs if {one, other} <= FLAGS.keys()}
    return {b for a, b in both if a == flag} | {a for a, b in both if b == flag}


def _needed(flag: str) -> set[str]:
    return {flag_of(other) for option, other in NEEDS if flag_of(option) == flag}


def _of_base(base: Sequence[str], takes: dict[str, Parameter]) -> list[tuple[str, list[str]]]:
    """A base question as options with their values, arguments under an empty flag."""
    parts: list[tuple[str, list[str]]] = []
    words = iter(base)
    for word in words:
        each = takes.get(word)
        value = [] if each is None or each.switch else [next(words)]
        parts.append((word if each is not None else "", [word, *value]))
    return parts


def case(name: str, seed: int, number: int) -> Case:
    """The case of a command by seed and number: every option in turn is the one that a case is about.

    The first case that is about an option has a good value, so that all that an option does is run.
    """
    chance = random.Random(f"{name}/{seed}/{number}")
    known = parameters()[name]
    takes = {each.flag: each for each in known}
    subjects = [each for each in known if each.flag not in _OFTEN]
    order = random.Random(f"{name}/{seed}").sample(subjects, len(subjects))
    main = order[number % len(order)]
    form = chance.choices(*zip(*(_FIRST_FORMS if number < len(order) else _FORMS), strict=True))[0]
    if form == "file":
        main = chance.choice([each for each in known if each.changed_files] or [main])
    chosen = {main.flag: _typed(main, form, chance)}
    for flag in sorted(_needed(main.flag) & takes.keys()):
        chosen[flag] = _typed(takes[flag], "good", chance)
    for other in chance.choices(known, k={"pair": 1, "many": 5}.get(form, 0)):
        if other.flag not in chosen and not _excluded(main.flag) & {other.flag}:
            chosen[other.flag] = _typed(other, "good", chance)
    for flag, share in _OFTEN.items() if form != "wrong" else ():
        if flag in takes and flag not in chosen and chance.random() < share:
            chosen[flag] = _typed(takes[flag], "odd" if chance.random() < _ODDLY else "good", chance)
    if chosen.get("--specs", [""])[-1].endswith("own"):
        for flag, of_own in _OF_OWN.items():
            if flag in takes and flag not in chosen and chance.random() < _OWN:
                chosen[flag] = [flag, of_own]
    if {"--out", "--resume"} <= chosen.keys() and chance.random() < _KEPT:
        chosen["--out"] = ["--out", chance.choice(KEPT)]
    return _case(name, seed, number, chosen, form == "wrong" and bool(main.values.wrong))


def refusals(name: str) -> tuple[Case, ...]:
    """Every value that an option or argument has to refuse, and every option twice that may be given once."""
    found = []
    for each in parameters()[name]:
        texts = [each.typed(text) for text in each.values.wrong]
        if each.flag and not each.switch and not each.repeatable:
            texts += [2 * each.typed(text) for text in each.values.good[:1]]
        found += [_case(name, -1, len(found) + k, {each.flag: text}, True) for k, text in enumerate(texts)]
    return tuple(found)


def _case(name: str, seed: int, number: int, chosen: dict[str, list[str]], must_fail: bool) -> Case:
    """A case with options by flag, which take the place of those of a base question."""
    chance = random.Random(f"{name}/{seed}/{number}/base")
    takes = {each.flag: each for each in parameters()[name]}
    gone = {flag for each in chosen for flag in _excluded(each)}
    base = _of_base(chance.choice(BASES.get(name, ("",))).split(), takes)
    kept = [part for flag, words in base if flag not in chosen and flag not in gone for part in words]
    arguments = (*name.split(), *kept, *(part for flag, words in chosen.items() if flag for part in words))
    subject = ("--", *chosen[""]) if chosen.get("", [""])[0].startswith("-") else tuple(chosen.get("", ()))
    return Case(name, seed, number, (*arguments, *subject), must_fail)


def _typed(each: Parameter, form: str, chance: random.Random) -> list[str]:
    values = each.values
    if form == "wrong":
        texts = values.wrong or values.odd or HOSTILE
    elif form == "odd":
        texts = chance.choice((values.odd, HOSTILE)) or HOSTILE
    elif form == "file" and each.changed_files:
        texts = tuple(name % chance.randrange(50) for name in each.changed_files)
    else:
        texts = values.good or values.odd or HOSTILE
    count = 2 if each.repeatable and form in ("good", "pair", "many") and chance.random() < 0.3 else 1
    return [part for _ in range(count) for part in each.typed(chance.choice(texts))]


if __name__ == "__main__":
    shown = case(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    print(shown.line, "# has to be refused" if shown.must_fail else "")
