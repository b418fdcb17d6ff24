"""``assistant sessions``: conversations that were had."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import click

from assistant import paths
from assistant.errors import AssistantError, DaemonError

from . import connect, failures, render
from .app import SETTINGS, NearestGroup
from .sound import check_target

if TYPE_CHECKING:
    from assistant.client import Client
    from assistant.wire import Conversation, StoredMessage

SHORT_ID = 12
"""Characters of an id that are shown; any beginning of 4 or more that is unique is accepted."""


@click.group("sessions", cls=NearestGroup, context_settings=SETTINGS)
def sessions() -> None:
    """Conversations. An ID may be cut to its first letters, at least four."""


@sessions.command("list")
@click.option("--json", "as_json", is_flag=True, help="As a JSON array.")
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, metavar="N",
              help="How many, the newest first.")  # fmt: skip
def list_sessions(as_json: bool, limit: int) -> None:
    """List conversations, the newest first."""
    found = anyio.run(_client().sessions, limit)
    if as_json:
        render.json_out(found)
    elif not found:
        render.note("no conversations yet: assistant ask")
    else:
        rows = [
            (s.id[:SHORT_ID], render.moment(s.updated_at), str(s.messages), s.channel, s.title or "-") for s in found
        ]
        render.out(render.table(("ID", "UPDATED", "MESSAGES", "CHANNEL", "TITLE"), rows, right=(2,)))


@sessions.command("show")
@click.argument("session_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def show(session_id: str, as_json: bool) -> None:
    """Show a conversation."""
    found = anyio.run(_client().conversation, session_id)
    if as_json:
        render.json_out(found)
        return
    _show(found)


@sessions.command("search")
@click.argument("query", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="As a JSON array.")
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, metavar="N",
              help="How many, the best first.")  # fmt: skip
def search(query: tuple[str, ...], as_json: bool, limit: int) -> int:
    """Search all messages; exit status 1 if nothing matches."""
    found = anyio.run(_client().search, " ".join(query), limit)
    if as_json:
        render.json_out(found)
    elif found:
        rows = [(h.session_id[:SHORT_ID], render.moment(h.at), h.role, h.snippet) for h in found]
        render.out(render.table(("ID", "WHEN", "WHO", "TEXT"), rows))
    else:
        render.note("nothing matches")
    return 0 if found else failures.FAILED


@sessions.command("export")
@click.argument("session_id", metavar="ID")
@click.option("--format", "form", type=click.Choice(["markdown", "json"]), default="markdown", show_default=True)
@click.option("-o", "--output", metavar="FILE", callback=check_target, help="Write there instead of printing it.")
def export(session_id: str, form: str, output: str | None) -> None:
    """Write a conversation as Markdown or JSON."""
    from assistant.export import to_json, to_markdown

    found = anyio.run(_client().conversation, session_id)
    text = to_json(found) if form == "json" else to_markdown(found)
    if output in (None, "-"):
        render.out(render.safe(text.rstrip("\n")))
    else:
        Path(str(output)).write_text(text, encoding="utf-8")


@sessions.command("rm")
@click.argument("session_ids", metavar="ID...", nargs=-1, required=True)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def remove(session_ids: tuple[str, ...], yes: bool) -> int:
    """Forget conversations for good."""
    if not yes:
        if not render.is_terminal(sys.stdin):
            raise click.UsageError("nobody is there to confirm; add --yes")
        what = f"conversation {session_ids[0]}" if len(session_ids) == 1 else f"{len(session_ids)} conversations"
        if not click.confirm(f"Forget {what} for good?", err=True):
            render.note("nothing was removed")
            return failures.REFUSED
    client = _client()
    statuses = []
    for session_id in session_ids:
        try:
            anyio.run(client.remove_session, session_id)
        except DaemonError:
            raise
        except AssistantError as error:
            statuses.append(failures.report(error))
    return min(statuses, default=0)


def _client() -> Client:
    return connect.client(paths.find(), quiet=False)


def _show(found: Conversation) -> None:
    session = found.session
    title = render.plain_text(session.title or "untitled conversation")
    render.out(render.paint(title, "bold", sys.stdout))
    render.out(render.paint(f"{session.id}  {render.moment(session.created_at)}  {session.channel}", "dim", sys.stdout))
    for message in found.messages:
        render.out("\n" + render.paint(_heading(message), "cyan", sys.stdout))
        for call in message.tool_calls:
            outcome = "" if call.ok else " (failed)"
            render.out(render.paint(render.plain_text(f"· {call.tool}{outcome}: {call.result}"), "dim", sys.stdout))
        if message.text:
            render.out(render.safe(message.text))
        if message.error is not None:
            render.out(render.paint(render.plain_text(f"error: {message.error.message}"), "red", sys.stdout))


def _heading(message: StoredMessage) -> str:
    who = "you" if message.role == "user" else "assistant"
    state = "" if message.state == "complete" else f"  ({message.state})"
    return f"{who}  {render.moment(message.at)}{state}"
