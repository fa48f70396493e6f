"""Preparers: processes that render prompts and run processors, so that these never hold the engine's interpreter."""

import logging
import os
from collections.abc import Sequence
from typing import Any

from service.errors import ConfigurationError, ModelFailed, Unavailable, error_from_dict
from workers.media.children import Children, ServerLost
from workers.media.decoded import Decoded
from workers.media.fork_server import Child, ChildLost, ForkServer
from workers.model import packets
from workers.model.chat_format import Message
from workers.model.prepared import Prepared
from workers.model.prompter_source import PrompterSource

log = logging.getLogger(__name__)

START_SECONDS = 180.0
PREPARE_SECONDS = 120.0
MAX_PROMPTS_PER_CHILD = 5000
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "CUDA_VISIBLE_DEVICES": "",
}


class PreparerPool:
    """`num_preparers` processes, and one more for chats; the calling threads take turns."""

    def __init__(self, source: PrompterSource, num_preparers: int) -> None:
        def start_server() -> ForkServer:
            return ForkServer("workers.model.prepare_server", source.as_json(), ENVIRONMENT, START_SECONDS)

        self._children = Children(start_server, num_preparers, MAX_PROMPTS_PER_CHILD)
        self._children.begin()

    def start(self) -> None:
        """Wait until they can prepare; the server has been on its way since we were made."""
        try:
            self._children.start()
        except ServerLost:
            raise ConfigurationError(
                "The preparers do not start.", hint="Look for the reason in the worker's error output."
            ) from None

    def close(self) -> None:
        """End all processes."""
        self._children.close()

    def idle_pids(self) -> list[int]:
        """The preparers that wait for work."""
        return self._children.idle_pids()

    def prepare(
        self, messages: Sequence[Message], media: Sequence[Decoded], *, is_chat: bool = False, **options: Any
    ) -> Prepared:
        """What `Prompter.prepare` gives for the same arguments, made in another process; blocks.

        Errors: those of `Prompter.prepare`; ModelFailed if the process dies or hangs of it.
        """
        request = packets.pack((list(messages), list(media), options))
        try:
            with self._children.borrowed(is_chat=is_chat) as child:
                return _read(self._ask(child, request))
        except ServerLost:
            raise Unavailable("The process that prepares requests went away.") from None
        finally:
            os.close(request)

    def _ask(self, child: Child, request: int) -> dict[str, Any]:
        try:
            _, fd = child.ask(b"prepare", request, PREPARE_SECONDS)
        except (TimeoutError, ChildLost) as error:
            child.kill()
            if isinstance(error, ChildLost) and self._children.server_died():
                raise ServerLost from None
            raise ModelFailed(
                "The process that prepared this request for the model died or hung.",
                code="preparation_failed",
            ) from None
        try:
            answer: dict[str, Any] = packets.unpack(fd)
        finally:
            os.close(fd)
        return answer


def _read(answer: dict[str, Any]) -> Prepared:
    if "refused" in answer:
        raise error_from_dict(answer["refused"], answer["status"])
    if "failed" in answer:
        log.error("preparing a request failed:\n%s", answer["failed"])
        raise ModelFailed("The request could not be prepared for the model.", code="preparation_failed")
    prepared = answer["prepared"]
    assert isinstance(prepared, Prepared)
    return prepared
