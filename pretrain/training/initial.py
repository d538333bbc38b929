"""Weights that a run starts from, by `init_from`: a checkpoint's or an encoder directory's."""

from pathlib import Path

from paddle import nn

from pretrain.encoders import weights
from pretrain.encoders.load import encoder_tensors
from pretrain.training.checkpoint import FILES, MARKER


def load_initial_weights(objective: nn.Layer, path: Path) -> None:
    """Load the weights in `path` into `objective`.

    path: a checkpoint `.../checkpoints/step-N` of a run with the same objective and sizes, or an
    encoder directory (a release, a teacher), whose weights go into the objective's encoder. A
    pooler that is not stored stays as it is. UserError when sizes differ.
    """
    if (path / MARKER).exists():
        weights.load_into(objective, weights.read(path / FILES[0]), str(path))
        return
    tensors = encoder_tensors(weights.read(path))
    for name, value in objective.encoder.state_dict().items():
        if name.startswith("pooler."):
            tensors.setdefault(name, value.numpy())
    weights.load_into(objective.encoder, tensors, str(path))
