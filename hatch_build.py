"""Build hook: the simulator's event loop as a library, in the wheel, or in the checkout that is installed editable."""

import sys
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class EventLoopHook(BuildHookInterface):
    """Add the library to a wheel, which then is for one kind of machine and every version of Python.

    A machine that cannot build it makes a wheel for any machine, which compiles the event loop at its first run.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the library, and name what the wheel is for."""
        sys.path.insert(0, self.root)
        from provisioner.simulation.build import BuildError, build
        from provisioner.simulation.entries import LIBRARY

        self.folder = TemporaryDirectory()
        library = LIBRARY if version == "editable" else Path(self.folder.name, LIBRARY.name)
        try:
            build(library)
        except BuildError as reason:
            self.app.display_warning(f"the event loop is not built, and compiled at its first run: {reason}")
            return
        if library != LIBRARY:
            build_data["force_include"][str(library)] = str(LIBRARY.relative_to(self.root))
        build_data["pure_python"] = False
        build_data["tag"] = "py3-none-" + sysconfig.get_platform().replace("-", "_").replace(".", "_")

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what the wheel has a copy of."""
        self.folder.cleanup()
