"""A run of the book's engine, told in frames: recorded, then rebuilt from its event log alone.

The engine of :mod:`helpers.serve` runs for real. :class:`Story` walks through its log and says what
happened; the replays of requests and of blocks choose the panels that show it.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from helpers.book.replay import Block, Frame, Span

Event = Mapping[str, Any]
#: events by which a running request gets a block
_TAKING = ("allocate", "cow")

#: how a lane looks while a request waits, is computed, and so on
KINDS = {
    "waiting": ("line", "waiting"),
    "prefill": ("solid", "prefill"),
    "decode": ("stripes", "decode"),
    "preempted": ("dashes", "preempted"),
    "idle": ("outline", "running, not in this step"),
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
    samples : int
        How many answers it wants. Several are drawn at random, one is the most likely.
    """

    step: int
    prompt: str | tuple[int, ...]
    tokens: int
    samples: int = 1


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
        The prompt's, then the generated tokens of each request, each sample counted as one.

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
            params = SamplingParams(
                max_tokens=one.tokens,
                ignore_end=True,
                n=one.samples,
                temperature=float(one.samples > 1),
                seed=0,
            )
            requests.append(engine.add(one.prompt, params))
            if requests[-1].error:
                raise ValueError(f"arrivals: {one}: {requests[-1].error}")
        engine.step()
    families = [request.samples or [request] for request in requests]
    return list(engine.log), [one.ids for family in families for one in family]


# ---- from the log to frames ----------------------------------------------------------------------


class Story:
    """Walks through an engine's log and makes the frames; what they show is a subclass's matter.

    Parameters
    ----------
    requests : int
        How many there are, each sample counted as one; they are called A, B, C ...
    blocks, block_size : int
        The engine's cache.

    Raises
    ------
    ValueError
        If there is no request, or more than 26.
    """

    def __init__(self, requests: int, blocks: int, block_size: int) -> None:
        from helpers.serve.events import State

        if not 1 <= requests <= 26:
            raise ValueError(f"texts: {requests} requests; allowed are 1 to 26")
        self.count, self.size = blocks, block_size
        self.letters = string.ascii_uppercase[:requests]
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

    def states(self, at: int, spoke: Set[int]) -> dict[str, Any]:
        """What each panel shows at step ``at``, in which some requests have just got a token."""
        raise NotImplementedError

    def frame(self, says: str, at: int, spoke: Set[int] = frozenset()) -> None:
        """Add a frame that shows the present state."""
        self.frames.append(Frame(says, self.states(at, spoke)))

    def blocks(self) -> list[Block | None]:
        """Every block of the cache: who holds it, how full it is."""
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

    def kinds(self) -> dict[str, tuple[str, str]]:
        """Of the kinds of span those that occur."""
        kinds = {kind for _, _, kind in self.doing}
        return {kind: look for kind, look in KINDS.items() if kind in kinds}

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
                case "fork":
                    self.once_admitted.add(number)
                    self.written[number] = self.written[event["parent"]]
                    self.reached[number] = self.found[number] = self.written[number]

    def tell(self, events: Iterable[Event]) -> None:
        """Make the frames of a whole log."""
        for step, of_step in groupby(events, key=lambda event: event["step"]):
            self.step(step, list(of_step))

    def step(self, step: int, events: Sequence[Event]) -> None:
        """Make the frames of one engine step, and of what arrives after it."""
        arrived = [event for event in events if event["kind"] == "arrive"]
        done = [event for event in events if event not in arrived]
        if done:
            self.tokens = 0
            self.work(step, done)
        for event in arrived:
            self.apply([event])
            if "parent" not in event:
                family = [e["request"] for e in arrived if e.get("parent") == event["request"]]
                self.frame(self.arrived(event, family), step)

    def work(self, step: int, events: Sequence[Event]) -> None:
        """Preempt and admit; compute; fork; finish."""
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
                wanting = next((e for e in planned[place:] if e["kind"] in _TAKING), event)
                says = self.preempted(event["request"], wanting["request"], pending)
                self.frame(says, step - 1)
                pending = []
            elif event["kind"] in ("prefill", "decode"):
                growing += self.grow(step, event["request"], pending[:-1])
                self.apply([event])
                pending = []
        forks = pending  # what follows the last work
        tokens = [event for event in after if event["kind"] == "token"]
        self.apply(tokens)
        self.computed(step, [e for e in planned if e["kind"] in ("prefill", "decode")],
                      growing, {event["request"] for event in tokens})  # fmt: skip
        if forks:
            self.apply(forks)
            self.frame(self.forked([e for e in forks if e["kind"] == "share"]), step)
        pending = []
        for event in after:
            if event in tokens:
                continue
            pending.append(event)
            if event["kind"] == "finish":
                self.apply(pending)
                self.frame(self.finished(event, pending), step)
                pending = []

    def grow(self, step: int, number: int, events: Sequence[Event]) -> list[Event]:
        """Apply what gives a running request its next place; return what is still to be told."""
        self.apply(events)
        return [e for e in events if e["kind"] in _TAKING or e["kind"] == "evict"]

    # ---- in words ------------------------------------------------------------------------------

    def arrived(self, event: Event, family: Sequence[int]) -> str:
        """Say that a request comes, and of how many samples."""
        says = f"{self.letters[event['request']]} arrives{self.remark(event['request'])}. "
        if family:
            names = joined([self.letters[number] for number in family])
            says += f"{names} are to be further answers to the same prompt. "
        return says + f"Its text becomes {event['prompt']} tokens; it waits in the queue."

    def remark(self, number: int) -> str:
        """What is special about a request, with a comma before it."""
        return ""

    def forked(self, shares: Sequence[Event]) -> str:
        """Say that the further samples of a prompt begin."""
        names = joined([self.letters[event["request"]] for event in shares])
        parent, blocks = self.letters[shares[0]["parent"]], in_blocks(shares[0]["blocks"])
        return (
            f"The prompt is computed once for all: {names} begin with {parent}'s table, "
            f"{blocks}. Nothing is copied yet."
        )

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
                f"{in_blocks(hit['blocks'])}"
            )
            says += f"; it gets {in_blocks(new)} for the rest"
        else:
            says += f" and gets {in_blocks(new)}"
        if of["evict"]:
            says += f" (what was kept in {listed(e['block'] for e in of['evict'])} is given up)"
        return says + "."

    def preempted(self, number: int, wanting: int, events: Sequence[Event]) -> str:
        freed = next(e for e in events if e["kind"] == "free")["blocks"]
        name, other = self.letters[number], self.letters[wanting]
        who = (
            f"{name}, the youngest of those that run, is preempted. It"
            if name != other
            else f"being the youngest, {name} is preempted itself. It"
        )
        return (
            f"{other} needs a block and none is free: {who} gives back {self.shares(freed)}, keeps "
            "its tokens, and returns to the head of the queue."
        )

    def shares(self, freed: Sequence[int]) -> str:
        """Freed blocks in words: a block that others hold too stays theirs."""
        theirs = [block for block in freed if block in self.state.references]
        own = [block for block in freed if block not in theirs]
        parts = [in_blocks(own)] if own else []
        if theirs:
            parts.append(f"its share of {in_blocks(theirs)}")
        return joined(parts)

    def computed(
        self, step: int, work: Sequence[Event], growing: Sequence[Event], spoke: Set[int]
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
                before = max(0, self.reached.get(number, 0) - event["start"])
                again = min(before, event["tokens"])
                if again:
                    parts.append(f"{counted(again, 'token')} of {self.letters[number]} again")
                if new := event["tokens"] - again:
                    what = "new token" if again else "token"
                    parts.append(f"{counted(new, what)} of {self.letters[number]}")
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
            parts.append(f"{each} of {joined(one)}")
        says = f"Step {step} computes {joined(parts)}." + self.more(busy, spoke)
        for event in growing:
            if event["kind"] == "allocate":
                says += f" {self.letters[event['request']]} got {in_blocks(event['blocks'])}."
            elif event["kind"] == "cow":
                says += f" {self.letters[event['request']]} got a copy, block {event['block']}."
            else:
                says += f" What was kept in {event['block']} is given up."
        self.frame(says, step, spoke)

    def more(self, busy: Mapping[int, Event], spoke: Set[int]) -> str:
        """What else to say of a step, given its work and who got a token."""
        return ""

    def finished(self, event: Event, events: Sequence[Event]) -> str:
        name, freed = self.letters[event["request"]], next(e for e in events if e["kind"] == "free")
        left = self.shares(freed["blocks"])
        says = f"{name} has its {event['generated']} tokens and leaves {left}."
        if freed["kept"]:
            says += f" The contents of {listed(freed['kept'])} stay until the room is needed."
        return says


# ---- words ---------------------------------------------------------------------------------------


def joined(parts: Sequence[str]) -> str:
    """Join with commas and an *and*.

    Examples
    --------
    >>> joined(["a"]), joined(["a", "b"]), joined(["a", "b", "c"])
    ('a', 'a and b', 'a, b and c')
    """
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def listed(numbers: Iterable[int]) -> str:
    """Numbers in words.

    Examples
    --------
    >>> listed([3, 1])
    '3 and 1'
    """
    return joined([str(number) for number in numbers])


def in_blocks(numbers: Sequence[int]) -> str:
    """Blocks in words.

    Examples
    --------
    >>> in_blocks([7]), in_blocks([0, 1, 4])
    ('block 7', 'blocks 0, 1 and 4')
    """
    return f"block{'s' if len(numbers) > 1 else ''} {listed(numbers)}"


def counted(count: int, what: str) -> str:
    """A count in words.

    Examples
    --------
    >>> counted(1, "token"), counted(2, "token")
    ('1 token', '2 tokens')
    """
    return f"{count} {what}{'' if count == 1 else 's'}"
