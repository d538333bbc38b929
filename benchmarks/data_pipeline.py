"""How fast text becomes shards, and shards become batches, on this machine.

    python benchmarks/data_pipeline.py [--json FILE] [--repeats 3]
    python benchmarks/data_pipeline.py --small     only shows that everything runs

Text: what the installed packages carry (news, reviews, a newspaper; 27 MB), and more of it made by
putting its clauses together again, so that no sentence is a duplicate. Peer: what PaddleNLP's users
do, jieba and then the Python BertTokenizer, a line at a time, words aligned with tokens, packed to
128 and written to HDF5. Its imports and dictionaries are loaded before the clock starts, ours
after. Rates are per core: by CPU seconds of the process, so that a busy machine distorts them
less; the seconds that passed are among the raw repeats. Figures are medians of the repeats, in
which ours and the peer alternate; a ratio is the median of those of each repeat.

- text_to_shards_mb_s, peer_mb_s, ratio: MB of UTF-8 a second from files to finished shards, one
  process; cleaning, exact duplicates, word boundaries, ids, packing, checksums.
- two_worker_share: two workers on one corpus, against two one-worker builds side by side.
- loader_seq_s: sequences a second, shuffled, bucketed and padded, one process.
- bytes_per_token: shards on disk.
- rss_ratio_1gb_50mb: peak memory of a one-worker build of 1 GB over that of 50 MB.
- peak_mb_one_file, peak_mb_one_gz: peak memory of a worker on one file of 300 MB, plain and as .gz,
  cut into the pieces of 64 MB that are the default.
- near_mb_s: as text_to_shards_mb_s, with near duplicates removed too (MinHash).
- rjieba_over_jieba: rates of builds of the peer's 2 MB with words cut by rjieba, the default here,
  and by jieba; start and dictionary are part of both.
- cost_growth_16x_pieces: CPU seconds of a build in 800 pieces over one in 50 of the same text, both
  kinds of duplicates removed. The pieces are small, so that their number costs what it costs at
  16 times the text.
"""

import argparse
import contextlib
import gzip
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import yaml

# This file has the name of the package that it measures, and Python looks here first.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks import report  # noqa: E402
from data_pipeline.base.errors import command  # noqa: E402
from data_pipeline.loading import loader, order  # noqa: E402
from data_pipeline.shards.format import Manifest  # noqa: E402
from data_pipeline.sources import packaged  # noqa: E402
from data_pipeline.text import vocab  # noqa: E402

LIBRARIES = ("jieba", "rjieba", "paddlenlp", "tokenizers", "h5py", "hdf5plugin", "numpy")
SETTINGS = {"piece_mb": 16, "max_length": 128, "dedup": {"exact": True}, "pack": "document"}
RUN = {"workers": 1, "memory_mb": 64}
VOCAB_SIZE = 21128
BOTH = {"exact": True, "near": True}
DEFAULT_PIECE_MB = 64
SMALL_PIECE_MB = 4  # many pieces for two workers, so that neither waits long for the other
FIGURES = (
    ("text_to_shards_mb_s", "MB/s", "at least 5"),
    ("peer_mb_s", "MB/s", ""),
    ("ratio", "", "at least 10"),
    ("two_worker_share", "", "at least 0.9"),
    ("loader_seq_s", "sequences/s", "at least 300000"),
    ("bytes_per_token", "bytes", "at most 1.3"),
    ("rss_ratio_1gb_50mb", "", "below 1.1"),
    ("peak_mb_one_file", "MB", ""),
    ("peak_mb_one_gz", "MB", "about the same"),
    ("near_mb_s", "MB/s", ""),
    ("rjieba_over_jieba", "", ""),
    ("cost_growth_16x_pieces", "", "at most 1.3"),
)


class Sizes(NamedTuple):
    """How much text the parts of the benchmark take, in MB."""

    real: float = 1000
    """Of the packaged text at most; all of it."""
    peer: float = 2
    two_workers: float = 110
    growth: float = 160
    pieces: tuple[int, int] = (50, 800)
    rss: tuple[float, float] = (50, 1000)
    one_file: float = 300


SMALL = Sizes(1, 0.1, 2, 1, (2, 32), (1, 2), 3)


@command
def main(argv: list[str] | None = None) -> int:
    """Measure, print the table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, help="write figures, settings and raw repeats here")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="so little text that figures are void")
    parser.add_argument("--folder", type=Path, help="where to work (a temporary folder)")
    arguments = parser.parse_args(argv)
    with contextlib.ExitStack() as stack:
        folder = arguments.folder or stack.enter_context(tempfile.TemporaryDirectory())
        sizes = SMALL if arguments.small else Sizes()
        repeats, is_complete = collected(measure(Path(folder), arguments.repeats, sizes))
    by_repeat = figures_of(repeats)
    figures = {name: statistics.median(values) for name, values in by_repeat.items()}
    spread = {name: [min(values), max(values)] for name, values in by_repeat.items()}
    show(figures, spread)
    settings = {**SETTINGS, **vars(arguments), "sizes_mb": sizes._asdict(), "run": RUN}
    settings["vocab_size"] = VOCAB_SIZE
    raw = {"is_complete": is_complete, "spread": spread, "repeats": repeats}
    report.write(arguments.json, figures, settings, LIBRARIES, **raw)
    return 0


def collected(numbers: Iterable[tuple[str, float]]) -> tuple[dict[str, list[float]], bool]:
    """(raw numbers by name, whether these are all): Ctrl-C ends the benchmark early."""
    repeats: dict[str, list[float]] = {}
    try:
        for name, value in numbers:
            repeats.setdefault(name, []).append(value)
            print(f"  {name}: {value:.4g}", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("interrupted: only what is measured so far", file=sys.stderr)
        return repeats, False
    return repeats, True


def measure(folder: Path, repeats: int, sizes: Sizes) -> Iterator[tuple[str, float]]:
    """(name, value) of every raw number."""
    real, peer_text, generated = folder / "real", folder / "peer", folder / "generated"
    documents = [text for name in packaged.NAMES for text in packaged.texts(name)]
    random.Random(0).shuffle(documents)
    size = write_text(real, documents, sizes.real)
    peer_size = write_text(peer_text, documents, sizes.peer)
    vocab_file = trained(folder, real)
    for _ in range(repeats):
        ours = build(folder / "ours", real, vocab_file)
        yield "text_to_shards_mb_s", size / ours.cpu
        yield "text_to_shards_mb_s_elapsed", size / ours.seconds
        cpu, seconds = peer(peer_text, vocab_file, folder / "peer.h5")
        yield "peer_mb_s", peer_size / cpu
        yield "peer_mb_s_elapsed", peer_size / seconds
        yield "near_mb_s", size / build(folder / "near", real, vocab_file, dedup=BOTH).cpu
        for segmenter in ("jieba", "rjieba"):
            words = {"segmenter": segmenter}
            cost = build(folder / segmenter, peer_text, vocab_file, words=words)
            yield f"{segmenter}_mb_s", peer_size / cost.cpu
    manifest = Manifest.read(folder / "ours")
    yield "bytes_per_token", sum(shard.bytes for shard in manifest.shards) / manifest.tokens
    for _ in range(repeats):
        yield "loader_seq_s", load(folder / "ours", 1)
        yield "loader_seq_s_inline", load(folder / "ours", 0)
    several = write_generated(generated, documents, sizes.two_workers)
    for _ in range(repeats):
        yield "two_workers_mb_s", several / two_workers(folder, generated, vocab_file)
        yield "two_copies_mb_s", 2 * several / side_by_side(folder, generated, vocab_file)
    growth_mb = write_generated(generated, documents, sizes.growth)
    for name, count in zip(("cpu_s_few_pieces", "cpu_s_many_pieces"), sizes.pieces, strict=True):
        sections = {"dedup": BOTH, "piece_mb": growth_mb / count}
        yield name, build(folder / "growth", generated, vocab_file, **sections).cpu
    for name, megabytes in zip(("rss_50mb", "rss_1gb"), sizes.rss, strict=True):
        write_generated(generated, documents, megabytes)
        cost = build(folder / "rss", generated, vocab_file)
        yield name, cost.peak_mb
        yield f"{name}_mb_s", megabytes / cost.cpu
    shutil.rmtree(generated)
    for name, file in (("peak_mb_one_file", "text.txt"), ("peak_mb_one_gz", "text.txt.gz")):
        one = write_one_file(folder / "one" / file, documents, sizes.one_file)
        yield name, build(folder / "rss", one, vocab_file, piece_mb=DEFAULT_PIECE_MB).peak_mb


def figures_of(repeats: dict[str, list[float]]) -> dict[str, list[float]]:
    """Every figure, once for each repeat; without those that were not measured."""
    ratios = {
        "ratio": ("text_to_shards_mb_s", "peer_mb_s"),
        "two_worker_share": ("two_workers_mb_s", "two_copies_mb_s"),
        "rss_ratio_1gb_50mb": ("rss_1gb", "rss_50mb"),
        "rjieba_over_jieba": ("rjieba_mb_s", "jieba_mb_s"),
        "cost_growth_16x_pieces": ("cpu_s_many_pieces", "cpu_s_few_pieces"),
    }
    figures = {}
    for name, _, _ in FIGURES:
        one, other = ratios.get(name, (name, None))
        values, others = repeats.get(one, []), repeats.get(other, [])
        # The last repeat may have been interrupted between the two.
        figures[name] = values if other is None else [a / b for a, b in zip(values, others)]  # noqa: B905
    return {name: values for name, values in figures.items() if values}


def write_text(folder: Path, documents: list[str], limit: float) -> float:
    """Documents into one file, blank lines between them, up to `limit` MB; MB written."""
    folder.mkdir(exist_ok=True)
    size = 0
    with (folder / "text.txt").open("wb") as file:
        for document in documents:
            lines = "\n".join(line for line in document.split("\n") if line.strip())
            size += file.write(f"{lines}\n\n".encode())
            if size > limit * 1e6:
                break
    return size / 1e6


def generated_documents(documents: list[str]) -> Iterator[bytes]:
    """Clauses of real text put together again to documents of 100 lines, without end."""
    clauses = [c for text in documents for c in text.replace("\n", "，").split("，") if len(c) > 3]
    chosen = random.Random(1)
    while True:
        picked = chosen.choices(clauses, k=300)
        lines = ["，".join(picked[i : i + 3]) + "。" for i in range(0, 300, 3)]
        yield ("\n".join(lines) + "\n\n").encode()


def write_generated(folder: Path, documents: list[str], megabytes: float) -> float:
    """Generated text in files of 10 MB; MB written."""
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.txt"):
        old.unlink()
    texts = generated_documents(documents)
    size = number = 0
    while size < megabytes * 1e6:
        with (folder / f"{number:05d}.txt").open("wb") as file:
            while file.tell() < 10e6 and size + file.tell() < megabytes * 1e6:
                file.write(next(texts))
            size += file.tell()
        number += 1
    return size / 1e6


def write_one_file(path: Path, documents: list[str], megabytes: float) -> Path:
    """Generated text in one file, compressed if its name ends in .gz; the folder it is alone in."""
    shutil.rmtree(path.parent, ignore_errors=True)
    path.parent.mkdir()
    size = 0
    with gzip.open(path, "wb", 1) if path.suffix == ".gz" else path.open("wb") as file:
        for text in generated_documents(documents):
            size += file.write(text)
            if size > megabytes * 1e6:
                return path.parent


def trained(folder: Path, text: Path) -> Path:
    """A vocabulary of the published size, trained on the text."""
    sections = {"vocab": {"train": {"size": VOCAB_SIZE, "min_count": 1}}}
    finish(start(folder / "train", text, sections))
    tokens = vocab.read(folder / "train" / "vocab.txt")
    vocab.write(folder / "vocab.txt", tokens)
    return folder / "vocab.txt"


def start(output: Path, text: Path, sections: dict) -> subprocess.Popen:
    """A build in a process of its own, as a user starts it."""
    recipe = {"output_dir": str(output), "sources": [{"path": str(text)}], **SETTINGS, **sections}
    recipe["run"] = {**RUN, **sections.get("run", {})}
    shutil.rmtree(output, ignore_errors=True)
    config = output.with_suffix(".yaml")
    config.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    words = [sys.executable, "-m", "data_pipeline", "build", "--config", str(config)]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Cost(NamedTuple):
    """What a build took."""

    seconds: float
    cpu: float
    """CPU seconds, of workers too."""
    peak_mb: float
    """Memory of the process that was started."""


def finish(process: subprocess.Popen) -> Cost:
    """Wait until it has ended well."""
    began, peak, pid = time.perf_counter(), 0.0, 0
    while not pid:
        # Not ru_maxrss: that of a child is never below what its parent had when it was forked.
        peak = max(peak, high_water_mb(process.pid))
        time.sleep(0.01)
        pid, status, used = os.wait4(process.pid, os.WNOHANG)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"the build ended with {process.returncode}")
    return Cost(time.perf_counter() - began, used.ru_utime + used.ru_stime, peak)


def high_water_mb(pid: int) -> float:
    """The most memory that a process has had so far; 0 when it has ended."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def build(output: Path, text: Path, vocab_file: Path, **sections) -> Cost:
    """Run one build to its end."""
    return finish(start(output, text, {"vocab": {"file": str(vocab_file)}, **sections}))


def two_workers(folder: Path, text: Path, vocab_file: Path) -> float:
    """Seconds that one build with two workers takes."""
    sections = {"run": {"workers": 2}, "piece_mb": SMALL_PIECE_MB}
    return build(folder / "two", text, vocab_file, **sections).seconds


def side_by_side(folder: Path, text: Path, vocab_file: Path) -> float:
    """Seconds until two independent builds of the whole text have both ended."""
    sections = {"vocab": {"file": str(vocab_file)}, "piece_mb": SMALL_PIECE_MB}
    began = time.perf_counter()
    both = [start(folder / name, text, sections) for name in ("copy-a", "copy-b")]
    for process in both:
        finish(process)
    return time.perf_counter() - began


def load(directory: Path, workers: int) -> float:
    """Sequences a second over two epochs, a batch of 1,024 in groups of 128 at a time."""
    batches = loader.Loader(directory, order.OrderSettings(), workers=workers)
    began = time.perf_counter()
    count = 0
    for step in islice(batches, 2 * batches.steps_per_epoch):
        count += sum(len(batch.input_ids) for batch in step)
    return count / (time.perf_counter() - began)


def peer(text: Path, vocab_file: Path, output: Path) -> tuple[float, float]:
    """(CPU seconds, seconds) of the peer, in a process of its own, without its imports."""
    words = [sys.executable, str(Path(__file__).with_name("data_pipeline_peer.py"))]
    words += [str(text / "text.txt"), str(vocab_file), str(output)]
    result = subprocess.run(words, capture_output=True, text=True, check=True)
    cpu, seconds = map(float, result.stdout.split()[-2:])
    return cpu, seconds


def show(figures: dict[str, float], spread: dict[str, list[float]]) -> None:
    """The table: median, smallest and largest."""
    for name, unit, wanted in FIGURES:
        if name not in figures:
            print(f"{name:<23}{'not measured':>13}")
            continue
        low, high = spread[name]
        between = f"{low:,.3f} to {high:,.3f}" if high > low else ""
        print(f"{name:<23}{figures[name]:>13,.3f} {unit:<12} {between:<26} {wanted}")


if __name__ == "__main__":
    sys.exit(main())
