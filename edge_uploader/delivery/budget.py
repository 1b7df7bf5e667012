"""What sending may cost: bytes in any hour, money in a month.

Up to 60 % of either nothing is held back; from there only first shots of a visit and good later ones go; from 85 % only
first shots of the cameras of the highest priority; at the limit everything waits in the spool, and goes when there is
room in the budget again.

Hours and months are counted by a clock which only time turns. A month ends when the calendar (UTC) said it
would when it began; so a clock that is set wrong neither frees a new budget nor withholds it for ever.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from edge_uploader.delivery.clock import SteadyClock
from edge_uploader.delivery.order import DEFAULT_PRIORITY, Gate, Level
from edge_uploader.delivery.state import StateFile
from shared.domain import format_time, utc_now
from shared.ports import Clock

logger = logging.getLogger(__name__)

BETTER_SHARE: Final = 0.6
BEST_SHARE: Final = 0.85

REQUEST_BYTES: Final = 1_300
"""Of one upload besides image, metadata and tags: the request's line and headers, the answer, acknowledgements."""
_WIRE: Final = 1.05
"""TCP, IP and TLS records around it: 40 bytes to each 1,460 and 29 to each 16,384, and handshakes now and then."""

_MINUTE_NS: Final = 60_000_000_000
_MINUTES: Final = 60
_LONGEST_MONTH_NS: Final = 31 * 24 * 60 * _MINUTE_NS
_AHEAD_SHARE: Final = 0.01
_AHEAD_BYTES: Final = 100_000


def network_bytes(data: bytes, metadata: Mapping[str, str], tags: Mapping[str, str]) -> int:
    """What one upload puts on the line in both directions, estimated. See `bench/edge_faults.py` for the measure."""
    # Each metadatum is a header, `x-ms-meta-{key}: {value}`; tags share one, encoded.
    headers = sum(len(key) + len(value) + 14 for key, value in metadata.items())
    headers += sum(len(key) + len(value) + 2 for key, value in tags.items())
    return round(_WIRE * (len(data) + headers + REQUEST_BYTES))


@dataclass(frozen=True, slots=True)
class BudgetLimits:
    """What the operator allows. 0: no limit.

    Attributes:
        bytes_per_hour: in any 60 minutes.
        per_month: in the operator's currency.
        price_per_gb: of 10⁹ bytes on the line.
        price_per_10k: of 10,000 uploads.
    """

    bytes_per_hour: int = 0
    per_month: float = 0.0
    price_per_gb: float = 0.0
    price_per_10k: float = 0.0

    def cost(self, size_bytes: float, uploads: int = 1) -> float:
        """
        >>> BudgetLimits(price_per_gb=2.0, price_per_10k=0.05).cost(500_000_000, 20_000)
        1.1
        """
        return size_bytes / 1e9 * self.price_per_gb + uploads / 10_000 * self.price_per_10k


@dataclass(frozen=True, slots=True)
class BudgetReport:
    """How the budget stands.

    Attributes:
        level: `all`, `better`, `best` or `nothing`: what may be sent now.
        held_back: crops that wait for no other reason.
        hour_bytes, hour_limit_bytes: of the last 60 minutes; a limit of 0 is none.
        month_spent, month_limit: in the operator's currency.
        month_bytes, month_uploads: of the running month.
        month_ends: RFC 3339.
        share: the larger share of the two that is used; 0 without a limit.
    """

    level: str
    held_back: int
    share: float
    hour_bytes: int
    hour_limit_bytes: int
    month_spent: float
    month_limit: float
    month_bytes: int
    month_uploads: int
    month_ends: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"share": round(self.share, 4), "month_spent": round(self.month_spent, 6)}


class Budget:
    """What was spent, and what may go now. Thread-safe.

    Args:
        clock: its own, which is kept from here.
        file: where it is remembered over restarts. What is written there is always a little ahead of what was spent, so
            that a kill never frees what was spent already.
        utc: the calendar.
        top_priority: the highest of the gateway's cameras.
    """

    def __init__(
        self,
        limits: BudgetLimits,
        *,
        clock: SteadyClock,
        file: StateFile | None = None,
        utc: Clock = utc_now,
        top_priority: int = DEFAULT_PRIORITY,
    ) -> None:
        self._limits, self._clock, self._file, self._utc = limits, clock, file, utc
        self._top = top_priority
        self._guard = threading.Lock()
        self._ahead_bytes, self._ahead_cost = 0.0, 0.0
        self._slots: dict[int, int] = {}
        self._month_ends_ns, self._spent, self._month_bytes, self._month_uploads = 0, 0.0, 0, 0
        self._level = Level.ALL
        self._read(file.read() if file else {})

    def gate(self) -> Gate:
        """What may be sent now."""
        with self._guard:
            self._advance()
            level = _level(self._share())
            if level != self._level:
                logger.warning(
                    "the budget lets %s go now", level.name.lower(), extra={"action": "budget", "level": level.name}
                )
                self._level = level
            return Gate(level, self._top)

    def reserve(self, size_bytes: int) -> bool:
        """Counts an upload before it begins; False, and nothing is counted, when it would exceed a limit.

        One that would exceed it alone is let through when nothing else was counted: a limit below the size of a crop
        must not block for ever.
        """
        limits, cost = self._limits, self._limits.cost(size_bytes)
        with self._guard:
            self._advance()
            used = sum(self._slots.values())
            if limits.bytes_per_hour and used and used + size_bytes > limits.bytes_per_hour:
                return False
            if limits.per_month and self._spent and self._spent + cost > limits.per_month:
                return False
            self._count(size_bytes, 1)
            self._ahead_bytes -= size_bytes
            self._ahead_cost -= cost
            if self._limited and (self._ahead_bytes < 0 or self._ahead_cost < 0):
                self._write_ahead()
            return True

    def refund(self, size_bytes: int) -> None:
        """An upload that was reserved never left this machine."""
        with self._guard:
            self._count(-size_bytes, -1)
            self._ahead_bytes += size_bytes
            self._ahead_cost += self._limits.cost(size_bytes)

    def report(self, held_back: int = 0) -> BudgetReport:
        """As things stand."""
        with self._guard:
            self._advance()
            share = self._share()
            left = timedelta(seconds=(self._month_ends_ns - self._clock.now_ns()) / 1e9)
            return BudgetReport(
                _level(share).name.lower(),
                held_back,
                share,
                sum(self._slots.values()),
                self._limits.bytes_per_hour,
                self._spent,
                self._limits.per_month,
                self._month_bytes,
                self._month_uploads,
                format_time(self._utc() + left),
            )

    def close(self) -> None:
        """Writes down what was spent, to the byte."""
        with self._guard:
            if self._limited and self._file is not None:
                self._file.write(self._document(0, 0.0))

    @property
    def _limited(self) -> bool:
        return bool(self._limits.bytes_per_hour or self._limits.per_month)

    def _share(self) -> float:
        limits = self._limits
        hour = sum(self._slots.values()) / limits.bytes_per_hour if limits.bytes_per_hour else 0.0
        return max(hour, self._spent / limits.per_month if limits.per_month else 0.0)

    def _count(self, size_bytes: int, uploads: int) -> None:
        minute = self._clock.now_ns() // _MINUTE_NS
        # A refund may belong to an earlier minute: what this one cannot give back is forgotten, to the safe side.
        self._slots[minute] = max(0, self._slots.get(minute, 0) + size_bytes)
        self._month_bytes = max(0, self._month_bytes + size_bytes)
        self._month_uploads = max(0, self._month_uploads + uploads)
        self._spent = max(0.0, self._spent + self._limits.cost(size_bytes, uploads))

    def _advance(self) -> None:
        """Forgets what is an hour old, and begins a new month when the old one is over."""
        self._clock.keep()
        now = self._clock.now_ns()
        before = now // _MINUTE_NS - _MINUTES
        for minute in [minute for minute in self._slots if minute <= before]:
            del self._slots[minute]
        if now >= self._month_ends_ns:
            self._month_ends_ns = now + int(_until_next_month(self._utc()).total_seconds() * 1e9)
            self._spent, self._month_bytes, self._month_uploads = 0.0, 0, 0

    def _write_ahead(self) -> None:
        limits = self._limits
        self._ahead_bytes = max(float(_AHEAD_BYTES), _AHEAD_SHARE * limits.bytes_per_hour)
        self._ahead_cost = max(_AHEAD_SHARE * limits.per_month, limits.cost(self._ahead_bytes))
        if self._file is not None:
            self._file.write(self._document(int(self._ahead_bytes), self._ahead_cost))

    def _document(self, ahead_bytes: int, ahead_cost: float) -> dict[str, Any]:
        minute = self._clock.now_ns() // _MINUTE_NS
        slots = self._slots | {minute: self._slots.get(minute, 0) + ahead_bytes}
        return {
            "hour": {str(minute): size for minute, size in slots.items()},
            "month_ends_ns": self._month_ends_ns,
            "spent": self._spent + ahead_cost,
            "bytes": self._month_bytes,
            "uploads": self._month_uploads,
        }

    def _read(self, document: dict[str, Any]) -> None:
        now = self._clock.now_ns()
        minute = now // _MINUTE_NS
        try:
            slots = {int(key): int(size) for key, size in dict(document.get("hour", {})).items()}
            ends, spent = int(document.get("month_ends_ns", 0)), float(document.get("spent", 0.0))
            size, uploads = int(document.get("bytes", 0)), int(document.get("uploads", 0))
            if not 0 <= spent < 1e12 or min(size, uploads, *slots.values(), 0) < 0:
                raise ValueError
        except (ValueError, TypeError, OverflowError):
            logger.error("what was spent cannot be read; counting anew", extra={"action": "budget_damaged"})
            slots, ends, spent, size, uploads = {}, 0, 0.0, 0, 0
        # The clock that ruled then may be lost: nothing may lie in the future for longer than it can.
        for key, used in slots.items():
            self._slots[min(key, minute)] = self._slots.get(min(key, minute), 0) + used
        self._month_ends_ns = min(ends, now + _LONGEST_MONTH_NS)
        self._spent, self._month_bytes, self._month_uploads = spent, size, uploads
        self._advance()


def _level(share: float) -> Level:
    if share >= 1.0:
        return Level.NOTHING
    return Level.BEST if share >= BEST_SHARE else Level.BETTER if share >= BETTER_SHARE else Level.ALL


def _until_next_month(now: datetime) -> timedelta:
    now = now.astimezone(UTC)
    year, month = (now.year + 1, 1) if now.month == 12 else (now.year, now.month + 1)
    return datetime(year, month, 1, tzinfo=UTC) - now
