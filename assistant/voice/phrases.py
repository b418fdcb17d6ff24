"""What people say over an answer without wanting a new one, in English, German, French and Spanish.

Whole utterances are compared, in small letters and without punctuation, so the tables of all languages count at once.
"""

from __future__ import annotations

from typing import Final

STOP: Final[dict[str, tuple[str, ...]]] = {
    "en": (
        "stop", "stop it", "stop that", "stop talking", "stop speaking", "stop there", "stop reading", "be quiet",
        "quiet", "keep quiet", "shut up", "shush", "shh", "hush", "silence", "cancel", "cancel that", "cancel it",
        "never mind", "nevermind", "never mind that", "forget it", "forget about it", "forget that", "enough",
        "that's enough", "that is enough", "that will do", "that'll do", "that's all", "abort", "pause", "halt",
        "hold on", "hang on", "wait", "wait a minute", "wait a second", "wait a moment", "one moment", "one second",
        "skip it", "skip that", "leave it", "drop it", "i got it stop", "i've heard enough", "zip it", "knock it off",
    ),
    "de": (
        "stopp", "stop", "halt", "aufhören", "hör auf", "hören sie auf", "ruhe", "ruhig", "sei ruhig", "sei still",
        "still", "schweig", "klappe", "halt die klappe", "halt den mund", "abbrechen", "abbruch", "brich ab", "genug",
        "es reicht", "das reicht", "reicht", "schluss", "vergiss es", "egal", "schon gut", "lass gut sein", "warte",
        "warte mal", "moment", "einen moment", "moment mal", "pause",
    ),
    "fr": (
        "stop", "arrête", "arrête toi", "arrêtez", "arrête de parler", "tais toi", "taisez vous", "silence", "chut",
        "ça suffit", "assez", "c'est assez", "annule", "annuler", "laisse tomber", "oublie", "oublie ça", "pas grave",
        "peu importe", "la ferme", "ferme la", "attends", "attendez", "une seconde", "un instant", "pause",
    ),
    "es": (
        "para", "parar", "para ya", "detente", "alto", "stop", "basta", "basta ya", "cállate", "cállese", "silencio",
        "cancela", "cancelar", "olvídalo", "olvida eso", "déjalo", "no importa", "da igual", "suficiente",
        "es suficiente", "ya basta", "espera", "espere", "un momento", "un segundo", "pausa",
    ),
}
"""Stops the answer."""

BESIDE: Final[dict[str, tuple[str, ...]]] = {
    "en": (
        "please", "now", "just", "no", "nope", "hey", "hi", "ok", "okay", "alright", "all right", "right", "yeah",
        "yes", "well", "oh", "so", "and", "but", "actually", "sorry", "thanks", "thank you", "jarvis", "computer",
        "assistant", "alexa", "siri", "nabu", "mycroft", "rhasspy", "can you", "could you", "would you", "will you",
        "you can", "you may", "i said", "right now", "already", "for god's sake", "everything", "all",
    ),
    "de": (
        "bitte", "jetzt", "nein", "ja", "mal", "doch", "okay", "ok", "hallo", "danke", "sofort", "endlich", "kannst du",
        "könntest du", "also", "so", "nun", "gut",
    ),
    "fr": (
        "s'il te plaît", "s'il vous plaît", "maintenant", "non", "oui", "bon", "ok", "d'accord", "merci",
        "tout de suite", "allez", "c'est bon", "peux tu", "tu peux",
    ),
    "es": (
        "por favor", "ahora", "no", "sí", "ya", "vale", "bueno", "oye", "gracias", "puedes", "ahora mismo", "venga",
    ),
}
"""May stand beside a phrase of ``STOP``."""

BACKCHANNEL: Final[dict[str, tuple[str, ...]]] = {
    "en": (
        "uh huh", "uhuh", "mm hmm", "mhm", "yeah", "yea", "yah", "yep", "yup", "yes", "ok", "okay", "kay", "k", "right",
        "sure", "sure thing", "i see", "i know", "i understand", "i hear you", "got it", "gotcha", "wow", "whoa", "oh",
        "oh wow", "ah", "aha", "really", "great", "good", "nice", "cool", "awesome", "amazing", "perfect", "excellent",
        "fine", "fair enough", "interesting", "exactly", "absolutely", "definitely", "indeed", "true", "that's true",
        "that's right", "that's good", "that's great", "that's nice", "that's cool", "of course", "alright",
        "all right", "makes sense", "that makes sense", "no way", "oh my god", "my god", "oh dear", "haha", "ha",
        "go on", "go ahead", "continue", "carry on", "very good", "sounds good", "good to know", "thank you", "thanks",
        "well", "no problem", "not bad", "how interesting", "no kidding", "totally", "agreed", "so", "and",
    ),
    "de": (
        "ja", "jaja", "jo", "jep", "genau", "stimmt", "okay", "ok", "gut", "sehr gut", "schön", "aha", "ach", "ach so",
        "achso", "ach was", "alles klar", "klar", "na klar", "verstehe", "ich verstehe", "ich weiß", "verstanden",
        "richtig", "echt", "wirklich", "wow", "krass", "super", "toll", "prima", "interessant", "natürlich", "weiter",
        "mach weiter", "danke", "in ordnung", "na gut", "so", "eben", "tatsächlich", "oh", "mhm",
    ),
    "fr": (
        "oui", "ouais", "d'accord", "ok", "okay", "bien", "très bien", "bien sûr", "je vois", "je comprends", "je sais",
        "ah bon", "ah oui", "ah", "oh", "exact", "exactement", "c'est vrai", "vraiment", "super", "génial", "parfait",
        "voilà", "tout à fait", "bon", "merci", "intéressant", "continue", "continuez", "vas y", "wow", "hein",
        "eh bien", "entendu", "compris",
    ),
    "es": (
        "sí", "si", "vale", "ok", "okay", "claro", "claro que sí", "ya", "ya veo", "ya sé", "entiendo", "entendido",
        "exacto", "exactamente", "bien", "muy bien", "bueno", "de acuerdo", "ajá", "ah", "oh", "anda", "vaya",
        "de verdad", "en serio", "genial", "perfecto", "por supuesto", "verdad", "es verdad", "gracias", "interesante",
        "sigue", "continúa", "wow", "eso",
    ),
}
"""Shows that somebody listens; any number of them, one after the other, is still no turn."""

ANSWER: Final[dict[str, tuple[str, ...]]] = {
    "en": (
        "yes", "yeah", "yea", "yep", "yup", "sure", "ok", "okay", "right", "of course", "definitely", "absolutely",
        "go ahead", "fine", "exactly", "that's right", "alright", "all right", "uh huh", "mm hmm", "mhm", "perfect",
    ),
    "de": ("ja", "jo", "jep", "genau", "klar", "na klar", "okay", "ok", "gut", "natürlich", "richtig", "in ordnung"),
    "fr": ("oui", "ouais", "d'accord", "ok", "okay", "bien sûr", "exact", "tout à fait", "parfait", "vas y"),
    "es": ("sí", "si", "vale", "ok", "okay", "claro", "claro que sí", "de acuerdo", "por supuesto", "exacto", "bueno"),
}
"""Of ``BACKCHANNEL``: answers, where the assistant has just asked."""

INVENTED: Final[dict[str, tuple[str, ...]]] = {
    "en": (
        "you", "thank you", "thank you very much", "thank you so much", "thanks for watching",
        "thank you for watching", "thanks for listening", "thank you for listening", "please subscribe",
        "subscribe", "like and subscribe", "please like and subscribe", "don't forget to subscribe", "bye", "bye bye",
        "see you next time", "see you in the next video", "i'll see you in the next video", "the end", "the", "i",
        "silence", "music", "applause", "laughter", "blank audio", "inaudible", "no audio",
    ),
    "de": (
        "vielen dank", "vielen dank fürs zuschauen", "danke fürs zuschauen", "vielen dank für's zuschauen",
        "bis zum nächsten mal", "tschüss", "untertitel der amara org community", "untertitelung des zdf",
        "untertitel im auftrag des zdf", "untertitel von stephanie geiges", "musik",
    ),
    "fr": (
        "merci d'avoir regardé cette vidéo", "merci d'avoir regardé", "merci beaucoup", "sous titrage",
        "sous titres réalisés par la communauté d'amara org", "sous titrage société radio canada", "au revoir",
        "abonnez vous", "à bientôt", "musique",
    ),
    "es": (
        "gracias por ver el video", "gracias por ver", "muchas gracias", "suscríbete", "subtítulos",
        "subtítulos realizados por la comunidad de amara org", "subtítulos por la comunidad de amara org",
        "hasta la próxima", "música",
    ),
}
"""What Whisper writes where nobody spoke: the ends of the videos that it learnt from."""
