"""``assistant finetune``: teach a model from conversations, and manage the adapters that come of it."""

from __future__ import annotations

import sys
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import click

from assistant import paths
from assistant.errors import AssistantError, DaemonError

from . import connect, failures, render
from .app import SETTINGS, NearestGroup

if TYPE_CHECKING:
    from assistant.client import Client
    from assistant.finetune import AdapterInfo, FinetuneRequest


class TrainByDefault(NearestGroup):
    """A group in which a name that is no command is that of an adapter to train."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command, or ``train``."""
        if args[0].startswith("-") or self.get_command(ctx, args[0]) is not None:
            return super().resolve_command(ctx, args)
        return "train", self.get_command(ctx, "train"), args


@click.group("finetune", cls=TrainByDefault, context_settings=SETTINGS, invoke_without_command=True)
@click.option("--status", is_flag=True, help="The same as `list`.")
@click.pass_context
def finetune(context: click.Context, status: bool) -> None:
    """Teach a model from conversations.

    \b
    assistant finetune NAME FILE.jsonl         train the adapter NAME on examples
    assistant finetune NAME --from sessions    … on the conversations that you had
    assistant finetune NAME --resume           go on where it stopped
    assistant ask --adapter NAME "…"           answer with it

    A line of a FILE is {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]} or
    {"prompt": "…", "completion": "…"}; a FILE may also be what `assistant sessions export --format json` wrote. More:
    assistant finetune train --help
    """
    if context.invoked_subcommand is None:
        if status:
            context.invoke(list_adapters)
        else:
            click.echo(context.get_help())


@finetune.command("train")
@click.argument("name")
@click.argument("files", nargs=-1, metavar="[FILE]...", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--from", "source", type=click.Choice(["sessions"]), help="Learn from the conversations that you had.")
@click.option("--session", "sessions", metavar="ID", multiple=True, help="Of this conversation only; may be repeated.")
@click.option("--model", metavar="MODEL", default="", help="Teach this model instead of the configured one.")
@click.option("--iterations", type=click.IntRange(1, 1_000_000), metavar="N", help="How long to train (200).")
@click.option("--batch-size", type=click.IntRange(1, 1024), metavar="N", help="Examples an iteration (1).")
@click.option("--learning-rate", type=click.FloatRange(0, 1, min_open=True), metavar="X", help="(0.0001)")
@click.option("--layers", type=click.IntRange(-1, 10_000), metavar="N", help="The last N layers learn; -1: all (8).")
@click.option("--rank", type=click.IntRange(1, 1024), metavar="N", help="Rank of the adapter's matrices (8).")
@click.option("--max-tokens", type=click.IntRange(16), metavar="N", help="Longest example; others are cut (1024).")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), metavar="N", help="Of the first values and the order (0).")
@click.option("--resume", is_flag=True, help="Go on where the training stopped, or train longer (--iterations).")
@click.option("--detach", is_flag=True, help="Leave it to the daemon and return at once.")
@click.option("--json", "as_json", is_flag=True, help="Print every event as a line of JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def train(
    *, name: str, files: tuple[Path, ...], source: str | None, sessions: tuple[str, ...], resume: bool, detach: bool,
    as_json: bool, quiet: bool, **settings: Any,
) -> int:  # fmt: skip
    """Train the adapter NAME on FILEs, on conversations, or on both.

    Only the assistant's answers are learnt. Ctrl-C stops the training when it is saved; --resume goes on with it.
    """
    request = _request(name, files, source is not None, sessions, resume, settings)
    client = _client()
    if detach:
        info = anyio.run(client.finetune, request)
        if as_json:
            render.json_out(info)
        else:
            render.out(_began(info) + "; how far it is: assistant finetune list")
        return 0
    from .training import JsonTraining, TextTraining, follow

    view = JsonTraining() if as_json else TextTraining(quiet=quiet)
    return anyio.run(follow, client, request, view)


def _request(
    name: str, files: tuple[Path, ...], from_sessions: bool, sessions: tuple[str, ...], resume: bool,
    settings: dict[str, Any],
) -> FinetuneRequest:  # fmt: skip
    from assistant.finetune import FinetuneRequest
    from assistant.finetune.dataset import read_file
    from assistant.finetune.shelf import NAME

    context = click.get_current_context()
    if not NAME.fullmatch(name):
        context.fail(f"{name!r} cannot be an adapter's name: use letters, digits, dots, dashes and underscores")
    if resume and (files or from_sessions or sessions):
        context.fail("--resume goes on with the adapter's own data: leave files and conversations out")
    if not (resume or files or from_sessions or sessions):
        near = get_close_matches(name, finetune.commands, 1)
        meant = f"; or did you mean `assistant finetune {near[0]}`?" if near else ""
        context.fail(f"nothing to learn from: name FILEs or add --from sessions{meant}")
    examples = tuple(example for file in files for example in read_file(file))
    return FinetuneRequest(
        name=name, examples=examples, from_sessions=from_sessions, sessions=sessions, resume=resume, **settings
    )


@finetune.command("list")
@click.option("--json", "as_json", is_flag=True, help="As a JSON array.")
def list_adapters(as_json: bool) -> None:
    """List the adapters and how their training stands."""
    found = anyio.run(_client().adapters)
    if as_json:
        render.json_out(found)
    elif not found:
        render.note("no adapters yet: assistant finetune --help")
    else:
        rows = [
            (a.name, a.model, a.state, f"{a.iteration}/{a.settings.iterations}", _loss(a.first_loss),
             _loss(a.train_loss), _loss(a.valid_loss), render.size(a.bytes), render.moment(a.updated_at))
            for a in found
        ]  # fmt: skip
        head = ("NAME", "MODEL", "STATE", "DONE", "FIRST LOSS", "LOSS", "VALIDATION", "SIZE", "UPDATED")
        render.out(render.table(head, rows, right=(3, 4, 5, 6, 7)))


@finetune.command("info")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def info(name: str, as_json: bool) -> None:
    """Describe an adapter."""
    found = anyio.run(_client().adapter, name)
    if as_json:
        render.json_out(found)
    else:
        render.out(_describe(found))


@finetune.command("cancel")
@click.argument("name")
def cancel(name: str) -> int:
    """Stop a training when it is saved; exit status 1 if it does not run."""
    if anyio.run(partial(_client().cancel_finetune, name)):
        render.out(f"{name}: stopped; go on with: assistant finetune {name} --resume")
        return 0
    render.note(f"{name} is not being trained")
    return failures.FAILED


@finetune.command("rm")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def remove(names: tuple[str, ...], yes: bool) -> int:
    """Delete adapters with their data sets; a training of them is stopped."""
    if not yes:
        if not render.is_terminal(sys.stdin):
            raise click.UsageError("nobody is there to confirm; add --yes")
        what = f"the adapter {names[0]}" if len(names) == 1 else f"{len(names)} adapters"
        if not click.confirm(f"Delete {what} for good?", err=True):
            render.note("nothing was removed")
            return failures.REFUSED
    client, statuses = _client(), []
    for name in names:
        try:
            anyio.run(client.remove_adapter, name)
        except DaemonError:
            raise
        except AssistantError as error:
            statuses.append(failures.report(error))
    return min(statuses, default=0)


def _describe(adapter: AdapterInfo) -> str:
    settings = adapter.settings
    first = f" (at first {_loss(adapter.first_loss)})" if adapter.first_loss is not None else ""
    items = [
        ("name", adapter.name),
        ("model", adapter.model),
        ("state", adapter.state),
        ("iterations", f"{adapter.iteration} of {settings.iterations}"),
        ("loss", _loss(adapter.train_loss) + first),
        ("validation loss", _loss(adapter.valid_loss)),
        ("examples", f"{adapter.train_examples} to learn from, {adapter.valid_examples} kept aside"),
        ("settings", f"rank {settings.rank}, layers {settings.layers}, batch size {settings.batch_size}, "
                     f"learning rate {settings.learning_rate:g}, seed {settings.seed}"),
        ("updated", render.moment(adapter.updated_at)),
        ("folder", f"{adapter.folder}, {render.size(adapter.bytes)}"),
    ]
    if adapter.error is not None:
        items.append(("error", adapter.error.message))
    return render.pairs(items)


def _began(adapter: AdapterInfo) -> str:
    return f"{adapter.name}: training on {adapter.train_examples} answers"


def _loss(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _client() -> Client:
    return connect.client(paths.find(), quiet=False)
