"""Training: the loop, what it leaves behind, how well a model does, and the same for language models."""

from ..core.explain import at_the_door as _at_the_door
from .history import History
from .language import detached, fit_language_model, perplexity
from .loop import fit, measure
from .metrics import Evaluation, accuracy, confusion_matrix, evaluate, f1, precision, r2, recall

__all__ = ["Evaluation", "History", "accuracy", "confusion_matrix", "detached", "evaluate", "f1", "fit",
           "fit_language_model", "measure", "perplexity", "precision", "r2", "recall"]

_at_the_door(globals(), __all__)
