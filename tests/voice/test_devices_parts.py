"""The parts of the audio devices that need none: ring, frames, pairs, watch, back-off, pace."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.errors import AudioError
from assistant.voice.devices.framing import Framing, Resampler
from assistant.voice.devices.health import (
    FIRST_BLOCKS,
    FIRST_SECONDS,
    RETRY_SECONDS,
    SILENT_LIMIT,
    SILENT_SECONDS,
    STALL_SECONDS,
    Backoff,
    Pacer,
    Watch,
)
from assistant.voice.devices.pairing import LIMIT, WINDOW, Pairing
from assistant.voice.devices.player import why_not
from assistant.voice.devices.ports import device_names, find
from assistant.voice.devices.ring import Ring
from assistant.voice.devices.system import fingerprint
from assistant.voice.frames import FRAME, FRAME_BYTES, FRAME_SECONDS, RATE, SILENCE


@given(st.lists(st.one_of(st.binary(max_size=12), st.integers(0, 12)), max_size=60))
def test_a_ring_gives_back_what_it_took_in_order(steps: list[bytes | int]) -> None:
    ring, expected = Ring(16), deque[int]()
    for step in steps:
        if isinstance(step, bytes):
            fits = len(step) <= 16 - len(expected)
            assert ring.write(step) == fits
            expected.extend(step if fits else b"")
        else:
            count = min(step, len(expected))
            assert ring.read(step) == bytes(expected.popleft() for _ in range(count))
        assert len(ring) == len(expected)


@pytest.mark.parametrize("steady", [False, True])
@pytest.mark.parametrize(("rate", "channels"), [(44_100, 1), (48_000, 2), (24_000, 1), (16_000, 1), (16_000, 2)])
def test_blocks_become_frames_at_16_khz(rate: int, channels: int, steady: bool) -> None:
    """A tone on the first channel, with another on the second, which is not heard."""
    seconds = np.arange(rate) / rate
    tones = [np.sin(2 * np.pi * pitch * seconds) * 10_000 for pitch in (440, 3_000)[:channels]]
    samples = np.stack(tones, axis=1).astype(np.int16)
    block = rate // 50
    framing, frames, times = Framing(rate, channels, block, 3, steady=steady), [], []
    for number in range(50):
        assert framing.put(samples[number * block : (number + 1) * block].tobytes(), 100 + (number + 1) * 0.02)
        while (frame := framing.take()) is not None:
            assert len(frame) == FRAME_BYTES
            frames.append(frame)
            times.append(framing.at)
    assert len(frames) >= 96
    heard = np.frombuffer(b"".join(frames[5:95]), np.int16).astype(float)
    phase = 2 * np.pi * 440 * (np.arange(len(heard)) + 5 * FRAME) / RATE
    sine, cosine = 2 * np.mean(heard * np.sin(phase)), 2 * np.mean(heard * np.cos(phase))
    assert np.hypot(sine, cosine) == pytest.approx(10_000, rel=0.01)
    assert abs(np.arctan2(cosine, sine)) / (2 * np.pi * 440) < 0.00015
    assert np.abs(heard - sine * np.sin(phase) - cosine * np.cos(phase)).max() < 50
    assert times == pytest.approx([100 + (number + 1) * FRAME_SECONDS for number in range(len(times))], abs=1e-4)


def test_a_steady_resampler_gives_for_each_block_what_it_is_worth() -> None:
    resampler = Resampler(44_100, steady=True)
    lengths = {len(resampler.process(bytes(2 * 882))) for _ in range(50)} - {2 * 102}
    assert lengths == {2 * 320}
    assert resampler.delay == pytest.approx((320 - 102) / RATE)


def test_framing_counts_the_run_of_zeros_and_refuses_what_does_not_fit() -> None:
    framing = Framing(RATE, 1, 2 * FRAME, 2)
    zeros, sound = bytes(2 * FRAME_BYTES), b"\0" * (2 * FRAME_BYTES - 2) + b"\1\0"
    assert framing.put(zeros, 1.0)
    assert framing.put(zeros, 2.0)
    assert not framing.put(sound, 3.0)
    for _ in range(4):
        framing.take()
    assert framing.zeros_seconds == pytest.approx(0.04)
    assert not framing.sounded
    assert framing.put(sound, 4.0)
    framing.take()
    assert (framing.zeros_seconds, framing.sounded) == (0.0, True)
    assert framing.take() == sound[FRAME_BYTES:]
    assert framing.take() is None


def numbered(number: int) -> bytes:
    return number.to_bytes(2, "little") * FRAME


def test_the_first_pair_is_made_by_its_time_and_the_others_follow() -> None:
    pairing = Pairing()
    for number in range(1, 9):
        pairing.add(numbered(number), at=5.0 + number * FRAME_SECONDS)
    paired = [pairing.take(4.98 + number * FRAME_SECONDS + 0.001) for number in range(8)]
    assert paired == [SILENCE] * 3 + [numbered(number) for number in range(1, 6)]
    assert (pairing.dropped, pairing.missing, len(pairing)) == (0, 0, 3)


def test_what_was_played_before_the_microphone_opened_is_left_out() -> None:
    pairing = Pairing()
    for number in range(1, 9):
        pairing.add(numbered(number), at=5.0 + number * FRAME_SECONDS)
    assert pairing.take(5.001 + 5 * FRAME_SECONDS) == numbered(5)
    assert pairing.dropped == 4
    pairing.realign()
    assert pairing.take(5.001 + 8 * FRAME_SECONDS) == numbered(8)


def test_a_gap_is_filled_with_silence_and_counted_only_if_the_sound_goes_on() -> None:
    pairing = Pairing()
    pairing.add(numbered(1), 0.0)
    assert [pairing.take(0.0) for _ in range(3)] == [numbered(1), SILENCE, SILENCE]
    assert pairing.missing == 0
    pairing.add(numbered(2), 0.03)
    assert pairing.missing == 2
    assert pairing.take(0.03) == numbered(2)
    assert [pairing.take(0.04) for _ in range(LIMIT)] == [SILENCE] * LIMIT
    pairing.add(numbered(3), 9.0)
    assert pairing.missing == 2
    assert pairing.take(8.0) == SILENCE


@pytest.mark.parametrize("sound", [True, False])
def test_two_clocks_never_drift_apart_by_more_than_200_ms(sound: bool) -> None:
    """The loudspeaker's is 1 % ahead for 2 minutes."""
    pairing, longest = Pairing(), 0
    for number in range(12_000):
        for _ in range(2 if number % 100 == 0 else 1):
            pairing.add(numbered(7) if sound else SILENCE, number * FRAME_SECONDS)
        pairing.take(number * FRAME_SECONDS)
        pairing.bound()
        longest = max(longest, len(pairing))
    assert pairing.dropped >= 90
    assert longest <= (9 if sound else 6)


def test_what_the_microphone_skipped_is_skipped_in_what_was_played() -> None:
    pairing = Pairing()
    for number in range(4 * WINDOW):
        pairing.add(numbered(number), number * FRAME_SECONDS)
        if not WINDOW + 20 <= number < WINDOW + 35:
            last = pairing.take(number * FRAME_SECONDS + 0.001)
    assert last == numbered(4 * WINDOW - 1)
    assert pairing.dropped == 15


def test_a_device_that_delivers_is_well_whatever_the_process_slept() -> None:
    watch = Watch()
    watch.restart(10.0)
    for step in range(1, 200):
        assert watch.judge(10 + step * 0.02, step, ended=False) is None
    assert watch.judge(100.0, 199, ended=False) is None
    assert watch.judge(100.1, 200, ended=False) is None
    assert watch.judge(100.2, 200, ended=True) == "gone"


@pytest.mark.parametrize(
    ("blocks", "patience"), [(0, FIRST_SECONDS), (FIRST_BLOCKS, FIRST_SECONDS), (99, STALL_SECONDS)]
)
def test_a_device_that_stops_delivering_has_stalled(blocks: int, patience: float) -> None:
    watch = Watch()
    watch.restart(0.0)
    watch.judge(0.0, blocks, ended=False)
    found = [watch.judge(step * 0.1, blocks, ended=False) for step in range(1, 60)]
    assert found.index("stalled") == round(patience * 10)


def test_zeros_are_a_trouble_after_two_seconds_and_later_for_a_device_that_returns_by_itself() -> None:
    watch = Watch()
    watch.restart(0.0)
    assert watch.judge(1.0, 1, ended=False, zeros=SILENT_SECONDS) is None
    assert watch.judge(1.1, 2, ended=False, zeros=SILENT_SECONDS + 0.02) == "silent"
    watch.returned()
    watch.restart(2.0)
    assert watch.judge(2.1, 3, ended=False, zeros=2 * SILENT_SECONDS) is None
    assert watch.judge(2.2, 4, ended=False, zeros=2 * SILENT_SECONDS + 0.02) == "silent"
    for _ in range(20):
        watch.returned()
    assert watch.judge(2.3, 5, ended=False, zeros=SILENT_LIMIT + 0.1) == "silent"


def test_back_off_grows_to_five_seconds_and_begins_again() -> None:
    backoff, now, waits = Backoff(RETRY_SECONDS), 100.0, []
    assert backoff.due(now)
    for _ in range(7):
        backoff.plan(now)
        tenths = next(tenths for tenths in range(1000) if backoff.due(now + tenths / 20))
        waits.append(tenths / 20)
        now += tenths / 20
    assert waits == [0.25, 0.5, 1.0, 2.0, 5.0, 5.0, 5.0]
    backoff.reset()
    assert backoff.due(now)


def test_the_pace_without_a_device_is_that_of_time() -> None:
    pacer = Pacer()
    assert pacer.due(50.0) == []
    assert pacer.due(50.025) == pytest.approx([50.01, 50.02])
    assert pacer.due(50.03) == pytest.approx([50.03])
    late = pacer.due(90.0)
    assert len(late) == Pacer.LIMIT
    assert late[-1] == pytest.approx(90.0)
    assert pacer.due(90.01) == pytest.approx([90.01])
    pacer.stop()
    assert pacer.due(100.0) == []


def test_the_devices_of_this_machine_can_be_named_or_it_is_said_why_not() -> None:
    """Whatever machine this is: what is listed is found by a part of its name, and a wrong name lists them."""
    if "package" in why_not() or "library" in why_not():
        with pytest.raises(AudioError, match="cannot be used"):
            device_names("output")
        return
    names = device_names("output")
    for name in names:
        assert find("output", name[: len(name) // 2 + 1].upper()).name in names
    with pytest.raises(AudioError, match='no loudspeaker has "no such thing"') as caught:
        find("output", "no such thing")
    assert all(name in caught.value.hint for name in names)


def test_the_fingerprint_of_the_devices_stays_while_nothing_changes() -> None:
    assert fingerprint() == fingerprint()
