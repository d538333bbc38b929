"""Which of the measured forms of the student is the product, and why. Pure functions of rows."""

from data_pipeline.base.errors import UserError
from finetune.settings import BudgetSettings, ChooseSettings

STUDENT = "student"


def choose(
    rows: list[dict], score: str, settings: ChooseSettings, budget: BudgetSettings | None = None
) -> dict:
    """The fastest form of the student that loses no more of a dev score than is allowed; with a
    budget, the best by that score of those that fit it.

    rows: those of report.json. Scores on the test split are shown there and decide nothing.
    UserError when no form meets a budget.
    """
    base = next(row for row in rows if row["name"] == STUDENT)
    forms = [row for row in rows if row["name"].startswith(STUDENT)]
    if score not in base["dev"]:
        raise UserError(
            f"choose.choose_by: {score!r} is not a score of this task; "
            f"one of {', '.join(base['dev'])}"
        )
    allowed = [row for row in forms if loss(row, base, score) <= settings.allowed_loss + 1e-9]
    if budget is None:
        best = min(allowed, key=lambda row: row["latency_ms"])
        rule = f"fastest of {len(allowed)} (of {len(forms)}) forms within "
    else:
        best = best_within(budget, allowed, forms, base, score, settings)
        rule = f"highest {score} of the forms within {budget.in_words} and "
    points = -loss(best, base, score)
    why = (
        f"{rule}{settings.allowed_loss:g} points of the FP32 student on dev: "
        f"{best['latency_ms']:.2f} ms against {base['latency_ms']:.2f} ms, "
        f"{score} {100 * best['dev'][score]:.2f}% ({points:+.2f} points), "
        f"{best['size_mb']:.1f} MB against {base['size_mb']:.1f} MB"
    )
    similar = [
        row["name"]
        for row in allowed
        if row is not best and row["latency_spread_ms"][0] <= best["latency_spread_ms"][1]
    ]
    if similar and budget is None:
        why += f"; not clearly faster than {', '.join(similar)} (quartiles of latency overlap)"
    return {
        "name": best["name"],
        "directory": best["directory"],
        "split": "dev",
        "score": score,
        "why": why,
    }


def loss(row: dict, base: dict, score: str) -> float:
    """Points on dev that a form loses against the student."""
    return 100 * (base["dev"][score] - row["dev"][score])


def best_within(
    budget: BudgetSettings,
    allowed: list[dict],
    forms: list[dict],
    base: dict,
    score: str,
    settings: ChooseSettings,
) -> dict:
    """The form that fits the budget with the highest dev score, the faster of equal ones."""
    fitting = [row for row in allowed if budget.fits(row["latency_ms"], row["size_mb"])]
    if not fitting:
        tried = "; ".join(
            f"{row['name']} {row['latency_ms']:.2f} ms, {row['size_mb']:.2f} MB, "
            f"{-loss(row, base, score):+.2f} points"
            for row in forms
        )
        raise UserError(
            f"budget: no form of the student is within {budget.in_words} and "
            f"{settings.allowed_loss:g} points of {score} on dev ({tried}); allow a larger budget "
            "or a larger choose.allowed_loss"
        )
    return max(fitting, key=lambda row: (row["dev"][score], -row["latency_ms"]))
