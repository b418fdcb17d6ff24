"""Speech from libespeak-ng through ctypes."""

from __future__ import annotations

import ctypes
import ctypes.util
import difflib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from assistant import AudioChunk, EngineFailed, TextToSpeech, WordMark

CHUNK_SECONDS = 0.2
"""Length of one chunk."""

PIECE_CHARACTERS = 200
"""What is synthesised at a time: about 15 s of speech, which takes some 30 ms."""

SYNCHRONOUS, DONT_EXIT, UTF8, RATE = 2, 0x8000, 1, 1
"""``AUDIO_OUTPUT_SYNCHRONOUS``, ``espeakINITIALIZE_DONT_EXIT``, ``espeakCHARS_UTF8`` and ``espeakRATE``, from
espeak-ng's ``speak_lib.h``."""

_REMEDY = "`pip install espeakng-loader`"

LAST_EVENT, WORD_EVENT = 0, 1
"""``espeakEVENT_LIST_TERMINATED`` and ``espeakEVENT_WORD``."""


class _Event(ctypes.Structure):
    """``espeak_EVENT``; its last member is a union of an integer, a pointer and eight characters."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_void_p),
    ]


_SynthCallback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Event))


class _Voice(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_char_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("reserved", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    ]


_rates: dict[str, int] = {}
"""Samples per second of the library if it was begun in this process, by its path."""
_users: set[Espeak] = set()
"""Who uses the library, which is ended with the last of them."""
_speaker: list[Espeak] = []
"""Whose callback, speed and voice it has now."""


class Espeak(TextToSpeech):
    """Clear, robotic, immediate: 100 languages, a few milliseconds to the first sound."""

    name = "espeak"
    lane = "cpu"
    rank = 1

    def __init__(self, voice: str = "en-us", speed: int = 170) -> None:
        self.voice = voice
        self.speed = speed
        self._library: Any = None
        self._callback: Any = None
        self._rate = 0
        self._known: dict[str, str] = {}
        self._chosen = ""
        self._sound = bytearray()
        self._words: list[tuple[int, int]] = []

    def available(self) -> str:
        """Neither the wheel nor the system has the library."""
        if importlib.util.find_spec("espeakng_loader") or ctypes.util.find_library("espeak-ng"):
            return ""
        return f"libespeak-ng is missing: {_REMEDY}"

    def load(self, model: Path | None) -> None:
        """Open the library: the wheel's, else the system's.

        Raises:
            EngineFailed: there is none, or it does not find its data.
        """
        library, data = _find()
        try:
            self._library = ctypes.CDLL(library)
        except OSError as error:
            raise EngineFailed(f"libespeak-ng cannot be loaded: {error}", hint=_REMEDY) from error
        self._library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
        self._library.espeak_Synth.argtypes = [
            ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint, ctypes.c_uint,
            ctypes.c_void_p, ctypes.c_void_p,
        ]
        if library not in _rates:
            rate = self._library.espeak_Initialize(SYNCHRONOUS, 60, data.encode() if data else None, DONT_EXIT)
            if rate <= 0:
                self._library = None
                raise EngineFailed("libespeak-ng does not find its data", hint="reinstall the package espeakng-loader")
            _rates[library] = rate
        self._rate = _rates[library]
        _users.add(self)
        self._callback = _SynthCallback(self._collect)

    def speak(self, text: str, voice: str) -> Iterator[AudioChunk]:
        """See ``TextToSpeech``. ``voice`` is a language or a voice, with a variant if wished: ``en-gb``, ``en-us+f3``.

        Raises:
            EngineFailed: there is no such voice, or the library fails.
        """
        size = int(self._rate * CHUNK_SECONDS) * 2
        for piece, places in pieces(text):
            self._take_over()
            self._choose(voice or self.voice)
            sound, words = self._synthesise(piece)
            marks = [(at, places[character]) for at, character in words if character < len(places)]
            for start in range(0, len(sound), size):
                last = start + size >= len(sound)
                yield AudioChunk(
                    pcm=sound[start : start + size],
                    sample_rate=self._rate,
                    words=tuple(
                        WordMark(sample=at - start // 2, character=character)
                        for at, character in marks
                        if start <= 2 * at and (last or 2 * at < start + size)
                    ),
                )

    def close(self) -> None:
        """Give the library's memory back, unless another voice of this process uses it."""
        if self in _speaker:
            _speaker.clear()
        if self in _users:
            _users.remove(self)
            if not _users:
                self._library.espeak_Terminate()
                _rates.clear()
        self._library = self._callback = None

    def _take_over(self) -> None:
        if self not in _speaker:
            self._library.espeak_SetSynthCallback(self._callback)
            self._library.espeak_SetParameter(RATE, self.speed, 0)
            self._chosen = ""
            _speaker[:] = [self]

    def voices(self) -> dict[str, str]:
        """The library's identifier for every name that ``speak`` takes: identifiers, names, languages."""
        found: dict[str, str] = {}
        for voice in self._listed(None):
            identifier = voice.identifier.decode()
            names = [identifier, identifier.rpartition("/")[2], voice.name.decode().strip()]
            for name in names + [language.decode() for language in _languages(voice)]:
                found.setdefault(name.lower(), identifier)
        return found

    def _listed(self, languages: bytes | None) -> Iterator[_Voice]:
        voices = self._library.espeak_ListVoices(ctypes.byref(_Voice(languages=languages)) if languages else None)
        at = 0
        while voices[at]:
            yield voices[at].contents
            at += 1

    def _choose(self, voice: str) -> None:
        if voice == self._chosen:
            return
        self._chosen = ""
        base, _, variant = voice.partition("+")
        self._known = self._known or self.voices()
        identifier = self._known.get(base.strip().lower(), "")
        if not identifier or self._library.espeak_SetVoiceByName(identifier.encode()) != 0:
            near = difflib.get_close_matches(base.lower(), self._known, 3, 0.5) or ["en-us", "en-gb", "de", "fr-fr"]
            raise EngineFailed(
                f"espeak has no voice named {voice!r}",
                hint=f"for example {', '.join(near)}; `espeak-ng --voices` lists all",
            )
        if variant:
            variants = {one.identifier.decode().rpartition("/")[2] for one in self._listed(b"variant")}
            if variant not in variants:
                near = difflib.get_close_matches(variant, variants, 3, 0.3) or ["f2", "m3"]
                raise EngineFailed(f"espeak has no variant named {variant!r}", hint=f"for example {', '.join(near)}")
            self._library.espeak_SetVoiceByName(f"{identifier}+{variant}".encode())
        self._chosen = voice

    def _synthesise(self, text: str) -> tuple[bytes, list[tuple[int, int]]]:
        """The sound, and the first sample and the first character of each word that the library tells apart."""
        self._sound.clear()
        self._words.clear()
        data = text.encode("utf-8", "replace") + b"\0"
        if self._library.espeak_Synth(data, len(data), 0, 1, 0, UTF8, None, None) != 0:
            raise EngineFailed("espeak could not speak the text")
        begins = [(at, len(text) - len(text[character:].lstrip())) for at, character in self._words]
        return bytes(self._sound), begins

    def _collect(self, samples: int | None, count: int, events: Any) -> int:
        if samples:
            self._sound += ctypes.string_at(samples, count * 2)
        at = 0
        while events and (event := events[at]).type != LAST_EVENT:
            if event.type == WORD_EVENT and event.text_position > 0:
                self._words.append((event.audio_position * self._rate // 1000, event.text_position - 1))
            at += 1
        return 0


def pieces(text: str) -> Iterator[tuple[str, list[int]]]:
    """``text`` in parts of at most ``PIECE_CHARACTERS``, cut after sentences if it can be, else clauses, else words.

    With each part comes the place in ``text`` of every character of it.
    """
    rest, places = _flat(text)
    while rest:
        end = len(rest)
        if end > PIECE_CHARACTERS:
            window = rest[: PIECE_CHARACTERS + 1]
            for mark in (r"[.!?…]\s", r"[,;:]\s", r"\s"):
                if ends := [found.end() for found in re.finditer(mark, window)]:
                    end = ends[-1]
                    break
            else:
                end = PIECE_CHARACTERS
        piece = rest[:end].strip()
        begin = rest.index(piece)
        if any(one.isalnum() for one in piece):
            yield piece, places[begin : begin + len(piece)]
        rest, places = rest[end:], places[end:]


def _flat(text: str) -> tuple[str, list[int]]:
    """``text`` with single spaces for all that cannot be said, none at its ends, and where each character was."""
    clean = "".join(one if one.isprintable() else " " for one in text)
    places: list[int] = []
    for word in re.finditer(r"\S+", clean):
        places += [word.start() - 1, *range(*word.span())] if places else range(*word.span())
    return "".join(clean[place] if not clean[place].isspace() else " " for place in places), places


def _languages(voice: _Voice) -> Iterator[bytes]:
    """The languages of a voice: each a priority byte and a string, the last followed by a zero byte."""
    address = ctypes.cast(ctypes.byref(voice, _Voice.languages.offset), ctypes.POINTER(ctypes.c_void_p))[0]
    while address and ctypes.string_at(address, 1) != b"\0":
        language = ctypes.string_at(address + 1)
        yield language
        address += len(language) + 2


def _find() -> tuple[str, str]:
    """Paths of the library and of its data; an empty data path is the library's own choice."""
    if importlib.util.find_spec("espeakng_loader"):
        import espeakng_loader

        return str(espeakng_loader.get_library_path()), str(espeakng_loader.get_data_path())
    return ctypes.util.find_library("espeak-ng") or "libespeak-ng.so.1", ""
