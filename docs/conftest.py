"""Files of docs/ that pytest leaves out: the site's extension, if the ``docs`` extra is not installed."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("griffe") else ["doctest_fences.py"]
