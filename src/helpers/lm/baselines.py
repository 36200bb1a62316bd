"""What a language model has to beat: a compressor, and counting.

Everything is in bits per byte of the same held-out documents. ``xz -9`` knows nothing but what it
has seen of the data itself (or of the training text, if that is put before); the 5-gram model is
the best that counting does, on the same tokens as the model.
"""

from __future__ import annotations

import lzma
from collections.abc import Iterable, Sequence

import numpy as np

from helpers.lm.text import Corpus, Document
from helpers.lm.tokenizer import Tokenizer

XZ_WINDOW_BYTES = 64 * 2**20  # how far back preset 9 looks


# --- xz ---------------------------------------------------------------------------------------


def xz_bytes(data: bytes) -> int:
    """Size of ``data`` after ``xz -9`` (without ``-e``), container and checksum included."""
    return len(lzma.compress(data, preset=9))


def xz_per_document(documents: Iterable[Document]) -> float:
    """Bits per byte if each document is compressed alone: what needs no other text.

    Examples
    --------
    >>> round(xz_per_document([Document("a", "abcdefgh" * 1000, "source")]), 2)
    0.11
    """
    data = [document.text.encode("utf-8") for document in documents]
    return 8 * sum(map(xz_bytes, data)) / _length(data)


def xz_pooled(documents: Iterable[Document]) -> float:
    """Bits per byte if all documents are compressed as one stream: later ones profit from earlier.

    A language model that starts anew with each document has no such help.
    """
    data = [document.text.encode("utf-8") for document in documents]
    return 8 * xz_bytes(b"".join(data)) / _length(data)


def xz_primed(documents: Iterable[Document], training: Iterable[Document]) -> float:
    """Bits per byte that the documents add to the compressed training text.

    The size of training text and documents, in one stream, less that of the training text: like
    the model, the compressor has then seen what there is to learn from.

    Raises
    ------
    ValueError
        If both together are longer than the window, so that the first text would be forgotten.
    """
    data = [document.text.encode("utf-8") for document in documents]
    before = b"".join(document.text.encode("utf-8") for document in training)
    after = before + b"".join(data)
    if len(after) > XZ_WINDOW_BYTES:
        raise ValueError(
            f"training text and documents have {len(after):,} bytes; xz -9 looks back "
            f"{XZ_WINDOW_BYTES:,}"
        )
    return 8 * (xz_bytes(after) - xz_bytes(before)) / _length(data)


def _length(data: Sequence[bytes]) -> int:
    length = sum(map(len, data))
    if not length:
        raise ValueError("documents hold no text: nothing to measure")
    return length


# --- counting ---------------------------------------------------------------------------------


class KneserNey:
    """An n-gram model with interpolated, modified Kneser-Ney smoothing.

    After Chen and Goodman, *An empirical study of smoothing techniques for language modeling*
    (1999), section 4.1.6. The probability of a token after a context of n - 1 tokens is its count
    less a discount, over the count of the context; what the discounts leave is shared out in
    proportion to the model of the context without its first token, down to the uniform model::

        p(w | context) = (c - D(c)) / total + left / total * p(w | shorter context)

    The longest n-grams count how often they occur; shorter ones in how many n-grams one token
    longer they are the end, that is, after how many different tokens. D takes three values, for
    c of 1, 2, and 3 or more, from the numbers of n-grams that occur once to four times.

    An n-gram is one integer: tokens side by side, each in the bits that the vocabulary needs.

    Parameters
    ----------
    documents : iterable of sequences of int
        Training text in tokens. Each document is preceded by n - 1 end tokens, followed by one.
    vocabulary : int
        Number of tokens.
    order : int
        n, the context and the token predicted.
    end : int
        The end-of-text token.

    Examples
    --------
    >>> model = KneserNey([[1, 2, 3, 1, 2, 3, 1, 2]], vocabulary=5, order=3)
    >>> bool(model.probability([1, 2], 3) > model.probability([1, 2], 1))
    True
    >>> round(sum(model.probability([1, 2], token) for token in range(5)), 12)
    1.0
    """

    def __init__(
        self,
        documents: Iterable[Sequence[int]],
        vocabulary: int,
        order: int = 5,
        end: int = 0,
    ):
        self.vocabulary, self.order, self.end = vocabulary, order, end
        self._bits = max(1, (vocabulary - 1).bit_length())
        if order < 1 or order * self._bits > 63:
            raise ValueError(
                f"order must be 1 to {63 // self._bits} for a vocabulary of {vocabulary}, so that "
                f"an n-gram fits 63 bits: {order}"
            )
        packed = [self._pack(self._events([*tokens, end])) for tokens in documents]
        if not packed:
            raise ValueError("documents is empty: nothing to count")
        # the longest n-grams with their counts, then, from each length, the next shorter one
        grams, counts = np.unique(np.concatenate(packed), return_counts=True)
        self._levels = [Level(grams, counts, self._bits)]
        for length in range(order - 1, 0, -1):
            grams, counts = np.unique(self._last(grams, length), return_counts=True)
            self._levels.append(Level(grams, counts, self._bits))
        self._levels.reverse()  # unigrams first

    def _events(self, tokens: Sequence[int]) -> np.ndarray:
        """Each token with the n - 1 before it: ``[T] -> [T, n]``."""
        stream = np.array([self.end] * (self.order - 1) + list(tokens), dtype=np.int64)
        if stream.min() < 0 or stream.max() >= self.vocabulary:
            raise ValueError(
                f"documents hold a token outside 0 to {self.vocabulary - 1}: "
                f"{stream.min() if stream.min() < 0 else stream.max()}"
            )
        return np.lib.stride_tricks.sliding_window_view(stream, self.order)

    def _pack(self, events: np.ndarray) -> np.ndarray:
        """Tokens side by side in one integer, the last in the lowest bits: ``[T, n] -> [T]``."""
        packed = np.zeros(len(events), dtype=np.int64)
        for column in events.T:
            packed = (packed << self._bits) | column
        return packed

    def _last(self, packed: np.ndarray, length: int) -> np.ndarray:
        """The last ``length`` tokens of packed n-grams."""
        return packed & ((1 << (length * self._bits)) - 1)

    def _probabilities(self, packed: np.ndarray) -> np.ndarray:
        """Probability of the last token of each packed n-gram after the tokens before it."""
        p = np.full(len(packed), 1.0 / self.vocabulary)
        for length, level in enumerate(self._levels, start=1):
            p = level.refine(self._last(packed, length), p)
        return p

    def probability(self, context: Sequence[int], token: int) -> float:
        """Probability of ``token`` after ``context`` (its last n - 1 tokens count)."""
        events = self._events([*context, token])
        return float(self._probabilities(self._pack(events[-1:]))[0])

    def document_bits(self, documents: Iterable[Sequence[int]]) -> np.ndarray:
        """Bits the model needs for each document; the end of text is not counted."""
        return np.array(
            [
                -np.log2(self._probabilities(self._pack(self._events(tokens)))).sum()
                if len(tokens)
                else 0.0
                for tokens in documents
            ]
        )

    def bits_per_byte(self, documents: Iterable[Document], tokenizer: Tokenizer) -> float:
        """Bits per byte of text, all bits over all bytes."""
        documents = list(documents)
        length = _length([document.text.encode("utf-8") for document in documents])
        tokens = tokenizer.encode_many([document.text for document in documents])
        return float(self.document_bits(tokens).sum() / length)


class Level:
    """The n-grams of one length: discounted counts, and what each context has left to give."""

    def __init__(self, grams: np.ndarray, counts: np.ndarray, bits: int):
        self.grams, self._shift = grams, bits
        self.discounts = discounts(counts)  # D(1), D(2), D(3 and more)
        taken = self.discounts[np.minimum(counts, 3) - 1]
        self.kept = counts - taken
        # grams are sorted, so those of one context stand side by side
        self.contexts, first = np.unique(grams >> bits, return_index=True)
        self.totals = np.add.reduceat(counts, first).astype(float)
        self.left = np.add.reduceat(taken, first)

    def refine(self, grams: np.ndarray, shorter: np.ndarray) -> np.ndarray:
        """Probabilities at this length from those of the shorter context."""
        at, known = _find(self.contexts, grams >> self._shift)
        total = np.where(known, self.totals[at], 1.0)
        left = np.where(known, self.left[at], 1.0)  # an unseen context passes everything on
        at, known = _find(self.grams, grams)
        return np.where(known, self.kept[at], 0.0) / total + left / total * shorter


def discounts(counts: np.ndarray) -> np.ndarray:
    """D(1), D(2), D(3 and more) of modified Kneser-Ney (Chen and Goodman 1999, eq. 26).

    Where a text is too small for the estimate (it needs n-grams of every count from 1 to 4, and
    must lie between 0 and the count), 0.5, 1 and 1.5 are used.
    """
    n1, n2, n3, n4 = (int((counts == c).sum()) for c in (1, 2, 3, 4))
    if min(n1, n2, n3, n4) > 0:
        y = n1 / (n1 + 2 * n2)
        found = np.array([1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
        if (found > 0).all() and (found < [1, 2, 3]).all():
            return found
    return np.array([0.5, 1.0, 1.5])


def _find(haystack: np.ndarray, needles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each needle stands in a sorted array, and whether it does."""
    at = np.minimum(np.searchsorted(haystack, needles), len(haystack) - 1)
    return at, haystack[at] == needles


# --- all of them ------------------------------------------------------------------------------


def measure(corpus: Corpus, tokenizer: Tokenizer, documents: str = "held_out") -> dict[str, float]:
    """Bits per byte of every baseline on one split; half a minute for the whole corpus.

    Returns
    -------
    dict
        ``xz_per_document``, ``xz_pooled``, ``xz_primed``, ``five_gram``.
    """
    measured = getattr(corpus, documents)
    training = tokenizer.encode_many([document.text for document in corpus.train])
    counted = KneserNey(training, vocabulary=len(tokenizer), end=tokenizer.end)
    return {
        "xz_per_document": xz_per_document(measured),
        "xz_pooled": xz_pooled(measured),
        "xz_primed": xz_primed(measured, corpus.train),
        "five_gram": counted.bits_per_byte(measured, tokenizer),
    }
