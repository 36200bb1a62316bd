"""Speculative decoding: a small draft guesses several tokens, the target checks them in one pass.

Decoding one sequence reads all weights for every token. Reading them once for five tokens costs
little more than for one, if only the five were known. A draft model guesses them; the target's one
pass over the guesses says what it would have said at each place, and the acceptance rule
(:mod:`helpers.serve.acceptance`) keeps as many as it can and adds one of the target's own.

Both models keep a cache. A round writes keys and values of tokens that are then rejected;
truncating the cache takes them back. A cache may also lag behind: after a round whose guesses were
all accepted, the draft has never been fed its own last guess, nor the bonus. So both models are
always fed what the sequence has and their cache has not, which covers the prompt, the ordinary step
and this catching up alike.

It stands apart from the engine: one sequence at a time, in a contiguous cache. That keeps the idea
in plain sight, and it is where the idea pays: a large batch leaves no idle arithmetic to check
guesses with. An engine that does both lets each request of the step bring its guesses as so many
more tokens, and takes back the blocks of those that were rejected
(:meth:`helpers.serve.blocks.BlockManager.truncate`).

Letters in shape comments: T tokens fed, K drafted tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from helpers.lm.model import Transformer
from helpers.serve.acceptance import acceptance_rate, judge, judge_greedy, pick
from helpers.serve.cache import ContiguousCache
from helpers.serve.checks import Prompt, check_request, check_setting
from helpers.serve.packing import pack
from helpers.serve.request import NOT_FINITE, RequestError, SamplingParams
from helpers.serve.sampling import new_generator, probabilities

# --- what comes back ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Round:
    """One round: what was guessed, how much of it was kept, and what the target added.

    Attributes
    ----------
    drafted : tuple of int
        The guesses, in order.
    accepted : int
        How many of them, from the left, became part of the text.
    token : int or None
        The target's own token after them: a replacement for the first rejected guess, or the bonus
        if none was rejected. None where the text ended with an accepted guess.

    Examples
    --------
    >>> Round(drafted=(5, 3, 8, 1), accepted=2, token=7).tokens
    (5, 3, 7)
    """

    drafted: tuple[int, ...]
    accepted: int
    token: int | None

    @property
    def tokens(self) -> tuple[int, ...]:
        """What the round added to the text."""
        own = () if self.token is None else (self.token,)
        return self.drafted[: self.accepted] + own

    @property
    def rejected(self) -> bool:
        """Whether a guess was judged and refused (those behind it are never judged)."""
        return self.token is not None and self.accepted < len(self.drafted)


@dataclass(frozen=True)
class SpeculativeCounts:
    """Sums over rounds.

    Examples
    --------
    >>> counts = SpeculativeCounts.of([Round((5, 3, 8, 1), 2, 7), Round((4, 4, 4, 4), 4, 9)])
    >>> counts.drafted, counts.accepted, counts.rejected, counts.generated, counts.rounds
    (8, 6, 1, 8, 2)
    >>> counts.tokens_per_round, round(counts.acceptance, 3)
    (4.0, 0.857)
    """

    drafted: int
    accepted: int
    rejected: int
    generated: int
    rounds: int

    @classmethod
    def of(cls, rounds: Sequence[Round]) -> SpeculativeCounts:
        return cls(
            drafted=sum(len(r.drafted) for r in rounds),
            accepted=sum(r.accepted for r in rounds),
            rejected=sum(r.rejected for r in rounds),
            generated=sum(len(r.tokens) for r in rounds),
            rounds=len(rounds),
        )

    @property
    def acceptance(self) -> float:
        """Share accepted of the guesses that were judged: what the formulas call acceptance."""
        return acceptance_rate(self.accepted, self.rejected)

    @property
    def tokens_per_round(self) -> float:
        """Tokens generated for each pass of the target, its own token included."""
        return self.generated / self.rounds


@dataclass(frozen=True)
class SpeculativeOutput:
    """The answer: its tokens, why it ended (``"length"`` or ``"stop"``), and every round."""

    prompt_tokens: list[int]
    tokens: list[int]
    finish: str
    rounds: tuple[Round, ...]

    @property
    def counts(self) -> SpeculativeCounts:
        return SpeculativeCounts.of(self.rounds)


# --- who guesses ----------------------------------------------------------------------------------


class Draft(NamedTuple):
    """Guesses, and the distributions they were drawn from.

    ``q`` is [1, K, V]; None says that there was no chance in it (each guess had probability 1).
    """

    tokens: list[int]
    q: Tensor | None


class Drafter(Protocol):
    """Whoever guesses tokens for one sequence."""

    def begin(self, capacity: int) -> Drafter:
        """A drafter for a new sequence of at most ``capacity`` tokens."""

    def propose(self, ids: list[int], params: SamplingParams, uniform: Sequence[float]) -> Draft:
        """At most ``len(uniform)`` guesses of what follows ``ids``, drawn with those numbers."""

    def keep(self, length: int) -> None:
        """The sequence kept ``length`` of the tokens that were fed; forget what is behind."""


class ModelDrafter:
    """A small model of the same vocabulary.

    Parameters
    ----------
    model : Transformer
        Any sizes; if its context is shorter than the sequence it stops guessing there.
    """

    def __init__(self, model: Transformer, cache: ContiguousCache | None = None):
        self.model = model
        self.cache = cache

    def begin(self, capacity: int) -> ModelDrafter:
        return ModelDrafter(self.model, _cache(self.model, capacity))

    def propose(self, ids: list[int], params: SamplingParams, uniform: Sequence[float]) -> Draft:
        # the last guess is not fed here: K guesses take K - 1 places behind the sequence
        count = min(len(uniform), self.model.config.context - len(ids) + 1)
        if count <= 0:
            return Draft([], None)
        greedy = params.greedy
        fed = torch.tensor([ids[self.cache.length :]], device=self.model.device)  # [1, T]
        tokens, distributions = [], []
        for index in range(count):
            logits = _step(self.model, self.cache, fed, rows=1)  # [1, V]
            if greedy:
                token = logits.argmax(-1)  # [1]; no softmax: it would not change the order
            else:
                if not logits.max().isfinite():  # it has nothing to say; the target may
                    break
                q = _probabilities(logits, params)  # [1, V]
                token = pick(q, q.new_tensor([uniform[index]]))
                distributions.append(q)
            tokens.append(token)
            fed = token.unsqueeze(0)  # [1] -> [1, 1]; stays a tensor: nothing waits for its value
        if not tokens:
            return Draft([], None)
        return Draft(torch.cat(tokens).tolist(), None if greedy else torch.stack(distributions, 1))

    def keep(self, length: int) -> None:
        if length < self.cache.length:
            self.cache.truncate(length)


class LookupDrafter:
    """Guess without a model: find the last few tokens earlier in the sequence, copy what followed.

    It costs next to nothing and is right where text repeats itself (an edited file, a quotation).
    Serving engines call it n-gram speculation or prompt lookup.

    Parameters
    ----------
    longest : int
        Most tokens to look for; if they are found nowhere, one less, down to one.

    Examples
    --------
    >>> LookupDrafter().propose([1, 2, 3, 9, 1, 2], SamplingParams(), uniform=[0.0] * 3).tokens
    [3, 9, 1]
    """

    def __init__(self, longest: int = 3):
        check_setting("longest", longest)
        self.longest = longest

    def begin(self, capacity: int) -> LookupDrafter:
        return self

    def propose(self, ids: list[int], params: SamplingParams, uniform: Sequence[float]) -> Draft:
        for size in range(min(self.longest, len(ids) - 1), 0, -1):
            for start in range(len(ids) - size - 1, -1, -1):  # the latest place first
                if ids[start : start + size] == ids[-size:]:
                    return Draft(ids[start + size : start + size + len(uniform)], None)
        return Draft([], None)

    def keep(self, length: int) -> None:
        pass


# --- the loop -------------------------------------------------------------------------------------


class SpeculativeDecoder:
    """Decode one sequence at a time with a target and a drafter.

    Parameters
    ----------
    target : Transformer
    draft : Transformer or Drafter
        A model of the same vocabulary, or anything that guesses.
    draft_tokens : int
        Guesses a round (K); fewer where ``max_tokens`` leaves no room for them.
    end_token : int, optional
        Ends the text unless the request says ``ignore_end``.
    seed : int
        Of requests that sample and name no seed; the next such request uses the next number.
    packed : bool
        Whether the weights are packed where that can be done, as in the engine: without, torch
        needs half as long again for five tokens as for one (:mod:`helpers.serve.packing`).

    Examples
    --------
    A target that drafts for itself is always right, so ten tokens take two rounds of five:

    >>> from helpers.lm.config import ModelConfig
    >>> config = ModelConfig(layers=1, d_model=8, heads=2, kv_heads=1, head_dim=4, ffn=16,
    ...                      vocab=11, context=32)
    >>> model = Transformer(config)
    >>> output = SpeculativeDecoder(model, model).generate([3, 1, 4], SamplingParams(max_tokens=10))
    >>> [r.accepted for r in output.rounds], output.counts.tokens_per_round
    ([4, 4], 5.0)
    """

    def __init__(
        self,
        target: Transformer,
        draft: Transformer | Drafter,
        draft_tokens: int = 4,
        end_token: int | None = None,
        seed: int = 0,
        packed: bool = True,
    ):
        check_setting("draft_tokens", draft_tokens)
        check_setting("seed", seed, least=0)
        if isinstance(draft, torch.nn.Module):
            if draft.config.vocab != target.config.vocab:
                raise ValueError(
                    f"draft has a vocabulary of {draft.config.vocab}; the target's is "
                    f"{target.config.vocab}: they must have one tokenizer"
                )
            draft = ModelDrafter(pack(draft) if packed else draft)
        self.target = pack(target) if packed else target
        self.draft = draft
        self.draft_tokens = draft_tokens
        self.end_token = end_token
        self._next_seed = seed

    def generate(self, prompt: Prompt, params: SamplingParams | None = None) -> SpeculativeOutput:
        """Decode to the end.

        Raises
        ------
        RequestError
            For a prompt or parameters that cannot be served, or if the target's scores of a token
            that is needed are no finite numbers.
        """
        params = SamplingParams() if params is None else params
        ids, made = self._begin(prompt, params)
        rounds = tuple(made)
        tokens = [token for one in rounds for token in one.tokens]
        finish = "stop" if tokens[-1] in self._ends(params) else "length"
        return SpeculativeOutput(ids, tokens, finish, rounds)

    def stream(self, prompt: Prompt, params: SamplingParams | None = None) -> Iterator[Round]:
        """Decode round by round; each has one token or more in ``.tokens``.

        Raises
        ------
        RequestError
            At once, for a prompt or parameters that cannot be served; later as for
            :meth:`generate`.
        """
        return self._begin(prompt, SamplingParams() if params is None else params)[1]

    def _begin(self, prompt: Prompt, params: SamplingParams) -> tuple[list[int], Iterator[Round]]:
        """The prompt's tokens, and the rounds to come."""
        ids, limit = self._check(prompt, params)
        generator = None
        if not params.greedy:
            generator = new_generator(params, self._next_seed)
            self._next_seed = (self._next_seed + (params.seed is None)) % 2**32
        return ids, self._rounds(list(ids), len(ids) + limit, params, generator)

    def _rounds(
        self, ids: list[int], end: int, params: SamplingParams, generator: torch.Generator | None
    ) -> Iterator[Round]:
        ends = self._ends(params)
        draft, cache = self.draft.begin(end), _cache(self.target, end)
        while len(ids) < end:
            # inside the loop, for a generator that waits must not leave torch in inference mode
            with torch.inference_mode():
                # K guesses give up to K + 1 tokens, so one less than there is room for
                guesses = min(self.draft_tokens, end - len(ids) - 1)
                done = self._round(ids, guesses, params, generator, draft, cache)
            done = _cut(done, ends)
            length = len(ids) + done.accepted  # the target's own token has been fed to nobody
            cache.truncate(length)
            draft.keep(length)
            ids.extend(done.tokens)
            yield done
            if ids[-1] in ends:
                return

    def _round(
        self,
        ids: list[int],
        guesses: int,
        params: SamplingParams,
        generator: torch.Generator | None,
        draft: Drafter,
        cache: ContiguousCache,
    ) -> Round:
        """Guess, check, judge."""
        uniform = [0.0] * guesses
        if generator is not None:  # a number for each guess, each verdict, and the last token
            count = 2 * guesses + 1
            numbers = torch.rand(count, generator=generator, dtype=torch.float64).tolist()
            uniform, verdicts = numbers[:guesses], numbers[guesses:]
        drafted, q = draft.propose(ids, params, uniform) if guesses else Draft([], None)
        held = cache.length
        logits = self._scores(ids, drafted, cache)
        if logits is None and drafted:
            # a guess may be to blame, even for what stands before it, where it is masked: 0 times
            # NaN is NaN. So go without
            cache.truncate(held)
            drafted, q = [], None
            logits = self._scores(ids, drafted, cache)
        if logits is None:
            raise RequestError(NOT_FINITE)
        if generator is None:
            accepted, token = judge_greedy(drafted, logits.argmax(-1).tolist())
        else:
            p = _probabilities(logits, params).unsqueeze(0)  # [1, K + 1, V]
            guessed = torch.tensor([drafted], dtype=torch.int64, device=p.device)  # [1, K]
            if q is None:  # guessed without chance
                q = torch.nn.functional.one_hot(guessed, p.shape[-1]).to(p.dtype)
            verdicts = p.new_tensor([verdicts[: len(drafted)] + verdicts[-1:]])
            accepted, token = (int(x) for x in judge(guessed, p, q, verdicts))
        return Round(tuple(drafted), accepted, token)

    def _scores(self, ids: list[int], drafted: list[int], cache: ContiguousCache) -> Tensor | None:
        """The target's logits at the K guesses and behind, [K + 1, V]; None if they are none."""
        fed = torch.tensor([ids[cache.length :] + drafted], device=self.target.device)  # [1, T]
        logits = _step(self.target, cache, fed, rows=len(drafted) + 1)
        return logits if logits.amax(-1).isfinite().all() else None  # NaN's maximum is NaN

    def _ends(self, params: SamplingParams) -> frozenset[int]:
        """Tokens after which the text is over."""
        end = () if self.end_token is None or params.ignore_end else (self.end_token,)
        return frozenset((*params.stop_tokens, *end))

    def _check(self, prompt: Prompt, params: SamplingParams) -> tuple[list[int], int]:
        """The prompt's tokens and the most that may be generated, or a RequestError."""
        ids, limit = check_request(prompt, params, self.target.config)
        if params.n != 1 or params.stop:
            raise RequestError(
                f"n is {params.n} and stop is {params.stop!r}; this decoder gives one sequence of "
                "tokens: n must be 1, stop empty (stop_tokens are allowed)"
            )
        return ids, limit


def _cache(model: Transformer, capacity: int) -> ContiguousCache:
    capacity = min(capacity, model.config.context)
    return ContiguousCache(model.config, 1, capacity, dtype=model.dtype, device=model.device)


def _step(model: Transformer, cache: ContiguousCache, tokens: Tensor, rows: int) -> Tensor:
    """Feed tokens [1, T] behind those in the cache; logits of the last ``rows``, [rows, V]."""
    hidden = cache.forward(model, tokens)  # [1, T, C]
    return model.logits(hidden[0, -rows:])


def _probabilities(logits: Tensor, params: SamplingParams) -> Tensor:
    return probabilities(logits, params.temperature, params.top_k, params.top_p)


def _cut(done: Round, ends: frozenset[int]) -> Round:
    """End a round at the first accepted guess that ends the text."""
    for place, token in enumerate(done.drafted[: done.accepted]):
        if token in ends:
            return Round(done.drafted, place + 1, None)
    return done
