"""Print the floors of the dependencies as constraints for pip: ``python .ci/floors.py pyproject.toml``."""

import re
import sys
import tomllib
from pathlib import Path

for dependency in tomllib.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["project"]["dependencies"]:
    if not re.fullmatch(r"[a-z0-9-]+>=[0-9.]+", dependency):
        sys.exit(f"pyproject.toml: the dependency {dependency!r} has to be NAME>=FLOOR")
    print(dependency.replace(">=", "=="))
