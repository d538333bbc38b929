"""Recomputes everything that a manifest states and names each kind of damage with its file."""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.base.errors import UserError
from data_pipeline.base.machine import cores
from data_pipeline.base.progress import Progress
from data_pipeline.shards import format as shards
from data_pipeline.shards.format import Manifest, ShardInfo
from data_pipeline.text import vocab
from data_pipeline.text.samples import Ragged

MANY_TOKENS = 50_000_000  # worth starting processes for
NOT_INSIDE = ("pad", "cls", "sep", "mask")


def verify(directory: Path, *, quiet: bool = False, workers: int = 0) -> list[str]:
    """All damage found, one line each, the file first; empty when the shards are whole.

    workers: processes; 0 takes all cores for large shards, one otherwise. UserError when there is
    no readable manifest.
    """
    directory = Path(directory)
    manifest = Manifest.read(directory)
    damage = _vocabulary(directory, manifest)
    histogram: np.ndarray | None = np.zeros(manifest.max_length + 1, np.int64)
    if workers == 0:
        workers = min(cores(), len(manifest.shards)) if manifest.tokens > MANY_TOKENS else 1
    examine = partial(_examine, directory, replace(manifest, shards=[], settings=_used(manifest)))
    with Progress("verify", manifest.tokens, "token", quiet=quiet) as progress:
        for info, (lines, lengths) in _mapped(examine, manifest.shards, workers):
            damage += lines
            histogram = None if lengths is None or histogram is None else histogram + lengths
            progress.add(info.tokens)
    return damage + _totals(directory / shards.MANIFEST, manifest, histogram)


def _mapped(
    examine: Callable[[ShardInfo], tuple], infos: list[ShardInfo], workers: int
) -> Iterator[tuple[ShardInfo, tuple]]:
    if workers <= 1:
        yield from ((info, examine(info)) for info in infos)
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        yield from zip(infos, pool.map(examine, infos), strict=True)


def _examine(
    directory: Path, manifest: Manifest, info: ShardInfo
) -> tuple[list[str], np.ndarray | None]:
    """(damage, lengths int64 [max_length + 1]) of one shard; no lengths when it is unreadable."""
    path = directory / info.file
    try:
        samples = _read(path, info)
    except UserError as error:
        return [str(error)], None
    lengths = np.clip(samples.lengths, 0, manifest.max_length)
    histogram = np.bincount(lengths, minlength=manifest.max_length + 1)
    return [f"{path}: {fault}" for fault in faults(samples, info, manifest)], histogram


def _used(manifest: Manifest) -> dict[str, Any]:
    """The settings that a shard is examined by."""
    return {"clean": manifest.settings.get("clean", {})}


def faults(samples: Ragged, info: ShardInfo, manifest: Manifest) -> list[str]:
    """What is wrong with the content of one shard."""
    ids, offsets = samples.ids, samples.offsets
    if offsets[0] != 0 or offsets[-1] != len(ids) or (np.diff(offsets) < 2).any():
        return ["the offsets do not cut the tokens into samples"]
    damage = []
    if len(samples) != info.samples:
        damage.append(f"{len(samples)} samples, the manifest says {info.samples}")
    if len(ids) != info.tokens:
        damage.append(f"{len(ids)} tokens, the manifest says {info.tokens}")
    if len(ids) and int(ids.max()) >= manifest.vocab_size:
        damage.append(f"id {int(ids.max())}, but the vocabulary has {manifest.vocab_size} tokens")
    if samples.lengths.max(initial=0) > manifest.max_length:
        damage.append(f"a sample of {samples.lengths.max()} tokens, above {manifest.max_length}")
    special = manifest.special_ids
    first, last = ids[offsets[:-1]], ids[offsets[1:] - 1]
    if (first != special["cls"]).any() or (last != special["sep"]).any():
        damage.append("a sample that does not begin with [CLS] or end with [SEP]")
    if _special_tokens_are_removed(manifest):
        inside = np.isin(ids, [special[name] for name in NOT_INSIDE])
        inside[offsets[:-1]] = inside[offsets[1:] - 1] = False
        if inside.any():
            damage.append(f"{int(inside.sum())} special token(s) inside samples")
    if samples.checksum() != info.sha256:
        damage.append("the checksum of its content differs: it has been changed")
    return damage


def _special_tokens_are_removed(manifest: Manifest) -> bool:
    """Unless the recipe switched the rule off, a sample holds them at its ends only."""
    return manifest.settings.get("clean", {}).get("special_tokens", True)


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
