"""The encoders that benchmarks/distill_step.py trains, and the sizes of a step, for all contenders.
Imports nothing, because one contender runs in another interpreter."""

VOCABULARY, HEADS = 21128, 64
GROUP, UPDATE = 16, 128  # sequences of a batch, and of an update of the weights
SIZES = {
    "published": {"teacher": (24, 1024, 16), "teacher_layer": 20, "student": (6, 768, 12)},
    "small": {"teacher": (4, 256, 4), "teacher_layer": 4, "student": (3, 256, 4)},
}


def encoder_fields(layers: int, hidden: int, heads: int, act: str) -> dict:
    """What every contender's configuration says of an encoder of these sizes."""
    return {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "intermediate_size": 4 * hidden,
        "hidden_act": act,
        "vocab_size": VOCABULARY,
        "pad_token_id": 0,
    }
