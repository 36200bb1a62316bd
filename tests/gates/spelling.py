"""No word that is a known misspelling, in prose and in the catalog's texts."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import codespell_lib

from gates.core import ROOT, Book, Defect

#: words of the field that the list of misspellings takes for mistakes
FIELD_WORDS = ROOT / "tests" / "text" / "words.txt"
_WORD = re.compile(r"(?<![\w/%-])[A-Za-z][A-Za-z'’]+")


@cache
def misspellings() -> dict[str, str]:
    """Misspelling -> what was meant."""
    folder = Path(codespell_lib.__file__).parent / "data"
    known = {}
    for line in (folder / "dictionary.txt").read_text("utf-8").splitlines():
        wrong, _, right = line.partition("->")
        known[wrong] = right.rstrip(",")
    for word in FIELD_WORDS.read_text("utf-8").split():
        known.pop(word.lower(), None)
    return known


def _wrong(text: str) -> list[str]:
    known = misspellings()
    return [
        f"{word!r}: did you mean {known[word.lower()]}?"
        for word in _WORD.findall(text)
        if word.lower() in known and not word.isupper()
    ]


def check(book: Book) -> list[Defect]:
    """Report misspelled words of pages, notebooks' Markdown and the catalog's YAML files."""
    found = []
    for file, _, document in book.prose():
        for text in document.texts:
            found += [Defect(file, text.line, fault) for fault in _wrong(text.text)]
    for name in book.files("src/helpers/catalog/data", "README.md", "CONTRIBUTING.md"):
        if name.endswith((".yaml", ".md")):
            for number, line in enumerate(book.text(name).splitlines(), 1):
                found += [Defect(name, number, fault) for fault in _wrong(line)]
    return found


# ---- planted defects ---------------------------------------------------------------------------


def on_a_page(book: Book) -> str:
    return book.append("index.md", "\n\nThey recieve teh bytes.\n")  # codespell:ignore


def in_a_question(book: Book) -> str:
    return book.append(
        "src/helpers/catalog/data/questions/roofline.yaml", "\n# seperate\n"
    )  # codespell:ignore


PLANTS = (on_a_page, in_a_question)
