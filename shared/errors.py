"""Every error that facerelay raises on purpose.

FacerelayError
├── PermanentError               record it with the candidate or request, and finish: a retry gives the same
│   ├── InvalidInput             what the caller sent cannot be used
│   │   ├── InvalidImage         not an image, truncated, or of a kind that is not decoded
│   │   ├── ImageTooLarge        over the limit of bytes, pixels or frames (checked before decoding)
│   │   ├── InvalidIdentifier    a person, site, camera or location id that is not one
│   │   ├── UnknownSchema        a candidate or message of a schema this version does not read
│   │   └── UnusableFace         an enrolment photo without exactly one usable face
│   ├── NotFound                 a person, blob, job or model that is not there
│   ├── Conflict                 exists already, or changed since it was read
│   │   └── PreconditionFailed   an ETag or create-if-absent condition did not hold
│   ├── AccessDenied             the caller may not do this
│   │   ├── NotAuthenticated     no token, or one that is wrong, expired or revoked
│   │   └── NotPermitted         a token whose scope or site does not reach so far
│   ├── IntegrityError           bytes that do not match the hash they were promised under
│   ├── EmbedderMismatch         embeddings of one embedder were to be compared with another's
│   └── ConfigurationError       a setting, manifest or installation that cannot work as it is
└── TransientError               raise it: the host retries
    ├── StoreUnavailable         a store did not answer, or asked to be left alone for a while
    ├── StoreFull                no room left where a write should go
    ├── ModelUnavailable         weights are not there yet
    ├── TooManyRequests          the caller asks more often than it may
    └── Busy                     a lease is held by somebody else

"No face" and "unknown person" are results, not errors. Nothing here knows HTTP: `functions/errors.py` maps the
branches to status codes, in one table. `code` is a stable word for machines; the message is for people and says
what to do next.
"""

from __future__ import annotations

from typing import ClassVar


class FacerelayError(Exception):
    """Root of the tree.

    Attributes:
        code: stable, lower-case word that a program may compare with.
    """

    code: ClassVar[str] = "error"


class PermanentError(FacerelayError):
    """Doing it again gives the same outcome."""

    code = "permanent"


class TransientError(FacerelayError):
    """May go through when it is tried again."""

    code = "transient"


class InvalidInput(PermanentError):
    """What the caller sent cannot be used."""

    code = "invalid_input"


class InvalidImage(InvalidInput):
    """Not an image, truncated, or of a kind that is not decoded."""

    code = "invalid_image"


class ImageTooLarge(InvalidInput):
    """Over the limit of bytes, pixels or frames; found before anything was decoded."""

    code = "image_too_large"


class InvalidIdentifier(InvalidInput):
    """A person, site, camera or location id that is not one."""

    code = "invalid_identifier"


class UnknownSchema(InvalidInput):
    """A candidate or message of a schema that this version does not read."""

    code = "unknown_schema"


class UnusableFace(InvalidInput):
    """An enrolment photo without exactly one usable face.

    Attributes:
        reason: `no_face`, `several_faces`, or the quality gate's word (`too_small`, `too_blurred`, …).
    """

    code = "unusable_face"

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class NotFound(PermanentError):
    """A person, blob, job or model that is not there."""

    code = "not_found"


class Conflict(PermanentError):
    """It exists already, or changed since it was read."""

    code = "conflict"


class PreconditionFailed(Conflict):
    """An ETag or create-if-absent condition did not hold."""

    code = "precondition_failed"


class AccessDenied(PermanentError):
    """The caller may not do this."""

    code = "access_denied"


class NotAuthenticated(AccessDenied):
    """No token, or one that is wrong, expired or revoked; which of these is not told."""

    code = "not_authenticated"


class NotPermitted(AccessDenied):
    """A token whose scope or site does not reach so far."""

    code = "not_permitted"


class IntegrityError(PermanentError):
    """Bytes that do not match the hash they were promised under."""

    code = "integrity"


class EmbedderMismatch(PermanentError):
    """Embeddings of one embedder were to be compared with another's: distances between two spaces mean nothing."""

    code = "embedder_mismatch"


class ConfigurationError(PermanentError):
    """A setting, manifest or installation that cannot work as it is."""

    code = "configuration"


class StoreUnavailable(TransientError):
    """A store did not answer, or asked to be left alone for a while.

    Attributes:
        retry_after_s: for how long, when it said so.
        sent: False when the request cannot have left this machine.
    """

    code = "store_unavailable"

    def __init__(self, message: str = "", *, retry_after_s: float | None = None, sent: bool = True) -> None:
        super().__init__(message)
        self.retry_after_s, self.sent = retry_after_s, sent


class StoreFull(TransientError):
    """No room left where a write should go."""

    code = "store_full"


class ModelUnavailable(TransientError):
    """Model weights are not there yet."""

    code = "model_unavailable"


class TooManyRequests(TransientError):
    """The caller asks more often than it may."""

    code = "too_many_requests"

    def __init__(self, message: str, *, retry_after_s: int = 60) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Busy(TransientError):
    """A lease is held by somebody else."""

    code = "busy"
