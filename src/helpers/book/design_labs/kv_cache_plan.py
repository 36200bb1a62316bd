"""What the design lab of chapter 6 asks for, and what a plan for it consists of."""

from __future__ import annotations

from dataclasses import dataclass

from helpers import catalog
from helpers.book.design_labs.common import (
    COUNT,
    FLAG,
    MODEL,
    NOT_NEGATIVE,
    POSITIVE,
    check_fields,
    halvings,
    one_of,
    price,
    share,
)
from helpers.book.figures.kv_cache import PCIE_5
from helpers.formulas.quantization import bits_per_weight

#: bytes per second in one direction; drives sit on 4 of the 16 lanes, which they cannot exceed
PCIE_4 = float(catalog.chip("l4").link("pcie-4-x16").one_way)
LANES, DRIVE_LANES = 16, 4
#: chips on offer, with the way from each to its host; eight of a kind make a server
OFFERS = {
    "a100-sxm-80gb": PCIE_4,
    "h100-sxm": PCIE_5,
    "h200-sxm": PCIE_5,
    "b200-sxm": PCIE_5,
    "mi300x": PCIE_5,
    "mi325x": PCIE_5,
    "l40s": PCIE_4,
    "l4": PCIE_4,
}
SERVER_CHIPS = 8
RANKS = (1, 2, 4, 8, 16)

#: bits of a weight, and what the products with it are computed in
WEIGHTS = {
    "bf16": (16, "bf16"),
    "fp8": (8, "fp8"),
    "int8": (8, "int8"),
    "int4": (bits_per_weight(4, 64, 16), "bf16"),  # widened on the way into the arithmetic
}
#: bits of a cached value, its scale not counted; the estimator counts it
CACHES = {"bf16": 16, "fp8": 8, "int8": 8, "int4": 4}
#: where the cache of a session waits while nobody asks
PLACES = ("hbm", "host", "disk", "dropped")
BLOCKS = (16, 64, 256, 1024)


@dataclass(frozen=True)
class Brief:
    """What is asked for, and what one can count on.

    Examples
    --------
    >>> Brief(active=3_000)
    Traceback (most recent call last):
        ...
    ValueError: active: 3,000; allowed are at most 2,000, all sessions
    """

    model: str = "llama-3.1-70b"
    sessions: int = 2_000
    #: how many of them are being answered at any moment
    active: int = 200
    context_tokens: int = 131_072
    #: every session is about one of these, which stands at its beginning
    documents: int = 100
    document_tokens: int = 100_000
    #: what a user sends on coming back, and what is written before the next pause
    prompt_tokens: int = 500
    answer_tokens: int = 500
    target_tokens_per_s: float = 20.0
    #: from coming back to the first token of the answer
    target_return_s: float = 1.0
    budget_watts: float = 30_000.0
    #: each chip's share of its server's main memory and of its disks
    host_bytes: float = 256e9
    disk_bytes: float = 3.84e12
    #: from chip to chip beyond a server
    network_bytes_per_s: float = 400e9 / 8
    #: to start one copy; a block is one copy in each layer
    copy_start_s: float = 3e-6
    #: the rest of the memory goes to activations and the runtime
    usable_memory: float = 0.90
    #: shares of a specified bandwidth, of memory or link, and of a peak that good software reaches
    mbu: float = 0.70
    mfu: float = 0.50
    #: what a halving of a precision costs, since its quality has to be proved first
    precision_price: float = 0.10

    def __post_init__(self) -> None:
        check_fields(
            self,
            model=MODEL,
            sessions=COUNT,
            active=COUNT,
            context_tokens=COUNT,
            documents=COUNT,
            document_tokens=COUNT,
            prompt_tokens=COUNT,
            answer_tokens=COUNT,
            target_tokens_per_s=POSITIVE,
            target_return_s=POSITIVE,
            budget_watts=POSITIVE,
            host_bytes=NOT_NEGATIVE,
            disk_bytes=NOT_NEGATIVE,
            network_bytes_per_s=POSITIVE,
            copy_start_s=NOT_NEGATIVE,
            usable_memory=share(0.9),
            mbu=share(0.7),
            mfu=share(0.5),
            precision_price=price(0.1),
        )
        if self.active > self.sessions:
            raise ValueError(
                f"active: {self.active:,}; allowed are at most {self.sessions:,}, all sessions"
            )
        if (ends := catalog.model(self.model).context) < self.context_tokens:
            raise ValueError(
                f"context_tokens: {self.context_tokens:,}; allowed are at most {ends:,}, where"
                f" {self.model} ends"
            )
        if (most := self.context_tokens - self.prompt_tokens) < self.document_tokens:
            raise ValueError(
                f"document_tokens: {self.document_tokens:,}; allowed are at most {most:,}, the"
                " context less the prompt"
            )


BRIEF = Brief()


@dataclass(frozen=True)
class Plan:
    """What you propose.

    Parameters
    ----------
    chip : str
        One of ``OFFERS``.
    replicas : int
        How often the model stands in the fleet; each has an equal share of the sessions.
    ranks : {1, 2, 4, 8, 16}
        Chips of a replica. They share weights and heads; beyond 8 ranks, key-value heads are
        copied, and the ranks talk over the network.
    weights : {"bf16", "fp8", "int8", "int4"}
        ``"int4"`` has a 16-bit scale for each 64 weights and computes in BF16.
    cache : {"bf16", "fp8", "int8", "int4"}
        The last two with a 16-bit scale for each key and each value of a head.
    paused : {"hbm", "host", "disk", "dropped"}
        Where the cache of a paused session waits. A dropped one is computed again.
    share_documents : bool
        Whether sessions about one document hold its full blocks in common. They then stay in the
        chips' memory.
    block_tokens : {16, 64, 256, 1024}

    Examples
    --------
    >>> plan = Plan("h100-sxm", replicas=3)
    >>> plan.chips, plan.halvings
    (24, 0)
    """

    chip: str
    replicas: int
    ranks: int = 8
    weights: str = "bf16"
    cache: str = "bf16"
    paused: str = "hbm"
    share_documents: bool = False
    block_tokens: int = 16

    def __post_init__(self) -> None:
        check_fields(
            self,
            replicas=COUNT,
            ranks=one_of(*RANKS),
            weights=one_of(*WEIGHTS),
            cache=one_of(*CACHES),
            paused=one_of(*PLACES),
            share_documents=FLAG,
            block_tokens=one_of(*BLOCKS),
        )

    @property
    def chips(self) -> int:
        """Chips of the fleet."""
        return self.ranks * self.replicas

    @property
    def halvings(self) -> int:
        """How many times a format was halved, weights and cache together."""
        wide = {"bf16": 16, "fp8": 8, "int8": 8, "int4": 4}
        return halvings(wide[self.weights], wide[self.cache])
