"""What the engine's ideas are worth: each measured against going without, in one run.

Five contests (:mod:`helpers.bench.contest`) are held with one model:

- decoding at batch 1, against ``generate`` of transformers with the same weights;
- the same at batch 16;
- continuous against static batching, on requests of very different lengths;
- continuous batching against static batches that drop the rows that are done;
- with the cache against without, where every token costs a pass over all before it.

Beside them stands what the engine's cache should weigh by the formula, and what it does.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from helpers.bench.contest import Contest, contest
from helpers.bench.environment import Environment, current_environment
from helpers.bench.storage import write_json

COMMAND = "python -m helpers.bench.serving"

#: formats of the cache that are weighed
CACHE_FORMATS = ("float32", "bfloat16", "int8", "int4")


# ---- the contests ------------------------------------------------------------------------------


def as_llama(model: Any) -> Any:
    """The same weights in the module of transformers, attending by the same torch function.

    Parameters
    ----------
    model : helpers.lm.model.Transformer
        Without a stretched rotary embedding.

    Returns
    -------
    transformers.LlamaForCausalLM
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    c = model.config
    if c.rope_scaling is not None or c.qkv_bias:
        raise ValueError("model: rope_scaling and qkv_bias are not carried over to transformers")
    config = LlamaConfig(
        num_hidden_layers=c.layers,
        hidden_size=c.d_model,
        num_attention_heads=c.heads,
        num_key_value_heads=c.kv_heads,
        head_dim=c.head_dim,
        intermediate_size=c.ffn,
        vocab_size=c.vocab,
        max_position_embeddings=c.context,
        rope_theta=c.rope_theta,
        rms_norm_eps=c.norm_eps,
        tie_word_embeddings=c.tied_embeddings,
        bos_token_id=None,
        eos_token_id=None,
        attn_implementation="sdpa",
    )
    llama = LlamaForCausalLM(config).to(model.dtype).to(model.device).eval()
    weights = {
        "model.embed_tokens.weight": model.embedding.weight,
        "model.norm.weight": model.norm.weight,
        "lm_head.weight": model.head.weight,
    }
    q_rows, kv_rows = c.heads * c.head_dim, c.kv_heads * c.head_dim
    for index, layer in enumerate(model.layers):
        at = f"model.layers.{index}."
        q, k, v = layer.attention.qkv.weight.split((q_rows, kv_rows, kv_rows))
        gate, up = layer.ffn.gate_up.weight.split((c.ffn, c.ffn))
        for name, weight in (
            ("input_layernorm", layer.attention_norm.weight),
            ("self_attn.q_proj", q),
            ("self_attn.k_proj", k),
            ("self_attn.v_proj", v),
            ("self_attn.o_proj", layer.attention.out.weight),
            ("post_attention_layernorm", layer.ffn_norm.weight),
            ("mlp.gate_proj", gate),
            ("mlp.up_proj", up),
            ("mlp.down_proj", layer.ffn.down.weight),
        ):
            weights[f"{at}{name}.weight"] = weight
    with torch.no_grad():
        llama.load_state_dict(weights, strict=True)
    return llama


def _prompts(model: Any, lengths: Sequence[int], seed: int = 0) -> list[list[int]]:
    draw = random.Random(seed)
    return [[draw.randrange(model.config.vocab) for _ in range(length)] for length in lengths]


def decode_against_transformers(
    model: Any,
    batch: int,
    *,
    prompt: int = 16,
    tokens: int = 128,
    samples: int = 5,
    llama: Any = None,
) -> Contest:
    """Greedy decoding of a batch: our engine, and ``generate`` of transformers with its cache.

    Parameters
    ----------
    model : helpers.lm.model.Transformer
    batch : int
        Prompts of the same length, which suits transformers: it need not pad.
    prompt, tokens : int
        Length of each prompt and of each answer.
    samples : int
    llama : transformers.LlamaForCausalLM, optional
        From :func:`as_llama`.
    """
    import torch

    from helpers.serve.engine import Engine
    from helpers.serve.request import SamplingParams

    llama = as_llama(model) if llama is None else llama
    prompts = _prompts(model, [prompt] * batch)
    inputs = torch.tensor(prompts, device=model.device)
    mask = torch.ones_like(inputs)
    engine = Engine(model, max_batch=batch, prefix_caching=False)
    params = SamplingParams(max_tokens=tokens)

    def ours() -> int:
        return sum(len(output.tokens) for output in engine.generate(prompts, params))

    def theirs() -> int:
        with torch.inference_mode():
            out = llama.generate(
                inputs,
                attention_mask=mask,
                max_new_tokens=tokens,
                do_sample=False,
                use_cache=True,
                pad_token_id=0,
            )
        return (out.shape[1] - prompt) * batch

    return contest(
        f"decode at batch {batch}",
        ("this engine", ours),
        ("transformers", theirs),
        wanted=1.5,
        samples=samples,
    )


def cache_against_none(
    model: Any, *, prompt: int = 16, tokens: int = 512, samples: int = 3
) -> Contest:
    """One answer with the cache, and with a pass over the whole text for each token."""
    import torch

    from helpers.serve.engine import Engine
    from helpers.serve.request import SamplingParams

    (start,) = _prompts(model, [prompt])
    engine = Engine(model, max_batch=1, prefix_caching=False)
    params = SamplingParams(max_tokens=tokens)

    def with_cache() -> int:
        return len(engine.generate([start], params)[0].tokens)

    def without() -> int:
        text = torch.tensor([start], device=model.device)  # with its batch: torch fuses only then
        plain = engine.model  # with its weights packed, so that the cache is the only difference
        with torch.inference_mode():
            for _ in range(tokens):
                last = plain.hidden(text)[:, -1:]  # [1, T, C] -> [1, 1, C]
                text = torch.cat((text, plain.logits(last).argmax(-1)), dim=1)
        return text.shape[1] - prompt

    return contest(
        f"{tokens} tokens, cache",
        ("with", with_cache),
        ("without", without),
        wanted=5.0,
        samples=samples,
    )


def skewed_lengths(
    count: int, *, median: int = 32, sigma: float = 1.0, most: int = 384, seed: int = 0
) -> list[int]:
    """Answer lengths as a service sees them: many short, a few long (log-normal, cut at ``most``).

    Examples
    --------
    >>> lengths = skewed_lengths(1000)
    >>> sorted(lengths)[500], max(lengths)
    (33, 384)
    """
    draw = random.Random(seed)
    lengths = (draw.lognormvariate(math.log(median), sigma) for _ in range(count))
    return [max(1, min(most, round(length))) for length in lengths]


def continuous_against_static(
    model: Any,
    *,
    other: str = "static",
    wanted: float = 1.8,
    requests: int = 64,
    max_batch: int = 16,
    samples: int = 5,
    seed: int = 0,
) -> Contest:
    """The same requests, all there at the start, under both policies.

    Parameters
    ----------
    model : helpers.lm.model.Transformer
    other : str
        ``"static"``, or ``"shrinking"`` to see what is left of the gain if rows that are done are
        dropped: then only the empty places count.
    wanted : float
    requests, max_batch, samples, seed : int
    """
    from helpers.serve.engine import Engine
    from helpers.serve.request import SamplingParams

    draw = random.Random(seed)
    prompts = _prompts(model, [draw.randint(8, 48) for _ in range(requests)], seed)
    most = min(384, model.config.context - 48)
    params = [
        SamplingParams(max_tokens=length)
        for length in skewed_lengths(requests, most=most, seed=seed)
    ]
    calls = []
    for policy in ("continuous", other):
        engine = Engine(model, policy=policy, max_batch=max_batch, prefix_caching=False)

        def call(engine=engine) -> int:
            return sum(len(output.tokens) for output in engine.generate(prompts, params))

        calls.append((policy, call))
    return contest(
        f"{requests} requests of skewed lengths at batch {max_batch}",
        *calls,
        wanted=wanted,
        samples=samples,
    )


# ---- all of it ---------------------------------------------------------------------------------


class CacheMemory(BaseModel):
    """A paged cache as it lies in memory, beside the formula.

    Attributes
    ----------
    format : str
        How keys and values are stored.
    blocks, block_size : int
    predicted_bytes, allocated_bytes : int
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str
    blocks: int = Field(ge=1)
    block_size: int = Field(ge=1)
    predicted_bytes: int = Field(ge=1)
    allocated_bytes: int = Field(ge=1)

    def __str__(self) -> str:
        return (
            f"cache of {self.blocks} blocks of {self.block_size} in {self.format}:"
            f" {self.predicted_bytes:,} bytes predicted, {self.allocated_bytes:,} allocated"
        )


def cache_memory(model: Any, formats: Sequence[str] = CACHE_FORMATS) -> tuple[CacheMemory, ...]:
    """Build an engine for each format of the cache and weigh what it holds."""
    from helpers.serve.engine import Engine

    found = []
    for name in formats:
        cache = Engine(model, kv_dtype=name, packed=False).cache
        found.append(
            CacheMemory(
                format=name,
                blocks=cache.blocks,
                block_size=cache.block_size,
                predicted_bytes=cache.predicted_bytes,
                allocated_bytes=cache.bytes,
            )
        )
    return tuple(found)


class ServingRun(BaseModel):
    """All contests of one run, with the model's sizes and the machine: what a recorded run holds.

    Attributes
    ----------
    environment : Environment
        Hardware and versions.
    created : date
    command : str
    seconds_spent : float
    threads : int
    model : dict
        The model's sizes.
    contests : tuple of Contest
    caches : tuple of CacheMemory
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    kind: Literal["serving"] = "serving"
    environment: Environment
    created: date
    command: str = COMMAND
    seconds_spent: float = Field(ge=0)
    threads: int = Field(ge=1)
    model: dict[str, Any]
    contests: tuple[Contest, ...]
    caches: tuple[CacheMemory, ...]

    def __str__(self) -> str:
        return "\n".join(str(one) for one in (*self.contests, *self.caches))


def measure(
    model: Any,
    *,
    samples: int = 5,
    progress: Callable[[str], Any] | None = None,
    command: str = COMMAND,
) -> ServingRun:
    """Hold all five contests with a model, and weigh its cache.

    It takes a few minutes for ten million parameters on a CPU.

    Parameters
    ----------
    model : helpers.lm.model.Transformer
        In float32.
    samples : int
        Pairs of samples for each contest; fewer for the slow one without a cache.
    progress : callable, optional
        Receives each result as a line.
    command : str
        What to state as the command.
    """
    import torch

    start = time.perf_counter()
    contests = []
    for hold in (
        lambda: decode_against_transformers(model, 1, samples=samples),
        lambda: decode_against_transformers(model, 16, samples=samples),
        lambda: continuous_against_static(model, samples=samples),
        lambda: continuous_against_static(model, other="shrinking", wanted=1.0, samples=samples),
        lambda: cache_against_none(model, samples=max(3, samples // 2)),
    ):
        contests.append(hold())
        if progress is not None:
            progress(str(contests[-1]))
    caches = cache_memory(model)
    if progress is not None:
        for one in caches:
            progress(str(one))
    return ServingRun(
        environment=current_environment(),
        created=date.today(),
        command=command,
        seconds_spent=round(time.perf_counter() - start, 1),
        threads=torch.get_num_threads(),
        model=model.config.to_dict(),
        contests=tuple(contests),
        caches=caches,
    )


def main(arguments: list[str] | None = None) -> int:
    """Measure the book's target model, print each result, and write the run if asked to."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=main.__doc__)
    parser.add_argument("--samples", type=int, default=5, help="pairs of samples for each contest")
    parser.add_argument("--write", type=Path, help="file for the run, as JSON")
    options = parser.parse_args(arguments)
    from helpers.lm import loading

    run = measure(loading.load("target"), samples=options.samples, progress=print)
    if options.write is not None:
        write_json(options.write, run)
    return 0


if __name__ == "__main__":
    sys.exit(main())
