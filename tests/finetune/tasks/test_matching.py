"""Pairs of title and body: built by a rule, without shortcuts."""

import numpy as np

from finetune.tasks import open_task
from finetune.tasks.matching import articles, closest, without_title
from finetune.tasks.settings import TaskSettings


def test_negatives_have_the_most_similar_title_of_another_story():
    titles = ["北京今天下雪", "北京今天下大雪", "北京今天下雨", "股票大涨"]
    bodies = [
        "雪花落满故宫的屋顶游人拍照",
        "雪花落满故宫的屋顶游人拍照",
        "雨水打湿街道",
        "银行股领涨两市",
    ]
    found = closest(titles, bodies)
    assert found[0] == 2  # number 1 is nearer, but the same story
    assert found[2] in (0, 1)
    assert found[3] >= 0 and found[3] != 3


def test_titles_are_not_in_their_bodies():
    assert without_title("原标题：今天\\n有雪。\n今天 有雪，路滑", "今天 有雪") == "。 ，路滑"
    titles, bodies = articles("dev")
    assert not any(title in body for title, body in zip(titles, bodies, strict=True))


def test_the_task_is_balanced_and_the_same_every_time():
    task = open_task(TaskSettings(name="inews_matching"))
    dev = task.split("dev")
    assert len(dev) == 930
    assert np.bincount([example.label for example in dev]).tolist() == [465, 465]
    titles, bodies = articles("dev")
    own = dict(zip(titles, bodies, strict=True))
    for example in dev[:100]:
        is_own = example.pair == own[example.text]
        assert is_own == bool(example.label) or titles.count(example.text) > 1
    fresh = open_task(TaskSettings(name="inews_matching")).split("dev")
    assert fresh == dev
