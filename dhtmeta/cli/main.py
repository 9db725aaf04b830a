"""The command `dhtmeta`: its subcommands, and how an error becomes a message and an exit code."""

import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterable
from typing import NoReturn

import click

from dhtmeta import errors
from dhtmeta.cli import (
    bench,
    bulk,
    daemon,
    demo,
    discover,
    doctor,
    keys,
    publish,
    records,
    registry,
    signed,
    swarm,
)

FAILED, WRONG_USE, NOT_FOUND, CONFLICT, UNREACHABLE, INTERRUPTED = 1, 2, 3, 4, 5, 130


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 failed, 2 wrong use, 3 not found, 4 conflict, 5 no network.",
)
@click.version_option(package_name="dhtmeta")
def cli() -> None:
    """Signed, tamper-proof metadata on the BitTorrent mainline DHT (BEP 44).

    `dhtmeta demo` shows it on this machine, without any network.
    """


for command in (
    keys.keygen,
    publish.publish,
    records.query,
    records.watch,
    signed.sign,
    signed.put,
    bulk.republish,
    discover.discover,
    discover.peers,
    discover.connect,
    daemon.daemon,
    registry.registry,
    swarm.swarm,
    demo.demo,
    doctor.doctor,
    bench.bench,
):
    cli.add_command(command)


def main() -> NoReturn:
    """Run the command line and exit with its code; nobody is shown a traceback."""
    _settle_in()
    try:
        code = cli.main(prog_name="dhtmeta", standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except errors.DhtmetaError as error:
        click.echo(f"dhtmeta: {error}", err=True)
        sys.exit(exit_code(error))
    except BrokenPipeError:  # whoever read our output has seen enough
        _drop_output()
        sys.exit(FAILED)
    except OSError as error:  # ours are LocalErrors by now: this is about our own output
        _drop_output()
        click.echo(f"dhtmeta: cannot write the answer: {error.strerror}", err=True)
        sys.exit(FAILED)
    except Exception as error:  # noqa: BLE001 - a bug of ours is a message, too
        _report_bug(error)
        sys.exit(FAILED)
    sys.exit(code if isinstance(code, int) else 0)


def _settle_in() -> None:
    """Open what a daemon or cron left closed, and say on stderr only what is meant for people."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    logging.basicConfig(level="WARNING", format="dhtmeta: %(message)s", stream=sys.stderr)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    threading.excepthook = lambda failed: logging.getLogger("dhtmeta").debug(
        "a thread ended: %s", failed.exc_value
    )


def _drop_output() -> None:
    """Send what is still buffered to nowhere, or Python would fail on it once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def exit_code(error: errors.DhtmetaError) -> int:
    """Return the exit code that stands for `error`."""
    match error:
        case errors.CallerError():
            return WRONG_USE
        case errors.NotFound():
            return NOT_FOUND
        case errors.Conflict():
            return CONFLICT
        case errors.NetworkUnreachable():
            return UNREACHABLE
        case _:
            return FAILED


def shared_exit_code(several: Iterable[errors.DhtmetaError]) -> int:
    """Return the exit code that all of `several` have; FAILED where they differ, 0 for none."""
    codes = {exit_code(error) for error in several} or {0}
    return codes.pop() if len(codes) == 1 else FAILED


def _report_bug(error: Exception) -> None:
    click.echo(
        f"dhtmeta: a bug of ours, sorry: {type(error).__name__}: {error}\n"
        f"Please report it with what DHTMETA_TRACEBACK=1 shows.",
        err=True,
    )
    if os.environ.get("DHTMETA_TRACEBACK"):
        logging.exception("the traceback", exc_info=error)
