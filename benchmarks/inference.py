"""How much faster the product answers than BERT-base, stage by stage, on this machine.

    python benchmarks/inference.py [--json FILE] [--report runs/demo/report.json]

Random weights at the published sizes (speed does not depend on them): BERT-base 12 layers x 768
against PP-MiniLM 6 x 768, its deployed form, width 3/4, INT8, and INT8 in OpenVINO, as the shipped
recipes deploy it; 2 threads, batch 32. The others run in ONNX Runtime; BERT-base in both.

- ratio_padded_128: every text 128 tokens, the published protocol, over BERT-base FP32 in ONNX
  Runtime. Published there: 8.88, on a T4 with TensorRT and a fast tokenizer (PaddleNLP,
  model_compression/pp-minilm).
- ratio_same_runtime: the same over BERT-base FP32 in OpenVINO, the fastest FP32;
  ratio_same_runtime_bfloat16: what is not INT8 in bfloat16 (inference.bfloat16).
- ratio_onnxruntime: both in ONNX Runtime.
- ratio_end_to_end: from iNEWS titles to labels. The peer is served the published way: PaddleNLP's
  Python tokenizer, batches in arrival order, padded to their longest, in ONNX Runtime.
- ratio_fp32_fused: BERT-base FP32 against width 3/4 in FP32, both fused, both in ONNX Runtime: what
  INT8 has no part in.
- ratio_over_bert_int8: against BERT-base in the same INT8 and runtime.
- ratio_small_padded_128: BERT-base FP32 in ONNX Runtime against 3 layers x 384 in INT8.
- prune_drop_points, int8_drop_points: points lost on dev, of the score that the report names, from
  a report that `python -m finetune compress` wrote.

All models are fused by the same optimiser and called in turn; medians are compared; the raw repeats
are in the JSON.
"""

import argparse
import json
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

if __name__ == "__main__":  # this folder has a data_pipeline.py too: look from the root
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks import report
from data_pipeline.base.errors import UserError, command
from data_pipeline.base.files import write_json
from data_pipeline.base.recipes import load
from finetune.deploy.backend_openvino import OpenVinoBackend
from finetune.deploy.backends import Backend, OnnxBackend
from finetune.deploy.onnx_session import DISABLED
from finetune.deploy.predict import Predictor
from finetune.recipes import CompressRecipe
from finetune.tasks import open_task
from finetune.tasks.settings import TaskSettings
from finetune.training.batches import encode, pad

HIDDEN, VOCAB, LABELS, BATCH, LENGTH, TITLES = 768, 21128, 3, 32, 128, 320
LIBRARIES = ("paddlepaddle", "paddlenlp", "onnxruntime", "openvino", "tokenizers", "numpy")
PEER, PEER_INT8 = "BERT-base FP32", "BERT-base INT8"
OPENVINO, BFLOAT16 = " in OpenVINO", ", rest bfloat16"  # behind a row's name: how its graph is run
RECIPE = Path(__file__).parents[1] / "launch/recipes/ppminilm-6l-768h/compress.yaml"
STAGES = ("PP-MiniLM 6L FP32", "+ deployed form", "+ width 0.75", "+ INT8")
PRODUCT = STAGES[-1] + OPENVINO
SMALL_HIDDEN, SMALL_FP32, SMALL_INT8 = 384, "3L-384H FP32", "3L-384H INT8"
SMALL = SMALL_INT8 + OPENVINO
PEERS = (PEER, PEER + OPENVINO, PEER_INT8, PEER_INT8 + OPENVINO)
ROWS = (*PEERS, *STAGES, PRODUCT, PRODUCT + BFLOAT16, SMALL)


@command
def main(argv: list[str] | None = None) -> int:
    """Measure, print the table, write JSON."""
    arguments = parse(argv)
    drops = accuracy_drops(arguments.report)
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        examples = open_task(TaskSettings(name="inews")).split("test")[:TITLES]
        write_vocab(root / "vocab.txt")
        build(root, examples, arguments.layers_scale)
        padded = measure_padded(root, arguments)
        texts = [example.text for example in examples]
        end_to_end = measure_end_to_end(root, texts, arguments)
    figures = {
        "ratio_padded_128": ratio(padded, PEER, PRODUCT),
        "ratio_same_runtime": ratio(padded, PEER + OPENVINO, PRODUCT),
        "ratio_same_runtime_bfloat16": ratio(padded, PEER + OPENVINO, PRODUCT + BFLOAT16),
        "ratio_onnxruntime": ratio(padded, PEER, STAGES[-1]),
        "ratio_end_to_end": ratio(end_to_end, PEER, PRODUCT),
        "ratio_fp32_fused": ratio(padded, PEER, STAGES[2]),
        "ratio_over_bert_int8": ratio(padded, PEER_INT8 + OPENVINO, PRODUCT),
        "ratio_small_padded_128": ratio(padded, PEER, SMALL),
        **drops,
    }
    show(padded, end_to_end, figures)
    raw = {"padded_128": padded, "end_to_end": end_to_end}
    report.write(arguments.json, figures, vars(arguments), LIBRARIES, seconds=raw)
    return 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--json", type=Path, help="write figures and raw repeats there")
    parser.add_argument("--report", type=Path, default=Path("runs/demo/report.json"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument(
        "--layers_scale", type=int, default=1, help="divide layer counts by this, for a quick try"
    )
    return parser.parse_args(argv)


def accuracy_drops(report: Path) -> dict[str, float]:
    """Points that width 3/4 and INT8 lose, from the rows of a compress run's report."""
    try:
        values = json.loads(report.read_text(encoding="utf-8"))
        points = {row["name"]: 100 * row["dev"][values["score"]] for row in values["models"]}
        full = points["student"]
        return {
            "prune_drop_points": round(full - points["student-width-0.75"], 3),
            "int8_drop_points": round(full - points["student-int8"], 3),
        }
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{report}: no report of a compress run ({error}); "
            "run python -m finetune compress --config launch/recipes/demo/compress.yaml first"
        ) from None


def write_vocab(path: Path) -> None:
    """A vocabulary of the published size: the characters of iNEWS titles and ASCII."""
    titles = "".join(e.text for e in open_task(TaskSettings(name="inews")).split("train"))
    characters = sorted(
        {c for c in titles.lower() if not c.isspace()} | set(map(chr, range(33, 127)))
    )
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters]
    tokens += [f"##{c}" for c in characters if c.isascii()]
    tokens += [f"[unused{i}]" for i in range(VOCAB - len(tokens))]
    path.write_text("\n".join(tokens) + "\n", encoding="utf-8")


def build(root: Path, examples: list, scale: int) -> None:
    """One directory per row, each with model.onnx; the product is a full deployable one.

    All graphs are fused by the same optimiser, as `finetune export` does. INT8 is what the shipped
    recipes ask for.
    """
    from finetune.deploy.deployed import DeployedClassifier

    bert = random_classifier("BertModel", 12 // scale, "gelu")
    to_onnx(bert, root / PEER)
    mini = random_classifier("PPMiniLMModel", 6 // scale, "relu")
    to_onnx(mini, root / STAGES[0])
    to_onnx(DeployedClassifier(mini), root / STAGES[1])
    small = random_classifier("PPMiniLMModel", max(1, 3 // scale), "relu", SMALL_HIDDEN)
    to_onnx(DeployedClassifier(small), root / SMALL_FP32)
    write_product(root, examples, mini)
    for source, name in ((PEER, PEER_INT8), (SMALL_FP32, SMALL_INT8)):
        quantise(root, source, name, examples)


def write_product(root: Path, examples: list, mini) -> Path:
    """The deployable directory of the product, from a model of full width, which is pruned."""
    from finetune.deploy.deployed import DeployedClassifier
    from finetune.training import classifier

    layers = len(mini.layers)
    classifier.resize(mini, [9] * layers, [2304] * layers)
    mini.eval()
    to_onnx(DeployedClassifier(mini), root / STAGES[2])
    product = quantise(root, STAGES[2], STAGES[3], examples)
    (product / "vocab.txt").write_bytes((root / "vocab.txt").read_bytes())
    write_json(product / "labels.json", [str(label) for label in range(LABELS)])
    write_json(product / "deploy.json", {"backend": "openvino", "max_length": LENGTH})
    return product


def quantise(root: Path, source: str, name: str, examples: list) -> Path:
    """`root`/`name` with the INT8 graph of the row `source`."""
    from data_pipeline.text.encode import WordPieceEncoder
    from finetune.quantise.quantise import calibration_batches, quantise_file

    data = encode(WordPieceEncoder(root / "vocab.txt"), examples, LENGTH)
    settings = load(CompressRecipe, RECIPE).quantise
    (root / name).mkdir()
    paths = (root / source / "model.onnx", root / name / "model.onnx")
    quantise_file(*paths, settings, calibration_batches(data, settings), root / source)
    return root / name


def random_classifier(architecture: str, layers: int, activation: str, hidden: int = HIDDEN):
    """A classifier with fresh weights, by default of the published width."""
    from finetune.training.classifier import Classifier
    from pretrain.encoders.load import build_encoder

    config = {
        "architectures": [architecture],
        "vocab_size": VOCAB,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 12,
        "intermediate_size": 4 * hidden,
        "hidden_act": activation,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "pad_token_id": 0,
    }
    model = Classifier(build_encoder(config), LABELS)
    model.eval()
    return model


def to_onnx(layer, directory: Path) -> None:
    """`directory`/model.onnx of a layer from ids to logits, as `finetune export` writes it."""
    from finetune.deploy import export, formats

    directory.mkdir()
    export.save_static(layer, directory / "static")
    formats.write_fused_onnx(directory / "static", directory / "model.onnx")


def backend_of(root: Path, name: str, threads: int) -> Backend:
    """What computes a row. The peers keep ONNX Runtime's defaults, which serve them best."""
    graph = root / name.removesuffix(BFLOAT16).removesuffix(OPENVINO) / "model.onnx"
    if OPENVINO in name:
        return OpenVinoBackend(graph, threads, bfloat16=name.endswith(BFLOAT16))
    return OnnxBackend(graph, threads, disabled=() if name in PEERS else DISABLED)


def measure_padded(root: Path, arguments) -> dict[str, list[float]]:
    """Seconds of one batch of full-length texts, by stage, in turns."""
    ids = np.random.default_rng(0).integers(5, VOCAB, (BATCH, LENGTH))
    types = np.zeros_like(ids)
    calls = {n: partial(backend_of(root, n, arguments.threads).logits, ids, types) for n in ROWS}
    return in_turns(calls, arguments.repeats)


def measure_end_to_end(root: Path, texts: list[str], arguments) -> dict[str, list[float]]:
    """Seconds from TITLES texts to labels, peer and product in turns."""
    from paddlenlp.transformers import BertTokenizer

    tokenizer = BertTokenizer(str(root / "vocab.txt"))
    peer = backend_of(root, PEER, arguments.threads)
    ours = Predictor(root / STAGES[-1], arguments.threads, BATCH)

    def published_way() -> list[int]:
        labels: list[int] = []
        for start in range(0, len(texts), BATCH):
            rows = [
                tokenizer(text, max_length=LENGTH, truncation=True)
                for text in texts[start : start + BATCH]
            ]
            ids = pad([np.asarray(row["input_ids"]) for row in rows])
            types = pad([np.asarray(row["token_type_ids"]) for row in rows])
            labels += peer.logits(ids, types).argmax(-1).tolist()
        return labels

    calls = {PEER: published_way, PRODUCT: lambda: ours.predict(texts)}
    return in_turns(calls, max(5, arguments.repeats // 2))


def in_turns(calls: dict, repeats: int) -> dict[str, list[float]]:
    """Every call once a round, so that a busy moment hits all; the first round is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(repeats + 1):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            if number:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def ratio(seconds: dict[str, list[float]], peer: str, ours: str) -> float:
    """Of medians."""
    return round(float(np.median(seconds[peer]) / np.median(seconds[ours])), 3)


def spread(times: list[float]) -> str:
    """Median, smallest and largest."""
    return f"{np.median(times):8.3f} {min(times):7.3f} {max(times):7.3f}"


def show(padded: dict, end_to_end: dict, figures: dict) -> None:
    """The table, each stage with its own factor."""
    heads = f"{'seconds':>8} {'min':>7} {'max':>7}"
    print(f"{'padded to 128, batch 32':36} {heads} {'own factor':>11} {'in all':>7}")
    before = PEER
    for name, times in padded.items():
        before = PEER if name in (*PEERS, SMALL) else before
        own, whole = ratio(padded, before, name), ratio(padded, PEER, name)
        print(f"{name:36} {spread(times)} {own:10.2f}x {whole:6.2f}x")
        before = name if name not in PEERS else PEER
    print(f"\n{f'{TITLES} titles, text to labels':36} {heads}")
    for name, times in end_to_end.items():
        print(f"{name:36} {spread(times)}")
    print()
    for name, value in figures.items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    sys.exit(main())
