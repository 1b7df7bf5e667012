"""Event Grid's way in: the webhook that the platform's blob extension has, with the same address and answers."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any, Final

from local.host.inbox import BlobInbox
from shared.errors import FacerelayError

logger = logging.getLogger(__name__)

PATH: Final = "/runtime/webhooks/blobs"
_FUNCTION_PREFIX: Final = "Host.Functions."
_SUBJECT: Final = "/blobServices/default/containers/"
_CREATED: Final = "Microsoft.Storage.BlobCreated"

Answer = tuple[int, dict[str, Any]]


class BlobEvents:
    """Puts events of new blobs into the inbox of the function that the address names.

    What is not for that function (another container, another suffix, a deletion) is acknowledged and left out: Event
    Grid would otherwise repeat it for a day.

    Args:
        inboxes: by name of their function.
    """

    def __init__(self, inboxes: Mapping[str, BlobInbox]) -> None:
        self._inboxes = inboxes

    def answer(self, function: str, kind: str, body: bytes) -> Answer:
        """Status and document for one call.

        Args:
            function: `Host.Functions.` and the function's name.
            kind: of the header `aeg-event-type`.
            body: a JSON list of events in the Event Grid schema.
        """
        inbox = self._inboxes.get(function.removeprefix(_FUNCTION_PREFIX))
        if inbox is None:
            return 404, {"message": "no blob function of that name"}
        try:
            events = _parsed(body)
        except (ValueError, KeyError, TypeError, AttributeError):
            return 400, {"message": "not a list of events"}
        if kind == "SubscriptionValidation" and events:
            return 200, {"validationResponse": events[0].validation_code}
        try:
            sent = sum(self._take(inbox, event) for event in events)
        except FacerelayError as error:
            logger.warning("events not taken: %s", error, extra={"action": "events_failed", "code": error.code})
            return 503, {"message": "try again later"}
        return 202, {"accepted": sent}

    def _take(self, inbox: BlobInbox, event: _Event) -> bool:
        if event.type != _CREATED or not inbox.accepts(event.container, event.blob):
            logger.info("event is not for us", extra={"action": "event_ignored", "event": event.type[:60]})
            return False
        inbox.send(event.blob, event.etag)
        return True


def _parsed(body: bytes) -> list[_Event]:
    events = json.loads(body)
    if not isinstance(events, list):
        raise TypeError("not a list")
    return [_Event(event) for event in events]


class _Event:
    """One event. Raises: KeyError, TypeError, AttributeError when it is none."""

    def __init__(self, event: Mapping[str, Any]) -> None:
        self.type = str(event["eventType"])
        subject, data = str(event.get("subject", "")), event["data"]
        path = subject.removeprefix(_SUBJECT) if subject.startswith(_SUBJECT) else ""
        self.container, _, self.blob = path.partition("/blobs/")
        self.etag = str(data.get("eTag", ""))
        self.validation_code = str(data.get("validationCode", ""))
