"""`python -m bench.scene --people DIR --density medium --minutes 10 --seed 1 --out DIR`."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.progress import track

from bench.report import console, run
from bench.scene.people import Portraits, cast_of, mtcnn_locator
from bench.scene.plan import DENSITIES, SceneOptions
from bench.scene.scene import Scene, write_scene


def progress(what: str) -> Any:
    """A bar for `write_scene`."""

    def bar(frames: Iterable[Any], total: int) -> Iterable[Any]:
        return track(frames, description=what, total=total, console=console, transient=True)

    return bar


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.scene", description="Composes site video of known people from their photographs."
    )
    parser.add_argument("--people", type=Path, required=True, help="folder with images/{person}/*.jpg")
    parser.add_argument("--density", default="medium", choices=list(DENSITIES))
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fixtures", action="store_true", help="a poster on the wall and a guard who sits there")
    parser.add_argument("--out", type=Path, required=True, help="folder for scene.mp4, truth.jsonl and scene.json")
    arguments = parser.parse_args()
    options = SceneOptions(arguments.density, arguments.minutes, arguments.seed, arguments.fixtures)
    cast = cast_of(arguments.people, options.seed)
    write_scene(options, cast, arguments.out, Portraits(mtcnn_locator()), progress(f"composing {options.density}"))
    about = Scene.read(arguments.out).about
    console.print(f"{arguments.out}: {about['frames']} frames, {about['visits']} visits")


if __name__ == "__main__":
    run(main)
