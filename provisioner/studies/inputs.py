"""The inputs that ``provision sweep --vary`` moves: numbers of a simulation as they are, all others by factors."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import Final

from provisioner.errors import InputError, UnknownNameError
from provisioner.loading.factors import load_factors
from provisioner.options import FACTORS, MACHINE_FACTORS, SimulateOptions, declared, spelled
from provisioner.options.conflicts import conflicts_of
from provisioner.options.kinds import Kind, positive
from provisioner.specs.catalog import with_own
from provisioner.specs.roles import ROLES
from provisioner.studies.ranges import number_range, whole_range

SCALE: Final = "scale"  # the field of every factor


@dataclass(frozen=True, slots=True)
class Input:
    """A number that can be varied.

    ``name`` is its flag without the dashes, or a name of ``--scale``; ``field`` that of ``SimulateOptions``.
    """

    name: str
    field: str
    kind: Kind

    @property
    def label(self) -> str:
        """The quantity with its unit, as an axis has it.

        >>> INPUTS["duration"].label, INPUTS["in-flight"].label, factor("decode-time").label
        ('duration (s)', 'requests in flight', 'decode-time (times what the data say)')
        """
        what, unit = self.kind.varies, self.kind.unit
        return what if not unit or f" {unit} " in f" {what} " else f"{what} ({unit})"

    @property
    def column(self) -> str:
        """The column of its values, with the unit.

        >>> INPUTS["rate"].column, INPUTS["batch-tokens"].column, factor("decode-time:dgx-a100").column
        ('rate_rps', 'batch_tokens', 'decode_time_dgx_a100_factor')
        """
        return f"{self.name.replace('-', '_').replace(':', '_')}_factor" if self.field == SCALE else self.field

    def values(self, given: str | float | Iterable[float]) -> tuple[float, ...]:
        """The values of a range as typed, or of numbers, in rising order; whole numbers as such.

        ``InputError`` in the words of the flag for a value that it does not take.
        """
        what = f"{spelled('name')} {self.name}"
        if self.kind.minimum is not None:
            return whole_range(given, what, self.kind.unit, self.kind.minimum)
        return number_range(given, what, self.kind.parse)

    def at(self, options: SimulateOptions, value: float) -> SimulateOptions:
        """The options with the input at a value."""
        if self.field == SCALE:
            return replace(options, scale={**options.scale, self.name: value})
        return replace(options, **{self.field: value})  # type: ignore[arg-type]


INPUTS: Final[Mapping[str, Input]] = {
    each.flag.removeprefix("--"): Input(each.flag.removeprefix("--"), field, each.kind)
    for field, each in declared(SimulateOptions).items()
    if each.kind.varies
}
"""The numbers of ``SimulateOptions`` that are varied as they are, by name."""

# Another name that each is known by: its field's, so that Python finds it under the name that it has there.
_ALSO: Final = {each.field.replace("_", "-"): name for name, each in INPUTS.items()}


def factor(name: str) -> Input:
    """An input of ``--scale``, varied by factors on what the data say."""
    what, unit = ("scale of the limits", "") if name == "slo" else (name, "times what the data say")
    return Input(name, SCALE, positive(unit).varied_as(what))


def input_of(name: str, specs: str | None = None) -> Input:
    """The input of a name: of ``INPUTS``, or a factor, also of a machine type, as in ``decode-time:dgx-a100``.

    ``specs`` is a folder of own specs, whose machine types count too. ``UnknownNameError`` lists the known names, the
    nearest first.

    >>> input_of("tensor_parallel").name, input_of("price").column
    ('tp', 'price_factor')
    """
    plain = name.replace("_", "-")
    known = INPUTS.get(plain) or INPUTS.get(_ALSO.get(plain, ""))
    if known is not None:
        return known
    first, _, machine = name.partition(":")
    if first in ROLES:
        vary = spelled("name")
        raise InputError(f"{vary} {name}: pool sizes are swept without {vary}: give {spelled(first)} a range")
    if machine and first not in MACHINE_FACTORS and first in (*INPUTS, *FACTORS):
        raise InputError(f"{spelled('name')} {name}: {first} is not an input of a machine type; leave out :{machine}")
    if first not in (*FACTORS, *MACHINE_FACTORS):
        names = dict.fromkeys((*INPUTS, *FACTORS, *MACHINE_FACTORS))
        likeness = {each: SequenceMatcher(None, name.lower(), each).ratio() for each in names}
        raise UnknownNameError("input to vary", name, sorted(names, key=lambda each: -likeness[each]))
    load_factors({name: 1.0}, with_own(specs))
    return factor(name)


def check_varied(varied: Input, options: SimulateOptions) -> None:
    """Refuse an input that the options give too, or with which one of them means nothing."""
    vary = f"{spelled('name')} {varied.name}"
    if varied.name in options.scale:
        raise InputError(f"{vary}: is scaled with {spelled('scale')} too; leave out one")
    if varied.field == SCALE:
        return
    given = options.given()
    if varied.field in given:
        raise InputError(f"{vary}: takes its values from the range; leave out {spelled(varied.field)}")
    for conflict, other in conflicts_of(options.QUESTION, {**given, varied.field: True}):
        both = (conflict.option, other)
        if varied.field in both and both != ("trace", "rate_rps"):  # a trace is varied by its rate
            leave_out = other if varied.field == conflict.option else conflict.option
            raise InputError(f"{vary}: {conflict.reason(other)}; leave out {spelled(leave_out)}")
    if varied.field == "requests" and options.in_flight is None:
        raise InputError(f"{vary}: is the number in a closed loop; give {spelled('in_flight')} too")
