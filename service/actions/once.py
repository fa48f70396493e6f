"""The same Idempotency-Key with the same request makes one object, however often it is sent."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from sqlalchemy.orm import Session

from service.contract.callers import Caller
from service.errors import BadRequest
from service.store import idempotency

MAX_KEY_CHARACTERS = 255


@dataclass(frozen=True, slots=True)
class Once:
    """A creating request that may come again. key: None where the sender does not mean to send it again.

    route: a key is known on one route alone. body_sha256: of everything that the request says.
    """

    route: str
    key: str | None
    body_sha256: str = ""

    def __post_init__(self) -> None:
        if self.key is not None and not _is_plain(self.key):
            raise BadRequest(
                f"An Idempotency-Key has 1 to {MAX_KEY_CHARACTERS} plain characters.",
                param="Idempotency-Key",
            )


class SentBefore(Exception):
    """Undoes an insertion: another sender's object is the one."""

    def __init__(self, object_id: str) -> None:
        super().__init__(object_id)
        self.object_id = object_id


def make_once(
    db: Session,
    caller: Caller,
    once: Once,
    object_id: str,
    *,
    is_there: Callable[[str], bool] = lambda object_id: True,
) -> str:
    """The id of the object that this request makes: `object_id` for its first sender, who inserts it in `db`.

    is_there: whether what the first sender made still counts; if not, this sender makes it anew.
    KeyReused if the key came with another request.
    """
    if once.key is None:
        return object_id
    made = idempotency.remember(
        db,
        caller.tenant_id,
        route=once.route,
        key=once.key,
        body_sha256=once.body_sha256,
        object_id=object_id,
    )
    if made == object_id or is_there(made):
        return made
    return idempotency.replace(
        db, caller.tenant_id, route=once.route, key=once.key, gone_id=made, object_id=object_id
    )


def be_first(
    db: Session,
    caller: Caller,
    once: Once,
    object_id: str,
    *,
    is_there: Callable[[str], bool] = lambda object_id: True,
) -> None:
    """Raise SentBefore unless this request is the one that makes the object, which is in `db` already."""
    made = make_once(db, caller, once, object_id, is_there=is_there)
    if made != object_id:
        raise SentBefore(made)


class StreamDigest:
    """SHA-256 of a stream that passes by. prefix: what else the request says."""

    def __init__(self, prefix: bytes) -> None:
        self._sha256 = hashlib.sha256(prefix)

    def over(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The chunks, unchanged."""
        for chunk in chunks:
            self._sha256.update(chunk)
            yield chunk

    def hexdigest(self) -> str:
        """Of what has passed so far."""
        return self._sha256.hexdigest()


def _is_plain(key: str) -> bool:
    return 0 < len(key) <= MAX_KEY_CHARACTERS and key.isascii() and key.isprintable()
