"""Engines for what a machine may lack: each does what the test wrote, the same every time, and can be pickled.

They run on lanes of type ``thread:``, so what they note down can be read by the test.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from assistant.engines import (
    STT_SAMPLE_RATE,
    ChatRequest,
    Delta,
    LanguageModel,
    Message,
    SpeechToText,
    ToolCall,
    Transcript,
    Transcription,
)
from assistant.errors import AssistantError

Reply = str | ToolCall | AssistantError | Sequence[str | ToolCall | AssistantError]
"""An answer: words, a call of a tool, an error, or several of these in turn."""

SECONDS_A_WORD = 0.25
"""How much speech ``ScriptedSpeechToText`` needs for a word."""
RANK = 1000
"""Above every real engine, so that ``engine = "auto"`` takes these."""


def call(tool: str, /, **arguments: object) -> ToolCall:
    """A call of a tool, to be a reply of ``ScriptedLanguageModel``."""
    return ToolCall(id="", name=tool, arguments=arguments)


class ScriptedSpeechToText(SpeechToText):
    """Understands the first utterance as the first text, whatever is said, and so on; after the last text, nothing.

    A partial transcript grows by a word every ``SECONDS_A_WORD`` of audio, and so does the draft.
    """

    def __init__(self, texts: Sequence[str], name: str = "scripted_ear", lane: str = "thread:ear") -> None:
        self.name = name
        self.lane = lane
        self.rank = RANK
        self.texts = list(texts)
        self.opened: list[tuple[str, tuple[str, ...]]] = []
        """Language and phrases of every utterance so far."""
        self.heard: list[bytearray] = []
        """The audio of every utterance so far."""

    def load(self, model: Path | None) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""

    def open(self, language: str, phrases: tuple[str, ...]) -> Transcription:
        """The next utterance."""
        text = self.texts[len(self.opened)] if len(self.opened) < len(self.texts) else ""
        self.opened.append((language, phrases))
        self.heard.append(bytearray())
        return _Scripted(text, self.heard[-1])


class _Scripted(Transcription):
    def __init__(self, text: str, heard: bytearray) -> None:
        self._text = text
        self._heard = heard
        self._shown = ""

    def feed(self, pcm: bytes) -> str | None:
        self._heard += pcm
        words = self._so_far()
        if words == self._shown:
            return None
        self._shown = words
        return words

    def draft(self) -> Transcript:
        return self._transcript(self._so_far())

    def finish(self) -> Transcript:
        return self._transcript(self._text)

    def _so_far(self) -> str:
        count = int(len(self._heard) / 2 / STT_SAMPLE_RATE / SECONDS_A_WORD)
        return " ".join(self._text.split()[:count])

    def _transcript(self, text: str) -> Transcript:
        return Transcript(text=text, seconds=len(self._heard) / 2 / STT_SAMPLE_RATE)


Replies = Sequence[Reply] | Mapping[str, Reply] | Callable[[Message], Reply]
"""The script of a language model."""


class ScriptedLanguageModel(LanguageModel):
    """Answers what the test wrote, a word a step.

    Args:
        replies: one a request in turn, where a request of the same history whose newest message is the same, or goes
            on where the one before broke off, is the same request (the host may begin to answer in a pause); or by
            words that are in the newest message; or a function of that message.
        spare: what it says when the script has nothing.
    """

    def __init__(
        self,
        replies: Replies = (),
        name: str = "scripted_model",
        lane: str = "thread:model",
        spare: Reply = "I have nothing more to say.",
    ) -> None:
        self.name = name
        self.lane = lane
        self.rank = RANK
        self.replies = replies
        self.spare = spare
        self.requests: list[ChatRequest] = []
        """What it was asked so far, including what was thrown away."""
        self._at = -1
        self._calls = itertools.count(1)

    def load(self, model: Path | None) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""

    def generate(self, request: ChatRequest) -> Iterator[Delta]:
        """The next reply.

        Raises:
            AssistantError: the reply says so.
        """
        reply = self._reply(request)
        pieces = [reply] if isinstance(reply, str | ToolCall | AssistantError) else list(reply)
        read = sum(len(message.content.split()) for message in request.messages)
        yield Delta(prompt_done=read, prompt_tokens=read)
        written, called = 0, False
        for delta in self._deltas(pieces):
            written, called = written + 1, called or delta.tool_call is not None
            yield delta
        yield Delta(
            prompt_done=read, prompt_tokens=read, output_tokens=written,
            finish_reason="tool_calls" if called else "stop",
        )

    def _reply(self, request: ChatRequest) -> Reply:
        last, before = request.messages[-1], self.requests[-1].messages if self.requests else ()
        same = bool(before) and before[:-1] == request.messages[:-1] and last.content.startswith(before[-1].content)
        self._at += not same
        self.requests.append(request)
        if callable(self.replies):
            return self.replies(last)
        if isinstance(self.replies, Mapping):
            said = last.content.lower()
            return next((reply for words, reply in self.replies.items() if words.lower() in said), self.spare)
        return self.replies[self._at] if self._at < len(self.replies) else self.spare

    def _deltas(self, pieces: Sequence[str | ToolCall | AssistantError]) -> Iterator[Delta]:
        for piece in pieces:
            if isinstance(piece, AssistantError):
                raise piece
            if isinstance(piece, ToolCall):
                named = piece if piece.id else ToolCall(
                    id=f"call-{next(self._calls)}", name=piece.name, arguments=piece.arguments, error=piece.error
                )
                yield Delta(tool_call=named)
                continue
            for before, word in zip(itertools.chain([""], itertools.repeat(" ")), piece.split(" "), strict=False):
                yield Delta(text=before + word)
