"""The tone of the prose: no exclamation marks, no filler, no sentence that loses the reader."""

from __future__ import annotations

import re

from gates.core import Book, Defect

WORDS_IN_A_SENTENCE = 45

#: words that say nothing, and what to do instead
FILLER: dict[str, str] = {
    r"delve[sd]?|delving": "say what is done",
    r"crucial(?:ly)?": "say what fails without it",
    r"leverag(?:e|es|ed|ing)": "use",
    r"seamless(?:ly)?": "say what happens",
    r"simply": "leave it out",
    r"obviously|of course|needless to say": "if it is, leave it out; if not, show it",
    r"in today'?s|in today’s": "give the date",
    r"fast-paced|ever-evolving|ever-changing|cutting-edge": "say what it does",
    r"state-of-the-art|game[- ]chang\w+": "say what it does",
    r"utili[sz]e[sd]?|utili[sz]ing": "use",
    r"robust(?:ly)?|powerful|comprehensive|holistic": "say what it withstands, does, or covers",
    r"it is important to note|it should be noted|note that it": "leave it out",
    r"dive in(?:to)?|deep dive": "say what is done",
    r"unlock(?:s|ed|ing)? the|harness(?:es|ed|ing)? the": "say what is done",
    r"in this \w+,? we (?:will )?(?:explore|discuss|cover|look at)": "start with the matter",
    r"plays? an? (?:vital|key|important|significant) role": "say which",
    r"a testament to|tapestry|landscape of|realm of": "leave it out",
    r"vast majority": "give the share",
    r"very unique|blazing(?:ly)?(?: fast)?|supercharge\w*": "give the number",
}
_FILLER = {re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE): why for pattern, why in FILLER.items()}
_SENTENCE_END = re.compile(r"(?<=[.?!:;])[\"”’)]*\s+(?=[\"“(\ufffcA-Z0-9*])|\n\n")


def check(book: Book) -> list[Defect]:
    """Report marks, words and sentences that the book's style forbids."""
    found = []
    for file, _, document in book.prose():
        for text in document.texts:
            words = text.text
            if re.search(r"!(?!=)", words):
                found.append(
                    Defect(file, text.line, f"an exclamation mark: {words.strip()[:60]!r}")
                )
            for pattern, why in _FILLER.items():
                for match in pattern.finditer(words):
                    line = text.line + words[: match.start()].count("\n")
                    found.append(Defect(file, line, f"filler: {match[0]!r}; {why}"))
            for sentence in _SENTENCE_END.split(words):
                length = len(re.findall(r"[\w\ufffc][\w'’,.-]*", sentence))
                if length > WORDS_IN_A_SENTENCE:
                    line = text.line + words[: words.find(sentence)].count("\n")
                    start = " ".join(sentence.replace("\ufffc", "…").split()[:8])
                    found.append(
                        Defect(
                            file,
                            line,
                            f"a sentence of {length} words (at most {WORDS_IN_A_SENTENCE}): "
                            f'"{start} …"',
                        )
                    )
    return found


# ---- planted defects ---------------------------------------------------------------------------


def an_exclamation_mark(book: Book) -> str:
    return book.append("chapters/how-to-use.md", "\n\nThis is fast!\n")


def filler(book: Book) -> str:
    return book.append("chapters/how-to-use.md", "\n\nWe delve into caches.\n")


def a_long_sentence(book: Book) -> str:
    return book.append("chapters/how-to-use.md", "\n\nWe count " + "and count " * 30 + "bytes.\n")


PLANTS = (an_exclamation_mark, filler, a_long_sentence)
