"""Which addresses lead to this machine: what is lax is so for them alone."""

from __future__ import annotations

import ipaddress


def is_loopback_host(host: str) -> bool:
    """Whether a host's name or address is this machine's own. No name is looked up.

    >>> is_loopback_host("localhost"), is_loopback_host("127.0.0.1.example.org")
    (True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
