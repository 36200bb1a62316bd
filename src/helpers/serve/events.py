"""The engine's diary: every decision as one line of JSON, enough to rebuild what happened.

A page replays it: :func:`replay` walks through the events and keeps the state of queue, batch and
blocks that they imply, without engine, model or torch.

========== =============================================================================
kind       fields beside ``step``, ``time_s`` and ``request``
========== =============================================================================
arrive     ``prompt``: tokens in the prompt; ``parent`` if it is a further sample of one
reject     ``error``
admit      ``hits``: tokens found in the cache
prefill    ``start``, ``tokens``: which of its tokens this step computes
decode     the same, for the newest token alone
pad        the same, for a row of a static batch that is done: nobody reads the result
token      ``token``: what was sampled
fork       ``parent``: the request with the same prompt, whose blocks it shares
preempt    ``generated``: tokens that it keeps and will compute again
undo       the same, for the step failed: it goes back to the queue as all others do
finish     ``reason``, ``generated``
prefix_hit ``blocks``, ``tokens``: what it found in the cache, the beginning of its table
allocate   ``blocks``: new ones, added to the end of its table
share      ``parent``, ``blocks``: the whole table of another that it now holds too
cow        ``source``, ``block``: its shared last block and the copy now in its place
truncate   ``blocks``: taken from the end of its table; ``kept`` of them, as for free
free       ``blocks``: its table; ``kept``: those that a later prompt may find
evict      ``block``: one that was kept and is now used for something else
========== =============================================================================
"""

from __future__ import annotations

import json
import time
from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Event = dict[str, Any]


class EventLog:
    """A list of events.

    Parameters
    ----------
    keep : bool
        Whether events are kept at all: a server that runs for days should not keep them.
    clock : callable
        Seconds since any moment. A log whose lines must not change from run to run takes one that
        counts.

    Examples
    --------
    >>> log = EventLog(clock=lambda: 1.5)
    >>> log.record("admit", 3, hits=16)
    >>> print(log.lines(), end="")
    {"step": 0, "time_s": 1.5, "kind": "admit", "request": 3, "hits": 16}
    """

    def __init__(self, keep: bool = True, clock: Callable[[], float] = time.perf_counter):
        self.keep = keep
        self.clock = clock
        self.step = 0
        self.events: list[Event] = []

    def record(self, kind: str, request: int | None, **fields: Any) -> None:
        """Add an event of the current step."""
        if self.keep:
            self.events.append(
                {
                    "step": self.step,
                    "time_s": self.clock(),
                    "kind": kind,
                    "request": request,
                    **fields,
                }
            )

    def record_block(self, kind: str, **fields: Any) -> None:
        """Add an event of the block manager, which calls a request a sequence."""
        self.record(kind, fields.pop("sequence", None), **fields)

    def __len__(self) -> int:
        return len(self.events)

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    def of(self, kind: str) -> list[Event]:
        """All events of one kind."""
        return [event for event in self.events if event["kind"] == kind]

    def lines(self) -> str:
        """All events, one JSON object to a line."""
        return "".join(json.dumps(event) + "\n" for event in self.events)

    def write(self, path: str | Path) -> None:
        """Write :meth:`lines` to a file."""
        Path(path).write_text(self.lines(), encoding="utf-8")


def read(path: str | Path) -> list[Event]:
    """The events of a file that :meth:`EventLog.write` wrote."""
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


@dataclass
class State:
    """What the engine held, rebuilt from events alone.

    Attributes
    ----------
    step : int
    time_s : float
        Of the last event.
    waiting, running : list of int
        Numbers of requests, oldest first.
    computed : dict of int to int
        Tokens in the cache, of each running request.
    tables : dict of int to list of int
        Blocks of each running request, and of rows that pad, in the order of its text.
    tokens : dict of int to list of int
        Generated so far.
    finished : dict of int to str
        Why each finished request did.

    Examples
    --------
    >>> state = State()
    >>> for event in [
    ...     {"step": 0, "time_s": 0.0, "kind": "arrive", "request": 0, "prompt": 5},
    ...     {"step": 1, "time_s": 0.1, "kind": "allocate", "request": 0, "blocks": [7, 4]},
    ...     {"step": 1, "time_s": 0.1, "kind": "admit", "request": 0, "hits": 0},
    ... ]:
    ...     state.apply(event)
    >>> state.running, state.tables
    ([0], {0: [7, 4]})
    """

    step: int = 0
    time_s: float = 0.0
    waiting: list[int] = field(default_factory=list)
    running: list[int] = field(default_factory=list)
    computed: dict[int, int] = field(default_factory=dict)
    tables: dict[int, list[int]] = field(default_factory=dict)
    tokens: dict[int, list[int]] = field(default_factory=dict)
    finished: dict[int, str] = field(default_factory=dict)

    @property
    def references(self) -> Counter[int]:
        """How many requests hold each block; free blocks are not in it."""
        return Counter(block for table in self.tables.values() for block in table)

    def apply(self, event: Event) -> None:
        """Change the state as the event says."""
        self.step, self.time_s = event["step"], event["time_s"]
        number = event["request"]
        match event["kind"]:
            case "arrive" if "parent" not in event:  # further samples wait within the first
                self.waiting.append(number)
            case "admit":
                self.waiting.remove(number)
                self.running.append(number)
                self.computed[number] = event["hits"]
            case "prefill" | "decode":
                self.computed[number] = event["start"] + event["tokens"]
            case "token":
                self.tokens.setdefault(number, []).append(event["token"])
            case "fork":
                insort(self.running, number)
                self.computed[number] = self.computed[event["parent"]]
            case "preempt" | "undo":
                self._leave(number)
                insort(self.waiting, number)
            case "finish":
                self._leave(number)
                self.finished[number] = event["reason"]
            case "reject":
                self.finished[number] = "error"
            case "prefix_hit" | "allocate":
                self.tables.setdefault(number, []).extend(event["blocks"])
            case "share":
                self.tables[number] = list(event["blocks"])
            case "cow":
                self.tables[number][-1] = event["block"]
            case "truncate":
                del self.tables[number][-len(event["blocks"]) :]
            case "free":
                del self.tables[number]

    def _leave(self, number: int) -> None:
        for group in (self.waiting, self.running):
            if number in group:
                group.remove(number)
        self.computed.pop(number, None)


def replay(events: Iterable[Event]) -> Iterator[tuple[Event, State]]:
    """Each event with the state after it; the state is one object that goes on changing.

    Examples
    --------
    >>> log = EventLog(clock=lambda: 0.0)
    >>> log.record("arrive", 0, prompt=5)
    >>> log.record("admit", 0, hits=0)
    >>> [(event["kind"], list(state.waiting), list(state.running)) for event, state in replay(log)]
    [('arrive', [0], []), ('admit', [], [0])]
    """
    state = State()
    for event in events:
        state.apply(event)
        yield event, state
