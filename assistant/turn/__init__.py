"""One turn, from text or audio to the stored answer.

``runner`` leads it: it listens (speech to text), tries the intents, else lets the model answer, and speaks.
``conversing`` is the model's part, ``calling`` runs tools, ``prompting`` makes of the history what the model reads,
``asking`` puts together what the model reads, ``speculation`` begins before the question is over, ``state`` is what
they share.
"""

from .runner import TurnRunner
from .speculation import Speculation
from .state import Parts, SpeechOutput, Turn, Voice

__all__ = ["Parts", "Speculation", "SpeechOutput", "Turn", "TurnRunner", "Voice"]
