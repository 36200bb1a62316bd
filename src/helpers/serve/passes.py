"""How many passes of a model some requests take: the scheduler and the blocks alone, no model.

Who computes what in which step hangs on lengths only, so it can be counted without computing
anything: the same scheduler and the same block manager as in the engine, with requests whose
answers are as long as they are said to be. No torch here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from helpers.serve.blocks import BlockManager
from helpers.serve.metrics import RequestMetrics
from helpers.serve.request import Request, SamplingParams
from helpers.serve.scheduler import Scheduler
from helpers.serve.waste import Lengths, check_lengths


@dataclass(frozen=True)
class Passes:
    """What serving some requests took."""

    passes: int  # of the model, each over all requests that were running
    request_steps: int  # requests that took part, added up over the passes
    block_steps: int  # blocks in use, added up over the passes
    preemptions: int

    @property
    def at_once(self) -> float:
        """Requests that ran together, on average over the passes."""
        return self.request_steps / self.passes


def count_passes(
    lengths: Iterable[Lengths], *, blocks: int, block_size: int, max_batch: int
) -> Passes:
    """Serve requests of known lengths that are all there at the start, nothing shared.

    Parameters
    ----------
    lengths : sequence of (int, int)
        Tokens of the prompt and of the answer of each request, in the order in which they came.
    blocks, block_size : int
        The cache.
    max_batch : int
        Most requests at a time. A server that reserves room for the longest sequence runs as many
        as it has such rooms.

    Returns
    -------
    Passes

    Raises
    ------
    ValueError
        For lengths that are none, or a request that does not fit into the cache alone.

    Examples
    --------
    Four requests of one prompt token and three answer tokens, two at a time:

    >>> count_passes([(1, 3)] * 4, blocks=8, block_size=4, max_batch=2)
    Passes(passes=6, request_steps=12, block_steps=12, preemptions=0)
    """
    manager = BlockManager(blocks, block_size, prefix_caching=False)
    pairs = check_lengths(lengths, block_size, longest_tokens=blocks * block_size)
    scheduler = Scheduler(manager, max_batch=max_batch)
    requests = [
        Request(number, [0] * prompt, prompt, answer, SamplingParams(), RequestMetrics(0.0))
        for number, (prompt, answer) in enumerate(pairs)
    ]
    for request in requests:
        scheduler.add(request)
    passes = steps = held = 0
    while scheduler.unfinished:
        step = scheduler.schedule()
        passes += 1
        steps += len(step.work)
        held += manager.blocks - manager.free_blocks
        for _, request in scheduler.computed(step):
            request.ids.append(0)
            if request.generated == request.limit:
                scheduler.finish(request, "length")
    preemptions = sum(request.metrics.preemptions for request in requests)
    return Passes(passes, steps, held, preemptions)
