"""Training that can be killed at any moment and goes on where it was.

Everything that the next step depends on is in one file, replaced in one move: the weights, the
optimizers' memory, the number of steps done. The batches follow from the recipe and the step
(:mod:`helpers.lm.windows`), so a run that was killed ten times ends with the weights of one that
was not.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from helpers.lm import datacard, optimizers, text, tokenizer
from helpers.lm.arithmetic import fast_arithmetic
from helpers.lm.model import Transformer
from helpers.lm.recipes import Recipe
from helpers.lm.windows import Windows

#: windows of validation text that each point of the curve is measured on
VALIDATION_WINDOWS = 24


def next_token_loss(
    logits: Tensor, targets: Tensor, teacher_logits: Tensor | None = None
) -> Tensor:
    """Mean loss in nats per token.

    Without a teacher, minus the log-probability of the token that came; with one, the divergence
    of the student from the teacher's whole distribution, ``KL(teacher || student)`` (Hinton et al.,
    *Distilling the Knowledge in a Neural Network*, 2015, at temperature 1).

    Parameters
    ----------
    logits : Tensor [B, T, V]
    targets : Tensor of int64 [B, T]
    teacher_logits : Tensor [B, T, V], optional

    Examples
    --------
    A model that knows nothing spreads its belief over the vocabulary:

    >>> loss = next_token_loss(torch.zeros(1, 2, 4096), torch.tensor([[3, 7]]))
    >>> round(loss.item() / math.log(2), 6)  # bits per token
    12.0
    """
    logits = logits.float().flatten(0, 1)  # [B, T, V] -> [B T, V]
    if teacher_logits is None:
        return F.cross_entropy(logits, targets.flatten())
    wanted = F.log_softmax(teacher_logits.float().flatten(0, 1), dim=-1)
    given = F.log_softmax(logits, dim=-1)
    return F.kl_div(given, wanted, log_target=True, reduction="batchmean")


def weights_fingerprint(model: Transformer) -> str:
    """SHA-256 over names and values of all weights."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()


class Validation:
    """Bits per byte on fixed windows of the validation text: quick, for a curve, not for a card.

    Windows lie across documents here, and the end tokens between them cost bits but have no bytes;
    :mod:`helpers.lm.evaluate` has the exact rule.
    """

    def __init__(self, documents, context: int, coder: tokenizer.Tokenizer):
        windows = Windows(coder.encode_many([d.text for d in documents]), context, coder.end)
        rows = windows.take(0, min(VALIDATION_WINDOWS, windows.per_epoch))
        self.rows = torch.from_numpy(rows)  # [windows, context + 1]
        sizes = [0 if t == coder.end else len(coder.token_bytes(t)) for t in range(len(coder))]
        self.bytes = int(torch.tensor(sizes)[self.rows[:, 1:]].sum())

    @torch.no_grad()
    def bits_per_byte(self, model: Transformer) -> float:
        nats = 0.0
        for row in self.rows.to(model.device).split(4):
            with fast_arithmetic(model.device):
                logits = model(row[:, :-1])
            nats += next_token_loss(logits, row[:, 1:]).item() * row[:, 1:].numel()
        return nats / math.log(2) / self.bytes


def collect(name: str) -> text.Corpus:
    """The text a recipe names, from the running Python."""
    return text.corpus() if name == "corpus" else text.split(text.stranger_documents())


class Run:
    """One training run in its folder.

    Parameters
    ----------
    recipe : Recipe
    folder : Path
        Holds ``state.pt``; a run that is there is continued.
    device : str
    teacher : Transformer, optional
        Needed if the recipe names one.
    corpus : text.Corpus, optional
        What the recipe's ``text`` names, collected from the running Python, unless given.
    start : Transformer, optional
        Whose weights to go on from, of the recipe's sizes; new ones, from the recipe's seed, unless
        given. It stays as it is.
    warm_up : int
        Steps in which the learning rate rises.

    Raises
    ------
    ValueError
        The folder holds a run of another recipe, from another start or on another text; the teacher
        is missing; the start has other sizes.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        device: str = "cpu",
        teacher: Transformer | None = None,
        corpus: text.Corpus | None = None,
        start: Transformer | None = None,
        warm_up: int = optimizers.WARM_UP,
    ):
        if (recipe.teacher is None) != (teacher is None):
            raise ValueError(
                f"teacher is {'missing' if teacher is None else 'given'}; this recipe "
                + (
                    f"distils from {recipe.teacher!r}"
                    if recipe.teacher
                    else "learns from text alone"
                )
            )
        if teacher is not None and teacher.config.vocab != recipe.config.vocab:
            raise ValueError(
                f"teacher has a vocabulary of {teacher.config.vocab}; the student's is "
                f"{recipe.config.vocab}: they must have one tokenizer"
            )
        if start is not None and start.config != recipe.config:
            raise ValueError(f"start has {start.config}; it must have the recipe's {recipe.config}")
        self.recipe, self.folder, self.warm_up = recipe, Path(folder), warm_up
        self.folder.mkdir(parents=True, exist_ok=True)
        coder = tokenizer.load()
        corpus = corpus or collect(recipe.text)
        #: what must be the same when the run is continued
        self.identity = {
            "recipe": recipe.to_dict(),
            "text": datacard.fingerprint(corpus.train),
            "teacher": None if teacher is None else weights_fingerprint(teacher),
            "start": None if start is None else weights_fingerprint(start),
            "warm_up": warm_up,
        }
        context = recipe.config.context
        encoded = coder.encode_many([d.text for d in corpus.train])
        self.windows = Windows(encoded, context, coder.end, recipe.seed)
        self.validation = Validation(corpus.validation, context, coder)
        self.model = Transformer(recipe.config, seed=recipe.seed).to(device)
        if start is not None:
            self.model.load_state_dict(start.state_dict())
        self.teacher = teacher.to(device) if teacher is not None else None
        self.optimizers = optimizers.build(self.model, recipe.learning_rate, recipe.weight_decay)
        self.step, self.seconds, self.curve, self.losses = 0, 0.0, [], []
        if self.path.exists():
            self._restore()

    @property
    def path(self) -> Path:
        return self.folder / "state.pt"

    def _restore(self) -> None:
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            # runs of a time when all began with new weights do not say so
            state = {"start": None, "warm_up": optimizers.WARM_UP} | state
            identity = {name: state[name] for name in self.identity}
            self.step, self.seconds = state["step"], state["seconds"]
            self.curve, self.losses = state["curve"], state["losses"]
            weights, memories = state["model"], state["optimizers"]
        except Exception as error:  # whatever a damaged or foreign file makes of itself
            raise ValueError(
                f"{self.path} is no saved run ({type(error).__name__}); remove it to start anew"
            ) from error
        for what, here in self.identity.items():
            if identity[what] != here:
                raise ValueError(
                    f"{self.path} holds a run with another {what}; choose another folder or "
                    "remove it"
                )
        self.model.load_state_dict(weights)
        for optimizer, memory in zip(self.optimizers, memories, strict=True):
            optimizer.load_state_dict(memory)

    def save(self) -> None:
        """Write all that the next step needs; whoever reads sees the old file or the new one."""
        state = {
            **self.identity,
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "seconds": self.seconds,
            "curve": self.curve,
            "losses": self.losses,  # since the curve's last point
        }
        scratch = self.path.with_suffix(".part")
        try:
            with open(scratch, "wb") as stream:
                torch.save(state, stream)
                stream.flush()
                os.fsync(stream.fileno())  # else a power cut may leave the name without the content
            os.replace(scratch, self.path)
        finally:
            scratch.unlink(missing_ok=True)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of a step, each [B, T]."""
        rows = self.windows.take(step * self.recipe.windows, self.recipe.windows)
        rows = torch.from_numpy(rows).to(self.model.device)  # [windows, context + 1]
        length = self.recipe.length(step)
        # [windows, context] -> [B, T], B * T = windows * context
        return rows[:, :-1].reshape(-1, length), rows[:, 1:].reshape(-1, length)

    def advance(self) -> float:
        """Make one step; returns its loss in nats per token.

        Raises
        ------
        RuntimeError
            If the loss is not finite: the weights are lost, what was saved is not.
        """
        inputs, targets = self.batch(self.step)
        wanted = None
        with fast_arithmetic(self.model.device):
            if self.teacher is not None:
                with torch.no_grad():
                    wanted = self.teacher(inputs)
            logits = self.model(inputs)
        loss = next_token_loss(logits, targets, wanted)
        if not loss.isfinite():
            raise RuntimeError(
                f"the loss is {loss.item()} at step {self.step}: a smaller learning rate than "
                f"{self.recipe.learning_rate} may help"
            )
        loss.backward()
        factor = optimizers.learning_rate_factor(
            self.step, self.recipe.steps, self.warm_up, self.recipe.cool_down
        )
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.recipe.learning_rate * factor
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        return loss.item()

    def finish(
        self,
        measure_every: int = 100,
        save_every_s: float = 60.0,
        tell: Callable[[str], None] = print,
    ) -> Transformer:
        """Train to the last step and return the model; saves as it goes.

        ``curve`` gets a point every ``measure_every`` steps: step, mean training loss since the
        last point (nats per token), bits per byte on the validation windows, seconds so far.
        """
        saved_at = time.monotonic()
        while self.step < self.recipe.steps:
            started = time.perf_counter()
            self.losses.append(self.advance())
            last = self.step == self.recipe.steps
            if self.step % measure_every == 0 or last:
                bits = self.validation.bits_per_byte(self.model)
                self.seconds += time.perf_counter() - started
                mean = sum(self.losses) / len(self.losses)
                self.curve.append([self.step, mean, bits, self.seconds])
                self.losses = []
                tell(
                    f"step {self.step:>5} of {self.recipe.steps}: {mean:.3f} nats per token, "
                    f"{bits:.3f} bits per byte on validation text, {self.seconds:.0f} s"
                )
            else:
                self.seconds += time.perf_counter() - started
            if last or time.monotonic() - saved_at > save_every_s:
                self.save()
                saved_at = time.monotonic()
        return self.model
