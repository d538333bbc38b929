"""The shard format: ragged samples in HDF5 files and one manifest that describes them all.

A shard holds three datasets:

    input_ids   uint16 (uint32 when the vocabulary needs it) [tokens]   samples one after another
    offsets     int64 [samples + 1]          sample i is input_ids[offsets[i]:offsets[i + 1]]
    word_start  uint8 [ceil(tokens / 8)]     one bit a token, little end first: it begins a word

and, which training does not read, a group `provenance` of datasets source, input and document, each
[samples]: see shards/provenance.py.

Every sample carries its [CLS] and [SEP]; nothing is padded. Only this module imports h5py.
"""

import dataclasses
import hashlib
import io
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import whole_file, write_json
from data_pipeline.shards.provenance import COLUMNS, Provenance
from data_pipeline.text.samples import Ragged

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
VOCABULARY = "vocab.txt"
HOLDOUT = "holdout"  # in a directory of shards: the shards of held-out documents, if there are any
CHUNK_TOKENS = 1 << 16
CHUNK_SAMPLES = 1 << 14
OPEN_FILES = 64
DATASETS = ("input_ids", "offsets", "word_start")


@dataclass(frozen=True)
class ShardInfo:
    """What the manifest says about one shard."""

    file: str
    """Name of the file inside the directory."""
    samples: int
    tokens: int
    bytes: int
    """Size of the file."""
    sha256: str
    """`Ragged.checksum` of what is in it."""


@dataclass(frozen=True)
class Manifest:
    """What a directory of shards holds, and how it was made."""

    format_version: int
    vocab_size: int
    vocab_sha256: str
    special_ids: dict[str, int]
    """Of pad, unk, cls, sep and mask."""
    max_length: int
    """No sample is longer, [CLS] and [SEP] counted."""
    samples: int
    tokens: int
    """[CLS] and [SEP] counted."""
    unk_share: float
    """[UNK] among all tokens that are not [CLS] or [SEP]."""
    shards: list[ShardInfo]
    length_histogram: list[int]
    """How many samples have each length, from 0 to max_length."""
    settings: dict[str, Any]
    """The resolved recipe of the build."""
    counters: dict[str, int] = field(default_factory=dict)
    """What came in, what went out, and why the rest did not."""
    versions: dict[str, str] = field(default_factory=dict)
    """Of the libraries that decide the content."""
    skipped: list[dict[str, Any]] = field(default_factory=list)
    """Which file could not be used in full: `file`, `what` was skipped, and its `count`."""

    @property
    def fingerprint(self) -> str:
        """Digest of all that decides what a model sees; file names and sizes do not."""
        content = [
            self.format_version,
            self.vocab_sha256,
            sorted(self.special_ids.items()),
            self.max_length,
            [(shard.samples, shard.tokens, shard.sha256) for shard in self.shards],
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    @property
    def lower_case(self) -> bool:
        """Whether text was lower-cased before it was looked up in the vocabulary."""
        return self.settings.get("vocab", {}).get("lower_case", True)

    def summary(self) -> dict[str, Any]:
        """All but the list of shards, with the fingerprint: what a run records of its data."""
        values = dataclasses.asdict(self)
        del values["shards"]
        return {"fingerprint": self.fingerprint, "lower_case": self.lower_case, **values}

    @classmethod
    def read(cls, directory: Path | str) -> "Manifest":
        """The manifest of `directory`; UserError when absent, damaged or of another format."""
        path = Path(directory) / MANIFEST
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            version = values["format_version"]
            if version != FORMAT_VERSION:
                raise UserError(
                    f"{path}: shard format {version}, but this program reads {FORMAT_VERSION}; "
                    "build the shards again"
                )
            values["shards"] = [ShardInfo(**shard) for shard in values["shards"]]
            return cls(**values)
        except FileNotFoundError:
            raise UserError(
                f"{path} is not there: {directory} holds no finished shards; make them with "
                "`python -m data_pipeline build --config RECIPE.yaml`"
            ) from None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(f"{path}: not a shard manifest: {error}") from None

    def write(self, directory: Path) -> None:
        """Write it whole; its presence is what marks a directory of shards as finished."""
        write_json(Path(directory) / MANIFEST, dataclasses.asdict(self))


def shard_name(number: int) -> str:
    """File name of shard `number`."""
    return f"shard-{number:05d}.h5"


def write_shard(
    path: Path,
    samples: Ragged,
    vocab_size: int,
    provenance: Provenance | None = None,
    *,
    sync_folder: bool = True,
) -> ShardInfo:
    """Write one shard whole: it has its name only once it is closed and synced. `sync_folder`: see
    `whole_file`.

    The ids are compressed with Zstandard, without byte shuffle, which makes ids larger (measured
    on Chinese news: 1.07 bytes a token, 1.33 with bit shuffle, 1.16 with gzip, which also takes
    four times as long to read).
    """
    import h5py
    import hdf5plugin

    ids = samples.ids.astype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)
    bits = np.packbits(samples.word_start, bitorder="little")
    packed, shuffled = hdf5plugin.Zstd(clevel=5), {"compression": "gzip", "shuffle": True}
    # In memory first: on a full disk HDF5 fails while it closes a file, again when the object goes,
    # and sometimes crashes (https://github.com/h5py/h5py/issues/1120); a plain write just fails.
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver="v110") as file:
        file.attrs["format_version"] = FORMAT_VERSION
        _store(file, "input_ids", ids, CHUNK_TOKENS, packed)
        _store(file, "word_start", bits, CHUNK_TOKENS // 8, packed)
        _store(file, "offsets", samples.offsets.astype(np.int64), 4096, shuffled)
        for name in COLUMNS if provenance is not None else ():
            values = getattr(provenance, name)
            _store(file, f"provenance/{name}", values, CHUNK_SAMPLES, shuffled)
    with whole_file(path, sync_folder=sync_folder) as temporary:
        temporary.write_bytes(buffer.getbuffer())
    size = buffer.getbuffer().nbytes
    return ShardInfo(Path(path).name, len(samples), len(ids), size, samples.checksum())


def _store(file, name: str, values: np.ndarray, chunk: int, options: dict) -> None:
    # HDF5 has no chunks of nothing.
    options = {**options, "chunks": (min(chunk, len(values)),)} if len(values) else {}
    file.create_dataset(name, data=values, **options)


def read_shard(path: Path) -> Ragged:
    """The whole of one shard, checked for shape; UserError when it cannot be read."""
    try:
        with _open(path) as file:
            return _slice(file, 0, len(file["offsets"]) - 1)
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{path}: not readable as a shard: {error}") from None


class ShardReader:
    """Reads samples of a directory by their number, 0 to manifest.samples - 1.

    Files are opened when first needed, once per process: a handle that came through a fork is
    never used (https://github.com/pytorch/pytorch/issues/11929). At most 64 are open at a time.
    Threads may share a reader.
    """

    def __init__(self, directory: Path | str):
        self.directory = Path(directory)
        self.manifest = Manifest.read(directory)
        self._forget()

    def lengths(self, start: int, stop: int) -> np.ndarray:
        """Tokens of samples start .. stop - 1, int32 [stop - start]."""
        parts = [
            np.diff(self._read(shard, lambda file, a=a, b=b: file["offsets"][a : b + 1]))
            for shard, a, b in self._pieces(start, stop)
        ]
        return np.concatenate([np.zeros(0, np.int32), *parts]).astype(np.int32)

    def range(self, start: int, stop: int) -> Ragged:
        """Samples start .. stop - 1, read in one go from each shard they lie in."""
        return Ragged.join(
            [
                self._read(shard, lambda file, a=a, b=b: _slice(file, a, b))
                for shard, a, b in self._pieces(start, stop)
            ]
        )

    def read(self, sample_ids: Iterable[int]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """(input_ids, word_start) of single samples. For many, `range` is far faster."""
        samples = [self.range(int(i), int(i) + 1) for i in sample_ids]
        return [s.ids for s in samples], [s.word_start for s in samples]

    def provenance(self, start: int, stop: int) -> Provenance | None:
        """Of samples start .. stop - 1; None where shards of an earlier version do not have it."""
        parts = []
        for shard, a, b in self._pieces(start, stop):
            with _open(self.directory / self.manifest.shards[shard].file) as file:
                if "provenance" not in file:
                    return None
                parts.append(Provenance(*(file["provenance"][name][a:b] for name in COLUMNS)))
        return Provenance.join(parts)

    @cached_property
    def _bounds(self) -> np.ndarray:
        return np.cumsum([0, *(shard.samples for shard in self.manifest.shards)])

    def _pieces(self, start: int, stop: int) -> list[tuple[int, int, int]]:
        """[(shard, first, last + 1 inside it)] that make up start .. stop - 1."""
        if not 0 <= start <= stop <= self.manifest.samples:
            raise IndexError(f"samples {start}..{stop} of {self.manifest.samples}")
        pieces = []
        shard = int(np.searchsorted(self._bounds, start, side="right")) - 1
        while start < stop:
            first, last = int(self._bounds[shard]), int(self._bounds[shard + 1])
            if last > start:
                pieces.append((shard, start - first, min(stop, last) - first))
                start = min(stop, last)
            shard += 1
        return pieces

    def _read(self, shard: int, take):
        if os.getpid() != self._process:
            self._forget()
        path = self.directory / self.manifest.shards[shard].file
        with self._lock:
            try:
                return take(self._file(shard, path))
            except (OSError, KeyError, ValueError) as error:
                raise UserError(
                    f"{path}: cannot be read ({error}); "
                    f"`python -m data_pipeline verify {self.directory}` names all damage"
                ) from None

    def _file(self, shard: int, path: Path):
        if shard not in self._files:
            file = _open(path)
            # Looking a dataset up by name costs as much as reading a small block of it.
            self._files[shard] = {name: file[name] for name in DATASETS}
            if len(self._files) > OPEN_FILES:
                self._files.popitem(last=False)[1]["offsets"].file.close()
        self._files.move_to_end(shard)
        return self._files[shard]

    def _forget(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._files: OrderedDict = OrderedDict()

    def __getstate__(self) -> dict:
        return {"directory": self.directory, "manifest": self.manifest}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._forget()


def _open(path: Path):
    import h5py
    import hdf5plugin  # noqa: F401 - tells HDF5 about Zstandard

    return h5py.File(path, "r", locking=False)


def _slice(file, start: int, stop: int) -> Ragged:
    offsets = file["offsets"][start : stop + 1]
    first, last = int(offsets[0]), int(offsets[-1])
    packed = file["word_start"][first // 8 : (last + 7) // 8]
    bits = np.unpackbits(packed, bitorder="little")[first % 8 :][: last - first]
    return Ragged(file["input_ids"][first:last], offsets - first, bits)
