"""Microphones and loudspeakers: for one piece of speech, and for listening always.

    player       plays chunks of speech and waits for the end
    ports        what PortAudio knows: devices by name, streams, its list made anew
    system       whether the machine's devices have changed, which PortAudio does not tell
    framing      from a callback's blocks to frames of 10 ms at 16 kHz
    ring         bytes from a callback to a thread
    microphone   frames of 10 ms from an input device
    loudspeaker  pulls its sound for an output device, and keeps what it played
    pairing      which frame of the loudspeaker belongs to which of the microphone
    health       whether a device delivers, and when to try again
    listening    keeps a microphone open: notices trouble, says so, reopens
    playing      the same for a loudspeaker, which rests while there is nothing to play
    keeper       both together, for they share PortAudio's list
    realtime     the thread that all this runs in
"""

from .loudspeaker import Loudspeaker
from .microphone import Microphone
from .player import Player, why_not
from .ports import device_names
from .realtime import RealtimeAudio

__all__ = ["Loudspeaker", "Microphone", "Player", "RealtimeAudio", "device_names", "why_not"]
