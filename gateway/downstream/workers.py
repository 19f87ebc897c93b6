"""Several workers: gunicorn starts, watches and replaces processes, each of which runs what `servers` runs.

Nothing of a request is in the parent. Every worker accepts from the listening sockets that the parent made, the operators'
port included: whoever answers there tells of all, since metrics are shared, and a worker that hangs doesn't take the
port with it.
"""

import logging
import os
import queue
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any, Final

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger
from gunicorn.sock import close_sockets
from uvicorn_worker import UvicornWorker

from gateway.downstream.drains import FAREWELL_SECONDS, SHUTDOWN_SECONDS, Server
from gateway.downstream.servers import Application, Plan, explain_hangup, heed_hangup, serve, tune
from gateway.policy.drains import Drain

HANG_SECONDS: Final = 60
"""A worker whose event loop didn't turn for so long is killed and replaced."""

HURRY_SECONDS: Final = 3.0
"""For workers to end that were told twice: twice `FAREWELL_SECONDS`, and a little. Beyond it they are killed."""

END_AT_ONCE: Final = signal.SIGQUIT
"""What the parent sends its workers where the operator asked a second time."""

END_WITHOUT_DELAY: Final = signal.SIGUSR2
"""What it sends them after Ctrl-C. SIGTERM means the same however often it comes: service managers send it to the parent
and to the workers, and the parent passes it on."""


def run_many(plan: Plan, workers: int, metrics_folder: Path) -> int:
    """Serves in so many processes until SIGTERM or SIGINT; the exit code. In a worker it ends with SystemExit.

    The metrics' folder, empty and exported by the caller, is removed at the end.
    """
    parent = os.getpid()
    try:
        _Fleet(plan, workers).run()  # ends by SystemExit, in the parent as in each worker
    except SystemExit as ended:
        if os.getpid() != parent:
            raise
        return int(ended.code or 0)
    finally:
        if os.getpid() == parent:
            shutil.rmtree(metrics_folder, ignore_errors=True)
    return 0


class _Fleet(BaseApplication):  # type: ignore[misc]
    """gunicorn, told by arguments alone: neither its command line, nor its files, nor its variables have a say."""

    def __init__(self, plan: Plan, workers: int) -> None:
        self._plan = plan
        self._workers = workers
        # gunicorn takes sockets by number, and closes what it was given.
        self._binds = [f"fd://{listener.detach()}" for listener in (*plan.listeners, *plan.admin_listeners)]
        super().__init__()

    def load_config(self) -> None:
        memory = Path("/dev/shm")  # noqa: S108  # heartbeats are files, and a disk may make them wait
        for name, value in {
            "bind": self._binds,
            "workers": self._workers,
            "worker_class": _worker_class(self._plan),
            "logger_class": _GunicornLog,
            "timeout": HANG_SECONDS,
            "control_socket_disable": True,
            "child_exit": _forget_worker,
            "worker_tmp_dir": str(memory) if os.access(memory, os.W_OK) else None,
        }.items():
            self.cfg.set(name, value)

    def load(self) -> Application:
        return self._plan.create()

    def run(self) -> None:
        _Arbiter(self, self._plan.drain).run()


class _Arbiter(Arbiter):  # type: ignore[misc]
    """gunicorn's parent process, with signals that mean the same as with one worker."""

    def __init__(self, app: BaseApplication, drain: Drain) -> None:
        self._drain = drain
        self._first_word: int = signal.SIGTERM
        self._hurried_by: int | None = None
        self.LISTENERS: list[Any]
        super().__init__(app)

    def handle_int(self) -> None:
        self._first_word = END_WITHOUT_DELAY
        raise StopIteration

    def handle_hup(self) -> None:
        if heed_hangup():
            explain_hangup()
        else:
            self.handle_int()

    def stop(self, graceful: bool = True) -> None:
        """Ends the workers as gunicorn does, but a second signal of any kind ends the wait."""
        close_sockets(self.LISTENERS, unlink=False)  # the workers have them, and accept for as long as they should
        self.LISTENERS = []
        self.kill_workers(self._first_word if graceful else END_AT_ONCE)
        until = time.monotonic() + self._drain.delay_seconds + self._drain.grace_seconds
        until += FAREWELL_SECONDS + SHUTDOWN_SECONDS + HURRY_SECONDS
        while self.WORKERS and time.monotonic() < until:
            if (number := self._next_signal()) in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
                self._hurried_by = number
                self.kill_workers(END_AT_ONCE)
                until = min(until, time.monotonic() + HURRY_SECONDS)
            self.reap_workers()
        self.kill_workers(signal.SIGKILL)
        self.reap_workers()

    def _next_signal(self) -> int | None:
        try:
            return int(self.SIG_QUEUE.get(timeout=0.1))
        except queue.Empty:
            return None

    def halt(self, reason: str | None = None, exit_status: int = 0) -> None:
        try:
            super().halt(reason, exit_status)
        except SystemExit as ended:
            if self._hurried_by is not None and not ended.code:
                raise SystemExit(128 + self._hurried_by) from None
            raise


class _GunicornLog(Logger):  # type: ignore[misc]
    """What gunicorn has to say goes where everything goes."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


def _worker_class(plan: Plan) -> type[UvicornWorker]:
    """The class of this plan's workers: gunicorn makes them itself, and can't be told more than a class."""
    main_count = len(plan.listeners)

    class Worker(UvicornWorker):  # type: ignore[misc]
        CONFIG_KWARGS = tune(plan.protocol)

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            for name in ("uvicorn.error", "uvicorn.access"):
                logging.getLogger(name).handlers = []
            logging.getLogger("uvicorn.error").propagate = True

        async def _serve(self) -> None:
            self.config.app = self.wsgi

            # The parent tells workers when to end. SIGINT from a terminal goes to all at once, and is the parent's.
            on_signals: dict[int, Any] = {
                signal.SIGTERM: lambda *_: server.begin_end(plan.drain.delay_seconds),
                signal.SIGINT: signal.SIG_IGN,
                END_WITHOUT_DELAY: lambda *_: server.begin_end(0.0),
                END_AT_ONCE: lambda number, frame: server.hurry(number, frame),
            }
            server: Server = Server(self.config, self.wsgi, plan.drain, on_signals, parent=self.ppid)
            listeners = [wrapped.sock for wrapped in self.sockets]  # gunicorn's own class closes them twice
            await serve(server, self.wsgi, listeners[:main_count], listeners[main_count:])
            if not server.started:
                sys.exit(Arbiter.WORKER_BOOT_ERROR)

    return Worker


def _forget_worker(_arbiter: Any, worker: Any) -> None:
    """A dead worker's gauges go with it; what it counted stays."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
