"""What a cache buys, token by token: each time with it and without, in turns.

With the cache, the engine does one step: one token passes through the layers and attends to the
keys and values that are kept. Without, all tokens of the text pass through. The model is the same,
its weights packed alike, and which tokens the text holds does not matter for the time.

Every pair of samples is taken side by side, the first of the two changing from round to round, so
that a machine that slows down slows both.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from helpers.bench import operations
from helpers.bench.cache_bounds import count_calls
from helpers.bench.environment import Environment, current_environment
from helpers.bench.operations import OperationsRun
from helpers.bench.stopwatch import PARTS, split
from helpers.bench.timing import Measurement, round_significant

COMMAND = "helpers.bench.cache_steps.measure()"

#: lengths of the text behind which a token is timed
LENGTHS = (32, *range(64, 1000, 64), 1000)
#: steps with the cache in a sample: one alone is too short for a busy machine
STEPS = 8
#: the parts of a pass are timed behind a short text, a longer and a long one
PART_LENGTHS = (64, 512, 960)
#: prompts read, and sequences that decode together behind a context, for the roofline
PREFILLS, BATCHES, CONTEXT = (16, 64, 256, 1000), (1, 4, 16), 256
#: answers of the playground: prompts and tokens
PLAY_PROMPTS, PLAY_TOKENS = (16, 128, 512), (1, 4, 16, 64)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TokenTimes(_Record):
    """One token behind a text of ``length`` tokens, with the cache and without."""

    length: int = Field(ge=1)
    cached: Measurement
    uncached: Measurement


class AnswerTimes(_Record):
    """A whole answer, its prompt included, with the cache and without."""

    prompt: int = Field(ge=1)
    tokens: int = Field(ge=1)
    cached: Measurement
    uncached: Measurement

    @property
    def ratio(self) -> float:
        """How many times longer it takes without."""
        return self.uncached.median_s / self.cached.median_s


class WorkTimes(_Record):
    """One step of the engine: prompts read, or one token each for a batch."""

    name: str
    batch: int = Field(ge=1)
    tokens: int = Field(ge=1)
    past: int = Field(ge=0)
    step: Measurement


class PartTimes(_Record):
    """One pass by its parts; ``hollow`` is the same pass of a model with next to no width."""

    length: int = Field(ge=1)
    cached: bool
    hollow: bool
    parts: dict[str, Measurement]

    @property
    def total_s(self) -> float:
        """The sum of the parts' medians."""
        return sum(part.median_s for part in self.parts.values())


class CacheRun(_Record):
    """All of the lab's measurements with the machine: what a recorded run holds.

    Attributes
    ----------
    environment, created, command, seconds_spent, threads
        As in the other runs.
    model : dict
        The model's sizes.
    packed : bool
        Whether its weights could be packed (:mod:`helpers.serve.packing`).
    calls_cached, calls_uncached : int
        Library calls of one token each way.
    tokens : tuple of TokenTimes
    answers : tuple of AnswerTimes
        The long ones behind the shortest prompt, and those of the playground.
    work : tuple of WorkTimes
    parts : tuple of PartTimes
    near_products : Measurement
        All products of one step, each with its weights in a cache of the processor.
    near_attention : dict of int to Measurement
        All attention of one step behind so many tokens, with keys and values in a cache of the
        processor.
    card_check : OperationsRun
        What the machine card was built with, once more, before and after all of this.
    """

    schema_version: Literal[1] = 1
    kind: Literal["cache"] = "cache"
    environment: Environment
    created: date
    command: str = COMMAND
    seconds_spent: float = Field(ge=0)
    threads: int = Field(ge=1)
    model: dict[str, Any]
    packed: bool
    calls_cached: int = Field(ge=1)
    calls_uncached: int = Field(ge=1)
    tokens: tuple[TokenTimes, ...]
    answers: tuple[AnswerTimes, ...]
    work: tuple[WorkTimes, ...]
    parts: tuple[PartTimes, ...]
    near_products: Measurement
    near_attention: dict[int, Measurement]
    card_check: OperationsRun

    def answer(self, prompt: int, tokens: int) -> AnswerTimes:
        """The answer of this many tokens behind this prompt.

        Raises
        ------
        ValueError
            If it was not timed; the message lists what was.
        """
        known = {(one.prompt, one.tokens): one for one in self.answers}
        if (prompt, tokens) not in known:
            raise ValueError(
                f"prompt, tokens: ({prompt!r}, {tokens!r}) was not timed; there are"
                f" {', '.join(map(str, sorted(known)))}"
            )
        return known[prompt, tokens]

    def part(self, length: int, *, cached: bool, hollow: bool = False) -> PartTimes:
        """One pass by its parts; see :data:`PART_LENGTHS`."""
        for one in self.parts:
            if (one.length, one.cached, one.hollow) == (length, cached, hollow):
                return one
        known = sorted({one.length for one in self.parts if not one.hollow})
        raise ValueError(f"length: {length!r} was not timed; there are {known}")


class Pace:
    """Rounds of samples as long as there is time: a busy machine gets fewer, and none gets none.

    Parameters
    ----------
    budget_s : float, optional
        Seconds from now after which no further round begins; no end without it.

    Examples
    --------
    >>> list(Pace().rounds(3)), list(Pace(budget_s=0).rounds(3))
    ([1, 2, 3], [1])
    """

    def __init__(self, budget_s: float | None = None):
        self._end = None if budget_s is None else time.perf_counter() + budget_s

    @property
    def late(self) -> bool:
        """Whether the time is over."""
        return self._end is not None and time.perf_counter() >= self._end

    def rounds(self, count: int, *, warm_up: bool = False) -> Iterator[int]:
        """Numbers of the rounds from 1 on; before them 0, to warm up, if asked for."""
        for number in range(0 if warm_up and not self.late else 1, count + 1):
            if number > 1 and self.late:
                return
            yield number


# ---- one token ---------------------------------------------------------------------------------


class _Writer:
    """A model that writes behind a text of any length, both ways."""

    def __init__(self, model: Any):
        import torch

        from helpers.serve.packing import pack

        self.model = pack(model)  # once, for both ways: the cache is the only difference
        self.context = model.config.context
        draw = random.Random(0)
        self.ids = [draw.randrange(model.config.vocab) for _ in range(self.context)]
        self._tensor = torch.tensor(self.ids, device=model.device)

    def engine(self, length: int, batch: int = 1) -> Any:
        """A fresh engine whose requests have ``length`` tokens, all but the newest in the cache.

        Fresh, so that blocks lie in a row as they do for the first request of a server.
        """
        from helpers.serve.engine import Engine
        from helpers.serve.request import SamplingParams

        if not 2 <= length < self.context:
            raise ValueError(f"length: {length!r} is not from 2 to {self.context - 1}")
        engine = Engine(self.model, max_batch=batch, prefix_caching=False, log=False)
        prompt = self.ids[: length - 1]
        for _ in range(batch):
            engine.add(prompt, SamplingParams(max_tokens=self.context))
        engine.step()  # reads the prompts; the first token of each comes with them
        return engine

    def whole(self, length: int) -> int:
        """The token behind a text of this length, by a pass over all of it."""
        import torch

        # [1, T]: with a batch, even of one, torch takes the kernel that keeps scores on the chip
        with torch.inference_mode():
            hidden = self.model.hidden(self._tensor[:length].unsqueeze(0))  # [1, T, C]
            return self.model.logits(hidden[:, -1]).argmax(-1).item()

    def cached_s(self, length: int) -> float:
        """Seconds of a step with the cache, ``STEPS`` of them around ``length``."""
        engine = self.engine(length - STEPS // 2)
        start = time.perf_counter()
        for _ in range(STEPS):
            engine.step()
        return (time.perf_counter() - start) / STEPS

    def uncached_s(self, length: int) -> float:
        """Seconds of a pass over ``length`` tokens."""
        start = time.perf_counter()
        self.whole(length)
        return time.perf_counter() - start


def time_tokens(
    model: Any, lengths: Sequence[int] = LENGTHS, *, rounds: int = 3, pace: Pace | None = None
) -> tuple[TokenTimes, ...]:
    """Time the token behind texts of several lengths, each way, in turns.

    Parameters
    ----------
    model : helpers.lm.model.Transformer
    lengths : sequence of int
        From 8 to 8 less than the model's context.
    rounds : int
        Samples of each; every other round goes from the longest text to the shortest.
    pace : Pace, optional
        Makes them fewer.

    Returns
    -------
    tuple of TokenTimes
    """
    writer, room = _Writer(model), model.config.context - STEPS
    _check_each("lengths", lengths, STEPS, room)
    _check_each("rounds", [rounds], 1)
    times = {length: ([], []) for length in lengths}
    with _quiet():
        for length in (min(lengths), max(lengths)):  # to warm up
            writer.cached_s(length), writer.uncached_s(length)
        for number in (pace or Pace()).rounds(rounds):
            for length in lengths if number % 2 else reversed(lengths):
                ways = (writer.cached_s, writer.uncached_s)
                for which in (0, 1) if number % 2 else (1, 0):
                    times[length][which].append(ways[which](length))
    return tuple(
        TokenTimes(
            length=length,
            cached=_measurement("cached", cached, calls=STEPS),
            uncached=_measurement("uncached", uncached),
        )
        for length, (cached, uncached) in times.items()
    )


def count_both(model: Any) -> tuple[int, int]:
    """Library calls of one token, with the cache and without; the same for any length."""
    writer = _Writer(model)
    engine = writer.engine(CONTEXT)
    return count_calls(engine.step), count_calls(lambda: writer.whole(CONTEXT))


# ---- a whole answer ----------------------------------------------------------------------------


def time_answers(
    model: Any,
    prompt: int,
    counts: Sequence[int],
    *,
    samples: int = 1,
    pace: Pace | None = None,
) -> tuple[AnswerTimes, ...]:
    """Time answers from their prompt on: one answer of the longest count, and stops on the way.

    Parameters
    ----------
    model : helpers.lm.model.Transformer
    prompt : int
        Tokens of the prompt; the clock starts before it is read.
    counts : sequence of int
        Tokens of each answer.
    samples : int
        Pairs, the first of the two changing from pair to pair.
    pace : Pace, optional
        Makes them fewer.
    """
    from helpers.serve.engine import Engine
    from helpers.serve.request import SamplingParams

    writer, most = _Writer(model), max(counts)
    _check_each("prompt", [prompt], 1)
    _check_each("counts", counts, 1, model.config.context - prompt)
    _check_each("samples", [samples], 1)

    def cached() -> Iterator[None]:
        engine = Engine(writer.model, max_batch=1, prefix_caching=False, log=False)
        engine.add(writer.ids[:prompt], SamplingParams(max_tokens=most))
        while True:
            engine.step()
            yield

    def uncached() -> Iterator[None]:
        for length in range(prompt, prompt + most):
            writer.whole(length)
            yield

    spent = {count: ([], []) for count in counts}
    with _quiet():
        writer.cached_s(STEPS), writer.uncached_s(STEPS)  # to warm up
        for number in (pace or Pace()).rounds(samples):
            for which in (0, 1) if number % 2 else (1, 0):
                start = time.perf_counter()
                for done, _ in enumerate((cached, uncached)[which](), start=1):
                    if done in spent:
                        spent[done][which].append(time.perf_counter() - start)
                    if done == most:
                        break
    return tuple(
        AnswerTimes(
            prompt=prompt,
            tokens=count,
            cached=_measurement("cached", with_s),
            uncached=_measurement("uncached", without_s),
        )
        for count, (with_s, without_s) in spent.items()
    )


# ---- prompts and batches, for the roofline -----------------------------------------------------


def time_work(model: Any, *, samples: int = 3, pace: Pace | None = None) -> tuple[WorkTimes, ...]:
    """Time prompts of several lengths, and steps of several batches behind a context.

    Parameters
    ----------
    model : helpers.lm.model.Transformer
    samples : int
    pace : Pace, optional
        Makes them fewer.
    """
    from helpers.serve.engine import Engine
    from helpers.serve.request import SamplingParams

    writer = _Writer(model)
    _check_each("samples", [samples], 1)

    def prefill_s(tokens: int) -> float:
        engine = Engine(writer.model, max_batch=1, prefix_caching=False, log=False)
        engine.add(writer.ids[:tokens], SamplingParams(max_tokens=2))
        start = time.perf_counter()
        engine.step()
        return time.perf_counter() - start

    def decode_s(batch: int) -> float:
        engine = writer.engine(CONTEXT - STEPS // 2, batch)
        start = time.perf_counter()
        for _ in range(STEPS):
            engine.step()
        return (time.perf_counter() - start) / STEPS

    kinds = [
        *((f"prefill, {tokens:,} tokens", 1, tokens, 0, prefill_s, tokens) for tokens in PREFILLS),
        *((f"decode, batch {batch}", batch, 1, CONTEXT, decode_s, batch) for batch in BATCHES),
    ]
    times: dict[str, list[float]] = {name: [] for name, *_ in kinds}
    with _quiet():
        for number in (pace or Pace()).rounds(samples, warm_up=True):
            for name, _, _, _, measure_s, argument in kinds:
                seconds = measure_s(argument)
                if number:
                    times[name].append(seconds)
    return tuple(
        WorkTimes(
            name=name,
            batch=batch,
            tokens=tokens,
            past=past,
            step=_measurement(name, times[name], calls=STEPS if past else 1),
        )
        for name, batch, tokens, past, _, _ in kinds
    )


# ---- the parts of a pass -----------------------------------------------------------------------


def hollow(model: Any) -> Any:
    """A model of the same depth that makes the same calls, with next to nothing in them.

    What it takes is what calling takes: Python, the library's dispatch, the engine.
    """
    from helpers.lm.model import Transformer

    tiny = dict(d_model=8, heads=2, kv_heads=1, head_dim=4, ffn=8, vocab=16)
    return Transformer(replace(model.config, **tiny)).eval().requires_grad_(False)


def time_parts(model: Any, *, samples: int = 5, pace: Pace | None = None) -> tuple[PartTimes, ...]:
    """Split passes with and without the cache into their parts, of the model and a hollow one.

    The hollow model passes over two tokens where there is no cache: a call costs the same for any
    length, and with more of them its attention would count.

    Parameters
    ----------
    model : helpers.lm.model.Transformer
    samples : int
    pace : Pace, optional
        Makes them fewer.
    """
    real, empty = _Writer(model), _Writer(hollow(model))
    _check_each("samples", [samples], 1)
    kinds = [
        (length, cached, writer)
        for length in PART_LENGTHS
        for cached in (True, False)
        for writer in (real, empty)
    ]
    times = {place: {part: [] for part in PARTS} for place in range(len(kinds))}
    with _quiet():
        for number in (pace or Pace()).rounds(samples, warm_up=True):
            for place, (length, cached, writer) in enumerate(kinds):
                if cached:
                    engine = writer.engine(length - STEPS // 2)
                    all_parts = [split(writer.model, engine.step) for _ in range(STEPS)]
                else:
                    read = length if writer is real else 2
                    all_parts = [split(writer.model, lambda w=writer, n=read: w.whole(n))]
                if number:
                    for part in PARTS:
                        mean = sum(parts[part] for parts in all_parts) / len(all_parts)
                        times[place][part].append(mean)
    return tuple(
        PartTimes(
            length=length,
            cached=cached,
            hollow=writer is empty,
            parts={
                part: _measurement(part, spent, calls=STEPS if cached else 1)
                for part, spent in times[place].items()
            },
        )
        for place, (length, cached, writer) in enumerate(kinds)
    )


def time_near_products(model: Any, *, samples: int = 5) -> Measurement:
    """Time all products of one step, each over and over, so that its weights stay in a cache."""
    import torch

    from helpers.serve.packing import PackedLinear

    writer = _Writer(model)
    linears = [m for m in writer.model.modules() if isinstance(m, torch.nn.Linear | PackedLinear)]
    times = []
    with torch.inference_mode(), _quiet():
        for _ in range(samples):
            total = 0.0
            for linear in linears:
                x = torch.ones(1, linear.in_features, device=model.device)
                linear(x)
                start = time.perf_counter()
                for _ in range(STEPS):
                    linear(x)
                total += (time.perf_counter() - start) / STEPS
            times.append(total)
    return _measurement("products, weights near", times, calls=STEPS)


def time_near_attention(
    model: Any, lengths: Sequence[int] = PART_LENGTHS, *, samples: int = 5
) -> dict[int, Measurement]:
    """Time the attention of one step, over and over on the same keys and values.

    Parameters
    ----------
    model : helpers.lm.model.Transformer
    lengths : sequence of int
        Tokens attended to.
    samples : int
    """
    import torch
    import torch.nn.functional as F

    c, kind = model.config, {"dtype": model.dtype, "device": model.device}
    _check_each("lengths", lengths, 1)
    times: dict[int, list[float]] = {length: [] for length in lengths}
    with torch.inference_mode(), _quiet():
        q = torch.ones(1, c.kv_heads, c.group, c.head_dim, **kind)  # [R, Hkv, G, D]
        for _ in range(samples):
            for length in lengths:
                # as the engine's cache holds them: [S, Hkv, D] -> [1, S, Hkv, D] -> [1, Hkv, S, D]
                rows = torch.ones(length, c.kv_heads, c.head_dim, **kind)
                k, v = (part.unsqueeze(0).transpose(1, 2) for part in (rows, rows.clone()))
                F.scaled_dot_product_attention(q, k, v)
                start = time.perf_counter()
                for _ in range(STEPS * c.layers):
                    F.scaled_dot_product_attention(q, k, v)
                times[length].append((time.perf_counter() - start) / STEPS)
    return {
        length: _measurement("attention, cache near", spent, calls=STEPS)
        for length, spent in times.items()
    }


# ---- all of it ---------------------------------------------------------------------------------


def measure(
    model: Any,
    *,
    rounds: int = 3,
    answer_tokens: int = 128,
    answer_samples: int = 1,
    play_samples: int = 0,
    budget_s: float | None = None,
    progress: Callable[[str], Any] | None = None,
    command: str = COMMAND,
) -> CacheRun:
    """Everything that the lab shows; about 20 seconds for the book's target on two cores.

    Parameters
    ----------
    model : helpers.lm.model.Transformer
        In float32.
    rounds : int
        Samples of each time, but of whole answers.
    answer_tokens : int
        Tokens of the longest whole answer, at least 64; they double from 32 up to there.
    answer_samples : int
        Samples of the whole answers.
    play_samples : int
        Samples of the playground's answers; 0 leaves them out.
    budget_s : float, optional
        Seconds after which no further round begins, and answers become short: for a machine that
        is busy or slow. Each time is still taken once.
    progress : callable, optional
        Receives a line for each part.
    command : str
        What to state as the command.
    """
    import torch

    from helpers.serve.packing import why_not

    say = progress or (lambda line: None)
    _check_each("answer_tokens", [answer_tokens], 64, model.config.context - PLAY_PROMPTS[0])
    start, pace = time.perf_counter(), Pace(budget_s)
    before = _card_check(command)
    say("one token, with the cache and without")
    tokens = time_tokens(model, LENGTHS, rounds=rounds, pace=pace)
    say("the parts of a pass")
    parts = time_parts(model, samples=rounds, pace=pace)
    near_products = time_near_products(model, samples=rounds)
    near_attention = time_near_attention(model, samples=rounds)
    say("prompts and batches")
    work = time_work(model, samples=rounds, pace=pace)
    say("whole answers")
    longest = min(answer_tokens, 64) if pace.late else answer_tokens
    counts = [32 << i for i in range(longest.bit_length()) if 32 << i <= longest]
    short, timed = PLAY_PROMPTS[0], {"samples": answer_samples, "pace": pace}
    answers = list(time_answers(model, short, counts, **timed))
    if play_samples:
        known = {(one.prompt, one.tokens) for one in answers}
        for prompt in PLAY_PROMPTS:
            played = time_answers(model, prompt, PLAY_TOKENS, samples=play_samples)
            answers += [one for one in played if (one.prompt, one.tokens) not in known]
    after = _card_check(command)
    calls_cached, calls_uncached = count_both(model)
    return CacheRun(
        environment=current_environment().model_copy(update={"gpu": "", "gpu_driver": ""}),
        created=date.today(),
        command=command,
        seconds_spent=round(time.perf_counter() - start, 1),
        threads=torch.get_num_threads(),
        model=model.config.to_dict(),
        packed=not why_not(model),
        calls_cached=calls_cached,
        calls_uncached=calls_uncached,
        tokens=tokens,
        answers=tuple(answers),
        work=work,
        parts=parts,
        near_products=near_products,
        near_attention=near_attention,
        card_check=after.model_copy(
            update={
                "measurements": {
                    name: operations.together(before.measurements[name], measured)
                    for name, measured in after.measurements.items()
                }
            }
        ),
    )


def _card_check(command: str) -> OperationsRun:
    built = [op for op in operations.operations() if op.built_the_card]
    return operations.measure(built, samples=3, seconds_each=0.2, rounds=1, command=command)


@contextmanager
def _quiet() -> Iterator[None]:
    """No garbage collection while the clock runs."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _measurement(name: str, seconds: Sequence[float], calls: int = 1) -> Measurement:
    import torch

    return Measurement(
        name=name,
        # the clock may say that nothing passed
        samples_s=tuple(round_significant(max(one, 1e-9)) for one in seconds),
        calls_per_sample=calls,
        threads=torch.get_num_threads(),
    )


def _check_each(name: str, values: Sequence[int], least: int, most: int | None = None) -> None:
    allowed = f"at least {least}" if most is None else f"from {least} to {most}"
    if not values:
        raise ValueError(f"{name}: is empty; allowed are whole numbers {allowed}")
    for value in values:
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole or value < least or (most is not None and value > most):
            raise ValueError(f"{name}: {value!r} is not a whole number {allowed}")
