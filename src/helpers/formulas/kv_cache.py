"""How much memory a conversation occupies. (Chapter 6.)"""

from __future__ import annotations

from .ops import ceil, floor, minimum
from .registry import formula
from .symbols import amount, count, rate


@formula(
    meaning="bytes of KV cache per token with separate keys and values",
    symbol=r"q_\text{kv}",
    unit="B",
    worked={
        "layers": 80,
        "kv_heads": 8,
        "head_dim": 128,
        "bytes_per_element": 2,
        "result": 327_680,
    },
    valid="multi-head, grouped-query and multi-query attention; every layer caches",
    source="ainslie-2023",
    where="Sec. 2.2",
    chapter="kv-cache",
)
def kv_bytes_per_token(layers, kv_heads, head_dim, bytes_per_element):
    return 2 * layers * kv_heads * head_dim * bytes_per_element


@formula(
    meaning="bytes of KV cache per token with multi-head latent attention",
    symbol=r"q_\text{kv}",
    unit="B",
    worked={
        "layers": 61,
        "kv_rank": 512,
        "rope_dim": 64,
        "bytes_per_element": 2,
        "result": 70_272,
    },
    valid="the compressed vector serves keys and values; one rotary key serves all heads",
    source="deepseek-2024",
    where="Sec. 2.1.1",
    chapter="kv-cache",
)
def mla_kv_bytes_per_token(layers, kv_rank, rope_dim, bytes_per_element):
    return layers * (kv_rank + rope_dim) * bytes_per_element


@formula(
    meaning="memory of the KV cache of a batch",
    symbol=r"Q_\text{kv}",
    unit="B",
    worked={"bytes_per_token": 327_680, "tokens": 8192, "batch": 32, "result": 85_899_345_920},
    symbols={
        "bytes_per_token": rate(r"q_\text{kv}", "B", "bytes of KV cache per token"),
        "tokens": amount("T", "token", "tokens of each sequence, prompt and answer"),
    },
    valid="no paging waste, no shared prefixes",
    source="kwon-2023",
    where="the definition",
    chapter="kv-cache",
)
def kv_cache_bytes(bytes_per_token, tokens, batch):
    return bytes_per_token * tokens * batch


@formula(
    meaning="blocks that the KV cache of one sequence takes",
    symbol=r"n_\text{blocks}",
    unit="1",
    worked={"tokens": 1000, "block_size": 16, "result": 63},
    symbols={
        "tokens": amount("T", "token", "tokens of the sequence in the cache"),
        "block_size": count("b", "tokens in a block", "token"),
    },
    valid="a paged cache, nothing shared with other sequences; the last block may be part empty",
    source="kwon-2023",
    where="Sec. 4.1",
    chapter="kv-cache",
)
def kv_blocks(tokens, block_size):
    return ceil(tokens / block_size)


@formula(
    meaning="memory of a paged KV cache",
    symbol=r"Q_\text{kv}",
    unit="B",
    worked={"bytes_per_token": 131_072, "blocks": 1000, "block_size": 16, "result": 2_097_152_000},
    symbols={
        "bytes_per_token": rate(r"q_\text{kv}", "B", "bytes of KV cache per token"),
        "blocks": amount(r"n_\text{blocks}", "1", "blocks of the cache, used and free"),
        "block_size": count("b", "tokens in a block", "token"),
    },
    valid="blocks are reserved when the server starts; block tables not counted",
    source="kwon-2023",
    where="the definition",
    chapter="kv-cache",
)
def paged_kv_cache_bytes(bytes_per_token, blocks, block_size):
    return bytes_per_token * blocks * block_size


@formula(
    meaning="tokens that stay in the cache of a sliding window",
    symbol=r"T_\text{kv}",
    unit="token",
    worked={"tokens": 32_768, "window": 4096, "result": 4096},
    symbols={"tokens": amount("T", "token", "tokens of the sequence")},
    valid="a rolling buffer that drops what no later token can see",
    source="jiang-2023",
    where="the definition (rolling buffer)",
    chapter="kv-cache",
)
def cached_tokens(tokens, window):
    return minimum(tokens, window)


@formula(
    meaning="sequences whose KV cache fits in the memory left beside the weights",
    symbol=r"B_\text{max}",
    unit="1",
    worked={
        "free_bytes": 40 * 2**30,
        "bytes_per_token": 131_072,
        "tokens": 8192,
        "result": 40,
    },
    symbols={
        "free_bytes": amount(r"Q_\text{free}", "B", "memory left for the cache"),
        "bytes_per_token": rate(r"q_\text{kv}", "B", "bytes of KV cache per token"),
    },
    valid="each sequence reserves its full length; activations and buffers already taken off",
    chapter="kv-cache",
)
def sequences_that_fit(free_bytes, bytes_per_token, tokens):
    return floor(free_bytes / (bytes_per_token * tokens))
