"""``assistant models``: what is on the disk and what can be fetched."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import anyio
import click

from assistant import paths

from . import connect, render
from .app import SETTINGS, NearestGroup
from .watching import with_progress

if TYPE_CHECKING:
    from assistant.client import Client
    from assistant.wire import ModelInfo


@click.group("models", cls=NearestGroup, context_settings=SETTINGS)
def models() -> None:
    """Models. A NAME is `starter`, `hf:organisation/name` or a folder."""


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="As a JSON array.")
def list_models(as_json: bool) -> None:
    """List the models that are known or on the disk."""
    found = anyio.run(_client().models)
    if as_json:
        render.json_out(found)
        return
    rows = [
        (m.name, "yes" if m.present else "no", render.size(m.bytes) if m.bytes else "-", m.licence or "-", m.note)
        for m in found
    ]
    render.out(render.table(("NAME", "HERE", "SIZE", "LICENCE", "NOTE"), rows, right=(2,)))


@models.command("pull")
@click.argument("name")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def pull(name: str, quiet: bool) -> None:
    """Fetch a model and check it; nothing happens if it is here."""
    client = _client()
    found = anyio.run(partial(with_progress, client, partial(client.pull_model, name), quiet=quiet))
    render.out(f"{found.name}: {render.size(found.bytes)} in {found.folder}")


@models.command("rm")
@click.argument("name")
def remove(name: str) -> None:
    """Delete a model from the disk."""
    anyio.run(_client().remove_model, name)


@models.command("info")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def info(name: str, as_json: bool) -> None:
    """Describe a model."""
    found = anyio.run(_client().model, name)
    if as_json:
        render.json_out(found)
    else:
        render.out(_describe(found))


def _describe(model: ModelInfo) -> str:
    size = render.size(model.bytes) if model.bytes else "unknown"
    return render.pairs(
        [
            ("name", model.name),
            ("here", f"yes, in {model.folder}" if model.present else "no"),
            ("size", size if model.present else f"{size} to download"),
            ("licence", model.licence or "unknown"),
            ("note", model.note or "-"),
        ]
    )


def _client() -> Client:
    return connect.client(paths.find(), quiet=False)
