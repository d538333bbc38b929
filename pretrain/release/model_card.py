"""The model card of a release, from the facts in its release.json."""

import yaml

CARD = """\
# {name}

{kind} of {num_hidden_layers} layers, {hidden_size} wide, {millions:.1f}M parameters,
distilled without a task in mind: its self-attention relations follow those of layer
{teacher_layer} of a larger encoder, `{teacher}`.

{relations}

```python
{usage}
```

| | |
|---|---|
| optimiser steps | {steps:,} of {total_steps:,} |
| samples seen | {samples_seen:,} |
| data fingerprint | `{data_fingerprint}` |
| text | {text} |
| longest training sample | {max_length} tokens |
| vocabulary | {vocab_size:,} tokens, `{vocab_sha256}` |
| tokenizer | WordPiece, {case} |
| last losses | {losses} |

## What is not trained

{positions}

{reach} These weights are as they were initialised ({initialisation}), and are meant to be trained
by fine-tuning:

{untrained}

## Recipe

```yaml
{recipe}```

## Checksums (SHA-256)

{checksums}
"""


SHOWN = ("num_hidden_layers", "hidden_size")
RELATIONS = {
    "token": "between tokens (MiniLMv2, https://arxiv.org/abs/2012.15828)",
    "sample": "between samples (PP-MiniLM)",
    "head": "between heads (PP-MiniLM)",
}
USAGE = {
    "paddlenlp": """\
from paddlenlp.transformers import PPMiniLMForSequenceClassification, PPMiniLMModel
encoder = PPMiniLMModel.from_pretrained("{name}")
classifier = PPMiniLMForSequenceClassification.from_pretrained("{name}", num_classes=3)""",
    "hf": """\
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained("{name}")
encoder = AutoModel.from_pretrained("{name}")
classifier = AutoModelForSequenceClassification.from_pretrained("{name}", num_labels=3)""",
}
WITHOUT_HIDDEN = (
    "Relations of layer {layer} reach its Q, K and V projections and everything below, and "
    "nothing after them."
)
WITH_HIDDEN = (
    "Relations of layer {layer}, of its Q, K and V and of what it puts out, reach everything up "
    "to that layer, and nothing after it. The pooler starts as the identity."
)
UNTRAINED = "The student is as it was before its first step; nothing in it is trained."


def model_card(facts: dict) -> str:
    """Markdown for the facts of `pretrain.release.write.release`."""
    recipe, data = facts["recipe"], facts["data"]
    student, teacher = recipe["student"], recipe["teacher"]
    losses = {k: v for k, v in facts["metrics"].items() if k.startswith("loss/")}
    reach = WITH_HIDDEN if recipe["relations"]["hidden"] else WITHOUT_HIDDEN
    return CARD.format(
        **{k: facts[k] for k in ("name", "steps", "data_fingerprint", "vocab_sha256")},
        **{k: student[k] for k in SHOWN},
        **{k: data[k] for k in ("max_length", "vocab_size")},
        kind="A Chinese encoder" if least_han_share(data) else "An encoder",
        teacher=teacher["path"],
        teacher_layer=teacher["layer"],
        relations=relations_of(facts["relation_weights"], recipe["relations"]),
        usage=USAGE[facts["format"]].format(name=facts["name"]),
        text=text_of(data),
        case="lower-cased, accents removed" if data["lower_case"] else "case kept",
        positions=positions_of(student["max_position_embeddings"], data["max_length"]),
        reach=reach.format(layer=student["layer"]) if facts["steps"] else UNTRAINED,
        initialisation=initialisation_of(facts["recipe"]),
        millions=facts["parameters"] / 1e6,
        total_steps=recipe["optimizer"]["total_steps"],
        samples_seen=facts["steps"] * recipe["batch"]["global_batch_size"],
        losses=", ".join(f"{name} {value:.4g}" for name, value in losses.items()) or "none",
        untrained="\n".join(f"- `{name}`" for name in facts["untrained_weights"]) or "- none",
        recipe=yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True),
        checksums="\n".join(f"- `{name}`: `{value}`" for name, value in facts["sha256"].items()),
    )


def least_han_share(data: dict) -> float:
    """The share of Han characters that every sentence of the text has at least; 0 if unknown."""
    return data["settings"].get("clean", {}).get("min_chinese_share", 0)


def text_of(data: dict) -> str:
    """What the text of the shards is, and which rules changed it before it became ids."""
    share, clean = least_han_share(data), data["settings"].get("clean", {})
    script = f"at least {share:.0%} Han characters in each sentence" if share else "any script"
    rules = [name for name, is_on in clean.items() if is_on is True and name != "split"]
    rules += clean.get("rules", [])
    return f"{data['samples']:,} samples, {data['tokens']:,} tokens; {script}" + (
        f"; cleaning rules: {', '.join(rules)}" if rules else ""
    )


def relations_of(weights: dict[str, float], settings: dict) -> str:
    """Which relations were compared, with their weights."""
    lines = [
        f"- {weight:g}: {RELATIONS.get(name, f'`{name}`')}"
        for name, weight in weights.items()
        if weight
    ]
    if settings["hidden"]:
        lines.append(f"- {settings['hidden']:g}: the same of output states, besides Q, K and V")
    return f"Relations of {settings['heads']} relation heads, by weight:\n\n" + "\n".join(lines)


def positions_of(positions: int, max_length: int) -> str:
    """Which rows of the position table no sample has reached."""
    if positions <= max_length:
        return f"All {positions} positions occurred in training."
    return (
        f"No training sample is longer than {max_length} tokens: of {positions} positions, those "
        f"from number {max_length + 1} on are as they were initialised. Cut texts to {max_length} "
        "tokens, or fine-tune on longer ones."
    )


def initialisation_of(recipe: dict) -> str:
    """What weights are before the first step."""
    student, initial = recipe["student"], recipe["initial_weights"]
    fresh = f"normal, standard deviation {student['initializer_range']:g}; biases 0, norms 1"
    layers = student["from_teacher_layers"]
    if layers:
        numbers = ", ".join(map(str, layers))
        return (
            f"embeddings and layers: copied from layers {numbers} of the teacher; pooler: {fresh}"
        )
    parts = [fresh]
    if initial["words"] == "cooccurrence":
        parts.append("words from the co-occurrences of the training text")
    if initial["local_attention"]:
        parts.append("heads that each look at one neighbour")
    if initial["neighbours"]:
        parts.append("a first layer that adds what each neighbour makes likely")
    return "; then ".join(parts)
