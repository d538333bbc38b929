"""Losses of fine-tuning: labels, a teacher's logits, a teacher's hidden states."""

import numpy as np
import paddle
import paddle.nn.functional as F

from finetune.training.batches import IGNORE


def soft_cross_entropy(student, teacher, temperature: float = 1.0):
    """-sum softmax(teacher/T) log softmax(student/T), times T^2, mean over rows; both [B, C].

    The T^2 keeps the size of the gradient independent of T (Hinton et al., arXiv 1503.02531).
    """
    target = F.softmax(teacher / temperature, axis=-1)
    return -(target * F.log_softmax(student / temperature, axis=-1)).sum(-1).mean() * temperature**2


def soft_binary_cross_entropy(student, teacher, temperature: float = 1.0):
    """Binary cross-entropy of logits / T against the teacher's probabilities at T, times T^2, mean
    over rows and labels; both [B, labels]."""
    target = F.sigmoid(teacher / temperature)
    loss = F.binary_cross_entropy_with_logits(student / temperature, target)
    return loss * temperature**2


def counted(logits, labels):
    """The rows of logits [B, C], or of [B, L, C] for labels [B, L] with IGNORE, that have a label:
    [n, C]."""
    return logits if logits.ndim == 2 else logits[labels != IGNORE]


def hidden_mse(student: list, teacher: list, attention_mask):
    """Mean squared error of embeddings and layer outputs, summed over states; each [B, L, H].

    Padding does not count: the mean is over the real tokens of `attention_mask` [B, L].
    """
    mask = attention_mask.astype("float32").unsqueeze(-1)
    count = mask.sum() * student[0].shape[-1]
    return paddle.add_n(
        [(((a - b) ** 2) * mask).sum() / count for a, b in zip(student, teacher, strict=True)]
    )


def positive_weights(labels: np.ndarray) -> np.ndarray:
    """float32 [classes]: rows without a label for each with it, from 0 or 1 [n, classes]; 1 for
    labels that no row or every row has."""
    positive = labels.sum(0)
    negative = len(labels) - positive
    return np.where(positive * negative, negative / np.maximum(positive, 1), 1.0).astype("float32")


def class_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """float32 [classes]: n / (classes x count), scikit-learn's "balanced"; 1 where absent."""
    counts = np.bincount(labels, minlength=classes)
    return np.where(counts, len(labels) / (classes * np.maximum(counts, 1)), 1.0).astype("float32")
