"""`ports.WorkQueue`, as every adapter keeps it."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from shared.domain import utc_now
from shared.errors import InvalidInput, NotFound
from shared.ports import WorkQueue
from tests.contract.racing import race

QUEUE = "train-requests"


def test_a_message_comes_as_it_was_sent(queue: WorkQueue) -> None:
    sent = queue.send(QUEUE, '{"text": "grüße 😀"}')
    (message,) = queue.receive(QUEUE)
    assert (message.id, message.body, message.queue) == (sent, '{"text": "grüße 😀"}', QUEUE)
    assert message.dequeue_count == 1
    assert abs(message.inserted_at - utc_now()) < timedelta(seconds=5)
    assert message.receipt


def test_an_empty_queue_gives_nothing(queue: WorkQueue) -> None:
    assert queue.receive(QUEUE) == []
    assert list(queue.peek(QUEUE)) == []
    assert queue.length(QUEUE) == 0


def test_queues_do_not_mix(queue: WorkQueue) -> None:
    queue.send("one-queue", "1")
    assert queue.receive("other-queue") == []
    assert queue.length("other-queue") == 0


def test_messages_come_in_the_order_they_were_sent(queue: WorkQueue) -> None:
    for number in range(20):
        queue.send(QUEUE, str(number))
    received = [message.body for _ in range(4) for message in queue.receive(QUEUE, max_messages=5)]
    assert received == [str(number) for number in range(20)]


def test_no_more_than_asked_for(queue: WorkQueue) -> None:
    for number in range(5):
        queue.send(QUEUE, str(number))
    assert len(queue.receive(QUEUE, max_messages=3)) == 3
    assert len(queue.receive(QUEUE, max_messages=3)) == 2


def test_a_taken_message_is_hidden_and_counted(queue: WorkQueue) -> None:
    queue.send(QUEUE, "x")
    queue.receive(QUEUE)
    assert queue.receive(QUEUE) == []
    assert list(queue.peek(QUEUE)) == []
    assert queue.length(QUEUE) == 1


def test_a_deleted_message_is_gone(queue: WorkQueue) -> None:
    queue.send(QUEUE, "x")
    (message,) = queue.receive(QUEUE)
    assert queue.delete(message) is True
    assert queue.delete(message) is False
    assert queue.length(QUEUE) == 0


def test_a_message_comes_back_after_its_timeout(backend) -> None:
    backend.queue.send(QUEUE, "x")
    (first,) = backend.queue.receive(QUEUE, visibility_timeout_s=backend.tick_s)
    time.sleep(backend.tick_s * 1.5)
    (second,) = backend.queue.receive(QUEUE)
    assert (second.id, second.dequeue_count) == (first.id, 2)
    assert second.receipt != first.receipt
    assert second.inserted_at == first.inserted_at


def test_a_stale_receipt_does_nothing(backend) -> None:
    backend.queue.send(QUEUE, "x")
    (first,) = backend.queue.receive(QUEUE, visibility_timeout_s=backend.tick_s)
    time.sleep(backend.tick_s * 1.5)
    (second,) = backend.queue.receive(QUEUE)
    assert backend.queue.delete(first) is False
    with pytest.raises(NotFound):
        backend.queue.renew(first, visibility_timeout_s=10)
    assert backend.queue.delete(second) is True


def test_a_delayed_message_waits(backend) -> None:
    backend.queue.send(QUEUE, "x", delay_s=backend.tick_s)
    assert backend.queue.receive(QUEUE) == []
    assert backend.queue.length(QUEUE) == 1
    time.sleep(backend.tick_s * 1.5)
    assert [message.body for message in backend.queue.receive(QUEUE)] == ["x"]


def test_renewing_hides_for_longer_and_changes_the_receipt(backend) -> None:
    backend.queue.send(QUEUE, "x")
    (message,) = backend.queue.receive(QUEUE, visibility_timeout_s=backend.tick_s)
    renewed = backend.queue.renew(message, visibility_timeout_s=30)
    assert (renewed.id, renewed.body, renewed.dequeue_count) == (message.id, "x", 1)
    assert renewed.receipt != message.receipt
    time.sleep(backend.tick_s * 1.5)
    assert backend.queue.receive(QUEUE) == []
    assert backend.queue.delete(message) is False
    assert backend.queue.delete(renewed) is True


def test_renewing_for_no_time_gives_the_message_back(queue: WorkQueue) -> None:
    queue.send(QUEUE, "x")
    (message,) = queue.receive(QUEUE)
    queue.renew(message, visibility_timeout_s=0)
    (again,) = queue.receive(QUEUE)
    assert again.dequeue_count == 2


def test_renewing_a_deleted_message_is_not_found(queue: WorkQueue) -> None:
    queue.send(QUEUE, "x")
    (message,) = queue.receive(QUEUE)
    queue.delete(message)
    with pytest.raises(NotFound):
        queue.renew(message, visibility_timeout_s=1)


def test_peeking_takes_nothing(queue: WorkQueue) -> None:
    for number in range(3):
        queue.send(QUEUE, str(number))
    assert [message.body for message in queue.peek(QUEUE, max_messages=2)] == ["0", "1"]
    assert all(message.receipt == "" and message.dequeue_count == 0 for message in queue.peek(QUEUE))
    (message,) = queue.receive(QUEUE)
    assert (message.body, message.dequeue_count) == ("0", 1)


@pytest.mark.parametrize("name", ["", "ab", "Upper", "under_score", "-begin", "end-", "two--hyphens", "../x", "a b c"])
def test_queue_names_that_the_service_refuses_are_refused(queue: WorkQueue, name: str) -> None:
    with pytest.raises(InvalidInput):
        queue.send(name, "x")


def test_a_message_over_the_limit_is_refused(queue: WorkQueue) -> None:
    queue.send(QUEUE, "x" * 40_000)
    with pytest.raises(InvalidInput):
        queue.send(QUEUE, "x" * 70_000)


def test_every_message_goes_to_one_receiver(queue: WorkQueue) -> None:
    for number in range(60):
        queue.send(QUEUE, str(number))

    def drain(_: int) -> list[str]:
        taken = []
        while messages := queue.receive(QUEUE, max_messages=2):
            for message in messages:
                taken.append(message.body)
                assert queue.delete(message)
        return taken

    taken = [body for part in race(6, drain) for body in part]
    assert sorted(taken, key=int) == [str(number) for number in range(60)]


def test_another_connection_shares_the_queue(backend) -> None:
    other = backend.reopened()
    backend.queue.send(QUEUE, "x")
    (message,) = other.queue.receive(QUEUE)
    assert backend.queue.receive(QUEUE) == []
    assert backend.queue.delete(message) is True


def test_queues_with_messages_are_named(queue: WorkQueue) -> None:
    queue.send("first-poison", "x")
    queue.send("second", "x")
    queue.receive("second")
    names = queue.names()
    assert names == sorted(names)
    assert {"first-poison", "second"} <= set(names)
