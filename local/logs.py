"""How the programs of one machine log: lines for people, or JSON for collectors."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from shared.domain import format_time
from shared.telemetry import trace_ids

_OWN_FIELDS: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
_SCALARS: Final = (str, int, float, bool, type(None))
_TEXT: Final = "%(asctime)s %(levelname)s %(name)s %(message)s"


class LogLevel(StrEnum):
    """The least that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """`text` for people, `json` for collectors: one object on each line."""

    TEXT = "text"
    JSON = "json"


class JsonFormatter(logging.Formatter):
    """One JSON object for each record: `time`, `level`, `logger`, `message`, what was logged in `extra`, the traceback
    of an error, and `trace_id` and `span_id` inside of a trace. What is no plain value is named by its type alone.
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": format_time(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {
            key: _plain(value) for key, value in vars(record).items() if key not in _OWN_FIELDS and key not in line
        }
        if ids := trace_ids():
            line["trace_id"], line["span_id"] = ids
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def _plain(value: object) -> object:
    return value if isinstance(value, _SCALARS) else f"<{type(value).__name__}>"


def configure_logging(level: str, format: LogFormat) -> None:
    """Sends the records of every logger to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if format is LogFormat.JSON else logging.Formatter(_TEXT))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
