"""The form in which a model is deployed: the same outputs, less to compute."""

from paddle import nn

from finetune.training.encoder_model import EncoderModel


def deployed_form(model: EncoderModel) -> nn.Layer:
    """The layer to export: the same outputs, with as little to compute as its head allows."""
    return DeployedClassifier(model) if model.reads_first_row else model


class DeployedClassifier(nn.Layer):
    """A model whose last layer is computed for [CLS] only.

    Its head reads nothing but row 0 of the last layer's output, so its queries, its output
    projection and its feed-forward run on one row a sample; keys and values need all of them.
    Of an encoder layer's 12 H^2 multiplications a token, 2 H^2 remain.
    """

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, token_type_ids):
        """What the model's head gives for int64 [B, L] twice."""
        model = self.model
        mask = model.attention_bias(input_ids)
        state = model.encoder.embeddings(input_ids=input_ids, token_type_ids=token_type_ids)
        *layers, last = model.layers
        for layer in layers:
            state = layer(state, mask)
        return model.head(self._first_row(last, state, mask))

    @staticmethod
    def _first_row(layer, state, mask):
        """Row 0 of a post-norm `nn.TransformerEncoderLayer`'s output: [B, 1, H]."""
        first = state[:, :1]
        attended = layer.self_attn(first, state, state, mask)
        first = layer.norm1(first + attended)
        return layer.norm2(first + layer.linear2(layer.activation(layer.linear1(first))))
