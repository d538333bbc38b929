"""Shards, a teacher, and training runs on them, each in processes of its own."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from safetensors.numpy import load_file

from data_pipeline.base.errors import UserError
from launch.environment import best_for_cpu, quiet, visible_gpus
from launch.job import command_of, entry_of

SENTENCES, CHARACTERS = 3000, 400
RUN_SECONDS = 900  # after which a run counts as hung
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Sizes:
    """Of the encoders and batches of a check."""

    teacher: tuple[int, int]
    """Layers and width."""
    student: tuple[int, int]
    batch: int
    group: int
    heads: int
    """Relation heads; they divide both widths."""


SMALL = Sizes(teacher=(2, 64), student=(2, 32), batch=16, group=8, heads=8)
PUBLISHED = Sizes(teacher=(24, 1024), student=(6, 768), batch=128, group=128, heads=64)


@dataclass(frozen=True)
class Trained:
    """What a run has left."""

    code: int
    output: str
    """The end of what its processes printed."""
    records: list[dict]
    tensors: dict[str, np.ndarray]
    """Weights and moments of the newest checkpoint."""

    def values(self, name: str) -> list[float]:
        """One number of each record that has it."""
        return [record[name] for record in self.records if name in record]


class Lab:
    """A folder with shards and teachers, and runs below it.

    device: `gpu` or `cpu`, where runs train if they do not ask for the other.
    """

    def __init__(self, root: Path, device: str, gpus: int = 0):
        self.root, self.device, self.gpus = root, device, gpus
        self._teachers: dict[tuple[int, int], Path] = {}

    def prepare(self) -> None:
        """Build shards from random sentences with the command that users type.

        Raises:
            UserError: that did not work.
        """
        text = self.root / "text" / "random.txt"
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text(random_text(), encoding="utf-8")
        recipe = {
            "output_dir": str(self.root / "shards"),
            "sources": [{"path": str(text), "documents": "blank_line"}],
            "vocab": {"train": {"size": 600, "min_count": 1}},
            "max_length": 128,
            "run": {"workers": 1},
        }
        path = self._write("data.yaml", recipe)
        self._require([sys.executable, "-m", "data_pipeline", "build", "--config", str(path)])

    def teacher(self, sizes: tuple[int, int]) -> Path:
        """A teacher of these sizes after one step, made once."""
        if sizes not in self._teachers:
            name = f"teacher-{sizes[0]}x{sizes[1]}"
            recipe = {
                **self._common(name, batch=8, group=8, steps=2),
                "model_dir": str(self.root / name / "model"),
                "encoder": {**encoder(sizes), "hidden_act": "gelu"},
            }
            path = self._write(f"{name}.yaml", recipe)
            line = command_of(entry_of("mlm"), path, 1)
            self._require(line)
            self._teachers[sizes] = self.root / name / "model"
        return self._teachers[sizes]

    def train(
        self,
        name: str,
        sizes: Sizes = SMALL,
        steps: int = 4,
        device: str | None = None,
        ranks: int = 1,
        until: Callable[[list[dict]], bool] | None = None,
        **changes,
    ) -> Trained:
        """Distill for some steps; `changes` are laid over the recipe's sections. A run of the same
        name is resumed. With `until`, the run is asked to save and stop once its records fulfil it.
        """
        recipe = self._common(name, sizes.batch, sizes.group, steps) | {
            "teacher": {"path": str(self.teacher(sizes.teacher)), "layer": sizes.teacher[0]},
            "student": {
                **encoder(sizes.student), "hidden_act": "relu", "layer": sizes.student[0]
            },
            "relations": {"heads": sizes.heads, "alpha": 0.0, "beta": 0.5},
        }  # fmt: skip
        for section, values in changes.items():
            recipe[section] = {**recipe.get(section, {}), **values}
        path = self._write(f"{name}.yaml", recipe)
        output = self.root / name
        output.mkdir(exist_ok=True)
        log = output / "output.txt"
        line = command_of(entry_of("distill"), path, ranks, output / "log")
        with log.open("a") as stream:
            process = subprocess.Popen(
                line, env=self._environment(device or self.device, ranks),
                stdout=stream, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            code = self._wait(process, output, until)
        logs = [log, *sorted((output / "log").glob("workerlog.*"))]
        text = "\n".join(file.read_text(errors="replace")[-1500:] for file in logs)
        return Trained(code, text, records_of(output), newest_tensors(output))

    def _wait(self, process, output: Path, until) -> int:
        deadline, asked = time.monotonic() + RUN_SECONDS, False
        while (code := process.poll()) is None:
            if time.monotonic() > deadline:
                os.killpg(process.pid, signal.SIGKILL)
                return process.wait()
            if until is not None and not asked and until(records_of(output)):
                process.send_signal(signal.SIGTERM)
                asked = True
            time.sleep(POLL_SECONDS)
        return code

    def _environment(self, device: str, ranks: int) -> dict[str, str]:
        own = {**os.environ, **best_for_cpu(ranks), **quiet(), "PYTHONWARNINGS": "ignore"}
        if device == "gpu":
            return own | {"CUDA_VISIBLE_DEVICES": ",".join(visible_gpus()[:ranks])}
        if ranks == 1:
            return own | {"CUDA_VISIBLE_DEVICES": ""}
        own.pop("CUDA_VISIBLE_DEVICES", None)  # Paddle's launcher takes an empty list for one GPU
        return own

    def _common(self, name: str, batch: int, group: int, steps: int) -> dict:
        return {
            "output_dir": str(self.root / name),
            "data": {"shards": str(self.root / "shards"), "workers": 1},
            "batch": {"global_batch_size": batch, "relation_group_size": group},
            "optimizer": {"learning_rate": 1e-3, "warmup_steps": 1, "total_steps": steps},
            "checkpoint": {"every_steps": 10**6},
            "monitor": {"log_every_steps": 1},
            "safety": {"hang_seconds": RUN_SECONDS},
        }

    def _write(self, name: str, values: dict) -> Path:
        path = self.root / name
        path.write_text(yaml.safe_dump(values), encoding="utf-8")
        return path

    def _require(self, line: list[str]) -> None:
        result = subprocess.run(
            line, env=self._environment(self.device, 1), capture_output=True, text=True, check=False
        )
        if result.returncode:
            raise UserError(
                f"the self-check could not run `{' '.join(line[1:4])}`: exit code "
                f"{result.returncode}\n{(result.stdout + result.stderr)[-1500:]}"
            )

    def remove(self) -> None:
        """Delete everything."""
        shutil.rmtree(self.root, ignore_errors=True)


def encoder(sizes: tuple[int, int]) -> dict:
    """An encoder of (layers, width) without dropout."""
    layers, width = sizes
    return {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": max(1, width // 64) if width >= 64 else 2,
        "intermediate_size": 4 * width,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "max_position_embeddings": 128,
    }


def random_text(seed: int = 0) -> str:
    """Sentences of random common characters, the same for the same seed."""
    source = random.Random(seed)
    characters = [chr(0x4E00 + 7 * i) for i in range(CHARACTERS)]
    return "\n".join(
        "".join(source.choices(characters, k=source.randint(10, 110))) + "。\n" * (i % 5 == 0)
        for i in range(SENTENCES)
    )


def records_of(output: Path) -> list[dict]:
    """The whole records of metrics.jsonl."""
    try:
        lines = (output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    records = []
    for line in lines:
        try:
            records.append(json.loads(line))
        except ValueError:  # the last one, while it is written
            break
    return records


def newest_tensors(output: Path) -> dict[str, np.ndarray]:
    """Weights and moments of the newest complete checkpoint; empty when there is none."""
    done = [marker.parent for marker in (output / "checkpoints").glob("step-*/complete.json")]
    if not done:
        return {}
    newest = max(done, key=lambda path: int(path.name.removeprefix("step-")))
    tensors: dict[str, np.ndarray] = {}
    for path in sorted(newest.glob("*.safetensors")):
        tensors |= {f"{path.stem}/{name}": value for name, value in load_file(path).items()}
    return tensors
