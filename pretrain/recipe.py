"""The typed recipes of a run: distillation, and masked-language-model pre-training."""

from pathlib import Path

from pretrain.encoders.settings import EncoderSizes, Student, Teacher
from pretrain.encoders.weights import WEIGHTS
from pretrain.objectives.settings import InitialWeights, Masking, Relations
from pretrain.training.settings import TrainingRecipe


class DistillRecipe(TrainingRecipe):
    """Teacher to student."""

    teacher: Teacher
    """The frozen encoder."""
    student: Student = Student()
    """The small one."""
    relations: Relations = Relations()
    """The losses."""


class MaskedLMRecipe(TrainingRecipe):
    """Whole-word-masking pre-training, to make a teacher where there is none to download."""

    encoder: EncoderSizes = EncoderSizes(hidden_act="gelu", num_hidden_layers=12)
    """The encoder that is trained: a BERT of these sizes."""
    masking: Masking = Masking()
    """What is hidden."""
    initial_weights: InitialWeights = InitialWeights()
    """What the weights are before the first step."""
    model_dir: Path
    """Where the finished encoder is written, in the form that a teacher has."""

    def products(self) -> tuple[Path, ...]:
        """The weights of the encoder, which are written last."""
        return (self.model_dir / WEIGHTS,)
