"""From arguments to an exit code: every way in which a command can end, each with one line."""

import contextlib
import gc
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, cast

import typer

from provisioner.cli.output import PROGRAM, abandon_stdout, writing_stdout
from provisioner.deadline import LOADED_S, began_s
from provisioner.errors import InfeasibleError, ProvisionerError, UnknownNameError
from provisioner.specs.units import printable

if TYPE_CHECKING:
    from provisioner.cli.help import TyperObject

EXIT_DEFECT: Final = 1
EXIT_BAD_INPUT: Final = 2
EXIT_INTERRUPTED: Final = 130  # 128 + SIGINT, as shells report it
EXIT_CLOSED_PIPE: Final = 141  # 128 + SIGPIPE

# typer's errors of usage have no public name of their own; every typer has this public subclass of them.
_UsageError = cast("type[Exception]", typer.BadParameter.__bases__[0])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line on these arguments (the process' own if None), and return its exit code.

    0 done; 1 a defect of this program; 2 bad input; 3 no plan is feasible; 130 interrupted; 141 the reader of
    the output went away. An error is one line on stderr that begins with ``error: ``, after a traceback with
    ``--debug``. A result is written whole or not at all.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    before = began_s.set(LOADED_S if arguments is None else None)
    debug = "--debug" in given
    try:
        return _run(given)
    except BrokenPipeError:
        abandon_stdout()
        return EXIT_CLOSED_PIPE
    except KeyboardInterrupt as interrupt:
        done = f": {interrupt}" if str(interrupt) else ""
        return _fail(debug, f"interrupted{done}", code=EXIT_INTERRUPTED)
    except InfeasibleError as error:
        message = str(error)
        if error.binding and error.binding not in message:
            message = f"{error.binding}: {message}"
        return _fail(debug, message, *(f"nearest: {text}" for text in error.relaxations), code=error.exit_code)
    except ProvisionerError as error:
        return _fail(debug, str(error), code=error.exit_code)
    except _UsageError as error:
        return _fail(debug, _usage(error, given), code=EXIT_BAD_INPUT)
    except (OSError, MemoryError) as error:  # a full disk or memory, a folder that went away
        what = getattr(error, "strerror", None) or "has not enough memory"
        return _fail(debug, f"{getattr(error, 'filename', None) or 'this machine'}: {what}", code=EXIT_BAD_INPUT)
    except Exception as error:
        if _of_interrupt(error):
            return _fail(debug, "interrupted", code=EXIT_INTERRUPTED)
        what = f"{type(error).__name__}: {error}".strip(": ")
        hint = "" if debug else "; rerun with --debug for the traceback"
        return _fail(debug, f"this program failed ({what}){hint}", code=EXIT_DEFECT)
    finally:
        began_s.reset(before)
        if arguments is None:  # the process ends: looking for garbage once more would take a quarter of a second
            gc.freeze()


def _of_interrupt(error: BaseException | None) -> bool:
    """Whether an interrupt caused an error: libraries whose import it stops say that they cannot be initialized."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _run(given: list[str]) -> int:
    from provisioner.cli.commands import command
    from provisioner.options import flag_also_called, spelled_as_flags

    code = 0
    try:
        arguments = [flag_also_called(argument) for argument in given]
        with spelled_as_flags(), command().make_context(PROGRAM, arguments) as context:
            context.command.invoke(context)
    except typer.Exit as done:
        code = done.exit_code
    except typer.Abort:
        raise KeyboardInterrupt from None
    if sys.stdout is not None:
        with writing_stdout():
            sys.stdout.flush()
    return code


def _fail(debug: bool, *lines: str, code: int) -> int:
    if sys.stderr is None:
        return code
    with contextlib.suppress(OSError):  # nobody reads stderr: the exit code has to do
        if debug:
            import traceback

            traceback.print_exc()
        first, *rest = (_one_line(line) for line in lines)
        print("\n".join([f"error: {first}", *rest]), file=sys.stderr, flush=True)
    return code


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))


def _usage(error: "TyperObject", given: Sequence[str]) -> str:
    """A usage error of typer in one line, with the nearest name where one is unknown."""
    context = error.ctx
    named = [PROGRAM, *given[:1]] if given and given[0].isalpha() else [PROGRAM]
    path = context.command_path if context is not None else " ".join(named)
    message = _one_line(error.format_message()).rstrip(".")
    if type(error).__name__ == "NoSuchOption" and context is not None:
        options = [name for each in context.command.get_params(context) for name in each.opts]
        near = str(UnknownNameError("option", error.option_name, options)).split(" (known:")[0]
        return f"{near} (see {path} --help)" if near.endswith("?") else f"{near}; see {path} --help"
    return f"{message[:1].lower()}{message[1:]}; see {path} --help"
