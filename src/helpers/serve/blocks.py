"""Who owns which block of the cache: allocate, append, fork, free, share a prefix. No torch here.

The cache is cut into blocks of ``block_size`` tokens, and a sequence holds a *block table*: the
blocks of its tokens, in order, wherever they lie (Kwon et al., *PagedAttention*, 2023). So a
sequence grows block by block, wastes less than one block, and two sequences that begin alike can
hold the same blocks. At any moment a block is in one of three states:

=======  ========================================================================================
used     one or more tables hold it; its *reference count* says how many
kept     no table holds it, but it is full of tokens that a later prompt may begin with
empty    nothing in it is of use
=======  ========================================================================================

Kept blocks count as free: when the empty ones run out, the one that was not used for longest is
*evicted*. A full block is known by the hash of its tokens and of its parent's hash, for keys and
values of a token depend on all tokens before it.

Nobody writes to a block that another table holds too: who wants to gets a copy first
(*copy on write*). The manager only decides; :meth:`helpers.serve.cache.PagedCache.copy` does it.
"""

from __future__ import annotations

import heapq
from array import array
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

#: what the first block of a sequence has in place of a parent's hash
ROOT = b"the beginning of a sequence"


class BlockError(RuntimeError):
    """The block manager cannot do what it is asked; it has changed nothing."""


class OutOfBlocks(BlockError):
    """Fewer blocks are free than needed. A scheduler preempts someone, or waits."""


class UnknownSequence(BlockError):
    """A sequence that holds no blocks: never allocated, or freed already."""


@dataclass(eq=False, slots=True)
class _Sequence:
    """What is known of a sequence: its tokens, its blocks, the hashes of those that are full."""

    tokens: list[int]
    table: list[int] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)


class BlockManager:
    """Hand out the blocks of a paged cache.

    Parameters
    ----------
    blocks : int
        How many there are; they are numbered from 0.
    block_size : int
        Tokens in a block.
    prefix_caching : bool
        Whether full blocks are shared among sequences that begin alike, and kept when freed.
    on_event : callable, optional
        Called as ``on_event(kind, sequence=..., **fields)`` after each change of a table:

        ============ ===========================================================================
        allocate     ``blocks``: new ones at the end of the table
        prefix_hit   ``blocks``: found ones that start the table; ``tokens`` in them
        share        ``parent``: the sequence whose whole table it now holds too; ``blocks``
        cow          ``source``: the shared last block; ``block``: its copy, now in its place
        truncate     ``blocks``: taken from the end of the table; ``kept``: those then kept
        free         ``blocks``: its whole table; ``kept``: those then kept
        evict        ``block``: kept until now, empty from now on; ``sequence`` is None
        ============ ===========================================================================

    Examples
    --------
    >>> manager = BlockManager(blocks=8, block_size=4)
    >>> manager.allocate("a", [1, 2, 3, 4, 5, 6])  # nothing is found in an empty cache
    0
    >>> manager.allocate("b", [1, 2, 3, 4, 9])  # begins like "a"
    4
    >>> manager.table("a"), manager.table("b")
    ([0, 1], [0, 2])
    >>> manager.reference_count(0)
    2
    >>> manager.fork("a", "c")
    >>> manager.append("c", 7)  # block 1 is half full and shared: copy it to block 3
    [(1, 3)]
    >>> for name in "abc":
    ...     manager.free(name)
    >>> manager.free_blocks
    8
    """

    def __init__(
        self,
        blocks: int,
        block_size: int,
        prefix_caching: bool = True,
        on_event: Callable[..., Any] | None = None,
    ):
        for name, value in (("blocks", blocks), ("block_size", block_size)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} is {value!r}; it must be a whole number, 1 or more")
        self.blocks = blocks
        self.block_size = block_size
        self.prefix_caching = prefix_caching
        self.on_event = on_event
        self._sequences: dict[Hashable, _Sequence] = {}
        self._references = [0] * blocks
        self._empty = list(range(blocks))  # a heap: the lowest first, so that tables stay in order
        self._kept: OrderedDict[int, None] = OrderedDict()  # unused for longest first
        self._block_of: dict[bytes, int] = {}  # hash -> the block that holds these tokens
        self._hash_of: dict[int, bytes] = {}  # and back

    # ---- what there is -------------------------------------------------------------------------

    @property
    def free_blocks(self) -> int:
        """Blocks that no table holds, empty or kept."""
        return len(self._empty) + len(self._kept)

    @property
    def kept_blocks(self) -> list[int]:
        """Free blocks that a prompt may still find, the next to be evicted first."""
        return list(self._kept)

    @property
    def sequences(self) -> list[Hashable]:
        """The sequences that hold blocks."""
        return list(self._sequences)

    def table(self, sequence: Hashable) -> list[int]:
        """The blocks of a sequence, in the order of its tokens."""
        return list(self._known(sequence).table)

    def tokens(self, sequence: Hashable) -> list[int]:
        """The tokens of a sequence that have a place in the cache."""
        return list(self._known(sequence).tokens)

    def reference_count(self, block: int) -> int:
        """How many tables hold a block."""
        if not 0 <= block < self.blocks:
            raise ValueError(f"block is {block!r}; blocks are 0 to {self.blocks - 1}")
        return self._references[block]

    def blocks_for(self, tokens: int) -> int:
        """Blocks that so many tokens of one sequence take."""
        return -(-tokens // self.block_size)

    def can_allocate(self, tokens: int | Sequence[int], reserve: int = 0) -> bool:
        """Whether a new sequence has room.

        Parameters
        ----------
        tokens : int or sequence of int
            How many, if nothing of it may be found; or the tokens themselves, and then exactly.
        reserve : int
            Blocks that must be left free.
        """
        if isinstance(tokens, int):
            return self.blocks_for(tokens) + reserve <= self.free_blocks
        if self.can_allocate(len(tokens), reserve):  # the usual case: nothing to look up
            return True
        _, need, left = self._room(tokens)
        return need + reserve <= left

    def can_append(self, sequence: Hashable) -> bool:
        """Whether there is room for one more token of a sequence."""
        return self._needs_block(self._known(sequence)) <= self.free_blocks

    # ---- changes -------------------------------------------------------------------------------

    def allocate(self, sequence: Hashable, token_ids: Sequence[int]) -> int:
        """Give a new sequence its blocks, found ones first.

        Parameters
        ----------
        sequence : hashable
            Its name.
        token_ids : sequence of int
            Its tokens so far.

        Returns
        -------
        int
            Tokens that need not be computed, for their blocks were found; a multiple of
            ``block_size``. At least the last token is left: it says what comes next.

        Raises
        ------
        ValueError
            If there are no tokens, or the sequence has blocks already.
        OutOfBlocks
            If too few are free.

        Notes
        -----
        Full blocks can be found by others from now on, so compute them before, or in the same pass
        as, what is allocated next; and tell :meth:`free` if you did not.
        """
        if sequence in self._sequences:
            raise ValueError(f"sequence {sequence!r} holds blocks already; free it first")
        if not len(token_ids):
            raise ValueError(f"token_ids of sequence {sequence!r} is empty; it needs one or more")
        new = _Sequence([int(token) for token in token_ids])
        found, need, left = self._room(new.tokens)
        if need > left:
            raise OutOfBlocks(
                f"sequence {sequence!r} needs {need} more blocks of {self.block_size} tokens for "
                f"its {len(new.tokens)}; {left} of {self.blocks} are free"
            )
        self._sequences[sequence] = new
        for block in found:
            self._hold(block)
        new.table += found
        if found:
            self._tell("prefix_hit", sequence, blocks=found, tokens=len(found) * self.block_size)
        taken = [self._take() for _ in range(need)]
        new.table += taken
        self._tell("allocate", sequence, blocks=taken)
        self._publish(new)
        return len(found) * self.block_size

    def append(self, sequence: Hashable, token: int) -> list[tuple[int, int]]:
        """Give one more token its place.

        Returns
        -------
        list of (int, int)
            Blocks to copy, source and destination, before anything is written: none or one.

        Raises
        ------
        UnknownSequence
        OutOfBlocks
            If a block is needed and none is free.
        """
        known = self._known(sequence)
        if self._needs_block(known) > self.free_blocks:
            raise OutOfBlocks(
                f"sequence {sequence!r} needs a block for token {len(known.tokens)}; none of "
                f"{self.blocks} is free"
            )
        copies = []
        if len(known.tokens) == len(known.table) * self.block_size:  # the last block is full
            known.table.append(self._take())
            self._tell("allocate", sequence, blocks=known.table[-1:])
        elif self._is_shared(known.table[-1]):
            copies.append(self._copy_on_write(sequence, known))
        else:  # after a truncation this block may hold other tokens, by which it is known
            self._forget(known.table[-1])
        known.tokens.append(int(token))
        self._publish(known)
        return copies

    def fork(self, parent: Hashable, child: Hashable) -> None:
        """Let a new sequence begin with all tokens of another, in the same blocks.

        Raises
        ------
        UnknownSequence
            If the parent holds no blocks.
        ValueError
            If the child does.
        """
        old = self._known(parent)
        if child in self._sequences:
            raise ValueError(f"sequence {child!r} holds blocks already; free it first")
        self._sequences[child] = _Sequence(list(old.tokens), list(old.table), list(old.hashes))
        for block in old.table:
            self._hold(block)
        self._tell("share", child, parent=parent, blocks=list(old.table))

    def truncate(self, sequence: Hashable, length: int, computed: int | None = None) -> None:
        """Forget all tokens of a sequence but the first ``length``, and free their blocks.

        Speculative decoding takes back guesses so. Nothing is written: who appends to a block that
        was cut gets a copy if somebody else holds it.

        Parameters
        ----------
        sequence : hashable
        length : int
        computed : int, optional
            As for :meth:`free`, of its tokens before the cut.

        Raises
        ------
        UnknownSequence
        ValueError
            Unless 1 <= length <= its tokens.
        """
        known = self._known(sequence)
        if not 1 <= length <= len(known.tokens):
            raise ValueError(
                f"length is {length!r}; sequence {sequence!r} has {len(known.tokens)} tokens, so "
                f"it must be 1 to {len(known.tokens)} (free() takes all)"
            )
        self._forget_uncomputed(known, computed)
        del known.tokens[length:]
        del known.hashes[length // self.block_size :]
        stay = self.blocks_for(length)
        released = known.table[stay:]
        del known.table[stay:]
        if released:
            kept = self._release(released)
            self._tell("truncate", sequence, blocks=released, kept=kept)

    def free(self, sequence: Hashable, computed: int | None = None) -> None:
        """Give back all blocks of a sequence.

        Parameters
        ----------
        sequence : hashable
        computed : int, optional
            How many of its tokens have keys and values in the cache; all unless given. What was
            never computed must not be found by others.

        Raises
        ------
        UnknownSequence
            If it holds none, as after a first ``free``.
        """
        known = self._known(sequence)
        self._forget_uncomputed(known, computed)
        del self._sequences[sequence]
        kept = self._release(known.table)
        self._tell("free", sequence, blocks=known.table, kept=kept)

    # ---- one block -----------------------------------------------------------------------------

    def _take(self) -> int:
        """An empty block, or else the kept one that was not used for longest."""
        if self._empty:
            block = heapq.heappop(self._empty)
        else:
            block, _ = self._kept.popitem(last=False)
            self._forget(block)
            self._tell("evict", None, block=block)
        self._references[block] = 1
        return block

    def _hold(self, block: int) -> None:
        """Count one more table that holds a block; it may have been kept until now."""
        self._references[block] += 1
        self._kept.pop(block, None)

    def _release(self, blocks: Iterable[int]) -> list[int]:
        """Count one table less for each block; return those that no table holds but are kept.

        From the last to the first: what comes later in a text is evicted before what it needs.
        """
        kept = []
        for block in reversed(list(blocks)):
            self._references[block] -= 1
            if self._references[block] == 0:
                if block in self._hash_of:
                    self._kept[block] = None
                    kept.append(block)
                else:
                    heapq.heappush(self._empty, block)
        return kept[::-1]

    def _copy_on_write(self, sequence: Hashable, known: _Sequence) -> tuple[int, int]:
        """Put a block of its own in the place of a shared last one."""
        source, block = known.table[-1], self._take()
        self._release([source])
        known.table[-1] = block
        self._tell("cow", sequence, source=source, block=block)
        return source, block

    def _needs_block(self, known: _Sequence) -> int:
        """Blocks that one more token takes: 1 if the last is full or shared, else 0."""
        full = len(known.tokens) == len(known.table) * self.block_size
        return int(full or self._is_shared(known.table[-1]))

    def _is_shared(self, block: int) -> bool:
        """Whether another table holds it too, so that nobody may write to it."""
        return self._references[block] > 1

    # ---- prefixes ------------------------------------------------------------------------------

    def hash_block(self, parent: bytes, tokens: Sequence[int]) -> bytes:
        """The name of a full block: of its own tokens and, through the parent, of all before.

        SHA-256, so that two texts never share a name by chance: with a weak hash the tokens would
        have to be compared too.
        """
        return sha256(parent + array("q", tokens).tobytes()).digest()

    def _find(self, tokens: Sequence[int]) -> list[int]:
        """The blocks that hold the beginning of a text, but for its last token."""
        found: list[int] = []
        if not self.prefix_caching:
            return found
        size, key = self.block_size, ROOT
        for start in range(0, len(tokens) - size, size):
            key = self.hash_block(key, tokens[start : start + size])
            block = self._block_of.get(key)
            if block is None:
                break
            found.append(block)
        return found

    def _room(self, tokens: Sequence[int]) -> tuple[list[int], int, int]:
        """Of a new sequence: blocks found, blocks to take, and how many are left for that."""
        found = self._find(tokens)
        need = self.blocks_for(len(tokens)) - len(found)
        return found, need, self.free_blocks - sum(block in self._kept for block in found)

    def _publish(self, known: _Sequence) -> None:
        """Let others find the blocks that are full by now, unless they know them already."""
        if not self.prefix_caching:
            return
        size = self.block_size
        for place in range(len(known.hashes), len(known.tokens) // size):
            parent = known.hashes[-1] if known.hashes else ROOT
            key = self.hash_block(parent, known.tokens[place * size : (place + 1) * size])
            known.hashes.append(key)
            block = known.table[place]
            if key not in self._block_of:
                self._block_of[key], self._hash_of[block] = block, key

    def _forget(self, block: int) -> None:
        """Let nobody find a block any more."""
        key = self._hash_of.pop(block, None)
        if key is not None:
            del self._block_of[key]

    def _forget_uncomputed(self, known: _Sequence, computed: int | None) -> None:
        """Let nobody find a block that was not computed to its end; None: all were.

        A block that was cut may still be known by all it was to hold, so what the sequence says of
        itself does not matter. At worst a block is forgotten that could have been found.
        """
        if computed is not None:
            for block in known.table[computed // self.block_size :]:
                self._forget(block)

    # ---- helpers -------------------------------------------------------------------------------

    def _known(self, sequence: Hashable) -> _Sequence:
        try:
            return self._sequences[sequence]
        except KeyError:
            raise UnknownSequence(
                f"sequence {sequence!r} holds no blocks: it was never allocated, or is freed"
            ) from None

    def _tell(self, kind: str, sequence: Hashable | None, **fields: Any) -> None:
        if self.on_event is not None:
            self.on_event(kind, sequence=sequence, **fields)

    def __repr__(self) -> str:
        return (
            f"<BlockManager: {len(self._sequences)} sequences; of {self.blocks} blocks "
            f"{self.blocks - self.free_blocks} used, {len(self._kept)} kept, "
            f"{len(self._empty)} empty>"
        )
