"""The fork server: a lean process without torch, whose copies decode. Run as `python -m workers.media.server`."""

import json
import socket
import sys
from functools import partial

from workers.media.child import serve
from workers.media.confine import leave_network
from workers.media.forking import fork_children
from workers.media.limits import MediaLimits
from workers.media.preload import preload


def main() -> None:
    """Arguments: the control socket's descriptor and the limits as JSON."""
    control = socket.socket(fileno=int(sys.argv[1]))
    limits = MediaLimits(**json.loads(sys.argv[2]))
    preload()
    fork_children(control, partial(serve, limits=limits, network=leave_network()))


if __name__ == "__main__":
    main()
