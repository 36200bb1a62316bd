"""Figures and tables of the lab *Paged attention*: waste, block sizes, who holds which block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.patches import Rectangle

from helpers.bench.serving import skewed_lengths
from helpers.book.picture import Picture, picture
from helpers.book.style import INK
from helpers.book.tables import Cell, Column, Table
from helpers.claims.kv_cache import USED_BEFORE_PAGING
from helpers.serve.blocks import BlockManager
from helpers.serve.waste import CacheUse, Lengths, cache_use

#: the ways to reserve, in words
WAYS = {
    "longest": "the longest allowed",
    "power_of_two": "answer to a power of two",
    "known": "lengths known before",
    "paged": "blocks, one by one",
}
#: the same for a phone
SHORT = ("longest", "power of 2", "known", "paged")
#: how the bars of the distributions differ: by fill, not by colour alone
FILLS = (
    {"color": INK["c1"]},
    {"color": INK["c5"]},
    {"fill": False, "edgecolor": INK["c2"], "lw": 1.5},
)
BLOCK_SIZES = tuple(2**power for power in range(9))

#: by distribution, by way
Uses = Mapping[str, Mapping[str, CacheUse]]


# ---- waste ---------------------------------------------------------------------------------------


def waste_table(uses: Uses) -> Table:
    """The share of the reserved memory that holds tokens, by way and distribution of lengths.

    Parameters
    ----------
    uses : mapping of str to mapping of str to CacheUse
        By the distribution's name, what :func:`helpers.serve.waste.cache_use` gives.

    Examples
    --------
    >>> waste_table({"one request": cache_use([(3, 4)], block_size=4, longest_tokens=16)})
    Table 'Share of the reserved memory that holds tokens': 4 rows, 2 columns
    """
    rows = [
        [name, *(Cell(f"{one[way].share:.1%}", one[way].share) for one in uses.values())]
        for way, name in WAYS.items()
    ]
    columns = [Column("Room for", text=True), *(Column(name) for name in uses)]
    return Table("Share of the reserved memory that holds tokens", columns, rows)


def waste_bars(uses: Uses) -> Picture:
    """The same as bars, before the range that was measured in servers without paging.

    Raises
    ------
    ValueError
        If there are more than three distributions, or none.
    """
    if not 1 <= len(uses) <= len(FILLS):
        raise ValueError(f"uses: has {len(uses)} distributions; allowed are 1 to {len(FILLS)}")
    low, high = (100 * share for share in USED_BEFORE_PAGING)
    least, most = (
        pick(one["paged"].share for one in uses.values()) for pick in (min, max)
    )  # fmt: skip

    @picture(
        f"Bars for four ways to reserve: the share of memory that holds tokens, for {len(uses)} "
        f"distributions of lengths. Paging reaches {least:.0%} to {most:.0%}, the other ways less.",
        "Grey band: what the authors of PagedAttention measured in an older design that they "
        "rebuilt. *Compare* the last group with the others: even its worst case is far above "
        "their best.",
        heights=(390, 430),
    )
    def waste_by_way(ax, m):
        ax.axvspan(low, high, color=INK["grid"], lw=0, zorder=0)
        height = 0.8 / len(uses)
        for place, ((name, one), fill) in enumerate(zip(uses.items(), FILLS, strict=False)):
            shares = [100 * one[way].share for way in WAYS]
            ys = [row + (place - (len(uses) - 1) / 2) * height for row in range(len(WAYS))]
            ax.barh(ys, shares, 0.86 * height, label=name, **fill)
            for y, share in zip(ys, shares, strict=True):
                m.text(ax, share, y, f"{share:.0f}", dx=5, va="center", color=INK["muted"])
        ax.set_yticks(range(len(WAYS)), WAYS.values() if m.wide else SHORT)
        ax.grid(axis="y", visible=False)
        ax.set(xlim=(0, 108), ylim=(len(WAYS) - 0.45, -0.55))
        ax.set_xlabel(f"% {'of the reserved memory ' if m.wide else ''}that holds tokens")
        ax.set_xticks([0, 25, 50, 75, 100])
        ax.figure.legend(loc="outside upper left", ncols=len(uses) if m.wide else 1)

    return waste_by_way


# ---- block sizes ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class BlockSize:
    """What a block size costs a request, on average over its life."""

    block_size: int
    empty_slots: float
    empty_share: float
    entries: float  # of its block table


def block_sizes(lengths: Sequence[Lengths], sizes: Sequence[int] = BLOCK_SIZES) -> list[BlockSize]:
    """Empty slots and table entries for each block size.

    Examples
    --------
    A request that holds 3, 4, 5, 6 tokens in blocks of 4 has 1, 0, 3, 2 slots empty:

    >>> block_sizes([(3, 4)], [4])
    [BlockSize(block_size=4, empty_slots=1.5, empty_share=0.25, entries=1.5)]
    """
    longest = max(map(sum, lengths))
    found = []
    for size in sizes:
        use = cache_use(lengths, block_size=size, longest_tokens=longest)["paged"]
        entries = use.reserved_slot_steps / size / use.request_steps
        found.append(BlockSize(size, use.wasted_slots_per_request, 1 - use.share, entries))
    return found


def block_size_table(lengths: Sequence[Lengths], common: int, slot_bytes: int) -> Table:
    """The sweep over block sizes in numbers.

    Parameters
    ----------
    lengths : sequence of (int, int)
        Tokens of prompt and answer of each request.
    common : int
        Tokens with which all of some prompts begin.
    slot_bytes : int
        Keys of one token in one layer.
    """
    rows = [
        [
            Cell(f"{one.block_size}", one.block_size),
            Cell(f"{(one.block_size - 1) / 2:.1f}", (one.block_size - 1) / 2),
            Cell(f"{one.empty_slots:.1f}", one.empty_slots),
            Cell(f"{one.empty_share:.1%}", one.empty_share),
            Cell(f"{one.entries:.1f}", one.entries),
            Cell(f"{common // one.block_size * one.block_size}"),
            Cell(f"{one.block_size * slot_bytes / 1024:g}", one.block_size * slot_bytes),
        ]
        for one in block_sizes(lengths)
    ]
    columns = [
        Column("Block size", "tokens"), Column("Empty slots", "predicted"),
        Column("Empty slots", "counted"), Column("Empty", "share"),
        Column("Table entries", "a request"), Column("Found", f"of {common} tokens"),
        Column("In one piece", "KiB of keys"),
    ]  # fmt: skip
    return Table("What a block size costs", columns, rows, sortable=False)


def block_size_sweep(lengths: Sequence[Lengths]) -> Picture:
    """Empty slots against table entries, for blocks of 1 to 256 tokens."""
    sweep = block_sizes(lengths)
    steps = sum(answer for _, answer in lengths)
    held = sum(a * p + a * (a - 1) / 2 for p, a in lengths) / steps

    @picture(
        "Log-log chart against the block size: empty slots of a request rise in proportion to it, "
        "table entries fall until one block holds a whole request.",
        "Dots: counted. Dashed: predicted, half a block empty and a table of the mean length over "
        "the block size. *Look at* the right end: a block longer than most requests breaks both "
        "rules. Blocks of 1 have no empty slot and are off this scale.",
        heights=(350, 330),
    )
    def block_size_sweep(ax, m):
        sizes = [one.block_size for one in sweep]
        curves = (
            ("empty slots", "c2", [one.empty_slots for one in sweep],
             [(size - 1) / 2 for size in sizes]),
            ("table entries", "c1", [one.entries for one in sweep],
             [held / size for size in sizes]),
        )  # fmt: skip
        for name, role, counted, predicted in curves:
            points = [
                (size, value) for size, value in zip(sizes, counted, strict=True) if value > 0
            ]
            guessed = [(s, v) for s, v in zip(sizes, predicted, strict=True) if v > 0]
            ax.plot(*zip(*guessed, strict=True), color=INK[role], lw=1.2, ls=(0, (4, 3)))
            for size, value in points:
                m.dot(ax, size, value, color=INK[role], size=8)
            first = points[0]
            m.text(ax, *first, name, dx=10, dy=-1 if role == "c1" else 12, color=INK[role])
        ax.set(xscale="log", yscale="log", xlabel="tokens in a block", ylabel="of one request")
        shown = sizes if m.wide else sizes[::2]
        ax.set_xticks(shown, [str(size) for size in shown])
        ax.set_yticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
        ax.minorticks_off()

    return block_size_sweep


# ---- who holds which block -----------------------------------------------------------------------


@dataclass(frozen=True)
class Pool:
    """Requests that begin alike, as the block manager holds them."""

    block_size: int
    tables: tuple[tuple[int, ...], ...]
    tokens: tuple[int, ...]  # of each request

    @property
    def held(self) -> int:
        """Blocks in use, each counted once."""
        return len({block for table in self.tables for block in table})

    @property
    def entries(self) -> int:
        """Blocks that would be in use if nothing were shared."""
        return sum(map(len, self.tables))

    @property
    def utilisation(self) -> float:
        """Tokens of all requests over the slots of the blocks in use; above 1 thanks to sharing."""
        return sum(self.tokens) / (self.held * self.block_size)


def pool(block_size: int, requests: int, shared: int) -> Pool:
    """Let the block manager serve requests with a common beginning and parts of their own.

    Parameters
    ----------
    block_size : int
    requests : int
    shared : int
        Tokens with which all of them begin.

    Examples
    --------
    >>> two = pool(block_size=16, requests=2, shared=32)
    >>> two.tables, two.tokens
    (((0, 1, 2, 3, 4, 5), (0, 1, 6, 7)), (81, 64))
    >>> two.held, two.entries, f"{two.utilisation:.2f}"
    (8, 10, '1.13')
    """
    own = skewed_lengths(requests, median=32, sigma=0.7, most=128, seed=1)
    total = sum(-(-(shared + tokens) // block_size) for tokens in own)
    manager = BlockManager(total, block_size)
    for number, tokens in enumerate(own):
        # tokens of its own: numbers that nobody else has
        manager.allocate(
            number, [*range(shared), *(shared + 1000 * number + i for i in range(tokens))]
        )
    return Pool(
        block_size,
        tuple(tuple(manager.table(number)) for number in range(requests)),
        tuple(shared + tokens for tokens in own),
    )


def pool_picture(block_size: int, requests: int, shared: int) -> Picture:
    """Each request's blocks in a row: shared, its own, and what is empty in the last one."""
    state = pool(block_size, requests, shared)

    @picture(
        f"A row of blocks for each of {requests} requests. {state.held} blocks are held, their "
        f"tables have {state.entries} entries together.",
        f"Full blue: a shared block, drawn where it was first computed; framed blue: the same "
        f"block in another table, *no memory of its own*. Paler: own blocks, white where a slot is "
        f"empty. {state.held} blocks for {state.entries} table entries; "
        f"{state.utilisation:.2f} tokens served for each slot held.",
        heights=(300, 270),
    )
    def blocks_of_requests(ax, m):
        holders = Counter(block for table in state.tables for block in table)
        drawn: set[int] = set()
        gap = 0.06 * block_size  # so that one sees where a block ends
        for row, (table, tokens) in enumerate(zip(state.tables, state.tokens, strict=True)):
            for place, block in enumerate(table):
                corner, width = (place * block_size + gap, row - 0.36), block_size - 2 * gap
                filled = min(1, tokens / block_size - place)
                role = INK["c1" if holders[block] > 1 else "c5"]
                if block not in drawn:
                    ax.add_patch(Rectangle(corner, filled * width, 0.72, color=role, lw=0))
                ax.add_patch(Rectangle(corner, width, 0.72, fill=False, ec=role, lw=1))
                drawn.add(block)
        ax.set(xlim=(0, max(map(len, state.tables)) * block_size * 1.01))
        ax.set(ylim=(requests - 0.4, -0.6), xlabel="tokens of the request", ylabel="request")
        ax.set_yticks([0, requests - 1], ["1", str(requests)])
        ax.grid(visible=False)

    return blocks_of_requests
