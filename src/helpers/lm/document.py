"""One text of the corpus: what every other module of the text takes and gives."""

from __future__ import annotations

import re
from dataclasses import dataclass

SHORTEST_DOCUMENT_BYTES = 200


@dataclass(frozen=True)
class Document:
    """One text: a topic, a source file, or the docstrings of a C module."""

    name: str
    text: str
    kind: str

    @property
    def bytes(self) -> int:
        """Length in UTF-8, what every figure per byte divides by."""
        return len(self.text.encode("utf-8"))


def clean(text: str) -> str:
    """Line ends as ``\\n``, no spaces at line ends, one line end at the end."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "")
    return re.sub(r"[ \t]+\n", "\n", text).strip("\n") + "\n"
