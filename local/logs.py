"""How the programs of one machine log: lines for people, or JSON for collectors."""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime
from enum import StrEnum
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Final, cast

from edge_uploader.settings import EdgeSettings
from shared.domain import format_time
from shared.errors import ConfigurationError
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


class PrivateFileHandler(RotatingFileHandler):
    """A log file, begun anew at a size, that its owner alone can read: it tells of places and times."""

    def _open(self) -> TextIOWrapper:
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        return cast(TextIOWrapper, os.fdopen(descriptor, self.mode, encoding="utf-8"))


def configure_edge_logging(settings: EdgeSettings) -> None:
    """Logs as a gateway's settings say: to its file, to standard error, or, without either, warnings alone.

    Raises:
        ConfigurationError: the file cannot be written.
    """
    format = LogFormat(settings.edge_log_format or LogFormat.TEXT)
    if not settings.edge_log_file:
        if settings.edge_log_format:
            configure_logging(settings.edge_log_level, format)
        return
    path = Path(settings.edge_log_file).expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = PrivateFileHandler(
            path,
            maxBytes=settings.edge_log_max_bytes,
            backupCount=settings.edge_log_backups,
            encoding="utf-8",
        )
    except OSError as error:
        raise ConfigurationError(f"the log file {path} cannot be written: {error.strerror}") from error
    configure_logging(settings.edge_log_level, format, handler)


def configure_logging(level: str, format: LogFormat, handler: logging.Handler | None = None) -> None:
    """Sends the records of every logger to a handler; None for standard error."""
    handler = handler or logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if format is LogFormat.JSON else logging.Formatter(_TEXT))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
