"""A cased encoder stays cased in every directory that is made from it."""

import pytest

from data_pipeline.base.errors import UserError
from data_pipeline.text import tokenizer
from finetune import stages
from finetune.deploy.predict import Predictor
from finetune.recipes import ExportRecipe
from finetune.settings import DistillSettings
from finetune.tasks.settings import TaskSettings
from finetune.training import classifier
from finetune.training.task_data import encode_task, load_with_task
from finetune.training.train import teacher_of
from tests.finetune.conftest import VOCAB, write_jsonl

ROWS = [{"text": "今A", "label": "money"}, {"text": "晴a", "label": "weather"}]
UNKNOWN = VOCAB.index("[UNK]")


@pytest.fixture
def cased(new_encoder, tmp_path):
    """(encoder directory, task whose first text has a letter that is unknown when cased)."""
    encoder = new_encoder(tmp_path / "encoder")
    tokenizer.write(encoder, VOCAB, lower_case=False)
    file = write_jsonl(tmp_path / "task.jsonl", ROWS)
    return encoder, TaskSettings(name="file", train=file, dev=file, test=file)


def unknown_in(encoded):
    return [int((ids == UNKNOWN).sum()) for ids in encoded.input_ids]


def test_from_the_encoder_to_the_exported_model(cased, tmp_path):
    encoder, task = cased
    data = encode_task(task, encoder, 16)
    assert sorted(unknown_in(data.train)) == [0, 1]
    data.save(classifier.from_encoder(encoder, 2), tmp_path / "classifier", {"max_length": 16})
    _, again = load_with_task(tmp_path / "classifier", task)
    assert unknown_in(again.train) == unknown_in(data.train)
    exported = stages.export(
        ExportRecipe(output_dir=tmp_path / "onnx", classifier=tmp_path / "classifier")
    )
    ids = Predictor(exported).encoder.ids(["今A"])[0]
    assert UNKNOWN in ids
    for directory in (tmp_path / "classifier", exported):
        assert tokenizer.differences(encoder, directory) == []


def test_a_teacher_that_reads_other_ids_is_refused(cased, new_encoder, tmp_path):
    encoder, task = cased
    data = encode_task(task, encoder, 16)
    lower = new_encoder(tmp_path / "lower")
    teacher = classifier.from_encoder(lower, 2)
    classifier.save(teacher, tmp_path / "teacher", data.task.labels, lower, {})
    with pytest.raises(UserError, match="do_lower_case is True in one and False in the other"):
        teacher_of(DistillSettings(teacher=tmp_path / "teacher"), data)
