"""The command lines of the stack's processes."""

import sys

API_THREADS = 32
API_GRACE_SECONDS = 25


def _python_module(module: str) -> tuple[str, ...]:
    # -P: a folder named `workers` or `service` where the user stands must not shadow ours.
    return (sys.executable, "-P", "-m", module)


def api_argv(bind: str) -> tuple[str, ...]:
    """gunicorn with the web app. bind: `host:port`, or `fd://N` for an inherited socket."""
    options = {
        "bind": bind,
        "workers": "1",
        "worker-class": "gthread",
        "threads": str(API_THREADS),
        "graceful-timeout": str(API_GRACE_SECONDS),
        "log-level": "warning",
    }
    flags = tuple(f"--{name}={value}" for name, value in options.items())
    return (*_python_module("gunicorn"), *flags, "--no-control-socket", "service.wsgi:app")


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
