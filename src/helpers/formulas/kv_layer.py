"""What one layer caches of each token, and on how many ranks it stands.

A token leaves keys and values in every layer: for each head its own, for groups of heads shared
ones, or one compressed vector for all heads. They stay to the end of the sequence or for a window.
"""

from __future__ import annotations

from dataclasses import dataclass

from .checks import check_whole
from .kv_cache import cached_tokens, kv_bytes_per_token, mla_kv_bytes_per_token
from .kv_element import KVElement

__all__ = ["LayerCache"]


@dataclass(frozen=True)
class LayerCache:
    """What one layer caches.

    Give ``kv_heads`` and ``head_dim`` for separate keys and values, or ``kv_rank`` and
    ``rope_dim`` for multi-head latent attention.

    Parameters
    ----------
    heads : int
        Query heads. They cache nothing; tensor parallelism divides them.
    kv_heads : int, optional
        Key and value heads: as many as query heads (MHA), fewer (GQA) or one (MQA).
    head_dim : int, optional
        Size of one key. It need not be the model's width over its heads.
    value_head_dim : int, optional
        Size of one value, where it is not that of a key.
    kv_rank, rope_dim : int, optional
        Size of the compressed key and value, and of the rotary key beside it.
    window : int, optional
        Tokens that stay in the cache; by default all.

    Raises
    ------
    ValueError
        If a number is out of range or the two kinds are mixed.

    Examples
    --------
    >>> print(LayerCache(heads=32, kv_heads=8, head_dim=128, window=4096))
    GQA 32/8 x 128, window 4,096
    >>> print(LayerCache(heads=128, kv_rank=512, rope_dim=64))
    MLA 512 + 64
    """

    heads: int
    kv_heads: int | None = None
    head_dim: int | None = None
    value_head_dim: int | None = None
    kv_rank: int | None = None
    rope_dim: int | None = None
    window: int | None = None

    def __post_init__(self):
        latent, separate = ("kv_rank", "rope_dim"), ("kv_heads", "head_dim")
        is_latent = any(getattr(self, name) is not None for name in latent)
        refused = (*separate, "value_head_dim") if is_latent else ()
        for name in refused:
            if (value := getattr(self, name)) is not None:
                raise ValueError(
                    f"{name}: {value!r}; allowed is None with multi-head latent attention (kv_rank,"
                    " rope_dim), which caches one vector for all heads"
                )
        needed = ("heads", *(latent if is_latent else separate))
        for name in (*needed, "value_head_dim", "window"):
            value = getattr(self, name)
            if value is not None or name in needed:
                object.__setattr__(self, name, check_whole(name, value))
        if not is_latent and self.heads % self.kv_heads:
            raise ValueError(
                f"kv_heads: {self.kv_heads}; allowed is a divisor of the {self.heads} query heads"
            )

    @property
    def kind(self) -> str:
        """``"MHA"``, ``"GQA"``, ``"MQA"`` or ``"MLA"``."""
        if self.kv_rank is not None:
            return "MLA"
        if self.kv_heads == self.heads:
            return "MHA"
        return "MQA" if self.kv_heads == 1 else "GQA"

    def kv_heads_on_rank(self, tensor_parallel: int = 1) -> int:
        """Key and value heads that each of some ranks keeps; with MLA the one vector.

        Raises
        ------
        ValueError
            If the ranks do not divide the query heads, or neither divide the key and value heads
            nor are a multiple of them.

        Examples
        --------
        >>> layer = LayerCache(heads=64, kv_heads=8, head_dim=128)
        >>> [layer.kv_heads_on_rank(ranks) for ranks in (1, 2, 8, 16)]  # 16: each head stands twice
        [8, 4, 1, 1]
        """
        ranks = check_whole("tensor_parallel", tensor_parallel)
        if self.heads % ranks:
            raise ValueError(
                f"tensor_parallel: {ranks}; allowed is a divisor of the {self.heads} query heads"
            )
        if self.kv_rank is not None:
            return 1
        if self.kv_heads % ranks and ranks % self.kv_heads:
            raise ValueError(
                f"tensor_parallel: {ranks}; allowed is a divisor or a multiple of the"
                f" {self.kv_heads} KV heads"
            )
        return max(self.kv_heads // ranks, 1)

    def bytes_per_token(self, element: KVElement, tensor_parallel: int = 1, layers: int = 1) -> int:
        """Bytes that a token leaves on one rank in so many layers of this kind.

        Examples
        --------
        >>> from helpers.formulas.kv_element import kv_element
        >>> layer = LayerCache(heads=64, kv_heads=8, head_dim=128)
        >>> layer.bytes_per_token(kv_element("bf16"), layers=80)
        327680
        """
        kv_heads = self.kv_heads_on_rank(tensor_parallel)
        if self.kv_rank is not None:
            width = element.bytes_per_element(self.kv_rank + self.rope_dim)
            return int(mla_kv_bytes_per_token(layers, self.kv_rank, self.rope_dim, width))
        key = self.head_dim
        value = key if self.value_head_dim is None else self.value_head_dim
        both = sum(
            kv_bytes_per_token(layers, kv_heads, row, element.bytes_per_element(row))
            for row in (key, value)
        )
        return int(both / 2)  # the formula counts a key and a value of the same size

    def cached_tokens(self, tokens: int) -> int:
        """Tokens of a sequence that are in the cache: all, or those in the window."""
        return tokens if self.window is None else cached_tokens(tokens, self.window)

    def __str__(self) -> str:
        if self.kv_rank is not None:
            text = f"MLA {self.kv_rank} + {self.rope_dim}"
        else:
            text = f"{self.kind} {self.heads}/{self.kv_heads} x {self.head_dim}"
            if self.value_head_dim not in (None, self.head_dim):
                text += f" (values {self.value_head_dim})"
        return text if self.window is None else f"{text}, window {self.window:,}"
