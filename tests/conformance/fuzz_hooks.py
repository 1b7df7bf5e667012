"""What schemathesis is told besides the API's description: an image may be one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import schemathesis

PHOTOGRAPH = Path(os.environ["FUZZ_PHOTOGRAPH"]).read_bytes()


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Every other form gets a photograph of a face for the bytes that were made up."""
    if isinstance(body, dict) and isinstance(image := body.get("image"), bytes) and len(image) % 2 == 0:
        return {**body, "image": PHOTOGRAPH}
    return body
