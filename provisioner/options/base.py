"""Classes of options: frozen dataclasses whose fields are declared by ``option``.

Every field is parsed and checked when the object is made, from a text or a typed value alike; behind it there are only
typed values.
"""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self, TypeVar

from provisioner.errors import InputError, UnknownNameError
from provisioner.options.conflicts import check_conflicts, check_needs
from provisioner.options.declaration import Option, also_called, declarations_of, register
from provisioner.spelling import FLAGS, spelled

AnyOptions = TypeVar("AnyOptions", bound="Options")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """A question: options with their values, parsed and checked when it is made.

    ``GROUPS`` are the headings of help in order. ``LEFT_OUT`` are inherited fields that the question has no use for:
    neither the command line nor the documentation has them. ``QUESTION`` is the kind of question: plan or simulation.
    """

    QUESTION: ClassVar[str] = ""
    GROUPS: ClassVar[tuple[str, ...]] = ()
    LEFT_OUT: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        """Register the flags of the fields."""
        for name, value in vars(cls).items():
            if isinstance(value, dataclasses.Field):
                register(name, value)

    def __post_init__(self) -> None:
        """Parse every value, and refuse options that exclude each other."""
        for name, declaration in declarations_of(type(self)).items():
            value = getattr(self, name)
            for each in value if isinstance(value, list | tuple) else [value]:
                if isinstance(each, str) and not each.strip():
                    raise InputError(f"{spelled(name)}: is empty; give a value, or leave it out")
            if value is not None or declaration.default is not None:
                object.__setattr__(self, name, declaration.kind.parse(value, spelled(name)))
        for name in self.LEFT_OUT:
            if getattr(self, name) != declarations_of(type(self))[name].default:
                raise InputError(f"{spelled(name)}: is no option of this question; leave it out")
        check_conflicts(self.QUESTION, self.given())

    def given(self) -> dict[str, Any]:
        """The values that differ from the defaults, those of members under their own names."""
        given: dict[str, Any] = {}
        for name, declaration in declarations_of(type(self)).items():
            value = getattr(self, name)
            given |= value if declaration.members else {name: value} if value != declaration.default else {}
        return given

    @classmethod
    def of(cls, **keywords: Any) -> Self:
        """The options given by keywords; None stands for the default."""
        options = declarations_of(cls)
        names = dict.fromkeys((*declared(cls), *options))
        given = {}
        for name, value in keywords.items():
            name = also_called(name, names, "_")
            if name not in names:
                raise UnknownNameError("option", name, names)
            if value is not None:
                if name in given:
                    raise InputError(f"{spelled(name)}: is given twice")
                given[name] = value
        given = cls.completed(given)
        check_conflicts(cls.QUESTION, {}, typed=given)
        for field, declaration in options.items():
            entries = {name: given.pop(name) for name in declaration.members if name in given}
            if entries:
                given[field] = (given.get(field, {}), entries)
        return cls(**given)

    def check_needs(self) -> None:
        """Refuse an option that means nothing without another."""
        check_needs(self.given(), declarations_of(type(self)))

    @classmethod
    def completed(cls, given: dict[str, Any]) -> dict[str, Any]:
        """The given values, with the defaults that depend on them."""
        return given

    @classmethod
    def made(cls, options: "Options | None", keywords: Mapping[str, Any]) -> Self:
        """The options that a function was called with: options, keywords, or the options of a plan with more keywords.

        Options of a class from which this one inherits may have the keywords that only this one has beside them.
        """
        if options is None:
            made = cls.of(**keywords)
        elif isinstance(options, cls) and not keywords:
            made = options
        elif not isinstance(options, cls) and not issubclass(cls, type(options)):
            raise InputError(f"options: must be {cls.__name__}, got {type(options).__name__}")
        else:
            base = {each.name: getattr(options, each.name) for each in fields(options)}
            for name in keywords:
                if isinstance(options, cls) or name in base or name in declared(type(options)):
                    raise InputError("give options or keywords, not both")
                if name not in declared(cls):
                    raise UnknownNameError("option", name, [known for known in declared(cls) if known not in base])
            made = cls(**base, **keywords)
        made.check_needs()
        return made

    def part(self, kind: type[AnyOptions]) -> AnyOptions:
        """The options of a class from which this one inherits."""
        return kind(**{each.name: getattr(self, each.name) for each in fields(kind)})


def declared(*kinds: type[Options]) -> dict[str, Option]:
    """The options of classes in the order of help, by keyword; members stand after the option whose entries they are.

    If several classes have a flag, the first counts. A group that no ``GROUPS`` names stands first.
    """
    listed: dict[str, Option] = {}
    for kind in kinds:
        flags = {option.flag for option in listed.values() if option.flag}
        for field, declaration in declarations_of(kind).items():
            if field not in kind.LEFT_OUT:
                known = {field: declaration, **declaration.members}
                listed |= {name: option for name, option in known.items() if option.flag not in flags}
    groups = dict.fromkeys(group for kind in kinds for group in kind.GROUPS)
    order = {group: position for position, group in enumerate(groups)}
    return dict(sorted(listed.items(), key=lambda pair: order.get(pair[1].group, -1)))


def documentation(kind: type[Options]) -> str:
    """The keywords of a class as text: name, meaning and default of each."""
    known = declared(kind)
    keyword = {flag: name for name, flag in FLAGS.items()} | {part.flag: name for name, part in known.items()}
    shown = {name: f" [default: {part.shown_default}]" if part.shown_default else "" for name, part in known.items()}
    text = "\n".join(f"{name}: {part.help}{shown[name]}" for name, part in known.items())
    return re.sub(r"--([a-z0-9-]*[a-z0-9])", lambda match: keyword.get(match[0], match[1]), text)
