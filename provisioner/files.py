"""Files: read up to a size, checked before the work starts, and each written whole or not at all."""

import errno
import io
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final

from provisioner.errors import InputError

MOST_BYTES: Final = 1 << 28
"""Size of the largest file that is read whole; results of benchmarks with a record per request take some 100 MB."""

Content = str | Callable[[str], None]
"""The content of a file: a text, or a function that writes it to a file of a name."""

_streams: ContextVar[dict[tuple[int, int], bytes] | None] = ContextVar("_streams", default=None)


@contextmanager
def keeping_streams() -> Iterator[None]:
    """Keep what is read of pipes and devices, which can be read once, for the files of one question."""
    before = _streams.set({} if _streams.get() is None else _streams.get())
    try:
        yield
    finally:
        _streams.reset(before)


@contextmanager
def opened(path: str | Path, most_bytes: int, buffer_bytes: int = 1 << 16) -> Iterator["io.BufferedReader[Any]"]:
    """A file to read; ``OSError`` for one of more bytes.

    A device or a pipe has no size: its content is read before, up to ``MOST_BYTES``, as it may have no end.
    """
    about = os.stat(path)
    is_stream, known = not stat.S_ISREG(about.st_mode), (about.st_dev, about.st_ino)
    most_bytes = min(most_bytes, MOST_BYTES) if is_stream else most_bytes
    kept = {} if (streams := _streams.get()) is None else streams
    if is_stream and known not in kept:
        with io.FileIO(path) as file:
            kept[known] = io.BufferedReader(file, buffer_bytes).read(most_bytes + 1)
    if max(about.st_size, len(kept.get(known, b""))) > most_bytes:
        given = "without end, or longer" if is_stream else f"{about.st_size:,} bytes"
        raise OSError(errno.EFBIG, f"too large: {given}; at most {most_bytes:,} bytes are read")
    with io.BufferedReader(io.BytesIO(kept[known]) if is_stream else io.FileIO(path), buffer_bytes) as file:
        yield file


@contextmanager
def refusing(shown: str, kind: str = "text file", done: str = "read") -> Iterator[None]:
    """Refuse a file that cannot be read, or is not text, in one line that names it, if a name is given."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{shown}: cannot be {done}: {error.strerror or error}".removeprefix(": ")) from None
    except UnicodeDecodeError:
        raise InputError(f"{shown}: is not a {kind} in UTF-8".removeprefix(": ")) from None


def read_text(path: str | Path, most_bytes: int = MOST_BYTES, shown: str | None = None, kind: str = "text file") -> str:
    """The text of a file in UTF-8; ``InputError``, which names the file as ``shown``, for one that cannot be read."""
    with refusing(str(path) if shown is None else shown, kind), opened(path, most_bytes) as file:
        return file.read().decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")


def check_name(name: str, what: str) -> None:
    """Refuse a text that no file can have as its name, and no report can show: not in UTF-8, with NUL, or too long."""
    encoded = name.encode(errors="surrogatepass")
    longest = max(map(len, encoded.split(b"/")))
    is_text = name == encoded.decode(errors="ignore")
    if not is_text or "\0" in name or longest > 255:
        long = f"has {longest:,} bytes; a file's may have 255"
        problem = "is not UTF-8" if not is_text else "has a NUL" if "\0" in name else long
        raise InputError(f"{what}: the name {name[:40]!a}{'...' * (len(name) > 40)} {problem}")


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
    # a name as long as the one that will be written beside it, so that a name too long shows now
    with refusing(named, done="written"), tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}."):
        pass


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
