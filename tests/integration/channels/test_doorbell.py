"""The doorbell against a real broker, and what it costs when the broker is not there."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from kombu import Connection
from valkey_server import ValkeyServer

from service.channels.celery_config import make_celery
from service.channels.doorbell import Doorbell
from service.channels.redis_url import broker_url, client_url
from service.contract.tickets import IO_QUEUE, Export, Ingest, Ticket, Wake, engine_queue
from service.errors import ConfigurationError
from service.settings import Settings


@pytest.fixture
def doorbell(settings: Settings, valkey: ValkeyServer) -> Doorbell:
    client = redis.Redis(unix_socket_path=str(valkey.socket))
    client.flushall()
    client.close()
    return Doorbell(settings)


def tickets_on(settings: Settings, queue: str) -> list[tuple[str, Any]]:
    """(task name, kwargs) of the messages waiting on a queue, taken off it."""
    taken = []
    with make_celery(settings).connection() as connection:
        connection: Connection
        simple = connection.SimpleQueue(queue)
        while True:
            try:
                message = simple.get(block=False)
            except simple.Empty:
                break
            taken.append((message.headers["task"], message.payload[1]))
            message.ack()
        simple.close()
    return taken


def test_tickets_arrive_on_their_queues(doorbell: Doorbell, settings: Settings) -> None:
    assert doorbell.ring(Wake("org/big model"))
    assert doorbell.ring(Ingest("batch_1"))
    assert doorbell.ring(Export("batch_1"))

    assert tickets_on(settings, engine_queue("org/big model")) == [
        ("sluice.wake", {"model": "org/big model"})
    ]
    assert tickets_on(settings, IO_QUEUE) == [
        ("sluice.ingest_manifest", {"batch_id": "batch_1"}),
        ("sluice.export_results", {"batch_id": "batch_1"}),
    ]


def test_a_bell_that_nobody_has_heard_is_not_rung_twice(doorbell: Doorbell, settings: Settings) -> None:
    for _ in range(50):
        assert doorbell.ring(Wake("m"))

    assert len(tickets_on(settings, engine_queue("m"))) == 1


def test_a_bell_that_was_heard_rings_again_at_once(doorbell: Doorbell, settings: Settings) -> None:
    doorbell.ring(Wake("m"))
    doorbell.heard(Wake("m"))
    doorbell.ring(Wake("m"))

    assert len(tickets_on(settings, engine_queue("m"))) == 2


def test_several_workers_are_woken_by_one_ring(doorbell: Doorbell, settings: Settings) -> None:
    doorbell.ring(Wake("m"), workers=3)

    assert len(tickets_on(settings, engine_queue("m"))) == 3


def silent_server() -> Iterator[str]:
    """Accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"


@pytest.fixture(params=["no socket", "refused", "silent"])
def lost_broker_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "silent":
        yield from silent_server()
    else:
        yield f"unix://{tmp_path}/nothing.sock" if request.param == "no socket" else "redis://127.0.0.1:1/0"


@pytest.mark.parametrize("ticket", [Wake("m"), Ingest("b")])
def test_a_lost_broker_costs_less_than_a_second_and_no_error(
    lost_broker_url: str, tmp_path: Path, ticket: Ticket
) -> None:
    doorbell = Doorbell(Settings(data_dir=tmp_path, redis_url_setting=lost_broker_url))

    began = time.monotonic()
    assert not doorbell.ring(ticket)
    assert time.monotonic() - began < 1
    began = time.monotonic()
    assert not doorbell.ring(ticket)
    assert time.monotonic() - began < 0.2
    doorbell.heard(ticket)


def test_a_broker_that_dies_between_two_rings_costs_no_error(
    mortal_valkey: ValkeyServer, tmp_path: Path
) -> None:
    doorbell = Doorbell(Settings(data_dir=tmp_path, redis_url_setting=mortal_valkey.url))
    assert doorbell.ring(Wake("m"))
    mortal_valkey.stop()

    began = time.monotonic()
    assert not doorbell.ring(Wake("other"))
    assert time.monotonic() - began < 1

    mortal_valkey.start()
    time.sleep(1.1)
    assert doorbell.ring(Wake("other"))


def test_without_a_broker_tickets_are_files(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, redis_url_setting=None)
    doorbell = Doorbell(settings)

    assert doorbell.ring(Wake("org/model"))
    assert doorbell.ring(Wake("org/model"))

    assert tickets_on(settings, engine_queue("org/model")) == [("sluice.wake", {"model": "org/model"})]


def test_one_redis_url_serves_both_libraries() -> None:
    assert client_url("unix:///run/v.sock?db=2") == "unix:///run/v.sock?db=2"
    assert broker_url("unix:///run/v.sock?db=2") == "redis+socket:///run/v.sock?virtual_host=2"
    assert client_url("redis+socket:///run/v.sock?virtual_host=2") == "unix:///run/v.sock?db=2"
    assert (
        client_url("rediss://u:p@host:1/0") == broker_url("rediss://u:p@host:1/0") == "rediss://u:p@host:1/0"
    )
    with pytest.raises(ConfigurationError):
        broker_url("amqp://host")
