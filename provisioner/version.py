"""Versions of the program, of the packages that it uses, and of Python."""

from collections.abc import Iterable


def version_of(package: str = "provisioner") -> str:
    """The version of an installed package; ``0+unknown`` for the program in a checkout that is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "0+unknown" if package == "provisioner" else "not installed"


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of packages and of Python, by name."""
    import platform

    return {**{name: version_of(name) for name in packages}, "python": platform.python_version()}
