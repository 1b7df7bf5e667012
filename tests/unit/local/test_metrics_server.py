from __future__ import annotations

import pytest
import requests

from local.metrics_server import serving


@pytest.mark.parametrize(
    ("host", "path", "code"),
    [("127.0.0.1", "/metrics", 200), ("localhost:9109", "/metrics", 200), ("127.0.0.1", "/", 404),
     ("elsewhere.example", "/metrics", 421)],
)  # fmt: skip
def test_it_answers_to_this_machines_names_alone(host: str, path: str, code: int) -> None:
    with serving(lambda: b"facerelay_up 1\n", 0) as url:
        answer = requests.get(url.removesuffix("/metrics") + path, headers={"Host": host}, timeout=10)
    assert answer.status_code == code
    assert (answer.content == b"facerelay_up 1\n") == (code == 200)
