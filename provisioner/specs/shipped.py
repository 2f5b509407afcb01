"""Folders of the shipped data: in an installed wheel inside the package, in a checkout at its top."""

from pathlib import Path
from typing import Literal

_PACKAGE = Path(__file__).resolve().parent.parent


def data_folder(kind: Literal["hardware_specs", "workloads"]) -> Path:
    """Folder of the shipped data: inside an installed package, else at the top of the checkout."""
    inside = _PACKAGE / "_data" / kind
    return inside if inside.is_dir() else _PACKAGE.parent / kind
