import json

import pytest

from data_pipeline.building.build import build
from data_pipeline.building.decontamination import letters
from data_pipeline.shards.format import Manifest, ShardReader
from data_pipeline.shards.verify import verify
from data_pipeline.text import vocab


def texts_of(folder):
    """All samples as text."""
    tokens = vocab.read(folder / "vocab.txt")
    reader = ShardReader(folder)
    ids, _ = reader.read(range(reader.manifest.samples))
    return ["".join(tokens[i] for i in sample[1:-1]) for sample in ids]


def test_letters_leave_out_blanks_and_marks_and_case():
    codes, sentence_of = letters(["Ab，中 文", "！", "1。"])
    assert "".join(map(chr, codes)) == "ab中文1"
    assert sentence_of.tolist() == [0, 0, 0, 0, 2]


@pytest.fixture
def task(tmp_path):
    """A CLUE-like dev file of three texts: long, with other punctuation, and short."""
    texts = [
        "这一句话出自任务的开发集，不应当出现在语料里",
        "Another 中文 句子，也在任务之中吧？",
        "短的任务文本",
    ]
    path = tmp_path / "dev.json"
    path.write_text("\n".join(json.dumps({"sentence": text, "label": 1}) for text in texts))
    return {"name": "tnews", "path": str(path), "fields": ["sentence"]}


def test_texts_of_tasks_are_kept_out_and_counted(tmp_path, recipe, task):
    clean = [
        "这是一篇与任务无关的文章的第一句话。",
        "这是它的第二句话，同样无关。",
        "短的任务文本有更多的字。",
    ]
    dirty = [
        "前面还有别的内容，这一句话出自任务的开发集不应当出现在语料里。",
        "another中文句子也在任务之中吧",
        "短的任务文本！",
        "的开发集，不应当出现在语料里，此句只有十三个字相同。",
    ]
    path = tmp_path / "a.txt"
    lines = [line for pair in zip(clean, dirty, strict=False) for line in pair]
    path.write_text("\n".join([*lines, dirty[3]]), encoding="utf-8")
    made = recipe(
        sources=[{"path": str(path)}],
        vocab={"train": {"size": 300, "min_count": 1}},
        decontaminate=[task],
        pack="sentence",
    )
    manifest = build(made, quiet=True)
    assert texts_of(made.output_dir) == clean
    assert manifest.counters["sentences_of_task_tnews"] == 4


PAIR = ("sentence1", "sentence2")
CLUE = {  # the fields that hold text in each task's dev file, and a record as CLUE publishes it
    "tnews": (["sentence"], {"label": "102", "sentence": "江疏影甜甜圈自拍迷之角度竟这么好看"}),
    "iflytek": (["sentence"], {"label": "110", "sentence": "朴朴快送超市专注于打造配送平台"}),
    "afqmc": (PAIR, {"sentence1": "双十一花呗提额在哪", "sentence2": "里可以提花呗额度"}),
    "ocnli": (PAIR, {"sentence1": "身上裹一件工厂发的棉大衣", "sentence2": "身上至少一件衣服"}),
    "cmnli": (PAIR, {"sentence1": "奶油收入有两个基本方面产品和地理", "sentence2": "什么是收入"}),
    "csl": (["abst"], {"abst": "为解决传统均匀傅里叶变换的问题", "keyword": ["水声学", "变换"]}),
    "cluewsc2020": (
        ["text"],
        {"target": {"span1_text": "床"}, "text": "放在床上枕头旁边的手机响了"},
    ),
}


def test_the_texts_of_the_seven_clue_tasks_are_kept_out(tmp_path, recipe):
    """Each text of a pair for itself: the corpus has it without the other one."""
    lines, tasks, expected = [], [], {}
    for name, (fields, record) in CLUE.items():
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8")
        tasks.append({"name": name, "path": str(path), "fields": fields})
        for field in fields:
            lines += [f"{record[field]}。", f"第{len(lines)}句与任务都没有关系。"]
        expected[f"sentences_of_task_{name}"] = len(fields)
    (tmp_path / "a.txt").write_text("\n".join(lines), encoding="utf-8")
    made = recipe(
        sources=[{"path": str(tmp_path / "a.txt")}],
        vocab={"train": {"size": 300, "min_count": 1}},
        decontaminate=tasks,
    )
    counters = build(made, quiet=True).counters
    assert {name: counters[name] for name in expected} == expected
    assert "".join(texts_of(made.output_dir)) == "".join(lines[1::2])


def test_a_changed_task_file_makes_another_recipe(corpus, recipe, task, tmp_path):
    made = recipe(sources=[{"path": str(corpus)}], decontaminate=[task])
    build(made, quiet=True)
    (tmp_path / "dev.json").write_text(json.dumps({"sentence": "另一个任务文本"}))
    with pytest.raises(Exception, match="task_inputs: was"):
        build(made, quiet=True)


@pytest.mark.parametrize("size", [{"share": 0.1}, {"documents": 30}])
def test_held_out_documents_are_disjoint_and_nothing_is_lost(corpus, recipe, tmp_path, size):
    sections = {"sources": [{"path": str(corpus)}] * 2, "dedup": {"near": True}, "pack": "sentence"}
    sections["dedup"]["exact_min_chars"] = 0
    made = recipe(**sections, holdout=size)
    manifest = build(made, quiet=True)
    aside = Manifest.read(made.output_dir / "holdout")
    train, held = texts_of(made.output_dir), texts_of(made.output_dir / "holdout")
    assert 10 <= manifest.counters["documents_held_out"] <= 60
    assert not set(train) & set(held)
    whole = build(recipe(**sections, output_dir=str(tmp_path / "whole")), quiet=True)
    assert manifest.samples + aside.samples == whole.samples
    assert sorted(train + held) == sorted(texts_of(tmp_path / "whole"))
    assert verify(made.output_dir / "holdout", quiet=True) == []
