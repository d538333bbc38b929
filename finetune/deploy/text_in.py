"""One ONNX file from strings to answers: the tokenizer, an exported model and what its kind of task
asks for. Programs in any language that have ONNX Runtime need nothing else."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import write_json
from data_pipeline.text.encode import WordPieceEncoder
from finetune.deploy.backends import OnnxBackend, read_deploy
from finetune.deploy.formats import FORMATS, INPUTS
from finetune.deploy.onnx_session import open_session
from finetune.deploy.text_graph import PAIR, TEXT, tokenizer_graph
from finetune.recipes import TextInRecipe
from finetune.training.files import read_labels
from finetune.training.kinds import KINDS
from finetune.training.label_set_data import THRESHOLD

FILE = "text.onnx"


@dataclass(frozen=True)
class Answer:
    """How a graph goes on from a model's output, named `output`."""

    outputs: str
    """Types and names."""
    nodes: str
    """No name in them may be one of `text_nodes`."""


# A kind without an entry has no text-in graph.
ANSWERS = {
    "classification": Answer(
        "float[N, C] logits, float[N, C] probabilities, string[N] label",
        """
        logits = Identity (output)
        probabilities = Softmax <axis = -1> (output)
        label_number = ArgMax <axis = -1, keepdims = 0> (output)
        label = Gather (labels, label_number)
        """,
    ),
    "multi_label": Answer(
        "float[N, C] logits, float[N, C] probabilities, bool[N, C] chosen",
        """
        logits = Identity (output)
        probabilities = Sigmoid (output)
        chosen = GreaterOrEqual (probabilities, threshold)
        """,
    ),
    "regression": Answer("float[N] score", "score = Squeeze (output, score_axis)"),
    "embedding": Answer("float[N, H] vectors", "vectors = Identity (output)"),
}

# What the ids are compared on when a graph is made; every rule of the tokenizer is in there.
SENTENCES = (
    "今天天气很好，我们去公园。",
    "iPhone7Plus vs. HUAWEI P30-Pro!!! unaffordable GOODING 3.14159 e-mail@example.com",
    "ＡＢｃ１２３，（全角）　￥１００",
    "café naïve Ångström İstanbul ẞß ΣΟΦΟΣ ﬁ ǅ Ё ё",
    "カタカナ がぎぐ ひらがな 한국어 русский עברית العربية ไทย हिन्दी",
    "😀👨‍👩‍👧🇨🇳❤️ 𠀀𪚥豈 〇①Ⅳ½² 37°C ±2‰ §№ $^`~ ≠",
    "a\u200bb\ufeffc\u00add\ufffdf\u0301g\ue000h\u2028i\u0085j\tk\nl\r\nm\u3000n",
    "[CLS] 你[SEP]，[MASK]了[UNK][PAD] [mask] [ MASK ] [[SEP]] [C\u200bLS]",
    "x" * 100 + " " + "x" * 101 + "中" + "9" * 250,
    "今天天气很好" * 200,
    "word " * 300,
    "？",
    " \t\u3000",
    "",
)


def write_text_in(recipe: TextInRecipe, directory: Path) -> None:
    """Write text.onnx, the text-in graph of an exported model, into `directory`.

    UserError when the model's kind has none, or when ids or outputs differ from those of this
    project's own tokenizer and of the model.
    """
    import onnx

    source = recipe.model
    deploy, kind = _described(recipe)
    max_length = int(deploy.get("max_length", 128))
    labels = read_labels(source, KINDS[kind].least_labels) if kind in KINDS else []
    OnnxBackend(source / "model.onnx")  # its error says what is damaged; that of `onnx` does not
    model = onnx.load(str(source / "model.onnx"))
    opsets = {item.domain: item.version for item in model.opset_import}
    tokenizer = tokenizer_graph(source, max_length, recipe.pairs, opsets, model.ir_version)
    joined = joined_graphs(tokenizer, model, answer_graph(kind, labels, deploy, model.ir_version))
    about = {"kind": kind, "labels": labels, "max_length": max_length}
    about |= {name: deploy[name] for name in (THRESHOLD, "embedding") if name in deploy}
    onnx.helper.set_model_props(
        joined, {name: json.dumps(value, ensure_ascii=False) for name, value in about.items()}
    )
    onnx.save(joined, str(directory / FILE))
    if labels:
        write_json(directory / "labels.json", labels)
    check_text_in(recipe, max_length, tokenizer.SerializeToString(), directory / FILE)


def _described(recipe: TextInRecipe) -> tuple[dict, str]:
    """deploy.json and the kind of a model that has a text-in graph; UserError for any other."""
    source, deploy = recipe.model, read_deploy(recipe.model)
    kind = deploy.get("kind", "classification")
    if deploy["backend"] not in FORMATS["onnx"].backends:
        raise UserError(
            f"{source}: made for {deploy['backend']}; a text-in graph is made from an export with "
            "format: onnx, or from an INT8 model"
        )
    if kind not in ANSWERS:
        raise UserError(
            f"{source}: a model of kind {kind!r}; text-in graphs are for {', '.join(ANSWERS)} "
            "(entities need their places in the text, which `predict` and `serve` give)"
        )
    if recipe.pairs and kind == "embedding":
        raise UserError(f"{source}: gives vectors of single texts; pairs: true does not fit it")
    return deploy, kind


def joined_graphs(tokenizer, model, answers):
    """The three as one ONNX model, with the tokenizer's inputs and the answers' outputs."""
    from onnx import compose

    name = model.graph.output[0].name
    model = compose.add_prefix(model, "model.")  # its names must not meet the tokenizer's
    answered = compose.merge_models(model, answers, io_map=[(f"model.{name}", "output")])
    return compose.merge_models(
        tokenizer, answered, io_map=[(name, f"model.{name}") for name in INPUTS]
    )


def answer_graph(kind: str, labels: list[str], deploy: dict, ir_version: int):
    from onnx import numpy_helper, parser

    answer = ANSWERS[kind]
    model = parser.parse_model(
        f'<ir_version: {ir_version}, opset_import: ["": 17]>\n'
        f"answers (float[N, C] output) => ({answer.outputs}) {{{answer.nodes}}}"
    )
    constants = {
        "labels": np.array(labels, object),
        "threshold": np.float32(deploy.get(THRESHOLD, 0.5)),
        "score_axis": np.array([-1]),
    }
    read = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(constants[name]), name)
        for name in constants.keys() & read
    )
    return model


def check_text_in(recipe: TextInRecipe, max_length: int, tokenizer: bytes, path: Path) -> None:
    """UserError unless ids are those of the model's tokenizer, and outputs those of the model, on
    SENTENCES, each by itself and all together."""
    encoder = WordPieceEncoder.of_directory(recipe.model)
    backend = OnnxBackend(recipe.model / "model.onnx")  # programs run the graph in ONNX Runtime
    ids_of, whole = open_session(tokenizer, threads=1), open_session(path, threads=1)
    pairs = [None, *SENTENCES[:-1]] if recipe.pairs else [None] * len(SENTENCES)
    together = ids_of.run(None, feed(SENTENCES, pairs, recipe.pairs))
    for row, (text, pair) in enumerate(zip(SENTENCES, pairs, strict=True)):
        pair_or_none = pair or None  # an empty one is none
        expected = encoder.classify([text], pair_or_none and [pair_or_none], max_length)
        given = feed([text], [pair], recipe.pairs)
        alone = ids_of.run(None, given)
        for values, batch, one in zip(expected, together, alone, strict=True):
            length = len(values[0])
            if one.tolist() != values or batch[row, :length].tolist() != values[0]:
                raise UserError(
                    f"{recipe.model}: the graph gives {ascii(text)[:60]} other ids than the "
                    "tokenizer; this is a fault of the program, please report it"
                )
        wanted = backend.logits(*(np.asarray(values, np.int64) for values in expected))
        difference = float(np.abs(whole.run(None, given)[0] - wanted.reshape(-1)).max())
        if not difference <= recipe.check_tolerance:
            raise UserError(
                f"{path}: outputs differ by {difference:.2g} from the model's, more than "
                f"check_tolerance ({recipe.check_tolerance:g})"
            )


def feed(texts, pairs, with_pairs: bool) -> dict[str, np.ndarray]:
    """The inputs of a text-in graph; `pairs` are read only if it takes them."""
    values = {TEXT: np.array(list(texts), object)}
    if with_pairs:
        values[PAIR] = np.array([pair or "" for pair in pairs], object)
    return values
