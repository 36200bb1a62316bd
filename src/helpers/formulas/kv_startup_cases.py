"""Start-up logs of real servers: the numbers that they printed, for predictions to be held against.

All are of vLLM. Three are from a benchmark diary of servers on A100 GPUs, which we know by their
numbers. Two were posted in the project's own tracker, by users who asked about them; they are of
an older version, which printed blocks of 16 tokens where later ones print tokens. Whatever the
version, we set the numbers into the words that :func:`.kv_startup_log.read_startup_log` reads.
"""

from __future__ import annotations

from dataclasses import dataclass

from helpers import catalog

from .kv_estimate import CacheEstimate
from .kv_startup import StartupPrediction

__all__ = ["CASES", "StartupCase"]


@dataclass(frozen=True)
class StartupCase:
    """One server and what it printed.

    Parameters
    ----------
    name : str
        Model and machine.
    model : str
        Id or alias in the catalog of a model with this shape.
    available_gib : str
        Memory left for the cache on each rank, as printed.
    tokens : int
        Tokens that the cache holds.
    request_tokens : int
        Longest allowed request.
    concurrency : str, optional
        Requests of that length that fit, as printed; None where we do not know the print.
    ranks : int
        GPUs that share the model.
    source : str
        Key of the catalog's source; empty for the diary.

    Examples
    --------
    >>> print(CASES[0].prediction)
    Available KV cache memory: 57.41 GiB
    GPU KV cache size: 470,256 to 470,336 tokens, 16 apart
    Maximum concurrency for 8,192 tokens per request: 57.40x to 57.41x
    """

    name: str
    model: str
    available_gib: str
    tokens: int
    request_tokens: int
    concurrency: str | None = None
    ranks: int = 1
    source: str = ""

    @property
    def estimate(self) -> CacheEstimate:
        """The model in 16 bits and blocks of 16, as these servers cached it."""
        return CacheEstimate(catalog.model(self.model), "bf16", 16, self.ranks)

    @property
    def prediction(self) -> StartupPrediction:
        """What follows from the printed memory alone."""
        return StartupPrediction(self.estimate, self.available_gib, self.request_tokens)

    @property
    def text(self) -> str:
        """The printed numbers in the server's words.

        Examples
        --------
        >>> print(CASES[-1].text)
        Available KV cache memory: 3.81 GiB
        GPU KV cache size: 31,232 tokens
        Maximum concurrency for 20,000 tokens per request: 1.56x
        """
        lines = [
            f"Available KV cache memory: {self.available_gib} GiB",
            f"GPU KV cache size: {self.tokens:,} tokens",
        ]
        if self.concurrency is not None:
            lines.append(
                f"Maximum concurrency for {self.request_tokens:,} tokens per request:"
                f" {self.concurrency}x"
            )
        return "\n".join(lines)


CASES = (
    StartupCase("Mistral 7B v0.3, A100 80 GB", "mistral-7b-v0.3", "57.41", 470_288, 8192),
    StartupCase("Llama 3.1 8B, A100 80 GB", "llama-3.1-8b", "55.20", 452_192, 8192),
    StartupCase("Llama 3.3 70B, two A100 80 GB", "llama-3.3-70b", "3.93", 25_728, 8192, ranks=2),
    StartupCase(
        "Llama 3 8B, A100 40 GB", "llama-3.1-8b", "11.12", 16 * 5691, 8192, "11.12",
        source="vllm-issue-12330",
    ),
    StartupCase(
        "Llama 3.1 8B, RTX 3090", "llama-3.1-8b", "3.81", 16 * 1952, 20_000, "1.56",
        source="vllm-issue-10517",
    ),
)  # fmt: skip
