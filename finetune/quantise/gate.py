"""The accuracy gate: an INT8 model that loses too much is refused."""

from data_pipeline.base.errors import UserError
from finetune.settings import QuantiseSettings


class AccuracyLossError(UserError):
    """The INT8 model loses more than the recipe allows."""


def check_loss(
    score: str,
    before: float,
    after: float,
    settings: QuantiseSettings,
    layer_errors: list[dict],
) -> dict[str, float | str]:
    """The score's name and dev values (0 to 1) before and after, and the loss in points.

    AccuracyLossError with the error by layer when more than `settings.allowed_drop` is lost.
    """
    drop = 100 * (before - after)
    if settings.allowed_drop is not None and drop > settings.allowed_drop:
        table = "\n".join(f"  {row['relative_error']:8.4f}  {row['after']}" for row in layer_errors)
        raise AccuracyLossError(
            f"INT8 loses {drop:.2f} points of {score} on dev, more than quantise.allowed_drop "
            f"({settings.allowed_drop:g}). Relative error by layer:\n{table}\n"
            "  Try per_channel: true, another calibration, more batches, or mode: dynamic or qat."
        )
    return {
        "score": score,
        "fp32": before,
        "int8": after,
        "drop_points": round(drop, 3),
    }
