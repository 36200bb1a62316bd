"""A real decoder in torch, made from a model record: the independent count of weights and FLOPs.

Written as a model is written, not as the formulas are: modules, forward passes and nothing that
counts. It covers what the catalog's models need: LayerNorm or RMSNorm, learned or rotary
positions, biases, grouped-query and latent attention, a sliding window, experts, tied embeddings.

Letters: B batch, T new tokens, S all tokens, C channels, H heads, D head size, E experts.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class RMSNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.weight


def make_norm(model, width):
    return nn.LayerNorm(width) if model.norm == "layernorm" else RMSNorm(width)


def rotate(x, start):
    """Rotary embedding of (B, H, T, D), whose first token stands at position ``start``."""
    half = x.shape[-1] // 2
    frequency = 10000.0 ** (-torch.arange(half, device=x.device, dtype=x.dtype) / half)
    position = torch.arange(start, start + x.shape[-2], device=x.device, dtype=x.dtype)
    angle = position[:, None] * frequency  # (T, D/2)
    left, right = x[..., :half], x[..., half : 2 * half]
    cos, sin = angle.cos(), angle.sin()
    return torch.cat([left * cos - right * sin, right * cos + left * sin], -1)


def attend(q, k, v, scale, window):
    """Explicit attention: q (B, H, T, D), k (B, H, S, D), v (B, H, S, Dv) -> (B, H, T, Dv)."""
    t, s = q.shape[-2], k.shape[-2]
    scores = q @ k.transpose(-1, -2) * scale  # (B, H, T, S)
    query = torch.arange(s - t, s, device=q.device)[:, None]
    key = torch.arange(s, device=q.device)[None, :]
    hidden = key > query
    if window is not None:
        hidden = hidden | (key <= query - window)
    return torch.softmax(scores.masked_fill(hidden, float("-inf")), -1) @ v


class Attention(nn.Module):
    """Multi-head or grouped-query attention; the cache is (k, v), each (B, Hkv, S, D)."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        q, kv = model.heads * model.head_dim, model.kv_heads * model.head_dim
        self.q = nn.Linear(model.d_model, q, bias=model.qkv_bias)
        self.k = nn.Linear(model.d_model, kv, bias=model.qkv_bias)
        self.v = nn.Linear(model.d_model, kv, bias=model.qkv_bias)
        self.o = nn.Linear(q, model.d_model, bias=model.output_bias)

    def forward(self, x, cache, absorbed=False):
        b, t, _ = x.shape
        m = self.model
        q = self.q(x).view(b, t, m.heads, m.head_dim).transpose(1, 2)  # (B, H, T, D)
        k = self.k(x).view(b, t, m.kv_heads, m.head_dim).transpose(1, 2)
        v = self.v(x).view(b, t, m.kv_heads, m.head_dim).transpose(1, 2)
        past = 0 if cache is None else cache[0].shape[-2]
        if m.positions == "rope":
            q, k = rotate(q, past), rotate(k, past)
        if cache is not None:
            k, v = torch.cat([cache[0], k], -2), torch.cat([cache[1], v], -2)
        groups = m.heads // m.kv_heads
        y = attend(
            q,
            k.repeat_interleave(groups, 1),
            v.repeat_interleave(groups, 1),
            m.head_dim**-0.5,
            m.window,
        )
        return self.o(y.transpose(1, 2).reshape(b, t, -1)), (k, v)


class LatentAttention(nn.Module):
    """Multi-head latent attention; the cache is (latent (B, S, R), rotary key (B, S, Dr))."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        a = model.mla
        heads = model.heads
        self.q_down = nn.Linear(model.d_model, a.q_lora_rank, bias=False)
        self.q_norm = make_norm(model, a.q_lora_rank)
        self.q_up = nn.Linear(
            a.q_lora_rank, heads * (a.qk_nope_head_dim + a.qk_rope_head_dim), bias=False
        )
        self.kv_down = nn.Linear(model.d_model, a.kv_lora_rank + a.qk_rope_head_dim, bias=False)
        self.kv_norm = make_norm(model, a.kv_lora_rank)
        self.kv_up = nn.Linear(
            a.kv_lora_rank, heads * (a.qk_nope_head_dim + a.v_head_dim), bias=False
        )
        self.o = nn.Linear(heads * a.v_head_dim, model.d_model, bias=model.output_bias)

    def forward(self, x, cache, absorbed=False):
        b, t, _ = x.shape
        a, h = self.model.mla, self.model.heads
        nope, rope, rank = a.qk_nope_head_dim, a.qk_rope_head_dim, a.kv_lora_rank
        past = 0 if cache is None else cache[0].shape[1]
        q = self.q_up(self.q_norm(self.q_down(x))).view(b, t, h, nope + rope).transpose(1, 2)
        q_nope, q_rope = q[..., :nope], rotate(q[..., nope:], past)
        down = self.kv_down(x)
        latent = self.kv_norm(down[..., :rank])
        k_rope = rotate(down[..., rank:].unsqueeze(1), past).squeeze(1)
        if cache is not None:
            latent = torch.cat([cache[0], latent], 1)
            k_rope = torch.cat([cache[1], k_rope], 1)
        s = latent.shape[1]
        scale = (nope + rope) ** -0.5
        if absorbed:
            up = self.kv_up.weight.view(h, nope + a.v_head_dim, rank)
            key_up, value_up = up[:, :nope], up[:, nope:]  # (H, D, R), (H, Dv, R)
            q_latent = q_nope @ key_up  # (B, H, T, R)
            keys = torch.cat([latent, k_rope], -1).unsqueeze(1).expand(b, h, s, rank + rope)
            queries = torch.cat([q_latent, q_rope], -1)
            values = latent.unsqueeze(1).expand(b, h, s, rank)
            y = attend(queries, keys, values, scale, self.model.window)
            y = y @ value_up.transpose(-1, -2)  # (B, H, T, Dv)
        else:
            kv = self.kv_up(latent).view(b, s, h, nope + a.v_head_dim).transpose(1, 2)
            k = torch.cat([kv[..., :nope], k_rope.unsqueeze(1).expand(b, h, s, rope)], -1)
            q = torch.cat([q_nope, q_rope], -1)
            y = attend(q, k, kv[..., nope:], scale, self.model.window)
        return self.o(y.transpose(1, 2).reshape(b, t, -1)), (latent, k_rope)


class MLP(nn.Module):
    def __init__(self, model, width):
        super().__init__()
        if model.mlp == "swiglu":
            self.gate = nn.Linear(model.d_model, width, bias=model.mlp_bias)
        self.up = nn.Linear(model.d_model, width, bias=model.mlp_bias)
        self.down = nn.Linear(width, model.d_model, bias=model.mlp_bias)

    def forward(self, x):
        if hasattr(self, "gate"):
            return self.down(F.silu(self.gate(x)) * self.up(x))
        return self.down(F.gelu(self.up(x), approximate="tanh"))


class Experts(nn.Module):
    """Weights of all routed experts of a layer, stacked."""

    def __init__(self, model):
        super().__init__()
        e, f, c = model.moe.experts, model.moe.expert_ffn, model.d_model
        for name, shape in (("gate", (e, f, c)), ("up", (e, f, c)), ("down", (e, c, f))):
            self.register_module(name, nn.Module())
            weight = nn.Parameter(torch.empty(shape))
            if not weight.is_meta:
                nn.init.normal_(weight, std=0.1)
            getattr(self, name).weight = weight

    def forward(self, x, chosen, weights):
        """x (N, C), chosen and weights (N, k) -> (N, C)."""
        if x.is_meta:  # no values to route by: every expert gets the same number of tokens
            e, (n, k) = self.gate.weight.shape[0], chosen.shape
            assert n * k % e == 0, "uniform routing needs a whole number of tokens per expert"
            rows = x.repeat_interleave(k, 0).view(e, n * k // e, -1)
            gate = rows @ self.gate.weight.transpose(1, 2)
            up = rows @ self.up.weight.transpose(1, 2)
            y = (F.silu(gate) * up) @ self.down.weight.transpose(1, 2)
            return (y.reshape(n, k, -1) * weights[..., None]).sum(1)
        y = torch.zeros_like(x)
        for expert in chosen.unique().tolist():
            token, slot = torch.where(chosen == expert)
            rows = x[token]
            hidden = F.silu(rows @ self.gate.weight[expert].T) * (rows @ self.up.weight[expert].T)
            out = hidden @ self.down.weight[expert].T
            y.index_add_(0, token, out * weights[token, slot, None])
        return y


class Layer(nn.Module):
    def __init__(self, model, index):
        super().__init__()
        self.model = model
        self.attention_norm = make_norm(model, model.d_model)
        self.attention = Attention(model) if model.mla is None else LatentAttention(model)
        self.mlp_norm = make_norm(model, model.d_model)
        if model.moe is None or index < model.moe.dense_layers:
            self.mlp = MLP(model, model.ffn)
        else:
            moe = model.moe
            self.router = nn.Linear(model.d_model, moe.experts, bias=moe.router_bias)
            self.experts = Experts(model)
            if moe.shared_experts:
                self.shared_expert = MLP(model, moe.shared_experts * moe.expert_ffn)

    def feed_forward(self, x):
        if hasattr(self, "mlp"):
            return self.mlp(x)
        rows = x.reshape(-1, x.shape[-1])  # (N, C) with N = B T
        weights, chosen = self.router(rows).softmax(-1).topk(self.model.moe.experts_per_token)
        y = self.experts(rows, chosen, weights)
        if hasattr(self, "shared_expert"):
            y = y + self.shared_expert(rows)
        return y.view_as(x)

    def forward(self, x, cache, absorbed):
        y, cache = self.attention(self.attention_norm(x), cache, absorbed)
        x = x + y
        return x + self.feed_forward(self.mlp_norm(x)), cache


class Decoder(nn.Module):
    """The whole model; ``forward`` returns logits and the cache of every layer."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.embedding = nn.Embedding(model.vocab, model.d_model)
        if model.positions == "learned":
            self.positions = nn.Embedding(model.context, model.d_model)
        self.layers = nn.ModuleList(Layer(model, i) for i in range(model.layers))
        self.norm = make_norm(model, model.d_model)
        if not model.tied_embeddings:
            self.head = nn.Linear(model.d_model, model.vocab, bias=False)

    def forward(self, tokens, caches=None, *, absorbed=False, logits="all"):
        """tokens (B, T) -> logits (B, T or 1, V)."""
        caches = caches or [None] * len(self.layers)
        x = self.embedding(tokens)
        if self.model.positions == "learned":
            past = 0 if caches[0] is None else caches[0][0].shape[-2]
            x = x + self.positions.weight[past : past + tokens.shape[1]]
        kept = []
        for layer, cache in zip(self.layers, caches, strict=True):
            x, cache = layer(x, cache, absorbed)
            kept.append(cache)
        x = self.norm(x if logits == "all" else x[:, -1:])
        head = self.embedding if self.model.tied_embeddings else self.head
        return x @ head.weight.T, kept


def build(model, device="cpu", dtype=torch.float32):
    """Make a decoder from a record; ``device="meta"`` gives shapes without memory."""
    torch.manual_seed(0)
    with torch.device(device):
        return Decoder(model).to(dtype)
