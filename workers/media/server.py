"""The fork server: a lean process without torch, whose copies decode. Run as `python -m workers.media.server`."""

import gc
import json
import os
import signal
import socket
import sys

from workers.media.child import serve
from workers.media.confine import die_with, leave_network
from workers.media.limits import MediaLimits
from workers.media.preload import preload


def main() -> None:
    """Fork a child for each message on the control socket; end when the worker lets go of it.

    Arguments: the socket's descriptor and the limits as JSON. The children die with this process.
    """
    control = socket.socket(fileno=int(sys.argv[1]))
    limits = MediaLimits(**json.loads(sys.argv[2]))
    preload()
    network = leave_network()
    # The kernel buries dead children by itself; the worker watches them through pid descriptors.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.freeze()
    while control.recv(16):
        _fork(control, limits, network=network)


def _fork(control: socket.socket, limits: MediaLimits, *, network: bool) -> None:
    """One more child; its socket and its pid descriptor go to the worker."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server = os.getpid()
    pid = os.fork()
    if pid == 0:
        control.close()
        ours.close()
        die_with(server)
        try:
            serve(theirs, limits, network=network)
        finally:
            os._exit(0)
    theirs.close()
    pidfd = os.pidfd_open(pid)
    socket.send_fds(control, [str(pid).encode()], [ours.fileno(), pidfd])
    os.close(pidfd)
    ours.close()


if __name__ == "__main__":
    main()
