"""Transcripts as subtitles: SubRip and WebVTT."""

from __future__ import annotations

import html
from collections.abc import Iterator

from assistant.engines import Segment, Transcript

SHORTEST_MS = 1
"""A cue that would end before it begins lasts this long: players drop an empty one."""


def srt(transcript: Transcript) -> str:
    """The transcript as SubRip (.srt); empty when nothing was said."""
    cues = [
        f"{number}\n{_time(start, ',')} --> {_time(end, ',')}\n{text.replace('-->', '→')}\n"
        for number, (start, end, text) in enumerate(_cues(transcript), 1)
    ]
    return "\n".join(cues)


def vtt(transcript: Transcript) -> str:
    """The transcript as WebVTT (.vtt), ``&``, ``<`` and ``>`` escaped."""
    cues = [
        f"{_time(start, '.')} --> {_time(end, '.')}\n{html.escape(text, quote=False)}\n"
        for start, end, text in _cues(transcript)
    ]
    return "\n".join(["WEBVTT\n", *cues])


def _cues(transcript: Transcript) -> Iterator[tuple[int, int, str]]:
    """Start and end in milliseconds, in order, and text without blank lines, which would end a cue."""
    segments = transcript.segments or (Segment(start=0.0, end=transcript.seconds, text=transcript.text),)
    for segment in sorted(segments, key=lambda one: one.start):
        text = "\n".join(line.strip() for line in segment.text.splitlines() if line.strip())
        if text:
            start = max(round(segment.start * 1000), 0)
            yield start, max(round(segment.end * 1000), start + SHORTEST_MS), text


def _time(milliseconds: int, point: str) -> str:
    seconds, thousandths = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{thousandths:03}"
