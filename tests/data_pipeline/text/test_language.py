import importlib.metadata

import pytest

from data_pipeline.base.errors import UserError
from data_pipeline.building.build import build
from data_pipeline.text import language

CHINESE = "今天的天气非常好，我们一起去公园里散步，看见很多人在那里放风筝。"
TRADITIONAL = "我們今天去學校學習，老師講了很多有趣的故事。"
JAPANESE = "東京都内では今日とても天気がいいので、大勢の市民が公園へ散歩に行きました。"
ENGLISH = "The weather is very nice today, and many people went to the park."
KOREAN = "오늘은 날씨가 매우 좋아서 많은 사람들이 공원에 갔습니다."


@pytest.mark.parametrize(
    ("text", "is_chinese"),
    [
        (CHINESE, True),
        (TRADITIONAL, True),
        ("我们使用 Python 和 PaddlePaddle 训练模型，然后导出 ONNX 格式，部署到服务器上。", True),
        (JAPANESE, False),
        (ENGLISH, False),
        (KOREAN, False),
        ("12345 67890", False),
    ],
)
def test_chinese_and_its_neighbours(text, is_chinese):
    assert (language.chinese_confidence(text) > 0.5) == is_chinese


def test_documents_in_another_language_are_left_out_and_counted(tmp_path, recipe):
    path = tmp_path / "a.txt"
    path.write_text(f"{CHINESE}\n\n{JAPANESE}\n\n{TRADITIONAL}\n", encoding="utf-8")
    sections = {"sources": [{"path": str(path)}], "vocab": {"train": {"size": 300, "min_count": 1}}}
    before = build(recipe(**sections), quiet=True)
    assert before.counters["documents_out"] == 3  # enough Han characters in all
    clean = {"quality": {"min_chinese_confidence": 0.5}}
    made = recipe(**sections, clean=clean, output_dir=str(tmp_path / "zh"))
    manifest = build(made, quiet=True)
    assert manifest.counters["documents_out"] == 2
    assert manifest.counters["documents_other_language"] == 1
    assert manifest.counters["sentences_in_other_language_documents"] == 1
    assert manifest.settings["functions"]["lingua-language-detector"]


def test_it_says_what_to_install(tmp_path, recipe, monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    (tmp_path / "a.txt").write_text(CHINESE, encoding="utf-8")
    clean = {"quality": {"min_chinese_confidence": 0.5}}
    made = recipe(sources=[{"path": str(tmp_path / "a.txt")}], clean=clean)
    monkeypatch.setattr(language.importlib.metadata, "version", absent)
    with pytest.raises(UserError, match=r"is not installed; install it with .*\[language\]"):
        build(made, quiet=True)
