"""What a transformer does: every operation of a layer, of a prompt and of a decode step.

From a model record and a workload (how many sequences, how many new tokens each, how many tokens
already cached) follows a list of :class:`Operation`: its arithmetic and the bytes it moves, split
into weights, activations and KV cache. On a roofline the list says which operations are bound by
memory.

What is counted
---------------
* Matrix products and attention: two FLOPs per multiply-add. Norms, activations, residuals and the
  rotary embedding: one FLOP per elementary function and element, see the constants below. Softmax
  is not counted.
* Each operation is a kernel of its own: it reads its inputs and writes its outputs once. Query,
  key and value are one product, so are gate and up. Attention is fused: scores stay on the chip.
* Attention is causal; a window limits how far a query looks back.
* The input embedding is a lookup of one row per token, not a matrix product. The head is computed
  for the last token of each sequence only, unless asked otherwise.

The numbers may be expressions (:mod:`helpers.formulas.expression`) where they are not the model's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

from helpers.catalog import Model

from .model_size import touched_experts
from .ops import is_symbolic, maximum, minimum
from .tensors import (
    Tensor,
    active_parameters,
    embedding_parameters,
    parameters,
    tensors,
)

__all__ = [
    "Operation",
    "Tensor",
    "active_parameters",
    "attended_pairs",
    "decode_step",
    "embedding_parameters",
    "forward_operations",
    "kv_bytes_per_token",
    "layer_operations",
    "memory_bound_count",
    "parameters",
    "prefill",
    "summed",
    "tensors",
]

#: FLOPs per element: square, add, multiply by 1/rms, multiply by the weight
RMSNORM_FLOPS = 4
#: FLOPs per element: the above, and subtract the mean, add it up, add the bias
LAYERNORM_FLOPS = 7
#: FLOPs per rotated element: two multiplies and an add
ROPE_FLOPS = 3
#: FLOPs per element of SiLU(gate) x up: exponential, add, divide, multiply
SWIGLU_FLOPS = 4
#: FLOPs per element of GELU in its tanh form
GELU_FLOPS = 8


@dataclass(frozen=True)
class Operation:
    """One operation of a forward pass: arithmetic and bytes of one of its ``count`` copies.

    Parameters
    ----------
    name : str
        Such as ``qkv projection``.
    kind : {"matmul", "attention", "vector", "lookup"}
        ``matmul`` and ``attention`` run on the matrix units, ``vector`` does not.
    count : int
        How many layers do it.
    flops : number
        Arithmetic.
    weights : number
        Parameters read.
    weight_bytes, activation_bytes, kv_bytes : number
        Bytes moved: weights read, activations read and written, KV cache read and written.

    Examples
    --------
    >>> op = Operation("gemv", "matmul", 1, flops=2e6, weights=1e6, weight_bytes=2e6)
    >>> op.intensity
    1.0
    """

    name: str
    kind: str
    count: int = 1
    flops: Any = 0
    weights: Any = 0
    weight_bytes: Any = 0
    activation_bytes: Any = 0
    kv_bytes: Any = 0

    @property
    def bytes(self) -> Any:
        """All bytes moved."""
        return self.weight_bytes + self.activation_bytes + self.kv_bytes

    @property
    def intensity(self) -> Any:
        """Arithmetic intensity, FLOP/B."""
        return self.flops / self.bytes

    def seconds(self, peak_flops_per_s: Any, bandwidth_bytes_per_s: Any) -> Any:
        """Return the shortest time of all copies: the longer of arithmetic and transfers."""
        once = maximum(self.flops / peak_flops_per_s, self.bytes / bandwidth_bytes_per_s)
        return self.count * once

    def bound(self, peak_flops_per_s: float, bandwidth_bytes_per_s: float) -> str:
        """Name what limits it: ``"memory"`` or ``"compute"``."""
        ridge = peak_flops_per_s / bandwidth_bytes_per_s
        return "compute" if self.intensity >= ridge else "memory"


def summed(operations: Iterable[Operation], name: str = "total") -> Operation:
    """Add operations up, each times its count.

    Examples
    --------
    >>> summed([Operation("a", "matmul", 2, flops=3), Operation("b", "vector", flops=1)]).flops
    7
    """
    chosen = list(operations)
    return Operation(
        name,
        "total",
        1,
        **{
            field: sum(op.count * getattr(op, field) for op in chosen)
            for field in ("flops", "weights", "weight_bytes", "activation_bytes", "kv_bytes")
        },
    )


def memory_bound_count(
    model: Any,
    batch: float,
    tokens: float,
    past: float,
    peak_flops_per_s: float,
    bandwidth_bytes_per_s: float,
) -> int:
    """Count the operations of one layer that are bound by memory.

    Parameters
    ----------
    model, batch, tokens, past
        As in :func:`layer_operations`, with values of two bytes.
    peak_flops_per_s, bandwidth_bytes_per_s : number
        The chip.

    Examples
    --------
    >>> from helpers import catalog
    >>> memory_bound_count(catalog.model("llama-3.1-8b"), 1, 1, 2048, 989.4e12, 3.35e12)
    11
    """
    ops = layer_operations(model, batch, tokens, past)  # checks its arguments
    return sum(op.bound(peak_flops_per_s, bandwidth_bytes_per_s) == "memory" for op in ops)


def kv_bytes_per_token(model: Any, bytes_per_kv: Any = 2) -> Any:
    """Return the bytes one token of context keeps in the cache.

    Parameters
    ----------
    model : helpers.catalog.Model
        The record.
    bytes_per_kv : number
        Bytes of one cached value: 2 for bf16, 1 for fp8.

    Examples
    --------
    >>> from helpers import catalog
    >>> kv_bytes_per_token(catalog.model("deepseek-v3"))
    70272
    """
    _check_model(model)
    return model.layers * _cached_values(model) * bytes_per_kv


def attended_pairs(tokens: Any, past: Any, window: int | None = None) -> Any:
    """Count the query-key pairs of causal attention, per head.

    Parameters
    ----------
    tokens : number
        New tokens; each sees the past, its predecessors and itself.
    past : number
        Tokens before them.
    window : int, optional
        How many tokens a query sees at most, itself included.

    Examples
    --------
    >>> attended_pairs(4, 0)
    10.0
    >>> attended_pairs(4, 0, window=2)  # 1 + 2 + 2 + 2
    7.0
    """
    pairs = tokens * past + tokens * (tokens + 1) / 2
    if window is None:
        return pairs
    # token i sees past + i tokens; what exceeds the window falls away
    last, before = maximum(0, past + tokens - window), maximum(0, past - window)
    return pairs - (last * (last + 1) - before * (before + 1)) / 2


def layer_operations(
    model: Any,
    batch: Any = 1,
    tokens: Any = 1,
    past: Any = 0,
    *,
    bytes_per_weight: Any = 2,
    bytes_per_activation: Any = 2,
    bytes_per_kv: Any = 2,
    dense: bool = False,
    absorbed: bool = False,
    causal: bool = True,
    experts_touched: Any = None,
) -> list[Operation]:
    """List the operations of one layer.

    Parameters
    ----------
    model : helpers.catalog.Model
        The record.
    batch : whole number or expression
        Sequences computed together.
    tokens : whole number or expression
        New tokens of each sequence: 1 in decode, the prompt's length in prefill.
    past : whole number or expression
        Tokens of each sequence that are already in the cache.
    bytes_per_weight, bytes_per_activation, bytes_per_kv : number
        Width of each kind of value.
    dense : bool
        For a model with experts: the ordinary layer that some have at the bottom.
    absorbed : bool
        For multi-head latent attention: attend to the compressed cache itself, with the matrices
        that decompress it folded into query and output (best in decode). Otherwise keys and
        values are decompressed for the whole context first (best in prefill).
    causal : bool
        Count only the pairs that the mask leaves; False counts the full square, as a profiler
        does that knows no mask.
    experts_touched : number, optional
        Routed experts whose weights are read. By default what uniform routing gives on average.

    Returns
    -------
    list of Operation
        In the order in which they run.

    Raises
    ------
    TypeError
        If the model is no record of the catalog.
    ValueError
        If a number is out of range or an option does not fit the model.

    Examples
    --------
    >>> from helpers import catalog
    >>> llama = catalog.model("llama-3.1-8b")
    >>> down = next(o for o in layer_operations(llama, batch=64) if o.name == "down projection")
    >>> down.flops == 2 * 64 * 14336 * 4096
    True
    >>> round(down.intensity, 1)
    62.7
    """
    _check_model(model)
    work = _Workload(
        batch, tokens, past, bytes_per_weight, bytes_per_activation, bytes_per_kv, causal
    )
    work.check()
    if absorbed and model.mla is None:
        raise ValueError(f"absorbed: True; allowed with MLA only, {model.id} has none")
    if dense and model.moe is not None and not model.moe.dense_layers:
        raise ValueError(f"dense: True; {model.id} has no layer without experts")
    attention = _attention(model, work) if model.mla is None else _mla(model, work, absorbed)
    if model.moe is None or dense:
        mlp = _mlp(model, work, model.ffn)
    else:
        mlp = _moe(model, work, experts_touched)
    return [
        _norm(model, work, "attention norm", model.d_model),
        *attention,
        _residual(model, work, "attention residual"),
        _norm(model, work, "mlp norm", model.d_model),
        *mlp,
        _residual(model, work, "mlp residual"),
    ]


def forward_operations(
    model: Any,
    batch: Any = 1,
    tokens: Any = 1,
    past: Any = 0,
    *,
    logits: str = "last",
    **options: Any,
) -> list[Operation]:
    """List the operations of a whole forward pass; equal layers stand once, with their count.

    Parameters
    ----------
    model, batch, tokens, past
        As in :func:`layer_operations`.
    logits : {"last", "all"}
        Which tokens the head is computed for: the last of each sequence (serving), or all
        (training, scoring).
    **options
        As in :func:`layer_operations`.

    Returns
    -------
    list of Operation
        Embedding, layers, final norm, head.

    Examples
    --------
    >>> from helpers import catalog
    >>> ops = forward_operations(catalog.model("llama-3.1-8b"))
    >>> ops[0].name, ops[-1].name, summed(ops).weights
    ('embedding', 'head', 7504928768)
    """
    _check_model(model)
    if logits not in ("last", "all"):
        raise ValueError(f"logits: {logits!r}; allowed are 'last' and 'all'")
    layer = layer_operations(model, batch, tokens, past, **options)
    dense_layers = 0 if model.moe is None else model.moe.dense_layers
    layers = [replace(op, count=model.layers - dense_layers) for op in layer]
    if dense_layers:
        first = layer_operations(model, batch, tokens, past, **(options | {"dense": True}))
        layers = [replace(op, count=dense_layers) for op in first] + layers

    shape = {key: value for key, value in options.items() if key.startswith("bytes_per_")}
    work = _Workload(batch, tokens, past, **shape)
    rows = batch if logits == "last" else work.rows
    return [
        _embedding(model, work),
        *layers,
        _norm(model, work, "final norm", model.d_model),
        work.matmul("head", rows, model.d_model, model.vocab),
    ]


def prefill(model: Any, batch: Any = 1, tokens: Any = 2048, **options: Any) -> list[Operation]:
    """List the operations that process ``batch`` prompts of ``tokens`` tokens.

    Latent attention runs in its decompressed form. Options as in :func:`forward_operations`.

    Examples
    --------
    >>> from helpers import catalog
    >>> total = summed(prefill(catalog.model("llama-3.1-8b"), tokens=2048))
    >>> f"{total.flops:.3g}"
    '2.97e+13'
    """
    return forward_operations(model, batch, tokens, 0, **options)


def decode_step(model: Any, batch: Any = 1, context: Any = 2048, **options: Any) -> list[Operation]:
    """List the operations that give each of ``batch`` sequences one more token.

    Parameters
    ----------
    model : helpers.catalog.Model
        The record.
    batch : number
        Sequences.
    context : number
        Tokens of each sequence that are in the cache before the step.
    **options
        As in :func:`forward_operations`. Latent attention runs in its absorbed form unless
        ``absorbed=False``.

    Returns
    -------
    list of Operation
        The input embedding is a lookup: its table is not read.

    Examples
    --------
    >>> from helpers import catalog
    >>> step = summed(decode_step(catalog.model("llama-3.1-8b"), batch=1, context=0))
    >>> step.weight_bytes  # 16.06 GB less the input embedding's 1.05 GB, plus one row
    15009857536
    """
    _check_model(model)
    _check_whole("context", context, 0)
    options = {"absorbed": model.mla is not None} | options
    return forward_operations(model, batch, 1, context, **options)


# --- the pieces --------------------------------------------------------------------------------


def _check_model(model: Any) -> None:
    """Raise unless this is a record of the catalog."""
    if not isinstance(model, Model):
        wanted = model if isinstance(model, str) else "llama-3.1-8b"
        raise TypeError(
            f"model: {model!r} is a {type(model).__name__}; allowed is a record of the catalog:"
            f" write catalog.model({wanted!r})"
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _check_whole(name: str, value: Any, least: int) -> None:
    """Raise unless a plain value is a whole number; an expression passes."""
    if is_symbolic(value):
        return
    if not (_is_number(value) and value >= least and value % 1 == 0):
        raise ValueError(f"{name}: {value!r}; allowed is a whole number of at least {least}")


@dataclass(frozen=True)
class _Workload:
    """How much is computed, and how wide its values are."""

    batch: Any
    tokens: Any
    past: Any
    bytes_per_weight: Any = 2
    bytes_per_activation: Any = 2
    bytes_per_kv: Any = 2
    causal: bool = True

    def check(self) -> None:
        """Raise unless every plain number is in range."""
        for name, least in (("batch", 1), ("tokens", 1), ("past", 0)):
            _check_whole(name, getattr(self, name), least)
        for name in ("bytes_per_weight", "bytes_per_activation", "bytes_per_kv"):
            value = getattr(self, name)
            if not is_symbolic(value) and not (_is_number(value) and 0 < value < float("inf")):
                raise ValueError(f"{name}: {value!r}; allowed is a number above 0")

    @property
    def rows(self) -> Any:
        """New tokens of all sequences: the rows of every matrix product."""
        return self.batch * self.tokens

    @property
    def keys(self) -> Any:
        """Tokens of one sequence, old and new."""
        return self.past + self.tokens

    def keys_read(self, window: int | None) -> Any:
        """Tokens whose keys and values the new ones need."""
        return self.keys if window is None else minimum(self.keys, window + self.tokens - 1)

    def pairs(self, window: int | None) -> Any:
        """Query-key pairs of one head of one sequence."""
        if not self.causal:
            return self.tokens * self.keys
        return attended_pairs(self.tokens, self.past, window)

    def matmul(
        self,
        name: str,
        rows: Any,
        inputs: int,
        outputs: int,
        *,
        bias: int = 0,
        kv_outputs: int = 0,
    ) -> Operation:
        """A product with a weight matrix; ``kv_outputs`` of its outputs go to the cache."""
        weights = inputs * outputs + bias
        return Operation(
            name,
            "matmul",
            flops=2 * rows * inputs * outputs,
            weights=weights,
            weight_bytes=weights * self.bytes_per_weight,
            activation_bytes=rows * (inputs + outputs - kv_outputs) * self.bytes_per_activation,
            kv_bytes=rows * kv_outputs * self.bytes_per_kv,
        )

    def vector(
        self, name: str, rows: Any, flops: int, reads: int, writes: int, weights: int = 0
    ) -> Operation:
        """An operation without a matrix: FLOPs, values read and values written per row."""
        return Operation(
            name,
            "vector",
            flops=rows * flops,
            weights=weights,
            weight_bytes=weights * self.bytes_per_weight,
            activation_bytes=rows * (reads + writes) * self.bytes_per_activation,
        )


def _cached_values(model: Any) -> int:
    """Values that a layer caches per token."""
    if model.mla is not None:
        return model.mla.kv_lora_rank + model.mla.qk_rope_head_dim
    return 2 * model.kv_heads * model.head_dim


def _embedding(model: Any, work: _Workload) -> Operation:
    """Look up a row per token; add the row of its position if those are learned."""
    learned = model.positions == "learned"
    values = work.rows * model.d_model * (2 if learned else 1)
    return Operation(
        "embedding",
        "lookup",
        flops=work.rows * model.d_model if learned else 0,
        weights=values,
        weight_bytes=values * work.bytes_per_weight,
        activation_bytes=work.rows * model.d_model * work.bytes_per_activation,
    )


def _norm(model: Any, work: _Workload, name: str, width: int) -> Operation:
    """Read a row, write a row, with one weight (LayerNorm: two) per value."""
    layer_norm = model.norm == "layernorm"
    flops = LAYERNORM_FLOPS if layer_norm else RMSNORM_FLOPS
    return work.vector(
        name, work.rows, flops * width, width, width, weights=width * (2 if layer_norm else 1)
    )


def _residual(model: Any, work: _Workload, name: str) -> Operation:
    """Read two rows, write their sum."""
    return work.vector(name, work.rows, model.d_model, 2 * model.d_model, model.d_model)


def _attention(model: Any, work: _Workload) -> list[Operation]:
    """Multi-head and grouped-query attention."""
    q, kv = model.heads * model.head_dim, model.kv_heads * model.head_dim
    found = [
        work.matmul(
            "qkv projection",
            work.rows,
            model.d_model,
            q + 2 * kv,
            bias=(q + 2 * kv) if model.qkv_bias else 0,
            kv_outputs=2 * kv,
        )
    ]
    if model.positions == "rope":
        found.append(
            work.vector("rotary embedding", work.rows, ROPE_FLOPS * (q + kv), q + kv, q + kv)
        )
    found.append(
        Operation(
            "attention",
            "attention",
            flops=4 * work.batch * q * work.pairs(model.window),
            activation_bytes=2 * work.rows * q * work.bytes_per_activation,  # read q, write output
            kv_bytes=2 * work.batch * kv * work.keys_read(model.window) * work.bytes_per_kv,
        )
    )
    found.append(
        work.matmul(
            "output projection",
            work.rows,
            q,
            model.d_model,
            bias=model.d_model if model.output_bias else 0,
        )
    )
    return found


def _mla(model: Any, work: _Workload, absorbed: bool) -> list[Operation]:
    """Multi-head latent attention, over the compressed cache or over decompressed heads."""
    mla, heads, rows = model.mla, model.heads, work.rows
    key, rope, value = mla.qk_nope_head_dim, mla.qk_rope_head_dim, mla.v_head_dim
    rank, q_rank = mla.kv_lora_rank, mla.q_lora_rank
    rotated = (heads + 1) * rope
    pairs, keys = work.pairs(model.window), work.keys_read(model.window)
    found = [
        work.matmul("query down projection", rows, model.d_model, q_rank),
        _norm(model, work, "query norm", q_rank),
        work.matmul("query up projection", rows, q_rank, heads * (key + rope)),
        work.matmul("kv down projection", rows, model.d_model, rank + rope, kv_outputs=rank + rope),
        _norm(model, work, "kv norm", rank),
        work.vector("rotary embedding", rows, ROPE_FLOPS * rotated, rotated, rotated),
    ]
    cache_bytes = work.batch * keys * (rank + rope) * work.bytes_per_kv
    if absorbed:
        found += [
            _per_head(work, "absorbed query projection", rows, heads, key, rank),
            Operation(
                "attention",
                "attention",
                # scores over rank + rope values, weighted sum over the rank ones
                flops=2 * work.batch * heads * (2 * rank + rope) * pairs,
                activation_bytes=rows * heads * (2 * rank + rope) * work.bytes_per_activation,
                kv_bytes=cache_bytes,
            ),
            _per_head(work, "absorbed value projection", rows, heads, rank, value),
        ]
    else:
        context_rows = work.batch * keys
        decompressed = heads * (key + value)
        found += [
            Operation(
                "kv up projection",
                "matmul",
                flops=2 * context_rows * rank * decompressed,
                weights=rank * decompressed,
                weight_bytes=rank * decompressed * work.bytes_per_weight,
                activation_bytes=context_rows * decompressed * work.bytes_per_activation,
                kv_bytes=context_rows * rank * work.bytes_per_kv,
            ),
            Operation(
                "attention",
                "attention",
                flops=2 * work.batch * heads * (key + rope + value) * pairs,
                activation_bytes=(rows * heads * (key + rope + value) + context_rows * decompressed)
                * work.bytes_per_activation,
                kv_bytes=context_rows * rope * work.bytes_per_kv,
            ),
        ]
    found.append(
        work.matmul(
            "output projection",
            rows,
            heads * value,
            model.d_model,
            bias=model.d_model if model.output_bias else 0,
        )
    )
    return found


def _per_head(
    work: _Workload, name: str, rows: Any, heads: int, inputs: int, outputs: int
) -> Operation:
    """A product in which each head has a matrix of its own."""
    one = work.matmul(name, rows, inputs, outputs)
    return replace(
        one,
        flops=heads * one.flops,
        weights=heads * one.weights,
        weight_bytes=heads * one.weight_bytes,
        activation_bytes=heads * one.activation_bytes,
    )


def _mlp(
    model: Any, work: _Workload, width: int, prefix: str = "", rows: Any = None
) -> list[Operation]:
    """Feed-forward layer, with a gate (SwiGLU) or without (GELU)."""
    rows = work.rows if rows is None else rows
    gated, c, bias = model.mlp == "swiglu", model.d_model, model.mlp_bias
    up = 2 * width if gated else width
    activation = (SWIGLU_FLOPS if gated else GELU_FLOPS) * width
    return [
        work.matmul(
            f"{prefix}gate and up projection" if gated else f"{prefix}up projection",
            rows,
            c,
            up,
            bias=up if bias else 0,
        ),
        work.vector(f"{prefix}activation", rows, activation, up, width),
        work.matmul(f"{prefix}down projection", rows, width, c, bias=c if bias else 0),
    ]


def _moe(model: Any, work: _Workload, experts_touched: Any) -> list[Operation]:
    """Router, the routed experts of each token, their weighted sum, and the shared experts."""
    moe, c = model.moe, model.d_model
    touched = experts_touched
    if touched is None:
        touched = touched_experts(moe.experts, moe.experts_per_token, work.rows)
    elif not is_symbolic(touched) and not 0 < touched <= moe.experts:
        raise ValueError(
            f"experts_touched: {touched!r}; allowed is above 0 and at most {moe.experts}"
        )
    found = [
        work.matmul("router", work.rows, c, moe.experts, bias=moe.experts if moe.router_bias else 0)
    ]
    # every token visits experts_per_token experts: that many rows of arithmetic, but the weights
    # of an expert are read once however many tokens chose it
    routed = _mlp(model, work, moe.expert_ffn, "expert ", rows=work.rows * moe.experts_per_token)
    found += [
        replace(op, weights=touched * op.weights, weight_bytes=touched * op.weight_bytes)
        for op in routed
    ]
    k = moe.experts_per_token
    found.append(work.vector("expert sum", work.rows, 2 * k * c, k * c, c))
    if moe.shared_experts:
        found += _mlp(model, work, moe.shared_experts * moe.expert_ffn, "shared expert ")
    return found
