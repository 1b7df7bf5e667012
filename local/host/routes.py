"""Route templates of HTTP triggers, as ASP.NET matches them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote

from local.host.index import HttpTrigger
from shared.errors import ConfigurationError

_PARAMETER = re.compile(r"\{(\*?)([A-Za-z_]\w*)(?::(\w+))?(\?)?\}")
_CONSTRAINTS = {"int": r"-?\d+", "alpha": "[A-Za-z]+", "guid": "[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"}

# Order of specificity of one segment.
_LITERAL, _CONSTRAINED, _FREE, _REST = range(4)


@dataclass(frozen=True, slots=True)
class Route:
    """One compiled route. Routes are tried in order of `rank`: literal segments before parameters before `{*rest}`."""

    trigger: HttpTrigger
    pattern: re.Pattern[str]
    rank: tuple[int, ...]

    def match(self, path: str) -> dict[str, str] | None:
        """The route's parameters, percent-decoded, when `path` (still encoded) is one of its; else None."""
        found = self.pattern.fullmatch(path)
        if found is None:
            return None
        return {name: unquote(value) for name, value in found.groupdict().items() if value is not None}


class Router:
    """Finds the function for a method and a path.

    Raises:
        ConfigurationError: a route template that is not one, or two functions for the same route and method.
    """

    def __init__(self, triggers: Iterable[HttpTrigger], prefix: str) -> None:
        self._routes = sorted((_compiled(trigger, prefix) for trigger in triggers), key=lambda route: route.rank)
        seen: dict[tuple[str, str], str] = {}
        for route in self._routes:
            for method in route.trigger.methods:
                other = seen.setdefault((route.pattern.pattern, method), route.trigger.function.name)
                if other != route.trigger.function.name:
                    raise ConfigurationError(
                        f"functions {other} and {route.trigger.function.name} have the same route and method"
                    )

    def find(self, method: str, path: str) -> tuple[HttpTrigger | None, dict[str, str], frozenset[str]]:
        """The most specific function for `method` and the route's parameters.

        Returns:
            None for the function when there is none; and all methods that the path's functions take.
        """
        path = path.strip("/")
        allowed: frozenset[str] = frozenset()
        for route in self._routes:
            parameters = route.match(path)
            if parameters is None:
                continue
            if method in route.trigger.methods:
                return route.trigger, parameters, route.trigger.methods
            allowed |= route.trigger.methods
        return None, {}, allowed


def _compiled(trigger: HttpTrigger, prefix: str) -> Route:
    parts, ranks = [], []
    for position, segment in enumerate(filter(None, f"{prefix}/{trigger.route}".split("/"))):
        part, rank = _segment(segment, trigger.function.name)
        # What may be missing takes the slash before it along.
        optional = rank == _REST or segment.endswith("?}")
        slash = "/" if position else ""
        parts.append(f"(?:{slash}{part})?" if optional else f"{slash}{part}")
        ranks.append(rank)
    # Shorter routes end first: the end of a route outranks a parameter that may be missing.
    return Route(trigger, re.compile("".join(parts), re.IGNORECASE), (*ranks, -1))


def _segment(segment: str, function: str) -> tuple[str, int]:
    if "{" not in segment and "}" not in segment:
        return re.escape(segment), _LITERAL
    match = _PARAMETER.fullmatch(segment)
    if match is None or (match[3] is not None and match[3] not in _CONSTRAINTS):
        raise ConfigurationError(f"function {function}: the route segment {segment!r} is not supported")
    rest, name, constraint, _ = match.groups()
    if rest:
        return f"(?P<{name}>.*)", _REST
    if constraint:
        return f"(?P<{name}>{_CONSTRAINTS[constraint]})", _CONSTRAINED
    return f"(?P<{name}>[^/]+)", _FREE
