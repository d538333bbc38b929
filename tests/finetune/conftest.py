"""A tiny encoder, a task that it can learn, and what the stages make of them."""

import json
from pathlib import Path

import pytest

from data_pipeline.base.recipes import check
from finetune import stages
from finetune.recipes import ExportRecipe, QatRecipe, QuantiseRecipe, SparseRecipe, TrainRecipe
from finetune.settings import FitSettings
from finetune.tasks.settings import TaskSettings

CHARACTERS = "天气晴雨雪风股票涨跌市场银行今日明我你他是不很好坏了的在有和"
VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *CHARACTERS, *"abc123"]
WEATHER, MONEY = ("晴", "雨", "雪", "风"), ("股", "涨", "跌", "银")


def sentences(count: int, offset: int = 0) -> list[dict[str, str]]:
    """Labelled texts of 4 to 11 characters; one telling character, where it stands varies."""
    rows = []
    for number in range(offset, offset + count):
        telling = (WEATHER if number % 2 else MONEY)[number // 2 % 4]
        filler = [CHARACTERS[-1 - (number * 7 + i * 5) % 16] for i in range(3 + number % 8)]
        filler.insert(number % 3, telling)
        label = "weather" if number % 2 else "money"
        rows.append({"text": "".join(filler), "label": label})
    return rows


def write_jsonl(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def write_encoder(directory: Path, architecture: str = "PPMiniLMModel", layers: int = 2) -> Path:
    """An encoder directory of 32 hidden, 4 heads, fresh weights."""
    import paddle

    from pretrain.encoders import weights
    from pretrain.encoders.load import build_encoder

    config = {
        "architectures": [architecture],
        "vocab_size": len(VOCAB),
        "hidden_size": 32,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "hidden_act": "relu",
        "max_position_embeddings": 128,
        "type_vocab_size": 2,
        "pad_token_id": 0,
        "initializer_range": 0.1,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
    }
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "vocab.txt").write_text("\n".join(VOCAB) + "\n")
    (directory / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    paddle.seed(3)
    weights.write(directory / "model.safetensors", build_encoder(config).state_dict())
    return directory


@pytest.fixture(scope="session")
def new_encoder():
    """`write_encoder`, for tests that want an encoder of their own."""
    return write_encoder


@pytest.fixture(scope="session")
def workshop(tmp_path_factory) -> Path:
    """Where everything that the session's tests share is made."""
    return tmp_path_factory.mktemp("finetune")


@pytest.fixture(scope="session")
def encoder(workshop) -> Path:
    return write_encoder(workshop / "encoder")


@pytest.fixture(scope="session")
def task(workshop) -> TaskSettings:
    return TaskSettings(
        name="file",
        train=write_jsonl(workshop / "train.jsonl", sentences(256)),
        dev=write_jsonl(workshop / "dev.jsonl", sentences(64, 1000)),
        test=write_jsonl(workshop / "test.jsonl", sentences(64, 2000)),
    )


@pytest.fixture(scope="session")
def fit_settings() -> FitSettings:
    return FitSettings(epochs=8, batch_size=16, learning_rate=3e-3, dropout=0.0)


def trained(directory: Path, encoder: Path, task, fit: FitSettings, length=24, **more) -> Path:
    """A fine-tuned classifier in `directory`; `more` are further settings of the recipe."""
    return stages.train(
        TrainRecipe(
            output_dir=directory, encoder=encoder, task=task, train=fit, max_length=length, **more
        )
    )


def exported(classifier: Path) -> Path:
    """The ONNX export of a classifier, next to it."""
    directory = classifier.with_name(f"{classifier.name}-onnx")
    return stages.export(ExportRecipe(output_dir=directory, classifier=classifier))


def rounded_and_sparse(classifier: Path, task) -> tuple[Path, Path]:
    """(a classifier trained on with rounding to 8 bits, one half of whose weights movement pruning
    made zero), next to it."""
    fit = {"epochs": 4, "batch_size": 16, "learning_rate": 1e-3, "dropout": 0.0}
    values = {"classifier": str(classifier), "task": task.model_dump(mode="json")}
    qat = values | {"output_dir": f"{classifier}-qat", "qat": fit | {"epochs": 1}}
    sparse = values | {
        "output_dir": f"{classifier}-sparse",
        "sparse": {"method": "movement", "sparsity": 0.5, "every": 2, "fit": fit},
    }
    return (
        stages.qat(check(QatRecipe, qat, "test")),
        stages.sparsify(check(SparseRecipe, sparse, "test")),
    )


def zeros_of(directory: Path) -> float:
    """Share of zeros in the matrices of a classifier's layers."""
    from finetune.prune.sparse import sparsity
    from finetune.training import classifier

    return sparsity(classifier.load(directory).model)


def jsonl_splits(workshop: Path, name: str, rows_of) -> dict[str, Path]:
    """Files of train, dev and test; rows_of(count, offset) gives their rows."""
    splits = {"train": (192, 0), "dev": (48, 1000), "test": (48, 2000)}
    return {
        split: write_jsonl(workshop / f"{name}-{split}.jsonl", rows_of(*size))
        for split, size in splits.items()
    }


@pytest.fixture(scope="session")
def classifier_dir(workshop, encoder, task, fit_settings) -> Path:
    return trained(workshop / "classifier", encoder, task, fit_settings, length=16)


@pytest.fixture(scope="session")
def onnx_dir(workshop, classifier_dir) -> Path:
    return stages.export(ExportRecipe(output_dir=workshop / "onnx", classifier=classifier_dir))


@pytest.fixture(scope="session")
def static_dir(workshop, classifier_dir) -> Path:
    return stages.export(
        ExportRecipe(output_dir=workshop / "static", classifier=classifier_dir, format="paddle")
    )


@pytest.fixture(scope="session")
def int8_dir(workshop, onnx_dir, task) -> Path:
    settings = {"mode": "static", "batches": 4, "allowed_drop": 5.0}
    values = {
        "output_dir": workshop / "int8",
        "model": onnx_dir,
        "task": task.model_dump(),
        "quantise": settings,
    }
    return stages.quantise(check(QuantiseRecipe, values, "test"))
