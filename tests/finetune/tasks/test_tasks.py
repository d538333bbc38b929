"""Every official format, the packaged tasks and users' files; and what is wrong in them."""

import json
from pathlib import Path

import pytest

from data_pipeline.base.errors import UserError
from finetune.tasks import Example, Task, open_task
from finetune.tasks.clue import mark_spans
from finetune.tasks.registry import TASKS
from finetune.tasks.settings import TaskSettings

CLUE = Path(__file__).parent / "clue"  # two records of each task, as its official files hold them
EXPECTED = {
    "afqmc": (["0", "1"], [Example(text="双十一花呗提额在哪", pair="里可以提花呗额度", label=0)]),
    "tnews": (
        ["100", "104", "108"],
        [Example(text="上课时学生手机响个不停，老师一怒之下把手机摔了", pair=None, label=2)],
    ),
    "iflytek": (
        ["9", "110"],
        [
            Example(text="朴朴快送超市创立于2016年", pair=None, label=1),
            Example(text="导航软件", pair=None, label=0),
        ],
    ),
    "cmnli": (
        ["contradiction", "entailment", "neutral"],
        [
            Example(text="一月份跟二月份", pair="肯定有一个月份有", label=2),
            Example(text="他在笑", pair="他在哭", label=0),
        ],
    ),
    "ocnli": (
        ["contradiction", "entailment", "neutral"],
        [
            Example(text="一月份跟二月份", pair="肯定有一个月份有", label=1),
            Example(text="他在笑", pair="他在哭", label=0),
        ],
    ),
    "cluewsc2020": (
        ["false", "true"],
        [
            Example(
                text="这时候放在_床_上枕头旁边的手机响了，我感到奇怪，因为欠费已被停机两个月，现在[它]突然响了。",
                pair=None,
                label=0,
            ),
            Example(text="_小明_说[他]饿了", pair=None, label=1),
        ],
    ),
    "csl": (
        ["0", "1"],
        [Example(text="水声学 FFT", pair="为解决传统均匀FFT波束形成算法", label=0)],
    ),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_reads_the_official_format(name):
    labels, examples = EXPECTED[name]
    task = open_task(TaskSettings(name=name, directory=CLUE / name))
    assert task.labels == labels
    assert task.split("train")[: len(examples)] == examples
    assert not task.has("test")  # official test files have no labels
    assert task.held_out() == task.split("dev")


def test_pronoun_before_noun_keeps_its_marks():
    record = {
        "text": "它坏了，所以床要修",
        "target": {"span1_index": 6, "span1_text": "床", "span2_index": 0, "span2_text": "它"},
    }
    assert mark_spans(record) == ("[它]坏了，所以_床_要修", None)


@pytest.mark.parametrize(
    ("noun", "pronoun", "expected"),
    [
        ((0, "他的手机"), (0, "他"), "_[他]的手机_坏了，他走了"),
        ((2, "手机"), (0, "他的手机"), "[他的_手机_]坏了，他走了"),
        ((0, "他"), (1, "的"), "_他_[的]手机坏了，他走了"),
        ((0, "他的"), (1, "的手"), "_他[的_手]机坏了，他走了"),
    ],
)
def test_spans_that_touch_or_overlap_have_all_their_marks(noun, pronoun, expected):
    target = {"span1_index": noun[0], "span1_text": noun[1]}
    target |= {"span2_index": pronoun[0], "span2_text": pronoun[1]}
    assert mark_spans({"text": "他的手机坏了，他走了", "target": target}) == (expected, None)


def test_a_span_that_is_not_there_is_named(tmp_path):
    record = {
        "text": "它坏了",
        "target": {"span1_index": 1, "span1_text": "床", "span2_index": 0, "span2_text": "它"},
    }
    with pytest.raises(UserError, match="床"):
        mark_spans(record)
    content = json.dumps({**record, "label": "true"}) + "\n"
    (tmp_path / "train.json").write_text(content)
    task = open_task(TaskSettings(name="cluewsc2020", directory=tmp_path))
    with pytest.raises(UserError, match=r"train\.json, line 1: '床' is not at character 1"):
        task.split("train")


def test_a_text_that_is_no_string_is_placed(tmp_path):
    record = {"sentence": 5, "label": "100"}
    (tmp_path / "train.json").write_text("\n" + json.dumps(record) + "\n")
    task = open_task(TaskSettings(name="tnews", directory=tmp_path))
    with pytest.raises(UserError, match=r"train\.json, line 2: a text is not a string"):
        task.split("train")


@pytest.mark.parametrize("directory", [None, "nowhere"])
def test_missing_clue_files_say_what_to_download(directory, tmp_path):
    where = None if directory is None else tmp_path / directory
    with pytest.raises(UserError, match=r"tnews_public\.zip.*\n.*task\.directory"):
        open_task(TaskSettings(name="tnews", directory=where))


def test_a_wrong_clue_label_names_the_record(tmp_path):
    (tmp_path / "train.json").write_text(
        json.dumps({"sentence1": "a", "sentence2": "b", "label": "7"}) + "\n"
    )
    task = open_task(TaskSettings(name="afqmc", directory=tmp_path))
    with pytest.raises(UserError, match=r"line 1: label '7' is not one of 0, 1"):
        task.split("train")


@pytest.mark.parametrize(
    ("name", "sizes", "labels"), [("inews", (5355, 998, 999), 3), ("reviews", (None,) * 3, 2)]
)
def test_packaged_tasks(name, sizes, labels):
    task = open_task(TaskSettings(name=name))
    assert len(task.labels) == labels
    for split, size in zip(("train", "dev", "test"), sizes, strict=True):
        examples = task.split(split)
        assert size is None or len(examples) == size
        assert {example.label for example in examples} == set(range(labels))
        assert all(example.text.strip() for example in examples)
    assert not {e.text for e in task.split("train")} & {""}


def test_inews_bodies_are_pairs():
    task = open_task(TaskSettings(name="inews", fields="title_body", train_limit=3))
    assert len(task.split("train")) == 3
    assert all(example.pair for example in task.split("train"))


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".tsv", 'who\tsaid\tkind\n"a\t今天晴\tb\nc\t股票涨\td\n'),
        (".csv", 'who,said,kind\n"""a",今天晴,b\nc,股票涨,d\n'),
        (
            ".jsonl",
            '{"who":"\\"a","said":"今天晴","kind":"b"}\n{"who":"c","said":"股票涨","kind":"d"}\n',
        ),
    ],
)
def test_own_files_by_column_names(suffix, content, tmp_path):
    path = tmp_path / f"data{suffix}"
    path.write_text(content, encoding="utf-8")
    settings = TaskSettings(
        name="file", train=path, dev=path, text="who", pair="said", label="kind"
    )
    task = open_task(settings)
    assert task.labels == ["b", "d"]
    assert task.split("dev") == [Example('"a', "今天晴", 0), Example("c", "股票涨", 1)]


def own(tmp_path, train: str, dev: str = "text,label\n天,x\n"):
    for name, content in (("train", train), ("dev", dev)):
        (tmp_path / f"{name}.csv").write_text(content, encoding="utf-8")
    return TaskSettings(name="file", train=tmp_path / "train.csv", dev=tmp_path / "dev.csv")


@pytest.mark.parametrize(
    ("train", "dev", "message"),
    [
        ("text,label\n天,x\n地,y\n", "text,label\n天,z\n", r"dev\.csv, line 2: label 'z'.*x, y"),
        ("text,kind\n天,x\n", "", r"train\.csv, line 2: no column 'label'; it has text, kind"),
        ("text,label\n天,x\n  ,y\n", "", r"line 3: the text \('text'\) is empty"),
        ("text,label\n天,x\n地,x\n", "", r"one label only"),
        ("text,label\n天,x\n\n地\n", "", r"line 4: no column 'label'"),
        ("text,label\n天,x\n地,下,y\n", "", r"line 3: 1 more field.*a comma in the text"),
    ],
)
def test_mistakes_in_own_files_are_placed(train, dev, message, tmp_path):
    with pytest.raises(UserError, match=message):
        open_task(own(tmp_path, train, dev)).split("dev")


@pytest.mark.parametrize("suffix", ["tsv", "csv"])
def test_a_column_without_a_name_is_left_out(suffix, tmp_path):
    """As tables have it that were written with the numbers of their rows."""
    path, separator = tmp_path / f"a.{suffix}", {"tsv": "\t", "csv": ","}[suffix]
    rows = [["", "text", "label"], ["0", "天", "x"], ["1", "地", "y"]]
    path.write_text("".join(separator.join(row) + "\n" for row in rows), encoding="utf-8")
    task = open_task(TaskSettings(name="file", train=path, dev=path))
    assert task.split("dev") == [Example("天", None, 0), Example("地", None, 1)]


def test_own_file_of_another_kind(tmp_path):
    settings = TaskSettings(name="file", train=tmp_path / "a.xlsx", dev=tmp_path / "a.xlsx")
    with pytest.raises(UserError, match=r"\.tsv, \.csv or \.jsonl"):
        open_task(settings)


def test_own_jsonl_with_a_broken_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "天", "label": "x"}\n{"text": \n')
    with pytest.raises(UserError, match="line 2: not JSON"):
        open_task(TaskSettings(name="file", train=path, dev=path))


def test_a_tab_in_a_tsv_text_is_named_with_its_line(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("text\tlabel\n天\tx\n地\t下\ty\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"a\.tsv, line 3: 1 more field\(s\) than the header"):
        open_task(TaskSettings(name="file", train=path, dev=path))


def test_reviews_500_is_a_balanced_part_of_reviews():
    small, whole = (open_task(TaskSettings(name=name)) for name in ("reviews_500", "reviews"))
    train = small.split("train")
    assert [sum(e.label == label for e in train) for label in (0, 1)] == [250, 250]
    assert set(train) <= set(whole.split("train"))
    for split in ("dev", "test"):
        assert small.split(split) == whole.split(split)


def test_names_come_from_the_table():
    with pytest.raises(ValueError, match=r"did you mean 'people_daily_ner'\?"):
        TaskSettings(name="people_daily_nre")
    for name in TASKS:
        assert TaskSettings(name=name).name == name


def weather(settings: TaskSettings) -> Task:
    return Task("weather", ["dry", "wet"], lambda split: [Example("雨", None, 1)])


def test_a_function_of_the_users_is_a_task_too(monkeypatch):
    import sys
    import types

    module = types.ModuleType("users_tasks")
    module.weather = weather
    monkeypatch.setitem(sys.modules, "users_tasks", module)
    assert open_task(TaskSettings(name="users_tasks:weather")).split("dev")[0].text == "雨"
    with pytest.raises(UserError, match="users_tasks:rain: users_tasks has no function rain"):
        open_task(TaskSettings(name="users_tasks:rain"))
