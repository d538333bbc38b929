"""What is in a directory of shards, for people: statistics, a picture, decoded samples."""

from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import whole_file
from data_pipeline.shards import format as shards
from data_pipeline.shards.format import Manifest, ShardReader
from data_pipeline.shards.provenance import COLUMNS, INPUTS, read_inputs
from data_pipeline.text import vocab

WORD = "|"


def inspect(directory: Path, count: int, seed: int, picture: Path | None = None) -> dict[str, Any]:
    """Statistics and `count` decoded samples, as plain values; draws the lengths into `picture`.

    Without a picture of its own it is DIRECTORY/lengths.png, or none where that is read-only.
    """
    manifest = Manifest.read(directory)
    reader = ShardReader(directory)
    tokens = vocab.read(Path(directory) / shards.VOCABULARY)
    if vocab.sha256(tokens) != manifest.vocab_sha256:
        raise UserError(f"{directory}/{shards.VOCABULARY}: not the vocabulary of these shards")
    picture_note = _draw(manifest.length_histogram, directory, picture)
    count = min(count, manifest.samples)
    chosen = np.sort(np.random.default_rng(seed).choice(manifest.samples, count, replace=False))
    lengths = np.array(manifest.length_histogram)
    counters = manifest.counters
    return {
        "directory": str(directory),
        "samples": manifest.samples,
        "tokens": manifest.tokens,
        "shards": len(manifest.shards),
        "bytes": sum(shard.bytes for shard in manifest.shards),
        "bytes_per_token": sum(shard.bytes for shard in manifest.shards) / manifest.tokens,
        "vocab_size": manifest.vocab_size,
        "unk_share": manifest.unk_share,
        "max_length": manifest.max_length,
        "mean_length": manifest.tokens / manifest.samples,
        "median_length": int(np.searchsorted(np.cumsum(lengths), manifest.samples / 2)),
        "full_share": lengths[manifest.max_length] / manifest.samples,
        "duplicates": {
            name: counters.get(name, 0)
            for name in ("sentences_exact_duplicate", "documents_near_duplicate")
        },
        "counters": counters,
        "fingerprint": manifest.fingerprint,
        "picture": picture_note,
        "provenance": _provenance(directory, reader, chosen.tolist()),
        "decoded": {
            int(number): decode(ids, starts, tokens)
            for number, ids, starts in zip(chosen, *reader.read(chosen), strict=True)
        },
    }


def _provenance(directory: Path, reader: ShardReader, numbers: list[int]) -> dict[int, dict]:
    """{sample: source, file and document}; of shards that have it."""
    inputs = read_inputs(Path(directory) / INPUTS)
    origins = {}
    for number in numbers:
        place = reader.provenance(number, number + 1)
        if place is not None:
            source, entry, document = (int(getattr(place, name)[0]) for name in COLUMNS)
            file = inputs[entry][0] if entry < len(inputs) else f"input {entry}"
            origins[number] = {"source": source, "file": file, "document": document}
    return origins


def _draw(histogram: list[int], directory: Path, picture: Path | None) -> str:
    """Where the picture is, or why there is none."""
    path = picture or Path(directory) / "lengths.png"
    try:
        draw(histogram, path)
    except OSError as error:
        if picture is not None:
            raise UserError(f"{path}: cannot write the picture: {error.strerror}") from None
        return f"no picture: {directory} is read-only; set --picture FILE"
    return str(path)


def decode(ids: np.ndarray, word_start: np.ndarray, tokens: list[str]) -> str:
    """Tokens as text with `|` before each word."""
    parts = []
    for token, start in zip(ids.tolist(), word_start.tolist(), strict=True):
        if start:
            parts.append(WORD)
        parts.append(tokens[token].removeprefix("##") if not start else tokens[token])
    return "".join(parts).removeprefix(WORD)


def as_text(values: dict[str, Any]) -> str:
    """The statistics as lines for a terminal."""
    lines = [
        f"{values['directory']}  fingerprint {values['fingerprint'][:12]}",
        f"  {values['samples']:,} samples, {values['tokens']:,} tokens, "
        f"{values['shards']} shard(s), "
        f"{values['bytes'] / 1e6:.1f} MB, {values['bytes_per_token']:.2f} bytes a token",
        f"  lengths: mean {values['mean_length']:.1f}, median {values['median_length']}, "
        f"{values['full_share']:.1%} at the limit of {values['max_length']}; {values['picture']}",
        f"  vocabulary: {values['vocab_size']:,} tokens, [UNK] {values['unk_share']:.4%}",
        f"  duplicates left out: {values['duplicates']['sentences_exact_duplicate']:,} sentences, "
        f"{values['duplicates']['documents_near_duplicate']:,} documents",
        "  counters:",
        *(f"    {name:<32}{value:>14,}" for name, value in values["counters"].items()),
        "  samples, | before each word:",
        *(
            f"    #{number}{_origin(values['provenance'].get(number))}: {sample}"
            for number, sample in values["decoded"].items()
        ),
    ]
    return "\n".join(lines)


def _origin(place: dict[str, Any] | None) -> str:
    if place is None:
        return ""
    return f" (source {place['source']}, {place['file']}, document {place['document']:,})"


def draw(histogram: list[int], picture: Path) -> None:
    """The length histogram as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.add_subplot()
    axes.bar(range(len(histogram)), histogram, width=1.0, color="#2b6cb0")
    axes.set_xlabel("tokens in a sample, [CLS] and [SEP] counted")
    axes.set_ylabel("samples")
    total = sum(histogram)
    mean = sum(i * n for i, n in enumerate(histogram)) / max(total, 1)
    axes.axvline(mean, color="#c05621", linewidth=1, label=f"mean {mean:.1f}")
    axes.set_title(f"{total:,} samples", fontsize=10)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    with whole_file(picture) as temporary, temporary.open("wb") as file:
        figure.savefig(file, dpi=120, format="png")
