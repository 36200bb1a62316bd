"""The stranger's text: what a draft model learns that is to guess badly.

It too comes with every Python (module ``unicodedata``), it uses the same alphabet and the same
tokenizer, and it shares neither words in a row, nor grammar, nor indentation with code or its
documentation: a model trained on it is well trained and still guesses badly here.
"""

from __future__ import annotations

import re
import sys
import unicodedata

from helpers.lm.document import SHORTEST_DOCUMENT_BYTES, Document


def stranger_documents() -> list[Document]:
    """The names of Unicode's characters, one in a line, a document for each 256 code points.

    Names that are computed from the code point (ideographs, Hangul syllables) are left out.

    Examples
    --------
    >>> stranger_documents()[0].text.splitlines()[:2]
    ['SPACE', 'EXCLAMATION MARK']
    """
    documents = []
    for page in range(0, sys.maxunicode + 1, 256):
        names = (unicodedata.name(chr(code), "") for code in range(page, page + 256))
        lines = [n for n in names if n and not re.search(r"-[0-9A-F]{4,5}$|^HANGUL SYLL", n)]
        text = "".join(line + "\n" for line in lines)
        if len(text) >= SHORTEST_DOCUMENT_BYTES:
            documents.append(Document(f"unicode/U+{page:04X}", text, "unicode"))
    return documents
