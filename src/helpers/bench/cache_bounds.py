"""What one more token must cost, from counts and a machine card, before anything is measured.

The counts are those of :mod:`helpers.formulas.transformer`: operations and bytes of each operation
of a pass. A bound is the longer of its arithmetic and its transfers, operation by operation. Bytes
have two prices. Weights and cached keys come round once a pass, so that everything else has been
touched in between: they cost what a working set of *all* of them costs. What one operation writes
and the next one reads costs what that little costs. Calls are counted too, each at the price of the
cheapest one that the card has measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from helpers import catalog
from helpers.bench.machine import MachineCard
from helpers.formulas import transformer

FP32 = 4  # bytes of a value, of weights, activations and cache alike
#: parts of a pass (see :mod:`helpers.bench.stopwatch`) by the kind of an operation
_PART = {"matmul": "products", "attention": "attention", "vector": "other", "lookup": "other"}


@dataclass(frozen=True)
class Forecast:
    """The bound of one pass on one machine.

    Attributes
    ----------
    parts_s : dict of str to float
        Seconds of products, attention and other operations: for each operation the longer of
        arithmetic and transfers.
    calls_s : float
        What the library's calls cost at the price of the card.
    flops, moved_bytes : float
        Of all operations.
    """

    parts_s: Mapping[str, float]
    calls_s: float
    flops: float
    moved_bytes: float

    @property
    def bound_s(self) -> float:
        """The bounds of all operations, one after the other; no calls."""
        return sum(self.parts_s.values())

    @property
    def total_s(self) -> float:
        """The prediction: bound and calls."""
        return self.bound_s + self.calls_s

    @property
    def intensity(self) -> float:
        """FLOPs for each byte."""
        return self.flops / self.moved_bytes


def as_record(config: Mapping[str, Any], name: str = "the book's target") -> catalog.Model:
    """The sizes of one of the book's models as a record that the formulas take.

    Parameters
    ----------
    config : mapping
        As ``ModelConfig.to_dict()`` gives it.
    name : str
        What to call it.

    Examples
    --------
    >>> sizes = dict(layers=5, d_model=384, heads=8, kv_heads=4, head_dim=32, ffn=1024, vocab=4096,
    ...              context=1024, tied_embeddings=True)
    >>> transformer.parameters(as_record(sizes))
    8949888
    """
    sizes = ("layers", "d_model", "heads", "kv_heads", "head_dim", "ffn", "vocab", "context")
    missing = [field for field in (*sizes, "tied_embeddings") if field not in config]
    if missing:
        raise ValueError(f"config: lacks {', '.join(missing)}; allowed is ModelConfig.to_dict()")
    # all that is not named here is as in every Llama: RMSNorm, rotary positions, SwiGLU
    changes = {field: config[field] for field in (*sizes, "tied_embeddings")}
    changes["qkv_bias"] = config.get("qkv_bias", False)
    groups = {config["heads"]: "mha", 1: "mqa"}
    changes["attention"] = groups.get(config["kv_heads"], "gqa")
    return catalog.model("llama-3.1-8b").model_copy(update={"name": name, **changes})


def forecast(
    record: catalog.Model,
    card: MachineCard,
    *,
    batch: int = 1,
    tokens: int = 1,
    past: int = 0,
    calls: int = 0,
    working_set_bytes: float | None = None,
    threads: int | None = None,
) -> Forecast:
    """The bound of a pass over new tokens behind those in the cache, in float32.

    Parameters
    ----------
    record : helpers.catalog.Model
        The model; see :func:`as_record`.
    card : MachineCard
        What the machine was measured to do.
    batch, tokens, past : int
        Sequences, new tokens of each, and tokens of each that are in the cache.
    calls : int
        Library calls of the pass.
    working_set_bytes : float, optional
        Where weights and cache live; all of them together by default. A small value asks what they
        would cost if they lay in a cache of the processor.
    threads : int, optional
        All of the card's by default.

    Raises
    ------
    ValueError
        If a number is out of range, or the card lacks the thread count.

    Examples
    --------
    >>> from helpers import bench
    >>> card = bench.recorded.load("reference-cpu-card")
    >>> sizes = dict(layers=5, d_model=384, heads=8, kv_heads=4, head_dim=32, ffn=1024, vocab=4096,
    ...              context=1024, tied_embeddings=True)
    >>> step = forecast(as_record(sizes), card, past=511)
    >>> whole = forecast(as_record(sizes), card, tokens=512)
    >>> round(step.intensity, 2), round(whole.intensity), round(whole.flops / step.flops)
    (0.53, 46, 401)
    """
    widths = dict.fromkeys(("bytes_per_weight", "bytes_per_activation", "bytes_per_kv"), FP32)
    operations = transformer.forward_operations(record, batch, tokens, past, **widths)
    # without a past, keys and values are only what one operation hands to the next
    cached = {id(op): op.kv_bytes if past else 0 for op in operations}
    if working_set_bytes is None:
        working_set_bytes = sum(op.count * (op.weight_bytes + cached[id(op)]) for op in operations)
    far_s = card.seconds_per_byte("read", working_set_bytes, threads)
    rows = batch * tokens
    exponentials = {
        "attention": batch * record.heads * transformer.attended_pairs(tokens, past),
        "activation": rows * record.ffn,
    }
    peak = card.peak("fp32", threads)
    parts = dict.fromkeys(("products", "attention", "other"), 0.0)
    for op in operations:
        exps = exponentials.get(op.name, 0)
        # the FLOPs of an activation count its exponential, those of attention do not
        plain = op.flops - exps if op.name == "activation" else op.flops
        arithmetic_s = plain / peak + exps * (card.exponential_s or 1 / peak)
        far = op.weight_bytes + cached[id(op)]
        near = op.bytes - far
        near_s = near / card.bandwidth_at(near, "copy", threads) if near else 0.0
        parts[_PART[op.kind]] += op.count * max(arithmetic_s, far * far_s + near_s)
    total = transformer.summed(operations)
    return Forecast(parts, calls * card.dispatch_s, total.flops, total.bytes)


@dataclass(frozen=True)
class TokenPrediction:
    """What the counts say of every token of one model on one machine, written down beforehand.

    Attributes
    ----------
    record : helpers.catalog.Model
    card : MachineCard
    calls_cached, calls_uncached : int
        Library calls of a token with the cache and without; see :func:`count_calls`.
    threads : int, optional
        All of the card's by default.
    """

    record: catalog.Model
    card: MachineCard
    calls_cached: int
    calls_uncached: int
    threads: int | None = None

    def step(self, length: int, *, batch: int = 1, near: bool = False) -> Forecast:
        """A token with the cache, behind a text of ``length`` tokens, the newest among them.

        ``near`` supposes that weights and cache lie in the second-level caches.
        """
        level = self.card.environment.cache_bytes.get("L2", 2**20) if near else None
        return self._forecast(
            batch=batch,
            past=length - 1,
            calls=self.calls_cached,
            working_set_bytes=level,
        )

    def whole(self, length: int) -> Forecast:
        """A token without the cache: a pass over ``length`` tokens."""
        return self._forecast(tokens=length, calls=self.calls_uncached)

    def prompt(self, length: int) -> Forecast:
        """The engine's step that reads a prompt."""
        return self._forecast(tokens=length, calls=self.calls_cached)

    def answer_s(self, prompt: int, tokens: int, *, cached: bool) -> float:
        """Seconds of an answer, its prompt included."""
        lengths = range(prompt, prompt + tokens)
        if not cached:
            return sum(self.whole(length).total_s for length in lengths)
        steps = (self.step(length).total_s for length in lengths[1:])
        return self.prompt(prompt).total_s + sum(steps)

    def _forecast(self, **what: Any) -> Forecast:
        return forecast(self.record, self.card, threads=self.threads, **what)


def count_calls(call: Any) -> int:
    """Library calls that a call makes, views and copies among them.

    Parameters
    ----------
    call : callable
        Runs a model once.

    Examples
    --------
    >>> import torch
    >>> x = torch.ones(3)
    >>> count_calls(lambda: x.add(1).mul(2))
    2
    """
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counting(TorchDispatchMode):
        calls = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.calls += 1
            return function(*args, **(kwargs or {}))

    with Counting() as counting:
        call()
    return counting.calls
