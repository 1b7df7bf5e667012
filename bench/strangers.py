"""Strangers before a running service, and before the seed's classifier: `make bench-strangers [LFW=DIR]`.

People with four or more photographs are enrolled over HTTP with three each; everybody's other photographs, and those of
the people with one alone, are sent to `POST /face-recognition/get-results`. The face nearest the middle is the one that
counts, other faces are reported apart. The seed's classifier, scikit-learn's SVC with probabilities, is trained on the
same photographs in the same embedder's space, and always names its most probable class.

Writes build/bench/strangers.json.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.embed import embed_all
from bench.lfw import OpenSet, Photographs, open_set
from bench.report import OUTPUT, console, print_figures, write_report
from bench.report import run as run_bench
from bench.running import Serve
from local.client import Client
from local.evaluation.cores import on_all_cores
from local.evaluation.intervals import rate
from shared.domain import UNKNOWN, Float32Array, normalise_person_id
from shared.errors import InvalidInput
from shared.settings import Settings
from shared.vision.assets import ModelCache

PACKS = ("facenet", "sface")
SEED_PACK = "facenet"
SEED_SETTING = 0.8
"""The `--min-confidence` of the seed's own examples."""
CONFIDENCES = (0.5, 0.9)
LIMIT = 1 / 500
"""Largest share of strangers that may be named with a confidence of 0.9."""
CONCURRENCY = 4


@dataclass(frozen=True, slots=True)
class Answer:
    """What was said of the face nearest the middle of one photograph.

    Attributes:
        label: a person's id or `unknown`; None where no usable face was found.
        first: who came first, named or not.
        others: (label, confidence) of the other faces.
    """

    label: str | None
    confidence: float
    first: str | None
    others: tuple[tuple[str, float], ...] = ()

    @property
    def named(self) -> bool:
        return self.label is not None and self.label != UNKNOWN


def read_answer(faces: Sequence[dict[str, Any]], size: tuple[int, int]) -> Answer:
    """Takes the face nearest the middle of a picture of `size` (width, height) pixels."""
    if not faces:
        return Answer(None, 0.0, None)

    def off_centre(face: dict[str, Any]) -> float:
        box = face["bounding_box"]
        x, y = (box["left"] + box["right"]) / 2, (box["top"] + box["bottom"]) / 2
        return float(np.hypot(x - size[0] / 2, y - size[1] / 2))

    central = min(faces, key=off_centre)
    tops = tuple((f["top_prediction"]["label"], f["top_prediction"]["confidence"]) for f in faces if f is not central)
    top, everybody = central["top_prediction"], central["all_predictions"] or []
    return Answer(top["label"], top["confidence"], everybody[0]["label"] if everybody else None, tops)


class Service:
    """One running service, asked by several threads."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._local = threading.local()

    def _client(self) -> Client:
        if not hasattr(self._local, "client"):
            self._local.client = Client(self._url)
        client: Client = self._local.client
        return client

    def enrol(self, person: str, path: Path) -> str:
        """`added`, or why not."""
        try:
            self._client().add_image(person, path.read_bytes())
        except InvalidInput as error:
            return str(error)
        return "added"

    def ask(self, path: Path) -> Answer:
        data = path.read_bytes()
        with Image.open(BytesIO(data)) as image:
            size = image.size
        route = "/face-recognition/get-results"
        document = self._client().call("POST", route, files={"image": data}, data={"include_predictions": "true"})
        return read_answer(document["faces"], size)


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """Of a draw's probes, in its order, and which gallery photographs were enrolled."""

    enrolled: NDArray[np.intp]
    refused: dict[str, int]
    mated: list[Answer]
    strangers: list[Answer]
    seconds: float


def ask_service(photographs: Photographs, draw: OpenSet, pack: str) -> Answers:
    """Enrols, trains and asks, over HTTP, in a service of its own with an empty store."""
    paths = photographs.paths()
    OUTPUT.mkdir(parents=True, exist_ok=True)
    log = OUTPUT / f"strangers-{pack}-serve.log"
    with tempfile.TemporaryDirectory() as folder, Serve(Path(folder), log, FACERELAY_PACK=pack) as serve:
        service, client = Service(serve.url), Client(serve.url)
        for person in sorted({photographs.people[i] for i in draw.gallery}):
            client.add_person(person)
        endings = on_all_cores(
            lambda i: service.enrol(photographs.people[i], paths[i]),
            draw.gallery.tolist(),
            f"{pack}: enrolling",
            console,
            threads=CONCURRENCY,
        )
        client.train()
        probes = [*draw.mated.tolist(), *draw.non_mated.tolist()]
        began = time.monotonic()
        answers = on_all_cores(lambda i: service.ask(paths[i]), probes, f"{pack}: asking", console, threads=CONCURRENCY)
        seconds = time.monotonic() - began
    added = np.array([ending == "added" for ending in endings])
    return Answers(
        enrolled=draw.gallery[added],
        refused=dict(Counter(ending for ending in endings if ending != "added")),
        mated=answers[: len(draw.mated)],
        strangers=answers[len(draw.mated) :],
        seconds=seconds,
    )


def figures_of(answers: Answers, truth: Sequence[str]) -> dict[str, Any]:
    """Counts and rates of the service's answers; a photograph without a usable face is a miss, or no false name.

    Args:
        truth: whom each mated probe shows.
    """
    strangers, mated = answers.strangers, answers.mated
    each = np.arange(len(strangers))
    others = [other for answer in strangers for other in answer.others]
    right = [answer.label == who for answer, who in zip(mated, truth, strict=True)]
    _, people = np.unique(np.array(truth), return_inverse=True)
    return {
        "strangers": {
            "photographs": len(strangers),
            "no_usable_face": sum(answer.label is None for answer in strangers),
            "named": _rate([answer.named for answer in strangers], each),
        }
        | {
            f"named_confidence_{at}": _rate([a.named and a.confidence >= at for a in strangers], each)
            for at in CONFIDENCES
        },
        "others_in_strangers_photographs": {
            "faces": len(others),
            "named": sum(label != UNKNOWN for label, _ in others),
            "named_confidence_0.9": sum(label != UNKNOWN and confidence >= 0.9 for label, confidence in others),
        },
        "mated": {
            "photographs": len(mated),
            "no_usable_face": sum(answer.label is None for answer in mated),
            "rightly": _rate(right, people),
            "rightly_confidence_0.9": sum(r and a.confidence >= 0.9 for r, a in zip(right, mated, strict=True)),
            "wrongly": sum(a.named and not r for r, a in zip(right, mated, strict=True)),
            "unknown": sum(answer.label == UNKNOWN for answer in mated),
            "rank1": sum(answer.first == who for answer, who in zip(mated, truth, strict=True)),
        },
        "gallery": {"templates": len(answers.enrolled), "refused": answers.refused},
        "requests_per_s": round((len(strangers) + len(mated)) / answers.seconds, 2),
    }


def _rate(hits: Sequence[bool], person: NDArray[np.intp]) -> dict[str, Any]:
    return asdict(rate(np.array(hits, bool), person))


@dataclass(frozen=True, slots=True, eq=False)
class SeedAnswers:
    """The seed's classifier: probability of its first class (0 where there was no face), and whether that is right.

    Attributes:
        rank1_by_votes: so many mated probes get the right class by SVC's own `predict`, which gives no probability.
    """

    mated: Float32Array
    right: NDArray[np.bool_]
    strangers: Float32Array
    rank1_by_votes: int = 0


def seed_classifier(
    embeddings: Float32Array, found: NDArray[np.bool_], people: Sequence[str], enrolled: NDArray[np.intp], draw: OpenSet
) -> SeedAnswers:
    """The seed's: a linear SVC with Platt's probabilities, over all classes."""
    from sklearn.svm import SVC

    labels = np.array(people)
    enrolled = enrolled[found[enrolled]]
    with warnings.catch_warnings():
        # scikit-learn 1.9 advises CalibratedClassifierCV instead of `probability`; the seed has what it has.
        warnings.simplefilter("ignore", FutureWarning)
        classifier = SVC(kernel="linear", probability=True, random_state=0)
        classifier.fit(embeddings[enrolled], labels[enrolled])
        mated = classifier.predict_proba(embeddings[draw.mated])
        strangers = classifier.predict_proba(embeddings[draw.non_mated]).max(axis=1)
        voted = classifier.predict(embeddings[draw.mated])
    first = classifier.classes_[mated.argmax(axis=1)]
    return SeedAnswers(
        np.where(found[draw.mated], mated.max(axis=1), 0.0).astype(np.float32),
        (first == labels[draw.mated]) & found[draw.mated],
        np.where(found[draw.non_mated], strangers, 0.0).astype(np.float32),
        int(np.sum((voted == labels[draw.mated]) & found[draw.mated])),
    )


def seed_at(answers: SeedAnswers, setting: float) -> dict[str, Any]:
    """Counts when names are shown from a probability on; above 0, so that a photograph without a face has none."""
    shown = max(setting, 1e-9)
    return {
        "min_confidence": setting,
        "strangers_named": int(np.sum(answers.strangers >= shown)),
        "rightly": int(np.sum(answers.right & (answers.mated >= shown))),
        "wrongly": int(np.sum(~answers.right & (answers.mated >= shown))),
    }


def same_tpir(answers: SeedAnswers, rightly: int) -> float:
    """The highest probability from which on it names at least `rightly` probes rightly; 0 where it never does."""
    probabilities = np.sort(answers.mated[answers.right])[::-1]
    if not 0 < rightly <= len(probabilities):
        return 0.0
    return float(probabilities[rightly - 1])


def same_fpir(answers: SeedAnswers, named: int) -> float:
    """The lowest probability from which on it names at most `named` strangers."""
    probabilities = np.sort(answers.strangers)[::-1]
    return float(np.nextafter(probabilities[named], np.float32(1))) if named < len(probabilities) else 0.0


def seed_figures(answers: SeedAnswers, ours: dict[str, Any]) -> dict[str, Any]:
    """The seed's classifier at its own setting, and where it names as many people, or as many strangers, as we do.

    Args:
        ours: `figures_of` our answers.
    """
    rightly, strangers = ours["mated"]["rightly"]["count"], ours["strangers"]["named"]["count"]
    settings = {
        "own": SEED_SETTING,
        "same_tpir": same_tpir(answers, rightly),
        "same_fpir": same_fpir(answers, strangers),
    } | {str(at): at for at in CONFIDENCES}
    at = {name: seed_at(answers, setting) for name, setting in settings.items()}
    return {
        "classifier": 'sklearn.svm.SVC(kernel="linear", probability=True)',
        "embedder": SEED_PACK,
        "strangers": len(answers.strangers),
        "mated": len(answers.mated),
        "rank1": int(answers.right.sum()),
        "rank1_by_votes": answers.rank1_by_votes,
        "largest_probability": {"mated": float(answers.mated.max()), "strangers": float(answers.strangers.max())},
        "reaches_our_tpir": at["same_tpir"]["rightly"] >= rightly,
        "at": at,
    }


def rows_of(figures: dict[str, Any], seed: dict[str, Any] | None) -> list[tuple[str, ...]]:
    """The table: ours and the seed's, strangers and people side by side."""

    def of(count: int, total: int) -> str:
        return f"{count:,} of {total:,} ({count / max(total, 1):.2%})"

    rows: list[tuple[str, ...]] = []
    for pack, f in figures.items():
        s, m = f["strangers"], f["mated"]
        people = (of(m["rightly"]["count"], m["photographs"]), str(m["wrongly"]))
        sure = (of(m["rightly_confidence_0.9"], m["photographs"]), "")
        rows.append((pack, "named", of(s["named"]["count"], s["photographs"]), *people))
        for at, told in zip(CONFIDENCES, (("", ""), sure), strict=True):
            rows.append(
                (pack, f"… confidence ≥ {at}", of(s[f"named_confidence_{at}"]["count"], s["photographs"]), *told)
            )
    if seed is not None:
        many = "as many people as ours" if seed["reaches_our_tpir"] else "never as many as ours: names all"
        for name, shown in (("own", "its own setting"), ("same_tpir", many), ("same_fpir", "as few strangers as ours")):
            at = seed["at"][name]
            rows.append(
                (
                    f"seed's SVC, {SEED_PACK}",
                    f"{shown}, ≥ {at['min_confidence']:.3g}",
                    of(at["strangers_named"], seed["strangers"]),
                    of(at["rightly"], seed["mated"]),
                    str(at["wrongly"]),
                )
            )
    return rows


def sample(draw: OpenSet, mated: int | None, strangers: int | None, seed: int) -> OpenSet:
    """Fewer probes, drawn by chance; all where None."""
    random = np.random.default_rng(seed)

    def some(images: NDArray[np.intp], count: int | None) -> NDArray[np.intp]:
        return images if count is None else np.sort(random.permutation(images)[:count])

    return replace(draw, mated=some(draw.mated, mated), non_mated=some(draw.non_mated, strangers))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--lfw", type=Path, required=True, help="folder with images/")
    parser.add_argument("--packs", nargs="+", default=list(PACKS), choices=PACKS)
    parser.add_argument("--mated", type=int, help="so many photographs of enrolled people, not all")
    parser.add_argument("--strangers", type=int, help="so many photographs of strangers, not all")
    parser.add_argument("--seed", type=int, default=0, help="which images of each person are enrolled")
    arguments = parser.parse_args()
    photographs = Photographs.read(arguments.lfw)
    draw = sample(open_set(photographs, arguments.seed), arguments.mated, arguments.strangers, arguments.seed)
    truth = [normalise_person_id(photographs.people[i]) for i in draw.mated]
    figures: dict[str, Any] = {}
    seed: dict[str, Any] | None = None
    for pack in arguments.packs:
        answers = ask_service(photographs, draw, pack)
        figures[pack] = figures_of(answers, truth)
        figures[pack]["gallery"]["people"] = len({photographs.people[i] for i in answers.enrolled})
        sure = figures[pack]["strangers"]["named_confidence_0.9"]["share"]
        figures[pack]["criterion"] = {"limit": LIMIT, "share": sure, "holds": sure <= LIMIT}
        if pack == SEED_PACK:
            embedded = embed_all(photographs, pack, ModelCache(Settings().model_cache))
            with console.status("the seed's classifier …"):
                said = seed_classifier(embedded.embeddings, embedded.found, photographs.people, answers.enrolled, draw)
            seed = seed_figures(said, figures[pack])
    people = len({photographs.people[i] for i in draw.gallery})
    print_figures(
        f"{people} people to enrol, {len(draw.non_mated):,} strangers, over HTTP",
        rows_of(figures, seed),
        ("who answers", "what is shown", "strangers named", "people named rightly", "wrongly"),
    )
    for pack, f in figures.items():
        told = "holds" if f["criterion"]["holds"] else "does NOT hold"
        console.print(f"{pack}: at most 1 stranger in 500 named with confidence ≥ 0.9 {told}")
    write_report("strangers", {"people": people, "seed": arguments.seed, "packs": figures, "seed_classifier": seed})


if __name__ == "__main__":
    run_bench(main)
