"""Reading and writing quantities: text such as ``2s``, ``60ms`` or ``6x`` to numbers in SI units, and back.

Every function raises ``InputError`` with one line that names the quantity, what it must be and what was
given. Imports the standard library only, so that the command line can use it while starting up.
"""

import math
import re
from collections.abc import Mapping
from json import JSONDecodeError
from unicodedata import category

from provisioner.errors import InputError
from provisioner.specs.money import HOURS_PER_MONTH, in_currency, monthly

_SECONDS_PER_UNIT = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "min": 60.0, "h": 3600.0}
# A time below the first number of seconds is shown in the unit, which has the second number of seconds.
_TIME_UNITS = ((1e-3, "us", 1e-6), (1.0, "ms", 1e-3), (120.0, "s", 1.0), (7200.0, "min", 60.0), (math.inf, "h", 3600.0))
_QUANTITY = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?nan|[-+]?inf)\s*([^\d\s.]*)\s*")

# Unit by the ending of a field's name, the longest ending first.
_UNIT_BY_SUFFIX = (
    ("_gib_per_gpu", "GiB"),
    ("_gb_per_s", "GB/s"),
    ("_bytes_per_s", "bytes/s"),
    ("_usd_per_h", "$/h"),
    ("_tflops", "TFLOP/s"),
    ("_gbps", "Gb/s"),
    ("_tokens", "tokens"),
    ("_gib", "GiB"),
    ("_rps", "requests/s"),
    ("_w", "W"),
    ("_s", "s"),
)


def unit_of(field: str) -> str:
    """Unit that the suffix of a field's name states, or an empty text for a pure number.

    >>> unit_of("memory_bandwidth_gb_per_s"), unit_of("layers")
    ('GB/s', '')
    """
    return next((unit for suffix, unit in _UNIT_BY_SUFFIX if field.endswith(suffix)), "")


def _with_unit(number: str, unit: str) -> str:
    return f"{number} {unit}" if unit else number


def _as_given(value: str | float) -> str:
    """A number as people write it: a YAML file's -3 is read as -3.0."""
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def parse_duration(text: str | float, what: str = "duration") -> float:
    """Seconds of a duration written with its unit (us, ms, s, min, h); above 0.

    A bare number is refused: 60 could be seconds or milliseconds.

    >>> parse_duration("60ms"), parse_duration("0.5 min"), parse_duration("2s")
    (0.06, 30.0, 2.0)
    """
    shape = "must be a time with its unit, such as 2s, 60ms or 0.5min"
    return _with_unit_of(_SECONDS_PER_UNIT, text, what, shape, "must be a time above 0 s")


def parse_factor(text: str | float, what: str = "slowdown") -> float:
    """Factor written with an x, such as 6x or 1.25x; above 0.

    >>> parse_factor("6x"), parse_factor("1.25 x")
    (6.0, 1.25)
    """
    shape = "must be a factor with an x, such as 6x or 1.25x"
    return _with_unit_of({"x": 1.0, "X": 1.0}, text, what, shape, "must be a factor above 0x")


def _with_unit_of(units: Mapping[str, float], text: str | float, what: str, shape: str, above: str) -> float:
    """Number above 0 times its unit; the errors say that it ``must be`` of that shape, and above 0."""
    match = _QUANTITY.fullmatch(text) if isinstance(text, str) else None
    if match is None or match[2] not in units:
        raise InputError(f"{what}: {shape}, got {text!r}")
    number = float(match[1]) * units[match[2]]
    if not (math.isfinite(number) and number > 0):
        raise InputError(f"{what}: {above}, got {text!r}")
    if not 1e-9 <= number <= 1e9:
        raise InputError(f"{what}: must be from 1e-9 to 1e9 {'x' if 'x' in units else 's'}, got {text!r}")
    return number


def parse_number(value: str | float, what: str, unit: str = "") -> float:
    """Finite number from a number or its text.

    >>> parse_number("-1.5", "offset", "s")
    -1.5
    """
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{what}: must be a number{f' of {unit}' if unit else ''}, got {value!r}")
    return number


def parse_positive(value: str | float, what: str, unit: str = "") -> float:
    """Finite number above 0.

    >>> parse_positive("70", "rate", "requests/s")
    70.0
    """
    number = parse_number(value, what, unit)
    if number <= 0:
        raise InputError(f"{what}: must be above {_with_unit('0', unit)}, got {_as_given(value)}")
    return number


def parse_non_negative(value: str | float, what: str, unit: str = "") -> float:
    """Finite number of 0 or above.

    >>> parse_non_negative(0, "headroom")
    0.0
    """
    number = parse_number(value, what, unit)
    if number < 0:
        raise InputError(f"{what}: must be {_with_unit('0', unit)} or more, got {_as_given(value)}")
    return number


def parse_fraction(value: str | float, what: str) -> float:
    """Fraction from 0 to 1, also written in per cent.

    >>> parse_fraction("0.2", "share"), parse_fraction("20 %", "share")
    (0.2, 0.2)
    """
    if isinstance(value, str) and value.rstrip().endswith("%"):
        number = parse_number(value.rstrip()[:-1], what, "%") / 100.0
    else:
        number = parse_number(value, what)
    if not 0 <= number <= 1:
        raise InputError(f"{what}: must be between 0 and 1 (or 0% and 100%), got {_as_given(value)}")
    return number


def parse_whole(value: str | float, what: str, unit: str = "", minimum: int = 1) -> int:
    """Whole number of at least ``minimum``.

    >>> parse_whole("20", "stock", "machines")
    20
    """
    number = parse_number(value, what, unit)
    if number != int(number) or number < minimum:
        of_unit = f" of {unit}" if unit else ""
        raise InputError(f"{what}: must be a whole number{of_unit}, {minimum} or more, got {_as_given(value)}")
    return int(number)


def check_plausible(what: str, spec: object, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Refuse a field that is not above 0, or far outside what such hardware has: nearly always in another unit.

    ``ranges`` are by field of the spec; the suffix of a field's name states its unit.

    >>> from types import SimpleNamespace
    >>> check_plausible("machine x", SimpleNamespace(max_power_w=10.2), {"max_power_w": (100, 1e6)})
    Traceback (most recent call last):
    provisioner.errors.InputError: machine x: max_power_w: 10.2 W is not plausible (100 to 1,000,000 W): ...
    """
    for field, (low, high) in ranges.items():
        unit = unit_of(field)
        value = getattr(spec, field)
        parse_positive(value, f"{what}: {field}", unit)
        if not low <= value <= high:
            raise InputError(
                f"{what}: {field}: {_with_unit(f'{value:g}', unit)} is not plausible "
                f"({low:,.12g} to {_with_unit(f'{high:,.12g}', unit)}): is it in another unit?"
            )


def format_seconds(seconds: float) -> str:
    """Time for people: up to three significant digits in us, ms, s, min or h.

    >>> format_seconds(0.0781), format_seconds(2), format_seconds(1.5), format_seconds(7200)
    ('78.1 ms', '2 s', '1.5 s', '2 h')
    """
    if not math.isfinite(seconds) or seconds == 0:
        return f"{seconds:g} s"
    unit, scale = next((unit, scale) for below_s, unit, scale in _TIME_UNITS if abs(seconds) < below_s * (1 - 5e-4))
    number = seconds / scale
    decimals = max(0, 2 - math.floor(math.log10(abs(number) * (1 + 5e-4))))
    text = f"{number:,.{decimals}f}"
    return f"{text.rstrip('0').rstrip('.') if decimals else text} {unit}"


def format_factor(factor: float) -> str:
    """Factor with its x.

    >>> format_factor(6.0), format_factor(1.253)
    ('6x', '1.25x')
    """
    return f"{float(f'{factor:.3g}'):g}x" if abs(factor) < 1000 else f"{factor:,.0f}x"


def format_power(power_w: float) -> str:
    """Power in W below 1 kW, then in kW or MW.

    >>> format_power(408000.0), format_power(400), format_power(2.5e6)
    ('408.0 kW', '400 W', '2.50 MW')
    """
    if abs(power_w) < 1e3:
        return f"{power_w:,.0f} W"
    return f"{power_w / 1e3:,.1f} kW" if abs(power_w) < 1e6 else f"{power_w / 1e6:,.2f} MW"


def format_cost(cost_usd_per_h: float) -> str:
    """Cost an hour in the currency that is shown.

    >>> format_cost(1523.2)
    '$1,523.20/h'
    """
    return in_currency(f"${cost_usd_per_h:,.2f}/h")


def format_monthly_cost(cost_usd_per_h: float) -> str:
    """Cost a month of ``HOURS_PER_MONTH`` in the currency that is shown.

    >>> format_monthly_cost(1523.2)
    '$1,111,936 a month (730 h)'
    """
    return in_currency(f"${monthly(cost_usd_per_h):,.0f} a month ({HOURS_PER_MONTH:g} h)")


def format_rate(rate_rps: float) -> str:
    """Request rate.

    >>> format_rate(70.0), format_rate(2.5651)
    ('70 requests/s', '2.57 requests/s')
    """
    return f"{rate_rps:,.3g} requests/s" if abs(rate_rps) < 1000 else f"{rate_rps:,.0f} requests/s"


def format_bytes(size_bytes: float) -> str:
    """Size in binary units.

    >>> format_bytes(640 * 2**30), format_bytes(327680)
    ('640.0 GiB', '320.0 KiB')
    """
    for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if abs(size_bytes) >= 2**power * (1.0 if power < 40 else 2.0):
            return f"{size_bytes / 2**power:,.1f} {unit}"
    return f"{size_bytes:,.0f} B"


def format_count(number: float) -> str:
    """Whole number with thousands separators.

    >>> format_count(1234567)
    '1,234,567'
    """
    return f"{number:,.0f}"


def format_share(fraction: float) -> str:
    """Fraction in per cent with one decimal.

    >>> format_share(0.123)
    '12.3 %'
    """
    return f"{100 * fraction:.1f} %"


def quoted(value: object) -> str:
    """A given value as messages show it, on one line and cut to 60 characters.

    >>> quoted("a\\nb")
    "'a\\\\nb'"
    """
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."


def printable(text: str) -> str:
    """Text without the characters that a terminal would obey: each is shown by its number; line breaks stay."""
    return "".join(c if c == "\n" or category(c)[0] != "C" else ascii(c)[1:-1] for c in text)


def json_error(error: JSONDecodeError) -> str:
    """An error in a JSON text with its place; a text is cut off if it is wrong at its end, or in a string without end.

    >>> json_error(JSONDecodeError("Expecting value", '{"layers": ', 11))
    'ends in the middle of its JSON (line 1, column 12): is it cut off?'
    """
    at = f"line {error.lineno}, column {error.colno}"
    if error.pos >= len(error.doc.rstrip()) - 1 or error.msg.startswith("Unterminated"):
        return f"ends in the middle of its JSON ({at}): is it cut off?"
    return f"is not JSON: {at}: {error.msg}"
