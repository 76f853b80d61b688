"""The command `vsae`: finds the subcommand, and turns bad input into one line and exit status 2.

Nothing heavy is imported before it is known what to do, so that help and mistakes answer at once.
"""

import errno
import os
import signal
import sys
from contextlib import suppress
from importlib import import_module
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from vsae_lightning.errors import InputError, RunStopped, did_you_mean, printable, stop_signals
from vsae_lightning.output import outliving_its_reader

if TYPE_CHECKING:
    from vsae_lightning.runs import NamedRun

COMMANDS = {
    "tokenize": "make the token cache of a config ahead of a run: vsae tokenize --config ...",
    "fit": "train an autoencoder: vsae fit --config configs/quickstart.yaml",
    "validate": "quick held-out metrics of a run: vsae validate RUN",
    "test": "held-out metrics of a run on all held-out text, as JSON: vsae test RUN",
    "predict": "write the latents of a split to disk: vsae predict RUN",
    "evaluate": "the evaluations of the field, as tables and JSON: vsae evaluate RUN --suite core,probing",
    "analyze": "every feature and the map of them all, as pages for a browser: vsae analyze RUN",
    "compare": "one table and its plots of several runs: vsae compare RUN RUN",
    "export": "write an autoencoder for other libraries: vsae export RUN DIR --format saelens",
}
# Those that train nothing, each a function of its name in a file of its name, whose arguments are its options.
OF_A_RUN = ("validate", "test", "predict", "evaluate", "analyze", "compare", "export")
FUNCTIONS = ("evaluate", "analyze", "compare", "export")
HELP = "\n".join(
    [
        "usage: vsae COMMAND [RUN] [--config FILE.yaml ...] [--model... --data... --trainer...]",
        "",
        "Train, evaluate and compare sparse and variational sparse autoencoders on live activations.",
        "RUN is a run folder (lightning_logs/version_0), a checkpoint in one, or `last`, the newest run.",
        "",
        *(f"  {name:<10} {does}" for name, does in COMMANDS.items()),
        "",
        "  vsae fit --help                    all options of a command",
        "  vsae fit --model VSAE --model.help  the options of a class",
        "  vsae fit --config ... --print_config   the whole configuration, resolved",
        "  vsae --version",
    ]
)


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP)
        return
    if arguments[0] == "--version":
        from vsae_lightning import __version__

        print(f"vsae_lightning {__version__}")
        return
    handlers = {number: signal.signal(number, _end) for number in stop_signals()}
    with outliving_its_reader():
        try:
            _run_in_words(arguments)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _run_in_words(arguments: list[str]) -> None:
    """Run a command; what a user can mend ends in one line."""
    try:
        _run(arguments[0], arguments[1:])
    except InputError as error:
        fail(str(error))
    except RunStopped as stop:
        print(f"vsae: {stop}", file=sys.stderr)
        sys.exit(stop.status)
    except (ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError, ValueError) as error:
        if arguments[0] not in OF_A_RUN or os.environ.get("VSAE_TRACEBACK"):
            raise
        # A file of a stranger can be wrong in more ways than are foreseen; none of them is a traceback.
        fail(f"RUN cannot be used: {type(error).__name__}: {printable(str(error))} (VSAE_TRACEBACK=1 shows where)")
    except OSError as error:
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            fail(f"{str(error.filename or 'a file')!r} cannot be used: {error.strerror}; use a folder of yours.")
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = error.filename or "a file could not be written"
        fail(f"{error.strerror}: {where}; the earlier files are intact; a fit goes on with --ckpt_path last", 1)


def fail(message: str, status: int = 2) -> NoReturn:
    """One line on standard error, and the exit status: 2 for bad input."""
    print(f"vsae: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(status)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """End at once, as where no training is under way; what is half written is removed on the way."""
    with suppress(OSError):  # nobody reads it any more
        os.write(2, f"vsae: stopped by {signal.Signals(number).name}\n".encode())
    if signal.Signals(number).name == "SIGUSR1" and os.environ.get("SLURM_PROCID", "0") == "0":
        from vsae_lightning.slurm import requeue

        os.write(2, f"SLURM: {requeue()}\n".encode())
    sys.exit(128 + number)


def _run(command: str, options: list[str]) -> None:
    if command not in COMMANDS:
        raise InputError(
            f"unknown command {command!r}; commands: {', '.join(COMMANDS)}.{did_you_mean(command, COMMANDS)}"
        )
    if command in FUNCTIONS:
        from vsae_lightning.commands.options import call

        call(getattr(import_module(f"vsae_lightning.commands.{command}"), command), command, options)
        return
    named, options = _run_argument(command, options)
    if any(option.partition("=")[0].endswith(".help") for option in options):
        from vsae_lightning.class_help import class_help

        print(class_help(options))
        return
    from vsae_lightning.config_files import read_configs

    options = read_configs(options)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    from vsae_lightning.training import run

    run(command, options, named)


def _run_argument(command: str, options: list[str]) -> "tuple[NamedRun | None, list[str]]":
    """RUN with what the user trusts of it, and the options that are left."""
    from vsae_lightning.runs import named_run

    trust, trust_text, options = _trust(options)
    if options and not options[0].startswith("-"):
        if command in ("fit", "tokenize"):
            raise InputError(
                f"{command} takes no RUN, but {options[0]!r} was given; use --config, and --ckpt_path to resume."
            )
        return named_run(options[0], trust, trust_text), options[1:]
    if trust or trust_text:
        print(f"note: --trust and --trust_text are about RUN; {command} without RUN runs what its own options name")
    return None, options


def _trust(options: list[str]) -> tuple[list[str], bool, list[str]]:
    """The values of `--trust`, whether there is `--trust_text`, and the other options."""
    named, text, others = [], False, []
    waiting = iter(options)
    for option in waiting:
        if option == "--trust":
            named.append(next(waiting, ""))
        elif option.startswith("--trust="):
            named.append(option.partition("=")[2])
        elif option == "--trust_text":
            text = True
        else:
            others.append(option)
    return named, text, others
