"""Frames, and the compact record of what changes from one to the next.

Each panel draws with a fixed number of elements. How one of them looks is a :class:`Look`: its
words, its kind, its size. A run has few different looks, so they stand in a table; the first frame
is a list of places in the table, and every further frame a list of changes.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from helpers.book.replay.panels import Panel


class Look(NamedTuple):
    """How one element looks.

    Parameters
    ----------
    text : str or None
        Its words; None for an element that holds others and keeps them.
    kind : str
        Names for the style sheet, separated by spaces.
    size : str or None
        A CSS value for the element's one measure, such as how full it is.
    """

    text: str | None
    kind: str = ""
    size: str | None = None


@dataclass(frozen=True)
class Frame:
    """One moment of a run.

    Parameters
    ----------
    says : str
        What happened, in one sentence.
    states : mapping of str to anything
        For each panel, by name, what it shows; see the panel for what that must be.
    """

    says: str
    states: Mapping[str, Any]


@dataclass(frozen=True)
class Record:
    """What a page holds of a run.

    Parameters
    ----------
    looks : tuple of Look
        Every look that occurs.
    first : tuple of int
        For each element the number of its look in the first frame.
    steps : tuple of tuple of int
        For each further frame: element, look, element, look ...
    """

    looks: tuple[Look, ...]
    first: tuple[int, ...]
    steps: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, frames: Sequence[Sequence[Look]]) -> Record:
        """Record a list of frames, each a list of looks of the same length.

        Examples
        --------
        >>> record = Record.of([[Look("a"), Look("b")], [Look("a"), Look("a")]])
        >>> record.first, record.steps
        ((0, 1), ((1, 0),))
        """
        numbers: dict[Look, int] = {}
        frames = [[numbers.setdefault(look, len(numbers)) for look in frame] for frame in frames]
        steps = []
        for before, after in itertools.pairwise(frames):
            pairs = zip(before, after, strict=True)
            changes = [(i, new) for i, (old, new) in enumerate(pairs) if old != new]
            steps.append(tuple(number for change in changes for number in change))
        return cls(tuple(numbers), tuple(frames[0]), tuple(steps))

    def frame(self, number: int) -> list[Look]:
        """Return how every element looks in one frame.

        Examples
        --------
        >>> Record.of([[Look("a"), Look("b")], [Look("a"), Look("a")]]).frame(1)[1].text
        'a'
        """
        if not 0 <= number <= len(self.steps):
            raise ValueError(f"number: {number!r} is no frame; allowed are 0 to {len(self.steps)}")
        now = list(self.first)
        for changes in self.steps[:number]:
            for element, look in zip(changes[::2], changes[1::2], strict=True):
                now[element] = look
        return [self.looks[look] for look in now]

    def to_data(self) -> dict[str, Any]:
        """The record as plain lists, for JSON."""
        looks = []
        for look in self.looks:
            short = 3 if look.size is not None else 2 if look.kind else 1
            looks.append(list(look)[:short])
        return {"looks": looks, "first": list(self.first), "steps": [list(s) for s in self.steps]}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Record:
        """The inverse of :meth:`to_data`."""
        looks = tuple(Look(*row) for row in data["looks"])
        return cls(looks, tuple(data["first"]), tuple(tuple(step) for step in data["steps"]))


class Run:
    """A run to be replayed: the panels, and the frames they show.

    Parameters
    ----------
    panels : mapping of str to Panel
        By the names that the frames use, in the order in which they stand on the page.
    frames : sequence of Frame
        At least one; each must hold a state for every panel and for nothing else.

    Raises
    ------
    ValueError
        If there is no panel or frame, a sentence is empty, or a frame's panels are not the run's.
    """

    def __init__(self, panels: Mapping[str, Panel], frames: Sequence[Frame]) -> None:
        if not panels:
            raise ValueError("panels: none given; at least one is needed")
        if not frames:
            raise ValueError("frames: none given; at least one is needed")
        for number, frame in enumerate(frames):
            if not isinstance(frame.says, str) or not frame.says.strip():
                raise ValueError(f"frames[{number}].says: {frame.says!r} is not a non-empty text")
            if set(frame.states) != set(panels):
                raise ValueError(
                    f"frames[{number}].states: has {sorted(frame.states)}; the panels are "
                    f"{sorted(panels)}"
                )
        self.panels = dict(panels)
        self.frames = tuple(frames)

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def says(self) -> list[str]:
        """The sentence of each frame."""
        return [frame.says for frame in self.frames]

    @cached_property
    def looks(self) -> dict[str, list[list[Look]]]:
        """For each panel and frame how its elements look."""
        return {
            name: panel.looks([frame.states[name] for frame in self.frames])
            for name, panel in self.panels.items()
        }

    @cached_property
    def record(self) -> Record:
        """The compact record: all panels' elements in one row."""
        rows = zip(*self.looks.values(), strict=True)
        return Record.of([[look for part in row for look in part] for row in rows])

    def html(self, number: int = 0) -> str:
        """Draw one frame."""
        if not 0 <= number < len(self.frames):
            raise ValueError(
                f"number: {number!r} is no frame; allowed are 0 to {len(self.frames) - 1}"
            )
        return "".join(panel.draw(self.looks[name][number]) for name, panel in self.panels.items())
