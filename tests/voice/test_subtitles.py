"""Subtitles from segments."""

from __future__ import annotations

from assistant.engines import Segment, Transcript
from assistant.voice.subtitles import srt, vtt

TALK = Transcript(
    text="Hello. Tom & Jerry <3 --> you",
    segments=(
        Segment(start=0.0, end=1.9996, text=" Hello. "),
        Segment(start=59.9994, end=61.5, text="Tom & Jerry\n\n<3 --> you"),
        Segment(start=3725.0445, end=3725.0446, text="late"),
        Segment(start=3726.0, end=3727.0, text="  \n "),
    ),
    seconds=3730.0,
)


def test_srt() -> None:
    assert srt(TALK) == (
        "1\n00:00:00,000 --> 00:00:02,000\nHello.\n\n"
        "2\n00:00:59,999 --> 00:01:01,500\nTom & Jerry\n<3 → you\n\n"
        "3\n01:02:05,044 --> 01:02:05,045\nlate\n"
    )


def test_vtt() -> None:
    assert vtt(TALK) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:02.000\nHello.\n\n"
        "00:00:59.999 --> 00:01:01.500\nTom &amp; Jerry\n&lt;3 --&gt; you\n\n"
        "01:02:05.044 --> 01:02:05.045\nlate\n"
    )


def test_nothing_said() -> None:
    assert srt(Transcript(text="", seconds=3.0)) == ""
    assert vtt(Transcript(text="", seconds=3.0)) == "WEBVTT\n"


def test_text_without_segments_is_one_cue() -> None:
    assert srt(Transcript(text="Hi", seconds=1.5)) == "1\n00:00:00,000 --> 00:00:01,500\nHi\n"


def test_cues_are_in_order_and_never_negative() -> None:
    mixed = Transcript(
        text="a b",
        segments=(Segment(start=2.0, end=1.0, text="b"), Segment(start=-0.5, end=1.0, text="a")),
    )
    assert srt(mixed) == "1\n00:00:00,000 --> 00:00:01,000\na\n\n2\n00:00:02,000 --> 00:00:02,001\nb\n"


def test_a_hundred_hours() -> None:
    long = Transcript(text="x", segments=(Segment(start=360_000.0, end=360_001.0, text="x"),))
    assert "100:00:00,000 --> 100:00:01,000" in srt(long)
