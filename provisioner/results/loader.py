"""The function that loads the reports of results: apart, since importing the package imports nothing else of it."""

from collections.abc import Callable


class Loader:
    """The function, which ``provisioner/__init__.py`` fills in."""

    load: Callable[[], object]


reports = Loader()
