"""Writing of files: checked before the work starts, and each file whole or not at all."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from provisioner.errors import InputError

Content = str | Callable[[str], None]
"""The content of a file: a text, or a function that writes it to a file of a name."""


def check_writable(name: str, what: str = "") -> None:
    """Refuse a file that cannot be written: no folder, a folder in its place, or no permission.

    A message begins with ``what``, the option that names the file.
    """
    named = f"{what} {name}".lstrip()
    path = Path(os.path.realpath(name))
    if not path.parent.is_dir():
        raise InputError(f"{named}: the folder {Path(name).parent} does not exist")
    if path.exists() and not path.is_file():
        raise InputError(f"{named}: is not a file that can be written")
    if path.exists() and not os.access(path, os.W_OK):
        raise InputError(f"{named}: is write-protected")
    try:
        # a name as long as the one that will be written beside it, so that a name too long shows now
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}."):
            pass
    except OSError as error:
        raise InputError(f"{named}: cannot be written: {error.strerror or error}") from None


def write_files(contents: Mapping[str, Content], what: str = "") -> None:
    """Write files by name: first all beside their places, then each moved there with the permissions of the place.

    A file that cannot be written leaves every file as it was.
    """
    written: dict[str, str] = {}
    name = ""
    try:
        for name, content in contents.items():
            path = os.path.realpath(name)
            handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=f".{os.path.basename(path)}.")
            written[temporary] = path
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
                if isinstance(content, str):
                    file.write(content)
                else:
                    content(temporary)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, _mode(path))
        for temporary in tuple(written):
            os.replace(temporary, written[temporary])
            del written[temporary]
    except OSError as error:
        raise InputError(f"{f'{what} {name}'.lstrip()}: cannot be written: {error.strerror or error}") from None
    finally:
        for temporary in written:
            Path(temporary).unlink(missing_ok=True)


def _mode(path: str) -> int:
    """The permissions that a file has, or would get if it were made."""
    if os.path.exists(path):
        return stat.S_IMODE(os.stat(path).st_mode)
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
