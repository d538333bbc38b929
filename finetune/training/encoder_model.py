"""What every model on an encoder shares: its embeddings and layers, run in one place."""

from paddle import nn

PAD_BIAS = -1e4  # added to the attention scores of padding, as PaddleNLP's encoders do


class EncoderModel(nn.Layer):
    """An encoder of PaddleNLP's shape: embeddings, a stack of `nn.TransformerEncoderLayer`."""

    kind: str
    """The kind of task, a key of `kinds.KINDS`; "embedding" for a model of no task."""
    reads_first_row = True
    """Whether `head` reads nothing but row 0, [CLS], of the last layer's output."""

    def __init__(self, encoder: nn.Layer):
        super().__init__()
        self.encoder = encoder

    @property
    def layers(self) -> nn.LayerList:
        """The transformer layers, first to last."""
        return self.encoder.encoder.layers

    def states(self, input_ids, token_type_ids) -> list:
        """Output of the embeddings and of each layer: layers + 1 tensors [B, L, H]."""
        mask = self.attention_bias(input_ids)
        states = [self.encoder.embeddings(input_ids=input_ids, token_type_ids=token_type_ids)]
        for layer in self.layers:
            states.append(layer(states[-1], mask))
        return states

    def padding(self, input_ids):
        """float32 [B, L]: 1 for padding."""
        return (input_ids == self.encoder.config.pad_token_id).astype("float32")

    def attention_bias(self, input_ids):
        """[B, 1, 1, L]: 0 for tokens, a large negative number for padding."""
        return (self.padding(input_ids) * PAD_BIAS).unsqueeze([1, 2])
