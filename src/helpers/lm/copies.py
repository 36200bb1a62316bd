"""Find what stands in the text twice, and take the second one out.

A model that is measured on a passage it was trained on is praised for its memory. So copies go
*before* the text is split, from the whole collection. The look sees runs of `SHINGLE_WORDS` words
and no others: a text changed at every twelfth word passes, and so may code with other names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from helpers.lm.document import SHORTEST_DOCUMENT_BYTES, Document, clean

SHINGLE_WORDS = 13  # words in a row that count as copied; below, languages simply repeat themselves
DUPLICATE_SHARE = 0.4  # a document with more of its words copied than this is dropped
LONGEST_COPY_WORDS = 60  # a longer copied passage is cut out of a document that stays


class Shingles:
    """The runs of `SHINGLE_WORDS` words seen so far; says which words of a text are copied.

    Words are what stands between white space, so neither indentation nor line breaks hide a copy.

    Examples
    --------
    >>> seen = Shingles(words=3)
    >>> seen.add("the quick brown fox jumps")
    >>> seen.copied("a quick   brown\\nfox sleeps").tolist()
    [False, True, True, True, False]
    """

    def __init__(self, words: int = SHINGLE_WORDS):
        self.words = words
        self._ids: dict[str, int] = {}
        self._seen: set[int] = set()
        # a sum of products modulo 2**64 names a run; the factors are odd and fixed
        factors = np.random.default_rng(0).integers(1, 2**62, words, dtype=np.uint64)
        self._factors = factors * np.uint64(2) + np.uint64(1)

    def _names(self, text: str) -> tuple[int, list[int]]:
        ids = [self._ids.setdefault(word, len(self._ids) + 1) for word in text.split()]
        if len(ids) < self.words:
            return len(ids), []
        # splitmix spreads the small numbers over 64 bits
        x = np.array(ids, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
        runs = np.lib.stride_tricks.sliding_window_view(x, self.words)
        return len(ids), (runs * self._factors).sum(axis=1, dtype=np.uint64).tolist()

    def add(self, text: str) -> None:
        """Remember the runs of a text."""
        self._seen.update(self._names(text)[1])

    def copied(self, text: str) -> np.ndarray:
        """For each word, whether it stands in a run that was seen before."""
        count, names = self._names(text)
        mask = np.zeros(count, dtype=bool)
        hits = np.array([name in self._seen for name in names], dtype=bool)
        for offset in range(self.words if len(names) else 0):
            mask[offset : offset + len(hits)] |= hits
        return mask


@dataclass
class Copies:
    """What `deduplicate` took out; goes into the data card."""

    same: int = 0  # documents equal to an earlier one but for white space
    near: int = 0  # documents mostly copied from earlier ones
    short: int = 0  # documents under SHORTEST_DOCUMENT_BYTES, before or after cutting
    docstrings: int = 0  # docstrings that stand in an earlier document
    passages: int = 0  # copied passages cut out of documents that stayed
    passage_bytes: int = 0
    dropped: list[str] = field(default_factory=list, repr=False)


def deduplicate(
    documents: Iterable[Document], seen: Shingles | None = None, copies: Copies | None = None
) -> list[Document]:
    """Take out copies, the longest document first, so that no passage stands in two documents.

    A word counts as copied if it stands in a run of 13 words that an earlier document holds.

    1. A document equal to an earlier one but for white space is dropped.
    2. One with more than 40% of its words copied is dropped (a near duplicate).
    3. From one that stays, every copied passage of more than 60 words is cut out, in whole lines.
    4. What is then under 200 bytes is no document.
    """
    seen = Shingles() if seen is None else seen
    copies = Copies() if copies is None else copies
    kept, texts = [], set()
    for document in sorted(documents, key=lambda d: (-len(d.text), d.name)):
        words = tuple(document.text.split())
        key = hashlib.sha256(" ".join(words).encode()).digest()
        if document.bytes < SHORTEST_DOCUMENT_BYTES:
            copies.short += 1
            continue
        if key in texts:
            copies.same += 1
            copies.dropped.append(document.name)
            continue
        copied = seen.copied(document.text)
        if copied.mean() > DUPLICATE_SHARE:
            copies.near += 1
            copies.dropped.append(document.name)
            continue
        texts.add(key)
        shorter, passages = cut(document.text, copied)
        copies.passages += passages
        copies.passage_bytes += len(document.text.encode()) - len(shorter.encode())
        document = replace(document, text=shorter)
        if document.bytes < SHORTEST_DOCUMENT_BYTES:
            copies.short += 1
            continue
        seen.add(document.text)
        kept.append(document)
    return kept


def cut(text: str, copied: np.ndarray) -> tuple[str, int]:
    """Remove the lines of every copied passage of more than `LONGEST_COPY_WORDS` words."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], copied.astype(np.int8), [0]])))
    passages = [(a, b) for a, b in edges.reshape(-1, 2) if b - a > LONGEST_COPY_WORDS]
    if not passages:
        return text, 0
    gone = np.zeros(len(copied), dtype=bool)
    for start, stop in passages:
        gone[start:stop] = True
    lines, position = [], 0
    for line in text.splitlines(keepends=True):
        count = len(line.split())
        # a line with one word of the passage goes: nothing of it may stay at either end
        if not gone[position : position + count].any():
            lines.append(line)
        position += count
    return clean("".join(lines)), len(passages)
