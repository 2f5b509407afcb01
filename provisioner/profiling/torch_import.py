"""Import of PyTorch on first use."""

from importlib import import_module
from typing import Any

from provisioner.errors import InputError

Tensor = Any  # a ``torch.Tensor``; PyTorch is no requirement of this package, so its types are not named


def import_torch() -> Any:
    """Return the module ``torch``; ``InputError`` says how to install it, or why it does not load."""
    try:
        return import_module("torch")
    except (ImportError, OSError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "torch":
            raise InputError("provision profile: needs PyTorch: pip install 'provisioner[profile]'") from None
        raise InputError(f"provision profile: PyTorch cannot be loaded: {error}") from error


def is_out_of_memory(error: Exception) -> bool:
    """Whether PyTorch says that memory ran out: on a GPU in an error of its own, on a CPU in a RuntimeError's text."""
    known = (import_torch().cuda.OutOfMemoryError, MemoryError)
    return isinstance(error, known) or (isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error))
