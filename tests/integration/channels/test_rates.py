"""Rates in a real Valkey, shared by all processes, and in this one's memory while it is away."""

import threading
from collections.abc import Iterator

import pytest
import redis
from valkey_server import ValkeyServer

from service.channels.rates import Rates


@pytest.fixture(params=["valkey", "memory"])
def rates(request: pytest.FixtureRequest) -> Iterator[Rates]:
    url = None
    if request.param == "valkey":
        server = request.getfixturevalue("valkey")
        with redis.Redis(unix_socket_path=str(server.socket)) as client:
            client.flushall()
        url = server.url
    opened = Rates(url)
    yield opened
    opened.close()


def test_there_is_room_for_so_many_a_minute_and_each_name_has_its_own(rates: Rates) -> None:
    taken = [rates.take("acme", 3) for _ in range(4)]
    assert [rate.allowed for rate in taken] == [True, True, True, False]
    assert [rate.remaining for rate in taken] == [2, 1, 0, 0]
    assert 55 < taken[-1].reset_seconds <= 60
    assert rates.take("globex", 3).allowed


def test_a_rate_of_nothing_allows_nothing(rates: Rates) -> None:
    assert not rates.take("acme", 0).allowed


def test_many_at_once_do_not_get_more(rates: Rates) -> None:
    start = threading.Barrier(8)
    allowed: list[bool] = []

    def take() -> None:
        start.wait()
        allowed.extend(rates.take("acme", 10).allowed for _ in range(5))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(allowed) == 10


def test_processes_share_one_count(valkey: ValkeyServer) -> None:
    with redis.Redis(unix_socket_path=str(valkey.socket)) as client:
        client.flushall()
    two = [Rates(valkey.url), Rates(valkey.url)]
    assert [rates.take("acme", 3).allowed for rates in two * 2] == [True, True, True, False]
    for rates in two:
        rates.close()


def test_while_redis_is_away_each_process_counts_for_itself(
    mortal_valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.channels.rates._GIVE_UP_SECONDS", 0.0)
    rates = Rates(mortal_valkey.url)
    assert rates.take("acme", 2).allowed
    mortal_valkey.stop()
    assert [rates.take("acme", 2).allowed for _ in range(3)] == [True, True, False]
    mortal_valkey.start()
    assert rates.take("acme", 2).allowed
    rates.close()
