"""The OpenAI-compatible routes, asked by OpenAI's own client over TCP and the Unix socket, and by hand."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import httpx2
import openai
import pytest
from openaikit import FAILURES, Api, chunks_of, served_api, user, wait_until
from serverkit import LANE, new_id, until_finished

from assistant.events import TextDelta, TurnFinished
from assistant.finetune import AdapterInfo
from assistant.finetune.records import Hyperparameters
from assistant.finetune.shelf import WEIGHTS, home, write
from assistant.models import Models, hub
from assistant.models.manifest import write_manifest
from assistant.server.openai import names
from assistant.server.openai.routes import MAX_BODY_BYTES
from assistant.wire import Say

pytestmark = pytest.mark.anyio

TOOLS: list[Any] = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {"city": {}}}}}
    for name in ("weather", "time")
]


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    """A served daemon whose model is ``Chatty``."""
    async with served_api(tmp_path) as api:
        yield api


# What a client gets


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
async def test_a_whole_answer(api: Api, unix: bool) -> None:
    async with api.client(unix=unix) as client:
        answer = await client.chat.completions.create(model="default", messages=user("hello there"))
    assert answer.id.startswith("chatcmpl-")
    assert (answer.object, answer.model) == ("chat.completion", "starter")
    assert abs(answer.created - time.time()) < 1000
    (choice,) = answer.choices
    assert (choice.index, choice.finish_reason, choice.logprobs) == (0, "stop", None)
    assert (choice.message.role, choice.message.content) == ("assistant", "you said: hello there")
    assert (choice.message.tool_calls, choice.message.refusal) == (None, None)
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (10, 4, 14)
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 6
    assert not await api.world.client.sessions(), "nothing is stored"


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
async def test_a_stream(api: Api, unix: bool) -> None:
    async with api.client(unix=unix) as client:
        stream = await client.chat.completions.create(
            model="", messages=user("count 3"), stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert len({chunk.id for chunk in chunks}) == 1
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    first, *middle, last, usage = chunks
    assert (first.choices[0].delta.role, first.choices[0].delta.content) == ("assistant", "")
    assert [chunk.choices[0].delta.content for chunk in middle] == ["0 ", "1 ", "2 "]
    assert {chunk.choices[0].finish_reason for chunk in [first, *middle]} == {None}
    assert (last.choices[0].finish_reason, last.choices[0].delta.content) == ("stop", None)
    assert usage.choices == []
    assert usage.usage is not None
    assert usage.usage.total_tokens == 14
    assert {chunk.usage for chunk in chunks[:-1]} == {None}


async def test_the_bytes_of_a_stream(api: Api) -> None:
    async with api.raw() as client:
        answer = await client.post("/v1/chat/completions", json={"messages": user("cut"), "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in answer.text.split("\n\n") if line]
    assert all(line.startswith("data: {") for line in lines[:-1])
    assert lines[-1] == "data: [DONE]"
    last = json.loads(lines[-2].removeprefix("data: "))
    assert last["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}]
    assert "usage" not in last
    assert answer.headers["x-request-id"] == last["id"]
    assert not any(name.startswith("access-control") for name in answer.headers)


async def test_reasoning_is_apart_under_both_its_names(api: Api) -> None:
    async with api.raw() as client:
        whole = (await client.post("/v1/chat/completions", json={"messages": user("think")})).json()
        body = {"messages": user("think"), "stream": True}
        streamed = (await client.post("/v1/chat/completions", json=body)).text
    message = whole["choices"][0]["message"]
    assert message["content"] == "It is 4."
    assert (message["reasoning"], message["reasoning_content"]) == ("hm, well", "hm, well")
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks_of(streamed)]
    for name in ("reasoning", "reasoning_content"):
        assert "".join(delta.get(name, "") for delta in deltas) == "hm, well"
    assert "".join(delta.get("content", "") for delta in deltas) == "It is 4."


async def test_tool_calls(api: Api) -> None:
    async with api.client() as client:
        answer = await client.chat.completions.create(model="", messages=user("tools"), tools=TOOLS)
        stream = await client.chat.completions.create(model="", messages=user("tools"), tools=TOOLS, stream=True)
        chunks = [chunk async for chunk in stream]
    (choice,) = answer.choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", "Let me see.")
    calls: list[Any] = choice.message.tool_calls or []
    assert [(call.id, call.type, call.function.name) for call in calls] == [
        ("one", "function", "weather"), ("two", "function", "time"),
    ]  # fmt: skip
    assert [json.loads(call.function.arguments) for call in calls] == [{"city": "Zürich"}, {}]
    pieces = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert [(call.index, call.id) for call in pieces] == [(0, "one"), (1, "two")]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


async def test_one_call_at_a_time_if_the_client_wants_it_so(api: Api) -> None:
    async with api.client() as client:
        answer = await client.chat.completions.create(
            model="", messages=user("tools"), tools=TOOLS, parallel_tool_calls=False
        )
    assert [call.id for call in answer.choices[0].message.tool_calls or []] == ["one"]
    assert answer.choices[0].finish_reason == "tool_calls"
    await wait_until(lambda: api.engine.live == 0)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_that_cannot_be_read_is_shown(api: Api, stream: bool) -> None:
    body = {"messages": user("unreadable"), "tools": TOOLS, "stream": stream}
    async with api.raw() as client:
        answer = await client.post("/v1/chat/completions", json=body)
    if stream:
        chunks = [chunk["choices"][0] for chunk in chunks_of(answer.text)]
        message, end = chunks[1]["delta"], chunks[-1]["finish_reason"]
    else:
        message, end = answer.json()["choices"][0]["message"], answer.json()["choices"][0]["finish_reason"]
    assert message["content"] == '{"name": "weath'
    assert message["tool_call_errors"] == [{"name": "weather", "error": "it is no JSON"}]
    assert "tool_calls" not in message
    assert end == "stop"


async def test_a_tool_conversation_round_trips(api: Api) -> None:
    async with api.client() as client:
        first = await client.chat.completions.create(model="", messages=user("tools"), tools=TOOLS)
        message = first.choices[0].message
        results: list[Any] = [
            {"role": "tool", "tool_call_id": call.id, "content": f"result of {call.id}"}
            for call in message.tool_calls or []
        ]
        again: list[Any] = [*user("tools"), message.model_dump(), *results]
        await client.chat.completions.create(model="", messages=again, tools=TOOLS)
    asked = api.engine.requests[-1].messages
    assert [said.role for said in asked] == ["user", "assistant", "tool", "tool"]
    assert [(call.id, call.arguments) for call in asked[1].tool_calls] == [("one", {"city": "Zürich"}), ("two", {})]
    results_seen = [(said.tool_call_id, said.content) for said in asked[2:]]
    assert results_seen == [("one", "result of one"), ("two", "result of two")]


# Models


async def test_models(api: Api) -> None:
    async with api.client() as client:
        listed = [model async for model in client.models.list()]
        assert [model.id for model in listed] == ["starter", "/folder/model"]
        assert {model.object for model in listed} == {"model"}
        assert (await client.models.retrieve("starter")).id == "starter"
        assert (await client.models.retrieve("/folder/model")).owned_by == "assistant"
        with pytest.raises(openai.NotFoundError, match="gpt-4o"):
            await client.models.retrieve("gpt-4o")


async def test_a_model_on_the_disk_may_be_named(api: Api) -> None:
    api.world.services.models.present["hf:test/small"] = True  # type: ignore[attr-defined]
    async with api.client() as client:
        for name in ("test/small", "/folder/model", "assistant"):
            answer = await client.chat.completions.create(model=name, messages=user("hi"))
            assert answer.model == {"test/small": "hf:test/small", "assistant": "starter"}.get(name, name)
    (lane,) = [lane for lane in api.world.services.lanes.infos() if lane.name == LANE]
    assert lane.engines[-1] == "llm:chatty:starter"


async def test_models_that_do_not_chat_are_not_listed(api: Api, tmp_path: Path) -> None:
    models = Models(tmp_path / "hub", lambda event: None)
    for name, config in [("chat", {"model_type": "llama"}), ("whisper", {"n_mels": 80}), ("odd", [])]:
        folder = tmp_path / "hub" / f"hf--org--{name}"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config))
        write_manifest(folder, name=f"hf:org/{name}", format_=hub.FORMAT, source="")
    (tmp_path / "hub" / "silero-vad").mkdir()
    (tmp_path / "hub" / "silero-vad" / "model.onnx").write_bytes(b"x")
    write_manifest(tmp_path / "hub" / "silero-vad", name="silero-vad", format_=1, source="")
    listed = await names.listed(replace(api.world.services, models=models))
    assert [model.id for model in listed] == ["starter", "hf:org/chat", "hf:org/odd"]


@pytest.mark.parametrize("name", ["gpt-4o", "hf:test/small", "hf:test/offline", "folder/model", "../folder", "whisper"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_never_fetches_a_model(api: Api, name: str, stream: bool) -> None:
    async with api.client() as client:
        with pytest.raises(openai.NotFoundError) as caught:
            await client.chat.completions.create(model=name, messages=user("hi"), stream=stream)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert "starter, /folder/model" in caught.value.message
    assert api.world.services.models.present["hf:test/small"] is False  # type: ignore[attr-defined]


async def test_an_adapter_is_named_by_the_request_or_configured(api: Api) -> None:
    folder = home(api.world.paths) / "pirate"
    settings = Hyperparameters()
    write(folder, AdapterInfo(name="pirate", model="starter", engine="chatty", state="complete", settings=settings))
    async with api.raw() as client:

        async def ask(**fields: str) -> httpx2.Response:
            return await client.post("/v1/chat/completions", json={"messages": user("hi"), **fields})

        assert (await ask(adapter="pirate")).json()["error"]["code"] == "model", "nothing is saved of it yet"
        (folder / WEIGHTS).write_bytes(b"")
        assert (await ask(adapter="pirate")).status_code == 200
        assert api.engine.requests[-1].adapter == str(folder)
        assert (await ask()).status_code == 200
        assert api.engine.requests[-1].adapter == ""
        for name, status, says in [("pirat", 404, "pirate"), (str(folder), 400, "name"), ("../pirate", 400, "name")]:
            refused = await ask(adapter=name)
            assert (refused.status_code, refused.json()["error"]["param"]) == (status, "adapter")
            assert says in refused.json()["error"]["message"]
        refused = await ask(adapter="pirate", model="/folder/model")
        assert (refused.status_code, "starter" in refused.text) == (400, True)


# Failures


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        ("overflow", openai.BadRequestError, "context_length_exceeded"),
        ("refuse", openai.BadRequestError, "model"),
        ("crash", openai.InternalServerError, "engine_crashed"),
        ("break", openai.InternalServerError, "engine_failed"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_has_its_status(
    api: Api, name: str, kind: type[openai.APIStatusError], code: str, stream: bool
) -> None:
    async with api.client() as client:
        with pytest.raises(kind) as caught:
            await client.chat.completions.create(model="", messages=user(f"fail {name}"), stream=stream)
    assert caught.value.code == code
    assert FAILURES[name].message in caught.value.message
    assert FAILURES[name].hint in caught.value.message
    assert caught.value.response.headers.get("retry-after") == ("2" if name == "crash" else None)
    assert caught.value.status_code == {"crash": 503, "break": 500}.get(name, 400)


async def test_a_failure_in_a_stream_is_told_in_it(api: Api) -> None:
    seen = []

    async def follow() -> None:
        async with api.client() as client:
            stream = await client.chat.completions.create(model="", messages=user("late break"), stream=True)
            async for chunk in stream:
                seen.append(chunk.choices[0].delta.content)

    with pytest.raises(openai.APIError, match="it broke"):
        await follow()
    assert seen == ["", "so far"]


async def test_a_bad_request_names_the_field(api: Api) -> None:
    async with api.client() as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(model="", messages=user("hi"), logprobs=True)
    body: Any = caught.value.body
    assert body == {
        "message": "logprobs: true is not supported (leave it out)", "type": "invalid_request_error",
        "param": "logprobs", "code": "unsupported_parameter",
    }  # fmt: skip


async def test_too_many_requests_are_refused_and_the_place_is_free_again(api: Api) -> None:
    api.gate.limit = 2
    async with api.client() as client, anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(_hold, client)
        await wait_until(lambda: api.gate.inside == 2 and api.engine.live == 2)
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(model="", messages=user("hi"))
        assert caught.value.response.headers["retry-after"] == "2"
        assert caught.value.code == "rate_limit_exceeded"
        tasks.cancel_scope.cancel()
    await wait_until(lambda: api.gate.inside == 0)
    async with api.client() as client:
        assert (await client.chat.completions.create(model="", messages=user("hi"))).choices[0].finish_reason == "stop"


async def _hold(client: openai.AsyncOpenAI) -> None:
    await client.chat.completions.create(model="", messages=user("forever"))


async def test_health_tells_the_truth(api: Api) -> None:
    async with api.raw() as client:
        health = await client.get("/health")
        assert (health.status_code, health.json()["status"], health.json()["model"]) == (200, "ok", "starter")
        del api.world.plugins.engines["llm", "chatty"], api.world.plugins.engines["llm", "echo"]
        health = await client.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "unavailable")
        assert "no plugin offers one" in health.json()["detail"]
        answer = await client.post("/v1/chat/completions", json={"messages": user("hi")})
        assert answer.status_code == 500
        assert answer.json()["error"]["code"] == "engine_not_found"


# Who goes away


@pytest.mark.parametrize("text", ["forever", "prefill"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_goes_away_ends_the_work(api: Api, text: str, stream: bool) -> None:
    async with api.client(unix=True) as client:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_listen, client, text, stream)
                await wait_until(lambda: api.engine.live == 1)
                scope.cancel()
    with anyio.fail_after(20):
        assert await anyio.to_thread.run_sync(api.engine.ended.wait, 20)
    await wait_until(lambda: api.gate.inside == 0)
    assert api.engine.live == 0


async def _listen(client: openai.AsyncOpenAI, text: str, stream: bool) -> None:
    answer: Any = await client.chat.completions.create(model="", messages=user(text), stream=stream)
    async for _ in answer:
        pass


async def test_a_client_that_does_not_read_is_given_up(api: Api) -> None:
    api.gate.stall_seconds = 0.05
    body = json.dumps({"messages": user("flood"), "stream": True}).encode()
    async with await anyio.connect_unix(api.world.paths.socket) as stream:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        await stream.send(head.encode() + body)
        await wait_until(api.engine.ended.is_set)
    await wait_until(lambda: api.gate.inside == 0)


async def test_a_body_that_is_too_large_is_refused(api: Api) -> None:
    async with api.raw() as client:
        answer = await client.post("/v1/chat/completions", content=b" " * (MAX_BODY_BYTES + 1))
    assert answer.status_code == 413
    assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_eight_streams_and_a_turn_at_once(api: Api) -> None:
    """All finish; one that goes away in the middle changes nothing for the others."""
    texts: dict[int, str] = {}
    async with api.client() as client, api.world.client.connect() as connection:

        async def follow(number: int) -> None:
            stream = await client.chat.completions.create(model="", messages=user(f"count {40 + number}"), stream=True)
            async for chunk in stream:
                texts[number] = texts.get(number, "") + (chunk.choices[0].delta.content or "")
                if number == 3 and len(texts[number]) > 20:
                    await stream.close()
                    return

        turn = new_id()
        async with anyio.create_task_group() as tasks:
            for number in range(8):
                tasks.start_soon(follow, number)
            await connection.send(Say(turn_id=turn, text="count 30"))
            with anyio.fail_after(60):
                events = await until_finished(connection, turn)
    for number in (0, 1, 2, 4, 5, 6, 7):
        assert texts[number] == "".join(f"{i} " for i in range(40 + number))
    assert isinstance(events[-1], TurnFinished)
    assert events[-1].reason == "complete"
    said = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert said == "".join(f"{i} " for i in range(30))
    await wait_until(lambda: api.engine.live == 0 and api.gate.inside == 0)


async def test_a_stream_that_waits_is_kept_alive(api: Api) -> None:
    api.gate.keep_alive_seconds = 0.02
    body = {"messages": user("prefill"), "stream": True}
    lines: list[str] = []
    async with api.raw() as client, client.stream("POST", "/v1/chat/completions", json=body) as answer:
        async for line in answer.aiter_lines():
            lines.append(line)
            if sum(line.startswith(":") for line in lines) == 3:
                break
    assert json.loads(lines[0].removeprefix("data: "))["choices"][0]["delta"]["role"] == "assistant"
    assert lines[-1].endswith(" of 100000 prompt tokens read")
    await wait_until(lambda: api.engine.live == 0)


async def test_the_api_is_in_the_document_of_the_unix_socket(api: Api) -> None:
    document: dict[str, Any] = await api.world.client.get("/api/schema", dict[str, Any])
    assert "/v1/chat/completions" in document["paths"]
