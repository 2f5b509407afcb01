"""Build of the event loop as a library: ``python -m provisioner.simulation.build FILE``, with numba and a C linker.

It is built for the first processors of a kind, so that it runs on all, and needs no symbol of another library.
"""

import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from provisioner.simulation.entries import DIGEST, ENTRIES, FAILED, sources

PROCESSORS: Final = {"x86_64": "x86-64", "aarch64": "generic"}
"""Names of the first processors in LLVM, by kind of machine. Results are those of any other: no operation is fused."""
_LINK: Final = "-shared -nostdlib -Wl,--no-undefined -Wl,--as-needed -Wl,--strip-all -o {library} {object} -lc -lm"


class BuildError(Exception):
    """Reason for which no library can be built here."""


def linker() -> list[str]:
    """The command of a C compiler that links; ``BuildError`` if this machine has none."""
    named = (os.environ.get("CC"), sysconfig.get_config_var("CC"), "cc", "gcc", "clang")
    commands = [shlex.split(str(command)) for command in dict.fromkeys(named) if command]
    for command in commands:
        if shutil.which(command[0]):
            return command
    raise BuildError(f"no C compiler to link with: none of {', '.join(command[0] for command in commands)} was found")


def build(library: Path) -> None:
    """Compile the event loop and write it as a library; ``BuildError`` if this machine cannot.

    Run it in a process of its own: numba takes the processor from the environment as it is imported.
    """
    if sys.platform != "linux" or platform.machine() not in PROCESSORS or sys.maxsize < 1 << 32:
        raise BuildError(f"it is built on Linux alone, for {' and '.join(PROCESSORS)}")
    link = linker()
    os.environ.update(NUMBA_CPU_NAME=PROCESSORS[platform.machine()], NUMBA_CPU_FEATURES="")
    with TemporaryDirectory(dir=library.parent) as folder:
        code, linked = Path(folder, "event_loop.o"), Path(folder, library.name)
        code.write_bytes(_object())
        options = shlex.split(_LINK.format(library=shlex.quote(str(linked)), object=shlex.quote(str(code))))
        try:
            subprocess.run([*link, *options], check=True, capture_output=True, text=True)
        except subprocess.CalledProcessError as error:
            raise BuildError(f"{link[0]} could not link it: {error.stderr.strip()}") from error
        linked.replace(library)  # whole, since another process may have loaded the one before


def _object() -> bytes:
    """Object file of all entries and of the digest of their sources."""
    from llvmlite import binding, ir

    from provisioner.simulation import engine

    text = bytearray(sources(), "ascii")
    head = ir.Module()
    head.triple = binding.get_process_triple()
    digest = ir.GlobalVariable(head, ir.ArrayType(ir.IntType(8), len(text)), DIGEST)
    digest.initializer, digest.global_constant = ir.Constant(digest.value_type, text), True
    module = binding.parse_assembly(str(head))
    for name, function in engine.functions(sources()).items():
        for part in _entry(name, function):
            module.link_in(binding.parse_assembly(part))
    for symbol in (*module.functions, *module.global_variables):
        if not symbol.is_declaration and symbol.name not in (*ENTRIES, DIGEST):
            symbol.linkage = "internal"
    machine = binding.Target.from_triple(head.triple).create_target_machine(
        cpu=os.environ["NUMBA_CPU_NAME"], opt=3, reloc="pic", codemodel="default"
    )
    return bytes(machine.emit_object(module))


def _entry(name: str, function: Any) -> tuple[str, str]:
    """LLVM code of a function as numba compiles it, and of an entry in C that calls it."""
    from llvmlite import ir
    from numba import int64

    from provisioner.simulation.pointers import compiled

    signature = (int64,) * len(ENTRIES[name])
    dispatcher: Any = compiled(function)
    dispatcher.compile(signature)
    result = dispatcher.overloads[signature]
    context, described, word = result.target_context, result.fndesc, ir.IntType(64)
    module = context.create_module(name)
    callee = ir.Function(
        module,
        context.call_conv.get_function_type(described.restype, described.argtypes),
        described.llvm_func_name,
    )
    entry = ir.Function(module, ir.FunctionType(word, [word] * len(signature)), name)
    builder = ir.IRBuilder(entry.append_basic_block())
    status, value = context.call_conv.call_function(builder, callee, described.restype, described.argtypes, entry.args)
    builder.ret(builder.select(status.is_error, ir.Constant(word, FAILED), value))
    return result.library.get_llvm_str(), str(module)


if __name__ == "__main__":
    try:
        build(Path(sys.argv[1]))
    except BuildError as reason:
        sys.exit(f"the event loop is not built: {reason}")
