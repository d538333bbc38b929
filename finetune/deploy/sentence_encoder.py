"""An encoder that gives one vector a text."""

from pathlib import Path

from data_pipeline.base.errors import UserError
from finetune.deploy.pooling import POOLINGS
from finetune.settings import EmbeddingSettings
from finetune.training.encoder_model import EncoderModel
from finetune.training.files import check_length
from pretrain.encoders import weights
from pretrain.encoders.load import load_encoder

SMALLEST_NORM = 1e-12


class SentenceEncoder(EncoderModel):
    """Vectors [B, H] for `input_ids` and `token_type_ids`, both int64 [B, L]."""

    kind = "embedding"

    def __init__(self, encoder, settings: EmbeddingSettings):
        super().__init__(encoder)
        self.pooling, self.normalise = POOLINGS[settings.pooling], settings.normalise
        self.reads_first_row = self.pooling.reads_first_row

    def forward(self, input_ids, token_type_ids):
        """float32 [B, H]; of length 1 if normalised."""
        state = self.states(input_ids, token_type_ids)[-1]
        return self.scaled(self.pooling.pool(state, 1 - self.padding(input_ids)))

    def head(self, state):
        """[B, H] from row 0 of the last layer's output [B, 1, H]; `reads_first_row` only."""
        return self.scaled(self.pooling.pool(state, None))

    def scaled(self, vectors):
        """[B, H], each divided by its length if the settings say so."""
        if not self.normalise:
            return vectors
        length = (vectors * vectors).sum(-1, keepdim=True).sqrt()
        return vectors / length.clip(min=SMALLEST_NORM)


def load_sentence_encoder(
    directory: Path | str, settings: EmbeddingSettings, file: str = weights.WEIGHTS
) -> SentenceEncoder:
    """The encoder of a directory (released, a teacher's, or below a classifier that is not
    pruned), in evaluation mode. UserError when there is none, or texts may be longer than its
    positions."""
    check_length(directory, settings.max_length)
    encoder = load_encoder(directory, file)
    if hasattr(encoder, "embeddings_project"):
        raise UserError(
            f"{directory}: {type(encoder).__name__} projects its embeddings, which sentence "
            "embeddings do not support; distill a student from it"
        )
    model = SentenceEncoder(encoder, settings)
    model.eval()
    return model
