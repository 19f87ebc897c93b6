"""The gateway as it is, but SIGUSR1 makes it say what it holds: `python -m tests.fleet.weighed serve --config …`.

What the kernel shows of a process (descriptors, resident memory) is coarse; this is exact, and asks the interpreter.
"""

import asyncio
import gc
import json
import signal
import sys
from collections import Counter
from contextlib import suppress
from types import FrameType


def weigh(_number: int, _frame: FrameType | None) -> None:
    """One line: tasks that have not ended, by what they run, and blocks of memory that are allocated."""
    gc.collect()
    tasks: Counter[str] = Counter()
    with suppress(RuntimeError):  # the loop doesn't run yet
        tasks.update(task.get_coro().__qualname__ for task in asyncio.all_tasks())  # type: ignore[union-attr]
    told = {"tasks": tasks, "blocks": sys.getallocatedblocks()}
    sys.__stdout__.write(f"weighed {json.dumps(told)}\n")  # type: ignore[union-attr]
    sys.__stdout__.flush()  # type: ignore[union-attr]


if __name__ == "__main__":
    from gateway.__main__ import main

    signal.signal(signal.SIGUSR1, weigh)
    sys.exit(main())
