"""Raw text to shards: plans, hands the tasks of each step to an engine, adds up the results."""

import contextlib
import fcntl
import json
import os
import platform
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import write_json
from data_pipeline.base.progress import Progress
from data_pipeline.base.recipes import differences
from data_pipeline.building import dedup, engine, plan, reading, steps
from data_pipeline.building.plan import Plan
from data_pipeline.recipe import BuildRecipe
from data_pipeline.shards import format as shards
from data_pipeline.shards.format import Manifest, ShardInfo
from data_pipeline.text import vocab


def build(recipe: BuildRecipe, *, quiet: bool = False) -> Manifest:
    """Build the shards of a recipe, or go on building them; return their manifest.

    Finished shards of the same recipe are returned at once. UserError when the directory holds
    shards, or a begun build, of another recipe or of other input (the field is named), when
    another process builds there, and when too many characters are unknown to the vocabulary.
    """
    with _locked(recipe.output_dir):
        build_plan = plan.make(recipe)
        finished = _finished(build_plan)
        if finished is not None:
            shutil.rmtree(build_plan.folder, ignore_errors=True)
            return finished
        try:
            _begin(build_plan)
            with engine.start(recipe.run) as runner:
                return Builder(build_plan, runner, quiet).run()
        except OSError as error:  # a full disk, a file that has gone
            raise steps.explained(error, recipe.output_dir, "build") from error


class Builder:
    """Runs the steps of one build in order."""

    def __init__(self, build_plan: Plan, runner: engine.Runner, quiet: bool):
        self.plan, self.recipe = build_plan, build_plan.recipe
        self._runner, self._quiet = runner, quiet

    def run(self) -> Manifest:
        """All steps; the manifest comes last and makes the shards visible."""
        read = self._pieces("read", "reading")
        self._vocabulary()
        for step in ("near", "exact"):
            if getattr(self.recipe.dedup, step):
                key = "near_records" if step == "near" else "sentences"
                self._partitions(step, sum(result[key] for result in read))
        written = self._pieces("write", "encoding")
        manifest = self._manifest(read, written)
        shutil.copyfile(
            self.plan.folder / shards.VOCABULARY, self.recipe.output_dir / shards.VOCABULARY
        )
        manifest.write(self.recipe.output_dir)
        shutil.rmtree(self.plan.folder)
        return manifest

    def _pieces(self, step: str, label: str) -> list[dict[str, Any]]:
        return self._step(
            step, [self.plan.bytes_of(i) / 1e6 for i in range(len(self.plan.pieces))], label
        )

    def _partitions(self, step: str, records: int) -> None:
        count = dedup.partitions(records, self.recipe.run.memory_mb)
        done = self.plan.folder / step / "count.json"
        if done.exists() and json.loads(done.read_text()) != count:
            shutil.rmtree(done.parent)  # cut otherwise by a run with other memory
        write_json(done, count)
        self._step(step, [1] * count, f"{step} duplicates")

    def _step(self, step: str, sizes: list[float], label: str) -> list[dict[str, Any]]:
        """Results of all tasks of a step, in their order; done ones are not done again."""
        results = [steps.finished(self.plan.file(step, i, ".json")) for i in range(len(sizes))]
        todo = [i for i, result in enumerate(results) if result is None]
        calls = [(self.plan.folder.resolve(), step, i, len(sizes)) for i in todo]
        unit = "MB" if step in ("read", "write") else "partition"
        start = sum(sizes) - sum(sizes[i] for i in todo)
        sentences, began = 0, time.monotonic()
        with Progress(label, sum(sizes), unit, start=start, quiet=self._quiet) as progress:
            for index, result in self._runner(steps.run, calls):
                results[todo[index]] = result
                counters = result.get("counters", {})
                sentences += counters.get("sentences_in", counters.get("sentences_out", 0))
                rate = round(sentences / max(time.monotonic() - began, 1e-3))
                progress.add(sizes[todo[index]], **({"sentences/s": rate} if rate else {}))
        return results

    def _vocabulary(self) -> None:
        """Put the vocabulary into the working directory, trained if the recipe says so."""
        path = self.plan.folder / shards.VOCABULARY
        settings = self.recipe.vocab
        if settings.file is not None:
            vocab.write(path, vocab.read(settings.file))
        elif not path.exists():
            characters, words = Counter(), Counter()
            for piece in range(len(self.plan.pieces)):
                if reading.is_sample(self.plan, piece):
                    counts = json.loads(self.plan.file("read", piece, ".counts.json").read_text())
                    characters.update(counts["characters"])
                    words.update(counts["words"])
                    words = Counter(reading.kept(words, 4 * reading.WORDS_KEPT))
            vocab.write(
                path, vocab.train(characters, words, settings.train.size, settings.train.min_count)
            )

    def _manifest(self, read: list[dict], written: list[dict]) -> Manifest:
        tokens = vocab.read(self.plan.folder / shards.VOCABULARY)
        found = [ShardInfo(**result["shard"]) for result in written if result["shard"]]
        samples, all_tokens = sum(s.samples for s in found), sum(s.tokens for s in found)
        counters: Counter = Counter()
        for result in (*read, *written):
            counters.update(result["counters"])
        if samples == 0:
            raise UserError(
                f"no sample is left of {counters['lines_in']:,} lines and "
                f"{counters['sentences_in']:,} sentences: {_reasons(counters)}"
            )
        unk_share = sum(result["unknown"] for result in written) / max(all_tokens - 2 * samples, 1)
        self._check_unknown(unk_share, written)
        return Manifest(
            format_version=shards.FORMAT_VERSION,
            vocab_size=len(tokens),
            vocab_sha256=vocab.sha256(tokens),
            special_ids=vocab.special_ids(tokens),
            max_length=self.recipe.max_length,
            samples=samples,
            tokens=all_tokens,
            unk_share=unk_share,
            shards=found,
            length_histogram=[
                sum(column)
                for column in zip(*(result["histogram"] for result in written), strict=True)
            ],
            settings=self.plan.settings(),
            counters={name: counters[name] for name in sorted(counters)},
            versions=plan.versions(),
        )

    def _check_unknown(self, share: float, written: list[dict]) -> None:
        limit = self.recipe.vocab.max_unk_share
        if share <= limit:
            return
        unknown: Counter = Counter()
        for result in written:
            unknown.update(result["unknown_characters"])
        often = " ".join(f"{char!r}x{count}" for char, count in unknown.most_common(12))
        raise UserError(
            f"vocab: {share:.2%} of the tokens are [UNK], more than vocab.max_unk_share "
            f"{limit:.2%}. Most often: {often}. Use a vocabulary that fits the text, or clean it "
            f"more; then remove {self.plan.folder} and build again"
        )


def _reasons(counters: Counter) -> str:
    kinds = ("lines_blank", "sentences_too_short", "sentences_not_chinese", "records_bad")
    return ", ".join(f"{name} {counters[name]:,}" for name in kinds if counters[name]) or "no text"


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the directory for this process. The lock dies with the process, however that ends."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = (directory / ".lock").open("a+")
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"output_dir: {directory} is, or lies below, a file") from None
    except OSError as error:
        raise UserError(f"output_dir: {directory}: {error.strerror}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise UserError(
                f"output_dir: {directory} is being built by {file.read().strip() or 'another'}; "
                "wait for it, or name another directory"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
        yield


def _finished(build_plan: Plan) -> Manifest | None:
    directory = build_plan.recipe.output_dir
    if not (directory / shards.MANIFEST).exists():
        return None
    manifest = Manifest.read(directory)
    _same(manifest.settings, build_plan.settings(), directory, "holds shards")
    return manifest


def _begin(build_plan: Plan) -> None:
    directory = build_plan.recipe.output_dir
    stored = plan.stored_settings(build_plan.folder)
    if stored is not None:
        _same(stored, build_plan.begun_with(), directory, "holds an unfinished build")
    for folder in (directory, *build_plan.folder.glob("*/")):
        for left in folder.glob(".*.tmp"):
            left.unlink()  # of a process that was killed while it wrote
    build_plan.write()


def _same(stored: dict[str, Any], now: dict[str, Any], directory: Path, what: str) -> None:
    # Through JSON, so that tuples and lists compare equal.
    changed = differences(stored, json.loads(json.dumps(now)))
    if changed:
        raise UserError(
            f"output_dir: {directory} {what} of another recipe:\n  "
            + "\n  ".join(changed)
            + "\nName another output_dir, or remove this one"
        )
