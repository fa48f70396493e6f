"""The embedded stack: broker, web process, io worker and engine worker, as children of this process."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from service.contract.tickets import IO_QUEUE, engine_queues
from service.errors import ConfigurationError
from sluice.launcher import listening, programs, valkey
from sluice.launcher.child import Child, Program
from sluice.launcher.data_dir import DataDir
from sluice.launcher.options import StackOptions

WORKER_ROLES = ("io", "engine")
DRAIN_SECONDS = 25.0
TICK_SECONDS = 0.1
# A broker or web process that keeps dying while we start is not going to come up.
MOST_DEATHS_AT_START = 3


class Stack:
    """Start with `start()`, call `tend()` now and then from the main thread, end with `stop()`."""

    def __init__(self, options: StackOptions) -> None:
        self.options = options
        self.data_dir = DataDir(options.data_dir)
        self._children: dict[str, Child] = {}
        self._listener: listening.Listener | None = None
        self._is_settled = False
        self._on_worker_death: Callable[[str, str], None] = lambda role, cause: None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where the web process answers."""
        assert self._listener is not None
        return self._listener.url

    def start(self) -> None:
        """Take the data directory, start every process, and return before they are ready.

        ConfigurationError: the folder or the port is taken, the database is too new, a key is missing.
        """
        from sluice.launcher.database import lose_workers, prepare

        self.data_dir.hold()
        self._listener = listening.listen(self.options.host, self.options.port)
        self.data_dir.announce(self.url)
        environment = self.options.environment(self._start_broker())
        settings = prepare(environment, host=self.options.host)
        # Whoever worked here before us died with its stack; the lock that we hold proves it.
        lose_workers(settings, None, "its stack was killed")
        self._on_worker_death = partial(lose_workers, settings)
        self._start("api", programs.api_argv(f"fd://{self._listener.fileno}"), environment)
        if self.options.with_workers:
            self._start_worker("io", IO_QUEUE, environment)
            self._start_worker("engine", engine_queues(settings.model_names), environment)

    def wait_until(self, is_ready: Callable[[], bool]) -> None:
        """Tend the stack until `is_ready` says so; ConfigurationError if a child cannot start."""
        while not is_ready():
            self.tend()
            time.sleep(TICK_SECONDS)
        self._is_settled = True

    def tend(self) -> None:
        """Bring back children that died. Must be called from the main thread."""
        for child in self._children.values():
            if child.reap():
                self._mourn(child)
            if child.is_due:
                child.start()

    def stop(self, drain_seconds: float = DRAIN_SECONDS) -> None:
        """Let the workers finish what they hold, then end everything. A Ctrl-C meanwhile ends it at once."""
        try:
            for names in (("engine", "io"), ("api",), ("valkey",)):
                self._stop_together(names, drain_seconds)
        finally:
            self.kill()

    def kill(self) -> None:
        """End every child now and give the data directory back."""
        for child in self._children.values():
            child.kill()
        self._children.clear()
        if self._listener is not None:
            self._listener.close()
        self.data_dir.release()

    def pids(self) -> dict[str, int]:
        """The running children by name."""
        return {name: child.process.pid for name, child in self._children.items() if child.process}

    def _start(self, name: str, argv: tuple[str, ...], environment: dict[str, str]) -> None:
        assert self._listener is not None
        program = Program(
            name=name,
            argv=argv,
            environment=environment,
            directory=self.data_dir.path,
            log=self.data_dir.logs / f"{name}.log",
            pass_fds=(self._listener.fileno,) if name == "api" else (),
        )
        self._children[name] = child = Child(program)
        child.start()

    def _start_worker(self, role: str, queue: str, environment: dict[str, str]) -> None:
        self._start(role, programs.worker_argv(role, queue), {**environment, "SLUICE_ROLE": role})

    def _start_broker(self) -> str | None:
        environment = self.options.environment(None)
        if "REDIS_URL" in environment or (server := valkey.find_server()) is None:
            return environment.get("REDIS_URL")
        unix_socket = self.data_dir.socket_dir() / "valkey.sock"
        self._start("valkey", valkey.server_argv(server, unix_socket), environment)
        valkey.wait_until_it_answers(unix_socket)
        return f"unix://{unix_socket}"

    def _mourn(self, child: Child) -> None:
        if not self._is_settled:
            self._give_up_if_hopeless(child)
        if child.program.name in WORKER_ROLES:
            self._on_worker_death(child.program.name, f"its process ended with code {child.exit_code}")

    def _give_up_if_hopeless(self, child: Child) -> None:
        """A child that ends with an error before the stack was ever ready would only do so again."""
        signal_number = -(child.exit_code or 0)
        if signal_number > 0 and child.num_deaths < MOST_DEATHS_AT_START:
            return
        why = child.last_words() or f"it ended with code {child.exit_code}"
        if signal_number > 0:
            why = f"it was killed by signal {signal_number} again and again, perhaps for want of memory"
        raise ConfigurationError(
            f"The {child.program.name} process could not start: {why.rstrip('.')}.",
            hint=f"Its log is {_shown(child.program.log)}.",
        )

    def _stop_together(self, names: tuple[str, ...], seconds: float) -> None:
        children = [self._children[name] for name in names if name in self._children]
        for child in children:
            child.ask_to_stop()
        deadline = time.monotonic() + seconds
        for child in children:
            if not child.wait(deadline - time.monotonic()):
                child.kill()


def _shown(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
