"""Several workers: gunicorn starts, watches and replaces processes, each of which runs what `servers` runs.

Nothing of a request is in the parent. Every worker accepts from the listening sockets that the parent made, the operators'
port included: whoever answers there tells of all, since metrics are shared, and a worker that hangs doesn't take the
port with it.
"""

import logging
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any, Final

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger
from uvicorn_worker import UvicornWorker

from gateway.downstream.servers import (
    GRACE_SECONDS,
    Application,
    Plan,
    Server,
    explain_hangup,
    heed_hangup,
    serve,
    tune,
)

HANG_SECONDS: Final = 60
"""A worker whose event loop didn't turn for so long is killed and replaced."""


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
            "graceful_timeout": GRACE_SECONDS + 5,  # uvicorn's own patience ends first
            "control_socket_disable": True,
            "child_exit": _forget_worker,
            "worker_tmp_dir": str(memory) if os.access(memory, os.W_OK) else None,
        }.items():
            self.cfg.set(name, value)

    def load(self) -> Application:
        return self._plan.create()

    def run(self) -> None:
        _Arbiter(self).run()


class _Arbiter(Arbiter):  # type: ignore[misc]
    """gunicorn's parent process, with signals that mean the same as with one worker."""

    def handle_int(self) -> None:
        raise StopIteration  # as SIGTERM: wait for what is under way. A second one doesn't wait.

    def handle_hup(self) -> None:
        if heed_hangup():
            explain_hangup()
        else:
            self.handle_term()


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

            def end_at_once(_number: int, _frame: Any) -> None:
                server.should_exit = server.force_exit = True

            # The parent tells workers when to end. SIGINT from a terminal goes to all at once, and is the parent's.
            on_signals: dict[int, Any] = {
                signal.SIGTERM: None,
                signal.SIGINT: signal.SIG_IGN,
                signal.SIGQUIT: end_at_once,
            }
            server = Server(self.config, self.wsgi.drain, on_signals, parent=self.ppid)
            listeners = [wrapped.sock for wrapped in self.sockets]  # gunicorn's own class closes them twice
            await serve(server, self.wsgi, listeners[:main_count], listeners[main_count:])
            if not server.started:
                sys.exit(Arbiter.WORKER_BOOT_ERROR)

    return Worker


def _forget_worker(_arbiter: Any, worker: Any) -> None:
    """A dead worker's gauges go with it; what it counted stays."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
