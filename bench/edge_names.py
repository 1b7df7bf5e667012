"""Who each crop shows, by the service's own code: a gallery enrolled and trained by the product, crops recognised in
as many processes as there are cores."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from rich.progress import track

from bench.edge_policies import StoredCrop
from bench.processes import end_with_parent
from bench.report import console
from functions.recognize.service import OTHER_SHOTS, Recognizer
from local.evaluation.cores import on_all_cores
from shared.domain import UNKNOWN, Embeddings
from shared.errors import InvalidInput, UnusableFace
from shared.settings import Settings

NO_FACE = "no_face"
_CHUNK = 16


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service makes of one crop.

    Attributes:
        text: a person's id, `unknown`, or `-` and the reason why nobody was looked for.
        nearest: the person it resembles most, named or not; None where nobody was looked for.
        similarity, threshold: to that person, and from where on it is named.
    """

    text: str
    nearest: str | None = None
    similarity: float = 0.0
    threshold: float = 0.0

    def at(self, lower_by: float) -> str:
        """`text` as it would be at a threshold lower by so much.

        >>> answer = Answer("unknown", "ann", 0.58, 0.6)
        >>> answer.at(0.01), answer.at(0.03), Answer("-no_face").at(0.5)
        ('unknown', 'ann', '-no_face')
        """
        return self.nearest if self.nearest and self.similarity >= self.threshold - lower_by else self.text


_recognizer: Recognizer | None = None
"""Of a worker process."""


@contextmanager
def enrolled(pack: str, gallery: Mapping[str, Sequence[Path]]) -> Iterator[Path]:
    """A store of its own, with these people enrolled and a model fit to them at the shipped operating point.

    Args:
        gallery: each person's photographs.

    Raises:
        InvalidInput: the training failed.
    """
    from functions.services import Services
    from shared.bootstrap import build
    from shared.messages import TrainRequest

    with tempfile.TemporaryDirectory() as folder:
        services = Services(build(_settings(Path(folder), pack)))
        enroll = services.enroll()

        def add(person: str) -> int:
            added = 0
            enroll.add_person(person)
            for path in gallery[person]:
                try:
                    enroll.add_image(person, path.read_bytes())
                    added += 1
                except UnusableFace:
                    continue
            return added

        added = on_all_cores(add, sorted(gallery), f"{pack}: enrolling {len(gallery)} people", console)
        with console.status(f"{pack}: training"):
            job = services.train_requests().request("fit")
            job = services.train().run(TrainRequest(schema=1, job_id=job.job_id, kind="fit"))
        if job.status != "succeeded":
            raise InvalidInput(f"{pack}: the training {job.status}: {job.error}")
        console.print(f"{pack}: {sum(added)} photographs of {len(gallery)} people enrolled")
        yield Path(folder)


def _settings(folder: Path, pack: str) -> Settings:
    return Settings(data_dir=folder, pack=pack, backend="local")


class Names:
    """Recognises crops as the service does: one that a gateway chose with those of its track that came before, which
    tell together what each may not; any other by itself, each content once.

    Args:
        folder: of `enrolled`.
    """

    def __init__(self, folder: Path, pack: str) -> None:
        self._pack = pack
        self._known: dict[tuple[str, str], Answer] = {}
        self._pool = ProcessPoolExecutor(
            os.cpu_count(), mp_context=get_context("spawn"), initializer=_start, initargs=(folder, pack)
        )

    def of(self, crops: Sequence[StoredCrop], what: str) -> list[Answer]:
        """What is made of each crop."""
        fresh = [shots for shots in together(crops) if any(key not in self._known for key in shots)]
        work = self._pool.map(
            _name,
            [[crop.data for crop in shots.values()] for shots in fresh],
            [all(crop.candidate.chosen for crop in shots.values()) for shots in fresh],
            chunksize=_CHUNK,
        )
        bar = track(work, description=f"{self._pack}: {what}", total=len(fresh), console=console, transient=True)
        for shots, answers in zip(fresh, bar, strict=True):
            self._known.update(zip(shots, answers, strict=True))
        return [self._known[_key(crop)] for crop in crops]

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def _key(crop: StoredCrop) -> tuple[str, str]:
    """A crop's content, and the track where it matters."""
    return crop.candidate.sha256, crop.candidate.track if crop.candidate.chosen else ""


def together(crops: Sequence[StoredCrop]) -> list[dict[tuple[str, str], StoredCrop]]:
    """Crops that are judged together, in order of time: what was chosen of one track; and any other alone."""
    groups: dict[tuple[str, str], dict[tuple[str, str], StoredCrop]] = {}
    for crop in sorted(crops, key=lambda crop: crop.candidate.captured_at):
        key = _key(crop)
        groups.setdefault(("", key[1]) if crop.candidate.chosen else key, {})[key] = crop
    return list(groups.values())


def _start(folder: Path, pack: str) -> None:
    """Of a worker process: a service's recogniser over the store."""
    global _recognizer
    end_with_parent()
    from functions.services import Services
    from shared.bootstrap import build

    _recognizer = Services(build(_settings(folder, pack))).recognizer()


def _name(shots: Sequence[bytes], chosen: bool) -> list[Answer]:
    """What is made of each of a track's shots, in order of time.

    Args:
        chosen: by the gateway.
    """
    if _recognizer is None:
        raise InvalidInput("a worker was not started by `_start`")
    answers: list[Answer] = []
    unknown: list[Embeddings] = []
    for data in shots:
        found = _recognizer.recognize_crop(data, best_shot=chosen)
        if found is None or found.rejected is not None:
            answers.append(Answer(f"-{NO_FACE if found is None else found.rejected}"))
            continue
        if chosen:
            found = found.with_others(lambda: unknown[-OTHER_SHOTS:])
        if not found.identity.known:
            unknown.append(found.embedding)
        identity = found.identity
        answers.append(Answer(identity.person_id, identity.nearest, identity.similarity, identity.threshold))
    return answers


def named(answer: str) -> bool:
    """Whether an `Answer.text` is a person.

    >>> named("somebody"), named("unknown"), named("-no_face")
    (True, False, False)
    """
    return answer != UNKNOWN and not answer.startswith("-")
