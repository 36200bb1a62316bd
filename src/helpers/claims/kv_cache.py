"""Checks of chapter 6: sizes of the KV cache, who shares it, how it is paged and compressed.

Numbers written out in these functions are the claims' own givens. What can be looked up comes
from the catalog, what can be derived from the formulas.
"""

from __future__ import annotations

from statistics import mean

from helpers import catalog
from helpers.catalog.quantities import Quantity
from helpers.formulas import kv_cache, quantization, roofline
from helpers.formulas.ops import ceil, floor

BF16_BYTES = 2
GIB = 2**30
#: tokens in a block, as vLLM and its paper set it
BLOCK = 16
#: mean tokens of a ShareGPT request, prompt and answer (Kwon et al., 2023, figure 11)
SHAREGPT_TOKENS = (161.31, 337.99)
#: share of cache memory that held tokens in systems before paging (the same paper, section 1)
USED_BEFORE_PAGING = (0.204, 0.382)


# --- how large it is ----------------------------------------------------------------------------


def llama_70b_at_128k() -> Quantity:
    """One sequence of 131,072 tokens: the model's cache per token times its full context."""
    model = catalog.model("llama-3.1-70b")
    return Quantity(kv_cache.kv_cache_bytes(model.kv_per_token, model.context, 1), "B")


def gpus_for_one_long_session() -> Quantity:
    """GPUs of 80 GB that hold the 16-bit weights of a 70B model and one cache of 128K tokens."""
    weights = catalog.model("llama-3.1-70b").parameters * BF16_BYTES
    gpu = catalog.chip("a100-80gb").capacity
    return Quantity(ceil((weights + llama_70b_at_128k()) / gpu), "")


def request_of_8k() -> Quantity:
    """One request of 8,192 tokens to Llama 3.1 70B: 2.5 GiB exactly, printed in decimal units."""
    per_token = catalog.model("llama-3.1-70b").kv_per_token
    return Quantity(kv_cache.kv_cache_bytes(per_token, 8192, 1), "B")


def llama_7b_at_2048() -> Quantity:
    """Llama 2 7B at 2,048 tokens: 1 GiB exactly, printed in decimal units."""
    per_token = catalog.model("llama-2-7b").kv_per_token
    return Quantity(kv_cache.kv_cache_bytes(per_token, 2048, 1), "B")


def opt_13b_request() -> Quantity:
    """2,048 tokens at 40 layers of 40 heads of 128, the shape of OPT-13B and of Llama 2 13B."""
    shape = catalog.model("llama-2-13b")
    per_token = kv_cache.kv_bytes_per_token(shape.layers, shape.heads, shape.head_dim, BF16_BYTES)
    return Quantity(kv_cache.kv_cache_bytes(per_token, 2048, 1), "B")


def weights_of_llama_70b() -> Quantity:
    """All parameters of the 70B shape, two bytes each."""
    return Quantity(catalog.model("llama-3.1-70b").parameters * BF16_BYTES, "B")


# --- heads --------------------------------------------------------------------------------------


def llama_70b_full_context() -> Quantity:
    """Llama 2 70B at its 4,096 tokens, counted with its 8 key-value heads, not with d_model."""
    model = catalog.model("llama-2-70b")
    per_token = kv_cache.kv_bytes_per_token(
        model.layers, model.kv_heads, model.head_dim, BF16_BYTES
    )
    return Quantity(kv_cache.kv_cache_bytes(per_token, model.context, 1), "B")


def llama_70b_without_grouping() -> Quantity:
    """Cache per token of Llama 3.1 70B if each of its 64 query heads had its own keys."""
    model = catalog.model("llama-3.1-70b")
    per_token = kv_cache.kv_bytes_per_token(model.layers, model.heads, model.head_dim, BF16_BYTES)
    return Quantity(per_token, "B/token")


def llama_70b_group() -> Quantity:
    """Query heads of Llama 2 70B that share one key-value head."""
    model = catalog.model("llama-2-70b")
    return Quantity(model.heads / model.kv_heads, "")


def mla_in_groups() -> Quantity:
    """What latent attention caches over what one key-value head would, in DeepSeek's dimensions.

    DeepSeek-V2 and V3 cache the same 512 + 64 values per layer beside heads of 128.
    """
    model = catalog.model("deepseek-v3")
    latent = kv_cache.mla_kv_bytes_per_token(
        1, model.mla.kv_lora_rank, model.mla.qk_rope_head_dim, BF16_BYTES
    )
    return Quantity(latent / kv_cache.kv_bytes_per_token(1, 1, model.head_dim, BF16_BYTES), "")


def mla_saving_at_equal_bits(bytes_per_element: float = BF16_BYTES) -> Quantity:
    """DeepSeek-V2's cache per token against that of DeepSeek 67B, both with 2-byte values."""
    latent = kv_cache.mla_kv_bytes_per_token(60, 512, 64, bytes_per_element)
    grouped = kv_cache.kv_bytes_per_token(95, 8, 128, BF16_BYTES)
    return Quantity(100 * (1 - latent / grouped), "%")


# --- windows ------------------------------------------------------------------------------------


def mistral_window_saving() -> Quantity:
    """Tokens of a 32K sequence over the tokens that Mistral 7B v0.1's window leaves cached."""
    model = catalog.model("mistral-7b-v0.1")
    return Quantity(model.context / kv_cache.cached_tokens(model.context, model.window), "")


def streaming_llm_sees() -> Quantity:
    """Tokens in the cache, so in sight, after four million: never more than its set size."""
    set_size = 2048
    return Quantity(kv_cache.cached_tokens(4_000_000, set_size), "token")


# --- the pool of a server -----------------------------------------------------------------------


def tokens_of_the_mistral_pool() -> Quantity:
    """Whole blocks of 16 tokens in 57.41 GiB, at the cache per token of Mistral 7B v0.3."""
    per_token = catalog.model("mistral-7b-v0.3").kv_per_token
    block = kv_cache.paged_kv_cache_bytes(per_token, 1, BLOCK)
    return Quantity(floor(57.41 * GIB / block) * BLOCK, "token")


def pools_differ_by() -> Quantity:
    """Two logged pools, 470,288 and 452,192 tokens, turned to bytes and subtracted."""
    mistral, llama = (
        kv_cache.kv_cache_bytes(catalog.model(name).kv_per_token, tokens, 1)
        for name, tokens in (("mistral-7b-v0.3", 470_288), ("llama-3.1-8b", 452_192))
    )
    return Quantity(mistral - llama, "B")


def pool_of_both_gpus() -> Quantity:
    """25,728 tokens of a 70B model, all layers and heads, over both GPUs that share them."""
    per_token = catalog.model("llama-3.1-70b").kv_per_token
    return Quantity(kv_cache.kv_cache_bytes(per_token, 25_728, 1), "B")


def waste_of_short_sequences() -> Quantity:
    """Empty share of the blocks of short sequences: 16 lengths around Alpaca's mean of 78."""
    lengths = range(70, 70 + BLOCK)
    held = mean(kv_cache.kv_blocks(tokens, BLOCK) * BLOCK for tokens in lengths)
    return Quantity(100 * (1 - mean(lengths) / held), "%")


def waste_of_a_full_reservation() -> Quantity:
    """What a mean ShareGPT request, prompt and whole answer, leaves of 2,048 reserved tokens."""
    return Quantity(100 * (1 - sum(SHAREGPT_TOKENS) / 2048), "%")


# --- fewer bits ---------------------------------------------------------------------------------


def nvfp4_saves_over_fp8() -> Quantity:
    """Bits of NVFP4 with its FP8 scale for each 16 values, against the 8 bits of FP8."""
    return Quantity(100 * (1 - quantization.bits_per_weight(4, 16, 8) / 8), "%")


def kivi_at_its_own_lengths() -> Quantity:
    """16 bits over KIVI's mean bits at 499 tokens: groups of 32 with two FP16 constants, a tail.

    The last 128 values and, on average, the last 64 keys stay in 16 bits.
    """
    tokens, full = 499, 16
    grouped = quantization.bits_per_weight(2, 32, full + full)

    def bits(tail: int) -> float:
        return (grouped * (tokens - tail) + full * tail) / tokens

    return Quantity(full / mean([bits(64), bits(128)]), "")


# --- what it is for, and where it is ------------------------------------------------------------


def attention_when_the_answer_doubles() -> Quantity:
    """Attention arithmetic of 8,192 cached decode steps over that of 4,096, Llama 3.1 8B."""
    model = catalog.model("llama-3.1-8b")

    def work(tokens: int) -> float:
        pairs = roofline.causal_pairs(tokens, 0)
        return model.layers * roofline.attention_flops(1, model.heads, pairs, model.head_dim)

    return Quantity(work(8192) / work(4096), "")


def rollouts_of_one_question() -> Quantity:
    """Cache of 64 answers of 1,024 tokens, one question's share of an RL step, Llama 3.1 8B."""
    per_token = catalog.model("llama-3.1-8b").kv_per_token
    return Quantity(kv_cache.kv_cache_bytes(per_token, 1024, 64), "B")


def tokens_in_inferentia2_sram() -> Quantity:
    """Tokens of a Llama 2 7B cache that fill the SBUF of one of Inferentia2's two cores."""
    sbuf = dict(catalog.chip("inferentia2").figures())["on_chip.SBUF"].value / 2
    return Quantity(sbuf / catalog.model("llama-2-7b").kv_per_token, "token")


def h100_nvl_memory() -> Quantity:
    """Memory of one H100 NVL card."""
    return Quantity(float(catalog.chip("h100-nvl").capacity), "B")
