"""Errors as the user sees them: one line, a hint, and an exit status that tells refused from failed."""

from __future__ import annotations

import io
import os
import sys
from types import TracebackType
from typing import TYPE_CHECKING

from assistant import errors
from assistant.errors import AssistantError

if TYPE_CHECKING:
    import click

    from assistant.events import ErrorInfo

FAILED = 1
"""Something broke; the same request may work later."""
REFUSED = 2
"""The request cannot be carried out as it was given."""
INTERRUPTED = 130
"""Ended by Ctrl-C: 128 + SIGINT, as a shell counts."""

REFUSALS = frozenset(
    kind.code
    for kind in (
        errors.ConfigError, errors.EngineNotFound, errors.ModelNotFound, errors.ModelTooLarge,
        errors.ContextOverflow, errors.SessionNotFound, errors.AudioError, errors.PromptError, errors.ToolError,
        errors.DaemonAlreadyRunning, errors.DatasetError,
    )
)  # fmt: skip
"""Codes of errors that are the request's own; every other one means that something broke."""


def status_of(code: str, *, permanent: bool) -> int:
    """The exit status for an error with this wire code."""
    return REFUSED if permanent and code in REFUSALS else FAILED


def from_info(info: ErrorInfo) -> AssistantError:
    """The error that the daemon reported."""
    return errors.from_code(info.code, info.message, info.hint)


def debugging() -> bool:
    """Whether the user asked for tracebacks."""
    return os.environ.get("ASSISTANT_DEBUG", "") not in ("", "0")


def say(message: str, hint: str = "") -> None:
    """Write ``error: …`` and the hint to standard error."""
    from .render import paint, plain_text

    if sys.stderr is None:
        return
    lines = [f"{paint('error:', 'red', sys.stderr)} {plain_text(message)}"]
    lines += [f"  hint: {plain_text(hint)}"] if hint else []
    try:
        print(*lines, sep="\n", file=sys.stderr, flush=True)  # noqa: T201
    except OSError:
        return


def report(error: AssistantError) -> int:
    """Tell the user of an error and return the exit status that it means."""
    say(error.message, error.hint)
    if debugging():
        import traceback

        traceback.print_exception(error)
    return status_of(error.code, permanent=error.permanent)


def report_usage(error: click.ClickException) -> int:
    """Tell the user how the command line is wrong."""
    context = getattr(error, "ctx", None)
    hint = f"{context.command_path} --help" if context is not None else ""
    say(error.format_message().rstrip("."), hint)
    return REFUSED


def report_system(error: OSError) -> int:
    """Tell the user of a file or folder that the system would not give."""
    where = f"{error.filename}: " if error.filename else ""
    say(f"{where}{error.strerror or error}")
    if debugging():
        import traceback

        traceback.print_exception(error)
    return FAILED


def report_group(group: BaseExceptionGroup[BaseException]) -> int:
    """Report the first error of a task group that a user can act on; raise the group if there is none."""
    leaves = list(_leaves(group))
    for leaf in leaves:
        if isinstance(leaf, AssistantError):
            return report(leaf)
    for leaf in leaves:
        if isinstance(leaf, BrokenPipeError):
            return output_closed()
        if isinstance(leaf, KeyboardInterrupt):
            return INTERRUPTED
        if isinstance(leaf, OSError):
            return report_system(leaf)
    raise group


def output_closed() -> int:
    """The reader of our output is gone: say nothing more, not even at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            os.dup2(null, stream.fileno())
        except (AttributeError, OSError, ValueError):
            continue
    return FAILED


def tolerant_streams() -> None:
    """Characters that the terminal's encoding lacks are replaced rather than raised over."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def install_hook() -> None:
    """Show what nobody expected as one line, with the traceback only for those who ask for it."""
    if not debugging():
        sys.excepthook = _one_line


def _one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if isinstance(error, KeyboardInterrupt):
        return
    say(f"internal error: {kind.__name__}: {error}", "run it again with ASSISTANT_DEBUG=1 to see where, and report it")


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
