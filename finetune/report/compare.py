"""How models compare on the held-out examples, in numbers and in words."""

from dataclasses import dataclass

import numpy as np

from finetune.report.bootstrap import Difference, difference
from finetune.tasks import Task
from finetune.training.scores import SCORES, SampledScore


@dataclass(frozen=True)
class Majority:
    """The scores of always giving the commonest label of the training examples."""

    label: str
    scores: dict[str, float]


def majority(task: Task) -> Majority | None:
    """The majority class on the held-out split; None for tasks without one label a text."""
    if task.kind != "classification":
        return None
    counts = np.bincount([e.label for e in task.split("train") if e.label is not None])
    commonest = int(counts.argmax())
    labels = np.array([example.label for example in task.held_out()])
    predicted = np.full_like(labels, commonest)
    scores = {name: float(function(predicted, labels)) for name, function in SCORES.items()}
    return Majority(task.labels[commonest], scores)


def gains(scores: dict[str, SampledScore], baseline: str) -> dict[str, Difference]:
    """Points of every model over `baseline`, on the same examples."""
    return {
        name: difference({"": [own]}, {"": [scores[baseline]]})
        for name, own in scores.items()
        if name != baseline
    }


def in_words(name: str, baseline: str, score: str, gain: Difference, where: str) -> str:
    """One sentence on a gain; `where` says which examples it was measured on."""
    points = f"{abs(gain.points):.1f} points of {score}"
    size = f"{points} {'above' if gain.points >= 0 else 'below'} {baseline}"
    sentence = f"{name} is {size} on {where} (95% interval {gain.low:+.1f} to {gain.high:+.1f})"
    if gain.is_outside:
        return f"{sentence}."
    return f"{sentence}: the interval includes 0, so these examples do not show a difference."
