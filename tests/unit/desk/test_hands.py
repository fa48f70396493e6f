"""Who prepares what, and in which order."""

import threading
from collections.abc import Callable

from workers.desk.hands import Hands

SECONDS = 5


def blocking(begun: threading.Semaphore, go_on: threading.Event) -> Callable[[], None]:
    """A task that says that it has begun, and ends when it may."""

    def task() -> None:
        begun.release()
        go_on.wait(SECONDS)

    return task


def test_a_chat_is_prepared_while_bulk_keeps_every_other_hand_busy() -> None:
    hands, begun, go_on, chatted = Hands(2), threading.Semaphore(0), threading.Event(), threading.Event()
    for _ in range(10):
        hands.submit(blocking(begun, go_on), is_chat=False)
    hands.start()
    assert all(begun.acquire(timeout=SECONDS) for _ in range(2))

    hands.submit(chatted.set, is_chat=True)

    assert chatted.wait(SECONDS)
    assert not begun.acquire(timeout=0.05), "the hand for chats must not take bulk"
    go_on.set()
    hands.close()


def test_chat_goes_before_the_bulk_that_came_earlier() -> None:
    hands, begun, go_on = Hands(1), threading.Semaphore(0), threading.Event()
    order: list[str] = []
    bulk_done = threading.Event()

    def do_bulk() -> None:
        order.append("bulk")
        bulk_done.set()

    hands.submit(do_bulk, is_chat=False)
    # One chat for each hand: whoever wakes first takes one of these.
    for _ in range(2):
        hands.submit(blocking(begun, go_on), is_chat=True)
    hands.start()
    assert all(begun.acquire(timeout=SECONDS) for _ in range(2))

    assert order == []
    go_on.set()
    assert bulk_done.wait(SECONDS)
    hands.close()


def test_bulk_waits_while_it_may_not_begin_and_goes_on_when_told() -> None:
    room, prepared = threading.Event(), threading.Event()
    hands = Hands(1, may_begin_bulk=room.is_set)
    hands.submit(prepared.set, is_chat=False)
    hands.start()
    assert not prepared.wait(0.05)

    room.set()
    hands.nudge()

    assert prepared.wait(SECONDS)
    hands.close()


def test_what_has_not_begun_at_the_close_never_begins() -> None:
    hands, begun = Hands(1), threading.Event()

    hands.close()
    hands.submit(begun.set, is_chat=False)
    hands.start()

    assert not begun.wait(0.05)
