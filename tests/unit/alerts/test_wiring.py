"""From the settings to the channels, and what is refused before the first alert."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from functions.services import Services
from local.maintenance import sweep
from shared.alerts import Alert
from shared.bootstrap import Runtime, open_alert_channels
from shared.errors import ConfigurationError
from shared.settings import Settings
from tests.receivers import SECRET, webhook_server
from tests.support import NOW, TickingClock, local_stores

RULES = json.dumps({"rule": [{"name": "strangers", "who": "unknown"}]})
MAIL = {"smtp_host": "mail.example.org", "alert_from": "f@example.org", "alert_to": "a@example.org,b@example.org"}
WEBHOOK = {"webhook_url": "https://example.org/alerts", "webhook_secret": SECRET}


def settings(**changes: Any) -> Settings:
    return Settings(**changes)


def test_one_channel_for_each_address_and_one_for_the_webhook() -> None:
    names = [channel.name for channel in open_alert_channels(settings(**MAIL, **WEBHOOK))]
    assert names == ["email:a@example.org", "email:b@example.org", "webhook"]
    assert [channel.name for channel in open_alert_channels(settings(**WEBHOOK))] == ["webhook"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "nobody is told"),
        (MAIL | {"smtp_host": ""}, "all of"),
        (WEBHOOK | {"webhook_secret": ""}, "WEBHOOK_SECRET"),
        (WEBHOOK | {"webhook_url": "http://example.org/"}, "https"),
        (MAIL | {"smtp_security": "none"}, "SMTP_SECURITY"),
    ],
)
def test_rules_without_a_way_to_tell_are_refused_at_once(tmp_path: Path, changes: dict, said: str) -> None:
    with local_stores(tmp_path) as stores:
        runtime = Runtime(settings(alert_rules=RULES, **changes), stores=stores)
        with pytest.raises(ConfigurationError, match=said):
            Services(runtime).alert_requests()


def test_without_rules_nothing_is_needed(tmp_path: Path) -> None:
    with local_stores(tmp_path) as stores:
        Services(Runtime(settings(), stores=stores)).alert_requests()


def test_secrets_are_not_shown() -> None:
    shown = repr(settings(smtp_user="u", smtp_password="hidden words", **MAIL, **WEBHOOK))
    assert "hidden words" not in shown and SECRET not in shown


def test_send_results_are_signed_by_the_same_notifier(tmp_path: Path) -> None:
    with local_stores(tmp_path) as stores, webhook_server() as webhook:
        changed = settings(webhook_url=webhook.url, webhook_secret=SECRET)
        Runtime(changed, stores=stores).notifier.send({"faces": []})
        assert webhook.documents == [{"faces": []}]


def test_a_lease_lasts_longer_than_any_channel(tmp_path: Path) -> None:
    """Three attempts of the webhook, connecting and waiting; some eight answers of a mail server, mostly at once."""
    with local_stores(tmp_path) as stores:
        for times in ({"webhook_timeout_s": 30.0}, {"smtp_timeout_s": 60.0}):
            runtime = Runtime(settings(**WEBHOOK, **MAIL, **times), stores=stores)
            service = Services(runtime).alerts()
            lease_s = service._settings.lease_s
            assert lease_s >= 3 * 2 * runtime.settings.webhook_timeout_s + 4
            assert lease_s >= 6 * runtime.settings.smtp_timeout_s


def test_alerts_are_deleted_with_their_detections(tmp_path: Path) -> None:
    clock = TickingClock(NOW)
    with local_stores(tmp_path) as stores:
        stores.alerts.add_alert(Alert("a1", "d1", "s", "c", ("r",), NOW))
        runtime = Runtime(settings(detection_retention_days=1), stores=stores, clock=clock)
        sweep(runtime)
        assert stores.alerts.get_alert("a1") is not None
        clock.advance(timedelta(days=1).total_seconds())
        sweep(runtime)
        assert stores.alerts.get_alert("a1") is None
