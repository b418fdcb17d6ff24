"""``assistant transcribe`` and ``assistant say``: speech to text and back, outside a conversation."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import anyio
import click

from assistant import paths
from assistant.errors import AssistantError, DaemonError, PromptError

from . import connect, failures, render
from .sound import Speech, check_player, check_target, read_audio
from .watching import with_progress

if TYPE_CHECKING:
    from assistant.client import Client
    from assistant.engines import Transcript

Form = Literal["text", "json", "srt", "vtt"]
SUFFIXES: dict[str, str] = {"text": ".txt", "json": ".json", "srt": ".srt", "vtt": ".vtt"}
"""What a file of each form is called."""


@click.command("transcribe")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--json", "form", flag_value="json", help="One JSON object a file: text, language, segments with times.")
@click.option("--srt", "form", flag_value="srt", help="SubRip subtitles.")
@click.option("--vtt", "form", flag_value="vtt", help="WebVTT subtitles.")
@click.option("-o", "--output", metavar="FILE", help="Write there; a folder gets one file for each FILE.")
@click.option("--language", metavar="TAG", default="", help="What is spoken, for example en; else the configured one.")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no warnings.")
def transcribe(files: tuple[str, ...], form: str | None, output: str | None, language: str, quiet: bool) -> int:
    """Write down what is said in audio files; - is standard input.

    A file that cannot be used is named on standard error and the others go on.
    """
    kind = form or "text"
    folder = output is not None and Path(output).is_dir()
    if len(files) > 1 and not folder and (output is not None or kind in ("srt", "vtt")):
        raise click.UsageError(f"{len(files)} files do not fit into one {kind} output; give a folder: -o FOLDER")
    if output is not None and not folder:
        check_target(click.get_current_context(), _output_option(), output)
    client = connect.client(paths.find(), quiet=quiet)
    statuses = []
    for name in files:
        try:
            found = _transcribe_one(client, name, language, quiet)
            target = Path(output) / (_stem(name, files) + SUFFIXES[kind]) if output and folder else output
            _deliver(_as_text(found, name, kind), target, f"==> {name} <==" if kind == "text" and files[1:] else "")
        except DaemonError:
            raise
        except (AssistantError, OSError) as error:
            statuses.append(_report(name, error))
    return min(statuses, default=0)


@click.command("say")
@click.argument("text", nargs=-1)
@click.option("-o", "--output", metavar="FILE", default="-", callback=check_target,
              help="Write a WAV file instead of playing it.")  # fmt: skip
@click.option("--voice", metavar="NAME", default="", help="A voice of the engine; else the configured one.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def say(text: tuple[str, ...], output: str, voice: str, quiet: bool) -> None:
    """Speak TEXT, or what is piped in."""
    from .prompt import read_prompt

    try:
        words = read_prompt(text)
    except PromptError as error:
        raise PromptError(error.message.replace("the prompt", "the text"), hint=_say_hint(error)) from None
    if output == "-":
        check_player("-o")
    client = connect.client(paths.find(), quiet=quiet)
    speech = anyio.run(partial(with_progress, client, partial(_speak, client, words, voice), quiet=quiet))
    speech.deliver(output)


def _say_hint(error: PromptError) -> str:
    return 'assistant say "hello"' if "empty" in error.message else error.hint


async def _speak(client: Client, text: str, voice: str) -> Speech:
    speech = Speech()
    async for chunk in client.speak(text, voice):
        speech.add(chunk.pcm, chunk.sample_rate)
    return speech


def _transcribe_one(client: Client, name: str, language: str, quiet: bool) -> Transcript:
    audio = read_audio(name, quiet=quiet)
    work = partial(client.transcribe, audio.pcm, language)
    return anyio.run(partial(with_progress, client, work, quiet=quiet))


def _stem(name: str, files: tuple[str, ...]) -> str:
    """What the transcript of a file is called: without its suffix, unless that would be another's name too."""
    stem = Path(name).stem
    return Path(name).name if sum(Path(other).stem == stem for other in files) > 1 else stem


def _deliver(text: str, target: Path | str | None, head: str) -> None:
    if target is not None:
        Path(target).write_text(text + "\n", encoding="utf-8")
        return
    if head:
        render.out(render.safe(head))
    render.out(render.safe(text))


def _as_text(found: Transcript, name: str, kind: str) -> str:
    if kind == "text":
        return found.text
    if kind == "json":
        import msgspec

        return msgspec.json.encode({"file": name, **msgspec.structs.asdict(found)}).decode()
    from assistant.voice import subtitles

    return (subtitles.srt if kind == "srt" else subtitles.vtt)(found).rstrip("\n")


def _report(name: str, error: AssistantError | OSError) -> int:
    if isinstance(error, OSError):
        return failures.report_system(error)
    shown = error.message if name in error.message else f"{name}: {error.message}"
    failures.say(shown, error.hint)
    return failures.status_of(error.code, permanent=error.permanent)


def _output_option() -> click.Parameter:
    return next(option for option in transcribe.params if option.name == "output")
