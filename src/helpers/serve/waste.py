"""How much of the reserved cache holds tokens: contiguous room against blocks. No torch here.

A request lives for as many steps as its answer has tokens. At its first step the cache holds its
prompt, at each later one a token more; the last token of an answer ends the request and is never
written. A *slot* is the room of one token, a *slot step* one slot for one step, for what is
reserved over a long time costs more. Four ways to reserve:

============== =================================================================================
longest        room for the longest sequence allowed, from the first step on
power_of_two   room for prompt and answer, the answer rounded up to a power of two; never more
               than the longest
known          room for prompt and answer, as if their lengths were known before
paged          blocks, the next one when the last is full
============== =================================================================================

The three contiguous ways are those that Kwon et al. (*PagedAttention*, 2023, section 6.1) compare
with theirs. Two of them need to know what no server knows, and even ``known`` wastes: it keeps room
for tokens that come later.

:func:`simulate_cache_use` goes step by step, with the block manager that the engine uses;
:func:`cache_use` is the sum in closed form, and equal to the last slot step;
:func:`cache_use_of_run` counts the same in the log of a run of the engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from helpers.serve.blocks import BlockManager
from helpers.serve.events import Event, replay

#: prompt tokens and answer tokens of one request
Lengths = tuple[int, int]


@dataclass(frozen=True)
class CacheUse:
    """What some requests reserved and what they filled, added up over their lives."""

    held_slot_steps: int  # slots with a token in them
    reserved_slot_steps: int
    request_steps: int  # steps of all requests: one for each token of an answer

    @property
    def share(self) -> float:
        """The part of the reserved slots that hold tokens, on average over slots and steps."""
        return self.held_slot_steps / self.reserved_slot_steps

    @property
    def wasted_slots_per_request(self) -> float:
        """Reserved slots without a token, of one request, on average over its steps."""
        return (self.reserved_slot_steps - self.held_slot_steps) / self.request_steps


def cache_use(
    lengths: Sequence[Lengths], *, block_size: int, longest_tokens: int
) -> dict[str, CacheUse]:
    """How well each way of reserving uses the cache, by a formula.

    Parameters
    ----------
    lengths : sequence of (int, int)
        Tokens of the prompt and of the answer of each request.
    block_size : int
        Tokens in a block.
    longest_tokens : int
        The longest sequence that a request may become, prompt and answer together.

    Returns
    -------
    dict of str to CacheUse
        By way: ``longest``, ``power_of_two``, ``known``, ``paged``. It does not depend on when
        requests come, for each reserves for itself.

    Raises
    ------
    ValueError
        No requests, a length or size that is no whole number above 0, a request that is longer than
        the longest.

    Examples
    --------
    One request holds 3, 4, 5 and 6 tokens in its four steps, 18 slot steps. Room for 16 costs 64;
    for 3 + 4, 28; one block of 4, then two, 4 + 4 + 8 + 8 = 24:

    >>> use = cache_use([(3, 4)], block_size=4, longest_tokens=16)
    >>> for way, one in use.items():
    ...     print(f"{way:12}  {one.held_slot_steps} of {one.reserved_slot_steps}  {one.share:.2f}")
    longest       18 of 64  0.28
    power_of_two  18 of 28  0.64
    known         18 of 28  0.64
    paged         18 of 24  0.75
    """
    pairs = check_lengths(lengths, block_size, longest_tokens)
    reserved = dict.fromkeys((*CONTIGUOUS, "paged"), 0)
    for prompt, answer in pairs:
        for way, room in CONTIGUOUS.items():
            reserved[way] += answer * room(prompt, answer, longest_tokens)
        # the request holds prompt, prompt + 1, ..., prompt + answer - 1 tokens
        blocks = _blocks_up_to(prompt + answer - 1, block_size)
        blocks -= _blocks_up_to(prompt - 1, block_size)
        reserved["paged"] += blocks * block_size
    held = sum(answer * prompt + answer * (answer - 1) // 2 for prompt, answer in pairs)
    steps = sum(answer for _, answer in pairs)
    return {way: CacheUse(held, slots, steps) for way, slots in reserved.items()}


def simulate_cache_use(
    lengths: Sequence[Lengths], *, block_size: int, longest_tokens: int
) -> dict[str, CacheUse]:
    """The same by running it: all requests begin together, one token each a step.

    Parameters
    ----------
    lengths, block_size, longest_tokens
        As for :func:`cache_use`.

    Returns
    -------
    dict of str to CacheUse

    Raises
    ------
    ValueError
        As :func:`cache_use`.

    Examples
    --------
    >>> lengths = [(3, 4), (9, 1), (1, 6)]
    >>> use = simulate_cache_use(lengths, block_size=4, longest_tokens=16)
    >>> use == cache_use(lengths, block_size=4, longest_tokens=16)
    True
    """
    pairs = check_lengths(lengths, block_size, longest_tokens)
    enough = sum(-(-sum(pair) // block_size) for pair in pairs)
    manager = BlockManager(enough, block_size, prefix_caching=False)  # nothing is shared
    room = {}  # of each request that lives, what each contiguous way keeps for it
    for number, (prompt, answer) in enumerate(pairs):
        manager.allocate(number, [0] * prompt)
        room[number] = {way: of(prompt, answer, longest_tokens) for way, of in CONTIGUOUS.items()}
    reserved = dict.fromkeys((*CONTIGUOUS, "paged"), 0)
    held = steps = 0
    generated = 0  # tokens of each answer so far; the same for all that live
    while room:
        steps += len(room)
        held += sum(len(manager.tokens(number)) for number in room)
        reserved["paged"] += (manager.blocks - manager.free_blocks) * block_size
        for way in CONTIGUOUS:
            reserved[way] += sum(one[way] for one in room.values())
        generated += 1
        for number in list(room):
            if generated == pairs[number][1]:
                manager.free(number)
                del room[number]
            else:
                manager.append(number, 0)
    return {way: CacheUse(held, slots, steps) for way, slots in reserved.items()}


def cache_use_of_run(events: Iterable[Event], block_size: int) -> CacheUse:
    """What a run of the engine reserved and filled, counted in its log.

    Parameters
    ----------
    events : iterable of dict
        What :class:`helpers.serve.events.EventLog` holds.
    block_size : int
        The engine's.

    Returns
    -------
    CacheUse
        A block that several requests hold is reserved once, and its tokens serve each of them: with
        sharing the share may exceed 1.

    Raises
    ------
    ValueError
        If nothing was computed in the run.

    Examples
    --------
    A prompt of three tokens takes a block of four; its second step fills that.

    >>> log = [
    ...     {"step": 1, "time_s": 0.0, "kind": "arrive", "request": 0, "prompt": 3},
    ...     {"step": 1, "time_s": 0.0, "kind": "allocate", "request": 0, "blocks": [0]},
    ...     {"step": 1, "time_s": 0.0, "kind": "admit", "request": 0, "hits": 0},
    ...     {"step": 1, "time_s": 0.0, "kind": "prefill", "request": 0, "start": 0, "tokens": 3},
    ...     {"step": 2, "time_s": 0.0, "kind": "decode", "request": 0, "start": 3, "tokens": 1},
    ... ]
    >>> cache_use_of_run(log, block_size=4)
    CacheUse(held_slot_steps=7, reserved_slot_steps=8, request_steps=2)
    """
    if not _is_count(block_size):
        raise ValueError(f"block_size is {block_size!r}; it must be a whole number, 1 or more")
    counted: dict[int, tuple[int, int, int]] = {}  # of each step: its last moment of computing
    for event, state in replay(events):
        if event["kind"] in ("prefill", "decode", "pad"):
            counted[event["step"]] = (
                sum(state.computed.values()),
                len(state.references) * block_size,
                len(state.running),
            )
    if not counted:
        raise ValueError("events: nothing is computed in them; was the engine's log kept?")
    return CacheUse(*map(sum, zip(*counted.values(), strict=True)))


def _longest(prompt: int, answer: int, longest: int) -> int:
    return longest


def _power_of_two(prompt: int, answer: int, longest: int) -> int:
    return min(longest, prompt + (1 << (answer - 1).bit_length()))


def _known(prompt: int, answer: int, longest: int) -> int:
    return prompt + answer


#: slots that a request reserves for its whole life
CONTIGUOUS = {"longest": _longest, "power_of_two": _power_of_two, "known": _known}


def _blocks_up_to(tokens: int, block_size: int) -> int:
    """Blocks of a sequence of 1 token, of 2, and so on to ``tokens``, added up.

    The first ``block_size`` lengths take one block each, the next as many two, and so on.

    Examples
    --------
    >>> _blocks_up_to(tokens=7, block_size=3)  # 1 + 1 + 1 + 2 + 2 + 2 + 3
    12
    """
    full, rest = divmod(tokens, block_size)
    return block_size * full * (full + 1) // 2 + rest * (full + 1)


def check_lengths(lengths: Any, block_size: Any, longest_tokens: Any) -> list[Lengths]:
    """The requests as pairs, if all is as it must be."""
    for name, value in (("block_size", block_size), ("longest_tokens", longest_tokens)):
        if not _is_count(value):
            raise ValueError(f"{name} is {value!r}; it must be a whole number of tokens, 1 or more")
    if not isinstance(lengths, Iterable):
        raise ValueError(f"lengths is {lengths!r}; it must be a sequence of (prompt, answer)")
    pairs = [tuple(pair) if isinstance(pair, Sequence) else pair for pair in lengths]
    if not pairs:
        raise ValueError("lengths is empty; it must hold one or more requests")
    for number, pair in enumerate(pairs):
        if not (isinstance(pair, tuple) and len(pair) == 2 and all(map(_is_count, pair))):
            raise ValueError(
                f"lengths[{number}] is {pair!r}; it must be two whole numbers of tokens, prompt "
                "and answer, each 1 or more"
            )
        if sum(pair) > longest_tokens:
            raise ValueError(
                f"lengths[{number}] is {pair!r}, {sum(pair)} tokens together; longest_tokens "
                f"allows {longest_tokens}"
            )
    return pairs


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
