"""A distillation step here, in the published loop and in PyTorch, on the same sentences and sizes.

    python benchmarks/distill_step.py [--json FILE] [--torch PYTHON] [--rounds 3] [--shards DIR]

Contenders run one after the other, each in a process of its own, for some rounds. A step is 128
sequences in relation groups of 16 and one update. Encoders have random weights of the published
sizes; sentences come from shards of the packaged teacher's vocabulary.

- published: the loop as it is documented: all 24 layers of the teacher, with its dropout on, and
  samples in random order. published_eval: the same with the teacher in eval mode.
- ours: the teacher in OpenVINO, float32. ours_dynamic: in Paddle, operation by operation.
  ours_engine: in OpenVINO, INT8. ours_onnx, ours_onnx_int8: in ONNX Runtime. ours_half: in
  OpenVINO, bfloat16. relation_error is measured on the packaged teacher, because random weights
  have nearly uniform relations.
- torch_fp32, torch_bf16: PyTorch with fused AdamW, subnormal numbers flushed and the teacher cut
  after the layer that is learned, on the same batches as ours. torch_fp32_shuffled: the same
  samples in random order.
- NAME_ranks, of some of them: as many data-parallel ranks as threads (Paddle Fleet, PyTorch's
  DistributedDataParallel; both over Gloo), which share the batches of an update. Two ranks are what
  `python -m launch` starts on two cores. Their peak_mb is of one rank.

With --device gpu: ours_dynamic and ours_bfloat16 for ours, and everything else on the GPU too;
peaks are then of its memory.

Ratios are of medians over the rounds; SEQ_S_min and SEQ_S_max are over the rounds.
matmul_ceiling_share is of Paddle's largest product, measured in the same process. The load average
of each repeat tells what else the machine was doing.
"""

import argparse
import contextlib
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Not this folder, where data_pipeline.py is a benchmark and would hide the package.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks import step_batches  # noqa: E402
from benchmarks.encoder_sizes import GROUP, SIZES, UPDATE  # noqa: E402

LIBRARIES = ("paddlepaddle", "paddlenlp", "onnxruntime", "openvino", "numpy")
PUBLISHED = {"published": False, "published_eval": True}  # whether the teacher is in eval mode
OURS = {  # the teacher's engine, the number format of products
    "ours": ("openvino", "float32"),
    "ours_dynamic": ("dynamic", "float32"),
    "ours_engine": ("openvino_int8", "float32"),
    "ours_half": ("openvino_bfloat16", "float32"),
    "ours_onnx": ("onnx", "float32"),
    "ours_onnx_int8": ("onnx_int8", "float32"),
    "ours_bfloat16": ("dynamic", "bfloat16"),
}
TORCH = {"torch_fp32": False, "torch_bf16": True, "torch_fp32_shuffled": False}  # in bfloat16?
RANKS = {f"{name}_ranks": name for name in ("ours", "ours_engine", "torch_fp32", "torch_bf16")}
LAUNCHERS = {True: "torch.distributed.run", False: "paddle.distributed.launch"}  # for PyTorch?
ON_GPU_ONLY = {"ours_bfloat16"}
ON_CPU_ONLY = {"ours", "ours_engine", "ours_half", "ours_onnx", "ours_onnx_int8", *RANKS}
RATIOS = {
    "ratio": ("ours", "published"),
    "ratio_dynamic": ("ours_dynamic", "published"),
    "ratio_eval": ("ours", "published_eval"),
    "ratio_dynamic_eval": ("ours_dynamic", "published_eval"),
    "ratio_teacher_engine": ("ours_engine", "published"),
    "ours_over_torch_fp32": ("ours", "torch_fp32"),
    "ours_dynamic_over_torch_fp32": ("ours_dynamic", "torch_fp32"),
    "ours_engine_over_torch_bf16": ("ours_engine", "torch_bf16"),
    "ours_bfloat16_over_torch_bf16": ("ours_bfloat16", "torch_bf16"),
    "ours_over_torch_fp32_ranks": ("ours_ranks", "torch_fp32_ranks"),
    "ours_engine_over_torch_bf16_ranks": ("ours_engine_ranks", "torch_bf16_ranks"),
}
DETAILS = (  # (name, contender, what it measured)
    ("teacher_engine_relation_error", "ours_engine", "relation_error"),
    ("ours_relation_error", "ours", "relation_error"),
    ("ours_half_relation_error", "ours_half", "relation_error"),
    ("ours_onnx_int8_relation_error", "ours_onnx_int8", "relation_error"),
    ("ours_ceiling_share", "ours", "ceiling_share"),
    ("matmul_ceiling_gflop_s", "ours_dynamic", "ceiling_gflop_s"),
    ("matmul_ceiling_share", "ours_dynamic", "ceiling_share"),
    ("relation_share", "ours_dynamic", "relation_share"),
    ("token_relation_share", "ours_dynamic", "token_relation_share"),
    ("teacher_share", "ours_dynamic", "teacher_share"),
    ("student_share", "ours_dynamic", "student_share"),
    ("backward_share", "ours_dynamic", "backward_share"),
    ("update_share", "ours_dynamic", "update_share"),
    ("data_wait_share", "ours_dynamic", "data_wait_share"),
    ("padding_share", "ours_dynamic", "padding_share"),
    ("published_padding_share", "published", "padding_share"),
    ("ours_peak_mb", "ours", "peak_mb"),
    ("ours_dynamic_peak_mb", "ours_dynamic", "peak_mb"),
    ("ours_engine_peak_mb", "ours_engine", "peak_mb"),
    ("published_peak_mb", "published", "peak_mb"),
)


def main() -> None:
    """Run the rounds, or, as a child, one contender."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write figures, settings and repeats here")
    parser.add_argument("--rounds", type=int, default=3, help="times that each contender runs")
    parser.add_argument(
        "--batches", type=int, default=32, help="timed batches of 16 a round; a multiple of 8"
    )
    parser.add_argument("--sizes", choices=SIZES, default="published", help="of both encoders")
    parser.add_argument("--shards", type=Path, default=Path("runs/demo/shards"))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument(
        "--torch", metavar="PYTHON", help="an interpreter with torch and transformers"
    )
    parser.add_argument("--contenders", nargs="+", choices=(*PUBLISHED, *OURS, *TORCH, *RANKS))
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--batches_file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.batches < 1 or options.batches % (UPDATE // GROUP):
        parser.error(f"--batches: a multiple of {UPDATE // GROUP}, the batches of an update")
    if options.contender:
        contend(options)
        return
    runs: dict[str, list[dict]] = {}
    with tempfile.TemporaryDirectory() as folder:
        files = write_batches(options, Path(folder))
        for number, name in itertools.product(range(options.rounds), contenders(options)):
            result = child(name, options, files, Path(folder))
            runs.setdefault(name, []).append(result)
            print(f"round {number + 1} {name}: {result['seq_s']:.2f} sequences/s", file=sys.stderr)
    figures = figures_of(runs)
    for name, value in figures.items():
        print(f"{name:34} {value:12.4g}")
    if options.json:
        from benchmarks import report  # not by every child: one is another interpreter

        report.write(options.json, figures, vars(options), LIBRARIES, runs=runs)


def contenders(options: argparse.Namespace) -> list[str]:
    """Those asked for, or all that this device and these interpreters can run."""
    names = [*PUBLISHED, *OURS, *TORCH, *(RANKS if options.threads > 1 else ())]
    if not options.torch:
        names = [name for name in names if not in_torch(name)]
    absent = ON_CPU_ONLY if options.device == "gpu" else ON_GPU_ONLY
    return [n for n in names if n not in absent and n in (options.contenders or names)]


def write_batches(options: argparse.Namespace, folder: Path) -> dict[str, Path]:
    """The batches of contenders that do not use this project's loader: one update to warm up, then
    the timed ones."""
    updates = step_batches.bucketed(options.shards, options.batches * GROUP // UPDATE + 1)
    files = {"bucketed": folder / "bucketed.npz", "shuffled": folder / "shuffled.npz"}
    step_batches.save(files["bucketed"], updates)
    step_batches.save(files["shuffled"], step_batches.shuffled(updates))
    return files


def in_torch(name: str) -> bool:
    """Whether PyTorch computes a contender."""
    return RANKS.get(name, name) in TORCH


def child(name: str, options: argparse.Namespace, files: dict[str, Path], folder: Path) -> dict:
    """Run one contender in processes of its own, with the settings that suit every one of them."""
    from launch.environment import best_for_cpu

    ranks = options.threads if name in RANKS else 1
    order = "shuffled" if name in PUBLISHED or name.endswith("_shuffled") else "bucketed"
    words = [options.torch if in_torch(name) else sys.executable, "-W", "ignore"]
    if ranks > 1:
        words += ["-m", LAUNCHERS[in_torch(name)], "--nproc_per_node", str(ranks)]
        words += ["--log_dir", str(folder / name)]
    words += [__file__, "--contender", RANKS.get(name, name), "--result", str(folder / "result")]
    words += ["--batches_file", str(files[order]), "--device", options.device]
    threads = str(options.threads // ranks)
    words += ["--threads", threads]
    for key in ("sizes", "batches", "shards"):
        words += [f"--{key}", str(getattr(options, key))]
    settings = best_for_cpu(1) | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    variables = os.environ | settings
    done = subprocess.run(words, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        logs = [path.read_text() for path in (folder / name).glob("**/*log.0")]
        sys.exit("\n".join(part[-3000:] for part in (f"{name} failed", done.stderr, *logs)))
    return json.loads((folder / "result").read_text())


def figures_of(runs: dict[str, list[dict]]) -> dict[str, float]:
    """Of those that ran: medians over the rounds, their range, ratios of medians, and details."""
    rates = {name: [repeat["seq_s"] for repeat in repeats] for name, repeats in runs.items()}
    figures = {}
    for name, values in rates.items():
        figures[f"{name}_seq_s"] = statistics.median(values)
        figures[f"{name}_seq_s_min"], figures[f"{name}_seq_s_max"] = min(values), max(values)
    for name, (above, below) in RATIOS.items():
        if above in rates and below in rates:
            figures[name] = figures[f"{above}_seq_s"] / figures[f"{below}_seq_s"]
    for name, contender, key in DETAILS:
        if contender in runs:
            figures[name] = statistics.median(repeat[key] for repeat in runs[contender])
    return figures


# ---- one contender ----


def contend(options: argparse.Namespace) -> None:
    """Open one contender and time it; its first rank writes the result."""
    name, (rank, ranks) = options.contender, place()
    if name in OURS:
        from benchmarks.our_step import contender

        step = contender(options, *OURS[name])
        updates = step_batches.steps(options.shards, rank, ranks)
    else:
        if name in TORCH:
            from benchmarks.torch_peer import contender
        else:
            from benchmarks.published_loop import contender

        step = contender(options, (TORCH | PUBLISHED)[name])
        updates = step_batches.of_rank(step_batches.load(options.batches_file), rank, ranks)
    with cpu_settings(name):
        result = measure(step, updates, options)
    if rank == 0:
        options.result.write_text(json.dumps(result))
    if ranks > 1:
        step.wait_for_ranks()
        os._exit(0)  # Gloo's threads would abort a rank that tears down while others do


def place() -> tuple[int, int]:
    """This process among its contender's ranks, and their number, as either launcher tells them."""
    for rank, ranks in (("PADDLE_TRAINER_ID", "PADDLE_TRAINERS_NUM"), ("RANK", "WORLD_SIZE")):
        if rank in os.environ:
            return int(os.environ[rank]), int(os.environ[ranks])
    return 0, 1


def cpu_settings(name: str):
    """What a process with Paddle computes in; PyTorch has settings of its own."""
    if name in TORCH:
        return contextlib.nullcontext()
    from pretrain.encoders.cpu import fast_cpu

    return fast_cpu()


def measure(step, updates, options: argparse.Namespace) -> dict:
    """Time the updates, after a batch to warm up. With several ranks an update ends for all of them
    at once, when the gradients have met."""
    step(next(updates)[:1])
    step.wait()
    timed, waited, began = [], 0.0, time.perf_counter()
    for _ in range(options.batches * GROUP // UPDATE):
        asked = time.perf_counter()
        timed += (batches := next(updates))
        waited += time.perf_counter() - asked
        step(batches)
    step.wait()
    seconds = time.perf_counter() - began
    on_gpu = options.device == "gpu"
    ids = [getattr(batch, "input_ids", batch) for batch in timed]
    return {
        "seq_s": GROUP * options.batches / seconds,  # of all ranks
        "batches": len(timed),
        "data_wait_share": waited / seconds,
        "load_average": os.getloadavg()[0],
        "peak_mb": step.peak_gpu_mb() if on_gpu else peak_of_the_process_mb(),
        "padding_share": 1 - sum(int((x != 0).sum()) for x in ids) / sum(x.size for x in ids),
        **step.more(seconds),
    }


def peak_of_the_process_mb() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
