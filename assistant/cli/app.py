"""The root command and the table from which ``--help`` is made without importing any command."""

from __future__ import annotations

import sys
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click

COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "Talk": {
        "ask": ("ask:ask", "Ask something and stream the answer."),
        "listen": ("listen:listen", "Listen for the wake word and answer aloud."),
        "mute": ("listen:mute", "Close the microphone."),
        "unmute": ("listen:unmute", "Open the microphone again."),
        "hush": ("listen:hush", "Stop what is being said, and timers that ring."),
        "transcribe": ("speech:transcribe", "Write down what is said in audio files."),
        "say": ("speech:say", "Speak a text, or write it as a WAV file."),
    },
    "Daemon": {
        "up": ("daemon:up", "Start the daemon."),
        "down": ("daemon:down", "Stop the daemon."),
        "status": ("daemon:status", "Show what the daemon is doing and what it costs."),
        "logs": ("logs:logs", "Show the daemon's log."),
    },
    "Manage": {
        "sessions": ("sessions:sessions", "List, show, search, export and remove conversations."),
        "models": ("models:models", "List, fetch, describe and remove models."),
        "finetune": ("finetune:finetune", "Teach a model from conversations; manage what it learnt."),
        "plugins": ("plugins:plugins", "Show the plugins and what they provide."),
        "wake": ("wake:wake", "List the wake words, and show how well they do."),
        "config": ("config:config", "Show and check the configuration."),
        "bench": ("bench:bench", "Measure how fast models run on this machine."),
        "doctor": ("doctor:doctor", "Check this machine and name what to install."),
    },
}
"""Section → command → (module:attribute, short help)."""

EPILOG = """\b
Plugins may add commands of their own: assistant plugins list
Exit status: 0 done, 1 failed, 2 refused, 130 interrupted.
Shell completion: eval "$(_ASSISTANT_COMPLETE=bash_source assistant)"  (or zsh_source, fish_source)"""

SETTINGS = {"help_option_names": ["-h", "--help"]}
"""For every command: how click reads it."""


class NearestGroup(click.Group):
    """A group that answers a command it does not know with the nearest one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Look the command up, or say which name was probably meant."""
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            near = get_close_matches(name, self.list_commands(ctx), n=1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"no such command: {name!r}{meant}")
        return super().resolve_command(ctx, args)


class LazyGroup(NearestGroup):
    """The root group: imports a command's module when it is asked for, and plugins when nothing else fits."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The built-in commands in the order of the help page."""
        return [name for section in COMMANDS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command, or look among those of the plugins."""
        for section in COMMANDS.values():
            if cmd_name in section:
                module, attribute = section[cmd_name][0].split(":")
                command = getattr(import_module(f"assistant.cli.{module}"), attribute)
                assert isinstance(command, click.Command)
                return command
        return None if cmd_name.startswith("-") else _plugin_command(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table."""
        for title, section in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(name, short) for name, (_, short) in section.items()], col_max=12)


def _version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from assistant import __version__

        click.echo(f"assistant {__version__}")
        context.exit()


@click.group(cls=LazyGroup, invoke_without_command=True, epilog=EPILOG, context_settings=SETTINGS)
@click.option("--session", "session_id", metavar="ID", default="", help="Open the chat on this conversation.")
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version,
              help="Show the version.")  # fmt: skip
@click.pass_context
def cli(context: click.Context, session_id: str) -> int:
    """An assistant on your own machine. Without a command it opens the chat."""
    if context.invoked_subcommand is not None:
        if session_id:
            context.fail(f"--session goes after the command: assistant {context.invoked_subcommand} --session ID")
        return 0
    if not (sys.stdin and sys.stdin.isatty() and sys.stdout and sys.stdout.isatty()):
        click.echo(context.get_help())
        return 0
    from assistant import paths

    from .connect import ensure

    folders = paths.find()
    ensure(folders)
    run = import_module("assistant.tui.app").run
    run(folders.socket, session_id)
    return 0


def _plugin_command(name: str) -> click.Command | None:
    from assistant import config, paths

    plugins: Any = import_module("assistant.plugins")
    folders = paths.find()
    host = plugins.PluginHost(config.load(folders), folders, lambda event: None)
    host.load()
    found: list[click.Command] = [command for command in host.commands() if command.name == name]
    return found[0] if found else None
