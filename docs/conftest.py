"""What pytest leaves out of docs/: the site's extension, where the ``docs`` extra is not installed."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("griffe") else ["doctest_fences.py"]
