"""The one place where errors of the Storage SDKs become facerelay's.

Only what would be wrong on every store is permanent. A role that is not assigned yet, a container that is not deployed
yet, a token that cannot be had: an operator mends those, so the work waits (retries, then the poison queue) instead of
being recorded as failed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final

from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError

from shared.adapters.azure.unsent import was_sent
from shared.errors import FacerelayError, InvalidInput, NotFound, PreconditionFailed, StoreFull, StoreUnavailable

_ABSENT: Final = frozenset({"BlobNotFound", "MessageNotFound", "PopReceiptMismatch", "QueueNotFound"})
_NOT_DEPLOYED: Final = frozenset({"ContainerNotFound", "ContainerBeingDeleted", "QueueBeingDeleted"})
_CHANGED: Final = frozenset({"ConditionNotMet", "BlobAlreadyExists", "TargetConditionNotMet"})
_REFUSED: Final = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE})
_FORBIDDEN: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Runs the body; what the SDK raises in it comes out as an error of the tree.

    Args:
        what: what was being done, for the message. Never a blob's or a person's name.

    Raises:
        NotFound: the blob, queue or message is not there, or somebody else has the message. Storage says so in a
            word of its own; a bare 404 is somebody's before it, such as a proxy's.
        PreconditionFailed: an ETag or if-absent condition did not hold.
        InvalidInput: the service refuses the request for what is in it.
        StoreFull: the account's quota is used up.
        StoreUnavailable: everything else, after the SDK's own retries.
    """
    try:
        yield
    except HttpResponseError as error:
        raise _from_response(error, what) from error
    except AzureError as error:
        # The type and not the text: the text of a connection error has the address with the blob's name in it.
        what = f"storage did not answer ({type(error).__name__}) while {what}"
        raise StoreUnavailable(what, sent=was_sent(error)) from error


def _from_response(error: HttpResponseError, what: str) -> FacerelayError:
    code, status = error_code(error), error.status_code or 0
    # No token could be had, so nothing was sent: storage's own errors have a code, if an empty one.
    sent = hasattr(error, "error_code") or not isinstance(error, ClientAuthenticationError)
    if code in _ABSENT:
        return NotFound(f"nothing of that name is there ({code}), while {what}")
    if code in _CHANGED or status == HTTPStatus.PRECONDITION_FAILED:
        return PreconditionFailed(f"it has changed since it was read, or is there already ({code}), while {what}")
    if code in _NOT_DEPLOYED:
        return StoreUnavailable(f"the storage account lacks a container or queue ({code}), while {what}; deploy it")
    if status == HTTPStatus.NOT_FOUND and code:
        return NotFound(f"nothing of that name is there, while {what}")
    if status in _REFUSED:
        return InvalidInput(f"storage refused the request ({status} {code}) while {what}")
    if status in _FORBIDDEN:
        return StoreUnavailable(
            f"storage does not let this identity in ({status} {code}) while {what}; check its roles", sent=sent
        )
    if status == HTTPStatus.INSUFFICIENT_STORAGE:
        return StoreFull(f"no room left in the storage account, while {what}")
    return StoreUnavailable(
        f"storage did not answer ({status} {code}) while {what}", retry_after_s=_retry_after_s(error), sent=sent
    )


def _retry_after_s(error: HttpResponseError) -> float | None:
    """How long the service asks to be left alone; None when it does not say, or says it as a date."""
    headers = getattr(error.response, "headers", None) or {}
    for name, unit_s in (("x-ms-retry-after-ms", 0.001), ("retry-after-ms", 0.001), ("Retry-After", 1.0)):
        value = str(headers.get(name, ""))
        if value.isascii() and value.isdigit() and len(value) < 10:
            return int(value) * unit_s
    return None


def error_code(error: HttpResponseError) -> str:
    """The service's word for what is wrong, such as `BlobNotFound`; empty when it gave none."""
    code = getattr(error, "error_code", None) or ""
    return str(getattr(code, "value", code))
