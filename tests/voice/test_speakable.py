"""Markdown answers become sentences for a voice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.voice.speakable import LONGEST_SENTENCE, LONGEST_WORD, SentenceSplitter, speakable

ANSWER = """# Weather

It is **3.5** degrees, e.g. cold. Dr. Smith agrees! See [the map. Now](https://x.y/a_(b)) or https://foo.bar/baz?q=1.

- First item
- Second *item* with `code_here`
1. Numbered one
2. Numbered two

```python
print("hi. There. ")
```
A hard wrapped paragraph that runs on and on and on until the margin
comes and then continues here. No. 5 is alive. No. It is not. Done 😀🎉

| a | b |
|---|---|
| 1 | 2 |

Name: Bob
Age: 5
"Stop!" he said. J. R. R. Tolkien wrote. 2 * 3 = 6 &amp; more. **Bold. Still bold.** End"""

SENTENCES = [
    "Weather",
    "It is 3.5 degrees, e.g. cold.",
    "Dr. Smith agrees!",
    "See the map. Now or link.",
    "First item",
    "Second item with code here",
    "Numbered one",
    "Numbered two",
    "A hard wrapped paragraph that runs on and on and on until the margin comes and then continues here.",
    "No. 5 is alive.",
    "No.",
    "It is not.",
    "Done",
    "a, b",
    "1, 2",
    "Name: Bob",
    "Age: 5",
    '"Stop!" he said.',
    "J. R. R. Tolkien wrote.",
    "2 times 3 = 6 & more.",
    "Bold.",
    "Still bold.",
    "End",
]


def split(text: str, size: int) -> list[str]:
    splitter = SentenceSplitter()
    sentences = [one for at in range(0, len(text), size) for one in splitter.feed(text[at : at + size])]
    return [*sentences, *splitter.flush()]


@pytest.mark.parametrize("size", [1, 2, 7, 100, 10_000])
def test_a_whole_answer_in_pieces_of_any_size(size: int) -> None:
    assert split(ANSWER, size) == SENTENCES


def test_a_sentence_comes_as_soon_as_the_next_one_begins() -> None:
    splitter = SentenceSplitter()
    assert splitter.feed("It is late. ") == []
    assert splitter.feed("G") == ["It is late."]
    assert splitter.feed("ood night.") == []
    assert splitter.flush() == ["Good night."]


def test_a_line_comes_with_the_start_of_the_next() -> None:
    splitter = SentenceSplitter()
    assert splitter.feed("- milk\n") == []
    assert splitter.feed("- ") == ["milk"]


def test_a_splitter_serves_again_after_a_flush() -> None:
    splitter = SentenceSplitter()
    assert splitter.feed("```\ncode never closed. Yes") == []
    assert splitter.flush() == []
    assert [*splitter.feed("Hello."), *splitter.flush()] == ["Hello."]


@pytest.mark.parametrize(
    ("markdown", "spoken"),
    [
        ("", ""),
        ("  \n\n ", ""),
        ("😀", ""),
        ("👩‍👩‍👧 family 🇫🇷 1️⃣", "family 1."),
        ("---\n***\n", ""),
        ("~~~\nx\n~~~\nafter", "after."),
        ("Use `ls -l` now", "Use ls -l now."),
        ("See ```inline``` here. Then more.", "See inline here. Then more."),
        ("Try this. ```ls``` lists files. Good.", "Try this. ls lists files. Good."),
        ("> quoted\n> more", "quoted. more."),
        ("- [x] done\n- [ ] open", "done. open."),
        ("![a cat](cat.png) sits", "a cat sits."),
        ("<https://a.b/c>. Next", "link. Next."),
        ("a<br>b", "a b."),
        ("It costs $3.50! Wow?! Yes...", "It costs $3.50! Wow?! Yes..."),
        ("At 5 p.m. we go. At 5 p.m. It rains.", "At 5 p.m. we go. At 5 p.m. It rains."),
        ("See fig. 3 and Fig. 4. End", "See fig. 3 and Fig. 4. End."),
        ("你好。再见!", "你好。 再见!"),
        ("snake_case and 5\\*3 and \\# not", "snake case and 5*3 and # not."),
        ("[1]: http://x.y\nFact.[^1]", "Fact."),
        ("Heading:\n\ntext", "Heading: text."),
        ("Mass is $E = mc^2$, and $$a_b$$ too", "Mass is E = mc^2, and a b too."),
        ("It is $3.50 or $4, US$5 or 5$", "It is $3.50 or $4, US$5 or 5$."),
        ("From A → B, then a -> b, p->x", "From A to B, then a to b, p->x."),
        ("→ next", "next."),
        ("Mail mailto:a@b.c?subject=x or see ftp://x.y/z", "Mail a@b.c or see link."),
        ("Paris[1][2] is big.[3] An x[1] is not", "Paris is big. An x[1] is not."),
        ("Fine :-) and good :smile: at 10:30 :D", "Fine and good at 10:30."),
        ("It is 21 °C, 5 km/h and 50%", "It is 21 °C, 5 km/h and 50%."),
        ("windows\r\nlines.\r\nTwo.", "windows lines. Two."),
    ],
)
def test_markup_is_not_spoken(markdown: str, spoken: str) -> None:
    assert speakable(markdown) == spoken


def test_abbreviations_that_may_end_a_sentence() -> None:
    assert split("At 5 p.m. we go. At 5 p.m. It rains.", 4) == ["At 5 p.m. we go.", "At 5 p.m.", "It rains."]


def test_a_sentence_without_end_is_cut_at_a_comma() -> None:
    pieces = split("one two three, " * 200, 5)
    assert all(len(piece) <= LONGEST_SENTENCE and piece.endswith("three,") for piece in pieces)
    assert sum(piece.count("three") for piece in pieces) == 200


def test_text_without_spaces_is_cut_in_the_end() -> None:
    pieces = split("x" * (3 * LONGEST_WORD), 100)
    assert "".join(pieces) == "x" * (3 * LONGEST_WORD)
    assert max(map(len, pieces)) <= LONGEST_WORD


@given(st.text(alphabet="ab.!? \n*_`~#-1|>[]()\"'A…😀", max_size=80), st.integers(1, 9))
def test_pieces_never_matter(text: str, size: int) -> None:
    assert split(text, size) == split(text, 1000)


@given(st.text(max_size=300))
def test_any_text_gives_printable_sentences(text: str) -> None:
    for sentence in split(text, 11):
        assert sentence.isprintable()
        assert sentence == sentence.strip() != ""
