"""The tables of chapter 6, computed from the catalog and the formulas."""

from __future__ import annotations

from helpers import catalog
from helpers.book.tables import Cell, Column, Table
from helpers.formulas import kv_cache as kv
from helpers.formulas import roofline as rf

BF16_BYTES = 2
GIB = 2**30
#: share of a chip's memory that a server uses; the rest is for activations and itself
USABLE = 0.9


def _number(value: float, text: str) -> Cell:
    return Cell(text, float(value))


def room_for_users(model: catalog.Model, chip: catalog.Chip, tokens: int, chips: int = 1) -> int:
    """Users of ``tokens`` each whose caches fit beside the 16-bit weights.

    Examples
    --------
    >>> room_for_users(catalog.model("llama-3.1-8b"), catalog.chip("h100-sxm"), 4096)
    104
    """
    free = USABLE * chips * float(chip.capacity) - BF16_BYTES * model.parameters
    return int(kv.sequences_that_fit(max(free, 0), model.kv_per_token, tokens))


def users_by_context(
    model_id: str = "llama-3.1-8b",
    chip_id: str = "h100-sxm",
    contexts: tuple[int, ...] = (1024, 2048, 4096, 8192, 16_384, 32_768, 65_536, 131_072),
) -> Table:
    """How many users fit at each context, and how fast the full chip then serves them."""
    model, chip = catalog.model(model_id), catalog.chip(chip_id)
    weights = BF16_BYTES * model.parameters
    rows = []
    for tokens in contexts:
        users = room_for_users(model, chip, tokens)
        cache = kv.kv_cache_bytes(model.kv_per_token, tokens, 1)
        rate = rf.batched_decode_tokens_per_s(users, weights, cache, chip.bandwidth)
        rows.append(
            [
                _number(tokens, f"{tokens:,}"),
                _number(cache, f"{cache / GIB:,.3g}"),
                _number(users, f"{users:,}"),
                _number(1e3 * users / rate, f"{1e3 * users / rate:,.1f}"),
                _number(rate, f"{rate:,.0f}"),
                _number(rate / users, f"{rate / users:,.0f}"),
            ]
        )
    return Table(
        f"{model.name} in 16 bits on one {chip.short}, as full as it gets",
        [
            Column("Context", "tokens"),
            Column("Cache each", "GiB"),
            Column("Users", "that fit"),
            Column("A step", "ms"),
            Column("In all", "tokens/s"),
            Column("Each", "tokens/s"),
        ],
        rows,
        note=f"{USABLE:.0%} of the memory is used; a step takes as long as reading its bytes.",
    )
