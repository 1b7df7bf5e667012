"""The whole host as a process: signals, kills, and what is left afterwards."""

from __future__ import annotations

import signal
import socket
import threading
import time
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from tests.unit.host.conftest import QUEUE, ToyHost, until


def connected(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=10)


def test_http_queue_and_blobs_are_served_and_sigterm_ends_cleanly(toy: ToyHost) -> None:
    process = toy.start()
    assert httpx.get(f"{toy.url}/hello/ann").text == "hello ann"
    assert httpx.get(f"{toy.url}/nothing").status_code == 404
    toy.queue.send(QUEUE, "ok from queue")
    toy.blobs.put("candidates", "a/b.txt", b"ok from blob")
    toy.blobs.put("candidates", "other.jpg", b"ok not for us")
    until(lambda: len(toy.lines("end")) == 2)
    assert sorted(toy.lines("end")) == ["end ok from blob", "end ok from queue"]
    process.terminate()
    assert process.wait(10) == 0
    assert toy.queue.length(QUEUE) == 0


def test_a_body_over_the_limit_reaches_no_function(toy: ToyHost) -> None:
    toy.start(TOY_MAX_BODY="1000")
    assert httpx.post(f"{toy.url}/toil/0", content=b"x" * 1000).status_code == 200
    assert httpx.post(f"{toy.url}/toil/0", content=b"x" * 1001).status_code == 413
    assert len(toy.lines("begin")) == 1


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET /hello/ann HTTP/1.1\r\nHost: x\r\n",
        b"POST /toil/0 HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc",
    ],
    ids=["nothing", "no end", "half a body"],
)
def test_who_falls_silent_is_hung_up_on(toy: ToyHost, said: bytes) -> None:
    toy.start(TOY_SILENCE_S="0.5")
    began = time.monotonic()
    with connected(toy.url) as client:
        client.sendall(said)
        assert client.recv(1) == b""
    assert 0.4 < time.monotonic() - began < 5
    assert not toy.lines("begin")


def test_a_slow_line_and_a_long_answer_are_waited_for(toy: ToyHost) -> None:
    toy.start(TOY_SILENCE_S="1.0")
    with connected(toy.url) as client:
        client.sendall(b"POST /toil/2 HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\n")
        for letter in b"slowly":
            time.sleep(0.2)
            client.sendall(bytes([letter]))
        assert client.recv(12) == b"HTTP/1.1 200"
    assert len(toy.lines("end")) == 1


def test_answers_do_not_wait_for_acknowledgements(toy: ToyHost) -> None:
    toy.start()
    waits = []
    with httpx.Client(base_url=toy.url) as client:
        for _ in range(21):
            asked = time.perf_counter()
            client.get("/hello/ann")
            waits.append(time.perf_counter() - asked)
    assert sorted(waits)[10] < 0.035  # Linux delays acknowledgements by 40 ms; without TCP_NODELAY each answer waits


def test_a_message_is_seen_within_a_tenth_of_a_second(toy: ToyHost) -> None:
    toy.start()
    waits = []
    for number in range(5):
        time.sleep(0.13)
        sent = time.monotonic()
        toy.queue.send(QUEUE, f"ok {number}")
        until(lambda number=number: f"end ok {number}" in toy.lines())
        waits.append(time.monotonic() - sent)
    assert sorted(waits)[2] < 0.15  # 100 ms, and the test's own looking


def test_an_idle_host_takes_next_to_no_cpu(toy: ToyHost) -> None:
    process = psutil.Process(toy.start().pid)
    time.sleep(0.5)
    before, started = sum(process.cpu_times()[:2]), time.monotonic()
    time.sleep(2)
    assert (sum(process.cpu_times()[:2]) - before) / (time.monotonic() - started) < 0.02


def test_sigterm_finishes_what_is_in_hand_and_leaves_the_rest(toy: ToyHost) -> None:
    for number in range(4):
        toy.queue.send(QUEUE, f"sleep 0.7 {number}")
    process = toy.start(TOY_CONCURRENCY="1")
    until(lambda: toy.lines("begin"))
    process.terminate()
    assert process.wait(10) == 0
    assert len(toy.lines("begin")) == len(toy.lines("end")) == 1
    assert toy.queue.length(QUEUE) == 3


def test_sigterm_answers_requests_in_hand(toy: ToyHost) -> None:
    process = toy.start()
    answers: list[str] = []

    def ask() -> None:
        answers.append(httpx.post(f"{toy.url}/toil/0.7").text)

    asking = threading.Thread(target=ask)
    asking.start()
    until(lambda: toy.lines("begin"))
    process.terminate()
    assert process.wait(10) == 0
    asking.join()
    assert answers == ["done"]


def test_what_does_not_end_in_time_is_given_back(toy: ToyHost) -> None:
    toy.queue.send(QUEUE, "hang")
    process = toy.start(TOY_STOP_S="0.5")
    until(lambda: toy.lines("begin"))
    process.terminate()
    assert process.wait(10) == 0
    assert [message.body for message in toy.queue.peek(QUEUE)] == ["hang"]


def test_a_second_signal_exits_at_once(toy: ToyHost) -> None:
    toy.queue.send(QUEUE, "hang")
    process = toy.start(TOY_STOP_S="60")
    until(lambda: toy.lines("begin"))
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(2) == 128 + signal.SIGINT


def test_a_second_host_on_the_same_folder_is_refused(toy: ToyHost) -> None:
    toy.start()
    second = toy.start(wait=False)
    assert second.wait(10) == 1
    assert "another facerelay serve is running" in (toy.folder / "stderr").read_text()


def test_a_port_in_use_is_told_in_one_line(toy: ToyHost) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert toy.start(wait=False, TOY_PORT=str(port)).wait(10) == 1
    assert f"port {port} on 127.0.0.1 is in use" in (toy.folder / "stderr").read_text().splitlines()[-1]


def test_kill_9_in_the_middle_of_messages_loses_none(toy: ToyHost) -> None:
    expected = {f"{number}" for number in range(60)}
    for number in range(30):
        toy.queue.send(QUEUE, f"sleep 0.02 {number}")
        toy.blobs.put("candidates", f"{number}.txt", f"sleep 0.02 {number + 30}".encode())
    for _ in range(4):
        already = len(toy.lines("end"))
        toy.start()
        until(lambda already=already: len(toy.lines("end")) >= already + 5)
        toy.kill()
    toy.start()
    until(lambda: {line.split()[-1] for line in toy.lines("end")} == expected)
    until(lambda: toy.queue.length(QUEUE) == 0)
    # A repeat can only be what was in hand when a kill came: two queues, two workers each, four kills.
    assert len(toy.lines("begin")) <= 60 + 4 * 4
    assert toy.poison.list() == []


def test_ten_kills_in_a_row_poison_no_innocent_message(toy: ToyHost) -> None:
    toy.queue.send(QUEUE, "sleep 1.5")
    for kill in range(10):
        toy.start()
        until(lambda kill=kill: len(toy.lines("begin")) == kill + 1)
        toy.kill()
    toy.start()
    until(lambda: toy.lines("end"))
    until(lambda: toy.queue.length(QUEUE) == 0)
    assert toy.poison.list() == []


def test_a_message_that_kills_the_host_ends_in_the_poison_queue_and_harms_no_other(toy: ToyHost) -> None:
    toy.configure(maxDequeueCount=2)
    toy.queue.send(QUEUE, "die")
    for number in range(6):
        toy.queue.send(QUEUE, f"sleep 0.05 {number}")
    for _ in range(6):  # three times maxDequeueCount
        assert toy.start().wait(20) == 9
    toy.start()
    until(lambda: toy.poison.list())
    (poison,) = toy.poison.list()
    assert (poison.body, poison.reason) == ("die", "the host died 6 times while working on it")
    assert {line.split()[-1] for line in toy.lines("end")} == {str(number) for number in range(6)}
    assert toy.lines("begin").count("begin die") == 6


def test_poison_is_listed_with_its_reason_replayed_and_dropped(toy: ToyHost) -> None:
    toy.configure(maxDequeueCount=3)
    toy.queue.send(QUEUE, "raise")
    toy.queue.send(QUEUE, "transient")
    toy.blobs.put("candidates", "x.txt", b"raise blob")
    process = toy.start()
    until(lambda: len(toy.poison.list()) == 3)
    by_body = {poison.body: poison for poison in toy.poison.list()}
    assert by_body["raise"].reason.startswith("ValueError at toy.py:")
    assert by_body["transient"].reason == "store_unavailable: the database is away"
    assert (by_body["raise"].queue, by_body["raise"].source_queue) == (f"{QUEUE}-poison", QUEUE)
    assert by_body["raise"].dequeue_count == 3
    (blob,) = (poison for poison in by_body.values() if poison.function == "blob_work")
    assert blob.queue == "webjobs-blobtrigger-poison"
    assert '"BlobName": "x.txt"' in blob.body
    assert toy.lines("begin").count("begin raise blob") == 5  # poisonBlobThreshold
    assert toy.poison.replay([by_body["raise"].id]) == 1
    until(lambda: toy.lines("begin").count("begin raise") == 6)
    until(lambda: len(toy.poison.list()) == 3)
    process.terminate()
    assert process.wait(10) == 0
    assert toy.poison.drop([blob.id]) == 1
    assert toy.poison.drop() == 2
    assert toy.poison.replay() == 0
    assert toy.queue.length(f"{QUEUE}-poison") == 0
