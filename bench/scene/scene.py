"""A scene on the disk: the video, its truth, and who is enrolled; made once for each set of parameters."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from bench.scene.compose import Composer
from bench.scene.people import Person, Portraits, cast_of
from bench.scene.plan import FPS, SceneOptions, make_plan
from bench.scene.truth import TrueFrame, read_truth
from bench.scene.video import open_writer
from shared.domain import sha256_hex

T = TypeVar("T")
Progress = Callable[[Iterable[T], int], Iterable[T]]
"""Wraps an iteration of known length, such as rich's `track`."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One scene.

    Attributes:
        folder: holds `scene.mp4`, `truth.jsonl` and `scene.json`.
        about: what `scene.json` says: parameters, visits, and the enrolled people's photographs.
    """

    folder: Path
    about: dict[str, Any]

    @property
    def video(self) -> Path:
        return self.folder / "scene.mp4"

    @property
    def name(self) -> str:
        return str(self.about["density"]) + ("_fixtures" if self.about["fixtures"] else "")

    def truth(self) -> list[TrueFrame]:
        return read_truth(self.folder / "truth.jsonl")

    @classmethod
    def read(cls, folder: Path) -> Scene:
        return cls(folder, json.loads((folder / "scene.json").read_text()))


def key_of(options: SceneOptions, people: Path, cast: list[Person]) -> str:
    """Changes with the parameters, with the photographs and with the code that composes."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    code = b"".join(path.read_bytes() for path in sources)
    names = "|".join(path.name for person in cast for path in (*person.gallery, *person.shown))
    parameters = json.dumps(asdict(options), sort_keys=True)
    return sha256_hex(code + f"{parameters}{people.name}{names}".encode())[:12]


def composed(
    options: SceneOptions, people: Path, root: Path, portraits: Portraits, progress: Progress[Any] = lambda x, n: x
) -> Scene:
    """The scene of these parameters under `root`; composed when it is not there yet.

    Raises:
        InvalidInput: `people` has nobody to show.
    """
    cast = cast_of(people, options.seed)
    name = options.density + ("_fixtures" if options.fixtures else "")
    folder = root / f"{name}-{options.minutes:g}min-{options.seed}-{key_of(options, people, cast)}"
    if not (folder / "scene.json").is_file():
        write_scene(options, cast, folder, portraits, progress)
    return Scene.read(folder)


def write_scene(
    options: SceneOptions, cast: list[Person], folder: Path, portraits: Portraits, progress: Progress[Any]
) -> None:
    """Composes into `folder`; all of it appears at once, when it is complete."""
    plan = make_plan(options, cast)
    made = folder.with_name(folder.name + ".part")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    frames = Composer(plan, portraits).frames()
    with open_writer(made / "scene.mp4") as video, (made / "truth.jsonl").open("w") as lines:
        for frame, truth in progress(frames, plan.frames):
            video.write(frame)
            lines.write(json.dumps(truth.to_json(), separators=(",", ":")) + "\n")
    about = asdict(options) | {
        "fps": FPS,
        "frames": plan.frames,
        "visits": len(plan.visits),
        "enrolled_visits": sum(visit.person.enrolled for visit in plan.visits),
        "gallery": {person.id: [str(path) for path in person.gallery] for person in cast if person.enrolled},
    }
    (made / "scene.json").write_text(json.dumps(about, indent=1) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    made.rename(folder)
