"""`python -m launch plan`: what a run needs on given GPUs, derived from the recipe's sizes.

Nothing is measured here. The estimate adds up, for one step: matrix products at a share of the
GPU's peak, the memory traffic of the relation tables, and the exchange of gradients (and of Q, K
and V where relation groups span ranks), none of it overlapping. Printed with every assumption.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from data_pipeline.base import recipes
from data_pipeline.base.errors import UserError
from launch import preflight
from launch.gpus import GPUS, Gpu

RESERVED_GB = 2.0  # CUDA's context, NCCL's buffers, fragmentation
NETWORK_GB_S, DISK_GB_S = 25.0, 1.0  # of a node (200 Gbit/s); of the file system
DAY = 86400


@dataclass(frozen=True)
class Plan:
    """The estimate for a run. Seconds are of one step."""

    gpus: int
    compute_seconds: float
    relation_seconds: float
    communication_seconds: float
    step_seconds: float
    sequences_per_second: float
    days: float
    communication_share: float
    memory_gb: dict[str, float]
    memory_total_gb: float
    fits: bool
    flops_per_step: int
    checkpoint_gb: float
    checkpoint_seconds: float
    disk_gb: float
    assumptions: tuple[str, ...]


def estimate(
    cost: dict,
    gpu: Gpu,
    gpus: int,
    gpus_per_node: int,
    network_gb_s: float = NETWORK_GB_S,
    disk_gb_s: float = DISK_GB_S,
) -> Plan:
    """The plan from the cost that `python -m pretrain check --json` gives, for `gpus` ranks."""
    compute = cost["flops_per_step"] / (gpus * gpu.peak_tflops * 1e12 * gpu.efficiency)
    relations = cost["relation_traffic_bytes"] / (gpus * gpu.bandwidth_gb_s * 1e9)
    local = min(gpus, gpus_per_node)
    nodes = -(-gpus // gpus_per_node)
    communication = all_reduce_seconds(
        cost["gradient_bytes"], local, nodes, gpu.link_gb_s, network_gb_s
    )
    communication += cost["exchange_bytes"] / (gpu.link_gb_s * 1e9)
    step = compute + relations + communication
    memory = {
        "weights, gradients, moments": cost["weights_bytes"] / 1e9,
        "teacher": cost["teacher_bytes"] / 1e9,
        "activations": cost["activation_bytes"] / 1e9,
        "relations or logits": cost["relation_bytes"] / 1e9,
        "reserved": RESERVED_GB,
    }
    return Plan(
        gpus=gpus,
        compute_seconds=compute,
        relation_seconds=relations,
        communication_seconds=communication,
        step_seconds=step,
        sequences_per_second=cost["samples_per_step"] / step,
        days=cost["steps"] * step / DAY,
        communication_share=communication / step,
        memory_gb=memory,
        memory_total_gb=sum(memory.values()),
        fits=sum(memory.values()) <= gpu.memory_gb,
        flops_per_step=cost["flops_per_step"],
        checkpoint_gb=cost["checkpoint_bytes"] / 1e9,
        checkpoint_seconds=cost["checkpoint_bytes"] / 1e9 / disk_gb_s,
        disk_gb=cost["disk_bytes"] / 1e9,
        assumptions=(
            *cost["assumptions"],
            f"matrix products reach {gpu.efficiency:.1%} of {gpu.peak_tflops:g} TFLOP/s",
            f"tables of relations pass through memory at {gpu.bandwidth_gb_s:g} GB/s",
            f"gradients travel at {gpu.link_gb_s:g} GB/s inside a node of {local} GPU(s)"
            + (f" and at {network_gb_s:g} GB/s between {nodes} nodes" if nodes > 1 else "")
            + ", after the backward pass and not during it",
            f"checkpoints are written at {disk_gb_s:g} GB/s",
            f"{RESERVED_GB:g} GB of memory are reserved for CUDA and NCCL",
        ),
    )


def all_reduce_seconds(
    size: int, local: int, nodes: int, link_gb_s: float, network_gb_s: float
) -> float:
    """A ring inside each node, and one between nodes on the shares of its GPUs: 2 (n - 1) / n of
    the size passes each link (https://arxiv.org/abs/1802.05799)."""
    inside = 2 * (local - 1) / local * size / (link_gb_s * 1e9)
    between = 2 * (nodes - 1) / nodes * size / (network_gb_s * 1e9)
    return inside + between


def as_text(plan: Plan, recipe: Path, gpu_name: str, problems: list[str]) -> str:
    """The plan as lines."""
    lines = [
        f"{recipe} on {plan.gpus} x {gpu_name} (estimated, not measured)",
        f"  time       {duration(plan.days)}, {plan.sequences_per_second:,.0f} sequences/s, "
        f"{1e3 * plan.step_seconds:.0f} ms a step",
        f"  of a step  {plan.compute_seconds / plan.step_seconds:.0%} matrix products, "
        f"{plan.relation_seconds / plan.step_seconds:.0%} relations, "
        f"{plan.communication_share:.0%} communication",
        f"  work       {plan.flops_per_step / 1e12:,.1f} TFLOP a step",
        f"  memory     {plan.memory_total_gb:.1f} GB a GPU: "
        + ", ".join(f"{name} {size:.1f}" for name, size in plan.memory_gb.items())
        + ("" if plan.fits else "; MORE THAN IT HAS"),
        f"  disk       {plan.disk_gb:.1f} GB; a checkpoint {plan.checkpoint_gb:.2f} GB, "
        f"written in {plan.checkpoint_seconds:.1f} s",
        "assumed:",
        *(f"  - {text}" for text in plan.assumptions),
    ]
    if problems:
        lines += ["what `python -m pretrain check` finds here:", *(f"  - {p}" for p in problems)]
    return "\n".join(lines)


def duration(days: float) -> str:
    """Days, or hours where there are few."""
    return f"{days:.1f} days" if days >= 2 else f"{24 * days:.1f} hours"


def parser() -> argparse.ArgumentParser:
    """The options; figures of the GPU may be given one by one."""
    top = argparse.ArgumentParser(
        prog="python -m launch plan",
        description="Estimate memory, time and disk of a run.",
        epilog="--key.subkey VALUE overrides a setting of the recipe",
        allow_abbrev=False,
    )
    top.add_argument("recipe", type=Path, help="training recipe")
    top.add_argument("--gpus", type=int, required=True, help="in all")
    top.add_argument("--gpu", choices=GPUS, default="a100", help="kind (a100)")
    top.add_argument("--gpus_per_node", type=int, default=8, help="(8)")
    top.add_argument("--network_gb_s", type=float, default=NETWORK_GB_S, help="of a node (25)")
    top.add_argument("--disk_gb_s", type=float, default=DISK_GB_S, help="for checkpoints (1)")
    for name, info in Gpu.model_fields.items():
        top.add_argument(
            f"--{name}", type=float, help=f"in the place of the table's: {info.description}"
        )
    top.add_argument("--json", action="store_true", help="print one JSON object")
    return top


def plan(argv: list[str]) -> int:
    """Print what a run needs; 0 also where it does not fit, which the text says."""
    options, overrides = parser().parse_known_args(argv)
    if min(options.gpus, options.gpus_per_node) < 1:
        raise UserError("--gpus and --gpus_per_node: at least 1")
    given = {name: getattr(options, name) for name in Gpu.model_fields}
    values = GPUS[options.gpu].model_dump() | {k: v for k, v in given.items() if v is not None}
    gpu = recipes.check(Gpu, values, where="command line")
    checked = preflight.check_recipe(options.recipe, overrides, options.gpus)
    if checked.cost is None:
        raise UserError(preflight.as_text(options.recipe, checked.problems))
    result = estimate(
        checked.cost, gpu, options.gpus, options.gpus_per_node, options.network_gb_s,
        options.disk_gb_s,
    )  # fmt: skip
    if options.json:
        print(json.dumps({**asdict(result), "problems": checked.problems}, ensure_ascii=False))
    else:
        print(as_text(result, options.recipe, options.gpu, checked.problems))
    return 0
