"""A small real server on the loopback interface that streams chat completions, well or badly."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TEMPLATE_TOKENS = 7
"""Tokens that the prompt has besides its words."""


@dataclass
class ChatServer:
    """What it does, and what it was asked."""

    models: tuple[str, ...] | None = ("tiny",)
    """None: the list of models is an empty page."""
    tokens: int = 12
    """Of the longest answer."""
    each: int = 1
    """Tokens a chunk."""
    usage: bool = True
    stream_options: bool = True
    """Whether it knows them; otherwise it refuses a request that has them."""
    field_name: str = "content"
    api_key: str = ""
    most: int = 1000
    """Requests that are answered; further ones are refused."""
    page: str = ""
    """Answers everything with this page instead."""
    trouble: str = ""
    """``error``: the stream ends with an error; ``cut``: it ends in the middle; ``mute``: it brings nothing."""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving(chat: ChatServer) -> Iterator[str]:
    """Serve until the block ends. Gives the server's address."""

    class Handler(_Handler):
        server_chat = chat

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    chat.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield chat.url
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server_chat: ChatServer

    def do_GET(self) -> None:
        """The list of models."""
        names = self.server_chat.models
        listed = {"object": "list", "data": [{"id": name, "object": "model"} for name in names or ()]}
        self._answer(200, json.dumps(listed) if names is not None else "")

    def do_POST(self) -> None:
        """One completion."""
        chat = self.server_chat
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        chat.bodies.append(body)
        if refusal := self._refusal(body):
            self._answer(refusal[0], json.dumps({"error": {"message": refusal[1]}}))
        elif chat.page:
            self._answer(200, chat.page)
        else:
            self._stream(body)

    def _refusal(self, body: dict[str, Any]) -> tuple[int, str] | None:
        chat = self.server_chat
        if not self.path.endswith("/v1/chat/completions"):
            return 404, "no such route"
        if chat.api_key and self.headers.get("Authorization") != f"Bearer {chat.api_key}":
            return 401, "who are you?"
        if "stream_options" in body and not chat.stream_options:
            return 400, "unknown field stream_options"
        return (429, "too many requests") if len(chat.bodies) > chat.most else None

    def _stream(self, body: dict[str, Any]) -> None:
        chat = self.server_chat
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.write(b": keepalive\n\n")
        self._chunk({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]})
        tokens = 0 if chat.trouble == "mute" else min(chat.tokens, body["max_tokens"])
        for number in range(tokens // chat.each):
            delta = {chat.field_name: f" {number}"}
            self._chunk({"choices": [{"index": 0, "delta": delta, "finish_reason": None}], "usage": None})
        if chat.trouble == "cut":
            return
        if chat.trouble == "error":
            self._chunk({"error": {"message": "out of memory"}})
            return
        self._chunk({"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]})
        if chat.usage:
            prompt = TEMPLATE_TOKENS + sum(len(message["content"].split()) for message in body["messages"])
            details = {"cached_tokens": 5}
            usage = {"prompt_tokens": prompt, "completion_tokens": tokens, "prompt_tokens_details": details}
            self._chunk({"choices": [], "usage": usage})
        self.wfile.write(b"data: [DONE]\n\n")

    def _chunk(self, chunk: dict[str, Any]) -> None:
        self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        self.wfile.flush()

    def _answer(self, status: int, text: str) -> None:
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
