"""Whose fault a refusal is: the crop's, or that of a store which refuses them all."""

from __future__ import annotations

import threading
from typing import Final

from edge_uploader.delivery.entries import SpoolEntry

_IN_A_ROW: Final = 3


class Refusals:
    """Crops that were refused since the store last took one. Thread-safe.

    One that is refused among others that are taken is at fault itself. Several in a row are not: they would all be
    given up for a service that is older than the gateway, a proxy, or a setting of the store. Who was refused in such a
    row, and again after the store has taken another, is at fault after all.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._names: set[str] = set()
        self._blamed: list[SpoolEntry] = []
        self._suspects: set[str] = set()

    @property
    def of_all(self) -> bool:
        """Whether the store refuses whatever it is given."""
        return len(self._names) >= _IN_A_ROW

    def refused(self, entry: SpoolEntry) -> list[SpoolEntry] | None:
        """None when this crop is at fault. Else the store is: gives those that were blamed before that was known."""
        name = entry.path.name
        with self._guard:
            if name in self._suspects and not self.of_all:
                self._suspects.remove(name)
                return None
            self._names.add(name)
            if not self.of_all:
                self._blamed.append(entry)
                return None
            blamed, self._blamed = self._blamed, []
            return blamed

    def taken(self, entry: SpoolEntry) -> bool:
        """The store took one; whether it refused all before."""
        with self._guard:
            over = self.of_all
            if over:
                self._suspects |= self._names
            self._suspects.discard(entry.path.name)
            self._names.clear()
            self._blamed.clear()
            return over
