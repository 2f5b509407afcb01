"""Arrivals of requests, as a phrase: at a rate for a time, in a closed loop, or as a trace has them."""

from dataclasses import dataclass

from provisioner.specs.units import format_rate, format_seconds


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Requests at ``rate_rps`` for ``duration_s``, ``in_flight`` at once in a closed loop, or those of a trace file.

    ``by_minute``: the rate is the average of rates that change by the minute. ``waiting`` of them wait for answers.

    >>> str(Arrivals(rate_rps=70.0, duration_s=30.0)), str(Arrivals(in_flight=1200)), str(Arrivals(trace="t.csv"))
    ('70 requests/s for 30 s', '1,200 requests in flight', 'trace t.csv as it is')
    """

    rate_rps: float = 0.0
    duration_s: float = 0.0
    by_minute: bool = False
    in_flight: int | None = None
    trace: str = ""
    waiting: int = 0

    def to(self, last: "Arrivals") -> str:
        """The range from these arrivals to others of their kind.

        >>> Arrivals(rate_rps=30.0, duration_s=120.0).to(Arrivals(rate_rps=250.0, duration_s=120.0))
        '30 to 250 requests/s for 2 min'
        """
        if self.trace:
            waiting = f"; {self.waiting:,} of its requests arrive after the answers before them" if self.waiting else ""
            return f"trace {self.trace} as it is{waiting}"
        if self.in_flight is not None:
            return _span(f"{self.in_flight:,} requests in flight", f"{last.in_flight:,} requests in flight")
        rate = _span(format_rate(self.rate_rps), format_rate(last.rate_rps))
        average = " on average, by minute," if self.by_minute else ""
        return f"{rate}{average} for {_span(format_seconds(self.duration_s), format_seconds(last.duration_s))}"

    def __str__(self) -> str:
        return self.to(self)


def _span(first: str, last: str) -> str:
    """Two numbers with their unit as a range; the unit once if it is the same."""
    if first == last:
        return first
    number, _, unit = first.partition(" ")
    return f"{number if last.endswith(f' {unit}') else first} to {last}"
