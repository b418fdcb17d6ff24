"""Any OpenAI-compatible server, timed over its streaming chat route."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from .streams import BenchError, Messages, Stream, Target

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 600.0
"""The longest wait for the next piece: a long prompt on a slow machine takes minutes."""
SHOWN = 300
"""Characters of a server's error that are told."""
SHOWN_NAMES = 8
UNNAMED = "default_model"
"""What mlx_lm.server calls the model that it was started with; its list of models may lack it."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: Any = None


class _Choice(msgspec.Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)
    finish_reason: str | None = None


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


class RemoteTarget(Target):
    """A server; made by ``remote``."""

    kind = "server"

    def __init__(self, client: httpx.AsyncClient, base: str, model: str) -> None:
        self._client = client
        self._base = base
        self.model = model
        self.title = urlsplit(base).netloc
        self.counting = "not counted yet"
        self._options: dict[str, Any] = {"stream_options": {"include_usage": True}}

    async def prepare(self) -> None:
        """Find the model if none was named, and ask something small.

        Raises:
            BenchError: the server cannot be reached, or refuses.
        """
        from assistant.engines import Message

        if not self.model:
            self.model = await self._only_model()
        hello = (Message(role="user", content="Hello."),)
        try:
            await self.ask(hello, 2)
        except BenchError as error:
            if "stream_options" not in error.message:
                raise
            self._options = {}
            await self.ask(hello, 2)

    async def ask(self, messages: Messages, max_tokens: int) -> Stream:
        """Answer greedily, timed where the chunks arrive."""
        body = {
            "model": self.model, "stream": True, "temperature": 0, "max_tokens": max_tokens, **self._options,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
        }  # fmt: skip
        ticks: list[float] = []
        text: list[str] = []
        usage = _Usage()
        began = time.perf_counter()
        async with aclosing(self._chunks(body)) as chunks:
            async for chunk in chunks:
                usage = chunk.usage or usage
                for delta in (choice.delta for choice in chunk.choices):
                    if delta.content or delta.reasoning or delta.reasoning_content or delta.tool_calls:
                        ticks.append(time.perf_counter())
                        text.append(delta.content or "")
        if not ticks:
            raise BenchError(f"{self.title} answered with nothing at all")
        self.counting = "usage, as the server reports it" if usage.completion_tokens else "chunks, a token each"
        cached = (usage.prompt_tokens_details or _Details()).cached_tokens or 0
        return Stream(began, tuple(ticks), usage.completion_tokens, usage.prompt_tokens, cached, "".join(text))

    async def _chunks(self, body: dict[str, Any]) -> AsyncGenerator[_Chunk, None]:
        over = False
        with _told(self.title):
            async with self._client.stream("POST", f"{self._base}/chat/completions", json=body) as response:
                if response.status_code != 200:
                    raise _refused(self.title, response.status_code, await response.aread())
                async for line in response.aiter_lines():
                    if not line.startswith("data:"):
                        continue
                    data = line.removeprefix("data:").strip()
                    if data == "[DONE]":
                        return
                    chunk = _decoded(self.title, data, _Chunk)
                    if chunk.error:
                        raise BenchError(f"{self.title}: {_reason(data.encode())}")
                    over = over or any(choice.finish_reason for choice in chunk.choices)
                    yield chunk
        if not over:
            raise BenchError(f"{self.title} broke off in the middle of an answer")

    async def _only_model(self) -> str:
        """The one that the server offers, or ``UNNAMED`` where it does not tell."""
        with _told(self.title):
            response = await self._client.get(f"{self._base}/models")
        if response.status_code in (401, 403):
            raise _refused(self.title, response.status_code, response.content)
        try:
            names = [model.id for model in msgspec.json.decode(response.content, type=_Models).data]
        except msgspec.MsgspecError:
            names = []
        if len(names) > 1:
            shown = ", ".join(names[:SHOWN_NAMES]) + (", …" if len(names) > SHOWN_NAMES else "")
            hint = f"name one: --compare-model NAME ({UNNAMED} is the one that mlx_lm.server was started with)"
            raise BenchError(f"{self.title} offers {len(names)} models: {shown}", hint=hint)
        return names[0] if names else UNNAMED


@asynccontextmanager
async def remote(url: str, model: str = "", api_key: str = "") -> AsyncIterator[RemoteTarget]:
    """A server, ready for questions.

    Args:
        url: its address, with or without ``/v1``.
        model: empty for the only one it offers.
        api_key: sent as a bearer token if there is one.

    Raises:
        BenchError: the address is none, or the server cannot be reached or refuses.
    """
    import httpx

    base = base_url(url)
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    async with httpx.AsyncClient(
        timeout=httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS),
        limits=httpx.Limits(max_connections=None),
        headers=headers,
        trust_env=urlsplit(base).hostname not in LOOPBACK,
    ) as client:
        target = RemoteTarget(client, base, model)
        await target.prepare()
        yield target


def base_url(url: str) -> str:
    """The part of the address that the routes follow, which ends with ``/v1`` unless another path was given.

    Raises:
        BenchError: it is no address of a server.
    """
    hint = "write it like http://127.0.0.1:8080/v1"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BenchError(f"{url!r} is no address: {error}", hint=hint) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise BenchError(f"{url!r} is no address of a server", hint=hint)
    path = parts.path.rstrip("/").removesuffix("/chat/completions")
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"


@contextmanager
def _told(title: str) -> Iterator[None]:
    """Turn what httpx raises into an error that says which server it was."""
    import httpx

    try:
        yield
    except httpx.TimeoutException as error:
        raise BenchError(f"{title} did not answer in time", hint="is it still loading its model?") from error
    except httpx.ConnectError as error:
        hint = "check the address, and that the server runs"
        raise BenchError(f"{title} cannot be reached: {error}", hint=hint) from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise BenchError(f"{title} broke off: {error or type(error).__name__}") from error


def _decoded(title: str, data: str | bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.MsgspecError as error:
        raise BenchError(
            f"{title} does not speak OpenAI's protocol: {error}", hint="the address usually ends with /v1"
        ) from error


def _refused(title: str, status: int, body: bytes) -> BenchError:
    address = "check the address, which usually ends with /v1, and the model"
    hints = {401: "--api-key KEY", 403: "--api-key KEY", 404: address}
    return BenchError(f"{title} refused with HTTP {status}: {_reason(body)}", hint=hints.get(status, ""))


def _reason(body: bytes) -> str:
    try:
        found: Any = msgspec.json.decode(body)
    except msgspec.MsgspecError:
        found = None
    if isinstance(found, dict):
        found = found.get("error") or found.get("detail") or found.get("message")
        if isinstance(found, dict):
            found = found.get("message")
    text = found if isinstance(found, str) else body.decode(errors="replace")
    return " ".join(text.split())[:SHOWN] or "without a word"
