"""Mail and webhook against real servers: what arrives, and what is refused before anything is told."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from shared.adapters.smtp import EmailAlerts, SmtpServer, email_channels
from shared.adapters.webhook import WebhookAlerts, WebhookNotifier
from shared.alerts import Notice
from shared.errors import ConfigurationError, StoreUnavailable
from tests.receivers import PASSWORD, SECRET, USER, MailServer, Webhook, mail_server, photo_of, webhook_server
from tests.support import RED, portrait

NOW = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
PHOTO = portrait(RED)
NOTICE = Notice(
    alert_id="a" * 32,
    detection_id="d" * 32,
    person_id="eve",
    similarity=0.81234,
    site="Süd <1>",
    camera="Küche & Bar",
    location="lobby",
    captured_at=NOW,
    captured_local=NOW.astimezone(ZoneInfo("Europe/Berlin")),
    rules=("watch list", "everybody"),
    photo=PHOTO,
    photo_days=7,
    detection_days=30,
)


def channel(server: MailServer, **changes: object) -> EmailAlerts:
    plain = SmtpServer("127.0.0.1", server.port, "starttls", timeout_s=5)
    return EmailAlerts(
        replace(plain, **changes),  # type: ignore[arg-type]
        sender="facerelay@example.org",
        recipient="ops@example.org",
        clock=lambda: NOW,
    )


class TestMail:
    def test_over_starttls_with_the_photo_in_it(self) -> None:
        with mail_server() as server:
            channel(server).send(NOTICE)
        [mail] = server.mailbox.mails
        assert server.mailbox.encrypted == [True] and server.mailbox.recipients == ["ops@example.org"]
        assert mail["Subject"] == "eve at Küche & Bar, Süd <1>"
        assert mail["From"] == "facerelay@example.org" and mail["To"] == "ops@example.org"
        assert photo_of(mail) == PHOTO
        text = mail.get_body(("plain",)).get_content()
        for words in ("d" * 32, "2026-01-02 04:04:05 CET", "2026-01-02T03:04:05.678Z", "watch list, everybody"):
            assert words in text
        assert "photo 7 days" in text and "detection after 30 days" in text and "cannot delete" in text
        assert "Süd &lt;1&gt;" in mail.get_body(("html",)).get_content()

    def test_an_attempt_more_is_the_same_mail(self) -> None:
        with mail_server() as server:
            channel(server).send(NOTICE)
            channel(server).send(NOTICE)
            channel(server).send(replace(NOTICE, alert_id="b" * 32))
        ids = [mail["Message-ID"] for mail in server.mailbox.mails]
        assert ids[0] == ids[1] != ids[2]

    def test_of_a_stranger_without_a_photo(self) -> None:
        with mail_server() as server:
            channel(server).send(replace(NOTICE, person_id="unknown", photo=None))
        [mail] = server.mailbox.mails
        assert mail["Subject"].startswith("Unknown person at")
        assert photo_of(mail) is None
        assert "no longer there" in mail.get_body(("plain",)).get_content()

    def test_over_tls_from_the_first_byte(self) -> None:
        with mail_server(implicit_tls=True) as server:
            channel(server, security="tls").send(NOTICE)
        assert len(server.mailbox.mails) == 1

    def test_a_login_over_starttls(self) -> None:
        with mail_server(auth=True) as server:
            channel(server, user=USER, password=PASSWORD).send(NOTICE)
            with pytest.raises(StoreUnavailable, match="535"):
                channel(server, user=USER, password="wrong").send(NOTICE)
            with pytest.raises(StoreUnavailable, match="530"):
                channel(server).send(NOTICE)
        assert len(server.mailbox.mails) == 1

    def test_a_server_that_puts_off_is_told_with_its_code(self) -> None:
        with mail_server() as server:
            server.mailbox.refusals = 1
            with pytest.raises(StoreUnavailable, match="451") as error:
                channel(server).send(NOTICE)
            assert "example.org" not in str(error.value)
            channel(server).send(NOTICE)
        assert len(server.mailbox.mails) == 1

    def test_nothing_is_told_to_a_server_without_starttls(self) -> None:
        with mail_server(starttls=False) as server:
            with pytest.raises(StoreUnavailable):
                channel(server).send(NOTICE)
            assert server.mailbox.mails == []
            channel(server, security="none").send(NOTICE)
        assert server.mailbox.encrypted == [False]

    @pytest.mark.parametrize("security", ["starttls", "tls"])
    def test_a_certificate_has_to_hold(self, security: str) -> None:
        with mail_server(implicit_tls=security == "tls") as server:
            with pytest.raises(StoreUnavailable, match="certificate"):
                channel(server, security=security, context=ssl.create_default_context()).send(NOTICE)
            assert server.mailbox.mails == []
            channel(server, security=security, context=server.trusting()).send(NOTICE)
        assert len(server.mailbox.mails) == 1

    def test_only_this_machine_may_have_any_certificate(self) -> None:
        elsewhere = SmtpServer("mail.example.org", 587, "starttls").tls()
        assert elsewhere.verify_mode is ssl.CERT_REQUIRED and elsewhere.check_hostname
        assert SmtpServer("localhost", 587, "starttls").tls().verify_mode is ssl.CERT_NONE

    def test_a_server_that_is_not_there(self) -> None:
        with mail_server() as server:
            pass
        with pytest.raises(StoreUnavailable, match="ConnectionRefusedError"):
            channel(server).send(NOTICE)

    def test_a_server_that_says_nothing(self) -> None:
        with mail_server(implicit_tls=True) as server, pytest.raises(StoreUnavailable, match="handed in"):
            channel(server, timeout_s=0.3).send(NOTICE)  # waits for a greeting that comes after TLS only


class TestMailSettings:
    def test_no_way_in_the_clear_to_another_machine(self) -> None:
        with pytest.raises(ConfigurationError, match="SMTP_SECURITY"):
            SmtpServer("mail.example.org", 25, "none")

    def test_a_password_is_not_shown(self) -> None:
        assert PASSWORD not in repr(SmtpServer("localhost", 25, "tls", USER, PASSWORD))

    @pytest.mark.parametrize(("user", "password"), [(USER, ""), ("", PASSWORD)])
    def test_half_a_login(self, user: str, password: str) -> None:
        with pytest.raises(ConfigurationError, match="SMTP_USER"):
            SmtpServer("localhost", 25, "tls", user, password)

    @pytest.mark.parametrize(
        "text", ["ops", "@example.org", "ops@", "Ops <ops@example.org>", "ops@exämple.org", "a b@c"]
    )
    def test_what_is_no_address(self, text: str) -> None:
        server = SmtpServer("localhost", 25, "tls")
        with pytest.raises(ConfigurationError, match="ALERT_TO"):
            email_channels(server, sender="facerelay@example.org", recipients=text)
        with pytest.raises(ConfigurationError, match="ALERT_FROM"):
            email_channels(server, sender=text, recipients="ops@example.org")

    def test_one_channel_for_each_address(self) -> None:
        server = SmtpServer("localhost", 25, "tls")
        made = email_channels(server, sender="f@example.org", recipients=" a@example.org, b@example.org,a@example.org,")
        assert [each.name for each in made] == ["email:a@example.org", "email:b@example.org"]

    @pytest.mark.parametrize(
        ("host", "sender", "recipients"), [("h", "", ""), ("", "f@example.org", ""), ("h", "f@example.org", " , ")]
    )
    def test_a_part_of_what_mail_needs(self, host: str, sender: str, recipients: str) -> None:
        with pytest.raises(ConfigurationError, match="all of"):
            email_channels(SmtpServer(host, 25, "tls"), sender=sender, recipients=recipients)


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with webhook_server() as running:
        yield running


class TestWebhook:
    def test_a_document_arrives_and_its_signature_verifies(self, webhook: Webhook) -> None:
        WebhookAlerts(WebhookNotifier(webhook.url, timeout_s=5, secret=SECRET)).send(NOTICE)
        [document] = webhook.documents
        assert document == {
            "type": "alert",
            "test": False,
            "alert_id": "a" * 32,
            "detection_id": "d" * 32,
            "rules": ["watch list", "everybody"],
            "person_id": "eve",
            "similarity": 0.8123,
            "site": "Süd <1>",
            "camera_id": "Küche & Bar",
            "location_id": "lobby",
            "timestamp": "2026-01-02T03:04:05.678Z",
            "local_time": "2026-01-02T04:04:05+01:00",
        }

    def test_what_was_changed_recorded_or_signed_by_another_does_not_verify(self, webhook: Webhook) -> None:
        WebhookNotifier(webhook.url, timeout_s=5, secret=SECRET).send({"faces": []})
        [(headers, body)] = webhook.calls
        stamp = int(headers["X-Facerelay-Timestamp"])
        assert webhook.verify(SECRET, headers, body, now=stamp + 300)
        assert not webhook.verify(SECRET, headers, body, now=stamp + 301)
        assert not webhook.verify(SECRET, headers, body, now=stamp - 301)
        assert not webhook.verify(SECRET, headers, body + b" ", now=stamp)
        assert not webhook.verify("another secret of the tests", headers, body, now=stamp)
        assert not webhook.verify(SECRET, headers | {"X-Facerelay-Timestamp": str(stamp + 1)}, body, now=stamp)
        assert not webhook.verify(SECRET, {}, body, now=stamp)
        assert not webhook.verify(SECRET, headers | {"X-Facerelay-Signature": "v1=é"}, body, now=stamp)

    def test_each_attempt_is_signed_anew(self, webhook: Webhook) -> None:
        times = iter(NOW + timedelta(seconds=number) for number in range(3))
        webhook.answers = [500]
        webhook.verify = lambda *_: True
        WebhookNotifier(webhook.url, timeout_s=5, secret=SECRET, clock=lambda: next(times)).send({})
        stamps = [headers["X-Facerelay-Timestamp"] for headers, _ in webhook.calls]
        assert len(set(stamps)) == 2 and len({headers["X-Facerelay-Signature"] for headers, _ in webhook.calls}) == 2

    def test_a_receiver_that_refuses_three_times(self, webhook: Webhook) -> None:
        webhook.answers = [503, 302, 404]
        with pytest.raises(StoreUnavailable, match="404"):
            WebhookNotifier(webhook.url, timeout_s=5, secret=SECRET).send({})
        assert len(webhook.calls) == 3

    def test_without_a_secret_documents_are_not_signed_and_alerts_not_sent(self, webhook: Webhook) -> None:
        plain = WebhookNotifier(webhook.url, timeout_s=5)
        webhook.verify = lambda *_: True
        plain.send({"faces": []})
        assert not any(name.startswith("X-Facerelay") for name in webhook.calls[0][0])
        with pytest.raises(ConfigurationError, match="WEBHOOK_SECRET"):
            WebhookAlerts(plain)

    @pytest.mark.parametrize(
        ("url", "secret"),
        [
            ("http://example.org/x", SECRET),
            ("http://127.0.0.1.example.org/", SECRET),
            ("ftp://localhost/", SECRET),
            ("nonsense", SECRET),
            ("https://example.org/", "short"),
        ],
    )
    def test_what_would_be_read_or_forged_is_refused(self, url: str, secret: str) -> None:
        with pytest.raises(ConfigurationError):
            WebhookNotifier(url, timeout_s=5, secret=secret)

    def test_nothing_is_configured(self) -> None:
        with pytest.raises(ConfigurationError, match="WEBHOOK_URL"):
            WebhookNotifier("", timeout_s=5).send({})
