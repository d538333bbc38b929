"""CLUENER2020, MSRA and a user's BIO columns; and what is wrong in them."""

import json

import pytest

from data_pipeline.base.errors import UserError
from finetune.tasks import Span, open_task
from finetune.tasks.settings import TaskSettings

RECORD = {
    "text": "浙商银行企业信贷部叶老桂博士则从另一个角度对五道门槛进行了解读。",
    "label": {"name": {"叶老桂": [[9, 11]]}, "company": {"浙商银行": [[0, 3]]}},
}


def cluener(tmp_path, *records):
    for split in ("train", "dev"):
        lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        (tmp_path / f"{split}.json").write_text("".join(lines), encoding="utf-8")
    (tmp_path / "test.json").write_text('{"id": 0, "text": "四川敦煌学"}\n', encoding="utf-8")
    return open_task(TaskSettings(name="cluener", directory=tmp_path))


def test_cluener_reads_the_official_format(tmp_path):
    task = cluener(tmp_path, RECORD)
    (example,) = task.split("train")
    assert example.spans == (Span(0, 4, "company"), Span(9, 12, "name"))
    assert len(task.labels) == 21
    assert not task.has("test")
    assert task.held_out_split == "dev"


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ({"name": {"叶老桂": [[8, 10]]}}, "line 1: '叶老桂' is not at character 8"),
        ({"person": {"叶老桂": [[9, 11]]}}, "line 1: type 'person' is not one of"),
        ({"name": ["叶老桂"]}, "line 1: label is not"),
    ],
)
def test_mistakes_in_cluener_are_placed(label, message, tmp_path):
    with pytest.raises(UserError, match=message):
        cluener(tmp_path, RECORD | {"label": label}).split("dev")


def test_cluener_without_its_folder_says_where_to_get_it():
    with pytest.raises(UserError, match=r"CLUENER2020 and set task\.directory"):
        open_task(TaskSettings(name="cluener"))


def test_msra_takes_every_twentieth_training_sentence_for_dev(tmp_path):
    sentence = "当\tO\n希\tO\n望\tO\n北\tB-LOC\n京\tI-LOC\n\n"
    (tmp_path / "msra_train_bio.txt").write_text(sentence * 40, encoding="utf-8")
    (tmp_path / "msra_test_bio.txt").write_text(sentence * 3, encoding="utf-8")
    task = open_task(TaskSettings(name="msra", directory=tmp_path))
    assert [len(task.split(split)) for split in ("train", "dev", "test")] == [38, 2, 3]
    assert task.split("dev")[0].text == "当希望北京"
    assert task.split("dev")[0].spans == (Span(3, 5, "LOC"),)


def bio_task(tmp_path, train, dev="京 B-L\n"):
    for name, content in (("train", train), ("dev", dev)):
        (tmp_path / f"{name}.bio").write_text(content, encoding="utf-8")
    return open_task(
        TaskSettings(name="bio_file", train=tmp_path / "train.bio", dev=tmp_path / "dev.bio")
    )


def test_own_columns_with_words_more_columns_and_bmes(tmp_path):
    train = "我 n O\n用 v O\nGoogle n B-ORG\nMaps n E-ORG\n3 m S-NUM\n\n\n再 d O\n见 v O"
    task = bio_task(tmp_path, train, "谷 n B-ORG\n歌 n M-ORG\n")
    assert task.labels == ["O", "B-NUM", "I-NUM", "B-ORG", "I-ORG"]
    first, second = task.split("train")
    assert first.text == "我用Google Maps 3"
    assert first.spans == (Span(2, 13, "ORG"), Span(14, 15, "NUM"))
    assert (second.text, second.spans) == ("再见", ())


@pytest.mark.parametrize(
    ("train", "dev", "message"),
    [
        ("京 B-L\n天\n", "", r"train\.bio, line 2: '天' has no label"),
        ("京 B-L\n天 LOC\n", "", r"train\.bio, line 2: 'LOC' is not a label of entities"),
        ("京 O\n", "", "no entity in it"),
        ("京 B-L\n", "\n海 B-M\n", r"dev\.bio, line 2: type 'M' is not one of L"),
    ],
)
def test_mistakes_in_bio_columns_are_placed(train, dev, message, tmp_path):
    with pytest.raises(UserError, match=message):
        bio_task(tmp_path, train, dev or "京 B-L\n").split("dev")
