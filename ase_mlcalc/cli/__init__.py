"""The command line: `main` runs a verb of `ase_mlcalc.cli.app` and turns whatever goes wrong into one line.

Nothing here imports torch before a verb needs it, so that ``--help`` and ``--version`` are quick.
"""

import os
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any, cast

import typer

from ase_mlcalc.errors import MLCalcError
from ase_mlcalc.files import NO_SPACE
from ase_mlcalc.memory import keep_memory, use_large_pages

__all__ = ["main"]

PROGRAM = "ase-mlcalc"
FAILED, MISUSED, INTERRUPTED = 1, 2, 128 + signal.SIGINT

# typer brings its own click in new versions and takes the installed one in old ones; either way this is its base
_UsageError: type[Exception] = typer.BadParameter.__bases__[0]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, by default that of this process.

    Returns
    -------
    int
        Exit status: 0 if it worked; 1 if it failed, 2 if the command line is wrong, 130 if it was interrupted, each
        with one line on stderr that says why (and the traceback after ``--debug``).
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None:  # the process is ours
        use_large_pages()
        keep_memory()
        warnings.showwarning = _show_warning
    words = [word for word in given if word != "--debug"]  # allowed anywhere, also behind a verb
    try:
        status = _run(words)
        sys.stdout.flush()  # so that a full disk or a closed pipe is noticed here
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  (this is where every error ends)
        if "--debug" in given:
            traceback.print_exc()
        status, line = _explain(error)
        _say(f"{PROGRAM}: {line}")
        _abandon_output(error)
    return status


def _run(words: list[str]) -> int:
    from ase_mlcalc.cli.app import app

    command = typer.main.get_command(app)
    try:
        with command.make_context(PROGRAM, words) as context:
            command.invoke(context)
    except typer.Exit as finished:
        return int(finished.exit_code)
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):  # rich turns this into a silent end
            raise ended.__context__ from None
        raise
    return 0


def _explain(error: BaseException) -> tuple[int, str]:
    """Exit status and what to tell the user."""
    match error:
        case _UsageError():
            return MISUSED, _usage(error)
        case KeyboardInterrupt() | typer.Abort():
            return INTERRUPTED, "interrupted; what was written so far is kept"
        case MLCalcError():
            line = _one_line(error)
        case BrokenPipeError():
            line = "the program that read the output closed it early"
        case OSError(errno=number, filename=None, strerror=reason) if number in NO_SPACE:
            line = f"{reason}: free some; what was written so far is kept"
        case OSError(filename=filename, strerror=reason):
            line = (f"{filename}: " if filename is not None else "") + (reason or _one_line(error))
        case MemoryError():
            line = "out of memory; take smaller batches or a smaller structure"
        case _:
            line = f"unexpected {type(error).__name__}: {_one_line(error)} (run again with --debug for the traceback)"
    return FAILED, line


def _usage(error: Exception) -> str:
    context = cast("Any", error).ctx
    path = PROGRAM if context is None else context.command_path
    message = " ".join(cast("Any", error).format_message().split()).rstrip(".")
    return f"{message}; see `{path} --help`"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """In one line, without the place in the code."""
    _say(f"{PROGRAM}: warning: {' '.join(str(message).split())}")


def _say(line: str) -> None:
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:  # nobody listens there either
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _abandon_output(error: BaseException) -> None:
    """Forget what could not be written, or the interpreter would complain about it once more at its end."""
    if isinstance(error, OSError):
        try:
            sys.stdout.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
