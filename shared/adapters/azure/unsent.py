"""Whether a request that failed had left this machine."""

from __future__ import annotations

from requests import ConnectTimeout
from requests.adapters import ConnectTimeoutError


def was_sent(error: BaseException) -> bool:
    """False when there was no connection to send it over; True when there was one, or nobody knows.

    Args:
        error: of requests, or of the Azure SDK over it. Both carry urllib3's own, at different places.
    """
    found = [error]
    for one in found:  # grows meanwhile
        # Of the first, refused (`NewConnectionError`) and no such name (`NameResolutionError`) are kinds.
        if isinstance(one, ConnectTimeoutError | ConnectTimeout):
            return False
        inner = (one.__cause__, *one.args, *(getattr(one, name, None) for name in ("reason", "inner_exception")))
        found += [more for more in inner if isinstance(more, BaseException) and more not in found]
    return True
