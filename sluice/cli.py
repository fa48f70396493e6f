"""The command line: commands are loaded when they are called, and errors are one sentence and a next step.

Exit codes: 0 all went well · 1 some lines failed · 2 wrong usage or configuration · 130 stopped by Ctrl-C.
"""

import contextlib
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from importlib import import_module
from types import FrameType

import click

import sluice
from service.errors import SluiceError
from sluice.terminal import one_line

WRONG_USAGE = 2
STOPPED = 130

COMMANDS = (
    *("run", "serve", "submit", "status", "pause", "resume", "cancel", "retry", "results", "chat"),
    *("keys", "usage", "worker", "migrate"),
)


class LazyGroup(click.Group):
    """A group whose commands are modules of `sluice.commands`, each with an object named `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names in the order in which a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one command; None if there is none of this name."""
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"sluice.commands.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 all went well, 1 some lines failed, 2 wrong usage or configuration, 130 stopped by Ctrl-C.",
)
@click.version_option(sluice.__version__, prog_name="sluice")
def cli() -> None:
    """Turn piles of images, videos and audio into text, on your own machines, with nothing lost."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    signal.signal(signal.SIGTERM, _stop_as_ctrl_c_does)
    sys.exit(_exit_code(sys.argv[1:] if arguments is None else list(arguments)))


def _exit_code(arguments: list[str]) -> int:
    try:
        code = cli.main(arguments, prog_name="sluice", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "sluice"
        return _complain(error.format_message(), f"See: {command} --help")
    except click.ClickException as error:
        return _complain(error.format_message(), None)
    except SluiceError as error:
        return _complain(error.message, error.hint)
    except (KeyboardInterrupt, click.Abort):
        return STOPPED
    except BrokenPipeError:
        # Whoever read our output has enough; Python must not complain about that at exit.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        return _complain(f"Something in sluice itself went wrong ({type(error).__name__}).", _keep(error))


def _complain(message: str, next_step: str | None) -> int:
    sentence = message if message.endswith((".", "!", "?", "`")) else f"{message}."
    click.echo(one_line(f"sluice: {sentence} {next_step or ''}"), err=True)
    return WRONG_USAGE


def _keep(error: Exception) -> str:
    """Put the traceback where a report can take it from."""
    with tempfile.NamedTemporaryFile("w", prefix="sluice-error-", suffix=".txt", delete=False) as file:
        file.write("".join(traceback.format_exception(error)))
    return f"Please report it with {file.name}."


def _stop_as_ctrl_c_does(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
