"""Run a command that cannot outlive its parent: `tether.py PARENT_PID COMMAND…`.

It is a program of its own, since running Python between fork and exec is not safe in a process with threads. The
kernel keeps the wish across exec. It watches the parent's *thread*, so only the main thread may start children.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask the kernel to kill us when our parent dies, then become the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:  # it died before we could ask
        sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
