"""A request: what is asked for, where it stands, what comes back. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import isfinite
from typing import Any

from helpers.serve.metrics import RequestMetrics


class RequestError(ValueError):
    """A request that cannot be served; the message names the value and what is allowed."""


#: the error of a request whose next token the model cannot tell
NOT_FINITE = "the model's scores of the next token are not finite numbers"


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> bool:
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _shown(value: object) -> str:
    """A value as a message quotes it: not a screen full of digits."""
    try:
        text = repr(value)
    except ValueError:  # Python itself writes out no more than some thousand digits
        return "too long to be shown"
    return text if len(text) <= 60 else text[:57] + "..."


@dataclass(frozen=True)
class SamplingParams:
    """How one request wants its tokens chosen, and when to stop.

    Nothing is checked here but in :meth:`check`, which the engine calls: a bad value then costs one
    request its answer and not its neighbours theirs.

    Parameters
    ----------
    max_tokens : int
        Generate at most this many tokens (fewer if the model's context ends first).
    temperature : float
        0 takes the most likely token; 1 samples from the model's probabilities; less sharpens them.
    top_k : int, optional
        Sample among the ``top_k`` most likely tokens only.
    top_p : float, optional
        Sample among the fewest tokens that hold this share of the probability, above 0, at most 1.
    seed : int, optional
        Of this request's own generator, below 2**32, for torch's generator on the CPU takes no more
        of it; made of the engine's seed and the request's number unless given.
    stop : str or sequence of str
        Stop where the text first holds one of these; the text ends before it.
    stop_tokens : sequence of int
        Stop after any of these tokens. The tokenizer's end of text is always among them unless
        ``ignore_end`` is set. It is the last of the tokens, and no part of the text.
    ignore_end : bool
        Go on after an end of text.
    n : int
        Samples of this prompt. They share its cache; sample ``i`` uses ``seed + i``.

    Examples
    --------
    >>> SamplingParams(temperature=-1.0).check(vocab=97)
    Traceback (most recent call last):
    helpers.serve.request.RequestError: temperature is -1.0; it must be a finite number, 0 or more
    """

    max_tokens: int = 64
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: str | Sequence[str] = ()
    stop_tokens: Sequence[int] = ()
    ignore_end: bool = False
    n: int = 1

    def __post_init__(self):
        if isinstance(self.stop, str):  # one stop string, not its letters
            object.__setattr__(self, "stop", (self.stop,))

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is taken, so that no chance is involved."""
        return self.temperature == 0

    def check(self, vocab: int) -> None:
        """Raise a :class:`RequestError` for the first value that is not allowed."""
        for name, least in (("max_tokens", 1), ("n", 1), ("top_k", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is None and name in ("top_k", "seed"):
                continue
            if not (_whole(value) and value >= least):
                raise RequestError(
                    f"{name} is {_shown(value)}; it must be a whole number, {least} or more"
                )
        if self.seed is not None and self.seed + self.n > 2**32:
            raise RequestError(f"seed is {_shown(self.seed)}; with n it must stay below 2**32")
        if not (_number(self.temperature) and self.temperature >= 0):
            raise RequestError(
                f"temperature is {_shown(self.temperature)}; it must be a finite number, 0 or more"
            )
        if self.top_p is not None and not (_number(self.top_p) and 0 < self.top_p <= 1):
            raise RequestError(f"top_p is {_shown(self.top_p)}; it must be above 0 and at most 1")
        if not isinstance(self.stop, Sequence):
            raise RequestError(f"stop is {_shown(self.stop)}; it must be a string or several")
        for string in self.stop:
            if not (isinstance(string, str) and string):
                raise RequestError(
                    f"stop holds {_shown(string)}; each must be a string, and not empty"
                )
        if isinstance(self.stop_tokens, str) or not isinstance(self.stop_tokens, Sequence):
            raise RequestError(
                f"stop_tokens is {_shown(self.stop_tokens)}; it must be a list of tokens"
            )
        for token in self.stop_tokens:
            if not (_whole(token) and 0 <= token < vocab):
                raise RequestError(
                    f"stop_tokens holds {_shown(token)}; tokens are 0 to {vocab - 1}"
                )


class Status(StrEnum):
    """Where a request stands."""

    WAITING = "waiting"  # for its first admission, or for another after a preemption
    RUNNING = "running"  # holds blocks of the cache
    FINISHED = "finished"


@dataclass(eq=False, slots=True)
class Request:
    """One sequence on its way through the engine.

    Prompt and generated tokens stand in one list, for the cache makes no difference between them:
    the scheduler sees tokens that are known and, of those, how many are computed. A preempted
    request is the same one with nothing computed.

    Attributes
    ----------
    number : int
        Its place in the order of arrival; also the name of its sequence in the block manager.
    ids : list of int
        Prompt, then generated tokens.
    prompt_length : int
        How many of ``ids`` are the prompt.
    limit : int
        Most tokens it may generate.
    computed : int
        Tokens whose keys and values are in the cache.
    placed : int
        Tokens that have a place in the cache, computed or not yet.
    admitted : bool
        Whether it ran before, so that what it finds in the cache now may be its own.
    ends : frozenset of int
        Tokens that end it.
    samples : list of Request
        All samples of the same prompt in order, one list for all of them; empty if it is the only
        one.
    siblings : list of Request
        Of the first: the other samples as long as they wait to be forked off, when the prompt is
        computed.
    """

    number: int
    ids: list[int]
    prompt_length: int
    limit: int
    params: SamplingParams
    metrics: RequestMetrics
    status: Status = Status.WAITING
    computed: int = 0
    placed: int = 0
    admitted: bool = False
    ends: frozenset[int] = frozenset()
    samples: list[Request] = field(default_factory=list)
    siblings: list[Request] = field(default_factory=list)
    finish: str | None = None  # "length", "stop", "abort" or "error"
    error: str | None = None
    generator: Any = None  # torch.Generator of its own, if it samples
    detokenizer: Any = None

    @property
    def tokens(self) -> list[int]:
        """Generated tokens."""
        return self.ids[self.prompt_length :]

    @property
    def generated(self) -> int:
        """How many tokens were generated."""
        return len(self.ids) - self.prompt_length

    def __repr__(self) -> str:
        return (
            f"<Request {self.number}, {self.status}: {self.prompt_length} + {self.generated} "
            f"tokens, {self.computed} computed>"
        )


@dataclass(frozen=True)
class Piece:
    """What one step gave one request: a token, and the text that is certain by now.

    ``text`` may be empty: half a character, or what may become a stop string, is held back. The
    last piece carries ``finish``, and ``error`` if the request failed (then without a token).
    """

    request: int
    token: int | None
    text: str
    finish: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class RequestOutput:
    """The answer to a request.

    Attributes
    ----------
    prompt_tokens, tokens : list of int
        The prompt, and what was generated (with the token that ended it, if one did).
    text : str
        What was generated, up to a stop string; empty without a tokenizer.
    finish : str
        ``"length"``, ``"stop"``, ``"abort"`` (the caller left) or ``"error"``; None while it runs.
    error : str or None
        What was wrong with the request.
    metrics : RequestMetrics
    samples : tuple of RequestOutput
        All ``n`` answers, this one first; empty unless ``n`` is above 1.
    """

    prompt_tokens: list[int]
    tokens: list[int]
    text: str
    finish: str | None
    error: str | None
    metrics: RequestMetrics
    samples: tuple[RequestOutput, ...] = ()
