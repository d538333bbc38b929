"""Shards, a teacher and recipes so small that a run of ten steps takes a second."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import yaml

from data_pipeline.shards.format import Manifest, shard_name, write_shard
from data_pipeline.text import vocab
from data_pipeline.text.samples import Ragged

ROOT = Path(__file__).parent.parent.parent
TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(chr(0x4E00 + i) for i in range(59))]
SAMPLES, SHARDS, MAX_LENGTH = 88, 3, 24
STEPS_PER_EPOCH = SAMPLES // 16


def make_root(root: Path) -> Path:
    """A folder with `shards` and `teacher`."""
    make_shards(root / "shards")
    make_teacher(root / "teacher")
    return root


def make_shards(
    directory: Path, seed: int = 0, settings: dict | None = None, samples: int = SAMPLES
) -> Path:
    """Samples of 4 to 24 tokens in 3 shards; `settings` stand in the manifest."""
    random = np.random.default_rng(seed)
    directory.mkdir(parents=True)
    vocab.write(directory / "vocab.txt", TOKENS)
    infos, histogram = [], np.zeros(MAX_LENGTH + 1, int)
    for number, count in enumerate(np.diff(np.linspace(0, samples, SHARDS + 1).astype(int))):
        lengths = random.integers(4, MAX_LENGTH + 1, count)
        np.add.at(histogram, lengths, 1)
        ids = [np.r_[2, random.integers(5, len(TOKENS), n - 2), 3] for n in lengths]
        starts = [np.r_[1, random.integers(0, 2, n - 2), 1] for n in lengths]
        ragged = Ragged(
            np.concatenate(ids),
            np.r_[0, np.cumsum(lengths)],
            np.concatenate(starts).astype(np.uint8),
        )
        infos.append(write_shard(directory / shard_name(number), ragged, len(TOKENS)))
    Manifest(
        format_version=1,
        vocab_size=len(TOKENS),
        vocab_sha256=vocab.sha256(TOKENS),
        special_ids=vocab.special_ids(TOKENS),
        max_length=MAX_LENGTH,
        samples=samples,
        tokens=sum(info.tokens for info in infos),
        unk_share=0.0,
        shards=infos,
        length_histogram=histogram.tolist(),
        settings=settings or {},
    ).write(directory)
    return directory


def sizes(layers: int, hidden: int, act: str = "gelu") -> dict:
    """An encoder's shape, without dropout."""
    return {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": 2,
        "intermediate_size": 2 * hidden,
        "hidden_act": act,
        "max_position_embeddings": 32,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }


def make_teacher(directory: Path, family: str = "Bert") -> Path:
    """A random encoder of 3 layers of 24, as a directory."""
    import paddle

    from pretrain.encoders.load import build_encoder
    from pretrain.release.write import write_encoder

    paddle.seed(7)
    config = {"architectures": [f"{family}Model"], "vocab_size": len(TOKENS), **sizes(3, 24)}
    encoder = build_encoder({**config, "initializer_range": 0.3, "pad_token_id": 0})
    directory.mkdir(parents=True, exist_ok=True)
    write_encoder(encoder, directory, TOKENS)
    return directory


def write_directory(encoder, directory: Path, **config) -> Path:
    """An encoder as a directory; `config` is laid over its config.json."""
    from pretrain.release.write import write_encoder

    directory.mkdir(parents=True, exist_ok=True)
    write_encoder(encoder, directory, TOKENS)
    message = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(message | config))
    return directory


def distill_values(root: Path, output: Path, **changes) -> dict:
    """A distillation recipe over `root`/shards and `root`/teacher; `changes` by dotted name."""
    values = {
        "output_dir": str(output),
        "data": {"shards": str(root / "shards"), "window_samples": 48, "block_samples": 8},
        "batch": {"global_batch_size": 16, "relation_group_size": 4},
        "teacher": {"path": str(root / "teacher"), "layer": 2},
        "student": {**sizes(2, 16, "relu"), "hidden_dropout_prob": 0.1, "layer": 2},
        "relations": {"heads": 4, "beta": 0.5},
        "optimizer": {"learning_rate": 0.01, "warmup_steps": 2, "total_steps": 14},
        "checkpoint": {"every_steps": 2, "keep_last": 2},
        "monitor": {"log_every_steps": 1},
    }
    for name, value in changes.items():
        *parents, last = name.split(".")
        section = values
        for key in parents:
            section = section.setdefault(key, {})
        section[last] = value
    return values


def write_recipe(path: Path, values: dict) -> Path:
    """The recipe as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def start(
    script: str | Path, recipe: Path, ranks: int, log: Path, **environment
) -> subprocess.Popen:
    """Start real ranks: alone without a launcher, or several under Paddle's."""
    words = [sys.executable, "-W", "ignore"]
    if ranks > 1:
        words += ["-m", "paddle.distributed.launch", "--nproc_per_node", str(ranks)]
        words += ["--log_dir", str(log)]
    words += [str(ROOT / "pretrain" / script), "--config", str(recipe)]
    settings = {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "MKL_DEBUG_CPU_TYPE": "5",
        **environment,
    }
    log.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        words,
        env=os.environ | settings,
        stdout=(log / "out").open("a"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def finish(process: subprocess.Popen, seconds: float = 300) -> int:
    """Its exit code; a process that does not end is killed and fails the test."""
    try:
        return process.wait(seconds)
    finally:
        process.kill()


def attention_weights(encoder, number):
    """[heads, length, length] of layer `number` for a sentence of one token, by the formula."""
    import paddle

    length = 24
    states = encoder.embeddings(paddle.full([1, length], 9, "int64"))
    for layer in list(encoder.encoder.layers)[:number]:
        states = layer(states)
    attention, heads = encoder.encoder.layers[number].self_attn, encoder.config.num_attention_heads
    query, key = (
        projection(states)[0].reshape([length, heads, -1]).transpose([1, 0, 2])
        for projection in (attention.q_proj, attention.k_proj)
    )
    scale = query.shape[-1] ** -0.5
    return paddle.nn.functional.softmax(query @ key.transpose([0, 2, 1]) * scale, -1).numpy()
