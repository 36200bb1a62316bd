"""A decoder-only transformer of the Llama family, complete and readable.

RMSNorm before each block, rotary positions, grouped-query attention, SwiGLU. The model knows
nothing of caches: it computes queries, keys and values and hands them to ``attend``, a function
that its caller chooses. Training passes :func:`causal_attention`; a server passes one that also
writes to its cache and reads from it.

Letters in shape comments: B batch, T time (tokens), C channels (``d_model``), H query heads,
Hkv heads of keys and values, D head size, F width of the feed-forward layer, V vocabulary.
``...`` stands for ``B, T`` (a batch) or for ``N`` (tokens packed flat).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.lm.config import ModelConfig

#: ``attend(layer, q, k, v) -> out``: q [..., H, D]; k, v [..., Hkv, D]; out [..., H, D]
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]


def causal_attention(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend from each token to itself and those before it; nothing is kept.

    Parameters
    ----------
    layer : int
        Not used: without a cache all layers are alike.
    q : Tensor [B, T, H, D] or [T, H, D]
    k, v : Tensor [B, T, Hkv, D] or [T, Hkv, D]

    Returns
    -------
    Tensor
        Of the shape of ``q``.

    Examples
    --------
    The first token sees only itself, so it gets its own value:

    >>> q = k = torch.zeros(3, 1, 2); v = torch.arange(6.0).reshape(3, 1, 2)
    >>> causal_attention(0, q, k, v)[:, 0]
    tensor([[0., 1.],
            [1., 2.],
            [2., 3.]])
    """
    # torch wants heads before time: [..., T, H, D] -> [..., H, T, D]
    q, k, v = q.transpose(-3, -2), k.transpose(-3, -2), v.transpose(-3, -2)
    shared = k.shape[-3] != q.shape[-3]
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=shared)
    return out.transpose(-3, -2)


def rotary_frequencies(config: ModelConfig) -> Tensor:
    """Radians per token for each pair of channels, ``[D/2]`` (Su et al., *RoFormer*, 2021, eq. 15).

    In float32, as published checkpoints were trained.
    """
    exponents = torch.arange(0, config.head_dim, 2).float() / config.head_dim
    frequencies = 1.0 / config.rope_theta**exponents
    if (scaling := config.rope_scaling) is None:
        return frequencies
    # turns within the first context, in the order of operations of published code
    turns = scaling.original_context / (2 * math.pi / frequencies)
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    keep = ((turns - low) / (high - low)).clamp(0, 1)  # 0: stretch, 1: leave as it is
    return keep * frequencies + (1 - keep) * frequencies / scaling.factor


def rotate(x: Tensor, cos: Tensor, signed_sin: Tensor) -> Tensor:
    """Turn channel ``i`` and channel ``i + D/2`` by their token's angle.

    ``x`` is [..., heads, D]; ``cos`` and ``signed_sin`` [..., 1, D]. Of a pair (a, b) the first
    becomes a cos - b sin, the second b cos + a sin. A roll by half puts b beside a and a beside b,
    so one product serves both halves if the sine already carries the sign: ``signed_sin`` is
    -sin in its first half and sin in its second.
    """
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, dims=-1), signed_sin)


class RMSNorm(nn.Module):
    """Divide by the root mean square, then scale (Zhang and Sennrich, 2019, eq. 4)."""

    def __init__(self, channels: int, eps: float):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class Attention(nn.Module):
    """Grouped-query attention around an ``attend`` of the caller (Ainslie et al., 2023)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        rows = (config.heads + 2 * config.kv_heads) * config.head_dim
        self.qkv = nn.Linear(config.d_model, rows, bias=config.qkv_bias)  # rows: q, then k, then v
        self.out = nn.Linear(config.heads * config.head_dim, config.d_model, bias=False)

    def forward(
        self, x: Tensor, cos: Tensor, signed_sin: Tensor, layer: int, attend: Attend
    ) -> Tensor:
        heads, kv_heads = self.config.heads, self.config.kv_heads
        # [..., C] -> [..., (H + 2 Hkv) D] -> [..., H + 2 Hkv, D]
        qkv = self.qkv(x).unflatten(-1, (heads + 2 * kv_heads, self.config.head_dim))
        qk, v = qkv.split((heads + kv_heads, kv_heads), dim=-2)
        q, k = rotate(qk, cos, signed_sin).split((heads, kv_heads), dim=-2)
        out = attend(layer, q, k, v)  # [..., H, D]
        return self.out(out.flatten(-2))  # [..., H D] -> [..., C]


class FeedForward(nn.Module):
    """SwiGLU: one projection gates another (Shazeer, 2020)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.gate_up = nn.Linear(config.d_model, 2 * config.ffn, bias=False)  # gate, then up
        self.down = nn.Linear(config.ffn, config.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)  # [..., 2 F] -> [..., F] twice
        return self.down(F.silu(gate) * up)


class Layer(nn.Module):
    """Attention, then the feed-forward network, each added to what comes in."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.attention_norm = RMSNorm(config.d_model, config.norm_eps)
        self.attention = Attention(config)
        self.ffn_norm = RMSNorm(config.d_model, config.norm_eps)
        self.ffn = FeedForward(config)

    def forward(
        self, x: Tensor, cos: Tensor, signed_sin: Tensor, layer: int, attend: Attend
    ) -> Tensor:
        x = x + self.attention(self.attention_norm(x), cos, signed_sin, layer, attend)
        return x + self.ffn(self.ffn_norm(x))


class Transformer(nn.Module):
    """The whole model: tokens in, logits out.

    Parameters
    ----------
    config : ModelConfig
    seed : int
        Of the first random weights. A loader overwrites them.

    Examples
    --------
    >>> config = ModelConfig(layers=2, d_model=32, heads=4, kv_heads=2, head_dim=8,
    ...                      ffn=64, vocab=97, context=64)
    >>> model = Transformer(config)
    >>> model(torch.tensor([[5, 3, 96]])).shape
    torch.Size([1, 3, 97])
    """

    def __init__(self, config: ModelConfig, seed: int = 0):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab, config.d_model)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.d_model, config.norm_eps)
        self.head = nn.Linear(config.d_model, config.vocab, bias=False)
        if config.tied_embeddings:
            self.head.weight = self.embedding.weight
        self._fill(torch.Generator().manual_seed(seed))
        angles = torch.outer(torch.arange(config.context).float(), rotary_frequencies(config))
        cos, sin = angles.cos(), angles.sin()  # [context, D/2]
        # [context, 1, D]: one row serves all heads of a token
        self.register_buffer("cos", torch.cat((cos, cos), -1).unsqueeze(1), persistent=False)
        signed = torch.cat((-sin, sin), -1).unsqueeze(1)  # see rotate
        self.register_buffer("signed_sin", signed, persistent=False)

    def _fill(self, generator: torch.Generator) -> None:
        """Normal weights; those that write to the residual stream smaller, for they add up."""
        if self.embedding.weight.is_meta:
            return
        with torch.no_grad():
            for name, weight in self.named_parameters():
                if weight.dim() == 2:
                    into_stream = name.endswith(("attention.out.weight", "ffn.down.weight"))
                    scale = (2 * self.config.layers) ** -0.5 if into_stream else 1.0
                    weight.normal_(0.0, 0.02 * scale, generator=generator)
                elif name.endswith("bias"):
                    weight.zero_()

    @property
    def device(self) -> torch.device:
        return self.embedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.embedding.weight.dtype

    def hidden(
        self, tokens: Tensor, positions: Tensor | None = None, attend: Attend | None = None
    ) -> Tensor:
        """The state after the last norm, ``[..., C]``.

        Parameters
        ----------
        tokens : Tensor of int64, [B, T] or [N]
        positions : Tensor of int64, optional
            Place of each token in its own sequence, broadcastable to ``tokens``; 0 to T - 1 unless
            given.
        attend : Attend, optional
            :func:`causal_attention` unless given.
        """
        if positions is None:
            length = tokens.shape[-1]
            if length > self.config.context:
                raise ValueError(
                    f"tokens has {length} of them in a row; the context holds {self.config.context}"
                )
            cos, sin = self.cos[:length], self.signed_sin[:length]  # [T, 1, D]
        else:
            cos, sin = self.cos[positions], self.signed_sin[positions]  # [..., 1, D]
        attend = attend or causal_attention
        x = self.embedding(tokens)  # [...] -> [..., C]
        # autocast makes q and k bf16, but not what they are multiplied with here: a float32 table
        # would make them float32 again, twice the bytes
        if torch.is_autocast_enabled(x.device.type):
            fast = torch.get_autocast_dtype(x.device.type)
            cos, sin = cos.to(fast), sin.to(fast)
        for index, layer in enumerate(self.layers):
            x = layer(x, cos, sin, index, attend)
        return self.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the next token, ``[..., C] -> [..., V]``."""
        return self.head(hidden)

    def forward(
        self, tokens: Tensor, positions: Tensor | None = None, attend: Attend | None = None
    ):
        return self.logits(self.hidden(tokens, positions, attend))
