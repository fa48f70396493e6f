"""Token streams against a real server: joined late, never spliced, quiet when Redis is away."""

import threading
import time
from collections.abc import Iterator

import pytest
import redis
from valkey_server import ValkeyServer

from service.channels.streams import Streams
from service.contract.streams import Delta, Ended, HeardEvent, Restarted


@pytest.fixture
def streams(valkey: ValkeyServer) -> Iterator[Streams]:
    streams = Streams(valkey.url)
    yield streams
    streams.close()


def collected(streams: Streams, job_id: int, attempt: int, max_ticks: int = 20) -> list[HeardEvent]:
    events: list[HeardEvent] = []
    for event in streams.follow(job_id, attempt, timeout=0.1):
        if event is not None:
            events.append(event)
            continue
        max_ticks -= 1
        if max_ticks == 0:
            break
    return events


def test_a_late_listener_hears_everything_in_order(streams: Streams) -> None:
    streams.publish_many([(1, 1, Delta("Hel")), (1, 1, Delta("lo ☀")), (2, 1, Delta("other"))])
    streams.publish_many([(1, 1, Ended())])

    assert collected(streams, 1, 1) == [Delta("Hel"), Delta("lo ☀"), Ended()]


def test_a_listener_hears_what_comes_while_it_listens(streams: Streams) -> None:
    def speak() -> None:
        for word in ("a", "b", "c"):
            time.sleep(0.05)
            streams.publish_many([(3, 1, Delta(word))])
        streams.publish_many([(3, 1, Ended())])

    speaker = threading.Thread(target=speak)
    speaker.start()
    heard = collected(streams, 3, 1)
    speaker.join()

    assert heard == [Delta("a"), Delta("b"), Delta("c"), Ended()]


def test_attempts_are_never_spliced(streams: Streams) -> None:
    streams.publish_many([(4, 1, Delta("first try")), (4, 2, Delta("second try")), (4, 2, Ended())])

    assert collected(streams, 4, 1) == [Delta("first try")]
    assert collected(streams, 4, 2) == [Delta("second try"), Ended()]


def test_a_worker_that_goes_on_with_an_attempt_given_back_is_heard_as_a_restart(
    streams: Streams, valkey: ValkeyServer
) -> None:
    streams.publish_many([(10, 1, Delta("Once ")), (10, 1, Delta("upon "))])
    another = Streams(valkey.url)
    another.publish_many([(10, 1, Delta("Once upon ")), (10, 1, Delta("a time")), (10, 1, Ended())])
    another.close()

    assert collected(streams, 10, 1) == [
        Delta("Once "),
        Delta("upon "),
        Restarted(),
        Delta("Once upon "),
        Delta("a time"),
        Ended(),
    ]


def test_a_delta_arrives_with_its_choice_its_probabilities_and_its_calls(streams: Streams) -> None:
    told = Delta("☀", 2, ({"token": "☀", "logprob": -0.5},), ({"id": "call_1", "type": "function"},))
    streams.publish_many([(11, 1, told), (11, 1, Ended())])

    assert collected(streams, 11, 1) == [told, Ended()]


def test_a_listener_is_ticked_while_nothing_comes(streams: Streams) -> None:
    began = time.monotonic()
    follower = streams.follow(5, 1, timeout=0.1)

    assert [next(follower), next(follower)] == [None, None]
    assert 0.15 < time.monotonic() - began < 2


def test_text_after_a_gap_is_withheld_so_that_nothing_is_joined_wrongly(
    streams: Streams, valkey: ValkeyServer
) -> None:
    streams.publish_many([(6, 1, Delta("one "))])
    streams.publish_many([(6, 1, Delta("two "))])
    client = redis.Redis(unix_socket_path=str(valkey.socket))
    (_first, _), (second, _) = client.xrange("sluice:stream:6:1")
    client.xdel("sluice:stream:6:1", second)
    client.close()
    streams.publish_many([(6, 1, Delta("three")), (6, 1, Ended())])

    assert collected(streams, 6, 1) == [Delta("one "), Ended()]


def test_a_listener_is_known_to_be_alive_for_a_while(streams: Streams) -> None:
    assert not streams.is_alive(7)
    streams.keep_alive(7)
    assert streams.is_alive(7)


def test_a_lost_redis_costs_text_but_never_an_error(mortal_valkey: ValkeyServer) -> None:
    streams = Streams(mortal_valkey.url)
    streams.publish_many([(8, 1, Delta("before "))])
    follower = streams.follow(8, 1, timeout=0.1)
    assert next(follower) == Delta("before ")

    mortal_valkey.stop()
    streams.publish_many([(8, 1, Delta("lost "))])
    streams.keep_alive(8)
    assert streams.num_dropped == 1
    assert streams.is_alive(8)
    assert next(follower) is None

    mortal_valkey.start()
    streams.publish_many([(8, 1, Delta("after")), (8, 1, Ended())])
    # A gap: the caller takes the rest from SQL, and only learns here that the rest is there.
    assert next(event for event in follower if event is not None) == Ended()
    streams.close()


def test_without_redis_a_listener_only_ticks() -> None:
    streams = Streams(None)
    streams.publish_many([(9, 1, Delta("nobody hears this"))])

    assert next(streams.follow(9, 1, timeout=0.01)) is None
    assert streams.is_alive(9)
