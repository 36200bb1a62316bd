"""One copy of the model in the design lab of chapter 6: what a chip holds, what a step takes.

All bytes are those of one chip, all seconds those of the chips of the replica working together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, cached_property

from helpers import catalog
from helpers.book.design_labs.common import chip_for_hire
from helpers.book.design_labs.kv_cache_plan import (
    DRIVE_LANES,
    LANES,
    OFFERS,
    SERVER_CHIPS,
    WEIGHTS,
    Brief,
    Plan,
)
from helpers.formulas.kv_estimate import CacheEstimate
from helpers.formulas.network import all_reduce_bytes
from helpers.formulas.roofline import attention_flops, causal_pairs
from helpers.formulas.training import forward_flops


@cache
def _rank_bytes(model: str, plan_cache: str, block: int, ranks: int, tokens: int) -> int:
    estimate = CacheEstimate(catalog.model(model), plan_cache, block, ranks)
    return estimate.rank_sequence_bytes(tokens)


@cache
def _peak(chip: str, dtype: str) -> float:
    return float(catalog.chip(chip).peak(dtype))


@dataclass(frozen=True)
class _Rates:
    """A chip's specification, as plain numbers."""

    capacity: float
    bandwidth: float
    watts: float
    link: float  # to the other chips of a server, one way


@cache
def _rates(name: str) -> _Rates:
    chip, watts = chip_for_hire(name)
    if chip.id not in OFFERS:
        raise ValueError(f"chip: {chip.id!r} is not on offer; on offer are {', '.join(OFFERS)}")
    return _Rates(float(chip.capacity), float(chip.bandwidth), watts, float(chip.links[0].one_way))


class Replica:
    """One copy of the model, on the ranks of a plan.

    Parameters
    ----------
    plan : Plan
    brief : Brief

    Raises
    ------
    ValueError
        If the chip is not on offer.
    LookupError
        If the catalog does not have it, or it does not have the format; the message says which
        there are.

    Examples
    --------
    >>> replica = Replica(Plan("h100-sxm", 20, paused="dropped"), Brief())
    >>> replica.active, replica.paused
    (10, 90)
    >>> print(f"{replica.session_bytes / 1e9:.2f} GB of each session on each chip")
    5.37 GB of each session on each chip
    """

    def __init__(self, plan: Plan, brief: Brief):
        self.plan, self.brief = plan, brief
        self.model = catalog.model(brief.model)
        self.chip_id = catalog.chip(plan.chip).id
        self.rates = _rates(self.chip_id)
        self.weight_bits, self.arithmetic = WEIGHTS[plan.weights]
        self.math_rate = self._rate(self.arithmetic)
        self.attention_rate = self._rate("bf16")
        if plan.cache == "fp8":
            _peak(self.chip_id, "fp8")  # a chip without the format cannot read such a cache

        #: of the fleet's sessions and documents, the share of the fullest replica
        self.active = math.ceil(brief.active / plan.replicas)
        self.paused = math.ceil((brief.sessions - brief.active) / plan.replicas)
        self.documents = math.ceil(brief.documents / plan.replicas)

    def _rate(self, dtype: str) -> float:
        return self.plan.ranks * _peak(self.chip_id, dtype) * self.brief.mfu

    # --- bytes on a chip ------------------------------------------------------------------------

    def _cached(self, tokens: int) -> int:
        plan = self.plan
        return _rank_bytes(self.model.id, plan.cache, plan.block_tokens, plan.ranks, tokens)

    @property
    def shared_tokens(self) -> int:
        """Tokens of a document that its sessions hold in common: those in full blocks."""
        block = self.plan.block_tokens
        return self.brief.document_tokens // block * block if self.plan.share_documents else 0

    @property
    def weight_bytes(self) -> float:
        """Weights on a chip."""
        return self.model.parameters * self.weight_bits / 8 / self.plan.ranks

    @property
    def session_bytes(self) -> int:
        """Cache of a session on a chip, with what it shares."""
        return self._cached(self.brief.context_tokens)

    @property
    def own_bytes(self) -> int:
        """Cache of a session on a chip, without what it shares."""
        return self.session_bytes - self._cached(self.shared_tokens)

    @property
    def needed_bytes(self) -> float:
        """What a chip's memory must hold."""
        sessions = self.active + (self.paused if self.plan.paused == "hbm" else 0)
        documents = self.documents * self._cached(self.shared_tokens)
        return self.weight_bytes + documents + sessions * self.own_bytes

    @property
    def usable_bytes(self) -> float:
        """What a chip's memory can hold."""
        return self.rates.capacity * self.brief.usable_memory

    @property
    def parked_bytes(self) -> int:
        """What waits outside, for each chip."""
        return self.paused * self.own_bytes if self.plan.paused in ("host", "disk") else 0

    @property
    def parking_bytes(self) -> float:
        """How much may wait there."""
        return self.brief.host_bytes if self.plan.paused == "host" else self.brief.disk_bytes

    # --- time -----------------------------------------------------------------------------------

    def math_seconds(self, tokens: float, past: int) -> float:
        """Arithmetic of some tokens of one session behind those that are cached."""
        model = self.model
        pairs = causal_pairs(tokens, past)
        attention = attention_flops(model.layers, model.heads, pairs, model.head_dim)
        weights = forward_flops(model.parameters, tokens)
        return weights / self.math_rate + attention / self.attention_rate

    def link_seconds(self, tokens: float) -> float:
        """Two sums over all ranks in each layer, of a 16-bit vector for each token."""
        ranks = self.plan.ranks
        link = self.rates.link
        if ranks > SERVER_CHIPS:
            link = min(link, self.brief.network_bytes_per_s)
        vector = 2 * self.model.d_model
        each = all_reduce_bytes(ranks, vector * tokens)
        return 2 * self.model.layers * each / (link * self.brief.mbu)

    @property
    def new_tokens(self) -> int:
        """Tokens that must be computed when a session comes back."""
        if self.plan.paused == "dropped":
            return self.brief.context_tokens - self.shared_tokens
        return self.brief.prompt_tokens

    @cached_property
    def step_clocks(self) -> tuple[float, float, float]:
        """Traffic, arithmetic and links of a step: one token for each active session.

        Each token written brings its part of the return before it.
        """
        brief = self.brief
        moved = self.weight_bytes + self.active * self.session_bytes
        written = self.math_seconds(1, brief.context_tokens - 1)
        returned = self.math_seconds(self.new_tokens, brief.context_tokens - self.new_tokens)
        each = 1 + self.new_tokens / brief.answer_tokens  # tokens through the layers
        return (
            moved / (self.rates.bandwidth * brief.mbu),
            self.active * (written + returned / brief.answer_tokens),
            self.link_seconds(self.active * each),
        )

    def fetch_seconds(self) -> float:
        """Until a paused cache is back: each chip fetches its part, after those before it."""
        brief, plan = self.brief, self.plan
        if plan.paused not in ("host", "disk"):
            return 0.0
        way = OFFERS[self.chip_id] * (1 if plan.paused == "host" else DRIVE_LANES / LANES)
        own_blocks = math.ceil((brief.context_tokens - self.shared_tokens) / plan.block_tokens)
        copies = own_blocks * self.model.layers
        alone = self.own_bytes / (way * brief.mbu) + copies * brief.copy_start_s
        returns_per_s = self.active * brief.target_tokens_per_s / brief.answer_tokens
        busy = returns_per_s * alone  # share of the time
        return alone / (1 - busy) if busy < 1 else math.inf  # random arrivals: the mean

    def return_seconds(self) -> float:
        """From coming back to the first token: fetch, compute what is new, one step."""
        new = self.new_tokens
        computed = self.math_seconds(new, self.brief.context_tokens - new) + self.link_seconds(new)
        return self.fetch_seconds() + computed + sum(self.step_clocks)
