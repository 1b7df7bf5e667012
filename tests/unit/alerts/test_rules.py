"""Who is reported, where, and at what hour."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.alert_rules import AlertRules, QuietHours, load_rules
from shared.domain import UNKNOWN, Detection
from shared.errors import ConfigurationError
from tests.contract.test_detections import make_detection

DOCUMENT = Path(__file__).parents[3] / "docs" / "alerts.md"


def rules(*rule: dict, **rest: object) -> AlertRules:
    return load_rules(json.dumps({"rule": list(rule), **rest}))


def seen(person_id: str = UNKNOWN, at: datetime = datetime(2026, 1, 2, 12, tzinfo=UTC), **place: str) -> Detection:
    return make_detection(person_id=person_id, captured_at=at, **({"site": "berlin", "camera": "gate"} | place))


def test_without_a_setting_nobody_is_reported() -> None:
    assert load_rules("").concerned(seen()) == [] == load_rules("  ").concerned(seen("eve"))


@pytest.mark.parametrize(
    ("who", "unknown", "eve", "ann"),
    [("unknown", True, False, False), ("anybody", True, True, True), (["Eve", "Mallory S"], False, True, False)],
)
def test_who(who: object, unknown: bool, eve: bool, ann: bool) -> None:
    made = rules({"name": "r", "who": who})
    assert [bool(made.wanting(seen(person))) for person in (UNKNOWN, "eve", "ann")] == [unknown, eve, ann]


def test_where() -> None:
    made = rules(
        {"name": "site", "who": "unknown", "sites": ["berlin"]},
        {"name": "camera", "who": "unknown", "cameras": ["gate", "door"]},
        {"name": "both", "who": "unknown", "sites": ["berlin"], "cameras": ["gate"]},
        {"name": "all", "who": "unknown"},
    )
    assert made.wanting(seen()) == ("site", "camera", "both", "all")
    assert made.wanting(seen(site="lisbon")) == ("camera", "all")
    assert made.wanting(seen(camera="lobby")) == ("site", "all")
    assert made.wanting(seen(site="lisbon", camera="lobby")) == ("all",)


@pytest.mark.parametrize(
    ("hours", "inside", "outside"),
    [
        ("22:00-06:00", ["22:00", "23:59:59", "00:00", "05:59:59"], ["06:00", "12:00", "21:59:59"]),
        ("06:00-22:00", ["06:00", "21:59:59"], ["22:00", "00:00", "05:59:59"]),
        ("00:00-00:01", ["00:00", "00:00:59"], ["00:01", "23:59"]),
        ("23:59 - 00:00", ["23:59", "23:59:59.999"], ["00:00", "23:58"]),
    ],
)
def test_quiet_hours_begin_with_their_first_minute_and_end_before_their_last(
    hours: str, inside: list[str], outside: list[str]
) -> None:
    quiet = QuietHours.model_validate(hours)
    assert [quiet.covers(time.fromisoformat(each)) for each in inside] == [True] * len(inside)
    assert [quiet.covers(time.fromisoformat(each)) for each in outside] == [False] * len(outside)


@given(st.times(), st.integers(0, 1439), st.integers(0, 1439))
def test_hours_and_their_complement_share_the_day(moment: time, start: int, end: int) -> None:
    if start == end:
        return
    texts = [f"{minute // 60:02d}:{minute % 60:02d}" for minute in (start, end)]
    quiet = QuietHours.model_validate("-".join(texts))
    rest = QuietHours.model_validate("-".join(reversed(texts)))
    assert quiet.covers(moment) != rest.covers(moment)


def test_quiet_hours_go_by_the_site_s_clock() -> None:
    made = rules(
        {"name": "r", "who": "unknown", "quiet": ["22:00-06:00"]},
        time_zone="Europe/Berlin",
        sites={"lisbon": {"time_zone": "Europe/Lisbon"}},
    )
    half_past_four = datetime(2026, 7, 1, 4, 30, tzinfo=UTC)  # 06:30 in Berlin, 05:30 in Lisbon
    assert made.wanting(seen(at=half_past_four, site="berlin")) == ("r",)
    assert made.wanting(seen(at=half_past_four, site="lisbon")) == ()
    assert made.concerned(seen(at=half_past_four, site="lisbon")) != []
    assert made.local_time("lisbon", half_past_four).isoformat() == "2026-07-01T05:30:00+01:00"


@pytest.mark.parametrize(
    ("night", "quiet_hours"),
    [
        (date(2026, 3, 28), 7),  # the clock goes from 02:00 to 03:00: an hour less
        (date(2026, 10, 24), 9),  # 02:00 to 03:00 comes twice
        (date(2026, 6, 1), 8),
    ],
)
def test_on_nights_when_the_clock_is_changed_the_wall_decides(night: date, quiet_hours: int) -> None:
    made = rules({"name": "r", "who": "unknown", "quiet": ["22:00-06:00"]}, time_zone="Europe/Berlin")
    noon = datetime.combine(night, time(12), ZoneInfo("Europe/Berlin")).astimezone(UTC)
    quarters = [noon + timedelta(minutes=15 * number) for number in range(4 * 24)]
    quiet = [moment for moment in quarters if not made.wanting(seen(at=moment))]
    assert len(quiet) == 4 * quiet_hours
    assert all(later - earlier == timedelta(minutes=15) for earlier, later in zip(quiet, quiet[1:], strict=False))


def test_a_rule_may_have_several_quiet_hours() -> None:
    made = rules({"name": "r", "who": "unknown", "quiet": ["12:00-13:00", "22:00-06:00"]})
    hours = [hour for hour in range(24) if made.wanting(seen(at=datetime(2026, 1, 2, hour, tzinfo=UTC)))]
    assert hours == [*range(6, 12), *range(13, 22)]


def test_the_documented_rules_are_read(tmp_path: Path) -> None:
    toml = DOCUMENT.read_text(encoding="utf-8").split("```toml\n")[1].split("```")[0]
    file = tmp_path / "rules.toml"
    file.write_text(toml, encoding="utf-8")
    made = load_rules(str(file))
    assert [rule.name for rule in made.rule] == ["strangers at night", "watch list"]
    assert made.wanting(seen("eve")) == ("watch list",)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"rule": [{"name": "n", "who": "bob"}]}, ["rule 'n', who", '["eve"]']),
        ({"rule": [{"name": "n", "who": ["bob!"]}]}, ["rule 'n', who", "1 to 64 letters"]),
        ({"rule": [{"name": "n", "who": ["unknown"]}]}, ["without brackets"]),
        ({"rule": [{"name": "n", "who": []}]}, ["rule 'n', who"]),
        ({"rule": [{"name": "n", "who": [3]}]}, ["a person's id is text"]),
        ({"rule": [{"who": "unknown"}]}, ["rule 1, name"]),
        ({"rule": [{"name": "n", "who": "unknown", "camera": ["a"]}]}, ["rule 'n', camera: there is no such key"]),
        ({"rule": [{"name": "n", "who": "unknown", "cameras": []}]}, ["rule 'n', cameras"]),
        ({"rule": [{"name": "n", "who": "unknown", "sites": ["a\nb"]}]}, ["printable"]),
        ({"rule": [{"name": "n", "who": "unknown", "quiet": ["22-6"]}]}, ["quiet.0", "22:00-06:00"]),
        ({"rule": [{"name": "n", "who": "unknown", "quiet": ["24:00-06:00"]}]}, ["quiet.0"]),
        ({"rule": [{"name": "n", "who": "unknown", "quiet": ["06:00-06:00"]}]}, ["all day"]),
        ({"rule": [{"name": "n", "who": "unknown", "quiet": [7]}]}, ["22:00-06:00"]),
        ({"rule": [{"name": "n", "who": "unknown"}] * 2}, ["two rules have the name 'n'"]),
        ({"rule": [{"name": "a\nb", "who": "unknown"}]}, ["printable"]),
        ({"rule": ["x"]}, ["rule 1"]),
        ({"rule": {"name": "n"}}, ["rule"]),
        ({"rules": []}, ["rules: there is no such key"]),
        ({"time_zone": "Mars/Olympus"}, ["'Mars/Olympus' is not a time zone"]),
        ({"sites": {"a": {"time_zone": "../../etc/passwd"}}}, ["sites.a.time_zone"]),
        ({"sites": {"a": {}}}, ["sites.a.time_zone"]),
    ],
)
def test_a_mistake_is_told_with_its_place_and_what_to_write(setting: dict, said: list[str]) -> None:
    with pytest.raises(ConfigurationError) as error:
        load_rules(json.dumps(setting))
    assert str(error.value).startswith("FACERELAY_ALERT_RULES: ")
    for words in said:
        assert words in str(error.value)


@pytest.mark.parametrize("content", [b"rule = [", b"\xff\xfe", None])
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "rules.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError, match="FACERELAY_ALERT_RULES"):
        load_rules(str(file))
    with pytest.raises(ConfigurationError, match="JSON"):
        load_rules('{"rule": ')
