"""``assistant ask``: one question, typed, piped or spoken, and its answer."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import click
from msgspec import structs

from assistant import paths
from assistant.errors import AssistantError
from assistant.events import Event, SpeechSynthesized
from assistant.wire import Listen, Say

from . import failures
from .schema import read_schema
from .sound import Speech, check_player, check_target, read_audio

if TYPE_CHECKING:
    from assistant.client import Client

    from .talk import Outcome, View


@click.command("ask")
@click.argument("prompt", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print every event as a line of JSON.")
@click.option("--new", is_flag=True, help="Begin a conversation instead of continuing the last one.")
@click.option("--session", "session_id", metavar="ID", default="", help="Continue this conversation.")
@click.option("--model", metavar="NAME", default="", help="Answer with this model, this once.")
@click.option("--adapter", metavar="NAME", default="", help="Answer with this LoRA adapter, or the one in a folder.")
@click.option("--schema", metavar="FILE", help="Answer with JSON that satisfies the JSON schema in FILE.")
@click.option("--tools/--no-tools", default=None, help="Whether tools may be used; without: unless there is a schema.")
@click.option("--audio", metavar="FILE", help="A spoken question in an audio file; - is standard input.")
@click.option("--speak", metavar="FILE", callback=check_target,
              help="Also write the answer as speech to a WAV file; - plays it.")  # fmt: skip
@click.option("--no-stream", is_flag=True, help="Print the answer when it is complete.")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no notices, only the answer and errors.")
@click.option("-v", "--verbose", is_flag=True, help="Tell afterwards how many tokens it took, and how long.")
def ask(
    *, prompt: tuple[str, ...], as_json: bool, new: bool, session_id: str, model: str, adapter: str,
    schema: str | None, tools: bool | None, audio: str | None, speak: str | None, no_stream: bool, quiet: bool,
    verbose: bool,
) -> int:  # fmt: skip
    """Ask something and stream the answer.

    What is piped in follows the PROMPT: git diff | assistant ask "write a commit message"

    Ctrl-C cancels the answer; a second one leaves at once.
    """
    if new and session_id:
        raise click.UsageError("--new and --session exclude each other")
    if audio is not None and prompt:
        raise click.UsageError("--audio takes the place of the PROMPT")
    if schema is not None and speak is not None:
        raise click.UsageError("--schema and --speak exclude each other: JSON is nothing to listen to")
    if speak == "-":
        check_player("--speak")
    wanted = read_schema(schema) if schema is not None else None
    turn = Say(
        turn_id=uuid.uuid4().hex, text="", session_id=session_id, new=new, channel="cli", speak=speak is not None,
        model=model, adapter=_adapter(adapter), schema=wanted, tools=tools,
    )  # fmt: skip
    command, pcm = _spoken(turn, audio, quiet) if audio is not None else (_typed(turn, prompt), b"")
    from . import connect

    client = connect.client(paths.find(), quiet=quiet)
    view = _view(
        as_json, stream=not no_stream, quiet=quiet, spoken=audio is not None, whole=wanted is not None, verbose=verbose
    )
    return _answer(client, command, view, pcm, speak)


def _adapter(name: str) -> str:
    """The name as the daemon takes it: a folder with its whole path, since the daemon works in another folder."""
    return str(Path(name).expanduser().absolute()) if "/" in name or name in (".", "..") else name


def _typed(turn: Say, prompt: tuple[str, ...]) -> Say:
    from .prompt import read_prompt

    return structs.replace(turn, text=read_prompt(prompt))


def _spoken(turn: Say, audio: str, quiet: bool) -> tuple[Listen, bytes]:
    pcm = read_audio(audio, quiet=quiet).pcm
    shared = {name: getattr(turn, name) for name in Listen.__struct_fields__}
    return Listen(**shared), pcm


def _view(as_json: bool, **options: bool) -> View:
    from .view import JsonView, TextView

    return JsonView() if as_json else TextView(**options)


def _answer(client: Client, command: Say | Listen, view: View, pcm: bytes, speak: str | None) -> int:
    from .talk import follow

    speech = Speech()
    outcome: Outcome = anyio.run(follow, client, command, Collecting(view, speech), pcm)
    status = outcome.status
    if speak is not None and status == 0:
        try:
            speech.deliver(speak)
        except AssistantError as error:
            failures.report(error)
            return failures.FAILED
    return status


class Collecting:
    """A view that also keeps the spoken answer."""

    def __init__(self, view: View, speech: Speech) -> None:
        self._view = view
        self._speech = speech

    async def show(self, event: Event) -> None:
        """Keep the audio and pass the event on."""
        if isinstance(event, SpeechSynthesized):
            self._speech.add(event.pcm, event.sample_rate)
        await self._view.show(event)

    def cancelling(self) -> None:
        """Pass it on."""
        self._view.cancelling()

    async def end(self) -> None:
        """Pass it on."""
        await self._view.end()
