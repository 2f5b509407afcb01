"""Warnings of several plans as those of one study."""

from collections.abc import Container, Iterable


def attributed(warnings: Iterable[tuple[str, str]], known: Container[str]) -> tuple[str, ...]:
    """Return each warning once, after the names of what it is about, without those that are known of all.

    >>> attributed([("A", "hot"), ("B", "hot"), ("B", "late")], known=["late"])
    ('A; B: hot',)
    """
    about: dict[str, list[str]] = {}
    for name, text in warnings:
        if text not in known:
            about.setdefault(text, []).append(name)
    return tuple(f"{'; '.join(names)}: {text}" for text, names in about.items())
