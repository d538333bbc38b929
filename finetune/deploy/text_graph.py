"""An ONNX graph from texts to the ids of `data_pipeline.text.encode`, for ONNX Runtime.

It consists of standard operators and of com.microsoft.Tokenizer, which cuts a string into
characters and is part of every ordinary build of ONNX Runtime: no library of further operators is
needed.
"""

from pathlib import Path

import numpy as np

from data_pipeline.text.encode import LONGEST_WORD, WordPieceEncoder
from finetune.deploy import text_nodes
from finetune.deploy.text_tables import BLANK, INSIDE, WORD, Tables, tables_of

TEXT, PAIR = "text", "pair"
OPSETS = {"": 17, "com.microsoft": 1, "ai.onnx.ml": 2}


def tokenizer_graph(
    directory: Path, max_length: int, pairs: bool, opsets: dict[str, int], ir_version: int
):
    """The ONNX model of a model directory's tokenizer.

    Inputs: `text`, strings [N], N at least 1; if `pairs`, also `pair`, strings [N], of which an
    empty one means a text without a pair. Outputs: `input_ids` and `token_type_ids`, int64 [N, L],
    padded with the id of [PAD] and 0, cut to `max_length` as `WordPieceEncoder.classify` does.

    opsets: versions by domain, those of the model that it will be joined with.
    """
    from onnx import numpy_helper, parser

    tables = tables_of(WordPieceEncoder.of_directory(directory))
    opsets = OPSETS | opsets
    imports = ", ".join(f'"{domain}": {version}' for domain, version in opsets.items())
    inputs = ", ".join(f"string[N] {name}" for name in ((TEXT, PAIR) if pairs else (TEXT,)))
    model = parser.parse_model(
        f"<ir_version: {ir_version}, opset_import: [{imports}]>\n"
        f"tokenizer ({inputs}) => (int64[N, L] input_ids, int64[N, L] token_type_ids) "
        f"{{{_nodes(tables, pairs)}}}"
    )
    read = {name for graph in _graphs(model.graph) for node in graph.node for name in node.input}
    constants = _special_constants(tables) | _constants(tables, max_length)
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name)
        for name, value in constants.items()
        if name in read
    )
    _encode(model.graph, "classes", "strings", tables.classes)
    _encode(model.graph, "next_state", "int64s", tables.steps)
    return model


def _nodes(tables: Tables, pairs: bool) -> str:
    sizes = _special_lengths(tables)
    places = "".join(text_nodes.SPECIAL_PLACE.format(i=i, next=i + 1) for i in range(max(sizes)))
    inside = "".join(
        text_nodes.SPECIAL_INSIDE.format(length=length, number=number, next=number + 1)
        for number, length in enumerate(sizes)
    )
    rows, lengths = text_nodes.PAIRED if pairs else text_nodes.SINGLE
    return "".join(
        (
            rows,
            text_nodes.CHARACTERS,
            text_nodes.SPECIAL_BEGINS,
            places,
            text_nodes.SPECIAL_ENDS.format(places=max(sizes)),
            inside,
            text_nodes.SYMBOLS.format(lengths=len(sizes)),
            text_nodes.MATCHES,
            text_nodes.PIECES,
            text_nodes.IDS,
            text_nodes.COUNTS,
            lengths,
            text_nodes.ENCODING,
        )
    )


def _special_lengths(tables: Tables) -> list[int]:
    return sorted({len(classes) for _, classes in tables.special.values()})


def _special_constants(tables: Tables) -> dict:
    """The special tokens S, by place: class, and whether a token is that short."""
    classes = [classes for _, classes in tables.special.values()]
    lengths = np.array([len(each) for each in classes])
    longest = int(lengths.max())
    constants = {
        "always": np.ones(len(classes), bool),
        "special_symbol": np.array([-(number + 1) for number, _ in tables.special.values()]),
        "pad_right": np.array([0, 0, 0, longest]),
    }
    for place in range(longest):
        constants[f"special_class_{place}"] = np.array(
            [each[place] if place < len(each) else 0 for each in classes]
        )
        constants[f"special_is_shorter_than_{place}"] = lengths <= place
        constants[f"at_{place}"] = np.array([place])
    for length in _special_lengths(tables):
        constants[f"special_has_length_{length}"] = (lengths == length).astype(np.int64)
        constants[f"pad_left_{length}"] = np.array([0, length, 0, 0])
    return constants


def _constants(tables: Tables, max_length: int) -> dict:
    room = max_length - 3
    scalars = {
        **{"zero": 0, "one": 1, "two": 2, "blank": BLANK, "word": WORD, "inside": INSIDE},
        **{"alphabet": tables.alphabet, "longest_token": tables.longest},
        **{"longest_word": LONGEST_WORD, "unknown_id": tables.ids["unk"]},
        **{"room": room, "half_room": room // 2, "room_less_half": room - room // 2},
        "room_alone": max_length - 2,
    }
    return {name: np.int64(value) for name, value in scalars.items()} | {
        "true": np.True_,
        "blank_row": np.array([" "], object),
        "never": np.zeros(1, bool),
        "axis_1": np.array([1]),
        "last_axis": np.array([-1]),
        "minus_1": np.array([-1]),
        "blank_1": np.array([BLANK]),
        "symbol_table": tables.symbols,
        "accepted": tables.accepted,
        "cls_sep_pad": np.array([tables.ids[name] for name in ("cls", "sep", "pad")]),
    }


def _encode(graph, output: str, keys: str, table: dict) -> None:
    """Give the LabelEncoder that computes `output`, in the graph or in a loop's body, its table."""
    from onnx import helper

    (node,) = (node for each in _graphs(graph) for node in each.node if output in node.output)
    node.attribute.append(helper.make_attribute(f"keys_{keys}", list(table)))
    node.attribute.append(helper.make_attribute("values_int64s", list(table.values())))


def _graphs(graph) -> list:
    """A graph and the bodies of its loops."""
    return [graph, *(a.g for node in graph.node for a in node.attribute if a.HasField("g"))]
