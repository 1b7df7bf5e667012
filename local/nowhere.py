"""A blob store for gateways that only show or count what they would send."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from shared.errors import NotFound
from shared.ports import Blob, BlobProperties


class Nowhere:
    """`ports.BlobStore` that takes everything and keeps nothing."""

    def put(
        self,
        container: str,
        name: str,
        data: bytes,
        *,
        metadata: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        content_type: str = "application/octet-stream",
        if_match: str | None = None,
        if_absent: bool = False,
    ) -> str:
        return ""

    def get(self, container: str, name: str) -> Blob:
        """Raises: NotFound, always: nothing is kept."""
        raise NotFound(name)

    def properties(self, container: str, name: str) -> BlobProperties:
        """Raises: NotFound, always: nothing is kept."""
        raise NotFound(name)

    def delete(self, container: str, name: str) -> bool:
        return False

    def list(self, container: str, prefix: str = "") -> Iterator[BlobProperties]:
        return iter(())

    def find_by_tags(self, container: str, tags: Mapping[str, str]) -> Iterator[str]:
        return iter(())
