"""How well a model predicts text, in bits per byte.

Bits per *token* depend on the tokenizer: one with longer tokens has fewer of them, each harder.
Bits per *byte* of the text do not, and a compressor can be measured on the same scale.

The rule for documents of any length. A document of n tokens is fed as the end-of-text token
followed by its first n - 1 tokens, so that each of its n tokens is predicted once. Where that is
longer than the model's context C, windows of C tokens start every C // 2 tokens; the first counts
all its predictions, each later one those that no window before it made. So every byte counts
once, and a prediction sees everything before it or at least ceil(C / 2) tokens. The end of text
after the last token has no bytes and does not count.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from helpers.lm.model import Attend
    from helpers.lm.text import Document
    from helpers.lm.tokenizer import Tokenizer


@dataclass(frozen=True)
class Window:
    """A stretch of a document that is run at once."""

    start: int  # first input
    stop: int  # one past the last
    counted: int  # first input whose prediction counts


def windows(tokens: int, context: int) -> list[Window]:
    """Cut ``tokens`` inputs into windows of at most ``context``.

    Examples
    --------
    >>> for window in windows(tokens=9, context=4):
    ...     print(window)
    Window(start=0, stop=4, counted=0)
    Window(start=2, stop=6, counted=4)
    Window(start=4, stop=8, counted=6)
    Window(start=6, stop=9, counted=8)
    """
    if context < 2:
        raise ValueError(f"context must be 2 tokens or more: {context}")
    found, counted = [], 0
    while counted < tokens:
        start = len(found) * (context // 2)
        stop = min(start + context, tokens)
        found.append(Window(start, stop, counted))
        counted = stop
    return found


def document_bits(
    model,
    documents: Sequence[Sequence[int]],
    end: int = 0,
    context: int | None = None,
    batch_tokens: int = 4096,
    attend: Attend | None = None,
) -> np.ndarray:
    """Bits a model needs for each document, given as token ids.

    Parameters
    ----------
    model : Transformer
        Of any dtype and on any device; probabilities are taken in float32 or better and added up
        in float64.
    documents : sequence of sequences of int
        Without the end-of-text token.
    end : int
        The end-of-text token.
    context : int, optional
        Longest window, at most the model's own context, which is the default.
    batch_tokens : int
        About how many tokens to run at once.
    attend : Attend, optional
        What each token sees; all before it unless given. It gets a batch of windows, each from its
        own beginning: :class:`helpers.lm.sliding.SlidingAttention` fits.

    Returns
    -------
    ndarray [documents]

    Raises
    ------
    ValueError
        A context the model does not have, or a token outside its vocabulary.
    """
    import torch

    longest = model.config.context
    context = longest if context is None else context
    if not 2 <= context <= longest:
        raise ValueError(f"context must be 2 to {longest}, the model's own: {context}")
    streams = [np.array([end, *tokens], dtype=np.int64) for tokens in documents]
    for number, stream in enumerate(streams):
        if stream.min() < 0 or stream.max() >= model.config.vocab:
            token = stream.min() if stream.min() < 0 else stream.max()
            raise ValueError(
                f"documents[{number}] holds token {token}; the model knows 0 to "
                f"{model.config.vocab - 1}"
            )
    jobs = [
        (number, window)
        for number, stream in enumerate(streams)
        for window in windows(len(stream) - 1, context)
    ]
    jobs.sort(key=lambda job: job[1].stop - job[1].start, reverse=True)  # like lengths together
    bits = np.zeros(len(streams))
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            while jobs:
                length = jobs[0][1].stop - jobs[0][1].start
                rows, jobs = (
                    jobs[: max(1, batch_tokens // length)],
                    jobs[max(1, batch_tokens // length) :],
                )
                tokens = torch.full((len(rows), length), end)  # [B, T], filled up on the right
                counts = torch.zeros(len(rows), length, dtype=torch.bool)
                targets, owners = [], []
                for row, (number, window) in enumerate(rows):
                    size = window.stop - window.start
                    stream = streams[number]
                    tokens[row, :size] = torch.from_numpy(stream[window.start : window.stop])
                    counts[row, window.counted - window.start : size] = True
                    targets.append(stream[window.counted + 1 : window.stop + 1])
                    owners += [number] * len(targets[-1])
                hidden = model.hidden(tokens.to(model.device), attend=attend)  # [B, T, C]
                # [B, T, C] -> [N, C]: logits of the counted predictions only
                logits = model.logits(hidden[counts.to(model.device)])
                logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
                target = torch.from_numpy(np.concatenate(targets)).to(model.device)
                nats = torch.nn.functional.cross_entropy(logits, target, reduction="none")  # [N]
                np.add.at(bits, owners, nats.double().cpu().numpy() / np.log(2))
    finally:
        model.train(was_training)
    return bits


def bits_per_byte(
    model,
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    context: int | None = None,
    batch_tokens: int = 4096,
    attend: Attend | None = None,
) -> float:
    """Bits a model needs per byte of UTF-8 text, over all documents together.

    Parameters
    ----------
    model : Transformer
    documents : iterable of Document
        As ``corpus().held_out``.
    tokenizer : Tokenizer
    context, batch_tokens, attend
        As for `document_bits`.

    Returns
    -------
    float
        Long documents weigh more: it is all bits over all bytes, no mean of means.
    """
    documents = list(documents)
    length = sum(document.bytes for document in documents)
    if not length:
        raise ValueError("documents hold no text: nothing to measure")
    tokens = tokenizer.encode_many([document.text for document in documents])
    bits = document_bits(model, tokens, tokenizer.end, context, batch_tokens, attend)
    return float(bits.sum() / length)
