"""`facerelay alerts test|list`: whether alerts would arrive, and what became of those that were due."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Annotated, Any

import typer

from local.cli.console import Json, clear_errors, print_json, print_table

if TYPE_CHECKING:
    from shared.alert_rules import AlertRules
    from shared.alerts import Alert, Notice
    from shared.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Alerts of strangers and people on watch lists: try them, list them.")


@app.command()
def test(as_json: Json = False) -> None:
    """Send a test alert through every channel, and say what happened. Needs no running service."""
    from shared.alert_rules import load_rules
    from shared.bootstrap import open_alert_channels
    from shared.errors import FacerelayError
    from shared.settings import Settings

    with clear_errors():
        settings = Settings()
        rules = load_rules(settings.alert_rules)
        channels = open_alert_channels(settings)
    notice = _test_notice(settings, rules)
    results: list[dict[str, Any]] = []
    for channel in channels:
        try:
            channel.send(notice)
            results.append({"channel": channel.name, "delivered": True, "error": None})
        except FacerelayError as error:
            results.append({"channel": channel.name, "delivered": False, "error": str(error)})
    if as_json:
        print_json({"rules": [rule.name for rule in rules.rule], "channels": results})
    else:
        rows = [(r["channel"], "delivered" if r["delivered"] else f"failed: {r['error']}") for r in results]
        print_table(f"Test alert ({len(rules.rule)} rules are set)", ["channel", "what happened"], rows)
    if not all(result["delivered"] for result in results):
        raise typer.Exit(1)


@app.command("list")
def list_(limit: Annotated[int, typer.Option(min=1, max=1_000)] = 50, as_json: Json = False) -> None:
    """The newest alerts, and whom they have reached."""
    from shared.bootstrap import open_stores
    from shared.domain import format_time
    from shared.settings import Settings

    with clear_errors():
        alerts = open_stores(Settings()).alerts.list_alerts(limit=limit)
    if as_json:
        return print_json([alert.to_document() for alert in alerts])
    rows = [
        (format_time(a.created_at), a.site, a.camera, ", ".join(a.rules), a.detection_id, _standing(a)) for a in alerts
    ]
    return print_table("Alerts", ["time (UTC)", "site", "camera", "rules", "detection", "told"], rows)


def _standing(alert: Alert) -> str:
    told = (
        f"{channel}: {'yes' if delivery.sent_at else f'not yet, {delivery.attempts} tries, {delivery.error}'}"
        for channel, delivery in sorted(alert.deliveries.items())
    )
    return "\n".join(told) or "not yet"


def _test_notice(settings: Settings, rules: AlertRules) -> Notice:
    """An alert of nobody, with a grey picture."""
    from io import BytesIO

    from PIL import Image

    from shared.alerts import Notice
    from shared.domain import UNKNOWN, utc_now

    picture = BytesIO()
    Image.new("RGB", (160, 160), (150, 150, 150)).save(picture, "JPEG")
    now, made = utc_now(), f"test-{uuid.uuid4().hex}"
    return Notice(
        alert_id=made,
        detection_id=made,
        person_id=UNKNOWN,
        similarity=0.0,
        site="test",
        camera="test",
        location="test",
        captured_at=now,
        captured_local=rules.local_time("test", now),
        rules=tuple(rule.name for rule in rules.rule),
        photo=picture.getvalue(),
        photo_days=settings.candidate_retention_days,
        detection_days=settings.detection_retention_days,
        test=True,
    )
