"""Going on with a run: which one `--ckpt_path last` means, and that it is the run of this configuration."""

from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from vsae_lightning.autoencoders.storage import describe_checkpoint, require_parts
from vsae_lightning.errors import InputError, did_you_mean
from vsae_lightning.runs import CHECKPOINT, LOGS, newest_of

# Options of the data that decide which activations there are; others decide which rows a step has, and never change.
CHANGEABLE = (
    "model_name",
    "hook_name",
    "text",
    "context_length",
    "prepend_bos",
    "max_tokens",
    "dtype",
    "scale_to",
    "center",
)


class Resumption:
    """What a checkpoint says of the run that goes on from it.

    Attributes:
        checkpoint: Its content, without tensors that are sharded.
        folder: Of the run; None for a checkpoint that is in none.
    """

    def __init__(self, path: Path, trains: bool) -> None:
        self.checkpoint = describe_checkpoint(path)
        require_parts(path, self.checkpoint, trains)
        run = path.absolute().parents[1]
        self.folder = run if (run / "config.yaml").is_file() else None

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return int(self.checkpoint["global_step"])

    def tell_of_schedule(self, max_steps: int, chosen: Any) -> None:
        """Say so where a longer run lays its schedule anew, so that a rate that had fallen rises again.

        Args:
            max_steps: Of the run that goes on.
            chosen: `total_steps` of the schedule, where the user gave it: the schedule then stays as it was.
        """
        states = [state for one in self.checkpoint["lr_schedulers"] for state in one.get("schedules", [one])]
        ended = [
            state for state in states if state.get("decay_fraction") and 0 < (state.get("total_steps") or 0) < max_steps
        ]
        if not ended or chosen is not None:
            return
        total, rate = ended[0]["total_steps"], float((ended[0].get("_last_lr") or [0.0])[0])
        rank_zero_info(
            f"note: the learning rate had fallen to {rate:.3g} by step {self.step}. The schedule of {total} steps is "
            f"laid anew over {max_steps}, so the rate rises again; --model.scheduler.total_steps {total} keeps it."
        )

    def refuse_other_width(self, d_in: int) -> None:
        """Raise `InputError` where activations of width `d_in` are not what the checkpoint was trained on."""
        if (trained := self.checkpoint["hyper_parameters"].get("d_in", d_in)) != d_in:
            raise InputError(f"the checkpoint has d_in {trained}, but the activations of this data have {d_in}.")

    def refuse_other_model(self, given: dict[str, Any], irrelevant: tuple[str, ...]) -> None:
        """Raise `InputError` where the model of the configuration is another than the checkpoint's.

        Lightning would silently keep the checkpoint's.

        Args:
            given: `class_path` and `init_args`.
            irrelevant: Options that may differ.
        """
        trained = self.checkpoint["hyper_parameters"]
        _refuse_difference("model.class_path", trained["_class_path"], given["class_path"], irrelevant)
        for name, value in given.get("init_args", {}).items():
            if name in trained and name not in irrelevant:
                _refuse_difference(f"model.init_args.{name}", trained[name], value, irrelevant)


class RunFinished(Exception):  # noqa: N818, it is no error
    """There is nothing left to do of the run in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        super().__init__(folder)


def last_run(trainer: Namespace, config: dict[str, Any]) -> Path | None:
    """The newest run with this seed, model and data, whether it has a checkpoint or not; None if there is none.

    Args:
        trainer: The options of the trainer, which say where runs are.
        config: The whole configuration, plain.
    """
    logger = trainer.logger
    loggers = logger if isinstance(logger, list) else [logger]
    options = [one.get("init_args") or {} for one in loggers if isinstance(one, Namespace)]
    own = next((found for found in options if found.get("save_dir") and found.get("name")), {})
    given = own.get("save_dir")
    root = Path(trainer.default_root_dir or ".") if given in (None, ".") else Path(given)
    return newest_of(root / (own.get("name") or LOGS.name), config)


def allowed_changes(allow: str) -> frozenset[str]:
    """The options of the data that `--resume.allow` names.

    Raises:
        InputError: There is no such option, or a change of it is not for a resumed run.
    """
    known = CHANGEABLE
    names = [name.strip().removeprefix("data.") for name in allow.split(",") if name.strip()]
    for name in names:
        if name not in known:
            options = ", ".join(f"data.{one}" for one in known)
            raise InputError(f"resume.allow: {name!r} is none of {options}.{did_you_mean(name, known)}")
    return frozenset(names)


def checkpoint_of(run: Path) -> Path | None:
    """The checkpoint of a run, if it has come so far."""
    return run / CHECKPOINT if (run / CHECKPOINT).exists() else None


def _refuse_difference(option: str, trained: Any, given: Any, irrelevant: tuple[str, ...]) -> None:
    if isinstance(given, Namespace):
        given = given.as_dict()
    given = list(given) if isinstance(given, tuple) else given
    if isinstance(trained, dict) and isinstance(given, dict):
        for key in (trained.keys() | given.keys()) - {*irrelevant}:
            _refuse_difference(f"{option}.{key}", trained.get(key), given.get(key), irrelevant)
    elif option.endswith(".class_path"):
        _refuse_difference(option.removesuffix(".class_path"), _name(trained), _name(given), irrelevant)
    elif trained != given:
        raise InputError(
            f"{option} is {given!r}, but the checkpoint has {trained!r}: leave it out, or drop --ckpt_path."
        )


def _name(class_path: str) -> str:
    """The class, by whichever module it was named."""
    return class_path.rsplit(".", 1)[-1]
