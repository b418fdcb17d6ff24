"""What Whisper writes down when nobody speaks: the ends of the subtitled films that it learnt from."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .loudness import Loudness

DOUBTFUL = 0.3
"""No-speech probability above which a well-known invention is not believed."""

SOFT_RMS = 184
"""-45 dBFS: nor is one in something as soft as this."""

STEADY = 2.0
"""Speech is louder than its usual piece at times, by more than 6 dB; a fan or a hum is not."""

CREDITS = re.compile(
    r"amara\.org|zeoranger|subtitles? by|subtitled by|captions? by|transcri(?:bed|ption) by|copyright \d{4}|♪"
    r"|untertitel(?:ung)? (?:von|im auftrag|der)|sous-titr|sottotitoli|subtítulos|legendas pela|ondertitel|napisy"
    r"|субтитр|продолжение следует|字幕|ご視聴ありがとう|시청해\s*주셔서|mbc 뉴스",
    re.IGNORECASE,
)
"""Nobody says this to an assistant."""

FAREWELLS = frozenset(
    (
        "thank you", "thank you very much", "thank you so much", "thanks", "thanks for watching",
        "thank you for watching", "thank you for your watching", "please subscribe", "subscribe", "like and subscribe",
        "please like and subscribe", "see you next time", "see you in the next video", "i'll see you next time",
        "bye", "bye bye", "goodbye", "you", "so", "oh", "uh", "um", "hmm", "okay", "the", "i", "and", "yeah",
        "the end", "to be continued", "music", "applause", "silence", "laughter", "foreign", "blank audio",
        "vielen dank", "danke", "danke fürs zuschauen", "bis zum nächsten mal", "merci", "merci d'avoir regardé",
        "gracias", "gracias por ver", "gracias por ver el video", "obrigado", "grazie", "спасибо", "谢谢", "謝謝",
        "谢谢观看", "ありがとうございました", "감사합니다",
    )
)  # fmt: skip
"""Said by people too, so only taken for inventions where hardly anything is to be heard."""


def invented(text: str, no_speech: float, level: Loudness) -> bool:
    """Whether a segment's text is one of the well-known inventions, in audio that makes it one.

    Args:
        no_speech: Whisper's own probability that nobody speaks.
        level: of the audio.
    """
    if CREDITS.search(text):
        return True
    plain = " ".join(re.sub(r"[^\w' ]", " ", text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").lower()).split())
    if plain in FAREWELLS:
        return no_speech > DOUBTFUL or level.peak < SOFT_RMS or level.peak < STEADY * level.middle
    return not plain
