"""A bundle of one embedder's gallery as it is stored now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from shared.domain import Template, gallery_hash
from shared.errors import EmbedderMismatch
from shared.matching.bundle import Bundle
from shared.matching.model import Operating, new_model_id
from shared.ports import Clock, PersonRepository


@dataclass(frozen=True, slots=True)
class FitSettings:
    """What a fit needs besides the templates; see `fit_bundle`.

    Attributes:
        embedder: `embedder_id`, `dimension` and preprocessing, for the manifest.
    """

    embedder: Mapping[str, Any]
    fallback: Operating
    target_fpir: float


class Fitter:
    """Reads a gallery, and fits a bundle to it.

    Args:
        settings: of an embedder, by its id.
    """

    def __init__(self, *, people: PersonRepository, settings: Callable[[str], FitSettings], clock: Clock) -> None:
        self._people = people
        self._settings = settings
        self._clock = clock

    def state(self, embedder_id: str) -> str:
        """`gallery_hash` of an embedder's gallery."""
        return gallery_hash(self._people.template_keys(embedder_id))

    def fit(self, embedder_id: str, progress: Callable[[float], None]) -> Bundle:
        """A bundle ready to publish, of everybody who has a template of that embedder."""
        model_id = new_model_id(self._clock())
        state = self.state(embedder_id)
        return self.fit_to(
            embedder_id,
            self._people.list_templates(embedder_id=embedder_id),
            state,
            model_id=model_id,
            progress=progress,
        )

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
        from functions.train.fit import fit_bundle, gather  # scikit-learn takes a second to import

        settings = self._settings(embedder_id)
        gallery = gather(_only_of(embedder_id, templates), state, int(settings.embedder["dimension"]))
        return fit_bundle(
            gallery,
            model_id=model_id,
            embedder=settings.embedder,
            fallback=settings.fallback,
            target_fpir=settings.target_fpir,
            progress=progress,
        )


def _only_of(embedder_id: str, templates: Iterable[Template]) -> Iterator[Template]:
    for template in templates:
        if template.embedder_id != embedder_id:
            raise EmbedderMismatch(f"a template of {template.embedder_id} is in a gallery of {embedder_id}")
        yield template
