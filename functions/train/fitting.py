"""A bundle of one embedder's gallery as it is stored now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from shared.domain import UNKNOWN, Detection, Template, gallery_hash
from shared.errors import EmbedderMismatch
from shared.matching.bundle import Bundle
from shared.matching.model import Operating, camera_key, new_model_id
from shared.ports import Clock, DetectionFilter, DetectionRepository, PersonRepository

if TYPE_CHECKING:
    from functions.train.calibration import Unknowns
    from functions.train.fit import FitRequest, Gallery

MOST_UNKNOWNS: Final = 5_000
"""Unknown faces, the newest, that calibration asks: enough for a tenth's quantile, and a few seconds to read."""
UNKNOWNS_PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class FitSettings:
    """What a fit needs besides the templates; see `fit_bundle`.

    Attributes:
        embedder: `embedder_id`, `dimension` and preprocessing, for the manifest.
    """

    embedder: Mapping[str, Any]
    fallback: Operating
    target_fpir: float
    best_shot_fpir: float = 0.0
    visit_fpir: float = 0.0


class Fitter:
    """Reads a gallery, and fits a bundle to it.

    Args:
        settings: of an embedder, by its id.
        detections: where the site's unknown faces are; None asks none.
    """

    def __init__(
        self,
        *,
        people: PersonRepository,
        settings: Callable[[str], FitSettings],
        clock: Clock,
        detections: DetectionRepository | None = None,
    ) -> None:
        self._people = people
        self._detections = detections
        self._settings = settings
        self._clock = clock

    def state(self, embedder_id: str) -> str:
        """`gallery_hash` of an embedder's gallery."""
        return gallery_hash(self._people.template_keys(embedder_id))

    def fit(self, embedder_id: str, progress: Callable[[float], None], live: Bundle | None = None) -> Bundle:
        """A bundle ready to publish, of everybody who has a template of that embedder.

        Args:
            live: what answers now. Where only a few of many people have changed since, they alone are fitted.
        """
        from functions.train.fit import fit_bundle, refit_changed  # scikit-learn takes a second to import

        model_id = new_model_id(self._clock())
        gallery = self._gather(embedder_id, self._people.list_templates(embedder_id=embedder_id), None)
        progress(0.05)
        if live is not None:
            bundle = refit_changed(gallery, live, self._request(embedder_id, model_id, None))
            if bundle is not None:
                return bundle
        request = self._request(embedder_id, model_id, self._unknowns(embedder_id))
        return fit_bundle(gallery, request, lambda share: progress(0.1 + 0.9 * share))

    def fit_to(
        self,
        embedder_id: str,
        templates: Iterable[Template],
        state: str,
        *,
        model_id: str,
        progress: Callable[[float], None] = lambda _: None,
    ) -> Bundle:
        """A bundle of some templates.

        Raises:
            EmbedderMismatch: one of them is of another embedder.
        """
        from functions.train.fit import fit_bundle

        gallery = self._gather(embedder_id, templates, state)
        return fit_bundle(gallery, self._request(embedder_id, model_id, None), progress)

    def _gather(self, embedder_id: str, templates: Iterable[Template], state: str | None) -> Gallery:
        from functions.train.fit import gather

        dimension = int(self._settings(embedder_id).embedder["dimension"])
        return gather(_only_of(embedder_id, templates), state, dimension)

    def _request(self, embedder_id: str, model_id: str, unknowns: Unknowns | None) -> FitRequest:
        from functions.train.fit import FitRequest

        settings = self._settings(embedder_id)
        return FitRequest(
            model_id,
            settings.embedder,
            settings.fallback,
            settings.target_fpir,
            unknowns,
            best_shot_fpir=settings.best_shot_fpir,
            visit_fpir=settings.visit_fpir,
        )

    def _unknowns(self, embedder_id: str) -> Unknowns | None:
        """The newest unknown faces of that embedder, at most `MOST_UNKNOWNS`."""
        from functions.train.calibration import Unknowns

        found: list[Detection] = []
        continuation: str | None = None
        for _ in range(MOST_UNKNOWNS // UNKNOWNS_PAGE if self._detections else 0):
            page = self._detections.list(  # type: ignore[union-attr]
                DetectionFilter(person_id=UNKNOWN), page_size=UNKNOWNS_PAGE, continuation=continuation
            )
            found += [d for d in page.detections if d.embedder_id == embedder_id and d.embedding is not None]
            if (continuation := page.continuation) is None:
                break
        if not found:
            return None
        cameras = [camera_key(detection.site, detection.camera) for detection in found]
        return Unknowns(
            np.stack([detection.embedding for detection in found if detection.embedding is not None]),
            cameras,
            [f"{camera}/{d.track or d.id}" for camera, d in zip(cameras, found, strict=True)],
        )


def _only_of(embedder_id: str, templates: Iterable[Template]) -> Iterator[Template]:
    for template in templates:
        if template.embedder_id != embedder_id:
            raise EmbedderMismatch(f"a template of {template.embedder_id} is in a gallery of {embedder_id}")
        yield template
