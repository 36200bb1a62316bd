"""The engine: requests in, tokens out, one step at a time.

A step asks the scheduler for work, runs the model once over all of it packed flat, samples one
token for each request that is complete, and finishes those that are done. Everything else here is
bookkeeping at the two ends: what may come in (:mod:`helpers.serve.checks`), and what goes out.

Speculative decoding is not part of it: :mod:`helpers.serve.speculative` serves one sequence, in a
contiguous cache, and says why.

Letters in shape comments: N tokens of the step, packed flat over requests; R rows that are sampled;
C channels; V vocabulary.
"""

from __future__ import annotations

import time
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from helpers.serve.attention import PagedAttention
from helpers.serve.blocks import BlockManager
from helpers.serve.cache import PagedCache
from helpers.serve.checks import Prompt, check_request, check_setting
from helpers.serve.detokenizer import Detokenizer
from helpers.serve.events import EventLog
from helpers.serve.metrics import RequestMetrics
from helpers.serve.packing import pack
from helpers.serve.request import (
    NOT_FINITE,
    Piece,
    Request,
    RequestError,
    RequestOutput,
    SamplingParams,
    Status,
)
from helpers.serve.sampling import new_generator, rewind, sample
from helpers.serve.scheduler import Scheduler, Step
from helpers.serve.stream import Stream


class Engine:
    """Serve many requests with one model and one paged cache.

    Parameters
    ----------
    model : helpers.lm.model.Transformer
    tokenizer : optional
        A byte-level tokenizer (:class:`helpers.lm.tokenizer.Tokenizer`). Without one, prompts and
        answers are tokens only.
    blocks : int, optional
        Blocks of the cache; unless given, enough for ``max_batch`` requests of full context.
    block_size : int
        Tokens in a block.
    policy, max_batch, chunk
        As in :class:`~helpers.serve.scheduler.Scheduler`.
    prefix_caching : bool
        Whether requests that begin alike share what is computed of it.
    kv_dtype : optional
        Format of keys and values in the cache; the model's own unless given.
    packed : bool
        Whether linear weights are copied once into the order the processor likes, where that can be
        done (:mod:`helpers.serve.packing`). The copy does not follow if the model is trained on.
    seed : int
        Of requests that sample and name no seed. These depend on their place in the order of
        arrival too.
    log : bool
        Whether events are kept (see :class:`~helpers.serve.events.EventLog`).
    clock : callable
        Seconds since any moment; all times are told from the engine's start.

    Examples
    --------
    >>> from helpers.lm.config import ModelConfig
    >>> from helpers.lm.model import Transformer
    >>> model = Transformer(ModelConfig(layers=2, d_model=32, heads=4, kv_heads=2, head_dim=8,
    ...                                 ffn=64, vocab=97, context=64))
    >>> engine = Engine(model)
    >>> good, bad = engine.generate([[5, 3, 96], []], SamplingParams(max_tokens=4))
    >>> len(good.tokens), good.finish
    (4, 'length')
    >>> bad.finish, bad.error
    ('error', 'prompt is empty; it must hold at least one token')
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any = None,
        *,
        blocks: int | None = None,
        block_size: int = 16,
        policy: str = "continuous",
        max_batch: int = 16,
        chunk: int | None = None,
        prefix_caching: bool = True,
        kv_dtype: Any = None,
        packed: bool = True,
        seed: int = 0,
        log: bool = True,
        clock: Callable[[], float] = time.perf_counter,
    ):
        if not hasattr(model, "config"):
            raise TypeError(
                f"model is {model!r}; it must be a Transformer, such as loading.load('target')"
            )
        if isinstance(tokenizer, str):
            raise TypeError(f"tokenizer is {tokenizer!r}; it must be one, such as tokenizer.load()")
        check_setting("seed", seed, least=0)
        check_setting("block_size", block_size)
        check_setting("max_batch", max_batch)
        if blocks is None:
            blocks = max_batch * -(-model.config.context // block_size)
        self.model = pack(model) if packed else model
        self.tokenizer = tokenizer
        self.seed = seed
        start_s = clock()
        self.now: Callable[[], float] = lambda: clock() - start_s
        self.log = EventLog(keep=log, clock=self.now)
        self.cache = PagedCache(
            model.config,
            blocks,
            block_size,
            dtype=model.dtype if kv_dtype is None else kv_dtype,
            device=model.device,
        )
        self.blocks = BlockManager(
            blocks, block_size, prefix_caching=prefix_caching, on_event=self.log.record_block
        )
        self.scheduler = Scheduler(
            self.blocks, policy=policy, max_batch=max_batch, chunk=chunk, log=self.log
        )
        self._arrived = 0
        self._outbox: list[Piece] = []  # what the next step that succeeds hands out
        self.streams: dict[int, deque[Piece]] = {}  # by request: what its stream has not taken yet
        self._device = model.device
        self._text_tokens = 0 if tokenizer is None else len(tokenizer)

    # ---- what comes in -------------------------------------------------------------------------

    def add(self, prompt: Prompt, params: SamplingParams | None = None) -> Request:
        """Queue a request.

        Parameters
        ----------
        prompt : str or sequence of int
        params : SamplingParams, optional

        Returns
        -------
        Request
            With ``n`` samples, the first of them. A bad request comes back finished, with its
            ``error``; nothing is raised, for its neighbours have done nothing wrong.
        """
        params = SamplingParams() if params is None else params
        try:
            ids, limit = self._check(prompt, params)
        except RequestError as error:
            request = self._new_request([], 0, SamplingParams(), 0)
            request.status, request.finish, request.error = Status.FINISHED, "error", str(error)
            self.log.record("reject", request.number, error=str(error))
            self._outbox.append(Piece(request.number, None, "", "error", str(error)))
            return request
        family = [self._new_request(ids, limit, params, i) for i in range(params.n)]
        first = family[0]
        if params.n > 1:
            first.siblings = family[1:]
        for request in family:
            request.samples = family if params.n > 1 else []
            parent = {} if request is first else {"parent": first.number}
            self.log.record("arrive", request.number, prompt=len(ids), **parent)
        self.scheduler.add(first)
        return first

    def _new_request(
        self, ids: list[int], limit: int, params: SamplingParams, index: int
    ) -> Request:
        number = self._arrived
        self._arrived += 1
        request = Request(
            number=number,
            ids=list(ids),
            prompt_length=len(ids),
            limit=limit,
            params=params,
            metrics=RequestMetrics(arrival_s=self.now(), prompt_tokens=len(ids)),
        )
        if not params.greedy:
            default = zlib.crc32(f"{self.seed}/{number}".encode())
            request.generator = new_generator(params, default, index)
        if self.tokenizer is not None:
            request.detokenizer = Detokenizer(self.tokenizer, params.stop)
        ends = set(params.stop_tokens)
        if self.tokenizer is not None and not params.ignore_end:
            ends.add(self.tokenizer.end)
        request.ends = frozenset(ends)
        return request

    def _check(self, prompt: Prompt, params: SamplingParams) -> tuple[list[int], int]:
        """The prompt's tokens and the most that may be generated, or a RequestError."""
        ids, limit = check_request(prompt, params, self.model.config, self.tokenizer)
        if params.stop and self.tokenizer is None:
            raise RequestError(f"stop is {params.stop!r}, but without a tokenizer there is no text")
        if params.n > self.scheduler.max_batch:
            raise RequestError(
                f"n is {params.n}; the engine runs at most max_batch = {self.scheduler.max_batch}"
            )
        # the last token that is generated is never fed back, so it takes no room
        need = self.blocks.blocks_for(len(ids) + limit - 1)
        if need > self.blocks.blocks:
            raise RequestError(
                f"prompt of {len(ids)} tokens with max_tokens {params.max_tokens} needs {need} "
                f"blocks of {self.blocks.block_size} tokens; the cache has {self.blocks.blocks}"
            )
        return ids, limit

    # ---- one step ------------------------------------------------------------------------------

    def step(self) -> list[Piece]:
        """Let every scheduled request advance; return what they gave (nothing if there are none).

        An engine is for one thread. If the model raises, all requests go back to the queue, from
        which the next step takes them again: they get the tokens that they would have got.
        """
        self.log.step += 1
        try:
            step = self.scheduler.schedule()
            if step.work:
                self._advance(step)
            elif self.scheduler.unfinished:
                raise RuntimeError("the scheduler found no work although requests wait")
        except BaseException:  # the caller's interruption too
            self._undo()
            raise
        pieces, self._outbox = self._outbox, []
        for piece in pieces if self.streams else ():
            if piece.request in self.streams:
                self.streams[piece.request].append(piece)
        return pieces

    def _undo(self) -> None:
        """Put everybody back in the queue, and each one's chance back to its last token."""
        for request in self.scheduler.running:
            if request.generator is not None:
                rewind(request.generator, request.generated)
        self.scheduler.undo()

    def _advance(self, step: Step) -> None:
        """Run the model over a step's work, and give each complete request its next token."""
        started_s = self.now()
        for request, _, _ in step.work:
            if request.metrics.admitted_s is None:
                request.metrics.admitted_s = started_s
        with torch.inference_mode():
            hidden = self._run(step)  # [N, C]
            ready, rows = self._ready(step)
            if not ready:
                return
            # [N, C] -> [R, C] -> [R, V]
            logits = self.model.logits(hidden if rows is None else hidden[rows])
            tokens = sample(logits, ready)
        now_s = self.now()
        for request, token in zip(ready, tokens, strict=True):
            self._outbox.append(self._accept(request, token, now_s))

    def _run(self, step: Step) -> Tensor:
        """The model's last hidden state of every token of the step."""
        tokens: list[int] = []
        positions: list[int] = []
        for request, start, count in step.work:
            if count == 1:
                tokens.append(request.ids[start])
                positions.append(start)
            else:
                tokens += request.ids[start : start + count]
                positions += range(start, start + count)
        if step.copies:
            self.cache.copy(step.copies)
        table = self.blocks.table
        attend = PagedAttention(
            self.cache,
            [(table(request.number), start, count) for request, start, count in step.work],
        )
        return self.model.hidden(
            torch.tensor(tokens, device=self._device),
            torch.tensor(positions, device=self._device),
            attend,
        )

    def _ready(self, step: Step) -> tuple[list[Request], list[int] | None]:
        """The requests that get a token now, and their rows (None: all rows, in order)."""
        ready = self.scheduler.computed(step)
        last = list(accumulate(work.count for work in step.work))  # one past each work's last row
        rows = [last[place] - 1 for place, _ in ready]
        all_rows = len(rows) == last[-1] and rows == list(range(last[-1]))
        return [request for _, request in ready], None if all_rows else rows

    def _accept(self, request: Request, token: int | None, now_s: float) -> Piece:
        """Give a request its token; finish it if that was the last."""
        if token is None:
            request.error = NOT_FINITE
            self._finish(request, "error", now_s)
            return Piece(request.number, None, "", "error", request.error)
        request.ids.append(token)
        request.metrics.token_times_s.append(now_s)
        self.log.record("token", request.number, token=token)
        text, finish = "", None
        if token in request.ends:
            finish = "stop"
        elif (detokenizer := request.detokenizer) is not None and token < self._text_tokens:
            text = detokenizer.push(token)
            if detokenizer.stopped:
                finish = "stop"
        if finish is None and request.generated >= request.limit:
            finish = "length"
        if finish is not None:
            if request.detokenizer is not None:
                text += request.detokenizer.flush()
                if request.detokenizer.stopped:  # what was held back can complete a stop string
                    finish = "stop"
            self._finish(request, finish, now_s)
        return Piece(request.number, token, text, finish)

    def _finish(self, request: Request, reason: str, now_s: float) -> None:
        self.scheduler.finish(request, reason)
        request.metrics.finished_s = now_s

    # ---- what goes out -------------------------------------------------------------------------

    def abort(self, request: Request) -> None:
        """Stop all samples of a request's prompt, whichever of them is given; free their blocks."""
        for one in request.samples or [request]:
            if one.status is not Status.FINISHED:
                self._finish(one, "abort", self.now())
                if one.number in self.streams:
                    self.streams[one.number].append(Piece(one.number, None, "", "abort"))

    def output(self, request: Request) -> RequestOutput:
        """The answer as far as it goes; with ``n`` samples, this one with all of them."""
        samples = request.samples or [request]
        outputs = [
            RequestOutput(
                prompt_tokens=one.ids[: one.prompt_length],
                tokens=one.tokens,
                text="" if one.detokenizer is None else one.detokenizer.text,
                finish=one.finish,
                error=one.error,
                metrics=one.metrics,
            )
            for one in samples
        ]
        own = outputs[samples.index(request)]
        return replace(own, samples=tuple(outputs)) if request.samples else own

    def generate(
        self,
        prompts: Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
    ) -> list[RequestOutput]:
        """Serve a list of prompts to the end.

        Parameters
        ----------
        prompts : list of str or of token lists
        params : SamplingParams, or one for each prompt

        Returns
        -------
        list of RequestOutput
            In the order of the prompts; a bad one has ``finish == "error"``.
        """
        if isinstance(prompts, str) or not isinstance(prompts, Sequence):
            raise TypeError(f"prompts is {type(prompts).__name__}; it must be a list of prompts")
        if params is None or isinstance(params, SamplingParams):
            params = [params] * len(prompts)
        elif not isinstance(params, Sequence) or len(params) != len(prompts):
            raise ValueError(
                f"params is {params!r}; it must be one SamplingParams, or {len(prompts)} of them, "
                "one for each prompt"
            )
        requests: list[Request] = []
        try:
            for prompt, one in zip(prompts, params, strict=True):
                requests.append(self.add(prompt, one))
            for request in requests:
                for one in request.samples or [request]:
                    while one.status is not Status.FINISHED:
                        self.step()
        finally:  # only an exception leaves any of them unfinished
            for request in requests:
                self.abort(request)
            # rejections are told by the outputs; no step need hand them out
            told = {request.number for request in requests}
            self._outbox = [piece for piece in self._outbox if piece.request not in told]
        return [self.output(request) for request in requests]

    def stream(self, prompt: Prompt, params: SamplingParams | None = None) -> Stream:
        """Serve one prompt, giving each piece as it comes.

        The prompt is queued at once. Several streams can be read in turn: each step advances all of
        them, and what a stream has not taken yet waits for it. Closing the stream, or dropping it,
        aborts the request.

        Returns
        -------
        iterator of Piece
            With ``n`` samples, their pieces mixed, told apart by ``request``.
        """
        return Stream(self, self.add(prompt, params))
