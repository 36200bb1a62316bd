"""A prompt's pieces as they come, while the same steps serve everybody else. No torch here."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from helpers.serve.request import Piece, Request

if TYPE_CHECKING:
    from helpers.serve.engine import Engine


class Stream:
    """An iterator over the pieces of one prompt; :meth:`helpers.serve.engine.Engine.stream`.

    Asked for a piece that is not there, it lets the engine make a step. That step advances all
    requests: what it gives to another stream waits there. A generator function would be shorter,
    but one that was never asked for anything runs no ``finally``, and its request would stay.

    Parameters
    ----------
    engine : Engine
    request : Request
        The first sample of the prompt, as :meth:`~helpers.serve.engine.Engine.add` returns it.
    """

    def __init__(self, engine: Engine, request: Request):
        self.request = request
        self._engine = engine
        self._numbers = [one.number for one in request.samples or [request]]
        self._left = len(self._numbers)  # samples that are not at their end
        self._pieces: deque[Piece] = deque()
        for number in self._numbers:
            engine.streams[number] = self._pieces

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Piece:
        if not self._left:
            raise StopIteration
        while not self._pieces:
            self._engine.step()
        piece = self._pieces.popleft()
        self._left -= piece.finish is not None
        if not self._left:
            self.close()
        return piece

    def close(self) -> None:
        """Abort the request unless it is done; no more pieces come."""
        self._left = 0
        for number in self._numbers:
            self._engine.streams.pop(number, None)
        self._engine.abort(self.request)

    def __del__(self):
        if getattr(self, "_left", 0):  # not so if the constructor failed
            self.close()
