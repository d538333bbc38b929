"""A distillation step here and in the published loop, on the same sentences and sizes.

    python benchmarks/distill_step.py [--json FILE] [--torch PYTHON] [--rounds 3] [--shards DIR]

Contenders run one after the other, each in a process of its own, for some rounds; medians are
compared. Encoders have random weights of the published sizes; sentences come from shards.

- published: the loop as it is documented: all 24 layers of the teacher, with its dropout on.
  published_eval: the same with the teacher in eval mode, to tell what the dropout costs.
- ours: the teacher in ONNX Runtime, float32. ours_dynamic: in Paddle, operation by operation, the
  recipes' default. ours_engine: in ONNX Runtime, INT8, with its relation error in the next column.
- torch_fp32, torch_bf16: the step in PyTorch, its teacher cut after the layer that is learned.

ratio, ratio_dynamic and ratio_teacher_engine are over published; ratio_eval and ratio_dynamic_eval
over published_eval. relation_share is of a step of ours, sample relations; matmul_ceiling_share is
of Paddle's largest product, measured in the same process. The load average of each repeat tells
what else the machine was doing.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

# Not this folder, where data_pipeline.py is a benchmark and would hide the package.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks.encoder_sizes import GROUP, SIZES  # noqa: E402
from benchmarks.step_batches import sample_lists, shuffled  # noqa: E402

LIBRARIES = ("paddlepaddle", "paddlenlp", "onnxruntime", "numpy")
# The teacher's engine for each of ours. onnx computes in float32, as the published loop does.
ENGINES = {"ours": "onnx", "ours_dynamic": "dynamic", "ours_engine": "onnx_int8"}
PUBLISHED = ("published", "published_eval")
CONTENDERS = (*PUBLISHED, *ENGINES)
TORCH = ("torch_fp32", "torch_bf16")
UNITS = {"seq_s": "sequences/s", "mb": "MB"}


def main() -> None:
    """Run the rounds, or, as a child, one contender."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write figures, settings and repeats here")
    parser.add_argument("--rounds", type=int, default=3, help="times that each contender runs")
    parser.add_argument("--batches", type=int, default=4, help="timed batches of 16 a run")
    parser.add_argument("--sizes", choices=SIZES, default="published", help="of both encoders")
    parser.add_argument("--shards", type=Path, default=Path("runs/demo/shards"))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument(
        "--torch", metavar="PYTHON", help="an interpreter with torch and transformers"
    )
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parser.add_argument("--samples", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        print("RESULT " + json.dumps(contend(options)))
        return
    runs = {}
    contenders = (*CONTENDERS, *(TORCH if options.torch else ()))
    for number in range(options.rounds):
        for name in contenders:
            result = child(name, options)
            runs.setdefault(name, []).append(result)
            print(f"round {number + 1} {name}: {result['seq_s']:.2f} sequences/s", file=sys.stderr)
    figures = figures_of(runs)
    for name, value in figures.items():
        print(f"{name:34} {value:12.4g}")
    if options.json:
        from benchmarks import report  # not by every child: one is another interpreter

        report.write(options.json, figures, vars(options), LIBRARIES, runs=runs)


def child(name: str, options: argparse.Namespace) -> dict:
    """Run one contender in a process of its own, with the settings that suit every one of them."""
    python = options.torch if name in TORCH else sys.executable
    words = [python, "-W", "ignore", __file__, "--contender", name, "--sizes", options.sizes]
    words += ["--batches", str(options.batches), "--shards", str(options.shards)]
    threads = str(options.threads)
    settings = {"MKL_DEBUG_CPU_TYPE": "5", "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    with tempfile.TemporaryDirectory() as folder:
        if name in TORCH:  # that interpreter need not have what reading shards takes
            words += ["--samples", f"{folder}/samples.npz"]
            np.savez(f"{folder}/samples.npz", *shuffled(sample_lists(options)))
        done = subprocess.run(
            words, env=os.environ | settings, stdout=subprocess.PIPE, text=True, check=True
        )
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    return json.loads(line.removeprefix("RESULT "))


def figures_of(runs: dict[str, list[dict]]) -> dict[str, float]:
    """Medians over the rounds, and ratios of medians."""

    def median(name: str, key: str) -> float:
        return statistics.median(run[key] for run in runs[name])

    published, ours = median("published", "seq_s"), median("ours", "seq_s")
    frozen, dynamic = median("published_eval", "seq_s"), median("ours_dynamic", "seq_s")
    figures = {
        "ours_seq_s": ours,
        "published_seq_s": published,
        "ratio": ours / published,
        "ours_dynamic_seq_s": dynamic,
        "ratio_dynamic": dynamic / published,
        "published_eval_seq_s": frozen,
        "ratio_eval": ours / frozen,
        "ratio_dynamic_eval": dynamic / frozen,
        "ours_engine_seq_s": median("ours_engine", "seq_s"),
        "ratio_teacher_engine": median("ours_engine", "seq_s") / published,
        "teacher_engine_relation_error": median("ours_engine", "relation_error"),
        "ours_relation_error": median("ours", "relation_error"),
        "matmul_ceiling_gflop_s": median("ours", "ceiling_gflop_s"),
        "matmul_ceiling_share": median("ours", "ceiling_share"),
        "relation_share": median("ours", "relation_share"),
        "token_relation_share": median("ours", "token_relation_share"),
        "teacher_share": median("ours", "teacher_share"),
        "data_wait_share": median("ours", "data_wait_share"),
        "ours_padding_share": median("ours", "padding_share"),
        "published_padding_share": median("published", "padding_share"),
        "ours_peak_mb": median("ours", "peak_mb"),
        "ours_engine_peak_mb": median("ours_engine", "peak_mb"),
        "published_peak_mb": median("published", "peak_mb"),
    }
    return figures | {f"{name}_seq_s": median(name, "seq_s") for name in TORCH if name in runs}


# ---- one contender ----


def contend(options: argparse.Namespace) -> dict:
    """Time one contender over its batches, after one to warm up."""
    sizes = SIZES[options.sizes]
    if options.contender in TORCH:
        from benchmarks.torch_peer import contender

        with np.load(options.samples) as samples:
            run, batches = contender(options.contender, sizes, list(samples.values()))
    elif options.contender in PUBLISHED:
        from benchmarks.published_loop import contender

        frozen = options.contender == "published_eval"
        run, batches = contender(sizes, shuffled(sample_lists(options)), frozen)
    else:
        from benchmarks.our_step import contender

        run, batches = contender(sizes, options, ENGINES[options.contender])
    batches = iter(batches)
    run(next(batches))
    began, waited = time.perf_counter(), 0.0
    for _ in range(options.batches):
        asked = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - asked
        run(batch)
    seconds = time.perf_counter() - began
    cells, tokens = run.cells, run.tokens
    return {
        "seq_s": GROUP * options.batches / seconds,
        "data_wait_share": waited / seconds,
        "load_average": os.getloadavg()[0],
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "padding_share": 1 - tokens / cells,
        **run.more(seconds),
    }


if __name__ == "__main__":
    main()
