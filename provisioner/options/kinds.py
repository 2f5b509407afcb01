"""Kinds of values: the parser of each from text or a typed value, and the texts from which it is parsed again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from provisioner.errors import InputError, UnknownNameError
from provisioner.files import check_name, read_text
from provisioner.options.defaults import DESIGN_ALIASES, FACTORS, MACHINE_FACTORS, TOKEN_BUDGETS
from provisioner.specs import units
from provisioner.specs.roles import ROLE_ALIASES

Parser = Callable[[Any, str], Any]  # a parser takes a text or a typed value, and the name of the option for messages


def text_of(value: object) -> str:
    """A value as it is typed: a number with up to twelve digits.

    >>> text_of(70.0), text_of("coding"), text_of(3)
    ('70', 'coding', '3')
    """
    return f"{value:.12g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of value: its parser, its placeholder in help, and the texts (one for each use of the flag) of a value.

    A switch has no placeholder. A ``repeatable`` flag is typed once for each value. ``default`` is that of an option
    without its own. A ``number`` has a ``unit``, and, if it is whole, a ``minimum``; ``varies`` is the quantity that a
    sweep over it varies.
    """

    parse: Parser
    metavar: str
    texts: Callable[[Any], Sequence[str]] = lambda value: (text_of(value),)
    repeatable: bool = False
    default: Any = None
    number: bool = False
    unit: str = ""
    minimum: int | None = None
    varies: str = ""

    def varied_as(self, quantity: str) -> Kind:
        """This kind for a quantity that a sweep can vary."""
        return replace(self, varies=quantity)

    def shown_as(self, metavar: str) -> Kind:
        """This kind with another placeholder in help."""
        return replace(self, metavar=metavar)

    def checked(self, accepts: Callable[[Any], bool], must_be: str) -> Kind:
        """This kind with a narrower range; ``must_be`` stands after "must be" in the message."""

        def parse(value: Any, what: str) -> Any:
            parsed = self.parse(value, what)
            if not accepts(parsed):
                raise InputError(f"{what}: must be {must_be}, got {text_of(value)}")
            return parsed

        return replace(self, parse=parse)

    def within(self, least: float, most: float) -> Kind:
        """This kind with the range that makes sense for an option, in its unit; beyond it lie errors of typing."""
        unit = f" {self.unit}" if self.unit else ""
        return self.checked(lambda value: least <= value <= most, f"from {least:,.12g} to {most:,.12g}{unit}")

    def several(self) -> Kind:
        """Any number of values: a flag for each, in Python one value or several."""
        return Kind(
            lambda value, what: self._each(value, what, "a name or several"),
            self.metavar,
            lambda values: [text for value in values for text in self.texts(value)],
            repeatable=True,
            default=(),
        )

    def listed(self, none: bool = False) -> Kind:
        """Numbers with commas between, in Python also one or several; the word none for no number where ``none``."""

        def parse(value: Any, what: str) -> tuple[Any, ...]:
            if isinstance(value, str):
                value = () if none and value == "none" else value.split(",")
            return self._each(value, what, "numbers")

        return Kind(
            parse,
            f"{self.metavar},...{'|none' if none else ''}",
            lambda values: (",".join(text for value in values for text in self.texts(value)) or "none",),
            default=(),
        )

    def once(self) -> Kind:
        """This kind of several values, each of which stands once."""
        return self.checked(lambda values: isinstance(values, str) or len({*values}) == len(values), "each given once")

    def by_name(self, shape: str, known_as: Callable[[str], str] = str) -> Kind:
        """Values by name, each given once, as texts of a ``shape``, and the name that each is known as.

        >>> SCALE.parse(["output-tokens=1.2", "price:dgx-a100=0.5"], ""), SCALE.parse({"prefill-time": 2}, "--scale")
        ({'output-tokens': 1.2, 'price:dgx-a100': 0.5}, {'prompt-time': 2.0})
        >>> STOCK.parse(["dgx-h100=20", "dgx-a100=0"], "--stock"), SWITCHES.parse("price:dgx-a100=0.2:1", "--switch")
        ({'dgx-h100': 20, 'dgx-a100': 0}, {'price:dgx-a100': (0.2, 1.0)})
        """

        def parse(value: Any, what: str) -> dict[str, Any]:
            named: dict[str, Any] = {}
            for given, each in pairs(value, what, shape):
                name = known_as(given)
                if name in named:
                    raise InputError(f"{what}: {name} is given twice")
                named[name] = self.parse(each, f"{what} {name}")
            return named

        def texts(value: Mapping[str, Any]) -> list[str]:
            return [f"{name}={text}" for name, each in value.items() for text in self.texts(each)]

        return Kind(parse, shape.partition(",")[0], texts, repeatable=True, default={})

    def _each(self, value: Any, what: str, must_be: str) -> tuple[Any, ...]:
        if isinstance(value, str | Path) or (self.number and isinstance(value, int | float)):
            value = (value,)
        elif not isinstance(value, Iterable):
            raise InputError(f"{what}: must be {must_be}, got {value!r}")
        return tuple(self.parse(each, what) for each in value)


def _parse_text(value: Any, what: str) -> str:
    if not isinstance(value, str | Path):
        raise InputError(f"{what}: must be a name, got {units.quoted(value)}")
    check_name(str(value), what)
    return str(value)


def _parse_switch(value: Any, what: str) -> bool:
    if isinstance(value, str) or value not in (True, False):
        raise InputError(f"{what}: must be True or False, got {units.quoted(value)}")
    return bool(value)


TEXT: Final = Kind(_parse_text, "NAME")
FILE: Final = TEXT.shown_as("FILE")
FOLDER: Final = TEXT.shown_as("FOLDER")
ADDRESS: Final = TEXT.shown_as("ADDRESS")
SWITCH: Final = Kind(_parse_switch, "", lambda _: ())


def word_of(noun: str, values: Mapping[str, Any]) -> Kind:
    """A value that is typed as a word. ``{option}`` in ``noun`` stands for the name of the option."""

    def parse(value: Any, what: str) -> Any:
        if not isinstance(value, str) and value in values.values():
            return value
        if value not in values:
            raise UnknownNameError(noun.format(option=what), value, tuple(values))
        return values[value]

    return Kind(parse, "|".join(values), lambda value: [word for word, known in values.items() if known == value])


def name_of(noun: str, known: Sequence[str]) -> Kind:
    """One of the known names."""
    return word_of(noun, {name: name for name in known})


def positive(unit: str = "", metavar: str = "NUMBER", most: float = 1e6) -> Kind:
    """A number above 0 of a unit, of at most ``most``."""
    return Kind(partial(units.parse_positive, unit=unit), metavar, number=True, unit=unit).within(1e-6, most)


def whole(unit: str = "", minimum: int = 1, most: int = 1_000_000) -> Kind:
    """A whole number of a unit, from ``minimum`` to ``most``."""
    metavar = unit.upper() if unit in ("tokens", "GPUs") else "COUNT"
    parse = partial(units.parse_whole, unit=unit, minimum=minimum)
    return Kind(parse, metavar, number=True, unit=unit, minimum=minimum).within(minimum, most)


MACHINES: Final = whole("machines", most=100_000)
RATE: Final = positive("requests/s", "RATE")


_TOKENS: Final = whole("tokens")


def parse_budgets(value: Any, what: str) -> int | dict[str, int]:
    """Tokens of an iteration: a number for all pools, or numbers by role.

    >>> parse_budgets("2048", "--batch-tokens"), parse_budgets("prefill=2048,mixed=512", "--batch-tokens")
    (2048, {'prompt': 2048, 'mixed': 512})
    """
    if not isinstance(value, Mapping) and "=" not in str(value):
        tokens: int = _TOKENS.parse(value, what)
        return tokens
    shape = "TOKENS, or ROLE=TOKENS such as prompt=2048,mixed=512"
    budgets: dict[str, int] = {}
    for name, each in pairs(value if isinstance(value, Mapping) else str(value).split(","), what, shape):
        if name.lower() not in ROLE_ALIASES:
            raise UnknownNameError("role", name, ROLE_ALIASES)
        role = ROLE_ALIASES[name.lower()]
        if role in budgets:
            raise InputError(f"{what}: {role} is given twice")
        budgets[role] = _TOKENS.parse(each, f"{what} {name}")
    return budgets


def _budget_texts(value: int | Mapping[str, int]) -> Sequence[str]:
    known = value.items() if isinstance(value, Mapping) else ()
    return (",".join(f"{role}={tokens}" for role, tokens in known) or text_of(value),)


BUDGETS: Final = replace(_TOKENS, parse=parse_budgets, texts=_budget_texts).shown_as("TOKENS|ROLE=TOKENS")
"""Tokens of an iteration, in all pools or by role."""


def share(unit: str = "") -> Kind:
    """A share from 0 to 1, also written in per cent."""
    return Kind(units.parse_fraction, "SHARE", number=True, unit=unit)


def parse_headroom(value: Any, what: str) -> float:
    """Headroom as a fraction of the rate, also written in per cent; 0 or above.

    >>> parse_headroom("0.2", "--headroom"), parse_headroom("20%", "--headroom"), parse_headroom(1.5, "--headroom")
    (0.2, 0.2, 1.5)
    """
    if isinstance(value, str) and value.rstrip().endswith("%"):
        return units.parse_non_negative(value.rstrip()[:-1], what, "%") / 100.0
    return units.parse_non_negative(value, what)


NON_NEGATIVE: Final = Kind(units.parse_non_negative, "NUMBER", number=True)
HEADROOM: Final = Kind(parse_headroom, "SHARE").within(0.0, 10.0)


def parse_time(value: Any, what: str, zero: bool = False, bare: bool = True) -> float:
    """Time above 0 in s, or from 0 on where ``zero``; the text of a number alone is in s where ``bare``.

    >>> parse_time("120", "--duration"), parse_time("10min", "--duration"), parse_time("0s", "--retry", zero=True)
    (120.0, 600.0, 0.0)
    """
    if zero and value in (0, "0", "0s"):
        return 0.0
    if not isinstance(value, str) or (bare and re.fullmatch(r"\s*[-+]?[\d.]+(?:[eE][-+]?\d+)?\s*", value)):
        return units.parse_positive(value, what, "s")
    return units.parse_duration(value, what)


def _seconds_text(value: float) -> Sequence[str]:
    return (f"{text_of(value)}s",)


_ANY_TIME: Final = Kind(parse_time, "TIME", number=True, unit="s")
_YEAR_S: Final = 366 * 86_400.0
TIME: Final = _ANY_TIME.within(1e-6, _YEAR_S)
# 60 could be minutes: the text of a long time needs its unit.
LONG_TIME: Final = Kind(partial(parse_time, bare=False), "DURATION", _seconds_text, unit="s").within(1e-6, _YEAR_S)
RETRY: Final = replace(_ANY_TIME, parse=partial(parse_time, zero=True), texts=_seconds_text).checked(
    lambda retry_s: retry_s == 0.0 or 1e-3 <= retry_s <= 3600.0, "0, or from 1 ms to 1 h"
)


def scaled(factors: Mapping[str, float], unit: str, must_be: str, metavar: str) -> Kind:
    """Numbers above 0 of the least unit, from numbers of ``unit`` or texts that end with one of the units.

    >>> POWER.parse("400kW", "--max-power"), POWER.parse("1.5 MW", "--max-power"), POWER.parse(500, "--max-power")
    (400000.0, 1500000.0, 500.0)
    >>> MEMORY.parse("1.5GiB", "--memory"), MEMORY.parse("24 GB", "--memory")
    (1610612736.0, 24000000000.0)
    """
    known = {name.lower(): factor for name, factor in factors.items()}

    def parse(value: Any, what: str) -> float:
        if not isinstance(value, str):
            return units.parse_positive(value, what, unit)
        match = re.fullmatch(rf"\s*(.+?)\s*({'|'.join(factors)})?\s*", value, re.IGNORECASE)
        number, ending = match.groups() if match else (value, None)
        try:
            return units.parse_positive(number, what, unit) * known[(ending or unit).lower()]
        except (InputError, KeyError):
            raise InputError(f"{what}: must be {must_be}, got {value!r}") from None

    return Kind(parse, metavar, unit=unit).within(1.0, 1e15)


_BYTES: Final = {f"{letter}iB": 1024.0**k for k, letter in enumerate("KMGT", 1)} | {
    f"{letter}B": 1000.0**k for k, letter in enumerate("KMGT", 1)
}
POWER: Final = scaled({"W": 1.0, "kW": 1e3, "MW": 1e6}, "W", "a power above 0 W, such as 400000 or 400kW", "POWER")
MEMORY: Final = replace(
    scaled(_BYTES, "bytes", "memory above 0 with its unit, such as 24GiB or 80GB", "SIZE"),
    texts=lambda value: (f"{text_of(value / 1024)}KiB",),
)


def parse_count(value: Any, what: str) -> int:
    """A number of requests, in thousands or millions where it ends with k or M.

    >>> parse_count("2M", "--backlog"), parse_count("1.5k", "--backlog"), parse_count(800, "--backlog")
    (2000000, 1500, 800)
    """
    text = str(value).strip()
    times = {"k": 1e3, "m": 1e6}.get(text[-1:].lower())
    if times is not None:
        value = round(times * units.parse_positive(text[:-1], what, "requests"), 6)
    return units.parse_whole(value, what, "requests")


def parse_tokens(value: Any, what: str) -> int:
    """A number of tokens, as vLLM reads ``--max-model-len``: k stands for 1,000, K for 1,024.

    >>> parse_tokens("8k", "--context"), parse_tokens("8K", "--context"), parse_tokens("131072", "--context")
    (8000, 8192, 131072)
    """
    text = str(value).strip()
    if (times := {"k": 1000, "K": 1024}.get(text[-1:])) is not None:
        value = round(times * units.parse_positive(text[:-1], what, "tokens"), 6)
    return units.parse_whole(value, what, "tokens")


CONTEXT: Final = Kind(parse_tokens, "TOKENS", number=True, unit="tokens").within(1, 1_000_000_000)
COUNT: Final = Kind(parse_count, "REQUESTS", unit="requests").within(1, 1_000_000_000)
# The unit of a budget depends on what is held the same: it stays a text.
BUDGET: Final = Kind(lambda value, what: value if isinstance(value, str) else units.parse_number(value, what), "AMOUNT")


def parse_degrees(value: Any, what: str) -> Any:
    """Degrees of tensor parallelism: a word, or numbers of GPUs with commas between.

    >>> parse_degrees("all", "--tp"), parse_degrees("4,8", "--tp"), parse_degrees(8, "--tp")
    ('all', (4, 8), (8,))
    """
    if value in ("largest", "all"):
        return value
    if isinstance(value, str) and not re.fullmatch(r"[-+\d.,\s]+", value):
        raise InputError(f"{what}: must be largest, all, or numbers of GPUs such as 4,8, got {value!r}")
    return whole("GPUs").listed().parse(value, what)


_CHOICES_OF_TOKENS: Final[Mapping[Any, tuple[int, ...]]] = {"all": TOKEN_BUDGETS, "own": ()}


def parse_choices_of_tokens(value: Any, what: str) -> tuple[int, ...]:
    """Token budgets, the smallest first: all that plans consider, numbers with commas between, or none but the own.

    >>> parse_choices_of_tokens("all", "--batch-tokens")[:3], parse_choices_of_tokens("2048,512", "--batch-tokens")
    ((512, 1024, 2048), (512, 2048))
    >>> parse_choices_of_tokens("own", "--batch-tokens")
    ()
    """
    if value in _CHOICES_OF_TOKENS:
        return _CHOICES_OF_TOKENS[value]
    if isinstance(value, str) and not re.fullmatch(r"[-+\d.,\s]+", value):
        words = ", ".join(_CHOICES_OF_TOKENS)
        raise InputError(f"{what}: must be {words}, or numbers of tokens such as 512,2048, got {value!r}")
    return tuple(sorted(set(whole("tokens", 16, 131_072).listed().parse(value, what)))) if value != () else ()


def _choice_texts(value: Any) -> Sequence[str]:
    return [word for word, tokens in _CHOICES_OF_TOKENS.items() if tokens == value] or _range_texts(value)


def _range_texts(value: Any) -> Sequence[str]:
    return (value if isinstance(value, str) else ",".join(map(text_of, value)),)


_RATE_OR_0: Final = Kind(partial(units.parse_non_negative, unit="requests/s"), "", unit="requests/s").within(0.0, 1e6)


def parse_rates(value: Any, what: str) -> tuple[float, ...]:
    """Rates minute by minute in requests/s: numbers with commas between, or a file that has one in a line.

    >>> parse_rates("30,50,70", "--rates"), parse_rates([30, 50], "--rates")
    ((30.0, 50.0, 70.0), (30.0, 50.0))
    """
    if isinstance(value, str | Path) and not re.fullmatch(r"[-+\d.,eE\s]+", str(value)):
        check_name(str(value), what)
        if not Path(value).exists():
            raise InputError(f"{what}: must be numbers with commas between, such as 30,50,70, or a file, got {value!r}")
        lines = read_text(value, shown=f"{what} {value}").split()
        rates = tuple(_RATE_OR_0.parse(line.rstrip(","), f"{value}: line {k}") for k, line in enumerate(lines, 1))
        if not rates:
            raise InputError(f"{what} {value}: is empty")
        return rates
    values = str(value).split(",") if isinstance(value, str | Path) else value
    return tuple(_RATE_OR_0.parse(rate, what) for rate in values)


DEGREES: Final = Kind(parse_degrees, "all|largest|GPUS,...", _range_texts).once()
CHOICES_OF_TOKENS: Final = Kind(parse_choices_of_tokens, "all|own|TOKENS,...", _choice_texts)
RATES: Final = Kind(parse_rates, "RATE,...|FILE", _range_texts, default=())
SIZES: Final = Kind(
    lambda value, _: value if isinstance(value, str) else tuple(value) if isinstance(value, Iterable) else (value,),
    "FROM:TO[:STEP]",
    _range_texts,
)


def pairs(value: Any, what: str, shape: str) -> list[tuple[str, Any]]:
    """Names with their values, from a mapping, a text ``NAME=VALUE``, or several of them."""
    if isinstance(value, Mapping):
        return [(str(name), each) for name, each in value.items()]
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [pair for each in value for pair in pairs(each, what, shape)]
    name, equals, rest = (part.strip() for part in str(value).partition("="))
    if not (name and equals):
        raise InputError(f"{what}: must be {shape}, got {value!r}")
    return [(name, rest)]


def _first_word(name: str, mark: str, words: Mapping[str, str]) -> str:
    """A name with its first word, up to ``mark``, replaced by the one of this program."""
    first, mark, rest = name.partition(mark)
    return f"{words.get(first.strip().lower(), first)}{mark}{rest}"


def _input_name(name: str) -> str:
    """The name of an input: ``prefill-time`` is ``prompt-time``."""
    return name if name.partition(":")[0] in (*FACTORS, *MACHINE_FACTORS) else _first_word(name, "-", ROLE_ALIASES)


_SWITCH: Final = "NAME=LOW:HIGH, such as price:dgx-a100=0.2:1"


def _ends(parse: Parser, must_be: str, metavar: str, unit: str = "") -> Kind:
    """Two numbers of which the second is larger."""

    def parsed(value: Any, what: str) -> tuple[float, float]:
        ends = value.split(":") if isinstance(value, str) else tuple(value)
        low, high = (parse(end, what) for end in ends) if len(ends) == 2 else (0.0, 0.0)
        if not high > low:
            raise InputError(f"{what}: must be {must_be}, from the smaller to the larger, got {value!r}")
        return low, high

    return Kind(parsed, metavar, lambda ends: (":".join(f"{text_of(end)}{unit}" for end in ends),))


SPAN: Final = _ends(partial(parse_time, zero=True), "FROM:UNTIL, such as 18h:19h", "FROM:UNTIL", "s")
SCALE: Final = positive().by_name("NAME=FACTOR, such as output-tokens=1.2", _input_name)
STOCK: Final = whole("machines", 0, 100_000).by_name("NAME=COUNT, such as dgx-h100=20")
SWITCHES: Final = _ends(units.parse_positive, _SWITCH, "LOW:HIGH").by_name(_SWITCH, _input_name)

POOLS: Final = Kind(lambda value, what: _first_word(_parse_text(value, what), ":", ROLE_ALIASES), "POOL").several()
"""Texts that begin with a role, such as ``prompt:dgx-h100=20``; ``prefill``, ``decode`` and ``colocated`` are known."""

DESIGN: Final = Kind(lambda value, what: _first_word(_parse_text(value, what), "-", DESIGN_ALIASES), "NAME")
"""Name of a design, such as ``baseline-h100``; ``colocated-h100`` is known."""

INPUT: Final = Kind(lambda value, what: _input_name(_parse_text(value, what)), "NAME")
"""Name of an input, such as ``prompt-time``; ``prefill-time`` is known."""
