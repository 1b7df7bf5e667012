"""Who is told of alerts, for tests: a mail server with STARTTLS, and a webhook that verifies as the documents say."""

from __future__ import annotations

import json
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.servers import free_ports

SECRET = "a secret of the tests, long enough"
USER, PASSWORD = "facerelay", "mail-password"
DOCUMENT = Path(__file__).parents[1] / "docs" / "alerts.md"


def documented_verify() -> Callable[..., bool]:
    """The receiver's function of docs/alerts.md, as it stands there."""
    [source] = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(source, names)  # noqa: S102  # our own document
    verify: Callable[..., bool] = names["verify"]
    return verify


class Mailbox:
    """aiosmtpd's handler: takes mail, unless told to put it off.

    Attributes:
        refusals: so many recipients are put off with 451, the first ones.
        hang: set while DATA is not answered.
    """

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.recipients: list[str] = []
        self.encrypted: list[bool] = []
        self.refusals = 0
        self.refused = 0
        self.asked = threading.Event()
        self.hang = False

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.refused < self.refusals:
            self.refused += 1
            return "451 4.7.1 come back later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        self.asked.set()
        if self.hang:
            import asyncio

            await asyncio.sleep(3600)
        assert isinstance(envelope.content, bytes)
        message = message_from_bytes(envelope.content, policy=default)
        assert isinstance(message, EmailMessage)
        self.encrypted.append(session.ssl is not None)
        self.recipients += envelope.rcpt_tos
        self.mails.append(message)
        return "250 OK"


def photo_of(mail: EmailMessage) -> bytes | None:
    """The bytes of the picture in a mail, which must be shown in its text."""
    for part in mail.walk():
        if part.get_content_maintype() == "image":
            assert part.get_content_disposition() == "inline"
            html = mail.get_body(("html",))
            assert html is not None and f"cid:{part['Content-ID'].strip('<>')}" in html.get_content()
            payload = part.get_payload(decode=True)
            assert isinstance(payload, bytes)
            return payload
    return None


class MailServer:
    """A running mail server on loopback, and the authority that its certificate is of."""

    def __init__(self, mailbox: Mailbox, port: int, authority: trustme.CA) -> None:
        self.mailbox = mailbox
        self.port = port
        self.authority = authority

    def trusting(self) -> ssl.SSLContext:
        """A context that verifies, and knows the authority."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context


@contextmanager
def mail_server(*, implicit_tls: bool = False, starttls: bool = True, auth: bool = False) -> Iterator[MailServer]:
    """A mail server that insists on TLS, from the first byte or by STARTTLS; or, without `starttls`, has none."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    mailbox, (port,) = Mailbox(), free_ports(1)

    def check(server: SMTP, session: Session, envelope: Envelope, mechanism: str, login: object) -> AuthResult:
        good = isinstance(login, LoginPassword) and login == LoginPassword(USER.encode(), PASSWORD.encode())
        return AuthResult(success=good, handled=False)

    options: dict[str, Any] = {"auth_required": True, "authenticator": check} if auth else {}
    if implicit_tls:
        options |= {"ssl_context": context}
    elif starttls:
        options |= {"tls_context": context, "require_starttls": True}
    controller = Controller(mailbox, hostname="127.0.0.1", port=port, **options)
    controller.start()
    try:
        yield MailServer(mailbox, port, authority)
    finally:
        controller.stop()


class Webhook:
    """A running receiver: keeps what verifies, refuses what does not with 401.

    Attributes:
        answers: statuses of the next calls; 200 when there are none left.
        calls: every call that came, refused ones too.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/alerts"
        self.documents: list[dict[str, Any]] = []
        self.answers: list[int] = []
        self.calls: list[tuple[dict[str, str], bytes]] = []
        self.verify = documented_verify()

    def take(self, headers: dict[str, str], body: bytes) -> int:
        self.calls.append((headers, body))
        if not self.verify(SECRET, headers, body):
            return 401
        status = self.answers.pop(0) if self.answers else 200
        if status == 200:
            self.documents.append(json.loads(body))
        return status


@contextmanager
def webhook_server() -> Iterator[Webhook]:
    """A receiver on loopback."""
    holder: list[Webhook] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # noqa: N802
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(holder[0].take(dict(self.headers), body))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        holder.append(Webhook(server.server_address[1]))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield holder[0]
        finally:
            server.shutdown()
            thread.join()
