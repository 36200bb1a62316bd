"""The figures of the book's model: one request on its way through the engine.

The engine of :mod:`helpers.serve` runs for real; what is drawn is rebuilt from its event log.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from helpers.book.replay import (
    Block,
    Blocks,
    Facts,
    Frame,
    Lanes,
    Replay,
    Run,
    Span,
    Token,
    Tokens,
    replay,
)

__all__ = ["ARRIVALS", "Arrival", "record_run", "request_frames", "request_replay"]

Event = Mapping[str, Any]

#: how a lane looks while a request waits, is computed, and so on
KINDS = {
    "waiting": ("line", "waiting"),
    "prefill": ("solid", "prefill"),
    "decode": ("stripes", "decode"),
    "preempted": ("dashes", "preempted"),
    "idle": ("outline", "running, not in this step"),
}
TOKEN_KINDS = {
    "waiting": "known, not computed",
    "held": "keys and values in the cache",
    "hit": "found there",
    "made": "generated",
    "now": "new",
}


@dataclass(frozen=True)
class Arrival:
    """A request, and the engine step after which it comes.

    Parameters
    ----------
    step : int
    prompt : str or tuple of int
        Text, or tokens if the engine has no tokenizer.
    tokens : int
        How many it wants generated.
    """

    step: int
    prompt: str | tuple[int, ...]
    tokens: int


_HEAD = "def read_numbers(path):\n    "
#: requests that together want more blocks than there are; C begins like A, D like B
ARRIVALS = (
    Arrival(0, _HEAD + '"""Return the numbers in a file, one per line."""\n', 30),
    Arrival(1, "import os\n\ndef size(path):\n", 24),
    Arrival(4, _HEAD + '"""Return the sum of the numbers."""\n    total = 0\n    for line in', 16),
    Arrival(9, "import os\n\ndef size(path):\n    return os.", 6),
)


def record_run(
    model: Any,
    tokenizer: Any,
    arrivals: Sequence[Arrival],
    *,
    blocks: int,
    block_size: int,
    chunk: int | None,
    prefix_caching: bool = True,
) -> tuple[list[Event], list[list[int]]]:
    """Run the engine on some requests and return its log and the requests' tokens.

    Parameters
    ----------
    model : helpers.lm.model.Transformer
        In float64 if the run must be the same on every machine.
    tokenizer : helpers.lm.tokenizer.Tokenizer, optional
    arrivals : sequence of Arrival
        In the order in which they come.
    blocks, block_size, chunk, prefix_caching
        As in :class:`helpers.serve.engine.Engine`.

    Returns
    -------
    list of dict
        Events; their times count steps, for seconds would differ from run to run.
    list of list of int
        The prompt's, then the generated tokens of each request.

    Raises
    ------
    ValueError
        If the arrivals are not in order, or one is not served.
    """
    from helpers.serve.engine import Engine
    from helpers.serve.request import SamplingParams

    if [a.step for a in arrivals] != sorted(a.step for a in arrivals):
        raise ValueError(f"arrivals: steps {[a.step for a in arrivals]} are not in order")
    engine = Engine(
        model,
        tokenizer,
        blocks=blocks,
        block_size=block_size,
        chunk=chunk,
        prefix_caching=prefix_caching,
        clock=lambda: 0.0,
    )
    left, requests = list(arrivals), []
    while left or engine.scheduler.unfinished:
        while left and (left[0].step <= engine.log.step or not engine.scheduler.unfinished):
            one = left.pop(0)
            params = SamplingParams(max_tokens=one.tokens, ignore_end=True)
            requests.append(engine.add(one.prompt, params))
            if requests[-1].error:
                raise ValueError(f"arrivals: {one}: {requests[-1].error}")
        engine.step()
    return list(engine.log), [request.ids for request in requests]


# ---- from the log to frames ----------------------------------------------------------------------


class _Story:
    """Walks through a log and makes the frames."""

    def __init__(
        self, texts: Sequence[Sequence[str]], follow: int, blocks: int, block_size: int
    ) -> None:
        from helpers.serve.events import State

        self.texts, self.follow, self.count, self.size = texts, follow, blocks, block_size
        self.letters = string.ascii_uppercase[: len(texts)]
        self.name = self.letters[follow]
        self.state = State()
        self.prompts: dict[int, int] = {}
        self.found: dict[int, int] = {}  # tokens found in the cache at the last admission
        self.written: dict[int, int] = {}  # tokens in the cache, as of the frame
        self.reached: dict[int, int] = {}  # tokens that were ever computed
        self.kept: dict[int, str] = {}  # kept blocks, and who had them
        self.doing: list[tuple[int, int, str]] = []  # request, step, kind
        self.once_admitted: set[int] = set()
        self.tokens = 0  # computed in the step
        self.frames: list[Frame] = []

    # ---- what is seen --------------------------------------------------------------------------

    def frame(self, says: str, at: int, new: bool = False) -> None:
        """Add a frame that shows the present state."""
        state = self.state
        table = state.tables.get(self.follow, [])
        facts = [
            at,
            len(state.waiting),
            len(state.running),
            self.tokens,
            f"{self.count - len(state.references)} of {self.count}",
            " → ".join(map(str, table)) or "none",
        ]
        self.frames.append(
            Frame(
                says,
                {
                    "facts": facts,
                    "lanes": at,
                    "blocks": self.blocks(),
                    "tokens": self.strip(new),
                },
            )
        )

    def blocks(self) -> list[Block | None]:
        shown: list[Block | None] = [None] * self.count
        for block, owner in self.kept.items():
            shown[block] = Block(owner, self.size, kept=True)
        for number, table in sorted(self.state.tables.items()):
            for place, block in enumerate(table):
                slots = max(0, min(self.size, self.written.get(number, 0) - place * self.size))
                before = shown[block]
                if before is None or before.kept:
                    shown[block] = Block(self.letters[number], slots)
                else:
                    owners = before.owners + self.letters[number]
                    shown[block] = Block(owners, max(before.filled, slots))
        return shown

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

    def spans(self) -> list[Span]:
        """The lanes: what each request did in each step, equal neighbours joined."""
        found = []
        for _, of_one in groupby(sorted(self.doing), key=lambda entry: entry[0]):
            joined: list[Span] = []
            for number, step, kind in of_one:
                if joined and (joined[-1].kind, joined[-1].stop) == (kind, step - 1):
                    joined[-1] = joined[-1]._replace(stop=step)
                else:
                    joined.append(Span(number, step - 1, step, kind))
            found += joined
        return found

    # ---- what happens --------------------------------------------------------------------------

    def apply(self, events: Iterable[Event]) -> None:
        """Apply events, keeping what :class:`State` does not."""
        for event in events:
            self.state.apply(event)
            number = event["request"]
            match event["kind"]:
                case "arrive":
                    self.prompts[number] = event["prompt"]
                case "free":
                    self.written.pop(number, None)
                    for block in event["kept"]:
                        self.kept[block] = self.letters[number]
                case "evict":
                    del self.kept[event["block"]]
                case "prefix_hit":
                    for block in event["blocks"]:
                        self.kept.pop(block, None)
                case "admit":
                    self.written[number] = self.found[number] = event["hits"]

    def step(self, step: int, events: Sequence[Event]) -> None:
        """Make the frames of one engine step, and of what arrives after it."""
        arrived = [event for event in events if event["kind"] == "arrive"]
        done = [event for event in events if event not in arrived]
        if done:
            self.tokens = 0
            self.work(step, done)
        for event in arrived:
            self.apply([event])
            number = event["request"]
            what = f"{self.letters[number]} arrives"
            if number == self.follow:
                what += ", the one we follow"
            what += f". Its text becomes {event['prompt']} tokens; it waits in the queue."
            self.frame(what, step)

    def work(self, step: int, events: Sequence[Event]) -> None:
        """Preempt and admit; compute; finish."""
        first = next((i for i, event in enumerate(events) if event["kind"] == "token"), len(events))
        planned, after = events[:first], events[first:]
        growing: list[Event] = []  # blocks for those that run already
        pending: list[Event] = []
        for place, event in enumerate(planned):
            pending.append(event)
            if event["kind"] == "admit":
                self.apply(pending)
                self.frame(self.admitted(event["request"], pending), step - 1)
                pending = []
            elif event["kind"] == "preempt":
                self.apply(pending)
                wanting = next((e for e in planned[place:] if e["kind"] == "allocate"), event)
                says = self.preempted(event["request"], wanting["request"], pending)
                self.frame(says, step - 1)
                pending = []
            elif event["kind"] in ("prefill", "decode"):
                growing += [e for e in pending if e["kind"] in ("allocate", "evict")]
                self.apply(pending)
                pending = []
        tokens = [event for event in after if event["kind"] == "token"]
        self.apply(tokens)
        self.computed(step, [e for e in planned if e["kind"] in ("prefill", "decode")],
                      growing, {event["request"] for event in tokens})  # fmt: skip
        pending = []
        for event in after:
            if event in tokens:
                continue
            pending.append(event)
            if event["kind"] == "finish":
                self.apply(pending)
                self.frame(self.finished(event, pending), step)
                pending = []

    def admitted(self, number: int, events: Sequence[Event]) -> str:
        name, again = self.letters[number], number in self.once_admitted
        self.once_admitted.add(number)
        of = {kind: [e for e in events if e["kind"] == kind] for kind in ("prefix_hit", "evict")}
        new = next((e["blocks"] for e in events if e["kind"] == "allocate"), [])
        says = f"{name} is admitted{' again' if again else ''}"
        if of["prefix_hit"]:
            hit = of["prefix_hit"][0]
            says += (
                f": its first {hit['tokens']} tokens are in the cache already, in "
                f"{_blocks(hit['blocks'])}"
            )
            says += f"; it gets {_blocks(new)} for the rest"
        else:
            says += f" and gets {_blocks(new)}"
        if of["evict"]:
            says += f" (what was kept in {_listed(e['block'] for e in of['evict'])} is given up)"
        return says + "."

    def preempted(self, number: int, wanting: int, events: Sequence[Event]) -> str:
        freed = next(e for e in events if e["kind"] == "free")["blocks"]
        name, other = self.letters[number], self.letters[wanting]
        who = f"{name}, the youngest, is preempted. It" if name != other else (
            f"being the youngest, {name} is preempted itself. It"
        )  # fmt: skip
        return (
            f"{other} needs a block and none is free: {who} gives back {_blocks(freed)}, keeps "
            "its tokens, and returns to the head of the queue."
        )

    def computed(
        self, step: int, work: Sequence[Event], growing: Sequence[Event], spoke: set[int]
    ) -> None:
        """The frame after the model ran, and the lanes of the step."""
        busy = {event["request"]: event for event in work}
        self.tokens = sum(event["tokens"] for event in work)
        parts = []
        for number, event in busy.items():
            self.written[number] = event["start"] + event["tokens"]
            kind = event["kind"]
            self.doing.append((number, step, kind))
            if kind == "prefill":
                again = " again" if event["start"] < self.reached.get(number, 0) else ""
                count = _counted(event["tokens"], "token")
                parts.append(f"{count} of {self.letters[number]}{again}")
            self.reached[number] = max(self.reached.get(number, 0), self.written[number])
        for number in self.state.running:
            if number not in busy:
                self.doing.append((number, step, "idle"))
        for number in self.state.waiting:
            kind = "preempted" if number in self.once_admitted else "waiting"
            self.doing.append((number, step, kind))
        one = [self.letters[number] for number, e in busy.items() if e["kind"] == "decode"]
        if one:
            each = "one token" if len(one) == 1 else "one token each"
            parts.append(f"{each} of {_joined(one)}")
        says = f"Step {step} computes {_joined(parts)}."
        mine = self.follow in spoke
        if mine:
            made = len(self.state.tokens[self.follow])
            text = self.texts[self.follow][self.prompts[self.follow] + made - 1]
            order = "first" if made == 1 else "next"
            says += f" {self.name}'s {order} token: {_quoted(text)}."
        elif self.follow in busy:
            left = self.prompts[self.follow] + len(self.state.tokens.get(self.follow, ()))
            left -= self.written[self.follow]
            says += f" {_counted(left, 'token')} of {self.name} must wait for the next."
        for event in growing:
            if event["kind"] == "allocate":
                says += f" {self.letters[event['request']]} got {_blocks(event['blocks'])}."
            else:
                says += f" What was kept in {event['block']} is given up."
        self.frame(says, step, new=mine)

    def finished(self, event: Event, events: Sequence[Event]) -> str:
        name, freed = self.letters[event["request"]], next(e for e in events if e["kind"] == "free")
        says = f"{name} has its {event['generated']} tokens and leaves {_blocks(freed['blocks'])}."
        if freed["kept"]:
            says += f" The contents of {_listed(freed['kept'])} stay until the room is needed."
        return says


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
    if not 1 <= len(texts) <= 26:
        raise ValueError(f"texts: {len(texts)} requests; allowed are 1 to 26")
    if follow not in range(len(texts)):
        raise ValueError(f"follow: {follow!r} is no request; allowed are 0 to {len(texts) - 1}")
    story = _Story(texts, follow, blocks, block_size)
    for step, of_step in groupby(events, key=lambda event: event["step"]):
        story.step(step, list(of_step))
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
            names=names, length=length, spans=story.spans(), kinds=_used(story),
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


def _joined(parts: Sequence[str]) -> str:
    """Join with commas and an *and*.

    Examples
    --------
    >>> _joined(["a"]), _joined(["a", "b"]), _joined(["a", "b", "c"])
    ('a', 'a and b', 'a, b and c')
    """
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def _listed(numbers: Iterable[int]) -> str:
    return _joined([str(number) for number in numbers])


def _blocks(numbers: Sequence[int]) -> str:
    return f"block{'s' if len(numbers) > 1 else ''} {_listed(numbers)}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _quoted(text: str) -> str:
    from helpers.book.replay.panels import shown

    return f"“{shown(text)}”"


def _used(story: _Story) -> dict[str, tuple[str, str]]:
    """Of the kinds of span those that occur."""
    kinds = {kind for _, _, kind in story.doing}
    return {kind: look for kind, look in KINDS.items() if kind in kinds}


def _token_kinds(story: _Story) -> dict[str, str]:
    kinds = {k for f in story.frames for token in f.states["tokens"] for k in token.kind.split()}
    return {kind: words for kind, words in TOKEN_KINDS.items() if kind in kinds}
