"""The loudspeaker, on machines with one and without."""

from __future__ import annotations

import pytest

from assistant.engines import AudioChunk
from assistant.errors import AudioError
from assistant.voice.devices import Player, why_not

SILENCE = AudioChunk(pcm=bytes(4_410), sample_rate=22_050)


def test_playing_works_exactly_when_nothing_speaks_against_it() -> None:
    reason = why_not()
    if not reason:
        with Player() as player:
            player.play(SILENCE)
            player.play(AudioChunk(pcm=bytes(3_200), sample_rate=16_000))
        return
    with pytest.raises(AudioError, match="could not be played") as caught, Player() as player:
        player.play(SILENCE)
    assert caught.value.hint == reason


def test_stopping_what_never_played() -> None:
    player = Player()
    player.stop()
    with player:
        pass
