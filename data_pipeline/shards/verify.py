"""Recomputes everything that a manifest claims and names each kind of damage with its file."""

from pathlib import Path

import numpy as np

from data_pipeline.base.errors import UserError
from data_pipeline.base.progress import Progress
from data_pipeline.shards import format as shards
from data_pipeline.shards.format import Manifest, ShardInfo
from data_pipeline.text import vocab
from data_pipeline.text.samples import Ragged


def verify(directory: Path, *, quiet: bool = False) -> list[str]:
    """All damage found, one line each, the file first; empty when the shards are whole.

    UserError when there is no readable manifest.
    """
    directory = Path(directory)
    manifest = Manifest.read(directory)
    damage = _vocabulary(directory, manifest)
    histogram = np.zeros(manifest.max_length + 1, np.int64)
    unreadable = False
    with Progress("verify", manifest.tokens, "token", quiet=quiet) as progress:
        for info in manifest.shards:
            path = directory / info.file
            try:
                samples = _read(path, info)
            except UserError as error:
                damage.append(str(error))
                unreadable = True
                continue
            found = faults(samples, info, manifest)
            damage += [f"{path}: {fault}" for fault in found]
            lengths = np.clip(samples.lengths, 0, manifest.max_length)
            histogram += np.bincount(lengths, minlength=len(histogram))
            progress.add(len(samples.ids))
    return damage + _totals(
        directory / shards.MANIFEST, manifest, None if unreadable else histogram
    )


def faults(samples: Ragged, info: ShardInfo, manifest: Manifest) -> list[str]:
    """What is wrong with the content of one shard."""
    ids, offsets = samples.ids, samples.offsets
    if offsets[0] != 0 or offsets[-1] != len(ids) or (np.diff(offsets) < 2).any():
        return ["the offsets do not cut the tokens into samples"]
    found = []
    if len(samples) != info.samples:
        found.append(f"{len(samples)} samples, the manifest says {info.samples}")
    if len(ids) != info.tokens:
        found.append(f"{len(ids)} tokens, the manifest says {info.tokens}")
    if len(ids) and int(ids.max()) >= manifest.vocab_size:
        found.append(f"id {int(ids.max())}, but the vocabulary has {manifest.vocab_size} tokens")
    if samples.lengths.max(initial=0) > manifest.max_length:
        found.append(f"a sample of {samples.lengths.max()} tokens, above {manifest.max_length}")
    special = manifest.special_ids
    first, last = ids[offsets[:-1]], ids[offsets[1:] - 1]
    if (first != special["cls"]).any() or (last != special["sep"]).any():
        found.append("a sample that does not begin with [CLS] or end with [SEP]")
    if samples.checksum() != info.sha256:
        found.append("the checksum of its content differs: it has been changed")
    return found


def _vocabulary(directory: Path, manifest: Manifest) -> list[str]:
    path = directory / shards.VOCABULARY
    try:
        tokens = vocab.read(path)
    except UserError as error:
        return [str(error)]
    if vocab.sha256(tokens) != manifest.vocab_sha256:
        return [
            f"{path}: another vocabulary ({len(tokens)} tokens) than the one the shards were "
            f"made with ({manifest.vocab_size} tokens)"
        ]
    return []


def _read(path: Path, info: ShardInfo) -> Ragged:
    if not path.is_file():
        raise UserError(f"{path}: missing")
    size = path.stat().st_size
    if size < info.bytes:
        raise UserError(f"{path}: cut short, {size:,} of {info.bytes:,} bytes")
    return shards.read_shard(path)


def _totals(path: Path, manifest: Manifest, histogram: np.ndarray | None) -> list[str]:
    damage = []
    for name in ("samples", "tokens"):
        total = sum(getattr(shard, name) for shard in manifest.shards)
        if getattr(manifest, name) != total:
            damage.append(
                f"{path}: {getattr(manifest, name)} {name} in all, but its shards have {total}"
            )
    if histogram is not None and histogram.tolist() != manifest.length_histogram:
        damage.append(f"{path}: its length histogram is not that of the shards")
    return damage
