"""The objective of whole-word-masking pre-training."""

from collections.abc import Callable, Mapping

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from data_pipeline.loading.loader import Batch
from data_pipeline.shards.format import Manifest
from pretrain.encoders.compute import Compute
from pretrain.encoders.states import PLAIN, hidden_states
from pretrain.objectives.masking import IGNORED, mask_whole_words
from pretrain.objectives.settings import Masking


class MaskedLM(nn.Layer):
    """An encoder under BERT's masked-language-model head, decoder tied to the word embeddings.

    Only the hidden tokens go through the head: the decoder is the widest product of all.
    """

    weighted = True  # the loss of a step is the mean over its hidden tokens

    def __init__(
        self,
        encoder: nn.Layer,
        manifest: Manifest,
        masking: Masking,
        compute: Compute = PLAIN,
        cost: Callable[[int, int], int] | None = None,
        constants: Mapping[str, float] | None = None,
        identity: Mapping[str, str] | None = None,
    ):
        super().__init__()
        config = encoder.config
        self.encoder = encoder
        self.transform = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size)
        self.bias = self.create_parameter([config.vocab_size], is_bias=True)
        self.manifest, self.masking, self.compute = manifest, masking, compute
        self.cost, self.constants = cost, dict(constants or {})
        self.identity = dict(identity or {})

    def sample(self, batch: Batch, random: np.random.Generator) -> tuple[list[np.ndarray], int]:
        """([input_ids, attention_mask, positions of the hidden tokens in the flat batch, labels],
        number of hidden tokens)."""
        seen, labels = mask_whole_words(
            batch.input_ids,
            batch.word_start,
            self.manifest.special_ids,
            self.manifest.vocab_size,
            self.masking,
            random,
        )
        positions = np.flatnonzero(labels != IGNORED)
        if len(positions) == 0:  # a batch of very few words: predict its first token, unmasked
            positions, labels = np.array([0]), batch.input_ids
        arrays = [seen, batch.attention_mask, positions, labels.ravel()[positions]]
        return arrays, len(positions)

    def targets(self, *inputs: Tensor) -> list[Tensor]:
        """Nothing: the labels are inputs."""
        return []

    def forward(
        self, input_ids: Tensor, mask: Tensor, positions: Tensor, labels: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(cross-entropy per hidden token, its parts by name, detached)."""
        layers = len(self.encoder.encoder.layers)
        states = hidden_states(self.encoder, input_ids, mask, layers, self.compute)
        hidden = states.reshape([-1, states.shape[-1]]).index_select(positions)  # [hidden, H]
        hidden = self.norm(F.gelu(self.transform(hidden)))
        table = self.encoder.embeddings.word_embeddings.weight
        logits = paddle.matmul(hidden, table, transpose_y=True) + self.bias
        loss = F.cross_entropy(logits, labels)
        accuracy = (logits.argmax(axis=-1) == labels).astype("float32").mean()
        return loss, {"total": loss.detach(), "accuracy": accuracy.detach()}
