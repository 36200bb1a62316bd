"""Every weight of a model, from its record: names, shapes and the parameters they hold.

A model record (:func:`helpers.catalog.model`) gives the shape of a decoder-only transformer. From
it follows each tensor that a checkpoint holds, so the count is exact, biases and norms included.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

__all__ = [
    "Tensor",
    "active_parameters",
    "embedding_parameters",
    "parameters",
    "tensors",
]


@dataclass(frozen=True)
class Tensor:
    """A weight, or several equal ones: one per layer.

    Parameters
    ----------
    name : str
        Such as ``layers.attention.q.weight``.
    shape : tuple of int
        A matrix is (outputs, inputs), as torch stores it; experts stand first.
    count : int
        How many layers have one.
    part : str
        ``embedding``, ``attention``, ``mlp``, ``experts``, ``router``, ``norm`` or ``head``.
    """

    name: str
    shape: tuple[int, ...]
    count: int
    part: str

    @property
    def parameters(self) -> int:
        """Parameters of all ``count`` of them."""
        return math.prod(self.shape) * self.count


def tensors(model: Any) -> list[Tensor]:
    """List every tensor of a model.

    Parameters
    ----------
    model : helpers.catalog.Model
        The record.

    Returns
    -------
    list of Tensor
        From the embedding to the head. Tied embeddings have no tensor of their own for the head.

    Examples
    --------
    >>> from helpers import catalog
    >>> [t.shape for t in tensors(catalog.model("llama-3.1-8b")) if t.name.endswith("k.weight")]
    [(1024, 4096)]
    """
    c, layers = model.d_model, model.layers
    found = [Tensor("embedding.weight", (model.vocab, c), 1, "embedding")]
    if model.positions == "learned":
        found.append(Tensor("positions.weight", (model.context, c), 1, "embedding"))
    found += _norm(model, "layers.attention_norm", c, layers)
    found += _attention(model)
    found += _norm(model, "layers.mlp_norm", c, layers)
    dense_layers = layers if model.moe is None else model.moe.dense_layers
    if dense_layers:
        found += _mlp(model, "layers.mlp", model.ffn, dense_layers)
    if model.moe is not None:
        found += _moe(model)
    found += _norm(model, "norm", c, 1)
    if not model.tied_embeddings:
        found.append(Tensor("head.weight", (model.vocab, c), 1, "head"))
    return found


def parameters(model: Any) -> int:
    """Count all parameters of a model.

    Examples
    --------
    >>> from helpers import catalog
    >>> parameters(catalog.model("llama-3.1-8b"))
    8030261248
    """
    return sum(tensor.parameters for tensor in tensors(model))


def active_parameters(model: Any) -> int:
    """Count the parameters that one token uses: all but the routed experts it does not visit.

    Both embeddings are counted, as model cards do.

    Examples
    --------
    >>> from helpers import catalog
    >>> active_parameters(catalog.model("mixtral-8x7b"))
    12879925248
    """
    if model.moe is None:
        return parameters(model)
    experts = sum(t.parameters for t in tensors(model) if t.part == "experts")
    idle = model.moe.experts - model.moe.experts_per_token
    return parameters(model) - experts * idle // model.moe.experts


def embedding_parameters(model: Any) -> int:
    """Count the parameters of tables that a step only looks rows up in.

    A tied embedding also serves as the head, where every step reads all of it: it is not counted.

    Examples
    --------
    >>> from helpers import catalog
    >>> embedding_parameters(catalog.model("llama-3.1-8b"))
    525336576
    >>> embedding_parameters(catalog.model("gpt2"))  # learned positions only: the rest is tied
    786432
    """
    tables = [t for t in tensors(model) if t.part == "embedding"]
    return sum(
        t.parameters for t in tables if t.name != "embedding.weight" or not model.tied_embeddings
    )


def _linear(
    name: str, outputs: int, inputs: int, count: int, part: str, bias: bool = False
) -> list[Tensor]:
    """A matrix and, if it has one, its bias."""
    found = [Tensor(f"{name}.weight", (outputs, inputs), count, part)]
    if bias:
        found.append(Tensor(f"{name}.bias", (outputs,), count, part))
    return found


def _norm(model: Any, name: str, width: int, count: int) -> list[Tensor]:
    """The scale of a norm, and the shift that LayerNorm has besides."""
    found = [Tensor(f"{name}.weight", (width,), count, "norm")]
    if model.norm == "layernorm":
        found.append(Tensor(f"{name}.bias", (width,), count, "norm"))
    return found


def _attention(model: Any) -> list[Tensor]:
    """Query, key, value and output matrices; with MLA the compressed ones and their norms."""
    c, layers, name = model.d_model, model.layers, "layers.attention"
    if model.mla is not None:
        mla = model.mla
        key, value = mla.qk_nope_head_dim, mla.v_head_dim
        return [
            *_linear(f"{name}.q_down", mla.q_lora_rank, c, layers, "attention"),
            *_norm(model, f"{name}.q_norm", mla.q_lora_rank, layers),
            *_linear(
                f"{name}.q_up",
                model.heads * (key + mla.qk_rope_head_dim),
                mla.q_lora_rank,
                layers,
                "attention",
            ),
            *_linear(
                f"{name}.kv_down",
                mla.kv_lora_rank + mla.qk_rope_head_dim,
                c,
                layers,
                "attention",
            ),
            *_norm(model, f"{name}.kv_norm", mla.kv_lora_rank, layers),
            *_linear(
                f"{name}.kv_up", model.heads * (key + value), mla.kv_lora_rank, layers, "attention"
            ),
            *_linear(f"{name}.o", c, model.heads * value, layers, "attention", model.output_bias),
        ]
    q, kv = model.heads * model.head_dim, model.kv_heads * model.head_dim
    return [
        *_linear(f"{name}.q", q, c, layers, "attention", model.qkv_bias),
        *_linear(f"{name}.k", kv, c, layers, "attention", model.qkv_bias),
        *_linear(f"{name}.v", kv, c, layers, "attention", model.qkv_bias),
        *_linear(f"{name}.o", c, q, layers, "attention", model.output_bias),
    ]


def _mlp(model: Any, name: str, width: int, count: int) -> list[Tensor]:
    """Up and down matrices, and the gate if there is one."""
    c, bias = model.d_model, model.mlp_bias
    gate = _linear(f"{name}.gate", width, c, count, "mlp", bias) if model.mlp == "swiglu" else []
    return [
        *gate,
        *_linear(f"{name}.up", width, c, count, "mlp", bias),
        *_linear(f"{name}.down", c, width, count, "mlp", bias),
    ]


def _moe(model: Any) -> list[Tensor]:
    """Router, routed experts stacked in one tensor each, and the experts that all tokens share."""
    moe, c = model.moe, model.d_model
    count, e, f = model.layers - moe.dense_layers, moe.experts, moe.expert_ffn
    found = _linear("layers.router", e, c, count, "router", moe.router_bias)
    for matrix, shape in (("gate", (e, f, c)), ("up", (e, f, c)), ("down", (e, c, f))):
        if matrix != "gate" or model.mlp == "swiglu":
            found.append(Tensor(f"layers.experts.{matrix}.weight", shape, count, "experts"))
    if moe.shared_experts:
        found += _mlp(model, "layers.shared_expert", moe.shared_experts * f, count)
    return found
