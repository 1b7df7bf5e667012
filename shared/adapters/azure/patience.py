"""How long the adapters wait for a service, and how often the SDKs ask again (docs/adr/0008)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Patience:
    """Time-outs and retries that the SDKs' own policies are set to.

    Attributes:
        connect_s: for a connection.
        read_s: for the next bytes of an answer.
        retries: attempts after the first, when the service is busy, fails or does not answer.
        backoff_base_s: wait before the n-th retry: this to the power of n, give or take `jitter_s`. Storage only;
            Cosmos DB says itself how long.
        throttled_s: sum of the waits that Cosmos DB may ask for (429) before it counts as unavailable.
        operation_s: after this no further attempt on one Cosmos DB operation begins.
    """

    connect_s: int = 3
    read_s: int = 10
    retries: int = 3
    backoff_base_s: int = 2
    jitter_s: int = 1
    throttled_s: int = 15
    operation_s: int = 30

    @property
    def worst_case_storage_s(self) -> float:
        """Longest that one request to Storage can take when nothing is ever answered.

        >>> Patience().worst_case_storage_s
        69.0
        """
        waits = sum(self.backoff_base_s**attempt + self.jitter_s for attempt in range(1, self.retries + 1))
        return float((self.retries + 1) * (self.connect_s + self.read_s) + waits)

    @property
    def worst_case_cosmos_s(self) -> float:
        """Longest that one request to Cosmos DB can take: the last attempt may begin just before `operation_s`.

        >>> Patience().worst_case_cosmos_s
        43.0
        """
        return float(self.operation_s + self.connect_s + self.read_s)


DEFAULT_PATIENCE: Final = Patience()

SINGLE_ATTEMPT: Final = Patience(retries=0)
"""For the gateway, whose spool repeats: retries of the SDK would multiply its own, each behind its back."""
