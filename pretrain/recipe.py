"""The typed recipes of a run: distillation, and masked-language-model pre-training."""

from pathlib import Path

from pydantic import model_validator

from data_pipeline.base.recipes import wrong_together
from pretrain.encoders.settings import EncoderSizes, InitialWeights, Student, Teacher
from pretrain.encoders.weights import WEIGHTS
from pretrain.objectives.settings import MaskedLMInitialWeights, Masking, Relations
from pretrain.training.settings import TrainingRecipe


class DistillRecipe(TrainingRecipe):
    """Teacher to student."""

    teacher: Teacher
    """The frozen encoder."""
    student: Student = Student()
    """The small one."""
    initial_weights: InitialWeights = InitialWeights()
    """What the student's weights are before the first step."""
    relations: Relations = Relations()
    """The losses."""

    @model_validator(mode="after")
    def _one_start(self):
        if self.student.from_teacher_layers and not self.initial_weights.drawn:
            raise wrong_together(
                "student.from_teacher_layers copies the weights that initial_weights would set",
                "student.from_teacher_layers",
                "initial_weights",
            )
        _check_heads(self.initial_weights, self.student)
        return self


class MaskedLMRecipe(TrainingRecipe):
    """Whole-word-masking pre-training, to make a teacher where there is none to download."""

    encoder: EncoderSizes = EncoderSizes(hidden_act="gelu", num_hidden_layers=12)
    """The encoder that is trained: a BERT of these sizes."""
    masking: Masking = Masking()
    """What is hidden."""
    initial_weights: MaskedLMInitialWeights = MaskedLMInitialWeights()
    """What the weights are before the first step."""
    model_dir: Path
    """Where the finished encoder is written, in the form that a teacher has."""

    @model_validator(mode="after")
    def _heads_hold_positions(self):
        _check_heads(self.initial_weights, self.encoder)
        return self

    def products(self) -> tuple[Path, ...]:
        """The weights of the encoder, which are written last."""
        return (self.model_dir / WEIGHTS,)


def _check_heads(initial: InitialWeights, sizes: EncoderSizes) -> None:
    """Local attention needs room for a sine and a cosine in each head."""
    if initial.local_attention and sizes.hidden_size < 2 * sizes.num_attention_heads:
        raise wrong_together(
            "initial_weights.local_attention needs heads of at least 2 numbers; "
            f"{sizes.num_attention_heads} heads of a width of {sizes.hidden_size} have fewer",
            "initial_weights.local_attention",
        )
