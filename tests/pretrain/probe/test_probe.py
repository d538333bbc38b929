"""The probe on a tiny teacher: what it writes, that it continues, and what is refused."""

import json

import numpy as np
import pytest

from data_pipeline.base.errors import UserError
from pretrain import __main__ as command
from pretrain.probe import linear_probe
from tests.pretrain import tiny


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Texts whose label is their first character, one of two."""
    path = tmp_path_factory.mktemp("labels") / "labels.jsonl"
    characters = tiny.TOKENS[5:]
    lines = [
        {"text": characters[n % 2] * 3 + characters[2 + n % 20], "label": f"label {n % 2}"}
        for n in range(100)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def finished(tiny_root, labelled, tmp_path_factory):
    """(words of the command, its output directory)."""
    root = tmp_path_factory.mktemp("probe")
    recipe = tiny.write_recipe(root / "r.yaml", tiny.distill_values(tiny_root, root / "run"))
    words = ["probe", "--config", str(recipe), "--output", str(root / "out"), "--steps", "8"]
    words += ["--samples", "16", "--heads", "4", "2", "--labelled", str(labelled)]
    assert command.main(words) == 0
    return words, root / "out"


def test_every_layer_and_number_of_heads_is_a_row(finished):
    _, output = finished
    result = json.loads((output / "probe.json").read_text())
    assert [(row["layer"], row["heads"]) for row in result["rows"]] == [
        (layer, heads) for layer in (1, 2, 3) for heads in (4, 2)
    ]
    for row in result["rows"]:
        assert all(0 < row[f"entropy_{x}"] <= 1 for x in "qkv")
        assert row["linear_probe_accuracy"] == 1.0  # the first character alone decides
        assert row["loss_share"] == pytest.approx(row["last_loss"] / row["first_loss"])
        assert 0 < row["loss_share"] < 1
    assert result["majority_share"] == 0.5
    assert (output / "probe.png").read_bytes().startswith(b"\x89PNG")


def test_a_second_start_trains_nothing_again(finished, capsys):
    words, output = finished
    runs = sorted((output / "runs").glob("*/metrics.jsonl"))
    before = {run: run.stat().st_mtime_ns for run in runs}
    assert len(runs) == 6
    assert command.main([*words, "--json"]) == 0
    assert {run: run.stat().st_mtime_ns for run in runs} == before
    assert len(json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]) == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--layers", "4"], "--layers: 4; the teacher has layers 1 to 3"),
        (["--heads", "5"], "--heads: 5 does not divide the teacher's width 24"),
    ],
)
def test_layers_and_heads_that_do_not_fit_are_refused(finished, change, message, capsys):
    words, _ = finished
    assert command.main([*words, *change]) == 2
    assert message in capsys.readouterr().err


def test_a_linear_probe_reads_what_is_linear_and_no_more():
    random = np.random.default_rng(0)
    features = random.normal(size=(400, 8))
    for labels, low, high in (
        (np.where(features[:, 3] > 0, "a", "b"), 0.95, 1.0),
        (random.choice(["a", "b"], 400), 0.3, 0.7),
    ):
        actual = linear_probe.accuracy(features[:300], labels[:300], features[300:], labels[300:])
        assert low <= actual <= high


def test_pooling_leaves_padding_out():
    states = np.array([[[1.0, 2.0], [3.0, 4.0], [99.0, 99.0]]])
    np.testing.assert_allclose(linear_probe.pooled(states, np.array([[1, 1, 0]])), [[2.0, 3.0]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a"}\n', "line 1: expected"),
        ('{"text": "a", "label": 1}\n' * 9, "two labels"),
    ],
)
def test_labelled_files_are_checked(content, message, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        linear_probe.read_labelled(path)


def test_the_packaged_labels_are_those_of_inews():
    texts = linear_probe.packaged()
    assert len(texts.train) == linear_probe.TRAIN_LIMIT
    assert {label for _, label in texts.held_out} == {"0", "1", "2"}
