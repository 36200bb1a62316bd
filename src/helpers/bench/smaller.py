"""How much of a cache can go before a model's text gets worse: bytes against bits per byte.

Each way to a smaller cache is run over the same held-out documents. Because a mean over all tokens
hides what only a few need, a second test asks for recall: a passage of text stands twice, and we
measure how many bits the first copy saves at the second, a given distance later.

Models with fewer heads of keys and values are made by mean-pooling and then trained further for a
twentieth of the target's steps, as Ainslie et al. (*GQA*, 2023) did. Nothing here is timed, so it
does not matter what else the machine does; it takes an hour of two cores all the same, and goes on
where it was if it is killed.
"""

from __future__ import annotations

import json
import math
import os
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from helpers.bench.environment import Environment, current_environment
from helpers.formulas.kv_cache import cached_tokens, kv_bytes_per_token
from helpers.formulas.kv_element import kv_element
from helpers.formulas.quantization import bits_per_weight

if TYPE_CHECKING:
    from helpers.lm.model import Attend, Transformer
    from helpers.lm.text import Corpus
    from helpers.lm.tokenizer import Tokenizer

COMMAND = "helpers.bench.smaller.measure()"
#: name of the recorded run
RECORDED = "smaller-caches"

#: heads of keys and values that the book's target was trained with
HEADS = 4
SHORT = {"float32": "fp32", "bfloat16": "bf16"}

Kind = Literal["full", "format", "window", "heads", "together"]


class Cache(BaseModel):
    """One way to keep a session's keys and values.

    Attributes
    ----------
    form : str
        How a number is stored: ``float32``, ``bfloat16``, ``int8``, ``int4``, ``int3``, ``int2``.
    group : int
        Tokens that are rounded together, once all have come; 0: each at once.
    channels : bool
        Whether, in a group, a channel of the keys shares a scale.
    window, sinks : int
        Newest and first tokens that are kept; a window of 0 keeps all.
    kv_heads : int
    tuned : bool
        Whether the model was trained further after its heads were pooled.

    Raises
    ------
    ValueError
        A number out of range, sinks without a window, channels without a group, a group in a
        window.

    Examples
    --------
    >>> cache = Cache(form="int8", window=256, kv_heads=2, tuned=True)
    >>> cache.label, cache.kind
    ('2 heads, tuned, int8, window 256', 'together')
    >>> cache.session_bytes(layers=5, head_dim=32, tokens=1024)  # 256 x 5 x 2 x 2 x (32 + 2)
    174080
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    form: Literal["float32", "bfloat16", "int8", "int4", "int3", "int2"] = "bfloat16"
    group: int = Field(0, ge=0)
    channels: bool = False
    window: int = Field(0, ge=0)
    sinks: int = Field(0, ge=0)
    kv_heads: int = Field(HEADS, ge=1)
    tuned: bool = False

    @model_validator(mode="after")
    def _fits_together(self) -> Cache:
        if self.sinks and not self.window:
            raise ValueError(f"sinks is {self.sinks}; without a window it must be 0: all are kept")
        if self.channels and not self.group:
            raise ValueError("channels is True; without a group of tokens it must be False")
        if self.group and self.window:
            raise ValueError(f"group is {self.group}; with a window it must be 0")
        return self

    @property
    def label(self) -> str:
        """What the book's tables and pictures call it."""
        parts = []
        if self.kv_heads != HEADS or self.tuned:
            heads = "1 head" if self.kv_heads == 1 else f"{self.kv_heads} heads"
            parts += [heads, "tuned" if self.tuned else "pooled"]
        if self.form != "bfloat16" or not (parts or self.window):
            parts.append(SHORT.get(self.form, self.form))
        if self.group:
            parts.append("keys by channel" if self.channels else f"newest {self.group} in bf16")
        if self.window:
            sinks = f" + {self.sinks}" if self.sinks else ""
            parts.append(f"window {self.window}{sinks}")
        return ", ".join(parts)

    @property
    def kind(self) -> Kind:
        """What makes it smaller than the full cache."""
        ways = [
            name
            for name, used in (
                ("format", self.form not in SHORT),
                ("window", self.window),
                ("heads", self.kv_heads != HEADS or self.tuned),
            )
            if used
        ]
        return "full" if not ways else ways[0] if len(ways) == 1 else "together"

    def bits_per_element(self, head_dim: int) -> float:
        """Bits of one number, its share of a scale included."""
        if self.form in SHORT:
            return float(kv_element(self.form).bits)
        # a scale of 16 bits for each row; a channel of a group shares one among as many
        row = self.group if self.channels else head_dim
        keys, values = (bits_per_weight(int(self.form[3:]), g, 16) for g in (row, head_dim))
        return (keys + values) / 2

    def session_bytes(self, layers: int, head_dim: int, tokens: int) -> int:
        """Bytes of a session's cache at their largest."""
        kept = cached_tokens(tokens, self.window + self.sinks) if self.window else tokens
        recent = min(self.group, kept)
        bits = self.bits_per_element(head_dim) * (kept - recent) + 16 * recent
        return round(kv_bytes_per_token(layers, self.kv_heads, head_dim, bits / 8))

    def attend(self) -> Attend:
        """What to run a model with, that it may see as it would through this cache."""
        from helpers.lm.model import causal_attention
        from helpers.lm.sliding import SlidingAttention
        from helpers.serve.kv_format import kv_format
        from helpers.serve.rounded import FewBits, GroupedAttention, RoundedAttention

        few = self.form in ("int3", "int2")
        form = FewBits(int(self.form[3:])) if few else kv_format(self.form)
        if self.group:
            return GroupedAttention(form, self.group, self.channels)
        seen = SlidingAttention(self.window, self.sinks) if self.window else causal_attention
        return RoundedAttention(form, seen)


FULL = Cache(form="float32")
_TUNED = Cache(kv_heads=2, tuned=True)
WINDOWS = (32, 64, 128, 256, 512)

#: everything the recorded run measures
CACHES = (
    FULL,
    Cache(),
    Cache(form="int8"),
    Cache(form="int4"),
    Cache(form="int4", group=32),
    Cache(form="int4", group=32, channels=True),
    Cache(form="int3"),
    Cache(form="int3", group=32),
    Cache(form="int3", group=32, channels=True),
    Cache(form="int2"),
    Cache(form="int2", group=32),
    Cache(form="int2", group=32, channels=True),
    *(Cache(window=w, sinks=s) for s in (0, 4) for w in WINDOWS),
    Cache(kv_heads=2),
    Cache(kv_heads=1),
    Cache(form="int8", window=256),
    Cache(form="int4", window=256),
    Cache(form="int4", window=128),
    Cache(tuned=True),
    _TUNED,
    Cache(kv_heads=1, tuned=True),
    Cache(kv_heads=2, tuned=True, form="int8"),
    Cache(kv_heads=2, tuned=True, form="int4"),
    Cache(kv_heads=2, tuned=True, form="int8", window=256),
)


@dataclass(frozen=True)
class Plan:
    """What to measure, and on how much text.

    Parameters
    ----------
    caches : tuple of Cache
    recalling : tuple of Cache
        Those of them whose recall is measured.
    documents, tokens : int, optional
        Longest held-out documents, and first tokens of each; all unless given.
    steps, windows : int
        Further training of pooled models: steps, and windows of the whole context in each.
    learning_rate : float
        Its highest, after a tenth of the steps; it falls to zero at the end.
    training_documents : int, optional
        The first of the training text; all unless given.
    distances : tuple of int
        Tokens between a passage and its copy, from first token to first token.
    cases : int
        Passages for each distance.
    passage : int
        Tokens of a passage.
    """

    caches: tuple[Cache, ...] = CACHES
    recalling: tuple[Cache, ...] = ()
    documents: int | None = None
    tokens: int | None = None
    steps: int = 50
    windows: int = 8
    learning_rate: float = 4e-3
    training_documents: int | None = None
    distances: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    cases: int = 48
    passage: int = 16


#: what the book shows
WHOLE = Plan(
    tokens=4096,
    recalling=(
        FULL,
        Cache(form="int8"),
        Cache(form="int4"),
        Cache(form="int2"),
        *(Cache(window=w) for w in WINDOWS),
        Cache(window=32, sinks=4),
        Cache(window=128, sinks=4),
        Cache(kv_heads=2),
        _TUNED,
        Cache(kv_heads=1, tuned=True),
    ),
)

#: what a reader's machine measures in some fifteen seconds
LIVE = Plan(
    caches=(
        FULL,
        Cache(form="int8"),
        Cache(form="int4"),
        Cache(form="int3"),
        Cache(window=32),
        Cache(window=128),
        Cache(form="int4", window=128),
        Cache(kv_heads=2),
        _TUNED,
    ),
    recalling=(FULL, Cache(form="int4"), Cache(window=32)),
    documents=2,
    tokens=768,
    steps=3,
    windows=1,
    learning_rate=1e-3,  # of so few steps none may be too long
    training_documents=40,
    distances=(16, 64),
    cases=8,
)


class Result(BaseModel):
    """What one cache did.

    Attributes
    ----------
    cache : Cache
    bits_per_byte : float
        Of the held-out text.
    session_bytes : int
        Of a session that fills the model's context.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cache: Cache
    bits_per_byte: float = Field(gt=0)
    session_bytes: int = Field(gt=0)


class Recall(BaseModel):
    """What the first copy of a passage saves at the second.

    Attributes
    ----------
    cache : Cache
    distances : tuple of int
        Tokens from one copy to the other.
    saved_bits, standard_errors : tuple of float
        Bits per token that are saved, and how well the mean over the cases is known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cache: Cache
    distances: tuple[int, ...]
    saved_bits: tuple[float, ...]
    standard_errors: tuple[float, ...]

    def saved(self, distance: int) -> float:
        """Bits per token at a distance."""
        return dict(zip(self.distances, self.saved_bits, strict=True))[distance]


class Tuning(BaseModel):
    """Further training of a pooled model.

    Attributes
    ----------
    kv_heads : int
    steps, tokens_per_step : int
    learning_rate : float
    losses : tuple of float
        Nats per token; the mean of each ten steps.
    seconds : float
        Spent training and measuring on validation text; on a busy machine they say little.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kv_heads: int
    steps: int
    tokens_per_step: int
    learning_rate: float
    losses: tuple[float, ...]
    seconds: float


class Layer(BaseModel):
    """What keys, values and attention of one layer look like.

    Attributes
    ----------
    key_spread, value_spread : float
        Mean size of a head's largest channel over that of its median channel; the largest of all
        heads. 1 means that all channels are alike.
    key_error_row, key_error_channel : float
        Error of keys in 4 bits, with a scale for a row or for a channel of 32 tokens: root mean
        square of a channel's error over the channel's own, then the mean over channels.
    value_error_row, value_error_channel : float
        The same for values.
    first_share : float
        Mean share of attention that the first token gets from far away, in the head where it is
        largest.
    near_share : float
        Mean share that goes to the newest 128 tokens, over all heads.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key_spread: float
    value_spread: float
    key_error_row: float
    key_error_channel: float
    value_error_row: float
    value_error_channel: float
    first_share: float
    near_share: float


class SmallerRun(BaseModel):
    """Everything about smaller caches of one model: what a recorded run holds.

    Attributes
    ----------
    target : dict
        The model's sizes.
    seconds_spent : float
        On all values, over all the times that a run was taken up.
    python, held_out_sha256 : str
        Where the text came from, and its fingerprint.
    documents, text_bytes, text_tokens : int
        Held-out text that was predicted.
    passage, cases : int
        Tokens of a passage in the recall test, and passages for each distance.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    kind: Literal["smaller-caches"] = "smaller-caches"
    environment: Environment
    created: date
    command: str = COMMAND
    seconds_spent: float = Field(ge=0)
    threads: int = Field(ge=1)
    target: dict[str, Any]
    python: str
    held_out_sha256: str
    documents: int = Field(ge=1)
    text_bytes: int = Field(ge=1)
    text_tokens: int = Field(ge=1)
    passage: int = Field(ge=1)
    cases: int = Field(ge=1)
    results: tuple[Result, ...]
    recalls: tuple[Recall, ...]
    tunings: tuple[Tuning, ...]
    layers: tuple[Layer, ...]

    @property
    def full(self) -> Result:
        """The full cache in the model's own fp32."""
        return self.result(FULL.label)

    @property
    def labels(self) -> list[str]:
        """Names of the caches that were measured."""
        return [result.cache.label for result in self.results]

    def result(self, label: str) -> Result:
        """The result of a cache by its label."""
        for result in self.results:
            if result.cache.label == label:
                return result
        raise ValueError(f"label: {label!r} was not measured; there are {', '.join(self.labels)}")

    def recall(self, label: str) -> Recall:
        """The recall of a cache by its label."""
        for recall in self.recalls:
            if recall.cache.label == label:
                return recall
        there = ", ".join(recall.cache.label for recall in self.recalls)
        raise ValueError(f"label: {label!r} has no recall; there are {there}")

    def cost(self, label: str) -> float:
        """Bits per byte more than with the full cache, as a share of those."""
        return self.result(label).bits_per_byte / self.full.bits_per_byte - 1

    def saving(self, label: str) -> float:
        """How many times smaller than the full cache in bf16."""
        whole = Cache().session_bytes(
            self.target["layers"], self.target["head_dim"], self.target["context"]
        )
        return whole / self.result(label).session_bytes


def together(run: SmallerRun) -> list[tuple[str, float, float]]:
    """For each cache with two or more changes: its label, its cost if factors multiply, its cost.

    Caches of whose changes one was not measured alone are left out.
    """
    found = []
    for result in run.results:
        cache = result.cache
        if cache.kind != "together":
            continue
        alone = (
            Cache(form=cache.form),
            Cache(window=cache.window, sinks=cache.sinks),
            Cache(kv_heads=cache.kv_heads, tuned=cache.tuned),
        )
        labels = [one.label for one in alone if one != Cache()]
        if set(labels) <= set(run.labels):
            predicted = math.prod(1 + run.cost(label) for label in labels) - 1
            found.append((cache.label, predicted, run.cost(cache.label)))
    return found


# ---- recall --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """The same text with and without a first copy of its last tokens."""

    with_copy: list[int]
    without: list[int]


def recall_cases(
    documents: Sequence[Sequence[int]],
    end: int,
    distance: int,
    *,
    cases: int,
    passage: int,
    seed: int = 0,
) -> list[Case]:
    """Texts that end with a passage, half of which held it once before.

    A text is: the end token, 64 tokens of a document, the passage or as many tokens of another
    document, tokens of a third, and the passage.

    Parameters
    ----------
    documents : sequence of sequences of int
        Where the pieces are cut from; those are used that are longer than any piece.
    end : int
        The end-of-text token.
    distance : int
        Tokens from the first token of one copy to that of the other, ``passage`` or more.
    cases, passage, seed : int

    Raises
    ------
    ValueError
        The copies would overlap, or fewer than three documents are long enough.

    Examples
    --------
    >>> texts = [list(range(n, n + 90)) for n in (100, 200, 300)]
    >>> (case,) = recall_cases(texts, 0, distance=5, cases=1, passage=3)
    >>> first = case.with_copy[65:68]
    >>> case.with_copy[70:] == first == case.without[70:], case.without[65:68] == first
    (True, False)
    """
    if distance < passage:
        raise ValueError(f"distance: {distance}; it must be {passage}, the passage, or more")
    pieces = (64, passage, passage, distance - passage)
    long_enough = [tokens for tokens in documents if len(tokens) > max(pieces)]
    if len(long_enough) < 3:
        raise ValueError(
            f"documents: {len(long_enough)} have more than {max(pieces)} tokens; it takes 3"
        )
    draw = random.Random(seed)
    made = []
    for _ in range(cases):
        one, two, three = draw.sample(long_enough, 3)
        head, copy, other, between = (
            source[(start := draw.randrange(len(source) - size)) : start + size]
            for source, size in zip((three, one, two, three), pieces, strict=True)
        )
        before, after = [end, *head], [*between, *copy]
        made.append(Case([*before, *copy, *after], [*before, *other, *after]))
    return made


def saved_bits(
    model: Transformer, cases: Sequence[Case], passage: int, attend: Attend | None = None
) -> np.ndarray:
    """Bits per token that the first copy saves at the second, ``[cases]``."""
    import torch

    def last_bits(rows: list[list[int]]) -> np.ndarray:  # [cases]
        bits = []
        for at in range(0, len(rows), 16):
            tokens = torch.tensor(rows[at : at + 16], device=model.device)  # [B, T]
            with torch.inference_mode():
                hidden = model.hidden(tokens[:, :-1], attend=attend)[:, -passage:]
                logits = model.logits(hidden).float()  # [B, passage, V]
            target = tokens[:, -passage:]
            nats = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), target.flatten(), reduction="none"
            )
            bits.append(nats.unflatten(0, target.shape).mean(1).double().cpu().numpy())
        return np.concatenate(bits) / math.log(2)

    return last_bits([c.without for c in cases]) - last_bits([c.with_copy for c in cases])


# ---- what keys look like -------------------------------------------------------------------------


def look_at_layers(model: Transformer, rows: Sequence[Sequence[int]]) -> list[Layer]:
    """Sizes of channels, rounding errors and places of attention, layer by layer.

    Parameters
    ----------
    model : Transformer
    rows : sequence of sequences of int
        Texts of one length, more than 256 tokens and a multiple of 32.
    """
    import torch

    from helpers.lm.model import causal_attention
    from helpers.serve.kv_format import kv_format
    from helpers.serve.rounded import through, through_channels

    seen: dict[int, tuple] = {}

    def watch(layer, q, k, v):
        seen[layer] = q, k, v
        return causal_attention(layer, q, k, v)

    with torch.inference_mode():
        model.hidden(torch.tensor(rows, device=model.device), attend=watch)
    int4 = kv_format("int4")

    def spread(x):  # [B, T, Hkv, D]
        size = x.abs().mean((0, 1))  # [Hkv, D]
        return float((size.amax(-1) / size.median(-1).values).max())

    def error(x, rounded):  # [B, T, Hkv, D]; small channels count as much as large ones
        size = [part.square().mean((0, 1)).sqrt() for part in (x - rounded, x)]  # [Hkv, D]
        return float((size[0] / size[1]).mean())

    found = []
    for layer in sorted(seen):
        q, k, v = seen[layer]
        keys = k.repeat_interleave(q.shape[-2] // k.shape[-2], dim=-2)  # [B, T, H, D]
        # late queries only: they have much to choose from, and the first token far behind them
        late = q[:, 256::16]  # [B, Q, H, D]
        scores = torch.einsum("bqhd,bthd->bhqt", late, keys) / q.shape[-1] ** 0.5
        place, at = torch.arange(q.shape[1])[256::16, None], torch.arange(q.shape[1])
        shares = scores.masked_fill(at > place, -math.inf).softmax(-1)  # [B, H, Q, T]
        near = (shares * (at > place - 128)).sum(-1)
        found.append(
            Layer(
                key_spread=spread(k),
                value_spread=spread(v),
                key_error_row=error(k, through(int4, k)),
                key_error_channel=error(k, through_channels(int4, k, 32)),
                value_error_row=error(v, through(int4, v)),
                value_error_channel=error(v, through_channels(int4, v, 32)),
                first_share=float(shares[..., 0].mean((0, 2)).max()),
                near_share=float(near.mean()),
            )
        )
    return found


# ---- further training ----------------------------------------------------------------------------


def tune(
    target: Transformer,
    kv_heads: int,
    plan: Plan,
    corpus: Corpus,
    folder: Path,
    progress: Callable[[str], Any] | None = None,
) -> tuple[Transformer, Tuning]:
    """Pool a model's heads of keys and values and train it further.

    Parameters
    ----------
    target : Transformer
        Stays as it is.
    kv_heads : int
        The model's own number gives a model that only had the training: the control.
    plan : Plan
        Steps, windows, learning rate.
    corpus : Corpus
        The training text, and the validation text that the run reports on.
    folder : Path
        Where the run is kept; one that was killed goes on there.
    progress : callable, optional
    """
    from helpers.lm.grouping import fewer_kv_heads
    from helpers.lm.recipes import Recipe
    from helpers.lm.training import Run

    start = fewer_kv_heads(target, kv_heads)
    recipe = Recipe(
        start.config,
        text="corpus",
        steps=plan.steps,
        windows=plan.windows,
        learning_rate=plan.learning_rate,
        cool_down=1.0,  # whole windows, and a learning rate that falls from its top to the end
        seed=1,  # other batches than the target's first
    )
    run = Run(recipe, folder, corpus=corpus, start=start, warm_up=max(1, plan.steps // 10))
    tell = progress or (lambda line: None)
    model = run.finish(measure_every=10, tell=lambda line: tell(f"Hkv = {kv_heads}: {line}"))
    tuning = Tuning(
        kv_heads=kv_heads,
        steps=plan.steps,
        tokens_per_step=plan.windows * start.config.context,
        learning_rate=plan.learning_rate,
        losses=tuple(round(point[1], 4) for point in run.curve),
        seconds=round(run.seconds, 1),
    )
    return model.eval().requires_grad_(False), tuning


# ---- all of it -----------------------------------------------------------------------------------


class _Kept:
    """Values by name, each with the seconds it took; what is in the folder is not computed again.

    Attributes
    ----------
    seconds : float
        Of all values that were asked for, whenever they were computed.
    """

    def __init__(self, folder: Path | None, identity: dict[str, Any]):
        self.path = folder / "values.json" if folder else None
        self.identity, self.values = json.loads(json.dumps(identity)), {}
        self.seconds = 0.0
        if self.path and self.path.exists():
            there = json.loads(self.path.read_text(encoding="utf-8"))
            if there["identity"] != self.identity:
                raise ValueError(
                    f"folder: {self.path.parent} holds another run (model, text or plan); remove "
                    "it or choose another"
                )
            self.values = there["values"]

    def get(self, name: str, compute: Callable[[], Any]) -> Any:
        if name not in self.values:
            started = time.perf_counter()
            value = compute()
            self.values[name] = [value, round(time.perf_counter() - started, 1)]
            if self.path:
                scratch = self.path.with_suffix(".part")
                kept = {"identity": self.identity, "values": self.values}
                scratch.write_text(json.dumps(kept), encoding="utf-8")
                os.replace(scratch, self.path)
        value, seconds = self.values[name]
        self.seconds += seconds
        return value


def measure(
    target: Transformer,
    plan: Plan = WHOLE,
    *,
    corpus: Corpus | None = None,
    coder: Tokenizer | None = None,
    folder: Path | None = None,
    progress: Callable[[str], Any] | None = None,
    command: str = COMMAND,
) -> SmallerRun:
    """Measure what smaller caches cost.

    Parameters
    ----------
    target : Transformer
        With 4 heads of keys and values.
    plan : Plan
        :data:`WHOLE` takes an hour, :data:`LIVE` some fifteen seconds.
    corpus : Corpus, optional
        The running Python's text unless given.
    coder : Tokenizer, optional
        The book's unless given.
    folder : Path, optional
        Where to keep what is done, so that a killed run goes on.
    progress : callable, optional
        Gets a line for each value.
    command : str
        Written into the run.

    Raises
    ------
    ValueError
        The model has another number of heads of keys and values, the plan lacks the full cache,
        or the folder holds another run.
    """
    import platform

    import torch

    from helpers.lm import text, tokenizer
    from helpers.lm.datacard import fingerprint
    from helpers.lm.evaluate import document_bits
    from helpers.lm.grouping import fewer_kv_heads
    from helpers.lm.split import Corpus
    from helpers.lm.training import weights_fingerprint

    if target.config.kv_heads != HEADS:
        raise ValueError(f"target has {target.config.kv_heads} kv_heads; it must have {HEADS}")
    if FULL not in plan.caches:
        raise ValueError("plan: its caches lack the full one, to which all are compared")
    say = progress or (lambda line: None)
    corpus, coder = corpus or text.corpus(), coder or tokenizer.load()
    shape = target.config

    longest_first = sorted(corpus.held_out, key=lambda document: (-document.bytes, document.name))
    held_out = coder.encode_many([document.text for document in longest_first])
    predicted = [tokens[: plan.tokens] for tokens in held_out[: plan.documents]]
    size = sum(len(coder.decode_bytes(tokens)) for tokens in predicted)
    training = corpus
    if plan.training_documents:  # what a run reports on while it trains is cut down alike
        few = sorted(corpus.validation, key=lambda document: document.bytes)
        enough = [document for document in few if document.bytes > 8 * shape.context]
        training = Corpus(
            corpus.train[: plan.training_documents], tuple(enough[:1] or few), corpus.held_out
        )

    with ExitStack() as stack:
        if folder is None:
            models_folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        else:
            folder = models_folder = Path(folder)
            folder.mkdir(parents=True, exist_ok=True)
        identity = {
            "target": weights_fingerprint(target),
            "held out": fingerprint(corpus.held_out),
            "train": fingerprint(training.train),
            "text": [plan.documents, plan.tokens],
            "recall": [plan.distances, plan.cases, plan.passage],
        }
        kept = _Kept(folder, identity)
        trained = f", {plan.steps} steps of {plan.windows} windows at {plan.learning_rate}"

        def name(what: str, cache: Cache) -> str:
            return f"{what} {cache.label}{trained if cache.tuned else ''}"

        models: dict[tuple[int, bool], Transformer] = {(HEADS, False): target}
        tunings: dict[int, Tuning] = {}

        def model_for(cache: Cache) -> Transformer:
            key = cache.kv_heads, cache.tuned
            if key not in models and cache.tuned:
                place = models_folder / f"heads-{cache.kv_heads}"
                models[key], tunings[cache.kv_heads] = tune(
                    target, cache.kv_heads, plan, training, place, say
                )
            elif key not in models:
                models[key] = fewer_kv_heads(target, cache.kv_heads)
            return models[key]

        def bits_per_byte(cache: Cache) -> float:
            model = model_for(cache)
            bits = document_bits(model, predicted, coder.end, attend=cache.attend())
            return round(float(bits.sum()) / size, 5)

        def recall(cache: Cache) -> list[list[float]]:
            model, rows = model_for(cache), []
            for distance in plan.distances:
                cases = recall_cases(
                    held_out, coder.end, distance, cases=plan.cases, passage=plan.passage
                )
                saved = saved_bits(model, cases, plan.passage, cache.attend())
                error = saved.std(ddof=1) / len(saved) ** 0.5
                rows.append([round(float(saved.mean()), 4), round(float(error), 4)])
            return rows

        def layers() -> list[dict]:
            length = shape.context // 32 * 32
            rows = [[coder.end, *t][:length] for t in held_out if len(t) >= length]
            return [
                {name: round(value, 4) for name, value in layer.model_dump().items()}
                for layer in look_at_layers(target, rows[: plan.documents or 8])
            ]

        looked = kept.get("layers", layers)
        results, recalls = [], []
        for cache in plan.caches:
            bits = kept.get(name("bits", cache), lambda cache=cache: bits_per_byte(cache))
            room = cache.session_bytes(shape.layers, shape.head_dim, shape.context)
            results.append(Result(cache=cache, bits_per_byte=bits, session_bytes=room))
            say(f"{cache.label:34} {room:>10,} B {bits:8.4f} bits per byte")
        for cache in plan.recalling:
            rows = kept.get(name("recall", cache), lambda cache=cache: recall(cache))
            saved, errors = zip(*rows, strict=True)
            recalls.append(
                Recall(
                    cache=cache,
                    distances=plan.distances,
                    saved_bits=saved,
                    standard_errors=errors,
                )
            )
            say(f"{cache.label:34} saves {', '.join(f'{bits:.2f}' for bits in saved)} bits")
        for cache in plan.caches:
            if cache.tuned:
                model_for(cache)  # of a run that was killed: its training is kept too
    return SmallerRun(
        environment=current_environment(),
        created=date.today(),
        command=command,
        seconds_spent=round(kept.seconds, 1),
        threads=torch.get_num_threads(),
        target=shape.to_dict(),
        python=platform.python_version(),
        held_out_sha256=fingerprint(corpus.held_out),
        documents=len(predicted),
        text_bytes=size,
        text_tokens=sum(map(len, predicted)),
        passage=plan.passage,
        cases=plan.cases,
        results=tuple(results),
        recalls=tuple(recalls),
        tunings=tuple(tunings.values()),
        layers=tuple(Layer(**layer) for layer in looked),
    )
