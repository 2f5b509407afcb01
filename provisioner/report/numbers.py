"""Numbers as tables show them, without units, which are in the headers; None is an empty text."""

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final

from provisioner.specs.criteria import ObjectiveName
from provisioner.specs.money import in_currency
from provisioner.specs.units import format_count

whole: Final = format_count


def _shown(value: float | None, text: Callable[[float], str], endless: str = "unbounded") -> str:
    if value is None or math.isnan(value) or value == -math.inf:
        return ""
    return text(value) if math.isfinite(value) else endless


def per_cent(fraction: float | None) -> str:
    """A fraction as per cent with one decimal.

    >>> per_cent(0.8376), per_cent(float("nan")), per_cent(None)
    ('83.8', '', '')
    """
    return _shown(fraction, lambda known: f"{100.0 * known:.1f}")


def milliseconds(seconds: float) -> str:
    """A time in ms with one decimal.

    >>> milliseconds(0.17188), milliseconds(27.849)
    ('171.9', '27,849.0')
    """
    return _shown(seconds, lambda known_s: f"{1e3 * known_s:,.1f}")


def significant(value: float | None) -> str:
    """A number with three significant digits, and no fewer than its integer ones.

    >>> significant(0.65718), significant(12.5), significant(206.97), significant(12345.6)
    ('0.657', '12.5', '207', '12,346')
    """
    decimals = max(0, 2 - math.floor(math.log10(abs(value) * (1 + 5e-4)))) if value and math.isfinite(value) else 0
    return _shown(value, lambda known: f"{known:,.{decimals}f}")


def simulated(value: float | None, text: Callable[[float], str] = significant) -> str:
    """A number of a simulation; empty if there is none, "never" if requests are not served.

    >>> simulated(0.65718), simulated(float("inf")), simulated(float("-inf"))
    ('0.657', 'never', '')
    """
    return _shown(value, text, "never")


def dollars(amount_usd: float, sign: bool = True) -> str:
    """An amount in the currency that is shown, to the cent, below 1 to three digits.

    >>> dollars(510.72), dollars(0.97636), dollars(1540.08, sign=False)
    ('$510.72', '$0.976', '1,540.08')
    """
    text = f"{amount_usd:,.2f}" if abs(amount_usd) >= 1 or amount_usd == 0 else significant(amount_usd)
    return in_currency(f"${text}") if sign else text


def five_digits(value: float | None) -> str:
    """A value of a chart to five significant digits, and no fewer than its integer ones.

    >>> five_digits(523.44), five_digits(1234567.0), five_digits(0.05), five_digits(-0.0), five_digits(None)
    ('523.44', '1,234,567', '0.05', '0', 'no value')
    """
    return _digits(value, 5)


def three_digits(value: float | None, limits: Iterable[float | None] = ()) -> str:
    """A value to three significant digits, for a label in a chart; to five if three would show it as a limit.

    >>> three_digits(1.0024, [1.0]), three_digits(1.0024), three_digits(12345.6), three_digits(1e7)
    ('1.0024', '1', '12,346', '1e+07')
    """
    text = _digits(value, 3)
    looks_equal = any(limit is not None and limit != value and _digits(limit, 3) == text for limit in limits)
    return _digits(value, 5) if looks_equal else text


def _digits(value: float | None, digits: int) -> str:
    if value is None or math.isnan(value):
        return "no value"
    if math.isinf(value):
        return "unbounded" if value > 0 else "none"
    if value == 0:
        return "0"
    if not 1e-5 <= abs(value) < 10 ** (3 * digits - 2):
        return f"{value:.{digits}g}"
    decimals = digits - 1 - math.floor(math.log10(abs(value) * (1 + 5e-6)))
    text = f"{value:,.{max(decimals, 0)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


NUMBERS: Final[Mapping[ObjectiveName, Callable[[float], str]]] = {
    "cost": partial(dollars, sign=False),
    "power": lambda power_w: f"{power_w / 1e3:,.1f}",
    "machines": whole,
    "throughput": significant,
}
"""The text of each criterion's value in a table, whose header has the unit."""
