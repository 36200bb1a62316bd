"""The figures of the book's model: one request on its way through the engine.

The engine of :mod:`helpers.serve` runs for real; what is drawn is rebuilt from its event log.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

from helpers.book.figures.engine_story import (
    Arrival,
    Event,
    Story,
    counted,
    record_run,
)
from helpers.book.replay import Blocks, Facts, Lanes, Replay, Run, Token, Tokens, replay

__all__ = ["ARRIVALS", "Arrival", "record_run", "request_frames", "request_replay"]

TOKEN_KINDS = {
    "waiting": "known, not computed",
    "held": "keys and values in the cache",
    "hit": "found there",
    "made": "generated",
    "now": "new",
}

_HEAD = "def read_numbers(path):\n    "
#: requests that together want more blocks than there are; C begins like A, D like B
ARRIVALS = (
    Arrival(0, _HEAD + '"""Return the numbers in a file, one per line."""\n', 30),
    Arrival(1, "import os\n\ndef size(path):\n", 24),
    Arrival(4, _HEAD + '"""Return the sum of the numbers."""\n    total = 0\n    for line in', 16),
    Arrival(9, "import os\n\ndef size(path):\n    return os.", 6),
)


# ---- from the log to frames ----------------------------------------------------------------------


class _Story(Story):
    """Follows one request, token by token."""

    def __init__(
        self, texts: Sequence[Sequence[str]], follow: int, blocks: int, block_size: int
    ) -> None:
        super().__init__(len(texts), blocks, block_size)
        self.texts, self.follow = texts, follow
        self.name = self.letters[follow]

    def states(self, at: int, spoke: Set[int]) -> dict[str, Any]:
        """See :class:`Story`."""
        state, new = self.state, self.follow in spoke
        table = state.tables.get(self.follow, [])
        facts = [
            at,
            len(state.waiting),
            len(state.running),
            self.tokens,
            f"{self.count - len(state.references)} of {self.count}",
            " → ".join(map(str, table)) or "none",
        ]
        return {"facts": facts, "lanes": at, "blocks": self.blocks(), "tokens": self.strip(new)}

    def strip(self, new: bool) -> list[Token]:
        """The followed request's tokens."""
        number = self.follow
        if number not in self.prompts:
            return []
        made = len(self.state.tokens.get(number, ()))
        shown = []
        for place in range(self.prompts[number] + made):
            kind = "waiting"
            if place < self.written.get(number, 0):
                kind = "hit" if place < self.found.get(number, 0) else "held"
            if place >= self.prompts[number]:
                kind += " made"
            if new and place == self.prompts[number] + made - 1:
                kind += " now"
            shown.append(Token(self.texts[number][place], kind))
        return shown

    def remark(self, number: int) -> str:
        """See :class:`Story`."""
        return ", the one we follow" if number == self.follow else ""

    def more(self, busy: Mapping[int, Event], spoke: Set[int]) -> str:
        """Say what the followed request's new token is, or how much of it must wait."""
        if self.follow in spoke:
            made = len(self.state.tokens[self.follow])
            text = self.texts[self.follow][self.prompts[self.follow] + made - 1]
            return f" {self.name}'s {'first' if made == 1 else 'next'} token: {_quoted(text)}."
        if self.follow in busy:
            left = self.prompts[self.follow] + len(self.state.tokens.get(self.follow, ()))
            left -= self.written[self.follow]
            return f" {counted(left, 'token')} of {self.name} must wait for the next."
        return ""


def request_frames(
    events: Iterable[Event],
    texts: Sequence[Sequence[str]],
    follow: int,
    *,
    blocks: int,
    block_size: int,
) -> Run:
    """Turn an engine's log into a run to be replayed.

    Parameters
    ----------
    events : iterable of dict
        What :class:`helpers.serve.events.EventLog` holds, of requests with one sample each.
    texts : sequence of sequence of str
        For each request the text of each of its tokens, prompt and generated.
    follow : int
        The request whose tokens are shown.
    blocks, block_size : int
        The engine's cache.

    Raises
    ------
    ValueError
        If there is no such request, or more than 26.
    """
    if texts and follow not in range(len(texts)):
        raise ValueError(f"follow: {follow!r} is no request; allowed are 0 to {len(texts) - 1}")
    story = _Story(texts, follow, blocks, block_size)
    story.tell(events)
    length = story.state.step
    names = list(story.letters)
    panels = {
        "facts": Facts(
            "Engine",
            ["Step", "Waiting", "Running", "Tokens in the step", "Free blocks",
             f"{story.name}'s block table"],
        ),
        "lanes": Lanes(
            "Requests, over the engine's steps",
            names=names, length=length, spans=story.spans(), kinds=story.kinds(),
        ),
        "blocks": Blocks(
            f"The KV cache: {blocks} blocks of {block_size} tokens",
            count=blocks, size=block_size, owners=story.letters,
            kept=any(b and b.kept for f in story.frames for b in f.states["blocks"]),
            shared=any(b and len(b.owners) > 1 for f in story.frames for b in f.states["blocks"]),
        ),
        "tokens": Tokens(f"{story.name}'s tokens", _token_kinds(story)),
    }  # fmt: skip
    return Run(panels, story.frames)


def request_replay(
    model: Any,
    tokenizer: Any,
    *,
    name: str = "one-request",
    arrivals: Sequence[Arrival] = ARRIVALS,
    follow: int = 2,
    blocks: int = 13,
    block_size: int = 8,
    chunk: int | None = 16,
) -> Replay:
    """Run the engine and replay one request's way through it.

    Parameters
    ----------
    model : helpers.lm.model.Transformer
        In float64 if the run must be the same on every machine.
    tokenizer : helpers.lm.tokenizer.Tokenizer, optional
        Without it tokens are shown as numbers.
    name : str
        Of the replay, on its page.
    arrivals : sequence of Arrival
        The requests.
    follow : int
        Which of them is shown token by token.
    blocks, block_size, chunk
        As in :class:`helpers.serve.engine.Engine`.
    """
    events, ids = record_run(
        model, tokenizer, arrivals, blocks=blocks, block_size=block_size, chunk=chunk
    )
    texts = [[_text(tokenizer, token) for token in one] for one in ids]
    run = request_frames(events, texts, follow, blocks=blocks, block_size=block_size)
    letters = string.ascii_uppercase[: len(arrivals)]
    return replay(
        name,
        f"Request {letters[follow]} on its way through the engine",
        f"Lanes of {len(arrivals)} requests over the engine's steps, the {blocks} blocks of the "
        f"cache with their owners, and the tokens of request {letters[follow]}.",
        run,
        caption=(
            "A recorded run of the book's engine and model, greedy, with at most "
            f"{chunk} tokens to a step. " if chunk else
            "A recorded run of the book's engine and model, greedy. "
        ) + "Watch the blocks: whose they are, when one is added, and what stays in them.",
    )  # fmt: skip


# ---- words ---------------------------------------------------------------------------------------


def _text(tokenizer: Any, token: int) -> str:
    """What a token says; its bytes if they are no whole characters, its number if it says none."""
    if tokenizer is None:
        return str(token)
    text = tokenizer.decode([token])
    if "\ufffd" in text:
        return tokenizer.token_bytes(token).hex(" ")
    return text or str(token)


def _quoted(text: str) -> str:
    from helpers.book.replay.panels import shown

    return f"“{shown(text)}”"


def _token_kinds(story: _Story) -> dict[str, str]:
    kinds = {k for f in story.frames for token in f.states["tokens"] for k in token.kind.split()}
    return {kind: words for kind, words in TOKEN_KINDS.items() if kind in kinds}
