"""Markdown answers as sentences that a voice can say, split while the answer still grows."""

from __future__ import annotations

import html
import re

LONGEST_SENTENCE = 400
"""Characters after which a sentence is cut at its last comma or space: a voice should not wait for ever."""

LONGEST_WORD = 2000
"""Characters after which text without any space is cut where it stands."""

STEP = 256
"""Characters of a long text that are looked at together."""

WRAPPED_LINE = 60
"""A line at least this long that ends in no punctuation goes on in the next line."""

_NEVER_LAST = re.compile(
    r"mr|mrs|ms|dr|prof|st|mt|messrs|e\.g|eg|i\.e|ie|vs|cf|viz|approx|gen|sen|rep|rev|hon|capt|sgt|lt|col"
    r"|jan|feb|mar|apr|jun|jul|aug|sept|oct|nov|dec", re.I
)
_LAST_BEFORE_CAPITAL = re.compile(r"etc|inc|ltd|co|corp|a\.m|p\.m|u\.s|u\.k|sr|jr|ph\.d|dept|est|min|max|al", re.I)
_BEFORE_NUMBER = re.compile(r"nos?|figs?|vol|ch|pp?|art|sec|nr", re.I)

_FENCE = re.compile(r"[ \t]{0,3}(```+(?=[^`]*$)|~~~+)")
_MAYBE_FENCE = re.compile(r"[ \t]{0,3}(?:`{1,2}$|~{1,2}$|```|~~~)")
_BLOCK_START = re.compile(r"[ \t]*(?:[-*+•][ \t]|\d{1,3}[.)][ \t]|#{1,6}[ \t]|>|\||```|~~~|[-*_=]{3,}[ \t]*$|$)")
_MAYBE_BLOCK_START = re.compile(r"[ \t]*(?:[-*+•]|\d{1,3}[.)]?|#{1,6}|`{1,2}|~{1,2}|[-*_=]*)$")
_CLOSED_LINE = re.compile(r"[ \t]*(?:#{1,6}[ \t]|\||\[[^\]]+\]:)")
_LIST_MARK = re.compile(r"^[ \t]*(?:[-*+•][ \t]+(?:\[[ xX]\][ \t]+)?|\d{1,3}[.)][ \t]+|#{1,6}[ \t]+|(?:>[ \t]?)+)")
_OPENERS = "*_\"'([“‘«"  # noqa: RUF001
_SENTENCE_END = re.compile(r"""(?:[.!?…]+["')\]*_~”’»]*(?=\s)|[。！？]+[」』”’）]*)""")  # noqa: RUF001
_LAST_BREAK = re.compile(r".*(?:[,;:，、；：](?=\D)|\s[-–—](?=\s))", re.S)  # noqa: RUF001

_RULE = re.compile(r"^[ \t]*(?:\|?[ \t]*:?-{2,}:?[ \t]*(?:\||$)[-:| \t]*|(?:[-*_=][ \t]*){3,})$")
_DEFINITION = re.compile(r"^[ \t]*\[[^\]]+\]:[ \t]*\S+.*$")
_LINK = re.compile(r"!?\[([^\]]*)\](?:\((?:[^()\s]|\([^()]*\))*(?:[ \t]+[\"'][^)]*)?\)|\[[^\]]*\])")
_FOOTNOTE = re.compile(r"\[\^[^\]]+\]")
_URL = re.compile(r"<?\b(?:(?:https?|ftp|file)://|www\.)[^\s<>]*[^\s<>.,;:!?)\]\"'*_]>?")
_CITATION = re.compile(r"(?<=[a-z.!?,;:\"')]{2})(?:\[\d{1,3}\])+(?!\()")
_MAIL = re.compile(r"<?\bmailto:([^\s<>?)]+)[^\s<>)]*>?")
_MATHS = re.compile(r"(\${1,2})(?!\d)(\S|\S[^$]*[^\s$])\1(?![\d$])")
_SMILEY = re.compile(r"(?<!\S)(?::[a-z][a-z0-9_+-]{1,30}:|[:;=]-?[()DPpo/|])(?=[\s.,!?]|$)")
_ARROW = re.compile(r"(?<=\S)(?:[ \t]*[\u2192\u21d2\u27f6\u2794][ \t]*|[ \t]+[-=]>[ \t]+)(?=\S)")
_TAG = re.compile(r"</?[A-Za-z][^<>\n]*>")
_ESCAPE = re.compile(r"\\([\\`*_{}\[\]()#+\-.!~|>])")
_EMOJI = re.compile(
    "[\U0001f000-\U0001fbff\u2190-\u21ff\u2300-\u23ff\u25a0-\u27bf\u2900-\u297f\u2b00-\u2bff\u3030\u303d"
    "\u200b-\u200d\u2060\u20e3\ufe0e\ufe0f\ufeff\U000e0020-\U000e007f]"
)


class SentenceSplitter:
    """Takes Markdown as it comes and gives whole sentences, plain, as soon as each is certain."""

    def __init__(self) -> None:
        self._raw = ""
        self._fence = ""
        self._line_start = True

    def feed(self, text: str) -> list[str]:
        """Take the next piece; returns the sentences that it completed, often none."""
        sentences: list[str] = []
        for start in range(0, len(text), STEP):
            self._raw += text[start : start + STEP].replace("\r", "")
            sentences += self._take(last=False)
        return sentences

    def flush(self) -> list[str]:
        """The text is over: returns what is left; the splitter may then be used again."""
        self._raw += "\n"
        sentences = self._take(last=True)
        self._raw, self._fence, self._line_start = "", "", True
        return sentences

    def _take(self, *, last: bool) -> list[str]:
        sentences: list[str] = []
        while self._raw:
            if self._fence or (self._line_start and _MAYBE_FENCE.match(self._raw)):
                line, newline, rest = self._raw.partition("\n")
                if not newline:
                    break
                if self._skips(line):
                    self._raw = rest
                    continue
            end = _end_of_sentence(self._raw, last=last)
            if end is None:
                break
            if sentence := _plain(self._raw[:end]):
                sentences.append(sentence)
            self._line_start = self._raw[end - 1] == "\n"
            self._raw = self._raw[end:] if self._line_start else self._raw[end:].lstrip(" \t")
        return sentences

    def _skips(self, line: str) -> bool:
        """Whether a whole line belongs to a block of code, which it may open or close."""
        mark = _FENCE.match(line)
        if not self._fence:
            self._fence = mark.group(1) if mark else ""
            return bool(mark)
        if mark and mark.group(1).startswith(self._fence) and not line[mark.end() :].strip():
            self._fence = ""
        return True


def speakable(text: str) -> str:
    """A whole Markdown answer as one line for a voice: no markup, code, addresses or emoji."""
    splitter = SentenceSplitter()
    sentences = [*splitter.feed(text), *splitter.flush()]
    return " ".join(one if one[-1] in ".!?…:;,。！？" else f"{one}." for one in sentences)  # noqa: RUF001


def _end_of_sentence(raw: str, *, last: bool) -> int | None:
    """Where the first sentence of ``raw`` ends; None while more text could still change that."""
    line_end = _end_of_block(raw, last=last)
    limit = len(raw) if line_end is None else line_end
    mark = _LIST_MARK.match(raw)
    for found in _SENTENCE_END.finditer(raw, mark.end() if mark else 0, limit):
        follower = raw[found.end() : limit].lstrip()
        if not follower.lstrip(_OPENERS) and (line_end is None or not follower):
            break
        if _really_ends(raw[: found.start()], found.group(), follower):
            return found.end()
    return line_end if line_end is not None else _cut(raw)


def _end_of_block(raw: str, *, last: bool) -> int | None:
    """The end of the paragraph, list item, heading or table row that ``raw`` begins with, its newline included."""
    start = 0
    while (newline := raw.find("\n", start)) >= 0:
        line, rest = raw[start:newline], raw[newline + 1 :]
        if not line.strip() or _CLOSED_LINE.match(line) or _RULE.match(line) or line.rstrip()[-1] in ".!?…:;|":
            return newline + 1
        following, complete, _ = rest.partition("\n")
        if not complete and not last and _MAYBE_BLOCK_START.match(following):
            return None
        if _BLOCK_START.match(following) or not _goes_on(line, following.lstrip()):
            return newline + 1
        start = newline + 1
    return None


def _goes_on(line: str, following: str) -> bool:
    return len(line) >= WRAPPED_LINE or following[0].islower()


def _really_ends(before: str, mark: str, follower: str) -> bool:
    first = follower.lstrip(_OPENERS)[:1]
    if first.islower() or _inside_brackets(before):
        return False
    if not mark.startswith(".") or mark.startswith(".."):
        return True
    word = re.split(r"[\s(\[\"'“*_/]", before)[-1]
    if len(word) == 1 and word.isupper() and word != "I":
        return False
    if _NEVER_LAST.fullmatch(word) or (first.isdigit() and _BEFORE_NUMBER.fullmatch(word)):
        return False
    return first.isupper() or not _LAST_BEFORE_CAPITAL.fullmatch(word)


def _inside_brackets(before: str) -> bool:
    """In the middle of inline code or of a link; a mark that is never closed counts no longer than a long sentence."""
    if len(before) > LONGEST_SENTENCE:
        return False
    return before.count("`") % 2 == 1 or before.count("[") > before.count("]") or before.rfind("](") > before.rfind(")")


def _cut(raw: str) -> int | None:
    if len(raw) <= LONGEST_SENTENCE:
        return None
    head = raw[:LONGEST_SENTENCE]
    if (found := _LAST_BREAK.match(head)) and found.end() > LONGEST_SENTENCE // 4:
        return found.end()
    space = max(head.rfind(" "), head.rfind("\n"))
    if space > 0:
        return space + 1
    return LONGEST_WORD if len(raw) > LONGEST_WORD else None


def _plain(raw: str) -> str:
    """One sentence without its markup; empty if nothing in it can be said."""
    lines = [line for line in raw.split("\n") if not _RULE.match(line) and not _DEFINITION.match(line)]
    text = " ".join(_cells(_LIST_MARK.sub("", line)) for line in lines)
    text = _LINK.sub(r"\1", _CITATION.sub("", _FOOTNOTE.sub("", text)))
    text = _TAG.sub(" ", _URL.sub(" link ", _MAIL.sub(r"\1", text)))
    text = _SMILEY.sub(" ", _ARROW.sub(" to ", _MATHS.sub(r"\2", text)))
    text = html.unescape(text)
    text = re.sub(r"(?<=\d)\s*\*\s*(?=\d)", " times ", text)
    text = re.sub(r"~(?=\d)", "about ", text)
    text = _ESCAPE.sub(r"\1", re.sub(r"(?<!\\)(?:[*`]|~~)+", "", text)).replace("_", " ")
    text = "".join(one if one.isprintable() else " " for one in _EMOJI.sub(" ", text))
    text = re.sub(r"\s+([,.;:!?…)](?:\s|$))", r"\1", " ".join(text.split()))
    return text.strip() if any(one.isalnum() for one in text) else ""


def _cells(line: str) -> str:
    if not line.lstrip().startswith("|"):
        return line
    return ", ".join(cell.strip() for cell in line.strip().strip("|").split("|") if cell.strip())
