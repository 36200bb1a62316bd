"""The acceptance rule of speculative decoding: how a guess costs the target's distribution nothing.

A draft model guesses ``K`` tokens; the target computes, in one pass, its own distributions at those
places and at the next. Going from left to right, with ``p`` the target's and ``q`` the draft's
distribution at a place and ``x`` the drafted token:

- ``x`` is accepted with probability ``min(1, p(x) / q(x))``;
- at the first rejection a token is drawn from the *residual*, ``max(0, p - q)`` made to sum to 1,
  and the rest of the draft is dropped;
- if all are accepted, the target's distribution at the next place gives a *bonus* token.

So a round yields 1 to ``K + 1`` tokens, and they are distributed as the target alone would draw
them: a token comes out either because it was drafted and accepted, with probability
``q(x) min(1, p(x)/q(x)) = min(q(x), p(x))``, or from the residual, which holds just what is missing
to ``p(x)``. Greedy decoding is the case in which ``p`` has all its mass on one token.

References
----------
Leviathan, Kalman and Matias, *Fast Inference from Transformers via Speculative Decoding*, 2023
(first posted 2022): Sec. 2.3 and Algorithm 1; proof in Appendix A.1; the acceptance rate in
Definition 3.1 and Corollary 3.6. Chen et al., *Accelerating Large Language Model Decoding with
Speculative Sampling*, 2023: "Modified Rejection Sampling" and Algorithm 2; proof as Theorem 1 of
the supplement. The letters here are those of the first; the second calls the target ``q`` and the
draft ``p``.

Letters in shape comments: R rows (independent rounds), K drafted tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def acceptance_chance(p: Tensor, q: Tensor) -> Tensor:
    """Chance that each token is accepted if it is drafted: ``min(1, p / q)``.

    A token the draft never draws (``q`` is 0) counts as accepted.

    Parameters
    ----------
    p, q : Tensor [..., V]
        Distributions of the target and of the draft.

    Examples
    --------
    >>> acceptance_chance(torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.25, 0.625, 0.125]))
    tensor([1.0000, 0.8000, 0.0000])
    """
    return torch.where(q > p, p / q, 1.0)


def residual(p: Tensor, q: Tensor) -> Tensor:
    """What the target still has to give after the accepted drafts: ``max(0, p - q)``, summing to 1.

    Where ``p`` equals ``q`` nothing is left, and nothing is ever rejected; the result is ``p``.

    Parameters
    ----------
    p, q : Tensor [..., V]

    Examples
    --------
    >>> residual(torch.tensor([0.5, 0.375, 0.125]), torch.tensor([0.25, 0.625, 0.125]))
    tensor([1., 0., 0.])
    """
    left = (p - q).clamp(min=0)
    total = left.sum(-1, keepdim=True)
    return torch.where(total > 0, left / total, p)


def pick(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """The token into whose share of the line from 0 to 1 a uniform number falls.

    Parameters
    ----------
    probabilities : Tensor [..., V]
    uniform : Tensor [...]
        At least 0, below 1.

    Returns
    -------
    Tensor [...] of int64

    Examples
    --------
    >>> pick(torch.tensor([[0.5, 0.0, 0.5]] * 3), torch.tensor([0.4, 0.5, 0.9]))
    tensor([0, 2, 2])
    """
    cumulated = probabilities.cumsum(-1)
    # sums end at 1 but for rounding: scale, so that the number stays below the end
    threshold = uniform.unsqueeze(-1) * cumulated[..., -1:]
    return torch.searchsorted(cumulated, threshold, right=True).squeeze(-1)


def judge(drafted: Tensor, p: Tensor, q: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Accept drafted tokens up to the first rejection, and draw the token that follows.

    Parameters
    ----------
    drafted : Tensor [R, K] of int64
        Drawn from ``q``.
    p : Tensor [R, K + 1, V]
        The target's distributions at the drafted places and at the one after.
    q : Tensor [R, K, V]
        The distributions that the tokens were *drawn from*: with the draft's temperature, top-k and
        top-p. Those of another temperature bend the output.
    uniform : Tensor [R, K + 1]
        Numbers at least 0 and below 1: one for each verdict, the last one draws.

    Returns
    -------
    accepted : Tensor [R] of int64
        0 to K.
    token : Tensor [R] of int64
        The replacement of the first rejected token; the bonus if all are accepted.

    Examples
    --------
    The target cannot say token 0, the draft says it twice: rejected, and 1 takes its place.

    >>> p = torch.tensor([[[0.0, 1.0]] * 3]); q = torch.tensor([[[0.5, 0.5]] * 2])
    >>> judge(torch.tensor([[0, 0]]), p, q, torch.tensor([[0.9, 0.9, 0.9]]))
    (tensor([0]), tensor([1]))
    >>> judge(torch.tensor([[1, 1]]), p, q, torch.tensor([[0.9, 0.9, 0.9]]))
    (tensor([2]), tensor([1]))
    """
    rows, count = drafted.shape
    place = drafted.unsqueeze(-1)  # [R, K, 1]
    p_drafted = p[:, :count].gather(-1, place).squeeze(-1)  # [R, K]
    q_drafted = q.gather(-1, place).squeeze(-1)
    # u < p/q, without dividing; a token that the target gives no chance is never accepted
    agrees = uniform[:, :count] * q_drafted < p_drafted
    accepted = agrees.long().cumprod(-1).sum(-1)  # [R]: how many before the first that does not
    # after the last drafted token the draft has said nothing: q = 0 leaves all of p, the bonus
    q = torch.cat((q, torch.zeros_like(p[:, :1])), dim=1)  # [R, K + 1, V]
    row = torch.arange(rows, device=p.device)
    return accepted, pick(residual(p[row, accepted], q[row, accepted]), uniform[:, count])


def judge_greedy(drafted: Sequence[int], choices: Sequence[int]) -> tuple[int, int]:
    """The same rule where the target always takes its most likely token.

    Parameters
    ----------
    drafted : sequence of K int
    choices : sequence of K + 1 int
        The target's most likely token at the drafted places and at the one after.

    Returns
    -------
    accepted, token : int

    Examples
    --------
    >>> judge_greedy([7, 8, 9], [7, 8, 5, 6])
    (2, 5)
    >>> judge_greedy([7, 8, 9], [7, 8, 9, 6])
    (3, 6)
    """
    accepted = 0
    while accepted < len(drafted) and drafted[accepted] == choices[accepted]:
        accepted += 1
    return accepted, choices[accepted]


def acceptance_rate(accepted: int, rejected: int) -> float:
    """Chance that a drafted token is accepted once its turn comes, from counts.

    A token behind a rejection is never judged. Of those judged, all but the rejected ones (at most
    one a round) were accepted, so the share is ``accepted / (accepted + rejected)``: the maximum
    of the likelihood of a geometric count cut off at K. ``accepted / drafted`` is smaller, for it
    counts the tokens nobody looked at as refused, and gives too few tokens a round.

    Parameters
    ----------
    accepted : int
        Drafted tokens that were accepted.
    rejected : int
        Rounds that ended with a rejection.

    Raises
    ------
    ValueError
        If nothing was judged, or for a negative count.

    Examples
    --------
    Four tokens drafted in each of three rounds, of which 4, 1 and 0 were accepted:

    >>> f"{acceptance_rate(accepted=5, rejected=2):.3f}, not {5 / 12:.3f}"
    '0.714, not 0.417'
    """
    for name, value in (("accepted", accepted), ("rejected", rejected)):
        if value < 0:
            raise ValueError(f"{name} is {value!r}; it must be 0 or more")
    if accepted + rejected == 0:
        raise ValueError("accepted and rejected are both 0: no drafted token was judged")
    return accepted / (accepted + rejected)
