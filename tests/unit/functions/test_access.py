"""Who calls, how often, and what is kept of it: the parts that the guard is made of."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from functions.access import Audit, Authenticator, RateLimits, check_scope
from functions.admin.service import TokenService
from shared import access
from shared.access import LOOPBACK, AuditEntry, Caller, Scope, Token, issue
from shared.bootstrap import Stores
from shared.errors import InvalidInput, NotAuthenticated, NotFound, NotPermitted, StoreUnavailable, TooManyRequests
from shared.settings import Settings
from tests.support import NOW, TickingClock, local_stores

DAY = timedelta(days=1)


class Watched:
    """The real repository, with its calls counted, and a fault when one is set."""

    def __init__(self, stores: Stores) -> None:
        self._tokens = stores.tokens
        self.looks = 0
        self.uses = 0
        self.fault: Exception | None = None

    def add_token(self, token: Token) -> None:
        self._tokens.add_token(token)

    def get_token(self, token_id: str) -> Token | None:
        self.looks += 1
        return self._tokens.get_token(token_id)

    def note_use(self, token_id: str, moment) -> None:
        self.uses += 1
        if self.fault:
            raise self.fault
        self._tokens.note_use(token_id, moment)

    def revoke(self, token_id: str, moment) -> bool:
        return self._tokens.revoke(token_id, moment)

    def list_tokens(self) -> Iterator[Token]:
        return self._tokens.list_tokens()


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    with local_stores(tmp_path) as opened:
        yield opened


@pytest.fixture
def tokens(stores: Stores) -> Watched:
    return Watched(stores)


@pytest.fixture
def clock() -> TickingClock:
    return TickingClock()


@pytest.fixture
def service(tokens: Watched, clock: TickingClock) -> TokenService:
    return TokenService(tokens, clock)


@pytest.fixture
def authenticator(tokens: Watched, clock: TickingClock) -> Authenticator:
    return Authenticator(tokens, required=True, cache_s=30, clock=clock)


class TestTokens:
    @pytest.mark.parametrize(
        ("scope", "site"), [(Scope.DEVICE, None), (Scope.OPERATOR, "hq"), (Scope.ADMIN, "hq"), (Scope.DEVICE, "")]
    )
    def test_a_device_has_a_site_and_nobody_else(self, scope: Scope, site: str | None) -> None:
        with pytest.raises(InvalidInput):
            issue(scope, now=NOW, lifetime=DAY, site=site)

    @pytest.mark.parametrize("lifetime", [timedelta(0), -DAY])
    def test_a_token_lasts(self, lifetime: timedelta) -> None:
        with pytest.raises(InvalidInput):
            issue(Scope.ADMIN, now=NOW, lifetime=lifetime)

    def test_the_secret_is_not_in_what_is_stored_or_shown(self) -> None:
        text, token = issue(Scope.ADMIN, now=NOW, lifetime=DAY)
        secret = text.split("_", 2)[2]
        assert secret not in repr(token) and token.secret_hash not in repr(token)
        assert secret not in "".join(str(getattr(token, name)) for name in token.__slots__)

    def test_two_tokens_share_nothing(self) -> None:
        texts = {issue(Scope.ADMIN, now=NOW, lifetime=DAY)[0] for _ in range(50)}
        assert len(texts) == len({text[4:16] for text in texts}) == 50

    @given(st.text(max_size=80))
    def test_what_is_no_token_is_none(self, text: str) -> None:
        assert access.parse(text) is None

    def test_hashes_are_compared_in_constant_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """By the standard library's function, which is made for that, and by it alone."""
        compared: list[tuple[str, str]] = []

        def compare(one: str, other: str) -> bool:
            compared.append((one, other))
            return False

        monkeypatch.setattr(access.hmac, "compare_digest", compare)
        text, token = issue(Scope.ADMIN, now=NOW, lifetime=DAY)
        assert token.proven_by(text.split("_", 2)[2]) is False
        assert compared == [(token.secret_hash, token.secret_hash)]


class TestAuthenticator:
    @pytest.mark.parametrize("shape", ["Bearer {}", "bearer {}", "BEARER  {} ", "{}"])
    def test_a_token_is_its_caller(self, authenticator: Authenticator, service: TokenService, shape: str) -> None:
        text, token = service.create(Scope.DEVICE, lifetime=DAY, site="hq")
        assert authenticator.caller(shape.format(text)) == Caller(token.token_id, Scope.DEVICE, "hq")

    @pytest.mark.parametrize(
        "text", ["", "Bearer", "Bearer ", "Basic dTpw", "frl_0", "frl_" + 12 * "0" + "_" + 43 * "x"]
    )
    def test_a_stranger_is_nobody(self, authenticator: Authenticator, text: str) -> None:
        with pytest.raises(NotAuthenticated):
            authenticator.caller(text)

    def test_the_right_id_with_a_wrong_secret_is_nobody(
        self, authenticator: Authenticator, service: TokenService
    ) -> None:
        (one, _), (other, _) = (service.create(Scope.ADMIN, lifetime=DAY) for _ in range(2))
        with pytest.raises(NotAuthenticated):
            authenticator.caller(one[:17] + other[17:])

    def test_wrong_expired_and_revoked_look_the_same(
        self, authenticator: Authenticator, service: TokenService, clock: TickingClock
    ) -> None:
        texts = [service.create(Scope.ADMIN, lifetime=life)[0] for life in (DAY, timedelta(seconds=1), DAY)]
        service.revoke(texts[0][4:16])
        clock.advance(5)
        shown = [
            texts[0],
            texts[1],
            texts[2][:-1] + ("A" if texts[2][-1] != "A" else "B"),
            f"frl_{'0' * 12}_{'x' * 43}",
        ]
        told = set()
        for text in shown:
            with pytest.raises(NotAuthenticated) as refusal:
                authenticator.caller(text)
            told.add(str(refusal.value))
        assert len(told) == 1

    def test_a_token_ends_on_time_even_when_it_is_remembered(
        self, authenticator: Authenticator, service: TokenService, clock: TickingClock
    ) -> None:
        text, _ = service.create(Scope.ADMIN, lifetime=timedelta(seconds=20))
        authenticator.caller(text)
        clock.advance(20)
        with pytest.raises(NotAuthenticated):
            authenticator.caller(text)

    def test_a_revocation_is_felt_when_the_cache_has_run_out(
        self, authenticator: Authenticator, service: TokenService, clock: TickingClock
    ) -> None:
        text, token = service.create(Scope.ADMIN, lifetime=DAY)
        authenticator.caller(text)
        service.revoke(token.token_id)
        clock.advance(29)
        authenticator.caller(text)
        clock.advance(2)
        with pytest.raises(NotAuthenticated):
            authenticator.caller(text)

    def test_steady_use_does_not_put_off_a_revocation(
        self, tokens: Watched, service: TokenService, clock: TickingClock
    ) -> None:
        authenticator = Authenticator(tokens, required=True, cache_s=120, clock=clock)
        text, token = service.create(Scope.ADMIN, lifetime=DAY)
        authenticator.caller(text)
        service.revoke(token.token_id)
        for _ in range(2):
            clock.advance(50)
            authenticator.caller(text)
        clock.advance(50)
        with pytest.raises(NotAuthenticated):
            authenticator.caller(text)

    def test_a_use_that_is_noted_does_not_undo_forgetting(self, tokens: Watched, service: TokenService) -> None:
        text, token = service.create(Scope.ADMIN, lifetime=DAY)

        class Revoking(TickingClock):
            """The token is revoked and forgotten while its caller is judged: after the lookup, before the note."""

            looks = 0

            def __call__(self) -> datetime:
                self.looks += 1
                if self.looks == 2:
                    service.revoke(token.token_id)
                    authenticator.forget(token.token_id)
                return super().__call__()

        authenticator = Authenticator(tokens, required=True, cache_s=30, clock=Revoking())
        authenticator.caller(text)
        with pytest.raises(NotAuthenticated):
            authenticator.caller(text)

    def test_a_revocation_is_felt_at_once_where_it_was_made(
        self, authenticator: Authenticator, service: TokenService
    ) -> None:
        text, token = service.create(Scope.ADMIN, lifetime=DAY)
        authenticator.caller(text)
        service.revoke(token.token_id)
        authenticator.forget(token.token_id)
        with pytest.raises(NotAuthenticated):
            authenticator.caller(text)

    def test_the_store_is_asked_once_in_a_while(
        self, authenticator: Authenticator, service: TokenService, tokens: Watched, clock: TickingClock
    ) -> None:
        text, _ = service.create(Scope.ADMIN, lifetime=DAY)
        for _ in range(100):
            authenticator.caller(text)
        assert (tokens.looks, tokens.uses) == (1, 1)
        clock.advance(31)
        authenticator.caller(text)
        assert (tokens.looks, tokens.uses) == (2, 1), "the last use is written once a minute"
        clock.advance(31)
        authenticator.caller(text)
        assert tokens.uses == 2

    def test_the_last_use_is_noted(self, authenticator: Authenticator, service: TokenService) -> None:
        text, _ = service.create(Scope.ADMIN, lifetime=DAY)
        assert service.all()[0].last_used_at is None
        authenticator.caller(text)
        assert service.all()[0].last_used_at is not None

    def test_a_use_that_cannot_be_noted_is_no_reason_to_refuse(
        self, authenticator: Authenticator, service: TokenService, tokens: Watched, caplog: pytest.LogCaptureFixture
    ) -> None:
        text, _ = service.create(Scope.ADMIN, lifetime=DAY)
        tokens.fault = StoreUnavailable("away")
        with caplog.at_level(logging.WARNING):
            assert authenticator.caller(text).scope is Scope.ADMIN
        assert [record.action for record in caplog.records] == ["token.use"]
        assert text not in caplog.text

    def test_guesses_do_not_fill_the_memory(self, authenticator: Authenticator) -> None:
        for number in range(10_050):
            with pytest.raises(NotAuthenticated):
                authenticator.caller(f"frl_{number:012x}_{'x' * 43}")
        assert len(authenticator._cache) <= 10_001

    def test_only_tokens_are_remembered(self, authenticator: Authenticator, service: TokenService) -> None:
        text, _ = service.create(Scope.ADMIN, lifetime=DAY)
        assert not authenticator.remembers(text)
        authenticator.caller(text)
        assert authenticator.remembers(f"Bearer {text}")
        guess = f"frl_{'0' * 12}_{'x' * 43}"
        with pytest.raises(NotAuthenticated):
            authenticator.caller(guess)
        assert not authenticator.remembers(guess) and not authenticator.remembers("nonsense")

    def test_where_nobody_is_asked_everybody_is_this_machine(self, tokens: Watched, clock: TickingClock) -> None:
        assert Authenticator(tokens, required=False, cache_s=30, clock=clock).caller("") is LOOPBACK

    def test_no_token_of_that_id_cannot_be_revoked(self, service: TokenService) -> None:
        with pytest.raises(NotFound):
            service.revoke("0" * 12)


class TestScopes:
    @pytest.mark.parametrize("scope", Scope)
    @pytest.mark.parametrize("wanted", [(), (Scope.DEVICE,), (Scope.OPERATOR,), (Scope.DEVICE, Scope.OPERATOR)])
    def test_the_scope_or_an_administrator(self, scope: Scope, wanted: tuple[Scope, ...]) -> None:
        caller = Caller("a", scope)
        if scope in wanted or scope is Scope.ADMIN:
            check_scope(caller, wanted)
        else:
            with pytest.raises(NotPermitted, match="admin"):
                check_scope(caller, wanted)


class TestRateLimits:
    def test_each_caller_has_its_own_count(self) -> None:
        limits = RateLimits(per_caller="3/minute", per_address="1/minute")
        one, other = Caller("one", Scope.DEVICE, "hq"), Caller("other", Scope.ADMIN)
        for _ in range(3):
            limits.count_caller(one)
        with pytest.raises(TooManyRequests) as refusal:
            limits.count_caller(one)
        assert 1 <= refusal.value.retry_after_s <= 60
        limits.count_caller(other)

    def test_failures_do_not_use_up_what_is_public(self) -> None:
        limits = RateLimits(per_caller="", per_address="2/minute")
        for _ in range(2):
            limits.check_failures("192.0.2.1")
            limits.count_failure("192.0.2.1")
        with pytest.raises(TooManyRequests):
            limits.check_failures("192.0.2.1")
        limits.count_public("192.0.2.1")
        limits.check_failures("192.0.2.2")

    def test_looking_does_not_count(self) -> None:
        limits = RateLimits(per_caller="", per_address="1/minute")
        for _ in range(5):
            limits.check_failures("192.0.2.1")

    def test_this_machine_and_empty_settings_have_no_limit(self) -> None:
        tight, none = RateLimits(per_caller="1/day", per_address="1/day"), RateLimits(per_caller="", per_address="")
        for _ in range(5):
            tight.count_caller(LOOPBACK)
            none.count_caller(Caller("a", Scope.ADMIN))
            none.count_public("192.0.2.1")
            none.count_failure("192.0.2.1")
            none.check_failures("192.0.2.1")


class TestAudit:
    def test_an_entry_tells_who_what_and_how_it_ended(self, stores: Stores, clock: TickingClock) -> None:
        Audit(stores.audit, clock, lambda: "e1").record(Caller("a", Scope.ADMIN), "DELETE /x/{ID}", {"ID": "ann"}, 200)
        [entry] = stores.audit.list().entries
        assert entry == replace(AuditEntry("e1", NOW, "a", "DELETE /x/{ID}", {"ID": "ann"}, 200), at=entry.at)

    def test_a_store_that_is_away_is_logged_without_names(
        self, clock: TickingClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Away:
            def record(self, entry: AuditEntry) -> None:
                raise StoreUnavailable("away")

            def list(self, **_: object) -> None:
                raise StoreUnavailable("away")

        with caplog.at_level(logging.ERROR):
            Audit(Away(), clock).record(Caller("a", Scope.ADMIN), "DELETE /x/{ID}", {"ID": "ann"}, 200)  # type: ignore[arg-type]
        [record] = caplog.records
        assert (record.action, record.call) == ("audit.failed", "DELETE /x/{ID}")
        assert "ann" not in str(record.__dict__)


class TestSettings:
    def test_callers_are_asked_unless_that_is_switched_off(self) -> None:
        assert Settings.model_fields["auth"].default is True

    @pytest.mark.parametrize("limit", ["", "1/second", "600/minute", "100000/day"])
    def test_limits_that_can_be(self, limit: str) -> None:
        made = Settings(rate_limit=limit, rate_limit_anonymous=limit)
        RateLimits(per_caller=made.rate_limit, per_address=made.rate_limit_anonymous)

    @pytest.mark.parametrize("limit", ["0/minute", "600", "600/week", "x/minute", "1/minute;2/day", "-1/minute", " "])
    @pytest.mark.parametrize("name", ["rate_limit", "rate_limit_anonymous"])
    def test_limits_that_cannot_be(self, name: str, limit: str) -> None:
        with pytest.raises(ValidationError):
            Settings(**{name: limit})

    @pytest.mark.parametrize("origins", ["", "https://a.example", "https://a.example:8443, http://localhost:3000"])
    def test_origins(self, origins: str) -> None:
        assert Settings(cors_origins=origins).cors_origins == origins

    @pytest.mark.parametrize(
        "origins", ["*", "null", "a.example", "https://a.example/", "https://a.example/x", "ftp://a"]
    )
    def test_what_is_no_origin(self, origins: str) -> None:
        with pytest.raises(ValidationError):
            Settings(cors_origins=origins)

    @pytest.mark.parametrize("wrong", [{"token_cache_s": -1}, {"upload_sas_minutes": 4}, {"upload_sas_minutes": 1_441}])
    def test_times(self, wrong: dict[str, float]) -> None:
        with pytest.raises(ValidationError):
            Settings(**wrong)
