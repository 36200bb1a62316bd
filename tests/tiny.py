"""Tiny random models and prompts: what the engine's tests run on."""

from __future__ import annotations

import random

import torch

from helpers.lm.config import ModelConfig
from helpers.lm.model import Transformer


def config(**changes) -> ModelConfig:
    """Two layers, 32 wide; any field can be changed."""
    sizes = dict(
        layers=2,
        d_model=32,
        heads=4,
        kv_heads=2,
        head_dim=8,
        ffn=64,
        vocab=97,
        context=128,
        tied_embeddings=False,
    )
    return ModelConfig(**{**sizes, **changes})


def model(seed: int = 0, dtype: torch.dtype = torch.float64, **changes) -> Transformer:
    """A random model whose choices are spread, so that greedy decoding does not stand still.

    Weights as at the start of training give nearly equal logits, where any rounding decides; these
    are ten times larger.
    """
    made = Transformer(config(**changes), seed=seed).to(dtype).eval().requires_grad_(False)
    for weight in made.parameters():
        if weight.dim() == 2:
            weight.mul_(10.0)
    return made


def prompts(seed: int, count: int, longest: int, vocab: int = 97) -> list[list[int]]:
    """``count`` prompts of 1 to ``longest`` random tokens."""
    draw = random.Random(seed)
    return [[draw.randrange(vocab) for _ in range(draw.randint(1, longest))] for _ in range(count)]
