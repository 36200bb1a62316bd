"""Replays: a real run's event log, stepped through on a page without a kernel.

Python turns a log into *frames*, one for each thing worth looking at, and says for each of a few
*panels* what it shows there. The panels draw every frame in terms of the same elements; what the
page holds is the first frame, drawn, and for each further one which elements change and how. A
module of about 2 kB applies the changes; it knows nothing of caches, queues or tokens.

================================ ==================================================================
:class:`~.panels.Blocks`         blocks of memory: whose, how full, shared, kept after being freed
:class:`~.panels.Lanes`          who does what when: requests, devices, links, one lane each
:class:`~.panels.Tokens`         tokens of one text: in the cache, generated, drafted, rejected
:class:`~.panels.Facts`          a few named figures
================================ ==================================================================

Examples
--------
>>> frames = [
...     Frame("A asks for three tokens' worth.", {"memory": [Block("A", 3), None]}),
...     Frame("A writes on.", {"memory": [Block("A", 4), Block("A", 1)]}),
... ]
>>> run = Run({"memory": Blocks("Cache", count=2, size=4, owners="AB")}, frames)
>>> replay("two-blocks", "Filling blocks", "Two blocks of a cache.", run)
Filling blocks: 2 frames
"""

from helpers.book.replay.component import Replay, replay, replays_on_page
from helpers.book.replay.panels import Block, Blocks, Facts, Lanes, Panel, Span, Token, Tokens
from helpers.book.replay.record import Frame, Look, Record, Run

__all__ = [
    "Block",
    "Blocks",
    "Facts",
    "Frame",
    "Lanes",
    "Look",
    "Panel",
    "Record",
    "Replay",
    "Run",
    "Span",
    "Token",
    "Tokens",
    "replay",
    "replays_on_page",
]
