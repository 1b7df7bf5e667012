"""`facerelay token`: tokens, straight in the store of this machine's settings.

Not over HTTP, so that there can be a first administrator; whoever runs this has the store's own rights anyway.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from local.cli.console import Json, clear_errors, messages, print_json, print_table
from shared.access import Scope, Token
from shared.domain import format_time, utc_now

if TYPE_CHECKING:
    from functions.admin.service import TokenService

app = typer.Typer(no_args_is_help=True, help="Who may call: tokens of devices, operators and administrators.")


@app.command()
def create(
    scope: Annotated[Scope, typer.Argument(help="What it is for.")],
    site: Annotated[str | None, typer.Option(help="Of a device: the only site that it acts for.")] = None,
    description: Annotated[str, typer.Option(help="Whose it is.")] = "",
    days: Annotated[int, typer.Option(min=1, max=3_650, help="How long it is valid.")] = 90,
    as_json: Json = False,
) -> None:
    """Make a token. It is printed this once and kept nowhere; only its hash is stored."""
    with clear_errors():
        text, token = _tokens().create(scope, lifetime=timedelta(days=days), site=site, description=description)
    if as_json:
        return print_json({**_document(token), "token": text})
    messages.print(
        f"{token.scope} token {token.token_id}, valid until {format_time(token.expires_at)}; keep it secret:"
    )
    sys.stdout.write(f"{text}\n")
    return None


@app.command("list")
def list_tokens(as_json: Json = False) -> None:
    """Every token, with its last use; no secrets."""
    with clear_errors():
        tokens = _tokens().all()
    if as_json:
        return print_json([_document(token) for token in tokens])
    rows = [
        (t.token_id, t.scope, t.site or "", t.description, _state(t), _time(t.expires_at), _time(t.last_used_at))
        for t in tokens
    ]
    columns = ["id", "scope", "site", "description", "state", "expires (UTC)", "last used (UTC)"]
    return print_table("Tokens", columns, rows)


@app.command()
def revoke(token_id: Annotated[str, typer.Argument(help="The id that `list` shows, or the token itself.")]) -> None:
    """End a token. Running services may trust it for half a minute longer."""
    from shared.access import parse

    parts = parse(token_id)
    with clear_errors():
        _tokens().revoke(parts[0] if parts else token_id)
    messages.print("revoked")


def _tokens() -> TokenService:
    from functions.admin.service import TokenService
    from shared.bootstrap import open_stores
    from shared.settings import Settings

    return TokenService(open_stores(Settings()).tokens, utc_now)


def _document(token: Token) -> dict[str, Any]:
    """As `/api/v1/tokens` tells it."""
    return {
        "token_id": token.token_id,
        "scope": token.scope.value,
        "site": token.site,
        "description": token.description,
        "created_at": format_time(token.created_at),
        "expires_at": format_time(token.expires_at),
        "revoked_at": format_time(token.revoked_at) if token.revoked_at else None,
        "last_used_at": format_time(token.last_used_at) if token.last_used_at else None,
    }


def _state(token: Token) -> str:
    if token.revoked_at is not None:
        return "revoked"
    return "valid" if token.usable(utc_now()) else "expired"


def _time(moment: Any) -> str:
    """To the minute: a table is for looking, `--json` for comparing."""
    return f"{moment:%Y-%m-%d %H:%M}" if moment else "never"
