"""What a plugin may hand to the host, and whether what it handed over is that."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Callable, Iterable
from typing import Any

from assistant.engines import LanguageModel, SpeechToText, TextToSpeech
from assistant.errors import PluginError
from assistant.hookspecs import Route, WakeWord
from assistant.intents import Intent, check_intent
from assistant.tools import Tool

LIMIT = 1000
"""The most objects that one hook may return; an endless generator must not hang the daemon."""

ENGINE_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
TOOL_NAME = r"[A-Za-z0-9_-]{1,64}"
"""What chat templates and OpenAI-compatible clients accept as a function's name."""


def collect(hook: str, result: object) -> list[Any]:
    """The objects that a ``register_*`` hook returned.

    Raises:
        PluginError: it is no iterable, or something in it is not what the hook is for; names hook and type.
    """
    wanted, fault = CHECKS[hook]
    if inspect.iscoroutine(result):
        result.close()
        raise PluginError(f"{hook} is async", hint="hooks are plain functions; write `def`")
    if not isinstance(result, Iterable) or isinstance(result, str | bytes | dict):
        hint = "yield the objects, or return a list of them"
        raise PluginError(f"{hook} returned {_type(result)}, expected an iterable of {wanted}", hint=hint)
    items = list(itertools.islice(result, LIMIT + 1))
    if len(items) > LIMIT:
        raise PluginError(f"{hook} returned more than {LIMIT} objects", hint="is it a generator without an end?")
    for item in items:
        if reason := fault(item):
            raise PluginError(f"{hook}: {reason}")
    return items


def _type(item: object) -> str:
    return f"the class {item.__name__}" if isinstance(item, type) else type(item).__name__


def _wrong(item: object, wanted: str) -> str:
    hint = " (it wants an instance)" if isinstance(item, type) else ""
    return f"got {_type(item)}, expected {wanted}{hint}"


def _engine(kind: type, article: str) -> Callable[[Any], str]:
    def fault(item: Any) -> str:
        if not isinstance(item, kind):
            return _wrong(item, f"{article} {kind.__name__}")
        name = getattr(item, "name", None)
        if not isinstance(name, str) or not re.fullmatch(ENGINE_NAME, name):
            return f"the engine {_type(item)} has the name {name!r}, expected letters, digits, `_`, `.` or `-`"
        lane = getattr(item, "lane", None)
        if not isinstance(lane, str) or not lane:
            return f"the engine {name!r} names no lane"
        return ""

    return fault


def _tool(item: Any) -> str:
    if not isinstance(item, Tool):
        return _wrong(item, "a Tool") + (" (write Tool.of(function))" if inspect.isroutine(item) else "")
    if not re.fullmatch(TOOL_NAME, item.name):
        return f"the tool's name {item.name!r} is not made of letters, digits, `_` and `-`, at most 64"
    if not item.timeout > 0:
        return f"the tool {item.name!r} has a timeout of {item.timeout} seconds"
    return ""


def _intent(item: Any) -> str:
    if not isinstance(item, Intent):
        return _wrong(item, "an Intent")
    if not item.sentences or type(item.sentences) is not tuple:
        return f"an intent for {item.tool!r} has no tuple of sentences"
    check_intent(item)
    return ""


def _shaped(wanted: str, methods: tuple[str, ...]) -> Callable[[Any], str]:
    def fault(item: Any) -> str:
        if isinstance(item, type) or not isinstance(getattr(item, "name", None), str):
            return _wrong(item, f"a {wanted} with a name")
        if missing := [name for name in methods if not callable(getattr(item, name, None))]:
            return f"{item.name!r} lacks {', '.join(missing)}(), which a {wanted} has"
        return ""

    return fault


def _wake_word(item: Any) -> str:
    if not isinstance(item, WakeWord):
        return _wrong(item, "a WakeWord")
    name = getattr(item, "name", None)
    if not isinstance(name, str) or not re.fullmatch(ENGINE_NAME, name):
        return f"the wake word {_type(item)} has the name {name!r}, expected letters, digits, `_`, `.` or `-`"
    if not isinstance(getattr(item, "phrase", None), str) or not item.phrase.strip():
        return f"the wake word {name!r} has no phrase"
    samples = getattr(item, "frame_samples", None)
    if not isinstance(samples, int) or samples <= 0:
        return f"the wake word {name!r} has frames of {samples!r} samples"
    return ""


def _route(item: Any) -> str:
    if not isinstance(item, Route):
        return _wrong(item, "a Route")
    if item.method not in ("GET", "POST", "DELETE"):
        return f"the route {item.path!r} has the method {item.method!r}"
    if not isinstance(item.path, str) or not re.fullmatch(r"/?[\w.-]+(/[\w.-]+)*", item.path) or ".." in item.path:
        return f"the route's path {item.path!r} is not made of words between slashes"
    return "" if callable(item.handler) else f"the handler of the route {item.path!r} cannot be called"


def _command(item: Any) -> str:
    import click

    return "" if isinstance(item, click.Command) and item.name else _wrong(item, "a click command with a name")


CHECKS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "register_stt": ("SpeechToText", _engine(SpeechToText, "a")),
    "register_llm": ("LanguageModel", _engine(LanguageModel, "a")),
    "register_tts": ("TextToSpeech", _engine(TextToSpeech, "a")),
    "register_wake_words": ("WakeWord", _wake_word),
    "register_tools": ("Tool", _tool),
    "register_intents": ("Intent", _intent),
    "register_resource_probes": ("ResourceProbe", _shaped("ResourceProbe", ("sample",))),
    "register_commands": ("click.Command", _command),
    "register_routes": ("Route", _route),
}
"""For each hook that registers something: what, and why a given object is not that (empty if it is)."""
