"""The one table of options that exclude each other or need each other: for Python, command line and sweeps."""

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any, Final

from provisioner.errors import InputError
from provisioner.specs.metrics import MEASURED
from provisioner.spelling import spelled


@dataclass(frozen=True, slots=True)
class Conflict:
    """An option that means nothing beside any of the others, in one kind of question (``of``) or in all.

    In ``why`` and ``mend``, ``{other}`` is the name of the other option, ``{rate_rps}`` that of a field. The message
    begins with the other option, or the first one where ``names_first``. A conflict that is ``typed`` also holds for
    the value that is the default, if the caller gave it. One with a ``value`` is of that value of the first option;
    there is none beside the option ``unless``.
    """

    option: str
    others: tuple[str, ...]
    why: str
    mend: str = ""
    names_first: bool = False
    of: str = ""
    typed: bool = False
    value: Any = None
    unless: str = ""

    def holds(self, question: str, given: Mapping[str, Any]) -> bool:
        """Whether the first option is given, to a question of this kind, in the way in which it excludes others."""
        named = self.of in ("", question) and self.option in given and self.unless not in given
        return named and self.value in (None, given[self.option])

    def message(self, other: str) -> str:
        """The message that refuses both."""
        mend = f"; {self.mend}" if self.mend else ""
        return f"{spelled(self.option if self.names_first else other)}: {_filled(self.why + mend, other)}"

    def reason(self, other: str) -> str:
        """The reason why the options exclude each other."""
        return _filled(self.why, other)


def _filled(text: str, other: str) -> str:
    return re.sub(r"{(\w+)}", lambda field: spelled(other if field[1] == "other" else field[1]), text)


def _beside(option: str, others: tuple[str, ...], why: str, mend: str = "leave out {other}", **more: Any) -> Conflict:
    """A conflict whose message names the first option."""
    return Conflict(option, others, why, mend, names_first=True, **more)


CONFLICTS: Final = (
    _beside("trace", ("workload",), "takes requests and times as they are", typed=True),
    _beside("trace", ("rate_rps",), "takes requests and times as they are", of="plan"),
    Conflict(
        "trace",
        ("rate_rps", "rates_rps", "duration_s", "in_flight", "requests"),
        "a {trace} is simulated at its own times",
        mend="give its file to {workload} for its lengths at a rate",
        of="simulation",
    ),
    Conflict("trace", ("cv", "independent"), "changes a workload; a {trace} is taken as it is"),
    Conflict("trace", ("sets",), "a {trace} is one request set, taken as it is"),
    Conflict("trace", ("duration_s", "confidence"), "a {trace} is one request set, taken as it is", of="plan"),
    Conflict(
        "in_flight",
        ("rate_rps", "rates_rps", "duration_s", "cv", "cool_down"),
        "a closed loop ({in_flight}) has no arrival times",
    ),
    Conflict("rates_rps", ("rate_rps", "duration_s"), "{rates_rps} has a rate for each minute", of="simulation"),
    _beside("pools", ("design",), "describes the whole cluster"),
    _beside("pools", ("prompt_machines", "token_machines", "mixed_machines"), "has the number of machines"),
    _beside("machines", ("instances",), "names the machine types, instances too"),
    _beside("backlog_requests", ("rate_rps", "trace", "cv"), "its requests are all there at the start"),
    _beside("deadline_s", ("e2e_p99",), "is a limit on E2E P99, and so is {other}", "give one of them"),
    _beside("chunked", ("fast",), "is simulated, {other} has formulas of mixed batching only", "leave one of them out"),
    Conflict("objective", ("rate_rps",), "is what {objective} throughput finds", "leave it out", value="throughput"),
    Conflict("sets", ("confidence",), "is of a bound over request sets; give more {sets} than one", value=1, of="plan"),
    *(
        Conflict(option, ("spread",), f"is of the tornado; give {{inputs}} beside {{{option}}}", unless="inputs")
        for option in ("switches", "rates_rps")
    ),
    *(
        Conflict(option, (other,), f"is of what {{{option}}} none leaves out", "leave out one of them", value=())
        for option, other in (("prompt_batches", "batched_prompt_tokens"), ("other_context_tokens", "context_batches"))
    ),
    Conflict("dask", ("threads",), "are of this machine", "leave them out with {dask}"),
    Conflict(
        "fast",
        ("policy", "batch_tokens", "sets", "duration_s", "confidence", "survive", "exhaustive", "cut_margin"),
        "is of the proof by simulation, which {fast} leaves out; leave out one of them",
    ),
    Conflict(
        "additions",
        ("to", "objective", "max_cost_usd_per_h", "max_power_w", "max_machines", "stock", "exhaustive", "solver"),
        "is of what is added for more load, and {additions} leaves that out; leave out one of them",
    ),
)

_MAP: Final = "{rates_rps} and {ratios}: make the map together; give both"
_CLOSED: Final = "{requests}: is the number in a closed loop; give {in_flight} too, or {rate_rps} and {duration_s}"
_WINDOW: Final = "{within_s}: is the time for a {backlog_requests}; give its number of requests, or {deadline_s}"

_EACH: Final = "{{{0}}}: is a limit on each request; give {{attainment}} too, such as 99%, or {{{0}_p99}} in its place"

NEEDS: Final = {
    **{(metric, "attainment"): _EACH.format(metric) for metric in MEASURED},
    ("requests", "in_flight"): _CLOSED,
    ("within_s", "backlog_requests"): _WINDOW,
    ("backlog_requests", "within_s"): "{backlog_requests}: in what time? give {within_s}, such as {within_s} 8h",
    ("rates_rps", "ratios"): _MAP,
    ("ratios", "rates_rps"): _MAP,
    **{(name, "switches"): f"{{{name}}}: is of {{switches}}; give both" for name in ("watch", "tolerance", "probes")},
}
"""Options that mean nothing without another, with the messages that refuse one alone."""


def conflicts_of(question: str, given: Mapping[str, Any]) -> list[tuple[Conflict, str]]:
    """The conflicts among the options that are given to a question, each with the other option."""
    holding = (each for each in CONFLICTS if each.holds(question, given))
    return [(conflict, other) for conflict in holding for other in conflict.others if other in given]


def check_conflicts(question: str, given: Mapping[str, Any], typed: Mapping[str, Any] | None = None) -> None:
    """Refuse options that exclude each other: of ``given``, with other values than their defaults, or of ``typed``."""
    also = [(conflict, other) for conflict, other in conflicts_of(question, typed or {}) if conflict.typed]
    for conflict, other in (*conflicts_of(question, given), *also):
        raise InputError(conflict.message(other))


def check_needs(given: Container[str], known: Container[str]) -> None:
    """Refuse an option that means nothing without another."""
    if "attainment" in given and not any(metric in given for metric in MEASURED):
        each = ", ".join(map(spelled, MEASURED))
        raise InputError(f"{spelled('attainment')}: of which limits? give some of {each}, such as {spelled('ttft')} 1s")
    for (option, other), message in NEEDS.items():
        if option in given and other in known and other not in given:
            raise InputError(_filled(message, other))
