"""A release is what stock PaddleNLP reads, with the weights of the checkpoint."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from data_pipeline.base import recipes
from data_pipeline.base.errors import UserError
from data_pipeline.base.files import sha256
from data_pipeline.base.recipes import check
from data_pipeline.loading.order import World
from data_pipeline.shards.format import Manifest
from data_pipeline.text import tokenizer
from pretrain import __main__ as command
from pretrain import entry, mlm, run
from pretrain.encoders import weights
from pretrain.encoders.load import load_encoder
from pretrain.recipe import DistillRecipe, MaskedLMRecipe
from pretrain.release.write import release
from pretrain.training import loop as train
from pretrain.training.finished import is_finished
from tests.pretrain import tiny


@pytest.fixture(scope="module")
def trained(tiny_root, tmp_path_factory):
    """A finished run of 4 steps and its recipe."""
    output = tmp_path_factory.mktemp("release") / "run"
    values = tiny.distill_values(tiny_root, output, **{"optimizer.total_steps": 4})
    recipe = check(DistillRecipe, values, "test")
    manifest = Manifest.read(recipe.data.shards)
    assert train.fit(run.build(recipe, manifest), recipe, manifest, World()) == 0
    return recipe


def test_stock_paddlenlp_reads_it(trained, tmp_path):
    from paddlenlp.transformers import PPMiniLMForSequenceClassification, PPMiniLMModel

    output = tmp_path / "ppminilm-2l-16h"
    release(trained.output_dir, output)
    encoder = PPMiniLMModel.from_pretrained(str(output))
    classifier = PPMiniLMForSequenceClassification.from_pretrained(str(output), num_classes=3)
    stored = weights.read(output)
    for name, value in encoder.state_dict().items():
        assert (value.numpy() == stored[name]).all(), name
        assert (classifier.ppminilm.state_dict()[name].numpy() == stored[name]).all(), name
    checkpoint = weights.read(trained.output_dir / "checkpoints" / "step-4" / "model.safetensors")
    assert (checkpoint["encoder.embeddings.word_embeddings.weight"] == stored[
        "embeddings.word_embeddings.weight"]).all()  # fmt: skip


def test_paddle_s_talk_at_its_start_is_not_shown(trained, tmp_path):
    words = ["release", str(trained.output_dir), "--output", str(tmp_path / "released")]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "pretrain", *words],
        env=os.environ | {"OMP_NUM_THREADS": "2"},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "OMP_NUM_THREADS" not in done.stderr
    assert "parameters after 4 steps" in done.stdout


def test_it_needs_nothing_but_the_run(tiny_root, tmp_path):
    for name in ("shards", "teacher"):
        shutil.copytree(tiny_root / name, tmp_path / name)
    changes = {f"student.{name}": value for name, value in tiny.sizes(2, 24).items()}
    changes |= {"optimizer.total_steps": 3, "student.from_teacher_layers": [1, 3]}
    recipe = check(DistillRecipe, tiny.distill_values(tmp_path, tmp_path / "run", **changes), "x")
    manifest = Manifest.read(recipe.data.shards)
    objective = run.build(recipe, manifest)
    before = {name: value.numpy().copy() for name, value in objective.encoder.state_dict().items()}
    assert train.fit(objective, recipe, manifest, World()) == 0
    release(recipe.output_dir, tmp_path / "scratch", untrained=True)
    for name in ("shards", "teacher"):
        shutil.rmtree(tmp_path / name)
    release(recipe.output_dir, tmp_path / "out")
    for directory, expected in (
        ("scratch", before),
        ("out", {n: v.numpy() for n, v in objective.encoder.state_dict().items()}),
    ):
        for name, value in weights.read(tmp_path / directory).items():
            assert (value == expected[name]).all(), (directory, name)


def test_release_json_and_the_card_say_what_it_is(trained, tmp_path):
    facts = release(trained.output_dir, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "release.json").read_text()) == facts
    for name, digest in facts["sha256"].items():
        assert sha256(tmp_path / "out" / name) == digest
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    for part in (
        "4 of 4",
        facts["data_fingerprint"],
        "encoder.layers.1.linear1.weight",
        "heads: 4",
    ):
        assert part in card
    assert "encoder.layers.0.linear1.weight" not in card


def test_fresh_leaves_local_attention_out(tiny_root, tmp_path):
    """`untrained` is the student before its first step, `fresh` one of drawn weights alone."""
    changes = {"optimizer.total_steps": 3, "initial_weights.local_attention": True}
    recipe = check(DistillRecipe, tiny.distill_values(tiny_root, tmp_path / "run", **changes), "x")
    manifest = Manifest.read(recipe.data.shards)
    assert train.fit(run.build(recipe, manifest), recipe, manifest, World()) == 0
    release(recipe.output_dir, tmp_path / "untrained", untrained=True)
    release(recipe.output_dir, tmp_path / "fresh", fresh=True)
    started, random = (weights.read(tmp_path / name) for name in ("untrained", "fresh"))
    types = "embeddings.token_type_embeddings.weight"  # local attention leaves them at 0
    assert not started[types].any() and random[types].any()
    card = (tmp_path / "untrained" / "README.md").read_text(encoding="utf-8")
    assert "heads that each look at one neighbour" in card


def test_the_card_derives_from_recipe_and_data(tiny_root, tmp_path):
    """Nothing in it may be said of every run: relations, script, tokenizer, initialisation."""
    clean = {"min_chinese_share": 0.0, "html": True, "simplify": False, "rules": ["mine:rule"]}
    settings = {"clean": clean, "vocab": {"lower_case": False}}
    shards = tiny.make_shards(tmp_path / "shards", settings=settings)
    changes = {f"student.{name}": value for name, value in tiny.sizes(2, 24).items()}
    changes |= {"optimizer.total_steps": 3, "student.from_teacher_layers": [1, 3]}
    changes |= {"data.shards": str(shards), "relations.beta": 0.0, "relations.alpha": 0.25}
    recipe = check(DistillRecipe, tiny.distill_values(tiny_root, tmp_path / "run", **changes), "x")
    manifest = Manifest.read(shards)
    assert train.fit(run.build(recipe, manifest), recipe, manifest, World()) == 0
    release(recipe.output_dir, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    for part in (
        "An encoder of 2 layers",
        "layer\n2 of a larger encoder",
        "- 0.75: between tokens",
        "- 0.25: between heads",
        "88 samples",
        "any script; cleaning rules: html, mine:rule",
        "case kept",
        "copied from layers 1, 3 of the teacher",
        "from number 25 on are as they were initialised",
    ):
        assert part in card, part
    facts = release(recipe.output_dir, tmp_path / "fresh", fresh=True)
    card_of_fresh = (tmp_path / "fresh" / "README.md").read_text(encoding="utf-8")
    assert facts["steps"] == 0
    assert "copied from layers" not in card_of_fresh
    release(recipe.output_dir, tmp_path / "copied", untrained=True)
    random, copied = (weights.read(tmp_path / name) for name in ("fresh", "copied"))
    words = "embeddings.word_embeddings.weight"
    teacher = weights.read(recipe.teacher.path)
    assert (copied[words] == teacher[words]).all()
    assert abs(random[words] - teacher[words]).max() > 0.01
    for part in ("Chinese", "between samples"):
        assert part not in card.split("## Recipe")[0], part


def test_the_card_of_chinese_text_and_sample_relations(trained, tmp_path):
    data = json.loads((trained.output_dir / "data.json").read_text())
    data["settings"] = {"clean": {"min_chinese_share": 0.3}}
    shutil.copytree(trained.output_dir, tmp_path / "run")
    (tmp_path / "run" / "data.json").write_text(json.dumps(data))
    release(tmp_path / "run", tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    for part in ("A Chinese encoder", "at least 30% Han", "- 0.5: between samples", "lower-cased"):
        assert part in card, part
    assert "between heads" not in card


def test_a_cased_vocabulary_stays_cased(tiny_root, tmp_path):
    shards = tiny.make_shards(tmp_path / "shards", settings={"vocab": {"lower_case": False}})
    values = tiny.distill_values(
        tiny_root, tmp_path / "run", **{"optimizer.total_steps": 3, "data.shards": str(shards)}
    )
    recipe = check(DistillRecipe, values, "x")
    manifest = Manifest.read(shards)
    assert train.fit(run.build(recipe, manifest), recipe, manifest, World()) == 0
    shutil.rmtree(shards)
    facts = release(recipe.output_dir, tmp_path / "out")
    assert not tokenizer.is_lower_case(tmp_path / "out")
    assert facts["data"]["lower_case"] is False
    assert "tokenizer_config.json" in facts["sha256"]


def test_a_cased_teacher_of_masked_lm_stays_cased(tiny_root, tmp_path):
    shards = tiny.make_shards(tmp_path / "shards", settings={"vocab": {"lower_case": False}})
    recipe = check(MaskedLMRecipe, masked_lm_values(shards, tmp_path), "test")
    assert entry.train(recipe, mlm.build, mlm.write_teacher) == 0
    assert not tokenizer.is_lower_case(tmp_path / "model")


def test_a_run_without_a_summary_of_its_data_needs_its_shards(trained, tiny_root, tmp_path):
    shutil.copytree(trained.output_dir, tmp_path / "run")
    (tmp_path / "run" / "data.json").unlink()
    facts = release(tmp_path / "run", tmp_path / "out")
    assert facts["data"]["max_length"] == tiny.MAX_LENGTH
    other = tiny.make_shards(tmp_path / "other", seed=1)
    values = trained.model_dump(mode="json")
    values["data"]["shards"] = str(other)
    recipes.save(check(DistillRecipe, values, "x"), tmp_path / "run" / "recipe.resolved.yaml")
    with pytest.raises(UserError, match="holds other shards than those that it was trained on"):
        release(tmp_path / "run", tmp_path / "out")


def test_with_relation_h_the_pooler_alone_is_untrained_and_the_card_says_so(tiny_root, tmp_path):
    from paddlenlp.transformers import PPMiniLMModel

    changes = {"optimizer.total_steps": 3, "relations.hidden": 0.5}
    recipe = check(DistillRecipe, tiny.distill_values(tiny_root, tmp_path / "run", **changes), "x")
    manifest = Manifest.read(recipe.data.shards)
    assert train.fit(run.build(recipe, manifest), recipe, manifest, World()) == 0
    facts = release(recipe.output_dir, tmp_path / "out")
    assert facts["untrained_weights"] == ["pooler.dense.weight", "pooler.dense.bias"]
    assert facts["metrics"]["loss/h"] > 0
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "The pooler starts as the identity" in card
    assert "- `encoder.layers" not in card
    one, other = (
        release(recipe.output_dir, tmp_path / str(untrained), untrained)
        and weights.read(tmp_path / str(untrained))
        for untrained in (False, True)
    )
    for name in one:  # every weight but the pooler's has moved
        assert (one[name] == other[name]).all() == name.startswith("pooler."), name
    pooler = PPMiniLMModel.from_pretrained(str(tmp_path / "out")).pooler.dense.weight.numpy()
    assert (pooler == np.eye(16)).all()


def test_the_never_distilled_student_is_another_one(trained, tmp_path):
    one, other = (
        weights.read(tmp_path / name)["encoder.layers.0.linear1.weight"]
        for name, untrained in (("trained", False), ("scratch", True))
        if release(trained.output_dir, tmp_path / name, untrained)
    )
    assert one.shape == other.shape
    assert np.abs(one - other).max() > 1e-3
    again = release(trained.output_dir, tmp_path / "again", untrained=True)
    assert again["steps"] == 0
    assert (weights.read(tmp_path / "again")["encoder.layers.0.linear1.weight"] == other).all()


def test_a_run_without_a_checkpoint_is_refused(trained, tmp_path):
    recipes.save(trained, tmp_path / "recipe.resolved.yaml")
    with pytest.raises(UserError, match="no complete checkpoint"):
        release(tmp_path, tmp_path / "out")
    assert command.main(["release", str(tmp_path), "--output", str(tmp_path / "out")]) == 2


def masked_lm_values(shards, folder):
    return {
        "output_dir": str(folder / "run"),
        "model_dir": str(folder / "model"),
        "data": {"shards": str(shards)},
        "batch": {"global_batch_size": 16, "relation_group_size": 4},
        "encoder": tiny.sizes(2, 16),
        "optimizer": {"learning_rate": 0.01, "warmup_steps": 2, "total_steps": 4},
        "monitor": {"log_every_steps": 1},
    }


def test_masked_lm_makes_a_teacher(tiny_root, tmp_path):
    recipe = check(MaskedLMRecipe, masked_lm_values(tiny_root / "shards", tmp_path), "test")
    assert entry.train(recipe, mlm.build, mlm.write_teacher) == 0
    encoder = load_encoder(tmp_path / "model")
    assert encoder.config.num_hidden_layers == 2
    assert (tmp_path / "model" / "vocab.txt").read_text(encoding="utf-8").split() == tiny.TOKENS
    assert is_finished(recipe)
    (tmp_path / "model" / "model.safetensors").unlink()
    assert not is_finished(recipe)  # the same command writes it again


def test_a_finished_masked_lm_run_may_be_moved(tiny_root, tmp_path, capsys):
    def started(folder, *overrides):
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(masked_lm_values(tiny_root / "shards", folder)))
        return mlm.main(["--config", str(path), *overrides])

    assert started(tmp_path / "first") == 0
    (tmp_path / "first").rename(tmp_path / "moved")
    assert started(tmp_path / "moved") == 0
    assert "this run is finished" in capsys.readouterr().out
    assert started(tmp_path / "moved", "--model_dir", str(tmp_path / "elsewhere")) == 0
    assert load_encoder(tmp_path / "elsewhere").config.num_hidden_layers == 2
    assert started(tmp_path / "moved", "--masking.share", "0.3") == 2
    assert "masking.share: was 0.15, is now 0.3" in capsys.readouterr().err


def test_the_published_student_has_59_7_million_weights():
    from pretrain.encoders.student import build_student, parameters

    path = tiny.ROOT / "launch" / "recipes" / "ppminilm-6l-768h" / "distill.yaml"
    recipe = recipes.load(DistillRecipe, path)
    vocabulary = type("Vocabulary", (), {"vocab_size": 21128, "special_ids": {"pad": 0}})
    assert parameters(build_student(recipe.student, vocabulary)) / 1e6 == pytest.approx(
        59.7, abs=0.1
    )
    assert (recipe.teacher.layer, recipe.student.layer, recipe.relations.heads) == (20, 6, 64)
    assert (recipe.relations.alpha, recipe.relations.beta, recipe.relations.hidden) == (0, 1, 0)
