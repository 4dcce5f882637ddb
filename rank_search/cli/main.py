"""The entry point: the commands, signals, and the exit status."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import typer

from rank_search.cli.choose import choose
from rank_search.cli.doctor import doctor
from rank_search.cli.export import export
from rank_search.cli.init import init
from rank_search.cli.plan import plan
from rank_search.cli.report import report
from rank_search.cli.run import run
from rank_search.cli.schema import schema
from rank_search.cli.status import status
from rank_search.cli.verify import verify
from rank_search.core.errors import InputError, RankSearchError, printable

if TYPE_CHECKING:
    from types import FrameType

app = typer.Typer(
    help="Which LoRA rank does each layer of your model deserve?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for verb in (init, schema, run, plan, status, doctor, report, choose, export, verify):  # in the order of the help
    app.command()(verb)


def main() -> None:
    """Runs the command line. Exit status: 0 done, 2 the input is wrong, 1 it failed, 130 interrupted."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app()
    except RankSearchError as error:
        _fail(str(error), 2 if isinstance(error, InputError) else 1)
    except Exception as error:
        from rank_search.study.faults import out_of_service

        if (outage := out_of_service(error)) is not None:  # a full disk, a folder that may not be written
            _fail(str(outage), 1)
        if isinstance(error, OSError):
            _fail(str(error), 1)
        raise


def _fail(message: str, exit_status: int) -> None:
    print(f"rank_search: {printable(message)}", file=sys.stderr)
    sys.exit(exit_status)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
