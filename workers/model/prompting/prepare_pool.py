"""Preparers: processes that render prompts and run processors, so that these never hold the engine's interpreter."""

import logging
import os
import threading
from collections.abc import Sequence
from typing import Any

from service.errors import ModelFailed, Unavailable, error_from_dict
from workers.media.children import Children, ServerLost
from workers.media.decoded import Decoded
from workers.media.fork_server import Child, ChildLost, ForkServer
from workers.model.prompting import packets
from workers.model.prompting.chat_format import Message
from workers.model.prompting.prepared import Prepared
from workers.model.prompting.prompter_source import PrompterSource

log = logging.getLogger(__name__)

# A handful of prompts is done sooner without.
PROMPTS_BEFORE_START = 64
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
    """`num_preparers` processes, and one more for chats; the calling threads take turns.

    They take seconds and memory to start, and so begin only once work has come in earnest.
    """

    def __init__(self, source: PrompterSource, num_preparers: int) -> None:
        def start_server() -> ForkServer:
            return ForkServer(
                "workers.model.prompting.prepare_server", source.as_json(), ENVIRONMENT, START_SECONDS
            )

        self._children = Children(start_server, num_preparers, MAX_PROMPTS_PER_CHILD)
        self._lock = threading.Lock()
        self._num_asked = 0
        self._is_ready = False
        self._closed = False

    def is_ready(self) -> bool:
        """Whether to prepare here. Who asks has something to prepare: asked often enough, the processes are started."""
        if self._is_ready:
            return True
        with self._lock:
            self._num_asked += 1
            begins = self._num_asked == PROMPTS_BEFORE_START
        if begins:
            threading.Thread(target=self._start_or_tell, name="preparers", daemon=True).start()
        return False

    def start(self) -> None:
        """Start the processes, and wait until they can prepare. Raises ServerLost."""
        with self._lock:
            if self._closed:
                return
            self._children.begin()
        self._children.start()
        self._is_ready = True

    def close(self) -> None:
        """End all processes."""
        with self._lock:
            self._closed = True
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

    def _start_or_tell(self) -> None:
        try:
            self.start()
        except ServerLost:
            if not self._closed:
                log.error(
                    "The preparers do not start; prompts are prepared beside the engine, which is slower."
                )

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
