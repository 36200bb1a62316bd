"""What a replay is drawn with: blocks, lanes, tokens, facts.

A panel is told its states in all frames at once and answers with the looks of its elements; it
draws any frame from these looks alone. So a page that moves elements from look to look shows what
Python would draw.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, NamedTuple, Protocol

from helpers.book.replay.record import Look

#: colours for owners; a sixth owner has the first one's, and another letter
_COLOURS = 5
#: how a lane's span can look: each differs from the others in height or pattern, not only in colour
PATTERNS = ("solid", "stripes", "dots", "outline", "line", "dashes")


class Panel(Protocol):
    """Something that draws one part of a replay."""

    def looks(self, states: Sequence[Any]) -> list[list[Look]]:
        """For each frame's state the looks of the panel's elements: always equally many."""

    def draw(self, looks: Sequence[Look]) -> str:
        """The panel as HTML, with its elements in the order of their looks."""


def element(tag: str, look: Look, classes: str = "", inner: str = "") -> str:
    """Write an element that a replay changes: one with ``data-v``.

    Examples
    --------
    >>> element("b", Look("A", "o0", "50%"))
    '<b data-v="o0" style="--v:50%">A</b>'
    """
    of_class = f' class="{classes}"' if classes else ""
    style = "" if look.size is None else f' style="--v:{escape(look.size)}"'
    text = inner if look.text is None else escape(look.text, quote=False)
    return f'<{tag}{of_class} data-v="{escape(look.kind)}"{style}>{text}</{tag}>'


def _panel(kind: str, label: str, body: str, legend: str) -> str:
    below = f'<p class="mb-y-legend">{legend}</p>' if legend else ""
    return f'<div class="mb-y-{kind}"><p class="mb-y-label">{escape(label)}</p>{body}{below}</div>'


def _whole(name: str, value: Any, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name}: {value!r} is not allowed; a whole number from {least} is")
    return value


# ---- blocks --------------------------------------------------------------------------------------


class Block(NamedTuple):
    """One block of memory that is not simply free.

    Parameters
    ----------
    owners : str
        The letters of those whose block tables hold it.
    filled : int
        Slots that are written.
    kept : bool
        Freed by all, but its contents are kept for whoever asks for the same.
    """

    owners: str
    filled: int
    kept: bool = False


class Blocks:
    """Blocks of memory, such as those of a paged KV cache.

    A block shows its owner's letter, and a bar as long as it is full. One with two owners shows
    both letters, one with more their number; striped, as it may not be written. A block that was
    freed and whose contents are kept is dashed, its letter in brackets.

    A frame's state is a list with a :class:`Block`, or None for a free one, for each block.

    Parameters
    ----------
    label : str
        What the blocks are.
    count, size : int
        How many blocks, and how many slots each has.
    owners : str
        The letters that occur.
    kept, shared : bool
        Whether the legend explains kept and shared blocks.

    Examples
    --------
    >>> memory = Blocks("KV cache", count=3, size=4, owners="AB")
    >>> for look in memory.looks([[Block("A", 3), Block("AB", 4), None]])[0]:
    ...     print(look)
    Look(text='A', kind='o0', size='75%')
    Look(text='A+B', kind='o0 shared', size='100%')
    Look(text='', kind='free', size='0%')
    """

    def __init__(
        self,
        label: str,
        *,
        count: int,
        size: int,
        owners: str,
        kept: bool = False,
        shared: bool = False,
    ) -> None:
        self.label = label
        self.count = _whole("count", count, 1)
        self.size = _whole("size", size, 1)
        self.owners = owners
        notes = ["letter: whose block", f"bar: how many of its {size} slots are written"]
        if shared:
            notes.append("stripes: shared")
        if kept:
            notes.append("brackets: freed, contents kept")
        self.legend = "; ".join(notes)

    def looks(self, states: Sequence[Sequence[Block | None]]) -> list[list[Look]]:
        """See :class:`Panel`."""
        for number, state in enumerate(states):
            if len(state) != self.count:
                raise ValueError(f"frame {number}: {len(state)} blocks; there are {self.count}")
        return [[self._look(block) for block in state] for state in states]

    def _look(self, block: Block | None) -> Look:
        if block is None:
            return Look("", "free", "0%")
        for owner in block.owners or "?":
            if owner not in self.owners:
                raise ValueError(f"owners: {owner!r} is unknown; allowed are {self.owners!r}")
        if not 0 <= block.filled <= self.size:
            raise ValueError(f"filled: {block.filled!r} is not allowed; 0 to {self.size} is")
        text, kind = block.owners, f"o{self.owners.index(block.owners[0]) % _COLOURS}"
        if len(block.owners) > 1:
            text = "+".join(text) if len(text) == 2 else f"×{len(text)}"
            kind += " shared"
        if block.kept:
            text, kind = f"({text})", f"{kind} kept"
        return Look(text, kind, f"{100 * block.filled / self.size:.4g}%")

    def draw(self, looks: Sequence[Look]) -> str:
        """See :class:`Panel`."""
        cells = "".join(
            f"<span><small>{number}</small>{element('b', look)}</span>"
            for number, look in enumerate(looks)
        )
        return _panel("blocks", self.label, f"<div>{cells}</div>", escape(self.legend))


# ---- lanes ---------------------------------------------------------------------------------------


class Span(NamedTuple):
    """Something that a lane does from ``start`` to ``stop``, in the unit of the lanes."""

    lane: int
    start: float
    stop: float
    kind: str
    text: str = ""


class Lanes:
    """Who does what when: one lane each, time to the right, what is still to come in pale.

    A frame's state is the time up to which the run has come.

    Parameters
    ----------
    label : str
        What the lanes are, and what time is measured in.
    names : sequence of str
        One per lane, short.
    length : float
        The time at which the run ends.
    spans : sequence of Span
        What the lanes do. Those of one lane must not overlap.
    kinds : mapping of str to (str, str)
        For each kind of span its pattern, one of :data:`PATTERNS`, and what it is called in the
        legend.
    least : float
        Fewest pixels for one unit of time. If that is more than there is room for, the lanes move
        past under the present moment.

    Examples
    --------
    >>> spans = [Span(0, 0, 1, "f", "1"), Span(0, 3, 5, "b", "1")]
    >>> kinds = {"f": ("solid", "forward"), "b": ("stripes", "backward")}
    >>> lanes = Lanes("Stages", names=["0"], length=5, spans=spans, kinds=kinds)
    >>> lanes.looks([0, 2.5])[1]
    [Look(text=None, kind='', size='2.5')]
    """

    def __init__(
        self,
        label: str,
        *,
        names: Sequence[str],
        length: float,
        spans: Sequence[Span],
        kinds: Mapping[str, tuple[str, str]],
        least: float = 3,
    ) -> None:
        if not (isinstance(length, (int, float)) and 0 < length < math.inf):
            raise ValueError(f"length: {length!r} is not allowed; a number above 0 is")
        for kind, (pattern, _) in kinds.items():
            if pattern not in PATTERNS:
                raise ValueError(f"kinds[{kind!r}]: {pattern!r}; allowed are {', '.join(PATTERNS)}")
        ends: dict[int, float] = {}
        for span in sorted(spans, key=lambda span: (span.lane, span.start)):
            if span.kind not in kinds:
                raise ValueError(f"{span}: its kind is unknown; allowed are {', '.join(kinds)}")
            if span.lane not in range(len(names)):
                raise ValueError(f"{span}: its lane is unknown; allowed are 0 to {len(names) - 1}")
            if not ends.get(span.lane, 0) <= span.start < span.stop <= length:
                raise ValueError(
                    f"{span}: must start at 0 or where the one before it ends, at "
                    f"{ends.get(span.lane, 0):g}, or later, and end by {length:g}"
                )
            ends[span.lane] = span.stop
        self.label = label
        self.names = tuple(names)
        self.length = length
        self.spans = tuple(spans)
        self.kinds = dict(kinds)
        self.least = least

    def looks(self, states: Sequence[float]) -> list[list[Look]]:
        """See :class:`Panel`."""
        for number, at in enumerate(states):
            if not 0 <= at <= self.length:
                raise ValueError(f"frame {number}: time {at!r}; allowed is 0 to {self.length:g}")
        return [[Look(None, "", f"{at:g}")] for at in states]

    def draw(self, looks: Sequence[Look]) -> str:
        """See :class:`Panel`."""
        lanes = "".join(f"<div>{self._lane(lane)}</div>" for lane in range(len(self.names)))
        ticks = "".join(
            f'<small style="--a:{tick:g}">{tick:g}</small>' for tick in _ticks(self.length)
        )
        track = element("div", looks[0], "mb-y-track", f"{lanes}<div>{ticks}</div>")
        names = "".join(f"<span>{escape(name)}</span>" for name in self.names)
        body = (
            f'<div class="mb-y-both" style="--n:{self.length:g};--least:{self.least:g}px">'
            f'<div class="mb-y-names">{names}</div><div class="mb-y-view">{track}</div></div>'
        )
        legend = " ".join(
            f'<span><i class="{pattern}"></i>{escape(words)}</span>'
            for pattern, words in self.kinds.values()
        )
        return _panel("lanes", self.label, body, legend)

    def _lane(self, lane: int) -> str:
        return "".join(
            f'<i class="{self.kinds[span.kind][0]}" style="--a:{span.start:g};--b:{span.stop:g}">'
            f"{escape(span.text, quote=False)}</i>"
            for span in self.spans
            if span.lane == lane
        )


def _ticks(length: float) -> list[float]:
    """Round times from 0 on: at most seven, the last with room to be written.

    Examples
    --------
    >>> _ticks(61)
    [0, 10, 20, 30, 40, 50]
    """
    step = next(
        unit * 10**power
        for power in range(-3, 12)
        for unit in (1, 2, 5)
        if length / (unit * 10**power) <= 6.5
    )
    return [step * i for i in range(math.floor(0.93 * length / step) + 1)]


# ---- tokens --------------------------------------------------------------------------------------


class Token(NamedTuple):
    """A token's text, and its kind."""

    text: str
    kind: str


class Tokens:
    """The tokens of one text, each in a frame of its own.

    A frame's state is a list of :class:`Token`; its length may change from frame to frame. A kind
    is one or several of the names below, with spaces between.

    ============== ================================================
    ``waiting``    dashed frame: known, but not computed
    ``held``       solid frame: its keys and values are held
    ``hit``        double frame: found in the cache, not computed
    ``made``       bold, underlined: generated
    ``drafted``    dotted frame, slanted
    ``rejected``   struck through
    ``now``        filled: what this moment is about
    ============== ================================================

    Parameters
    ----------
    label : str
        Whose tokens.
    legend : mapping of str to str
        For each kind that occurs what it is called.

    Examples
    --------
    >>> strip = Tokens("A's tokens", {"held": "in the cache", "made": "generated"})
    >>> states = [[Token("def", "held")], [Token("def", "held"), Token(" main", "made now")]]
    >>> for looks in strip.looks(states):
    ...     print([(look.text, look.kind) for look in looks])
    [('def', 'held'), ('␣main', 'off')]
    [('def', 'held'), ('␣main', 'made now')]
    """

    KINDS = ("waiting", "held", "hit", "made", "drafted", "rejected", "now")

    def __init__(self, label: str, legend: Mapping[str, str]) -> None:
        for kind in legend:
            self._check(kind)
        self.label = label
        self.legend = dict(legend)

    def _check(self, kinds: str) -> None:
        for kind in kinds.split() or [""]:
            if kind not in self.KINDS:
                raise ValueError(f"kind: {kind!r} is unknown; allowed are {', '.join(self.KINDS)}")

    def looks(self, states: Sequence[Sequence[Token]]) -> list[list[Look]]:
        """See :class:`Panel`."""
        for state in states:
            for token in state:
                self._check(token.kind)
        length = max((len(state) for state in states), default=0)
        # what is still to come takes its room already, unseen, so that nothing moves when it comes
        coming = [Look("", "off")] * length
        rows = []
        for state in reversed(states):
            for place, token in enumerate(state):
                coming[place] = Look(shown(token.text), token.kind)
            rows.append(
                [
                    coming[place] if place < len(state) else Look(coming[place].text, "off")
                    for place in range(length)
                ]
            )
        return rows[::-1]

    def draw(self, looks: Sequence[Look]) -> str:
        """See :class:`Panel`."""
        strip = "".join(element("span", look) for look in looks)
        legend = " ".join(
            f'<span><span data-k="{escape(kind)}">a</span> {escape(words)}</span>'
            for kind, words in self.legend.items()
        )
        return _panel("tokens", self.label, f"<div>{strip}</div>", legend)


def shown(text: str) -> str:
    """Make the white space of a token visible.

    Examples
    --------
    >>> shown(" main"), shown("\\n        "), shown("x\\t")
    ('␣main', '⏎␣×8', 'x⇥')
    """
    text = text.replace("\n", "⏎").replace("\t", "⇥")
    text = re.sub(" {3,}", lambda match: f"␣×{len(match[0])}", text)
    return "".join(c if c.isprintable() else "·" for c in text.replace(" ", "␣"))


# ---- facts ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Facts:
    """A few named figures.

    A frame's state is a list with a text or whole number for each name.

    Parameters
    ----------
    label : str
        What they describe.
    names : sequence of str

    Examples
    --------
    >>> Facts("Engine", ["running", "waiting"]).looks([[1, 0]])
    [[Look(text='1', kind='', size=None), Look(text='0', kind='', size=None)]]
    """

    label: str
    names: Sequence[str]

    def looks(self, states: Sequence[Sequence[str | int]]) -> list[list[Look]]:
        """See :class:`Panel`."""
        for number, state in enumerate(states):
            if len(state) != len(self.names):
                raise ValueError(f"frame {number}: {len(state)} facts; there are {len(self.names)}")
        return [[Look(str(value)) for value in state] for state in states]

    def draw(self, looks: Sequence[Look]) -> str:
        """See :class:`Panel`."""
        pairs = "".join(
            f"<span>{escape(name)} {element('b', look)}</span>"
            for name, look in zip(self.names, looks, strict=True)
        )
        return _panel("facts", self.label, f"<div>{pairs}</div>", "")
