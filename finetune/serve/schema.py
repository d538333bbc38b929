"""What requests and answers hold, as the OpenAPI page shows it."""

from pydantic import BaseModel, Field


class PredictRequest(BaseModel):
    """Texts, or pairs of texts, to be classified."""

    texts: list[str] = Field(min_length=1, examples=[["今天有雨"]])
    pairs: list[str] | None = Field(None, description="second sentences, for tasks on pairs")


class LabelPrediction(BaseModel):
    """One answer."""

    label: str
    probability: float
    probabilities: dict[str, float]


class ScorePrediction(BaseModel):
    """The answer of a model for scores."""

    score: float


class LabelsPrediction(BaseModel):
    """The answer of a model that gives a text any number of labels."""

    labels: list[str]
    probabilities: dict[str, float]


class EntityPrediction(BaseModel):
    """`text[start:end]` of the request's text is a `label`."""

    text: str
    label: str
    start: int
    end: int
    probability: float


class EntitiesPrediction(BaseModel):
    """The answer of a model for tokens."""

    entities: list[EntityPrediction]


class PredictResponse(BaseModel):
    """One answer a text, in order."""

    predictions: (
        list[LabelPrediction]
        | list[EntitiesPrediction]
        | list[ScorePrediction]
        | list[LabelsPrediction]
    )


class ErrorResponse(BaseModel):
    """Why a request was not answered."""

    error: str


class HealthResponse(BaseModel):
    """State of the service."""

    status: str
    labels: list[str]
    waiting: int
    answered: int
    calls: int
