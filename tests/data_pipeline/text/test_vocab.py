import subprocess
import sys
from collections import Counter

import pytest

from data_pipeline.base.errors import UserError
from data_pipeline.text import vocab
from data_pipeline.text.encode import WordPieceEncoder

CHARACTERS = Counter({"的": 9, "中": 5, "国": 5, "，": 8, "罕": 1})
WORDS = Counter({"iphone": 20, "phone": 10, "2018": 30, "2019": 25, "x": 3, "ß": 1})


def test_training_keeps_the_common_ones_in_order():
    tokens = vocab.train(CHARACTERS, WORDS, 60, 2)
    assert tokens[:5] == list(vocab.SPECIAL.values())
    assert tokens[5:9] == ["的", "，", "中", "国"]
    assert "罕" not in tokens and "ß" not in tokens
    assert {"iphone", "2018", "##9"} <= set(tokens)
    assert len(tokens) == len(set(tokens)) <= 60


@pytest.mark.parametrize("size", [100, 500])
def test_size_is_kept(size):
    characters = Counter({chr(0x4E00 + i): 1000 - i for i in range(900)})
    words = Counter({f"w{i % 37}o{i % 91}rd": 5 for i in range(2000)})
    tokens = vocab.train(characters, words, size, 2)
    assert len(tokens) == size
    assert sum("\u4e00" <= token[0] <= "\u9fff" for token in tokens) > size // 3


def test_training_does_not_depend_on_the_process():
    """Hash tables of the trainer are seeded anew in every process."""
    program = (
        "from collections import Counter; from data_pipeline.text import vocab;"
        "w = Counter({f'w{i % 37}o{i * i % 91}rd{i % 7}': i % 5 + 1 for i in range(3000)});"
        "c = Counter({chr(0x4E00 + i): i % 9 + 1 for i in range(900)});"
        "print(vocab.sha256(vocab.train(c, w, 1500, 2)))"
    )
    runs = {
        subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout
        for _ in range(3)
    }
    assert len(runs) == 1


def test_a_trained_vocabulary_encodes_its_text(tmp_path):
    vocab.write(tmp_path / "vocab.txt", vocab.train(CHARACTERS, WORDS, 60, 1))
    encoder = WordPieceEncoder(tmp_path / "vocab.txt")
    (ids,) = encoder.ids(["中国的iPhone，2018"])
    assert [encoder.tokens[i] for i in ids] == ["中", "国", "的", "iphone", "，", "2018"]


def test_file_round_trip_keeps_odd_tokens(tmp_path):
    tokens = [*vocab.SPECIAL.values(), "\u2028", "\x85", "中", " ", "##a"]
    vocab.write(tmp_path / "vocab.txt", tokens)
    assert vocab.read(tmp_path / "vocab.txt") == tokens
    (tmp_path / "crlf.txt").write_bytes("\r\n".join(tokens).encode())
    assert vocab.sha256(vocab.read(tmp_path / "crlf.txt")) == vocab.sha256(tokens)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[PAD]\n[UNK]\n", r"no \[CLS\], \[SEP\], \[MASK\]"),
        ("\n".join([*vocab.SPECIAL.values(), "中", "中"]).encode(), "'中' occurs twice"),
        (b"\xff\xfe\x00", "cannot read the vocabulary"),
    ],
)
def test_bad_files_are_named(tmp_path, content, message):
    path = tmp_path / "vocab.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        vocab.read(path)
    assert str(path) in str(caught.value)
    with pytest.raises(UserError, match="cannot read"):
        vocab.read(tmp_path)
