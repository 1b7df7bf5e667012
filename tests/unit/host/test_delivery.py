"""Listeners, leases and the ledger on a real store, in this process."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local.host.ledger import SUSPECT_AFTER, Ledger, Work
from local.host.listener import Gate, Listener, Renewer
from local.host.poison import PoisonQueues
from shared.adapters.local import LocalStore, LocalWorkQueue
from shared.adapters.local.schema import MIGRATIONS
from shared.adapters.local.store import DATABASE_NAME
from shared.errors import InvalidInput, StoreUnavailable
from shared.ports import QueueMessage
from tests.unit.host.conftest import until

WORK = Work("work", "work-queue", "work-queue-poison", limit=3, retry_delay_s=0.0)


class Bench:
    """A listener with its parts, stopped at the end of the test."""

    def __init__(self, folder: Path) -> None:
        self.store = LocalStore(folder)
        self.queue = LocalWorkQueue(self.store)
        self.ledger = Ledger(self.store, self.queue)
        self.poison = PoisonQueues(self.queue, self.store)
        self._stops: list[Callable[[], object]] = []

    def listen(
        self,
        run: Callable[[QueueMessage], None],
        *,
        work: Work = WORK,
        concurrency: int = 2,
        lease_s: float = 30.0,
    ) -> Listener:
        renewer = Renewer(self.queue, lease_s=lease_s)
        listener = Listener(work, self.ledger, renewer, run, concurrency=concurrency)
        renewer.start()
        listener.start()
        self._stops += [
            listener.stop,
            lambda: listener.join(time.monotonic() + 5),
            lambda: renewer.stop(time.monotonic() + 5),
        ]
        return listener

    def close(self) -> None:
        for stop in self._stops:
            stop()
        self.store.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def test_a_lease_is_renewed_while_the_function_runs(bench: Bench) -> None:
    runs: list[int] = []

    def run(message: QueueMessage) -> None:
        runs.append(message.dequeue_count)
        time.sleep(1.0)

    bench.queue.send(WORK.queue, "x")
    listener = bench.listen(run, lease_s=0.3)
    for _ in range(15):
        time.sleep(0.1)
        listener.wake()
    until(lambda: bench.queue.length(WORK.queue) == 0)
    assert runs == [1]


def test_a_failed_message_rests_before_it_is_tried_again(bench: Bench) -> None:
    times: list[float] = []

    def run(message: QueueMessage) -> None:
        times.append(time.monotonic())
        raise ValueError

    bench.queue.send(WORK.queue, "x")
    listener = bench.listen(run, work=Work("work", WORK.queue, WORK.poison_queue, limit=2, retry_delay_s=0.5))
    until(lambda: listener.wake() or len(times) == 2)
    assert times[1] - times[0] >= 0.5
    until(lambda: bench.poison.list())


def test_others_go_on_while_one_fails(bench: Bench) -> None:
    done: list[str] = []

    def run(message: QueueMessage) -> None:
        if message.body == "bad":
            raise InvalidInput("not this one")
        done.append(message.body)

    bench.queue.send(WORK.queue, "bad")
    for number in range(10):
        bench.queue.send(WORK.queue, str(number))
    bench.listen(run, concurrency=1)
    until(lambda: len(done) == 10 and bench.poison.list())
    (poison,) = bench.poison.list()
    assert (poison.body, poison.reason, poison.dequeue_count) == ("bad", "invalid_input: not this one", 3)
    assert [message.body for message in bench.queue.peek(WORK.poison_queue)] == ["bad"]


def test_what_recovers_in_time_is_not_poison(bench: Bench) -> None:
    counts: list[int] = []

    def run(message: QueueMessage) -> None:
        counts.append(message.dequeue_count)
        if len(counts) < 3:
            raise StoreUnavailable("away")

    bench.queue.send(WORK.queue, "x")
    bench.listen(run)
    until(lambda: bench.queue.length(WORK.queue) == 0)
    assert counts == [1, 2, 3]
    assert bench.poison.list() == []


def test_a_function_that_exits_only_fails(bench: Bench) -> None:
    def run(message: QueueMessage) -> None:
        raise SystemExit(1)

    bench.queue.send(WORK.queue, "x")
    bench.listen(run)
    until(lambda: bench.poison.list())
    assert bench.poison.list()[0].reason.startswith("SystemExit")


def test_no_more_are_in_hand_than_allowed(bench: Bench) -> None:
    guard, now, most = threading.Lock(), [0], [0]

    def run(message: QueueMessage) -> None:
        with guard:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.02)
        with guard:
            now[0] -= 1

    for number in range(20):
        bench.queue.send(WORK.queue, str(number))
    bench.listen(run, concurrency=3)
    until(lambda: bench.queue.length(WORK.queue) == 0)
    assert most[0] == 3


def take(bench: Bench) -> QueueMessage:
    delivery = bench.ledger.take(WORK, lease_s=60)
    assert delivery is not None
    return delivery.message


def test_recovery_puts_what_was_in_hand_behind_what_was_waiting(bench: Bench) -> None:
    for body in ("first", "second", "third"):
        bench.queue.send(WORK.queue, body)
    take(bench)
    assert bench.ledger.recover() == 1
    assert [(m.body, m.dequeue_count) for m in bench.queue.peek(WORK.queue)] == [
        ("second", 0),
        ("third", 0),
        ("first", 1),
    ]
    assert bench.ledger.recover() == 0


def test_recovery_leaves_alone_what_waits_for_its_retry(bench: Bench) -> None:
    bench.queue.send(WORK.queue, "x")
    resting = Work("work", WORK.queue, WORK.poison_queue, limit=3, retry_delay_s=60.0)
    bench.ledger.fail(resting, take(bench), "why")
    assert bench.ledger.recover() == 0
    assert list(bench.queue.peek(WORK.queue)) == []


def test_deaths_make_a_suspect_and_then_poison(bench: Bench) -> None:
    bench.queue.send(WORK.queue, "x")
    for death in range(1, 3 * WORK.limit + 1):
        delivery = bench.ledger.take(WORK, lease_s=60)
        assert delivery is not None
        assert delivery.suspect is (death > SUSPECT_AFTER)
        if delivery.suspect:
            bench.ledger.begin(delivery.message)
        assert bench.ledger.recover() == 1
    assert bench.ledger.take(WORK, lease_s=60) is None
    assert bench.queue.length(WORK.queue) == 0
    assert bench.poison.list()[0].reason == "the host died 9 times while working on it"


def test_a_suspect_that_was_not_begun_is_not_blamed(bench: Bench) -> None:
    bench.queue.send(WORK.queue, "x")
    for _ in range(SUSPECT_AFTER):
        take(bench)
        bench.ledger.recover()
    for _ in range(30):
        take(bench)  # waits for its turn alone, and never begins
        assert bench.ledger.recover() == 1


def test_raising_shows_that_a_message_does_not_kill(bench: Bench) -> None:
    bench.queue.send(WORK.queue, "x")
    for _ in range(SUSPECT_AFTER):
        take(bench)
        bench.ledger.recover()
    delivery = bench.ledger.take(WORK, lease_s=60)
    assert delivery is not None
    assert delivery.suspect
    bench.ledger.fail(WORK, delivery.message, "why")
    again = bench.ledger.take(WORK, lease_s=60)
    assert again is not None
    assert not again.suspect


def test_a_suspect_is_worked_on_alone(bench: Bench) -> None:
    bench.queue.send(WORK.queue, "suspect")
    for _ in range(SUSPECT_AFTER):
        take(bench)
        bench.ledger.recover()
    guard, now = threading.Lock(), [0]
    with_suspect: list[int] = []

    def run(message: QueueMessage) -> None:
        with guard:
            now[0] += 1
        time.sleep(0.1)
        with guard:
            if message.body == "suspect":
                with_suspect.append(now[0])
            now[0] -= 1

    for number in range(6):
        bench.queue.send(WORK.queue, str(number))
    bench.listen(run, concurrency=3)
    until(lambda: bench.queue.length(WORK.queue) == 0)
    assert with_suspect == [1]


def test_of_two_that_want_to_be_alone_the_second_is_told(tmp_path: Path) -> None:
    gate, order = Gate(), []

    def first() -> None:
        with gate.inside(), gate.alone() as granted:
            order.append(("first", granted))

    with gate.inside():
        waiting = threading.Thread(target=first)
        waiting.start()
        until(lambda: gate._alone)
        with gate.alone() as granted:
            order.append(("second", granted))
    waiting.join(5)
    assert order == [("second", False), ("first", True)]


def test_a_repeat_of_what_was_given_up_half_way_is_given_up_again(bench: Bench) -> None:
    """A host that dies between the two steps of giving up leaves both; the message is not tried once more."""
    bench.queue.send(WORK.queue, "x")
    message = take(bench)
    for _ in range(WORK.limit):
        bench.ledger._note_failure(message, "ValueError")
    bench.queue.renew(message, visibility_timeout_s=0)
    assert bench.ledger.take(WORK, lease_s=60) is None
    (poison,) = bench.poison.list()
    assert (poison.body, poison.reason) == ("x", "ValueError")


def test_what_is_known_of_a_message_ends_with_it(bench: Bench) -> None:
    for body in ("done", "given up"):
        bench.queue.send(WORK.queue, body)
    assert bench.ledger.complete(take(bench))
    message = take(bench)
    bench.ledger.fail(Work("work", WORK.queue, WORK.poison_queue, limit=1, retry_delay_s=0.0), message, "why")
    bench.poison.drop()
    with bench.store.reading() as db:
        for table in ("host_deliveries", "host_poison"):
            assert db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] == 0  # noqa: S608


def test_a_folder_of_an_earlier_host_keeps_what_it_knew(tmp_path: Path) -> None:
    folder = tmp_path / "earlier"
    folder.mkdir()
    with contextlib.closing(sqlite3.connect(folder / DATABASE_NAME)) as db:
        for migration in MIGRATIONS[:3]:
            db.executescript(migration)
        for queue in (WORK.queue, WORK.poison_queue):
            db.execute("INSERT INTO messages (queue, body, inserted_at, visible_at) VALUES (?, 'x', 0, 0)", (queue,))
        db.execute("INSERT INTO host_deliveries VALUES (1, 2, 1, 0, 'why')")
        db.execute("INSERT INTO host_poison VALUES (2, 'work', ?, 'why', 3, 0)", (WORK.queue,))
        db.execute("PRAGMA user_version = 3")
        db.commit()
    store = LocalStore(folder)
    queue = LocalWorkQueue(store)
    ledger = Ledger(store, queue)
    (poison,) = PoisonQueues(queue, store).list()
    assert (poison.reason, poison.source_queue, poison.dequeue_count) == ("why", WORK.queue, 3)
    assert ledger.recover() == 1
    assert ledger._note(queue.peek(WORK.queue)[0]).deaths == 1
    store.close()
