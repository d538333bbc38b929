"""One rank and two on this machine, and from that a model of 8 to 64 GPUs.

    python benchmarks/scaling.py [--json FILE] [--steps 8] [--shards DIR]

Both runs train the same global batches. Two ranks share what one has for itself: the machine's
cores. The all-reduce of a step's gradients is timed by itself and held against the step.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

# Not this folder, where data_pipeline.py is a benchmark and would hide the package.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks import report  # noqa: E402

LIBRARIES = ("paddlepaddle", "numpy")
TEACHER, TEACHER_LAYER, STUDENT = (12, 384, 6), 11, (4, 312, 6)
HEADS, GROUP, GLOBAL_BATCH = 12, 16, 64
GPUS, GROUP_ON_GPU = (8, 16, 32, 64), 128


def main() -> None:
    """Run the ranks and print both tables, or, as a child, be a rank."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write figures, settings and repeats here")
    parser.add_argument("--steps", type=int, default=8, help="timed steps of a run")
    parser.add_argument(
        "--rounds", type=int, default=2, help="times that each number of ranks runs"
    )
    parser.add_argument("--shards", type=Path, default=Path("runs/demo/shards"))
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    model = parser.add_argument_group("assumptions of the model")
    model.add_argument(
        "--gpu_seq_s",
        type=float,
        default=300,
        help="sequences/s of one GPU: the "
        "published 2,400 on 8 V100, the upper end, where communication weighs most",
    )
    model.add_argument("--parameters", type=float, default=59.7e6, help="trained weights")
    model.add_argument("--gradient_bytes", type=int, default=4, help="of each weight, on the wire")
    model.add_argument("--node_gb_s", type=float, default=10, help="of a node of 8 GPUs, 100 Gb/s")
    model.add_argument("--nvlink_gb_s", type=float, default=100, help="between GPUs of a node")
    model.add_argument("--latency_ms", type=float, default=1.0, help="of an all-reduce's buckets")
    options = parser.parse_args()
    if options.result:
        be_a_rank(options)
        return
    runs = {ranks: [] for ranks in (1, 2)}
    for _ in range(options.rounds):
        for ranks, results in runs.items():
            results.append(start(ranks, options))
    one = statistics.median(run["seq_s"] for run in runs[1])
    two = statistics.median(run["seq_s"] for run in runs[2])
    share = statistics.median(run["allreduce_share"] for run in runs[2])
    table = [modelled(gpus, options) for gpus in GPUS]
    figures = {
        "one_rank_seq_s": one,
        "two_rank_seq_s": two,
        "two_rank_ratio": two / one,
        "allreduce_share": share,
        "modelled_64_gpu_efficiency": table[-1]["efficiency"],
    }
    for name, value in figures.items():
        print(f"{name:30} {value:10.4g}")
    print_model(table, options)
    report.write(options.json, figures, vars(options), LIBRARIES, model=table, runs=runs)


def start(ranks: int, options: argparse.Namespace) -> dict:
    """Time some ranks; what rank 0 wrote."""
    from launch.environment import best_for_cpu

    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        words = [sys.executable, "-W", "ignore", "-m", "paddle.distributed.launch"]
        words += ["--nproc_per_node", str(ranks), "--log_dir", folder, __file__]
        words += ["--result", str(result), "--steps", str(options.steps)]
        words += ["--shards", str(options.shards)]
        settings = best_for_cpu(ranks)
        done = subprocess.run(words, env=os.environ | settings, capture_output=True, check=False)
        if done.returncode:
            sys.exit((Path(folder) / "workerlog.0").read_text()[-3000:])
        return json.loads(result.read_text())


def be_a_rank(options: argparse.Namespace) -> None:
    """Train with the others; rank 0 writes sequences/s and the share of the all-reduce."""
    from pretrain import entry
    from pretrain.encoders.cpu import fast_cpu
    from pretrain.training import parallel
    from pretrain.training.step import StepTimer, train_step

    world = parallel.join()
    trainer, steps = prepared(world, options.shards)
    seconds = []
    with fast_cpu():
        for number in range(options.steps + 2):
            batches = next(steps)
            parallel.barrier(world)
            began = time.perf_counter()
            train_step(trainer, batches, number, 1e-4, 1.0, StepTimer())
            if number >= 2:  # two to warm up
                seconds.append(time.perf_counter() - began)
    reducing = parallel.all_reduce_seconds(trainer.parameters, world)
    if world.rank == 0:
        step = statistics.median(seconds)
        result = {
            "seq_s": GLOBAL_BATCH / step,
            "allreduce_share": reducing / step,
            "allreduce_seconds": reducing,
            "steps": seconds,
        }
        options.result.write_text(json.dumps(result))
    parallel.barrier(world)
    entry.end(0)  # Gloo's threads would abort a rank that tears down while others run


def prepared(world, shards: Path):
    """(trainer, steps of the loader) at sizes that two cores manage."""
    import paddle

    from benchmarks.our_step import encoder
    from data_pipeline.base.recipes import check
    from data_pipeline.loading.loader import Loader
    from data_pipeline.loading.order import OrderSettings
    from pretrain.encoders import cpu_layers
    from pretrain.encoders import teacher_engine as engine
    from pretrain.encoders.student import freeze_unreached
    from pretrain.objectives.distill import Distillation
    from pretrain.recipe import DistillRecipe
    from pretrain.training import optimizer as optimize
    from pretrain.training import parallel
    from pretrain.training.step import Trainer

    recipe = check(
        DistillRecipe,
        {
            "output_dir": "unused",
            "data": {"shards": str(shards)},
            "batch": {"global_batch_size": GLOBAL_BATCH, "relation_group_size": GROUP},
            "teacher": {"path": "unused", "layer": TEACHER_LAYER},
            "relations": {"heads": HEADS},
        },
        "benchmark",
    )
    paddle.seed(0)
    teacher = encoder("RobertaModel", *TEACHER, "gelu")
    student = encoder("PPMiniLMModel", *STUDENT, "relu")
    freeze_unreached(student, STUDENT[0], with_hidden=False)
    states = engine.open_engine("dynamic", teacher, TEACHER_LAYER, False)
    objective = Distillation(student, states, STUDENT[0], recipe.relations, GROUP)
    cpu_layers.replace_layers(objective)
    adam = optimize.build_optimizer(objective, recipe.optimizer)
    model, optimizer = parallel.wrap(objective, adam, world)
    settings = OrderSettings(relation_group_size=GROUP, global_batch_size=GLOBAL_BATCH)
    loader = Loader(shards, settings, world, workers=1)
    trainer = Trainer(recipe, objective, model, optimizer, adam._parameter_list, world)
    return trainer, iter(loader)


# ---- the model ----


def modelled(gpus: int, options: argparse.Namespace) -> dict[str, float]:
    """One relation group of 128 a GPU and step; nothing of the all-reduce is hidden by compute.

    efficiency = balance * compute / (compute + all-reduce), where the balance is what the order of
    this project gives on these lengths: the mean over ranks of padded tokens by the largest.
    """
    compute = GROUP_ON_GPU / options.gpu_seq_s
    size = options.parameters * options.gradient_bytes
    nodes = gpus // 8
    inside = 2 * 7 / 8 * size / (options.nvlink_gb_s * 1e9)
    across = 2 * (nodes - 1) / nodes * size / (options.node_gb_s * 1e9)
    allreduce = inside + across + options.latency_ms / 1e3
    share = balance(gpus, options.shards)
    return {
        "gpus": gpus,
        "compute_ms": compute * 1e3,
        "allreduce_ms": allreduce * 1e3,
        "balance": share,
        "efficiency": share * compute / (compute + allreduce),
        "seq_s": gpus * options.gpu_seq_s * share * compute / (compute + allreduce),
    }


def balance(gpus: int, shards: Path) -> float:
    """Mean over ranks of a step's padded tokens, divided by the largest rank's; over one window."""
    from data_pipeline.loading import order
    from data_pipeline.shards.format import ShardReader

    lengths = ShardReader(shards).lengths(0, ShardReader(shards).manifest.samples)
    settings = order.OrderSettings(
        relation_group_size=GROUP_ON_GPU, global_batch_size=GROUP_ON_GPU * gpus
    )
    window = lengths[: settings.window_batches * settings.global_batch_size]
    groups = order.arrange(window, settings, 0, 0)  # [batches, gpus, 128]
    cells = window[groups].max(axis=2) * GROUP_ON_GPU  # [batches, gpus]
    return float(np.mean(cells.mean(axis=1) / cells.max(axis=1)))


def print_model(table: list[dict], options: argparse.Namespace) -> None:
    """The table and what it takes for granted."""
    print(f"\n{'GPUs':>5} {'compute ms':>11} {'all-reduce ms':>14} {'balance':>8} "
          f"{'efficiency':>11} {'sequences/s':>12}")  # fmt: skip
    for row in table:
        print(
            f"{row['gpus']:>5} {row['compute_ms']:>11.0f} {row['allreduce_ms']:>14.1f} "
            f"{row['balance']:>8.3f} {row['efficiency']:>11.3f} {row['seq_s']:>12,.0f}"
        )
    print(
        f"\nA model, not a measurement: {options.gpu_seq_s:.0f} sequences/s a GPU (published, 8 "
        f"V100), one group of {GROUP_ON_GPU} a GPU and step,\n{options.parameters / 1e6:.1f}M "
        f"gradients of {options.gradient_bytes} bytes, rings over {options.nvlink_gb_s:.0f} GB/s "
        f"inside a node of 8 and {options.node_gb_s:.0f} GB/s between nodes,\nnone of it hidden "
        "behind the backward pass; balance from this project's order on the given shards."
    )


if __name__ == "__main__":
    main()
