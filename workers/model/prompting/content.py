"""What a prompt is made of, told by hashes: whether two prompts begin alike, and how far."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

# Tokens of one link of the chain of hashes.
BLOCK = 16
_DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """Everything that decides a prompt's states. Made off the engine's thread, since pixels take time to hash.

    chain: after each whole block of tokens, a hash of the scope and of everything up to there, the media among it.
    media: a hash of all media, empty without any. media_start, media_stop: from the first medium's token to the last
    one's, between which a prompt cannot be cut; without media, both are the prompt's length.
    """

    scope: str
    tokens: NDArray[np.int64]
    chain: tuple[bytes, ...]
    media: bytes
    media_start: int
    media_stop: int

    @property
    def num_tokens(self) -> int:
        """Tokens of the prompt."""
        return len(self.tokens)

    def shared_tokens(self, other: "Content") -> int:
        """How many tokens both begin with, and what these stand for; none of another scope's."""
        if self.scope != other.scope:
            return 0
        limit = min(self.num_tokens, other.num_tokens)
        differing = np.flatnonzero(self.tokens[:limit] != other.tokens[:limit])
        shared = int(differing[0]) if differing.size else limit
        if self.media == other.media:
            return shared
        return min(shared, self.media_start, other.media_start)

    def owned(self) -> "Content":
        """The same in memory of its own: tokens may lie in a file with a request's pixels, which they would keep."""
        return replace(self, tokens=self.tokens.copy())

    def beginning(self, num_tokens: int) -> "Content":
        """The content of the first tokens, among which all media lie, or none."""
        has_media = bool(self.media) and self.media_stop <= num_tokens
        return Content(
            self.scope,
            self.tokens[:num_tokens],
            self.chain[: num_tokens // BLOCK],
            media=self.media if has_media else b"",
            media_start=self.media_start if has_media else num_tokens,
            media_stop=self.media_stop if has_media else num_tokens,
        )


def content_of(
    tokens: NDArray[np.int64], *, placeholders: Iterable[int], media: bytes, scope: str
) -> Content | None:
    """The content of one prompt, or None if nobody knows where its media are.

    tokens: [tokens]. placeholders: the ids that stand for media. media: from `media_digest`.
    """
    places = np.flatnonzero(np.isin(tokens, sorted(placeholders)))
    if bool(media) != bool(places.size):
        return None
    start, stop = (int(places[0]), int(places[-1]) + 1) if media else (len(tokens), len(tokens))
    return Content(scope, tokens, _chain(tokens, media, start, scope), media, start, stop)


def media_digest(arrays: Iterable[tuple[str, NDArray[np.generic]]]) -> bytes:
    """A hash of named arrays, in order; empty if there are none."""
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    is_empty = True
    for name, array in arrays:
        is_empty = False
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        digest.update(np.ascontiguousarray(array).data)
    return b"" if is_empty else digest.digest()


def _chain(tokens: NDArray[np.int64], media: bytes, media_start: int, scope: str) -> tuple[bytes, ...]:
    link = hashlib.blake2b(scope.encode(), digest_size=_DIGEST_BYTES).digest()
    links = []
    for stop in range(BLOCK, len(tokens) + 1, BLOCK):
        digest = hashlib.blake2b(link, digest_size=_DIGEST_BYTES)
        digest.update(tokens[stop - BLOCK : stop].tobytes())
        if media_start < stop:
            digest.update(media)
        link = digest.digest()
        links.append(link)
    return tuple(links)
