"""Tokens to text as they come: never half a character, never a part of a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Protocol


class HasTokenBytes(Protocol):
    """A byte-level tokenizer, as :class:`helpers.lm.tokenizer.Tokenizer`."""

    def token_bytes(self, token: int) -> bytes: ...


class Detokenizer:
    """The text of one request, grown token by token.

    A token is some bytes, and may end within a character: those bytes wait for the next token.
    Bytes that can begin no character become U+FFFD. Text that may turn out to be the beginning of a
    stop string waits too, until it is one or cannot become one.

    Parameters
    ----------
    tokenizer : HasTokenBytes
    stop : sequence of str
        Not empty strings.

    Examples
    --------
    >>> class Bytes:
    ...     def token_bytes(self, token): return bytes([token])
    >>> detokenizer = Detokenizer(Bytes(), stop=["\\n\\n"])
    >>> [detokenizer.push(byte) for byte in "né\\n!\\n\\nx".encode()]
    ['n', '', 'é', '', '\\n!', '', '', '']
    >>> detokenizer.stopped, detokenizer.text
    (True, 'né\\n!')
    """

    def __init__(self, tokenizer: HasTokenBytes, stop: Sequence[str] = ()):
        self._bytes_of = tokenizer.token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._stop = tuple(stop)
        self._emitted: list[str] = []
        self._held = ""  # decoded, and perhaps the beginning of a stop string
        self.stopped = False

    @property
    def text(self) -> str:
        """All text given out so far."""
        return "".join(self._emitted)

    def push(self, token: int) -> str:
        """Take one token; return the text that is certain by it (often empty).

        After a stop string, whatever is pushed gives nothing.
        """
        return self._emit(self._decoder.decode(self._bytes_of(token)), last=False)

    def flush(self) -> str:
        """No more tokens come: return what was held back; half a character becomes U+FFFD."""
        return self._emit(self._decoder.decode(b"", final=True), last=True)

    def _emit(self, decoded: str, last: bool) -> str:
        if self.stopped:
            return ""
        if not self._stop:
            certain = decoded
        else:
            self._held += decoded
            certain = self._split(last)
        if certain:
            self._emitted.append(certain)
        return certain

    def _split(self, last: bool) -> str:
        """Cut off and return the part of the held text that no stop string can claim."""
        found = [(at + len(s), at) for s in self._stop if (at := self._held.find(s)) >= 0]
        if found:  # the one that ends first, however the tokens were cut; of those the longest
            self.stopped = True
            certain, self._held = self._held[: min(found)[1]], ""
            return certain
        keep = 0 if last else max(map(self._overlap, self._stop))
        cut = len(self._held) - keep
        certain, self._held = self._held[:cut], self._held[cut:]
        return certain

    def _overlap(self, stop: str) -> int:
        """Length of the longest end of the held text that a stop string begins with."""
        for length in range(min(len(stop) - 1, len(self._held)), 0, -1):
            if self._held.endswith(stop[:length]):
                return length
        return 0
