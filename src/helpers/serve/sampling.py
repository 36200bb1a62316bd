"""From scores to a token: greedy, temperature, top-k, top-p, each request with its own chance.

A request draws one uniform number per token from a generator of its own and looks up where it falls
in the cumulated probabilities. So its tokens depend on its seed and its logits only: neither on its
neighbours in the batch nor on how often it was preempted.

Letters in shape comments: R rows (requests that need a token), V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import torch
from torch import Tensor

from helpers.serve.request import Request, SamplingParams


def probabilities(
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Tensor:
    """The distribution a token is drawn from.

    Temperature first, then the ``top_k`` most likely, then of those the fewest that hold ``top_p``
    of the probability (Holtzman et al., *The Curious Case of Neural Text Degeneration*, 2020,
    Sec. 3.1); among equals, the lower token comes first.

    Parameters
    ----------
    logits : Tensor [..., V]
    temperature : float
        0 puts all probability on the most likely token.
    top_k, top_p
        As in :class:`~helpers.serve.request.SamplingParams`.

    Returns
    -------
    Tensor [..., V] of float64

    Examples
    --------
    >>> logits = torch.tensor([0.5, 0.3, 0.2]).log()
    >>> probabilities(logits, top_k=2)
    tensor([0.6250, 0.3750, 0.0000], dtype=torch.float64)
    >>> probabilities(logits, top_p=0.6)  # the first alone holds too little
    tensor([0.6250, 0.3750, 0.0000], dtype=torch.float64)
    >>> probabilities(logits, temperature=0.0)
    tensor([1., 0., 0.], dtype=torch.float64)
    """
    scores = logits.double()
    if temperature == 0:
        return torch.zeros_like(scores).scatter_(-1, scores.argmax(-1, keepdim=True), 1.0)
    # the greatest score becomes 0, so that no temperature, however small, can overflow
    scores = (scores - scores.amax(-1, keepdim=True)) / temperature
    cut_k = top_k is not None and top_k < scores.shape[-1]
    cut_p = top_p is not None and top_p < 1
    if not (cut_k or cut_p):
        return scores.softmax(-1)
    ordered, tokens = scores.sort(dim=-1, descending=True, stable=True)
    if cut_k:
        ordered[..., top_k:] = -torch.inf
    kept = ordered.softmax(-1)
    if cut_p:
        before = kept.cumsum(-1) - kept  # probability of all more likely tokens
        kept = kept.masked_fill(before >= top_p, 0.0)
        kept = kept / kept.sum(-1, keepdim=True)
    return torch.zeros_like(kept).scatter_(-1, tokens, kept)


def draw(probabilities: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """One token for each row, each by the next number of its own generator.

    Parameters
    ----------
    probabilities : Tensor [R, V]
    generators : sequence of torch.Generator, on the CPU
        One for each row. A generator that stands twice gives its rows two numbers.

    Returns
    -------
    Tensor [R] of int64

    Examples
    --------
    >>> draw(torch.tensor([[0.0, 1.0, 0.0]]), [torch.Generator().manual_seed(5)])
    tensor([1])
    """
    uniform = [torch.rand(1, generator=g, dtype=torch.float64) for g in generators]
    cumulated = probabilities.double().cumsum(-1)  # [R, V]
    # sums end at 1 but for rounding; a number below 1 times the true end stays below the end
    threshold = torch.cat(uniform).to(cumulated.device).unsqueeze(-1) * cumulated[:, -1:]  # [R, 1]
    # the first token whose cumulated probability exceeds the number: never one of probability 0
    return torch.searchsorted(cumulated, threshold, right=True).squeeze(-1)


def new_generator(params: SamplingParams, default_seed: int, index: int = 0) -> torch.Generator:
    """The generator of sample ``index`` of a request, or one from a seed if it names none."""
    seed = default_seed if params.seed is None else params.seed + index
    return torch.Generator().manual_seed(seed)


def rewind(generator: torch.Generator, drawn: int) -> None:
    """Put a generator back to where it stood after so many numbers.

    A step that fails may have drawn already; the step that repeats it must draw the same.

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(5)
    >>> first, second = (torch.rand(1, generator=generator, dtype=torch.float64) for _ in range(2))
    >>> rewind(generator, 1)
    >>> torch.rand(1, generator=generator, dtype=torch.float64) == second
    tensor([True])
    """
    generator.manual_seed(generator.initial_seed())
    torch.rand(drawn, generator=generator, dtype=torch.float64)


def sample(logits: Tensor, requests: Sequence[Request]) -> list[int | None]:
    """The next token of each request; None where the logits are no finite numbers.

    Greedy rows share one pass over the logits; the others are grouped by equal parameters.

    Parameters
    ----------
    logits : Tensor [R, V]
    requests : sequence of Request
        One for each row; those that sample hold a generator.

    Returns
    -------
    list of int or None
    """
    best, greedy = logits.max(dim=-1)  # both [R]; NaN anywhere in a row makes its maximum NaN
    tokens: list[int | None] = greedy.tolist()
    groups: dict[tuple, list[int]] = {}
    for row, request in enumerate(requests):
        params = request.params
        if params.temperature:
            groups.setdefault((params.temperature, params.top_k, params.top_p), []).append(row)
    for settings, rows in groups.items():
        chances = probabilities(logits[rows], *settings)
        drawn = draw(chances, [requests[row].generator for row in rows])
        for row, token in zip(rows, drawn.tolist(), strict=True):
            tokens[row] = token
    for row, value in enumerate(best.tolist()):
        if not isfinite(value):
            tokens[row] = None
    return tokens
