"""Money: amounts, units and names in the currency of a price list. Nothing is ever converted."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

USD: Final = "USD"  # currency of a price list that names none
HOURS_PER_MONTH: Final = 730.0
"""Hours of a month in costs: 365 days over 12, as clouds count (https://calculator.aws)."""
_SHOWN: Final = ContextVar("shown", default=USD)


def monthly(cost_usd_per_h: float) -> float:
    """Cost of a month of ``HOURS_PER_MONTH``."""
    return HOURS_PER_MONTH * cost_usd_per_h


@contextmanager
def shown_in(currency: str) -> Iterator[None]:
    """Write amounts in a currency, that of one result."""
    before = _SHOWN.set(currency)
    try:
        yield
    finally:
        _SHOWN.reset(before)


def in_currency(text: str, currency: str = "") -> str:
    """A text, or the name of a field, that is written for dollars, in a currency: that which is shown.

    >>> with shown_in("EUR"):
    ...     in_currency("cost ($/h)"), in_currency("$1,523.20/h"), in_currency("cost_usd_per_h")
    ('cost (EUR/h)', 'EUR 1,523.20/h', 'cost_eur_per_h')
    """
    currency = currency or _SHOWN.get()
    if currency == USD:
        return text
    return re.sub(r"\$(?=\d)", f"{currency} ", text).replace("$", currency).replace("usd", currency.lower())
