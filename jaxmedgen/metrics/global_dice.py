"""Dice over a whole data set, numerator and denominator accumulated case by case.

Not the mean of the cases' Dice: large structures weigh more, and an empty case cannot be undefined.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int


@dataclasses.dataclass(frozen=True)
class GlobalDice:
    """Running sums of a soft Dice with probabilities, ``(2 sum p y + s) / (sum p + sum y + s)``.

    Start from ``GlobalDice(classes)`` and go on with what `add` returns.

    Attributes:
        classes: label values, the background included (and not scored).
        smooth: s.
        overlap: sums of p y by foreground class, float64.
        size: sums of p + y likewise.
    """

    classes: int = 2
    smooth: float | int = 1.0
    overlap: tuple[float, ...] = ()
    size: tuple[float, ...] = ()

    def add(
        self, probabilities: Float[np.ndarray, "*s k"], label: Int[np.ndarray, "*s"]
    ) -> "GlobalDice":
        """With one more case, or a batch of them.

        Args:
            probabilities: of all classes, background first.
            label: class indices.

        Raises:
            ValueError: another number of classes, or shapes that differ.
        """
        if probabilities.shape != (*label.shape, self.classes):
            raise ValueError(
                f"GlobalDice: probabilities {probabilities.shape} must be the label's shape "
                f"{label.shape} and {self.classes} classes"
            )
        overlap, size = [], []
        for k in range(1, self.classes):
            p, y = probabilities[..., k].astype(np.float64), label == k
            overlap.append(float(p[y].sum()))
            size.append(float(p.sum() + y.sum()))
        zero = (0.0,) * (self.classes - 1)
        return dataclasses.replace(
            self,
            overlap=tuple(a + b for a, b in zip(self.overlap or zero, overlap)),
            size=tuple(a + b for a, b in zip(self.size or zero, size)),
        )

    @property
    def per_class(self) -> tuple[float, ...]:
        """Of each foreground class; 1 before anything was added."""
        zero = (0.0,) * (self.classes - 1)
        pairs = zip(self.overlap or zero, self.size or zero)
        return tuple((2 * o + self.smooth) / (s + self.smooth) for o, s in pairs)

    @property
    def value(self) -> float:
        """Mean over the foreground classes."""
        return float(np.mean(self.per_class))
