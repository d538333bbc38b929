"""The model card of a release, from the facts in its release.json."""

import yaml

CARD = """\
# {name}

A Chinese encoder of {num_hidden_layers} layers, {hidden_size} wide, {millions:.1f}M parameters,
distilled without a task in mind: its self-attention relations were made to follow a larger
encoder's, between tokens (MiniLMv2, https://arxiv.org/abs/2012.15828) and between samples
(PP-MiniLM).

```python
from paddlenlp.transformers import PPMiniLMForSequenceClassification, PPMiniLMModel
encoder = PPMiniLMModel.from_pretrained("{name}")
classifier = PPMiniLMForSequenceClassification.from_pretrained("{name}", num_classes=3)
```

`model.safetensors` holds the same weights as `model_state.pdparams`, without a pickle.

| | |
|---|---|
| optimiser steps | {steps:,} of {total_steps:,} |
| samples seen | {samples_seen:,} |
| data fingerprint | `{data_fingerprint}` |
| vocabulary | `{vocab_sha256}` |
| last losses | {losses} |

## What is not trained

{reach} These weights are as they were initialised (normal, standard deviation
{initializer_range}; biases 0, norms 1), and are meant to be trained by fine-tuning:

{untrained}

## Recipe

```yaml
{recipe}```

## Checksums (SHA-256)

{checksums}
"""


SHOWN = ("num_hidden_layers", "hidden_size", "initializer_range")
WITHOUT_HIDDEN = (
    "Relations of layer {layer} reach its Q, K and V projections and everything below, and "
    "nothing after them."
)
WITH_HIDDEN = (
    "Relations of layer {layer}, of its Q, K and V and of what it puts out, reach everything up "
    "to that layer, and nothing after it. The pooler starts as the identity."
)


def model_card(facts: dict) -> str:
    """Markdown for the facts of `pretrain.release.write.release`."""
    recipe = facts["recipe"]
    losses = {k: v for k, v in facts["metrics"].items() if k.startswith("loss/")}
    return CARD.format(
        **{k: facts[k] for k in ("name", "steps", "data_fingerprint", "vocab_sha256")},
        **{k: recipe["student"][k] for k in SHOWN},
        reach=(WITH_HIDDEN if recipe["relations"]["hidden"] else WITHOUT_HIDDEN).format(
            layer=recipe["student"]["layer"]
        ),
        millions=facts["parameters"] / 1e6,
        total_steps=recipe["optimizer"]["total_steps"],
        samples_seen=facts["steps"] * recipe["batch"]["global_batch_size"],
        losses=", ".join(f"{name} {value:.4g}" for name, value in losses.items()) or "none",
        untrained="\n".join(f"- `{name}`" for name in facts["untrained_weights"]),
        recipe=yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True),
        checksums="\n".join(f"- `{name}`: `{value}`" for name, value in facts["sha256"].items()),
    )
