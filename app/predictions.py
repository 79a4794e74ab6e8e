"""The form of what is answered about images. `app.inference.answers` fills it in."""

from pydantic import Field

from app import examples
from app.explanations import ExplanationRead
from app.schemas import ErrorRead, Metric, Read, shown


class Guess(Read):
    """One class and how probable it is, from 0 to 1."""

    label: str
    index: int
    probability: Metric


class PredictionRead(Read):
    """What the network sees in one image. `top` starts with `label`."""

    filename: str | None
    label: str
    index: int
    probability: Metric
    unknown: bool = Field(description="Less probable than the threshold.")
    top: list[Guess]
    warnings: list[str] = Field(
        description="inverted, upscaled, extreme_aspect_ratio, first_frame_only"
    )
    explanation: ExplanationRead | None = Field(description="What `explain` asked for.")


class RefusedRead(Read):
    """Why one of several files could not be classified."""

    filename: str | None
    error: ErrorRead


class AnswerRead(Read):
    """One element per file, in order."""

    model_config = shown(examples.ANSWER)

    checkpoint_id: str
    job_id: str | None = Field(description="null: the checkpoint was imported.")
    model: str | None = Field(description="The model that was asked for.")
    predictions: list[PredictionRead | RefusedRead]
