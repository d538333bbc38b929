import pickle

import pytest

from data_pipeline.base.errors import UserError
from data_pipeline.sources import packaged


def test_inews_has_the_sizes_of_its_paper():
    for split, size in (("train", 5355), ("dev", 999), ("test", 999)):
        titles, bodies, labels = packaged.inews(split)
        assert len(titles) == len(bodies) == len(labels) == size
        assert set(labels) == {0, 1, 2}


def test_reviews_are_split_without_overlap():
    splits = {split: packaged.reviews(split) for split in packaged.SPLITS}
    texts = [set(texts) for texts, _ in splits.values()]
    assert sum(map(len, texts)) == len(set.union(*texts))
    for texts_of_split, labels in splits.values():
        assert len(texts_of_split) == len(labels) > 1500
        assert 0.4 < sum(labels) / len(labels) < 0.6


def test_people_daily_has_no_marks_left():
    lines = packaged.people_daily()
    assert lines[0] == "迈向充满希望的新世纪——一九九八年新年讲话（附图片１张）"
    assert len(lines) == 17535
    assert sum("/" in line for line in lines) < 20


def test_people_daily_is_split_without_overlap():
    splits = {split: packaged.people_daily(split) for split in packaged.SPLITS}
    assert not set(splits["dev"]) & set(splits["train"])
    assert not set(splits["test"]) & (set(splits["train"]) | set(splits["dev"]))
    assert 900 < len(splits["dev"]) < 975 and 900 < len(splits["test"]) < 976
    held_out = splits["dev"] + splits["test"]
    assert not set(packaged.texts("people_daily")) & set(held_out)


def test_people_daily_has_a_tag_for_every_word():
    first = packaged.people_daily_tagged("train")[1]
    assert first[:3] == [("中共中央", "nt"), ("总书记", "n"), ("、", "w")]
    tags = {
        tag
        for split in packaged.SPLITS
        for s in packaged.people_daily_tagged(split)
        for _, tag in s
    }
    assert {"nr", "ns", "nt", "nz"} < tags and len(tags) < 50


def test_pickles_with_code_in_them_are_refused(tmp_path, monkeypatch):
    (tmp_path / "train.pkl").write_bytes(pickle.dumps(print))
    monkeypatch.setattr(packaged, "_folder", lambda *_: tmp_path)
    packaged.inews.cache_clear()
    with pytest.raises(UserError, match=r"should hold plain lists, found builtins\.print"):
        packaged.inews("train")
    packaged.inews.cache_clear()


def test_unknown_split_and_absent_package():
    with pytest.raises(UserError, match="none of train, dev, test"):
        packaged.inews("validation")
    with pytest.raises(UserError, match=r'pip install "ppminilm-fleet\[demo\]"'):
        packaged._folder("no_such_module", "no-such")
