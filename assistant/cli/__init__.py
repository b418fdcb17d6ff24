"""The command line: ``main`` parses it, runs one command and turns errors into an exit status.

A command's module is imported when the command is invoked, so ``--help`` and ``status`` start at once.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main", "run"]


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave with its exit status: 0 done, 1 failed, 2 refused, 130 interrupted."""
    from .failures import install_hook

    install_hook()
    sys.exit(run(argv))


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; only what nobody expected is raised."""
    import click

    from assistant.errors import AssistantError

    from . import failures
    from .app import cli

    failures.tolerant_streams()
    try:
        status = cli.main(args=argv, prog_name="assistant", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except (click.Abort, KeyboardInterrupt):
        return failures.INTERRUPTED
    except click.ClickException as error:
        return failures.report_usage(error)
    except AssistantError as error:
        return failures.report(error)
    except BrokenPipeError:
        return failures.output_closed()
    except OSError as error:
        return failures.report_system(error)
    except BaseExceptionGroup as group:
        return failures.report_group(group)
    return status if isinstance(status, int) else 0
