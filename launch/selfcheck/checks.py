"""The checks: each trains something twice, compares, and says what it measured."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from data_pipeline.base import exits
from launch.selfcheck.lab import PUBLISHED, SMALL, Lab, Trained

FLOAT32_LIMIT = 1e-3  # of losses and gradient norms, relative; TF32 products would exceed it
NO_BFLOAT16 = "this GPU does not compute in bfloat16"  # what such a run says
HALF_LIMITS = {"float16": 2e-2, "bfloat16": 8e-2}  # relative; 10 and 7 bits of precision
RANKS_LIMIT = 1e-4
OVERFLOWING_SCALE = 2.0**100  # times any loss here it exceeds float16's 65,504
STEPS = 4


@dataclass(frozen=True)
class Result:
    """The outcome of a check."""

    name: str
    ok: bool | None
    """None: it could not be made here, `message` says why."""
    message: str
    seconds: float = 0.0


class Failed(Exception):
    """A run of a check ended with another code than it should."""


def largest_difference(one: Trained, other: Trained, names: tuple[str, ...]) -> float:
    """Largest relative difference of numbers that both runs have recorded."""
    worst = 0.0
    for name in names:
        pairs = list(zip(one.values(name), other.values(name), strict=True))
        if not pairs:
            raise Failed(f"no record has {name}")
        for a, b in pairs:
            if not (math.isfinite(a) and math.isfinite(b)):
                return math.inf
            worst = max(worst, abs(a - b) / max(abs(a), abs(b), 1e-12))
    return worst


def ended(run: Trained, code: int = exits.FINISHED) -> Trained:
    """The run, if it ended with this code; Failed otherwise."""
    if run.code != code:
        raise Failed(f"ended with {run.code} in the place of {code}: {run.output[-800:].strip()}")
    return run


COMPARED = ("loss/total", "optim/grad_norm")


def float32_parity(lab: Lab) -> str:
    """Losses and gradient norms in float32 on the device are those of the CPU."""
    on_cpu, on_device = (
        ended(lab.train(f"float32-{place}", device=place)) for place in ("cpu", lab.device)
    )
    difference = largest_difference(on_cpu, on_device, COMPARED)
    return verdict(difference, FLOAT32_LIMIT, "from the CPU")


def half_parity(lab: Lab) -> str:
    """Those in half precision are near the ones in float32."""
    exact = ended(lab.train("float32-half", steps=STEPS))
    texts = []
    for dtype, limit in HALF_LIMITS.items():
        run = lab.train(f"half-{dtype}", precision={"dtype": dtype})
        texts.append(f"{dtype}: {in_half(exact, run, limit, 'from float32')}")
    return "; ".join(texts)


def fused_attention(lab: Lab) -> str:
    """Fused attention gives what the plain formula gives; on a GPU in half precision too, where
    Paddle computes it by another kernel (FlashAttention)."""
    plain = ended(lab.train("attention-plain"))
    fused = ended(lab.train("attention-fused", compute={"attention": "fused"}))
    what = "from the plain form"
    texts = [verdict(largest_difference(plain, fused, COMPARED), FLOAT32_LIMIT, what)]
    for dtype, limit in HALF_LIMITS.items() if lab.device == "gpu" else ():
        precision = {"dtype": dtype}
        run = lab.train(f"attention-{dtype}", precision=precision, compute={"attention": "fused"})
        texts.append(f"{dtype}: {in_half(plain, run, limit, f'{what} in float32')}")
    return "; ".join(texts)


def in_half(exact: Trained, run: Trained, limit: float, what: str) -> str:
    """The verdict on the losses of a run in half precision; bfloat16 may be missing on a GPU."""
    if run.code == exits.USER_ERROR and NO_BFLOAT16 in run.output:
        return NO_BFLOAT16
    return verdict(largest_difference(exact, ended(run), COMPARED[:1]), limit, what)


def recompute(lab: Lab) -> str:
    """Layers that are computed again for the backward pass give the same weights."""
    stored = ended(lab.train("layers-stored"))
    again = ended(lab.train("layers-again", compute={"recompute": True}))
    return verdict(largest_difference(stored, again, COMPARED), RANKS_LIMIT, "from stored layers")


def overflow(lab: Lab) -> str:
    """A loss scale that overflows float16 costs steps, but never reaches the weights."""
    run = ended(
        lab.train(
            "overflow",
            steps=8,
            precision={"dtype": "float16", "initial_loss_scale": OVERFLOWING_SCALE},
            safety={"max_skipped_steps": 1000},
        )
    )
    skipped = run.values("optim/skipped")[-1]
    if not skipped:
        raise Failed("no step was skipped although the loss scale overflows")
    if not all(np.isfinite(value).all() for value in run.tensors.values()):
        raise Failed("a weight or a moment is not finite")
    return f"{skipped:.0f} of 8 steps skipped, all weights finite"


def two_ranks(lab: Lab) -> str:
    """Two ranks train what one trains."""
    one, two = (ended(lab.train(f"ranks-{n}", ranks=n)) for n in (1, 2))
    return verdict(largest_difference(one, two, COMPARED), RANKS_LIMIT, "from one rank")


def shared_group(lab: Lab) -> str:
    """So do two ranks that exchange heads for the samples of one relation group, and of which each
    holds and writes its share of the moments."""
    batch, sharded = {"relation_group_size": SMALL.batch}, {"sharded": True}
    one = ended(lab.train("group-1", batch=batch))
    two = ended(lab.train("group-2", ranks=2, batch=batch, optimizer=sharded))
    names = [{key.partition("/")[2] for key in run.tensors} for run in (one, two)]
    if names[0] != names[1]:
        raise Failed("the checkpoint of two ranks does not hold what that of one holds")
    return verdict(largest_difference(one, two, COMPARED), RANKS_LIMIT, "from one rank")


def resume(lab: Lab) -> str:
    """A run that is stopped and resumed ends with the weights of one that is not."""
    steps = 400 if lab.device == "gpu" else 30  # long enough to be stopped on the way
    straight = ended(lab.train("straight", steps=steps))
    stopped = lab.train(
        "resumed", steps=steps, until=lambda records: bool(records) and records[-1]["step"] >= 3
    )
    ended(stopped, exits.SAVED_AND_STOPPED)
    at = stopped.records[-1]["step"]
    resumed = ended(lab.train("resumed", steps=steps))
    if straight.tensors.keys() != resumed.tensors.keys():
        raise Failed("the two runs have saved different tensors")
    worst = max(
        float(np.max(np.abs(value.astype(np.float64) - resumed.tensors[name].astype(np.float64))))
        for name, value in straight.tensors.items()
    )
    if worst == 0:
        return f"stopped at step {at} of {steps}: the same to the bit"
    return f"stopped at step {at} of {steps}: {verdict(worst, 1e-3, 'from the uninterrupted run')}"


def speed(lab: Lab) -> str:
    """Sequences a second, memory and share of the matmul ceiling at the published sizes."""
    sizes = PUBLISHED if lab.device == "gpu" else SMALL
    dtype = "float16" if lab.device == "gpu" else "float32"
    run = ended(
        lab.train(
            "speed",
            sizes,
            steps=30 if lab.device == "gpu" else 10,
            precision={"dtype": dtype},
            monitor={"log_every_steps": 5},
        )
    )
    last = run.records[-1]
    memory = last.get("memory/gpu_peak_mb", last["memory/peak_mb"])
    share = last.get("speed/matmul_ceiling_share", math.nan)
    return (
        f"{last['speed/sequences_per_s']:,.0f} sequences/s in {dtype}, {memory:,.0f} MB, "
        f"{share:.0%} of the matmul ceiling"
    )


def verdict(difference: float, limit: float, what: str) -> str:
    """The difference in words; Failed when it is above the limit."""
    text = f"{difference:.2g} {what} (limit {limit:g})"
    if not difference <= limit:
        raise Failed(text)
    return text


@dataclass(frozen=True)
class Check:
    """One row of the table; `needs` names what it cannot do without."""

    name: str
    run: Callable[[Lab], str]
    needs: str = ""
    """`gpu`, `two` (two GPUs, or a CPU) or nothing."""


CHECKS: tuple[Check, ...] = (
    Check("float32 as on the CPU", float32_parity),
    Check("half precision", half_parity, needs="gpu"),
    Check("float16 overflow", overflow, needs="gpu"),
    Check("fused attention", fused_attention),
    Check("recompute", recompute),
    Check("two ranks", two_ranks, needs="two"),
    Check("a group on two ranks", shared_group, needs="two"),
    Check("resume", resume),
    Check("speed and memory", speed),
)


def missing(check: Check, lab: Lab) -> str:
    """Why a check cannot be made here; empty when it can."""
    if check.needs == "gpu" and lab.device != "gpu":
        return "needs a GPU: Paddle computes in float32 on a CPU"
    if check.needs == "two" and lab.device == "gpu" and lab.gpus < 2:
        return f"needs two GPUs, here is {lab.gpus}"
    if check.needs == "two" and lab.device == "cpu" and lab.gpus:
        return "Paddle's launcher would take the GPUs of this machine"
    return ""


def perform(check: Check, lab: Lab) -> Result:
    """One check; whatever goes wrong in it is its result."""
    reason = missing(check, lab)
    if reason:
        return Result(check.name, None, reason)
    started = time.monotonic()
    try:
        ok, message = True, check.run(lab)
    except Failed as error:
        ok, message = False, str(error)
    except (KeyError, ValueError, IndexError) as error:
        ok, message = False, f"the run left no usable records: {error!r}"
    return Result(check.name, ok, message, time.monotonic() - started)
