"""The command lines of the stack's processes."""

import sys


def _python_module(module: str) -> tuple[str, ...]:
    # -P: a folder named `workers` or `service` where the user stands must not shadow ours.
    return (sys.executable, "-P", "-m", module)


def api_argv(bind: str) -> tuple[str, ...]:
    """gunicorn with the web app. bind: `host:port`, or `fd://N` for an inherited socket."""
    options = (
        "--config=python:service.gunicorn_config",
        f"--bind={bind}",
        "--log-level=warning",
        "--no-control-socket",
    )
    return (*_python_module("gunicorn"), *options, "service.wsgi:app")


def worker_argv(role: str, queue: str, *, num_threads: int = 2) -> tuple[str, ...]:
    """A Celery worker of one role. Threads, since prefork would hide the device from the engine's bootstep."""
    return (
        *_python_module("celery"),
        "--app=workers.celery_app",
        "worker",
        "--pool=threads",
        f"--concurrency={num_threads}",
        f"--queues={queue}",
        f"--hostname={role}@%h",
        "--loglevel=INFO",
        "--without-gossip",
        "--without-mingle",
        "--without-heartbeat",
    )
