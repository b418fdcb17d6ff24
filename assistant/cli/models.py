"""``assistant models``: what is on the disk, what is loaded, what can be fetched, and what suits this machine."""

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
    """Models. A NAME is `hf:organisation/name`, a folder, or one that `list` shows, such as `starter`."""


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="As a JSON array.")
def list_models(as_json: bool) -> None:
    """List the models that are known, on the disk or loaded."""
    found = anyio.run(_client().models)
    if as_json:
        render.json_out(found)
        return
    rows = [
        (
            m.name, "yes" if m.present else "no", render.size(m.bytes) if m.bytes else "-", _loaded(m),
            render.size(m.memory) if m.memory else "-", m.licence or "-", m.note,
        )
        for m in found
    ]  # fmt: skip
    head = ("NAME", "HERE", "SIZE", "LOADED", "MEMORY", "LICENCE", "NOTE")
    render.out(render.table(head, rows, right=(2, 4)))


def _loaded(model: ModelInfo) -> str:
    words = (["yes"] if model.loaded else []) + (["pinned"] if model.pinned else [])
    return ", ".join(words) or "no"


@models.command("pull")
@click.argument("name")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.option("--force", is_flag=True, help="Also a model that this machine has not the memory for.")
def pull(name: str, quiet: bool, force: bool) -> None:
    """Fetch a model and check it; nothing happens if it is here."""
    client = _client()
    found = anyio.run(partial(with_progress, client, partial(client.pull_model, name, force=force), quiet=quiet))
    render.out(f"{found.name}: {render.size(found.bytes)} in {found.folder}")


@models.command("load")
@click.argument("name")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def load(name: str, quiet: bool) -> None:
    """Load a language model before it is needed; it is fetched if it is not here."""
    client = _client()
    found = anyio.run(partial(with_progress, client, partial(client.load_model, name), quiet=quiet))
    render.out(f"{found.name} is loaded")


@models.command("unload")
@click.argument("name")
def unload(name: str) -> None:
    """Unload a language model and give its memory back."""
    anyio.run(_client().unload_model, name)
    render.out(f"{name} is unloaded")


@models.command("recommend")
@click.option("--bandwidth", type=click.FloatRange(min=0, min_open=True), help="Of the memory in GB/s, for the speed.")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def recommend(bandwidth: float | None, as_json: bool) -> None:
    """Say which model suits this machine, and every Mac; needs no daemon."""
    from . import recommending

    found = recommending.survey(bandwidth)
    if as_json:
        render.json_out(found)
    else:
        render.out(recommending.describe(found))


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
            ("loaded", _loaded(model) + (f", holds {render.size(model.memory)}" if model.memory else "")),
            ("licence", model.licence or "unknown"),
            ("note", model.note or "-"),
        ]
    )


def _client() -> Client:
    return connect.client(paths.find(), quiet=False)
