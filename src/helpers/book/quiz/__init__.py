"""Questions: ``quiz.show("roofline", group="ridge")`` in a notebook shows a set of them.

:mod:`.bank` holds and checks them, :mod:`.values` computes their numbers, :mod:`.answers` reads
and judges a typed number, :mod:`.component` draws them.
"""

from .bank import Bank, QuestionError, bank
from .component import QuizView, predictions, predictions_return, show

__all__ = ["Bank", "QuestionError", "QuizView", "bank", "predictions", "predictions_return", "show"]
