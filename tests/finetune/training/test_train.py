"""Fine-tuning: it learns, keeps the best, stops early, learns from a teacher, is made once."""

import json
import shutil

import numpy as np
import pytest

from data_pipeline.base.errors import UserError
from data_pipeline.base.recipes import check
from data_pipeline.text.encode import WordPieceEncoder
from finetune import stages
from finetune.recipes import SearchRecipe, TrainRecipe
from finetune.settings import DistillSettings, FitSettings
from finetune.tasks import open_task
from finetune.tasks.settings import TaskSettings
from finetune.training import classifier
from finetune.training import search as searching
from finetune.training.batches import IGNORE, Encoded, encode
from finetune.training.evaluate import evaluate
from finetune.training.fit import fit
from finetune.training.token_data import EncodedTokens
from finetune.training.train import losses_of


def test_learns_the_task(classifier_dir):
    result = json.loads((classifier_dir / "result.json").read_text())
    assert result["accuracy"] > 0.95
    assert result["macro_f1"] > 0.95
    assert result["max_length"] == 16
    assert result["dev"]["accuracy"] == max(e["accuracy"] for e in result["history"])


def test_the_directory_gives_the_scores_it_states(classifier_dir, task):
    loaded = classifier.load(classifier_dir)
    data = encode(
        WordPieceEncoder.of_directory(loaded.tokenizer), open_task(task).split("test"), 16
    )
    assert evaluate(loaded.model, data)["accuracy"] == loaded.result["accuracy"]


def test_stock_paddlenlp_reads_a_classifier(classifier_dir):
    import paddle
    from paddlenlp.transformers import PPMiniLMForSequenceClassification

    from pretrain.encoders import weights

    stock = PPMiniLMForSequenceClassification(
        PPMiniLMForSequenceClassification.config_class.from_pretrained(str(classifier_dir))
    )
    weights.load_into(stock, weights.read(classifier_dir), "stock")
    stock.eval()
    ours = classifier.load(classifier_dir).model
    ours.eval()
    ids = paddle.to_tensor([[2, 7, 8, 3], [2, 9, 3, 0]])
    np.testing.assert_allclose(
        stock(ids).numpy(), ours(ids, paddle.zeros_like(ids)).numpy(), atol=1e-6
    )


def test_a_finished_stage_is_not_redone_and_a_changed_one_is(
    tmp_path, encoder, task, fit_settings, capsys
):
    quick = fit_settings.model_copy(update={"epochs": 0.2})
    recipe = TrainRecipe(output_dir=tmp_path / "c", encoder=encoder, task=task, train=quick)
    stages.train(recipe)
    first = (tmp_path / "c" / "stage.json").stat().st_mtime_ns
    stages.train(recipe)
    assert (tmp_path / "c" / "stage.json").stat().st_mtime_ns == first
    assert "finished already" in capsys.readouterr().err
    changed = quick.model_copy(update={"learning_rate": 1e-3})
    stages.train(recipe.model_copy(update={"train": changed}))
    assert "train.learning_rate: was 0.003, is now 0.001" in capsys.readouterr().err


def test_changed_labels_in_a_task_file_are_noticed(tmp_path, encoder, task, fit_settings, capsys):
    train = tmp_path / "train.jsonl"
    shutil.copyfile(task.train, train)
    quick = fit_settings.model_copy(update={"epochs": 0.1})
    recipe = TrainRecipe(
        output_dir=tmp_path / "c",
        encoder=encoder,
        task=task.model_copy(update={"train": train}),
        train=quick,
    )
    stages.train(recipe)
    text = train.read_text(encoding="utf-8")
    train.write_text(text.replace("money", "X").replace("weather", "money").replace("X", "weather"))
    capsys.readouterr()
    stages.train(recipe)
    shown = capsys.readouterr().err
    assert "train.jsonl: was" in shown
    assert "finished already" not in shown


def test_a_directory_that_is_not_ours_is_left_alone(tmp_path, encoder, task):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="was not made by this command"):
        stages.train(TrainRecipe(output_dir=tmp_path / "c", encoder=encoder, task=task))
    assert (tmp_path / "c" / "thesis.txt").exists()


def toy(count: int = 64) -> Encoded:
    rows = [np.array([2, 5 + i % 8, 3]) for i in range(count)]
    return Encoded(rows, [np.zeros(3, int) for _ in rows], np.arange(count) % 2)


def test_keeps_the_best_and_stops_early(encoder):
    model = classifier.from_encoder(encoder, 2)
    found = iter([0.5, 0.9, 0.8, 0.7, 0.6])
    seen = []

    def evaluated():
        seen.append(model.classifier.weight.numpy())
        accuracy = next(found)
        return {"accuracy": accuracy, "macro_f1": accuracy}

    settings = FitSettings(epochs=10, batch_size=32, evaluate_every=2, patience=2)
    fitted = fit(model, toy(), settings, losses_of(model, settings, toy()), evaluated)
    assert fitted.step == 4
    assert [entry["step"] for entry in fitted.history] == [2, 4, 6, 8]
    np.testing.assert_array_equal(model.classifier.weight.numpy(), seen[1])


def test_a_teacher_changes_what_is_learnt(tmp_path, encoder, task, classifier_dir, fit_settings):
    quick = fit_settings.model_copy(update={"epochs": 6})
    recipe = TrainRecipe(output_dir=tmp_path / "c", encoder=encoder, task=task, train=quick)
    distill = DistillSettings(teacher=classifier_dir, temperature=2.0, alpha=1.0)
    stages.train(recipe.model_copy(update={"distill": distill}))
    result = json.loads((tmp_path / "c" / "result.json").read_text())
    assert result["accuracy"] > 0.9  # from logits alone: alpha 1 leaves the labels out


def test_balanced_classes_weigh_the_rare_one_more(encoder):
    model = classifier.from_encoder(encoder, 2)
    model.eval()
    data = toy()
    data.labels[:] = [0] * 60 + [1] * 4
    plain, balanced = (FitSettings(balance_classes=choice) for choice in (False, True))
    gradients = []
    for settings in (plain, balanced):
        import paddle

        batch = {k: paddle.to_tensor(v) for k, v in data.take(np.arange(64)).items()}
        sum(losses_of(model, settings, data)(batch)).backward()
        gradients.append(model.classifier.bias.grad.numpy().copy())
        model.clear_gradients()
    assert abs(gradients[1][1]) < abs(gradients[0][1])


@pytest.mark.parametrize("architecture", ["RobertaModel", "BertModel", "ErnieModel"])
def test_other_families_classify_and_load_again(architecture, tmp_path, new_encoder):
    import paddle

    encoder = new_encoder(tmp_path / "e", architecture)
    model = classifier.from_encoder(encoder, 3)
    model.eval()
    classifier.save(model, tmp_path / "c", ["a", "b", "c"], encoder, {})
    again = classifier.load(tmp_path / "c").model
    again.eval()
    ids = paddle.to_tensor([[2, 7, 8, 3], [2, 9, 3, 0]])
    types = paddle.zeros_like(ids)
    np.testing.assert_array_equal(again(ids, types).numpy(), model(ids, types).numpy())


def test_an_epsilon_other_than_the_librarys_survives(tmp_path, new_encoder):
    """A Hugging Face ERNIE has 1e-5 where PaddleNLP's has 1e-12."""
    import paddle

    from pretrain.encoders.load import set_norm_epsilon

    encoder = new_encoder(tmp_path / "e", "ErnieModel")
    model = classifier.from_encoder(encoder, 2)
    set_norm_epsilon(model, 1e-3)
    model.eval()
    classifier.save(model, tmp_path / "c", ["a", "b"], encoder, {})
    again = classifier.load(tmp_path / "c").model
    again.eval()
    ids = paddle.to_tensor([[2, 7, 8, 3]])
    types = paddle.zeros_like(ids)
    np.testing.assert_array_equal(again(ids, types).numpy(), model(ids, types).numpy())


@pytest.mark.parametrize("architecture", ["PPMiniLMModel", "BertModel", "ErnieModel"])
def test_stock_tokenizers_open_a_classifier_directory(architecture, tmp_path, new_encoder):
    from paddlenlp.transformers import AutoTokenizer

    encoder = new_encoder(tmp_path / "e", architecture)
    model = classifier.from_encoder(encoder, 2)
    classifier.save(model, tmp_path / "c", ["a", "b"], encoder, {})
    stock = AutoTokenizer.from_pretrained(str(tmp_path / "c"))
    ids = stock("今天晴 abc")["input_ids"]
    assert ids == WordPieceEncoder(encoder / "vocab.txt").classify(["今天晴 abc"])[0][0]


def test_an_encoder_in_several_files_can_be_fine_tuned(tmp_path, encoder, task, fit_settings):
    from pretrain.encoders import weights

    sharded = tmp_path / "e"
    shutil.copytree(encoder, sharded)
    tensors = weights.read(sharded)
    (sharded / "model.safetensors").unlink()
    places = {}
    for number, name in enumerate(sorted(tensors)):
        places[name] = f"model-{number % 2}.safetensors"
    for file in set(places.values()):
        part = {name: tensors[name] for name in tensors if places[name] == file}
        weights.write(sharded / file, part)
    (sharded / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    quick = fit_settings.model_copy(update={"epochs": 0.1})
    recipe = TrainRecipe(output_dir=tmp_path / "c", encoder=sharded, task=task, train=quick)
    assert (stages.train(recipe) / "model.safetensors").is_file()


def test_a_length_beyond_the_positions_is_named(tmp_path, encoder, task):
    recipe = TrainRecipe(output_dir=tmp_path / "c", encoder=encoder, task=task, max_length=129)
    with pytest.raises(UserError, match="max_length: 129 is more than the 128 positions"):
        stages.train(recipe)
    search = {"output_dir": tmp_path / "s", "encoder": encoder, "task": task.model_dump()}
    with pytest.raises(UserError, match="max_length: 129 is more than the 128 positions"):
        searching.search(check(SearchRecipe, search | {"max_length": 129}, "test"))


def test_a_tasks_own_length_beyond_the_positions_is_named(tmp_path, encoder):
    row = {"keyword": ["天气"], "abst": "今天晴", "label": "1"}
    for name in ("train", "dev"):
        (tmp_path / f"{name}.json").write_text(json.dumps(row, ensure_ascii=False) + "\n")
    csl = TaskSettings(name="csl", directory=tmp_path)
    with pytest.raises(UserError, match="max_length: 256 is more than the 128 positions"):
        stages.train(TrainRecipe(output_dir=tmp_path / "c", encoder=encoder, task=csl))


def test_damaged_weights_are_a_users_error(tmp_path, classifier_dir):
    shutil.copytree(classifier_dir, tmp_path / "c")
    path = tmp_path / "c" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="damaged"):
        classifier.load(tmp_path / "c")


@pytest.mark.parametrize("name", ["kept_heads", "kept_ffn"])
@pytest.mark.parametrize("value", [5, "xx", [4], [4, "b"], [4, 0], {"0": 4}])
def test_counts_that_do_not_fit_the_layers_are_named(name, value, tmp_path, classifier_dir):
    shutil.copytree(classifier_dir, tmp_path / "c")
    path = tmp_path / "c" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    with pytest.raises(UserError, match=rf"config\.json: {name} is not a list of 2 whole numbers"):
        classifier.load(tmp_path / "c")


@pytest.mark.parametrize("architectures", [5, {}, [], None])
def test_architectures_that_are_no_list_mean_nothing(architectures, tmp_path, classifier_dir):
    shutil.copytree(classifier_dir, tmp_path / "c")
    path = tmp_path / "c" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"architectures": architectures}))
    assert classifier.load(tmp_path / "c").model.kind == "classification"


def test_a_pickle_is_refused(tmp_path, classifier_dir):
    shutil.copytree(classifier_dir, tmp_path / "c")
    (tmp_path / "c" / "model.safetensors").rename(tmp_path / "c" / "model_state.pdparams")
    with pytest.raises(UserError, match=r"model_state\.pdparams"):
        classifier.load(tmp_path / "c")


def test_an_encoder_that_is_not_there_is_told_how_to_get(tmp_path, task):
    recipe = TrainRecipe(output_dir=tmp_path / "c", encoder="roberta-wwm-ext-large", task=task)
    with pytest.raises(UserError, match="hfl/chinese-roberta-wwm-ext-large"):
        stages.train(recipe)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n", r"the vocabularies differ"),
        ("labels.json", '["a", "b"]', "labels are not the task's 2: a, b against money, weather"),
    ],
)
def test_a_teacher_must_read_and_say_the_same(
    name, content, message, tmp_path, encoder, task, classifier_dir
):
    shutil.copytree(classifier_dir, tmp_path / "teacher")
    (tmp_path / "teacher" / name).write_text(content)
    distill = DistillSettings(teacher=tmp_path / "teacher")
    recipe = TrainRecipe(output_dir=tmp_path / "c", encoder=encoder, task=task, distill=distill)
    with pytest.raises(UserError, match=message):
        stages.train(recipe)


class FirstGradients(Exception):
    """Ends a training after its first gradients."""


def first_gradients(model, data, **settings) -> dict[str, np.ndarray]:
    """Of every parameter, what the first step's optimiser gets."""
    found = {}

    def stop(step, total):
        found.update({n: p.grad.numpy() for n, p in model.named_parameters() if p.grad is not None})
        raise FirstGradients

    settings = FitSettings(epochs=1, batch_size=12, dropout=0.0, **settings)
    with pytest.raises(FirstGradients):
        fit(model, data, settings, losses_of(model, settings, data), dict, on_gradients=stop)
    return found


@pytest.mark.parametrize("kind", ["classification", "tokens"])
def test_gradients_of_parts_add_up_to_those_of_the_batch(kind, encoder):
    lengths = [3 + i % 7 for i in range(12)]  # token labels: parts do not count alike
    ids = [
        np.array([2, *(5 + (i + j) % 9 for j in range(n - 2)), 3]) for i, n in enumerate(lengths)
    ]
    types = [np.zeros(n, np.int64) for n in lengths]
    if kind == "tokens":
        labels = [np.array([IGNORE, *(j % 3 for j in range(n - 2)), IGNORE]) for n in lengths]
        data = EncodedTokens(ids, types, labels)
    else:
        data = Encoded(ids, types, np.arange(12) % 3)
    model = classifier.from_encoder(encoder, 3, kind)
    whole = first_gradients(model, data)
    for micro in (5, 1):
        model.clear_gradients()
        parts = first_gradients(model, data, micro_batch_size=micro)
        assert parts.keys() == whole.keys() and len(whole) > 10
        for name, value in parts.items():
            np.testing.assert_allclose(value, whole[name], atol=1e-6, err_msg=name)


def test_the_host_does_not_wait_for_the_loss_of_every_step(encoder, monkeypatch):
    import paddle

    model, data, steps = classifier.from_encoder(encoder, 2), toy(256), []
    reads = {"all": 0}

    def counted(method):
        def read(self, *arguments):
            reads["all"] += 1
            return method(self, *arguments)

        return read

    for name in ("numpy", "item", "tolist"):
        monkeypatch.setattr(paddle.Tensor, name, counted(getattr(paddle.Tensor, name)))
    settings = FitSettings(epochs=1, batch_size=4, evaluate_every=1000, dropout=0.0)
    fit(
        model,
        data,
        settings,
        losses_of(model, settings, data),
        lambda: {"accuracy": 0.0, "macro_f1": 0.0},
        after_step=lambda step, total: steps.append(reads["all"]),
    )
    assert len(steps) == 64
    assert steps[18] - steps[0] == 0  # none in 18 steps
    assert steps[-1] - steps[0] == 3  # for the progress bar, at 20, 40 and 60
