"""What travels in queues: pydantic models, JSON, with a schema number."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

MAX_DEQUEUE_COUNT = 5
"""Attempts before the host gives a message up; host.json says the same to the platform."""

TRAIN_QUEUE = "train-requests"
"""Queue that the train function listens to."""

ALERT_QUEUE = "alert-requests"
"""Queue that the alert function listens to."""

GROUP_QUEUE = "group-requests"
"""Queue that the group function listens to."""

OPERATED_QUEUES = (
    TRAIN_QUEUE,
    f"{TRAIN_QUEUE}-poison",
    ALERT_QUEUE,
    f"{ALERT_QUEUE}-poison",
    GROUP_QUEUE,
    f"{GROUP_QUEUE}-poison",
    "webjobs-blobtrigger-poison",
)
"""What an operator watches: how much waits, and what was given up. The last is the platform's own, of all crops."""


class TrainRequest(BaseModel):
    """Asks for work on the gallery or the model.

    Attributes:
        job_id: the `Job` that reports progress.
        kind: `embed` re-embeds every stored image, `fit` refits from stored templates, `embed_and_fit` does both,
            `migrate` works on the change of the embedder.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    version: Literal[1] = Field(1, alias="schema")
    job_id: str
    kind: Literal["embed", "fit", "embed_and_fit", "migrate"]


class GroupRequest(BaseModel):
    """Asks for work on the groups of unknown faces. Holds nothing about anybody.

    Attributes:
        job_id: the `Job` that reports progress; a naming is kept with its group under this id.
        kind: `group` groups all unknown faces, `name` gives one group its name.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    version: Literal[1] = Field(1, alias="schema")
    job_id: str
    kind: Literal["group", "name"]


class AlertRequest(BaseModel):
    """Asks whether a stored detection is news, and for telling it. Holds nothing about anybody.

    Attributes:
        alert_id: of the detection's alert, once it was made; a repetition must not ask again whether it is news.
        attempt: how often the telling has failed before.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    version: Literal[1] = Field(1, alias="schema")
    detection_id: str
    alert_id: str | None = None
    attempt: int = Field(0, ge=0)
