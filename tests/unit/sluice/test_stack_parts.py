"""What a stack holds: its folder, its port, its broker."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from service.errors import ConfigurationError
from sluice.launcher import listening, valkey
from sluice.launcher.child import Child, Program
from sluice.launcher.data_dir import DataDir
from sluice.launcher.database import settings_from
from sluice.launcher.options import ModelOptions, StackOptions
from sluice.launcher.stack import Stack


def test_a_data_directory_belongs_to_one_stack(tmp_path: Path) -> None:
    first = DataDir(tmp_path / "data")
    first.hold()
    first.announce("http://127.0.0.1:1234")

    with pytest.raises(
        ConfigurationError, match=r"in use by another sluice \(process \d+, http://127.0.0.1:1234\)"
    ):
        DataDir(tmp_path / "data").hold()

    first.release()
    second = DataDir(tmp_path / "data")
    second.hold()
    second.release()


def test_a_running_stack_is_found_and_a_stopped_one_is_not(tmp_path: Path) -> None:
    assert DataDir(tmp_path).running() is None
    stack = DataDir(tmp_path)
    stack.hold()
    stack.announce("http://127.0.0.1:1234")

    found = DataDir(tmp_path).running()

    assert found is not None
    assert (found.pid, found.url) == (os.getpid(), "http://127.0.0.1:1234")
    stack.release()
    assert DataDir(tmp_path).running() is None


def test_the_sockets_of_a_killed_stack_are_swept_by_the_next(tmp_path: Path) -> None:
    killed = DataDir(tmp_path)
    killed.hold()
    sockets = killed.socket_dir()
    killed.announce("http://127.0.0.1:1234")
    assert sockets.stat().st_mode & 0o777 == 0o700
    assert killed._lock is not None
    killed._lock.close()  # what the kernel does when the process dies

    following = DataDir(tmp_path)
    following.hold()

    assert not sockets.exists()
    following.release()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_data_directory_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)

    with pytest.raises(ConfigurationError, match="cannot be written"):
        DataDir(tmp_path / "data").hold()


def test_a_port_in_use_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "PATIENCE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(ConfigurationError) as refused:
            listening.listen("127.0.0.1", port)

    assert refused.value.message == f"Cannot listen on 127.0.0.1:{port}: address already in use."


def test_clients_that_come_before_the_server_wait_in_the_queue() -> None:
    listener = listening.listen("127.0.0.1", 0)

    with socket.create_connection(("127.0.0.1", listener.port), timeout=5):
        pass

    listener.close()


def test_valkey_answers_on_its_private_socket_and_keeps_nothing_on_disk(tmp_path: Path) -> None:
    server = valkey.find_server()
    assert server is not None
    data_dir = DataDir(tmp_path)
    data_dir.hold()
    unix_socket = data_dir.socket_dir() / "valkey.sock"
    process = subprocess.Popen(valkey.server_argv(server, unix_socket), stdout=subprocess.DEVNULL)
    try:
        valkey.wait_until_it_answers(unix_socket)
        assert valkey.answers(unix_socket)
    finally:
        process.terminate()
        process.wait(10)
    assert not valkey.answers(unix_socket)
    assert list(unix_socket.parent.glob("*.rdb")) == []
    data_dir.release()
    assert not unix_socket.parent.exists()


def test_a_private_stack_ignores_what_the_shell_is_connected_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://elsewhere/production")

    private = settings_from(StackOptions(tmp_path).environment("unix:///x.sock"))
    shared = settings_from(StackOptions(tmp_path, private=False).environment(None))

    assert private.database_url == f"sqlite:///{tmp_path / 'sluice.db'}"
    assert private.redis_url == "unix:///x.sock"
    assert shared.database_url == "postgresql://elsewhere/production"


def test_options_reach_the_children_as_settings(tmp_path: Path) -> None:
    options = StackOptions(
        tmp_path, allow_files=(tmp_path,), model=ModelOptions("org/name", "seen-as", 0, "cpu")
    )

    settings = settings_from(options.environment(None))

    assert (settings.model, settings.model_name, settings.device) == ("org/name", "seen-as", "cpu")
    assert settings.quant_bits is None
    assert settings.allowed_roots == (tmp_path,)


def test_a_wrong_setting_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"wrong value: SLUICE_MAX_SLOTS\."):
        settings_from({"SLUICE_MAX_SLOTS": "many"})


def test_a_child_that_does_not_stop_is_killed_after_its_time(tmp_path: Path) -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    stack = Stack(StackOptions(tmp_path))
    stack.data_dir.hold()
    child = Child(
        Program("io", (sys.executable, "-c", deaf), os.environ, tmp_path, tmp_path / "logs" / "io.log")
    )
    stack._children["io"] = child
    child.start()
    assert child.process is not None
    while not child.program.log.read_text():
        time.sleep(0.02)
    process = child.process

    stack.stop(drain_seconds=0.2)

    assert process.returncode == -signal.SIGKILL
    assert stack.pids() == {}
    assert DataDir(tmp_path).running() is None
