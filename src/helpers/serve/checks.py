"""What may come in: every prompt and every setting is looked at here, before it costs anything.

The engine and the speculative decoder ask the same questions in the same words. Plain Python: no
torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

from helpers.serve.request import RequestError, SamplingParams

Prompt = str | Sequence[int]


def whole(value: object) -> bool:
    """Whether a value is a whole number: Python's or numpy's, but not True or False."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_setting(name: str, value: object, least: int = 1) -> None:
    """Raise a ValueError unless a setting is a whole number of ``least`` or more.

    Examples
    --------
    >>> check_setting("block_size", 0)
    Traceback (most recent call last):
    ValueError: block_size is 0; it must be a whole number, 1 or more
    """
    if not whole(value) or value < least:
        raise ValueError(f"{name} is {value!r}; it must be a whole number, {least} or more")


def check_request(
    prompt: Prompt, params: SamplingParams, config: Any, tokenizer: Any = None
) -> tuple[list[int], int]:
    """What a model needs of a request.

    Parameters
    ----------
    prompt : str or sequence of int
    params : SamplingParams
    config : helpers.lm.config.ModelConfig
        Of the model: its vocabulary and its context.
    tokenizer : optional
        For a prompt that is a string.

    Returns
    -------
    list of int, int
        The prompt's tokens, and the most that may be generated after them.

    Raises
    ------
    RequestError
        For the first thing that is wrong; it names the value and what is allowed.
    """
    if not isinstance(params, SamplingParams):
        raise RequestError(f"params is {params!r}; it must be SamplingParams")
    params.check(config.vocab)
    ids = encode(prompt, config.vocab, tokenizer)
    if not ids:
        raise RequestError("prompt is empty; it must hold at least one token")
    if len(ids) >= config.context:
        raise RequestError(
            f"prompt has {len(ids)} tokens; the context of {config.context} must hold it and at "
            "least one more"
        )
    return ids, min(params.max_tokens, config.context - len(ids))


def encode(prompt: Prompt, vocab: int, tokenizer: Any = None) -> list[int]:
    """The tokens of a prompt, each of them in the vocabulary.

    Examples
    --------
    >>> encode((5, 3, 96), vocab=97)
    [5, 3, 96]
    >>> encode([5, 97], vocab=97)
    Traceback (most recent call last):
    helpers.serve.request.RequestError: prompt holds 97 at place 1; tokens are whole numbers from \
0 to 96
    """
    if isinstance(prompt, str):
        if tokenizer is None:
            raise RequestError("prompt is a str, but there is no tokenizer")
        try:
            prompt = tokenizer.encode(prompt)
        except ValueError as error:
            raise RequestError(f"prompt cannot be encoded: {error}") from None
    elif hasattr(prompt, "tolist"):  # an array or a tensor
        prompt = prompt.tolist()
    if isinstance(prompt, (bytes, bytearray)) or not isinstance(prompt, Sequence):
        raise RequestError(
            f"prompt is {type(prompt).__name__}; it must be a str or a sequence of tokens"
        )
    for place, token in enumerate(prompt):
        if not whole(token) or not 0 <= token < vocab:
            raise RequestError(
                f"prompt holds {token!r} at place {place}; tokens are whole numbers from 0 to "
                f"{vocab - 1}"
            )
    return [int(token) for token in prompt]
