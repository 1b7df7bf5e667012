"""`ports.TokenRepository` and `ports.AuditRepository`, as every adapter keeps them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from shared.access import AuditEntry, Scope, Token, issue
from shared.errors import Conflict, InvalidInput
from shared.ports import AuditRepository, TokenRepository
from tests.contract.racing import race

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


def a_token(scope: Scope = Scope.OPERATOR, *, after_s: float = 0, **more: str) -> Token:
    return issue(scope, now=NOW + timedelta(seconds=after_s), lifetime=timedelta(days=1), **more)[1]


def an_entry(number: int, *, after_us: int = 0) -> AuditEntry:
    at = NOW + timedelta(microseconds=after_us)
    return AuditEntry(f"e{number:03d}", at, "0123456789ab", "DELETE /dataset/{ID}", {"ID": "grüße"}, 200)


class TestTokens:
    def test_a_token_is_kept_in_full(self, tokens: TokenRepository) -> None:
        plain, device = a_token(description="Müller's laptop"), a_token(Scope.DEVICE, site="Werk 7/ß")
        for token in (plain, device):
            tokens.add_token(token)
            assert tokens.get_token(token.token_id) == token

    def test_a_missing_token_is_none(self, tokens: TokenRepository) -> None:
        assert tokens.get_token("0" * 12) is None
        assert list(tokens.list_tokens()) == []

    def test_an_id_is_taken_once(self, tokens: TokenRepository) -> None:
        token = a_token()
        tokens.add_token(token)
        with pytest.raises(Conflict):
            tokens.add_token(replace(token, scope=Scope.ADMIN))
        assert tokens.get_token(token.token_id) == token

    def test_a_use_is_noted_and_nothing_else(self, tokens: TokenRepository) -> None:
        token = a_token()
        tokens.add_token(token)
        tokens.note_use(token.token_id, LATER)
        assert tokens.get_token(token.token_id) == replace(token, last_used_at=LATER)

    def test_a_use_of_no_token_makes_none(self, tokens: TokenRepository) -> None:
        tokens.note_use("0" * 12, LATER)
        assert tokens.get_token("0" * 12) is None

    def test_a_revocation_stays(self, tokens: TokenRepository) -> None:
        token = a_token()
        tokens.add_token(token)
        assert tokens.revoke(token.token_id, NOW) is True
        tokens.note_use(token.token_id, LATER)
        assert tokens.revoke(token.token_id, LATER) is True
        assert tokens.get_token(token.token_id) == replace(token, revoked_at=NOW, last_used_at=LATER)

    def test_no_token_cannot_be_revoked(self, tokens: TokenRepository) -> None:
        assert tokens.revoke("0" * 12, NOW) is False

    def test_uses_do_not_undo_a_revocation_meanwhile(self, tokens: TokenRepository) -> None:
        token = a_token()
        tokens.add_token(token)

        def one(number: int) -> None:
            if number == 3:
                tokens.revoke(token.token_id, NOW)
            else:
                tokens.note_use(token.token_id, LATER)

        race(8, one)
        stored = tokens.get_token(token.token_id)
        assert stored is not None and (stored.revoked_at, stored.last_used_at) == (NOW, LATER)

    def test_all_are_listed_in_order_of_creation(self, tokens: TokenRepository) -> None:
        made = [a_token(after_s=second) for second in (3, 1, 2)]
        for token in made:
            tokens.add_token(token)
        tokens.revoke(made[0].token_id, LATER)
        assert [t.token_id for t in tokens.list_tokens()] == [made[i].token_id for i in (1, 2, 0)]

    def test_another_connection_sees_them(self, backend) -> None:
        token = a_token()
        backend.tokens.add_token(token)
        other = backend.reopened()
        assert other.tokens.get_token(token.token_id) == token
        other.tokens.revoke(token.token_id, NOW)
        assert backend.tokens.get_token(token.token_id).revoked_at == NOW


class TestAudit:
    def test_an_entry_is_kept_in_full(self, audit: AuditRepository) -> None:
        audit.record(an_entry(1))
        page = audit.list()
        assert (list(page.entries), page.continuation) == ([an_entry(1)], None)

    def test_the_same_entry_twice_is_one(self, audit: AuditRepository) -> None:
        audit.record(an_entry(1))
        audit.record(replace(an_entry(1), status=500))
        assert list(audit.list().entries) == [an_entry(1)]

    def test_pages_come_newest_first(self, audit: AuditRepository) -> None:
        entries = [an_entry(n, after_us=n // 2) for n in range(7)]
        entries.append(replace(an_entry(7), at=NOW - timedelta(days=40)))
        for entry in entries:
            audit.record(entry)
        found, continuation = [], None
        while True:
            page = audit.list(page_size=3, continuation=continuation)
            assert len(page.entries) <= 3
            found += page.entries
            continuation = page.continuation
            if continuation is None:
                break
        assert found == sorted(entries, key=lambda e: (-e.at.timestamp(), e.id))

    def test_what_comes_meanwhile_does_not_move_a_page(self, audit: AuditRepository) -> None:
        for n in range(4):
            audit.record(an_entry(n, after_us=n))
        first = audit.list(page_size=2)
        audit.record(an_entry(9, after_us=9))
        second = audit.list(page_size=2, continuation=first.continuation)
        assert [e.id for e in (*first.entries, *second.entries)] == ["e003", "e002", "e001", "e000"]

    @pytest.mark.parametrize("token", ["", "x", "abcd", "ZDox", "ä", "a" * 400])
    def test_a_continuation_that_was_not_issued_is_refused(self, audit: AuditRepository, token: str) -> None:
        with pytest.raises(InvalidInput):
            audit.list(continuation=token)

    @pytest.mark.parametrize("size", [0, -1, 1_001])
    def test_a_page_has_a_size(self, audit: AuditRepository, size: int) -> None:
        with pytest.raises(InvalidInput):
            audit.list(page_size=size)
