"""What is in each frame of a scene, as JSON lines beside the video."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shared.domain import Float32Array
from shared.errors import InvalidInput


@dataclass(frozen=True, slots=True, eq=False)
class TrueFace:
    """A face in a frame.

    Attributes:
        visit: number of the visit.
        person: whose it is.
        kind: a way of walking, `guard` or `poster`.
        box: (4,) float32 xyxy, pixels; may reach past the frame's edges.
        visible: share of the face that is in the frame and not hidden by somebody nearer.
    """

    visit: int
    person: str
    enrolled: bool
    kind: str
    box: Float32Array
    visible: float

    @property
    def long_px(self) -> float:
        return float(max(self.box[2] - self.box[0], self.box[3] - self.box[1]))

    @property
    def short_px(self) -> float:
        return float(min(self.box[2] - self.box[0], self.box[3] - self.box[1]))

    def to_json(self) -> dict[str, Any]:
        return {
            "visit": self.visit,
            "person": self.person,
            "enrolled": self.enrolled,
            "kind": self.kind,
            "box": [round(float(v), 1) for v in self.box],
            "size": round(self.long_px, 1),
            "visible": round(self.visible, 3),
        }

    @classmethod
    def of_json(cls, values: dict[str, Any]) -> TrueFace:
        return cls(
            visit=values["visit"],
            person=values["person"],
            enrolled=values["enrolled"],
            kind=values["kind"],
            box=np.array(values["box"], np.float32),
            visible=values["visible"],
        )


@dataclass(frozen=True, slots=True, eq=False)
class TrueFrame:
    """The faces of one frame, in no order; `light` is 1 where there is enough of it."""

    index: int
    at_s: float
    light: float
    faces: Sequence[TrueFace]

    def to_json(self) -> dict[str, Any]:
        faces = [face.to_json() for face in self.faces]
        return {"frame": self.index, "t": round(self.at_s, 4), "light": self.light, "faces": faces}


def read_truth(path: Path) -> list[TrueFrame]:
    """Reads what `python -m bench.scene` wrote.

    Raises:
        InvalidInput: not there, or not such a file.
    """
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        return [
            TrueFrame(row["frame"], row["t"], row["light"], [TrueFace.of_json(face) for face in row["faces"]])
            for row in rows
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{path} is no scene's truth: {error!r}") from error
