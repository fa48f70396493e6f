"""The fork server's side of a pool: a copy of this process for each message on the control socket."""

import gc
import os
import signal
import socket
from collections.abc import Callable

from workers.media.confine import die_with


def fork_children(control: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    """Fork until the worker lets go of the control socket. The children die with this process."""
    # The kernel buries dead children by itself; the worker watches them through pid descriptors.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.freeze()
    while control.recv(16):
        _fork(control, serve)


def _fork(control: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    """One more child; its socket and its pid descriptor go to the worker."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server = os.getpid()
    pid = os.fork()
    if pid == 0:
        control.close()
        ours.close()
        die_with(server)
        try:
            serve(theirs)
        finally:
            os._exit(0)
    theirs.close()
    pidfd = os.pidfd_open(pid)
    socket.send_fds(control, [str(pid).encode()], [ours.fileno(), pidfd])
    os.close(pidfd)
    ours.close()
