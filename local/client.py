"""A client of a facerelay service, over HTTP: what the command line talks through."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote

import requests

from shared.errors import ConfigurationError, InvalidInput, StoreUnavailable

DEFAULT_URL = "http://127.0.0.1:7071"
TRAIN_TIMEOUT_S = 1_000.0
POLL_S = 0.5
CONNECTIONS = 64
"""Kept open at most; commands that send in parallel use as many as they have requests under way."""
MOST_WAITS, LONGEST_WAIT_S = 10, 60.0
"""How often, and how long each time, a call waits when the service says that it was asked too often."""


class Client:
    """One service.

    Args:
        url: of the service, such as `http://127.0.0.1:7071`.
        token: of a caller, `frl_…`; empty where none is asked for.
        timeout_s: for ordinary requests.
    """

    def __init__(self, url: str = DEFAULT_URL, *, token: str = "", timeout_s: float = 60.0) -> None:
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=CONNECTIONS))
        if token:
            self._session.auth = _Bearer(token)

    def request(self, method: str, path: str, *, timeout_s: float | None = None, **arguments: Any) -> requests.Response:
        """One request; an answer of any status.

        Raises:
            StoreUnavailable: nothing answers at the URL.
            ConfigurationError: the URL is not one.
        """
        try:
            return self._session.request(method, self.url + path, timeout=timeout_s or self._timeout_s, **arguments)
        except (requests.exceptions.MissingSchema, requests.exceptions.InvalidURL) as error:
            raise ConfigurationError(f"{self.url!r} is not a URL; it begins with http:// or https://") from error
        except requests.RequestException as error:
            raise StoreUnavailable(
                f"no facerelay service answers at {self.url} ({type(error).__name__}); start one with: facerelay serve"
            ) from error

    def call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        """One request whose answer must be a success, as JSON. Waits when the service says that it is too often.

        Raises:
            InvalidInput: the service refused it; the message is the service's own.
            StoreUnavailable: it could not do it now.
        """
        answer = self.request(method, path, **arguments)
        for _ in range(MOST_WAITS):
            if answer.status_code != requests.codes.too_many_requests:
                break
            time.sleep(_wait_s(answer))
            answer = self.request(method, path, **arguments)
        document = _json(answer)
        if answer.ok:
            return document
        message = str(
            document.get("error_message") or document.get("error") or f"the service answered {answer.status_code}"
        )
        raise (StoreUnavailable if answer.status_code >= 500 else InvalidInput)(message)

    def add_person(self, name: str) -> None:
        self.call("POST", f"/dataset/{_quoted(name)}")

    def add_image(self, name: str, image: bytes, *, source: str = "upload") -> dict[str, Any]:
        """Adds a photograph; `source` is one of `SOURCES`."""
        path = f"/dataset/{_quoted(name)}/image"
        return self.call("POST", path, files={"image": image}, data={"source": source})

    def remove_person(self, name: str) -> None:
        self.call("DELETE", f"/dataset/{_quoted(name)}")

    def train(self, path: str = "/model/optimized-train") -> dict[str, Any]:
        """Trains, and waits until it is done, however long the service takes."""
        job = self.call("POST", path, timeout_s=TRAIN_TIMEOUT_S)
        while job["status"] in ("queued", "running"):
            time.sleep(POLL_S)
            job = self.call("GET", f"/api/v1/jobs/{job['job_id']}")
        if job["status"] == "failed":
            raise InvalidInput(f"training failed: {job['error']}")
        return job

    def last_known_location(self, name: str) -> list[dict[str, Any]]:
        """The latest sighting of a person, or nothing."""
        path = f"/database/{_quoted(name)}/last-known-location"
        seen: list[dict[str, Any]] = self.call("GET", path)["last_known_location"]
        return seen

    def look(self, image: bytes) -> dict[str, list[dict[str, Any]]]:
        """`faces` of an image, and those `rejected`, with the reason."""
        query = {"include_rejected": "true"}
        return self.call("POST", "/face-recognition/get-results", files={"image": image}, params=query)

    def receive_only(self, image: bytes) -> None:
        """Sends an image that the service reads and does nothing with."""
        self.call("POST", "/face-recognition/dry-run", files={"image": image})

    def check_gallery(self) -> dict[str, Any]:
        """What a training would leave out, as `/api/v1/gallery/check` tells it."""
        return self.call("GET", "/api/v1/gallery/check", timeout_s=TRAIN_TIMEOUT_S)

    def template_image(self, person: str, template_id: str) -> bytes | None:
        """The stored face of a template as JPEG; None when it is gone."""
        path = f"/api/v1/people/{_quoted(person)}/templates/{_quoted(template_id)}/image"
        answer = self.request("GET", path)
        return answer.content if answer.ok else None

    def keep_template(self, person: str, template_id: str, *, kept: bool) -> str:
        """Sets or clears "this is the person"; returns what the service says."""
        path = f"/api/v1/people/{_quoted(person)}/templates/{_quoted(template_id)}/keep"
        return str(self.call("POST" if kept else "DELETE", path)["message"])

    def recognize(self, image: bytes) -> list[dict[str, Any]]:
        """Faces of an image, as `/face-recognition/get-results` tells them."""
        faces: list[dict[str, Any]] = self.call("POST", "/face-recognition/get-results", files={"image": image})[
            "faces"
        ]
        return faces


class _Bearer(requests.auth.AuthBase):
    """Sends the token. As the session's own way to authenticate, so that no `.netrc` takes its place."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _wait_s(answer: requests.Response) -> float:
    """What `Retry-After` asks for, in seconds; 1 when it does not say."""
    said = answer.headers.get("Retry-After", "")
    return min(float(said), LONGEST_WAIT_S) if said.isdigit() else 1.0


def _quoted(name: str) -> str:
    return quote(name, safe="")


def _json(answer: requests.Response) -> dict[str, Any]:
    try:
        document = answer.json()
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
