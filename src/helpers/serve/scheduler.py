"""Who computes what in the next step. Plain Python: no torch, no model, no clock.

Each request is a list of known tokens, the first so many of which are computed, that is, have keys
and values in the cache. A step closes some of these gaps. Prefill is a wide gap, decoding a gap of
one token, and a preempted request is one whose gap became wide again; the scheduler needs no other
difference between them.

Requests are served in the order in which they came. At all times every running request is older
than every waiting one, and both lists are in order of age; so the youngest, the first to be
preempted, is the last of the running, and belongs at the head of the queue. The oldest is never
preempted and a request that could not fit alone is never taken, so some request always goes on.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from helpers.serve.blocks import BlockManager
from helpers.serve.events import EventLog
from helpers.serve.request import Request, Status

POLICIES = ("continuous", "static", "shrinking")
#: the budget of a step that has none: more tokens than any batch holds
UNLIMITED = 10**12


class Work(NamedTuple):
    """Tokens ``start`` to ``start + count - 1`` of a request, to be computed in this step."""

    request: Request
    start: int
    count: int

    @property
    def complete(self) -> bool:
        """Whether all known tokens are computed after it, so that the next one can be sampled."""
        return self.start + self.count == len(self.request.ids)


@dataclass
class Step:
    """What the model has to do: copy blocks, then compute all work in one pass."""

    work: list[Work] = field(default_factory=list)
    copies: list[tuple[int, int]] = field(default_factory=list)  # (source, destination) blocks

    @property
    def tokens(self) -> int:
        """Tokens the model will compute."""
        return sum(work.count for work in self.work)


class Scheduler:
    """Choose the work of each step.

    Parameters
    ----------
    blocks : BlockManager
        Memory of the cache, in blocks.
    policy : str
        ``"continuous"`` admits a request as soon as there is room (Yu et al., *Orca*, 2022);
        ``"static"`` only when the whole batch before it is done, and till then a row that is done
        computes on for nobody, for such a batch is one rectangle of rows and columns;
        ``"shrinking"`` waits too, but drops the rows that are done.
    max_batch : int
        Most sequences running at a time.
    chunk : int, optional
        Most tokens in one step. A longer prompt is computed over several steps, in which others
        go on decoding (Agrawal et al., *Sarathi-Serve*, 2024). Without it a step takes whole
        prompts, and so do the two policies that wait.
    log : EventLog, optional
        Told of every decision.

    Examples
    --------
    >>> from helpers.serve.request import SamplingParams
    >>> from helpers.serve.metrics import RequestMetrics
    >>> scheduler = Scheduler(BlockManager(8, 4), chunk=6)
    >>> for number, length in enumerate([5, 4]):
    ...     scheduler.add(Request(number, list(range(10 * number, 10 * number + length)), length, 3,
    ...                           SamplingParams(), RequestMetrics(0.0)))
    >>> step = scheduler.schedule()
    >>> [(work.request.number, work.start, work.count) for work in step.work]
    [(0, 0, 5), (1, 0, 1)]
    >>> for _, request in scheduler.computed(step):  # request 0 is complete: its next token
    ...     request.ids.append(77)
    >>> [(work.request.number, work.start, work.count) for work in scheduler.schedule().work]
    [(0, 5, 1), (1, 1, 3)]
    """

    def __init__(
        self,
        blocks: BlockManager,
        *,
        policy: str = "continuous",
        max_batch: int = 16,
        chunk: int | None = None,
        log: EventLog | None = None,
    ):
        if policy not in POLICIES:
            raise ValueError(f"policy is {policy!r}; it must be one of {', '.join(POLICIES)}")
        for name, value in (("max_batch", max_batch), ("chunk", chunk)):
            if value is None and name == "chunk":
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} is {value!r}; it must be a whole number, 1 or more")
        if chunk is not None and policy != "continuous":
            raise ValueError(f"chunk is {chunk}; policy {policy!r} takes whole prompts, so None")
        self.blocks = blocks
        self.policy = policy
        self.max_batch = max_batch
        self.chunk = chunk
        self.log = EventLog(keep=False) if log is None else log
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []
        self.padding: list[Request] = []  # finished rows of a static batch

    @property
    def unfinished(self) -> int:
        """Requests waiting or running."""
        return len(self.waiting) + len(self.running)

    def add(self, request: Request) -> None:
        """Put a new request at the end of the queue."""
        self.waiting.append(request)

    # ---- one step ------------------------------------------------------------------------------

    def schedule(self) -> Step:
        """Choose the next step's work: first the running, oldest first, then the admitted."""
        step = Step()
        budget = self.chunk if self.chunk is not None else UNLIMITED
        admit = self.policy == "continuous" or not self.running
        turn = 0
        while turn < len(self.running) and budget > 0:
            request = self.running[turn]
            if request.placed < len(request.ids):  # the newest token has no place yet
                while not self.blocks.can_append(request.number):
                    if self.padding:
                        self._release(self.padding.pop())
                        continue
                    # _admit gives nobody what is left over: the head of the queue is now the one
                    # that was preempted, and it needs all its blocks, one of which is taken here
                    self._preempt(self.running[-1])
                    if request.status is not Status.RUNNING:  # it was itself the youngest
                        return step
                step.copies += self.blocks.append(request.number, request.ids[-1])
                request.placed += 1
            budget -= self._work(step, request, budget)
            turn += 1
        if admit:
            self._admit(step, budget)
        for request in self.padding:
            # its last computed token once more: the same keys and values to the same place
            step.work.append(Work(request, request.computed - 1, 1))
            self.log.record("pad", request.number, start=request.computed - 1, tokens=1)
        return step

    def _work(self, step: Step, request: Request, budget: int) -> int:
        """Give a request as much of the budget as it can use; return how much that is."""
        count = min(len(request.ids) - request.computed, budget)
        step.work.append(Work(request, request.computed, count))
        decoding = request.generated and count == 1 and step.work[-1].complete
        kind = "decode" if decoding else "prefill"
        self.log.record(kind, request.number, start=request.computed, tokens=count)
        return count

    def _admit(self, step: Step, budget: int) -> None:
        """Take requests from the head of the queue while batch, blocks and budget have room.

        The head is never passed over for a smaller one behind it: it might wait for ever.

        Blocks can be found by others as soon as they are allocated, before anything is computed.
        That is safe, for who finds them is computed in the same pass or a later one: either all of
        a prompt fits into the step's budget, or it uses the budget up and nobody is admitted behind
        it until it is computed to its end.
        """
        taken = sum(1 + len(request.siblings) for request in self.running)
        while self.waiting and budget > 0:
            request = self.waiting[0]
            taken += 1 + len(request.siblings)
            # every running request will want a block soon: leave one for each, so that what is
            # admitted now is not preempted at once
            reserve = len(self.running)
            if taken > self.max_batch or not self.blocks.can_allocate(request.ids, reserve):
                return
            self.waiting.popleft()
            hits = self.blocks.allocate(request.number, request.ids)
            request.placed = len(request.ids)
            # the last token is computed even when its keys and values are there: it says what
            # comes next
            request.computed = min(hits, request.placed - 1)
            request.status = Status.RUNNING
            if not request.admitted:
                request.admitted = True
                request.metrics.prefix_hit_tokens = request.computed
            self.running.append(request)
            self.log.record("admit", request.number, hits=request.computed)
            budget -= self._work(step, request, budget)

    def _preempt(self, request: Request) -> None:
        """Free the youngest's blocks; it keeps its tokens and will compute them again."""
        request.metrics.preemptions += 1
        request.metrics.discarded_tokens += request.computed
        self._requeue(request)
        self.log.record("preempt", request.number, generated=request.generated)

    def _requeue(self, request: Request) -> None:
        """Put the youngest of the running at the head of the queue, with nothing computed."""
        self.running.remove(request)
        self._release(request)
        request.status = Status.WAITING
        request.computed = request.placed = 0
        self.waiting.appendleft(request)

    def _release(self, request: Request) -> None:
        # what was allocated but never computed must not be found by others
        self.blocks.free(request.number, computed=request.computed)

    def undo(self) -> None:
        """The step failed and nothing is known to be in the cache: all go back to the queue."""
        while self.running:
            request = self.running[-1]
            self._requeue(request)
            self.log.record("undo", request.number, generated=request.generated)
        self._drop_padding()

    def _drop_padding(self) -> None:
        """The rows that are done leave with the last of their batch."""
        while self.padding:
            self._release(self.padding.pop())

    # ---- after the model ran -------------------------------------------------------------------

    def computed(self, step: Step) -> list[tuple[int, Request]]:
        """Note that a step's work is in the cache.

        Returns
        -------
        list of (int, Request)
            The requests that need a token now, each with the place in ``step.work`` whose last row
            tells it. Siblings that are forked off now share the place of the first of them.
        """
        ready = []
        for place, work in enumerate(step.work):
            request = work.request
            if request.status is Status.FINISHED:  # padding
                continue
            request.computed += work.count
            if request.computed == len(request.ids):
                ready.append((place, request))
                if request.siblings:
                    ready += [(place, sibling) for sibling in self._fork(request)]
        return ready

    def _fork(self, request: Request) -> list[Request]:
        """Let the other samples of a prompt share its blocks; the first to write copies."""
        siblings, request.siblings = request.siblings, []
        for sibling in siblings:
            self.blocks.fork(request.number, sibling.number)
            sibling.computed, sibling.placed = request.computed, request.placed
            sibling.status, sibling.admitted = Status.RUNNING, True
            sibling.metrics.admitted_s = request.metrics.admitted_s
            sibling.metrics.prefix_hit_tokens = request.computed
            self.log.record("fork", sibling.number, parent=request.number)
        place = self.running.index(request) + 1
        self.running[place:place] = siblings  # in order of age
        return siblings

    def finish(self, request: Request, reason: str) -> None:
        """Take a request out, wherever it stands, and free what it holds.

        In a static batch a finished row holds its blocks until the last one is done; one that was
        aborted or failed does not. After an error nothing that it computed can be found by others.
        """
        if reason == "error":
            request.computed = 0
        if request.status is Status.RUNNING:
            self.running.remove(request)
            if self.policy == "static" and reason in ("length", "stop"):
                self.padding.append(request)
            else:
                self._release(request)
            if not self.running:
                self._drop_padding()
        elif request.status is Status.WAITING and request in self.waiting:
            self.waiting.remove(request)
        request.status = Status.FINISHED
        request.finish = reason
        self.log.record("finish", request.number, reason=reason, generated=request.generated)
