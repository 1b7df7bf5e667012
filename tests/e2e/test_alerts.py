"""A stranger before a camera, a mail server that puts off, a webhook that verifies, and a process that is killed."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shared.adapters.local import LocalStore
from shared.bootstrap import Stores
from shared.domain import CANDIDATES, UNKNOWN
from shared.messages import ALERT_QUEUE
from shared.ports import DetectionFilter
from tests.e2e.service import ROOT, Service, serving, within
from tests.receivers import PASSWORD, SECRET, USER, MailServer, Webhook, mail_server, photo_of, webhook_server
from tests.support import candidate, stores_over

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
RULES = """
[[rule]]
name = "strangers"
who = "unknown"

[[rule]]
name = "watch list"
who = ["joe_biden"]
"""


@pytest.fixture
def mail() -> Iterator[MailServer]:
    logging.getLogger("mail.log").setLevel(logging.CRITICAL)  # aiosmtpd tells of the connections that a kill cuts
    with mail_server(auth=True) as running:
        yield running


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with webhook_server() as running:
        yield running


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    store = LocalStore(tmp_path / "data")
    yield stores_over(store)
    store.close()


@pytest.fixture
def settings(tmp_path: Path, mail: MailServer, webhook: Webhook) -> dict[str, str]:
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    return {
        "FACERELAY_ALERT_RULES": str(rules),
        "FACERELAY_ALERT_FROM": "facerelay@example.org",
        "FACERELAY_ALERT_TO": "ops@example.org",
        "FACERELAY_SMTP_HOST": "127.0.0.1",
        "FACERELAY_SMTP_PORT": str(mail.port),
        "FACERELAY_SMTP_USER": USER,
        "FACERELAY_SMTP_PASSWORD": PASSWORD,
        "FACERELAY_SMTP_TIMEOUT_S": "1.5",
        "FACERELAY_WEBHOOK_URL": webhook.url,
        "FACERELAY_WEBHOOK_SECRET": SECRET,
        "FACERELAY_WEBHOOK_TIMEOUT_S": "1.5",
        "FACERELAY_ALERT_RETRY_S": "0.5",
        "FACERELAY_MODEL_POLL_S": "0.3",
    }


def upload(stores: Stores, data: bytes, **changes: object) -> str:
    """What the gateway does with a crop."""
    made = candidate(data, **changes)
    stores.blobs.put(CANDIDATES, made.blob_name, data, metadata=made.to_metadata(), content_type="image/jpeg")
    return made.blob_name


def quiet(stores: Stores, outcomes: int) -> bool:
    """Whether so many crops are done, and no alert is waiting."""
    return len(list(stores.detections.list_outcomes())) == outcomes and stores.queue.length(ALERT_QUEUE) == 0


def enrolled(service: Service, jpeg: Callable[[str], bytes]) -> None:
    service.enrol("Joe Biden", jpeg("demo_biden"))
    service.enrol("Barack Obama", jpeg("demo_obama"), jpeg("demo_obama3"))
    service.call("POST", "/model/optimized-train")
    assert within(15, lambda: service.label(jpeg("demo_obama2")) == "barack_obama")


def test_one_mail_and_one_call_for_each_visit(
    tmp_path: Path, settings: dict[str, str], stores: Stores, mail: MailServer, webhook: Webhook, jpeg
) -> None:
    log, stranger = tmp_path / "serve.log", jpeg("demo_astronaut")
    mail.mailbox.refusals = 2
    with serving(tmp_path / "data", log, **settings) as service:
        enrolled(service, jpeg)
        upload(stores, jpeg("demo_obama2"), captured_at=AT, track="1")
        upload(stores, stranger, captured_at=AT, track="2")
        assert within(60, lambda: quiet(stores, 2)), log.read_text()
        [told] = mail.mailbox.mails
        assert mail.mailbox.refused == 2 and mail.mailbox.encrypted == [True]
        assert told["Subject"].startswith("Unknown person at entrance") and photo_of(told) == stranger
        [document] = webhook.documents
        assert len(webhook.calls) == 1, "a mail that is put off does not repeat the webhook"
        [seen] = stores.detections.list(DetectionFilter(person_id=UNKNOWN)).detections
        assert document["detection_id"] == seen.id == told["X-Facerelay-Detection"]
        assert document["person_id"] == UNKNOWN and document["rules"] == ["strangers"]

        # The same visit: another track, and the first crop once more.
        upload(stores, stranger + b" ", captured_at=AT + timedelta(seconds=200), track="3")
        upload(stores, stranger, captured_at=AT, track="2")
        assert within(60, lambda: quiet(stores, 3)), log.read_text()
        upload(stores, jpeg("demo_biden"), captured_at=AT, track="4")
        assert within(60, lambda: quiet(stores, 4)), log.read_text()
        assert [document["person_id"] for document in webhook.documents] == [UNKNOWN, "joe_biden"]
        assert [document["rules"] for document in webhook.documents] == [["strangers"], ["watch list"]]
        assert len(mail.mailbox.mails) == 2

        upload(stores, stranger + b"  ", captured_at=AT + timedelta(seconds=501), track="5")
        assert within(60, lambda: quiet(stores, 5)), log.read_text()
        assert len(mail.mailbox.mails) == len(webhook.documents) == 3
        assert service.stop() == 0
    said = log.read_text()
    assert "Traceback" not in said and "joe_biden" not in said and "ops@example.org" not in said


def test_killed_while_the_mail_server_thinks(
    tmp_path: Path, settings: dict[str, str], stores: Stores, mail: MailServer, webhook: Webhook, jpeg
) -> None:
    log, stranger = tmp_path / "serve.log", jpeg("demo_astronaut")
    mail.mailbox.hang = True
    with serving(tmp_path / "data", log, **settings) as service:
        upload(stores, stranger, captured_at=AT, track="1")
        assert mail.mailbox.asked.wait(60), log.read_text()
        service.process.kill()
        service.process.wait(10)
    assert mail.mailbox.mails == [] == webhook.documents
    mail.mailbox.hang = False
    again = tmp_path / "again.log"
    with serving(tmp_path / "data", again, **settings) as service:
        upload(stores, stranger + b" ", captured_at=AT + timedelta(seconds=5), track="2")
        assert within(60, lambda: quiet(stores, 2)), again.read_text()
        assert service.stop() == 0
    assert len(mail.mailbox.mails) == len(webhook.documents) == 1
    assert photo_of(mail.mailbox.mails[0]) == stranger
    [alert] = stores.alerts.list_alerts()
    assert webhook.documents[0]["alert_id"] == alert.id


def test_a_test_alert_says_what_happened(settings: dict[str, str], mail: MailServer, webhook: Webhook) -> None:
    mail.mailbox.refusals = 1

    def ask(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "local", "alerts", *words, "--json"]
        environment = {"PATH": "/usr/bin:/bin", "HOME": settings["FACERELAY_ALERT_RULES"] + "-home", **settings}
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)

    first, second = ask("test"), ask("test")
    assert (first.returncode, second.returncode) == (1, 0), first.stderr + second.stderr
    told = json.loads(first.stdout)
    assert told["rules"] == ["strangers", "watch list"]
    assert [(each["channel"], each["delivered"]) for each in told["channels"]] == [
        ("email:ops@example.org", False),
        ("webhook", True),
    ]
    assert "451" in told["channels"][0]["error"]
    [test] = mail.mailbox.mails
    assert test["Subject"].startswith("[test]") and photo_of(test) is not None
    assert [document["test"] for document in webhook.documents] == [True, True]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"FACERELAY_ALERT_RULES": '{"rule":[{"name":"n","who":"bob"}]}'}, "rule 'n', who"),
        ({"FACERELAY_WEBHOOK_SECRET": "", "FACERELAY_ALERT_TO": ""}, "mail needs all of"),
        ({"FACERELAY_SMTP_HOST": "mail.example.org", "FACERELAY_SMTP_SECURITY": "none"}, "SMTP_SECURITY"),
    ],
)
def test_the_service_does_not_start_with_alerts_that_cannot_work(
    tmp_path: Path, settings: dict[str, str], changes: dict[str, str], said: str
) -> None:
    environment = {"PATH": "/usr/bin:/bin", "FACERELAY_DATA_DIR": str(tmp_path / "data"), **settings, **changes}
    command = [sys.executable, "-m", "local", "serve", "--port", "0"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert said in " ".join(done.stderr.split()) and PASSWORD not in done.stderr
