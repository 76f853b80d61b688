"""The command `vsae`: finds the subcommand, and turns bad input into one line and exit status 2.

Nothing heavy is imported before it is known what to do, so that help and mistakes answer at once.
"""

import os
import sys
from pathlib import Path
from typing import NoReturn

from vsae_lightning.errors import InputError, did_you_mean

COMMANDS = {
    "fit": "train an autoencoder: vsae fit --config configs/quickstart.yaml",
    "validate": "quick held-out metrics of a run: vsae validate RUN",
    "test": "held-out metrics of a run on all held-out text, as JSON: vsae test RUN",
    "predict": "write the latents of a split to disk: vsae predict RUN",
}
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
        "  vsae fit --model.help VSAE         the options of a class",
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
    try:
        _run(arguments[0], arguments[1:])
    except InputError as error:
        fail(str(error))


def fail(message: str) -> NoReturn:
    """One line on standard error, exit status 2."""
    print(f"vsae: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def _run(command: str, options: list[str]) -> None:
    if command not in COMMANDS:
        raise InputError(
            f"unknown command {command!r}; commands: {', '.join(COMMANDS)}.{did_you_mean(command, COMMANDS)}"
        )
    if options and not options[0].startswith("-"):
        try:
            options = [*_options_of_run(command, options[0]), *options[1:]]
        except OSError as error:
            raise InputError(f"RUN: {options[0][:100]!r} cannot be read: {error.strerror}.") from None
    if "--model.help" in options and "--model" in options:  # jsonargparse wants the class behind .help
        options = ["--model.help", *options[options.index("--model") + 1 :][:1]]
    from vsae_lightning.config_files import read_configs

    read_configs(options)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    from vsae_lightning.training import run

    run(command, options)


def _options_of_run(command: str, run: str) -> list[str]:
    """The config and the checkpoint of a run folder, or of a checkpoint in one."""
    if command == "fit":
        raise InputError(f"fit takes no RUN, but {run!r} was given; use --config, and --ckpt_path to resume.")
    folder = _last_run() if run == "last" else Path(run)
    checkpoint = folder / "checkpoints" / "last.ckpt"
    if folder.is_file():
        checkpoint, folder = folder, folder.resolve().parent.parent
        if not (folder / "config.yaml").is_file():
            raise InputError(f"RUN: {run!r} is a file in no run folder; give a run folder, or a checkpoint in one.")
    config = folder / "config.yaml"
    if config.exists() and not checkpoint.exists():
        raise InputError(f"RUN: {str(folder)!r} has no checkpoint yet; see --checkpoint.every_n_steps.")
    for path in (folder, config, checkpoint):
        if not path.exists():
            raise InputError(f"RUN: {str(path)!r} does not exist; give a run folder such as lightning_logs/version_0.")
    from vsae_lightning.trust import require_trusted_run

    require_trusted_run(config)
    return ["--config", str(config), "--ckpt_path", str(checkpoint)]


def _last_run() -> Path:
    """The newest run under lightning_logs."""
    runs = sorted(Path("lightning_logs").glob("*/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime)
    if not runs:
        raise InputError("RUN: there is no run in lightning_logs yet; vsae fit makes one.")
    return runs[-1].parents[1]
