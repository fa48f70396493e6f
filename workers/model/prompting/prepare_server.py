"""The preparers' fork server: its copies prepare prompts. Run as `python -m workers.model.prompting.prepare_server`."""

import logging
import os
import resource
import socket
import sys
import traceback
from functools import partial
from typing import Any

import torch

from service.errors import SluiceError
from workers.media.forking import fork_children
from workers.media.wire import MAX_MESSAGE_BYTES
from workers.model.prompting import packets
from workers.model.prompting.prompter_source import PrompterSource
from workers.model.prompting.prompts import Prompter

# Private memory of one child, pixels and tensors of one request among it.
MAX_DATA_BYTES = 8 << 30


def main() -> None:
    """Arguments: the control socket's descriptor and the prompter's source as JSON."""
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    control = socket.socket(fileno=int(sys.argv[1]))
    prompter = PrompterSource.from_json(sys.argv[2]).open()
    # What is imported and compiled at the first call, the children shall share.
    prompter.prepare([{"role": "user", "content": "Hello"}], [])
    fork_children(control, partial(serve, prompter=prompter))


def serve(parent: socket.socket, prompter: Prompter) -> None:
    """Prepare until the parent lets go of its end of the socket."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (MAX_DATA_BYTES, MAX_DATA_BYTES))
    parent.send(b"ready")
    while True:
        message, fds, _, _ = socket.recv_fds(parent, MAX_MESSAGE_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
        if not message:
            return
        answer = _answer(prompter, fds[0])
        os.close(fds[0])
        out = packets.pack(answer)
        socket.send_fds(parent, [b"answer"], [out])
        os.close(out)


def _answer(prompter: Prompter, request: int) -> dict[str, Any]:
    """What `PreparerPool` reads: what was prepared, a refusal of this request, or where we failed."""
    try:
        messages, media, options = packets.unpack(request)
        return {"prepared": prompter.prepare(messages, media, **options)}
    except SluiceError as error:
        return {"refused": error.as_dict(), "status": error.status}
    except Exception:
        return {"failed": traceback.format_exc()}


if __name__ == "__main__":
    main()
