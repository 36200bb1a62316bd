"""Training windows: which tokens the model sees at which step, and nothing left to chance.

The documents of an epoch are shuffled, each is preceded by the end token, all stand in one row, and
the row is cut into windows; the windows are shuffled too, so that a long document does not fill a
batch. What step ``s`` sees depends on the seed and ``s`` only: a run that was killed goes on with
the very batch it would have had.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Windows:
    """An endless sequence of windows over tokenised documents.

    Parameters
    ----------
    documents : sequence of sequences of int
        Token numbers of each document, below 65,536.
    length : int
        Tokens in a window; each comes with the token after it, the target of its last.
    end : int
        The token put before each document.
    seed : int

    Raises
    ------
    ValueError
        Fewer tokens than one window needs.

    Examples
    --------
    >>> windows = Windows([[5, 6, 7], [8, 9]], length=3, end=0, seed=1)
    >>> windows.per_epoch
    2
    >>> rows = windows.take(0, 2)   # window 0 and 1: inputs rows[:, :-1], targets rows[:, 1:]
    >>> rows.shape
    (2, 4)
    """

    def __init__(self, documents: Sequence[Sequence[int]], length: int, end: int, seed: int = 0):
        self.length, self.seed = length, seed
        self._documents = [np.array([end, *tokens], dtype=np.uint16) for tokens in documents]
        self.tokens = sum(len(tokens) for tokens in self._documents)
        self.per_epoch = (self.tokens - 1) // length
        if length < 1 or self.per_epoch < 1:
            raise ValueError(
                f"length is {length} tokens; it must be from 1 to {max(self.tokens - 1, 1)}, "
                "for the documents hold no more"
            )
        self._epoch: tuple[int, np.ndarray] | None = None

    def _cut(self, epoch: int) -> np.ndarray:
        """The windows of one epoch in their order, ``[per_epoch, length + 1]``."""
        if self._epoch is None or self._epoch[0] != epoch:
            draw = np.random.default_rng([self.seed, epoch])
            order = draw.permutation(len(self._documents))
            row = np.concatenate([self._documents[index] for index in order])
            # another start each epoch, so that the cuts fall elsewhere
            row = np.roll(row, -int(draw.integers(self.tokens)))
            starts = draw.permutation(self.per_epoch) * self.length
            self._epoch = epoch, row[starts[:, None] + np.arange(self.length + 1)]
        return self._epoch[1]

    def take(self, first: int, count: int) -> np.ndarray:
        """Windows ``first`` to ``first + count - 1`` of the endless sequence, as int64."""
        numbers = np.arange(first, first + count)
        rows = [self._cut(int(n // self.per_epoch))[n % self.per_epoch] for n in numbers]
        return np.stack(rows).astype(np.int64)
