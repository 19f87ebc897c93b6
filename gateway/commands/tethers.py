"""Runs a module as a program that ends when its parent does: `python -m gateway.commands.tethers MODULE [ARGUMENT ...]`.

The parent holds the other end of standard input. However it ends, also by SIGKILL, the system closes that end, and the
program here is told to stop. Works wherever there are pipes, unlike Linux's parent-death signal.
"""

import os
import runpy
import signal
import sys
import threading
from typing import Final

PATIENCE_SECONDS: Final = 10.0
"""For the program to end by itself after SIGTERM; then it is ended."""


def tether() -> None:
    """From now on the end of standard input is the end of this process."""
    threading.Thread(target=_watch, name="tether", daemon=True).start()


def _watch() -> None:
    while os.read(0, 1024):  # not sys.stdin: a thread that waits inside it breaks the interpreter's shutdown
        pass
    threading.Timer(PATIENCE_SECONDS, os._exit, [1]).start()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    tether()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
