"""``assistant config``: what is set, where, and what is wrong with it."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from assistant.errors import ConfigError
from assistant.paths import Paths, find

from . import failures, render
from .app import SETTINGS, NearestGroup

if TYPE_CHECKING:
    from assistant.config import Settings
    from assistant.plugins import PluginHost


@click.group("config", cls=NearestGroup, context_settings=SETTINGS)
def config() -> None:
    """The configuration: a TOML file, and ASSISTANT_<TABLE>__<KEY> variables over it."""


@config.command("path")
def path() -> None:
    """Print where the configuration file is, or would be."""
    render.out(str(find().config_file))


@config.command("show")
@click.option("--docs", is_flag=True, help="With what each setting means.")
def show(docs: bool) -> None:
    """Print the configuration in force as TOML, defaults included."""
    from assistant import config as configuration

    paths = find()
    settings = configuration.load(paths)
    host = load_plugins(settings, paths)
    try:
        render.out(configuration.render(settings, host.settings, docs=docs).rstrip("\n"))
    finally:
        host.close()


@config.command("check")
def check() -> int:
    """Name every problem in the configuration; exit status 2 if there is any."""
    paths = find()
    found = problems(paths, os.environ)
    for message in found:
        print(f"{render.paint('error:', 'red', sys.stderr)} {render.plain_text(message)}", file=sys.stderr)  # noqa: T201
    if found:
        return failures.REFUSED
    where = paths.config_file if paths.config_file.exists() else f"{paths.config_file} does not exist: all defaults"
    render.out(f"the configuration is valid ({where})")
    return 0


@config.command("token")
@click.option("--new", is_flag=True, help="Make another one; the old one is good for nothing from now on.")
def token(new: bool) -> None:
    """Print the key that OpenAI-compatible clients need over TCP ([server] listen)."""
    from assistant.server.token import read, renew

    path = find().token
    render.out(renew(path) if new else read(path))


def problems(paths: Paths, environ: Mapping[str, str], *, plugins: bool = True) -> list[str]:
    """Everything that is wrong with the configuration, a sentence each.

    Args:
        plugins: once the rest is right, load the plugins in this process to check their tables too.
    """
    from assistant import config as configuration
    from assistant.server.address import check as check_address

    found = [*_in_file(paths), *_in_environment(paths, environ)]
    if found:
        return [_sentence(error) for error in found]
    try:
        settings = configuration.load(paths, environ)
        check_address(settings.server.listen)
    except ConfigError as error:
        return [_sentence(error)]
    if not plugins:
        return []
    host = load_plugins(settings, paths)
    try:
        return list(host.problems)
    finally:
        host.close()


def load_plugins(settings: Settings, paths: Paths) -> PluginHost:
    """The plugins in this process, without a word on standard error."""
    from assistant.plugins import PluginHost

    logging.getLogger("assistant").addHandler(logging.NullHandler())
    host = PluginHost(settings, paths, lambda event: None)
    host.load()
    return host


def _in_file(paths: Paths) -> Iterator[ConfigError]:
    """Every wrong setting, found by looking at each alone."""
    from assistant.config import Settings
    from assistant.tomlfile import convert, read

    try:
        raw, source = read(paths.config_file)
    except ConfigError as error:
        yield error
        return
    raw.pop("plugins", None)
    for piece in _pieces(raw):
        try:
            convert(piece, Settings, source)
        except ConfigError as error:
            yield error


def _pieces(raw: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for key, content in raw.items():
        if isinstance(content, dict) and content:
            yield from ({key: piece} for piece in _pieces(content))
        else:
            yield {key: content}


def _in_environment(paths: Paths, environ: Mapping[str, str]) -> Iterator[ConfigError]:
    from assistant.config import load

    bare = replace(paths, config=paths.config / "no such folder")
    for variable, text in sorted(environ.items()):
        if variable.startswith("ASSISTANT_"):
            try:
                load(bare, {variable: text})
            except ConfigError as error:
                yield error


def _sentence(error: ConfigError) -> str:
    return f"{error.message} ({error.hint})" if error.hint else error.message
