"""Raw text to shards: plans, hands the tasks of each step to an engine, publishes the result."""

import json
import shutil
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path
from typing import Any

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import sync, write_json
from data_pipeline.base.progress import Progress
from data_pipeline.base.recipes import differences
from data_pipeline.building import (
    decontamination,
    dedup,
    engine,
    excluded,
    holdout,
    mixing,
    provenance,
    steps,
    vocabulary,
)
from data_pipeline.building.errors import CanContinue
from data_pipeline.building.local_engine import Workers
from data_pipeline.building.lock import locked
from data_pipeline.building.manifest import make_manifest
from data_pipeline.building.plan import (
    InputPlan,
    Plan,
    deciding,
    input_lines,
    new_id,
    plan_inputs,
    stored_plan,
    versions,
    with_defaults,
)
from data_pipeline.building.records import KINDS, partition_count
from data_pipeline.building.steps import Task
from data_pipeline.recipe import BuildRecipe, Run
from data_pipeline.shards import format as shards
from data_pipeline.shards.format import Manifest
from data_pipeline.shards.provenance import INPUTS, read_inputs

MEMORY_SHARE = 0.5  # of a worker's memory, for finding duplicates
# Bytes on disk for a byte of text at the moment when most is there: spilled text 0.45, hashes of
# sentences 0.3 and of documents 0.2, the first shards.
SPACE_PER_TEXT = 1.2
SHARDS_PER_TEXT = 0.45
FOUND_COUNTERS = ("files_of_other_names", "folders_left_out")
SHOWN_INPUTS = 10  # changed files that an error names
CHECKS = ("max_unk_share",)  # of the section vocab: they decide nothing that is in the shards


def build(recipe: BuildRecipe, *, quiet: bool = False) -> Manifest:
    """Build the shards of a recipe, or continue building them; return their manifest.

    Finished shards of the same recipe are returned at once. UserError when the directory holds
    shards, or an unfinished build, of another recipe or of other input (the field is named), when
    another process builds there, and when too many characters are unknown to the vocabulary.
    """
    with locked(recipe.output_dir):
        inputs = plan_inputs(recipe)
        manifest = _finished_manifest(inputs)
        if manifest is not None:
            shutil.rmtree(recipe.output_dir / ".build", ignore_errors=True)
            return manifest
        try:
            plan = _begin(inputs)
        except OSError as error:
            raise steps.explain(error, recipe.output_dir, "build") from error
        try:
            with engine.start(recipe.run) as workers:
                return Builder(plan, inputs, workers, quiet).build()
        except OSError as error:  # a full disk, a file that has been removed
            raise steps.explain(error, recipe.output_dir, "build") from error
        except CanContinue:
            raise
        except UserError as error:
            _refuse(plan, str(error))
            raise


class Builder:
    """Executes the steps of one build in order."""

    def __init__(self, plan: Plan, inputs: InputPlan, workers: Workers, quiet: bool):
        self.plan, self.recipe, self._inputs = plan, plan.recipe, inputs
        self._execute, self._quiet = workers.execute, quiet
        self._versions = tuple(versions().items())
        self._memory = duplicates_memory(self.recipe.run, workers.memory_bytes)

    def build(self) -> Manifest:
        """All steps; the manifest is written last and publishes the shards."""
        for item in self._inputs.left_out if not self._quiet else ():
            note = f"{item.path}: {item.amount:,} {item.what}; {item.advice}"
            print(note, file=sys.stderr)
        self._check_space()
        sizes = [part.bytes / 1e6 for part in self._inputs.to_unpack]
        unpacked = self._step("unpack", sizes, "unpacking")
        self.plan = self._inputs.write_pieces(self.plan, unpacked)
        decontamination.collect(self.plan)
        read = self._step("read", self._megabytes(), "reading")
        vocabulary.make(self.plan)
        for step, key in (("near", "near_records"), ("exact", "sentences")):
            if getattr(self.recipe.dedup, step):
                self._find_duplicates(step, sum(result[key] for result in read))
        holdout.decide_share(self.plan, sum(result["documents"] for result in read))
        provenance.count_before_pieces(self.plan, read)
        mixing.decide(self.plan)
        written = self._step("write", self._megabytes(), "encoding")
        about = (self._inputs.settings, versions(), [self._found(), *unpacked, *read])
        by_copy = zip_longest(*(result["copies"] for result in written))
        made = [shard for copies in by_copy for shard in copies if shard is not None]
        manifest = make_manifest(self.plan, *about, made, [r["counters"] for r in written])
        output = self.recipe.output_dir
        aside = [result["holdout"] for result in written]
        if any(result["shard"] for result in aside):
            aside_manifest = make_manifest(self.plan, *about, aside, [])
            self._publish("holdout", output / shards.HOLDOUT, aside_manifest)
        excluded.publish(self.plan, output, {"read": read, "write": written})
        self._publish("write", output, manifest)
        shutil.rmtree(self.plan.folder)
        return manifest

    def _found(self) -> dict[str, Any]:
        """What looking for the inputs left out, as the results of a step have it."""
        counters, skipped = Counter(dict.fromkeys(FOUND_COUNTERS, 0)), []
        for item in self._inputs.left_out:
            counters[item.counter] += item.amount
            skipped.append({"file": item.path, "what": item.what, "count": item.amount})
        return {"counters": counters, "skipped": skipped}

    def _check_space(self) -> None:
        """UserError unless there is room for what is written, spilled text and records included."""
        text = sum(part.bytes for part in self._inputs.parts)
        sources, inputs = self.recipe.sources, self._inputs.inputs
        repeated = sum(
            part.bytes * (sources[inputs[part.input].source].repeat - 1)
            for part in self._inputs.parts
        )
        used = sum(p.stat().st_size for p in self.plan.folder.rglob("*") if p.is_file())
        needed = SPACE_PER_TEXT * text + SHARDS_PER_TEXT * repeated - used
        free = shutil.disk_usage(self.recipe.output_dir).free
        if free < needed:
            raise CanContinue(
                f"output_dir: the build needs about {needed / 1e6:,.1f} MB on the disk of "
                f"{self.recipe.output_dir}, and {free / 1e6:,.1f} MB are free"
            )

    def _megabytes(self) -> list[float]:
        return [size / 1e6 for size in self.plan.piece_bytes]

    def _find_duplicates(self, step: str, records: int) -> None:
        """Find the duplicates in every partition, then regroup what is dropped by piece."""
        path = dedup.layout_file(self.plan, step)
        layout = dedup.read_layout(self.plan, step)
        needed = partition_count(records, KINDS[step], self._memory)
        if layout is None or ("groups" not in layout and layout["partitions"] < needed):
            shutil.rmtree(path.parent, ignore_errors=True)  # cut by a process with more memory
            layout = {"partitions": needed}
            write_json(path, layout)
        if "groups" not in layout:
            sizes = [1.0] * layout["partitions"]
            results = self._step(step, sizes, f"{step} duplicates")
            dropped = sum(result["dropped"] for result in results)
            layout["groups"] = dedup.group_count(dropped, self.plan.pieces, self._memory)
            write_json(path, layout)
        self._step(f"{step}_drops", [1.0] * layout["groups"], f"{step} duplicates by piece")
        for number in range(layout["partitions"]):
            self.plan.file(step, number, ".npy").unlink(missing_ok=True)

    def _step(self, step: str, sizes: list[float], label: str) -> list[dict[str, Any]]:
        """Results of all tasks of a step, in their order; finished ones are not done again."""
        results = [steps.finished(self.plan.file(step, i, ".json")) for i in range(len(sizes))]
        todo = [i for i, result in enumerate(results) if result is None]
        folder = self.plan.folder.resolve()
        tasks = [Task(folder, self.plan.id, step, i, len(sizes), self._versions) for i in todo]
        unit = "MB" if step in ("unpack", "read", "write") else "task"
        start = sum(sizes) - sum(sizes[i] for i in todo)
        sentences, began = 0, time.monotonic()
        with Progress(label, sum(sizes), unit, start=start, quiet=self._quiet) as progress:
            for index, result in self._execute(steps.execute, tasks):
                results[todo[index]] = result
                counters = result.get("counters", {})
                sentences += counters.get("sentences_in", counters.get("sentences_out", 0))
                rate = round(sentences / max(time.monotonic() - began, 1e-3))
                progress.add(sizes[todo[index]], **({"sentences/s": rate} if rate else {}))
        complete = [result for result in results if result is not None]
        if todo:
            sync(folder / self.plan.id / step)  # what follows may remove what it was made from
            self._log(step, len(todo), time.monotonic() - began, complete)
        return complete

    def _log(self, step: str, tasks: int, seconds: float, results: list[dict[str, Any]]) -> None:
        """Append a line to build.jsonl in the output directory, which outlives the build."""
        counters: Counter = Counter()
        for result in results:
            counters.update(result.get("counters", {}))
        line = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "step": step,
            "tasks": tasks,
            "seconds": round(seconds, 1),
            "counters": dict(counters),
        }
        with (self.recipe.output_dir / "build.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def _publish(self, step: str, output: Path, manifest: Manifest) -> None:
        """Move the shards of a step into place; the manifest, renamed last, makes them finished."""
        output.mkdir(exist_ok=True)
        for info in manifest.shards:
            made = self.plan.folder / self.plan.id / step / info.file
            if made.exists():
                made.replace(output / info.file)
            elif not (output / info.file).exists():  # not one that was moved before a kill
                raise UserError(
                    f"{made} is missing, which this build has made; remove {self.plan.folder} and "
                    "build again"
                )
        shutil.copyfile(self.plan.vocab_file, output / shards.VOCABULARY)
        shutil.copyfile(self.plan.folder / INPUTS, output / INPUTS)
        sync(output)
        manifest.write(output)


def duplicates_memory(settings: Run, worker_bytes: int) -> int:
    """Bytes that finding duplicates may use in a worker that may use `worker_bytes` in all."""
    return settings.memory_mb << 20 or int(MEMORY_SHARE * worker_bytes)


def _finished_manifest(inputs: InputPlan) -> Manifest | None:
    """The manifest of finished shards, whose files are all there; None when there is none."""
    directory = inputs.recipe.output_dir
    if not (directory / shards.MANIFEST).exists():
        return None
    manifest = Manifest.read(directory)
    _check_same(manifest.settings, inputs, directory / INPUTS, "shards")
    for info in manifest.shards:
        path = directory / info.file
        if not path.is_file() or path.stat().st_size != info.bytes:
            state = "is missing" if not path.exists() else "is not as it was written"
            raise UserError(
                f"output_dir: {directory} holds finished shards, but {info.file} {state}; restore "
                f"it, or remove {directory} and build again"
            )
    return manifest


def _begin(inputs: InputPlan) -> Plan:
    """The plan of the unfinished build in the working directory, or of a new one."""
    folder = inputs.recipe.output_dir / ".build"
    stored = stored_plan(folder)
    if stored is not None and (folder / "refused").exists():
        # The user has seen an error and may have corrected the recipe.
        if _changes(stored["settings"], inputs.settings) or deciding(
            stored["versions"]
        ) != deciding(versions()):
            shutil.rmtree(folder)
            stored = None
        else:
            (folder / "refused").unlink()
    if stored is not None:
        settings = {**stored["settings"], "versions": deciding(stored["versions"])}
        _check_same(settings, inputs, folder / INPUTS, "an unfinished build")
    elif folder.exists():
        shutil.rmtree(folder)  # a plan that was not written to its end
    for directory in (inputs.recipe.output_dir, *folder.glob("*/*/")):
        for temporary in directory.glob(".*.tmp"):
            temporary.unlink()  # of a process that was killed while it wrote
    return inputs.write(stored["id"] if stored else new_id())


def _refuse(plan: Plan, message: str) -> None:
    """Note that the recipe or the input must change: what follows may be another recipe."""
    if plan.folder.exists():
        (plan.folder / "refused").write_text(message, encoding="utf-8")


def _changes(stored: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The differences that matter to what is in the shards."""

    def content(settings: dict[str, Any]) -> dict[str, Any]:
        vocab = {k: v for k, v in settings["vocab"].items() if k not in CHECKS}
        return {**settings, "vocab": vocab}

    return differences(content(with_defaults(stored)), content(now))


def _check_same(stored: dict[str, Any], inputs: InputPlan, stored_inputs: Path, what: str) -> None:
    now = inputs.settings
    if "versions" in stored:
        now = {**now, "versions": deciding(versions())}
    changed = _changes(stored, now)
    if not changed:
        return
    if any(line.startswith("inputs.") for line in changed):
        changed = [line for line in changed if not line.startswith("inputs.")]
        changed += _changed_inputs(read_inputs(stored_inputs), inputs)
    directory = inputs.recipe.output_dir
    raise UserError(
        f"output_dir: {directory} holds {what} of another recipe:\n  "
        + "\n  ".join(changed)
        + "\nSet another output_dir, or remove this one"
    )


def _changed_inputs(rows: list[list], inputs: InputPlan) -> list[str]:
    before = {row[0]: row[1:] for row in rows}
    now = {row[0]: row[1:] for row in map(json.loads, input_lines(inputs.inputs))}
    changed = differences(before, now, "inputs.")
    more = [f"and {len(changed) - SHOWN_INPUTS:,} inputs more"] if changed[SHOWN_INPUTS:] else []
    return changed[:SHOWN_INPUTS] + more
