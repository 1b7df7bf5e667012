"""E-mail: `ports.AlertChannel` over SMTP, encrypted, to one recipient.

Standard library only. Each recipient has a mail and a record of its own, so that an address that a server puts off is
tried again without writing to the others twice.
"""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from html import escape
from typing import Final, Literal

from shared.adapters.loopback import is_loopback_host
from shared.alerts import Notice
from shared.domain import format_time, sha256_hex, utc_now
from shared.errors import ConfigurationError, StoreUnavailable
from shared.ports import Clock

Security = Literal["starttls", "tls", "none"]

# Nothing but ASCII travels, so that no server has to know 8BITMIME or SMTPUTF8.
_POLICY: Final = SMTP.clone(cte_type="7bit")
_FORMATS: Final = ((b"\xff\xd8\xff", "jpeg"), (b"\x89PNG", "png"))


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where mail is handed in.

    Attributes:
        security: `starttls`; `tls` from the first byte; `none`, of this machine only.
        user, password: empty for servers that ask for neither.
        timeout_s: for connecting and for each answer.
        context: of TLS; None for the usual one, which trusts the system's authorities, except that a server on this
            machine may have any certificate.

    Raises:
        ConfigurationError: a server elsewhere without encryption, a user without a password, or the other way round.
    """

    host: str
    port: int
    security: Security
    user: str = ""
    password: str = field(default="", repr=False)
    timeout_s: float = 10.0
    context: ssl.SSLContext | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.security == "none" and not is_loopback_host(self.host):
            raise ConfigurationError("FACERELAY_SMTP_SECURITY none is for a server on this machine only; use starttls")
        if bool(self.user) != bool(self.password):
            raise ConfigurationError("FACERELAY_SMTP_USER and FACERELAY_SMTP_PASSWORD are set together or not at all")

    def tls(self) -> ssl.SSLContext:
        """What the server's certificate has to hold against."""
        if self.context is not None:
            return self.context
        context = ssl.create_default_context()
        if is_loopback_host(self.host):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    @contextmanager
    def session(self) -> Iterator[smtplib.SMTP]:
        """A connection, encrypted and logged in."""
        with _opened(self) as smtp:
            if self.security == "starttls":
                smtp.starttls(context=self.tls())  # raises when the server does not offer it: never in the clear
            if self.user:
                smtp.login(self.user, self.password)
            yield smtp
            # It has the mail: what goes wrong from here on must not look as if it had not.
            with suppress(smtplib.SMTPException, OSError):
                smtp.quit()


@contextmanager
def _opened(server: SmtpServer) -> Iterator[smtplib.SMTP]:
    if server.security == "tls":
        smtp: smtplib.SMTP = smtplib.SMTP_SSL(server.host, server.port, timeout=server.timeout_s, context=server.tls())
    else:
        smtp = smtplib.SMTP(server.host, server.port, timeout=server.timeout_s)
    try:
        yield smtp
    finally:
        smtp.close()


class EmailAlerts:
    """`ports.AlertChannel`: one recipient.

    Args:
        sender, recipient: plain ASCII addresses, `somebody@example.org`.

    Raises:
        ConfigurationError: not an address.
    """

    def __init__(self, server: SmtpServer, *, sender: str, recipient: str, clock: Clock = utc_now) -> None:
        self._server = server
        self._sender = _address("FACERELAY_ALERT_FROM", sender)
        self._recipient = _address("FACERELAY_ALERT_TO", recipient)
        self._clock = clock

    @property
    def name(self) -> str:
        return f"email:{self._recipient.addr_spec}"

    def send(self, notice: Notice) -> None:
        """Hands the mail in.

        Raises:
            StoreUnavailable: the server cannot be reached, cannot prove who it is, or refuses.
        """
        message = self.message(notice)
        try:
            with self._server.session() as smtp:
                smtp.send_message(message)
        except smtplib.SMTPRecipientsRefused as error:
            [(code, _)] = error.recipients.values()
            raise StoreUnavailable(f"the mail server refused the recipient: {code}") from error
        except smtplib.SMTPResponseException as error:
            raise StoreUnavailable(
                f"the mail server refused ({type(error).__name__.removeprefix('SMTP')}): {error.smtp_code}"
            ) from error
        except ssl.SSLCertVerificationError as error:
            raise StoreUnavailable(f"the mail server's certificate is not good: {error.verify_message}") from error
        except (smtplib.SMTPException, OSError) as error:
            raise StoreUnavailable(f"no mail could be handed in: {type(error).__name__}") from error

    def message(self, notice: Notice) -> EmailMessage:
        """The mail: text, and HTML with the photo in it. Its Message-ID is the same on every attempt."""
        message = EmailMessage(policy=_POLICY)
        message["From"] = self._sender
        message["To"] = self._recipient
        message["Subject"] = f"{'[test] ' if notice.test else ''}{_who(notice)} at {notice.camera}, {notice.site}"
        message["Date"] = format_datetime(self._clock())
        own = sha256_hex(self._recipient.addr_spec.encode())[:8]
        message["Message-ID"] = f"<{notice.alert_id}.{own}@{self._sender.domain}>"
        message["Auto-Submitted"] = "auto-generated"
        message["X-Facerelay-Detection"] = notice.detection_id
        facts = _facts(notice)
        message.set_content("\n".join([*(f"{what}: {value}" for what, value in facts), "", _keeping(notice), ""]))
        message.add_alternative(_html(notice, facts), subtype="html")
        body = message.get_body(("html",))
        if notice.photo is not None and body is not None:
            kind = next((name for magic, name in _FORMATS if notice.photo.startswith(magic)), None)
            body.add_related(
                notice.photo,
                maintype="image" if kind else "application",
                subtype=kind or "octet-stream",
                cid=f"<{_cid(notice)}>",
                disposition="inline",
                filename=f"face.{kind or 'bin'}",
            )
        return message


def email_channels(server: SmtpServer, *, sender: str, recipients: str) -> list[EmailAlerts]:
    """One channel for each of `recipients`, which are separated by commas; none when nothing is set.

    Raises:
        ConfigurationError: only a part of what mail needs is set, or not an address.
    """
    addresses = [address for part in recipients.split(",") if (address := part.strip())]
    needed = (server.host, sender, addresses)
    if any(needed) and not all(needed):
        raise ConfigurationError("mail needs all of FACERELAY_SMTP_HOST, FACERELAY_ALERT_FROM and FACERELAY_ALERT_TO")
    return [EmailAlerts(server, sender=sender, recipient=address) for address in dict.fromkeys(addresses)]


def _address(setting: str, text: str) -> Address:
    try:
        address = Address(addr_spec=text.strip())
        address.addr_spec.encode("ascii")
    except (ValueError, LookupError, MessageError) as error:
        raise ConfigurationError(f"{setting}: write addresses as somebody@example.org, in ASCII") from error
    if not address.username or not address.domain:
        raise ConfigurationError(f"{setting}: write addresses as somebody@example.org")
    return address


def _who(notice: Notice) -> str:
    return notice.person_id if notice.known else "Unknown person"


def _cid(notice: Notice) -> str:
    return f"{notice.detection_id}@facerelay"


def _facts(notice: Notice) -> list[tuple[str, str]]:
    return [
        ("Who", _who(notice)),
        ("Camera", notice.camera),
        ("Location", notice.location),
        ("Site", notice.site),
        ("Local time", notice.captured_local.strftime("%Y-%m-%d %H:%M:%S %Z")),
        ("UTC", format_time(notice.captured_at)),
        ("Rule", ", ".join(notice.rules)),
        ("Similarity", f"{notice.similarity:.2f}"),
        ("Detection", notice.detection_id),
    ]


def _keeping(notice: Notice) -> str:
    if notice.test:
        return "This is a test: nobody was there."
    photo = (
        "The photo is no longer there, or was never kept."
        if notice.photo is None
        else f"The service deletes the photo {_days(notice.photo_days)} after it was taken."
    )
    return (
        f"{photo} It deletes the detection after {_days(notice.detection_days)}. This mail is a copy that the service "
        "cannot delete: delete it when it is no longer needed."
    )


def _days(count: int) -> str:
    return "1 day" if count == 1 else f"{count} days"


def _html(notice: Notice, facts: list[tuple[str, str]]) -> str:
    rows = "".join(f"<tr><th align='left'>{escape(what)}</th><td>{escape(value)}</td></tr>" for what, value in facts)
    photo = f"<p><img src='cid:{_cid(notice)}' alt='photo' width='240'></p>" if notice.photo is not None else ""
    return f"<!doctype html><html><body>{photo}<table>{rows}</table><p>{escape(_keeping(notice))}</p></body></html>\n"
