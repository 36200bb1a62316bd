"""How the three models of the book were trained: sizes, text, steps."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from helpers.lm.config import ModelConfig


@dataclass(frozen=True)
class Recipe:
    """All that decides a training run but the machine.

    Parameters
    ----------
    config : ModelConfig
    text : str
        ``corpus`` (Python's documentation and source) or ``names`` (of Unicode characters).
    steps : int
        Weight updates.
    windows : int
        Windows of ``config.context`` tokens in one step.
    learning_rate, weight_decay : float
    cool_down : float
        Share of the steps, at the end, in which the learning rate falls to zero. Until then each
        window is cut into two halves, for attention over half the length costs half; long contexts
        are learnt in the cool-down.
    teacher : str, optional
        The shipped model whose distribution is the target instead of the text's next token.
    seed : int
    """

    config: ModelConfig
    text: str
    steps: int
    windows: int
    learning_rate: float
    cool_down: float = 0.4
    weight_decay: float = 0.1
    teacher: str | None = None
    seed: int = 0

    def __post_init__(self):
        if self.text not in ("corpus", "names"):
            raise ValueError(f"text is {self.text!r}; it must be 'corpus' or 'names'")
        for name in ("steps", "windows"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if not 0 <= self.cool_down <= 1:
            raise ValueError(f"cool_down is {self.cool_down}; it must be from 0 to 1")

    @property
    def tokens(self) -> int:
        """Tokens seen in the whole run."""
        return self.steps * self.windows * self.config.context

    def length(self, step: int) -> int:
        """Tokens in a row at ``step``: half a window first, a whole one later."""
        context = self.config.context
        return context // 2 if step < (1 - self.cool_down) * self.steps else context

    def to_dict(self) -> dict:
        return asdict(self)


TARGET = ModelConfig(
    layers=5, d_model=384, heads=8, kv_heads=4, head_dim=32, ffn=1024, vocab=4096, context=1024
)
DRAFT = ModelConfig(
    layers=2, d_model=128, heads=4, kv_heads=2, head_dim=32, ffn=352, vocab=4096, context=1024
)

RECIPES = {
    "target": Recipe(TARGET, text="corpus", steps=1000, windows=8, learning_rate=4e-3),
    "draft": Recipe(
        DRAFT, text="corpus", steps=1000, windows=8, learning_rate=6e-3, teacher="target"
    ),
    "stranger": Recipe(DRAFT, text="names", steps=300, windows=8, learning_rate=6e-3),
}
