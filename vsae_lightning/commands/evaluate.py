"""vsae evaluate: the evaluations of a run, each written when it is done, and their table."""

import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vsae_lightning.commands.progress import console_of_log, tracking
from vsae_lightning.commands.subjects import open_subject
from vsae_lightning.errors import InputError, did_you_mean, printable
from vsae_lightning.evaluation.absorption import Absorption
from vsae_lightning.evaluation.core import Core
from vsae_lightning.evaluation.evaluation import Evaluation
from vsae_lightning.evaluation.geometry import Geometry
from vsae_lightning.evaluation.meta_sae import MetaSAE
from vsae_lightning.evaluation.probing import Probing
from vsae_lightning.evaluation.removal import SCR, TPP
from vsae_lightning.evaluation.results import FOLDER, earlier, result_path, stored, write_result
from vsae_lightning.evaluation.robustness import Robustness
from vsae_lightning.evaluation.subject import Subject
from vsae_lightning.files import replacing, require_no_links, write_json

# Which file of interop/saebench runs SAEBench's own code of an evaluation.
IN_SAEBENCH = {
    "core": "core",
    "probing": "probing",
    "absorption": "absorption",
    "scr": "removal",
    "tpp": "removal",
    "meta": "meta",
}


def evaluate(
    run: str,
    suite: str = "core,probing,absorption,scr,tpp,meta,geometry,robustness",
    member: str | None = None,
    output: str | None = None,
    force: bool = False,
    by: Literal["native", "saebench"] = "native",
    device: str = "auto",
    model_name: str | None = None,
    hook_name: str | None = None,
    cache_dir: str | None = None,
    trust: str | None = None,
    trust_text: bool = False,
    core: Core = Core(),  # noqa: B008, frozen
    probing: Probing = Probing(),  # noqa: B008
    absorption: Absorption = Absorption(),  # noqa: B008
    scr: SCR = SCR(),  # noqa: B008
    tpp: TPP = TPP(),  # noqa: B008
    meta: MetaSAE = MetaSAE(),  # noqa: B008
    geometry: Geometry = Geometry(),  # noqa: B008
    robustness: Robustness = Robustness(),  # noqa: B008
) -> None:
    """Evaluate an autoencoder; what is there already for its weights and these settings is not computed again.

    Args:
        run: A run folder, a checkpoint, an exported folder, or `last`.
        suite: Names of evaluations, separated by commas.
        member: Which member of an ensemble.
        output: Where results go; None: `evaluation` in the run's folder.
        force: Compute anew what is there already.
        by: Whose code computes: ours, or SAEBench's own, in the environment that `make peers` builds.
        device: Where to compute: cpu, cuda, cuda:1, mps; auto is the GPU where there is one.
        model_name: The language model, where it is not found under the name that the training knew it by.
        hook_name: The hook, where an exported folder does not say it.
        cache_dir: Where token stores are kept; None: ~/.cache/vsae_lightning/tokens.
        trust: Packages of yours whose classes RUN may name, separated by commas: their code runs.
        trust_text: Read any text that RUN names: other local files than those of its training, and any address.
        core: Reconstruction, and the language model with it in place.
        probing: Sparse probing of labelled text.
        absorption: First-letter absorption.
        scr: Spurious correlation removal.
        tpp: Targeted probe perturbation.
        meta: A sparse autoencoder of the decoder.
        geometry: Directions of the dictionary.
        robustness: Noise on the input, and sampling.
    """
    known: dict[str, Evaluation] = {
        "core": core,
        "probing": probing,
        "absorption": absorption,
        "scr": scr,
        "tpp": tpp,
        "meta": meta,
        "geometry": geometry,
        "robustness": robustness,
    }
    chosen = {name: known[name] for name in _names(suite, known)}
    changes: dict[str, Any] = {"model_name": model_name, "hook_name": hook_name, "cache_dir": cache_dir}
    subject = open_subject(run, member, device, trust, trust_text, **changes)
    subject.provenance.language_model()  # its name and hook are judged before anything is computed
    folder = Path(output) if output else subject.folder / FOLDER
    if by == "saebench":
        _by_saebench(chosen, subject, folder / by)
        return
    console = console_of_log()
    results, refused = {}, {}
    for name, evaluation in chosen.items():
        path = result_path(folder, evaluation, subject.name)
        try:
            if not output:
                require_no_links(subject.folder, path.parent)
            result = None if force else stored(path, evaluation, subject)
            if result is None:
                result = _run(name, evaluation, subject, path, console)
            else:
                console.print(f"{name}: done before, {path}", highlight=False, soft_wrap=True, markup=False)
        except InputError as error:  # what one lacks is no reason not to run the others
            refused[name] = str(error)
            continue
        results[name] = result
    if results:
        before = {name: earlier(result_path(folder, known[name], subject.name), subject) for name in known}
        every = {name: results.get(name) or before[name] for name in known}
        _summarize(subject, {name: result for name, result in every.items() if result}, folder, console)
    _tell_of(refused)


def _by_saebench(chosen: dict[str, Evaluation], subject: Subject, folder: Path) -> None:
    """Run SAEBench's own code on the same subject with the same settings, anew each time."""
    if find_spec("sae_bench") is None:
        raise InputError("by is 'saebench', which is not installed here: make peers, then .venv-peers/bin/vsae.")
    refused = {name: "SAEBench has no such evaluation." for name in chosen if name not in IN_SAEBENCH}
    for name in [name for name in chosen if name in IN_SAEBENCH]:
        evaluation = chosen[name]
        run = import_module(f"vsae_lightning.interop.saebench.{IN_SAEBENCH[name]}").run
        place = (folder / evaluation.type_id).resolve()  # SAEBench changes the working folder
        place.mkdir(parents=True, exist_ok=True)
        try:
            run(subject, evaluation, place)
        except InputError as error:
            refused[name] = str(error)
    print(f"results: {folder}")
    _tell_of(refused)


def _tell_of(refused: dict[str, str]) -> None:
    """Raise `InputError` for what was not run."""
    if refused:
        raise InputError(" ".join(f"{name} was not run: {why}" for name, why in refused.items()))


def _names(suite: str, known: dict[str, Evaluation]) -> list[str]:
    names = list(dict.fromkeys(name.strip() for name in suite.split(",") if name.strip()))
    for name in names:
        if name not in known:
            raise InputError(f"suite: there is no {name!r}; known: {', '.join(known)}.{did_you_mean(name, known)}")
    if not names:
        raise InputError(f"suite is empty; known: {', '.join(known)}.")
    return names


def _run(name: str, evaluation: Evaluation, subject: Subject, path: Path, console: Console) -> dict[str, Any]:
    start = time.monotonic()
    with tracking(name, console) as track:
        scores = evaluation.scores(subject, track)
    seconds = time.monotonic() - start
    result = write_result(path, evaluation, subject, scores, seconds)
    console.print(f"{name}: {seconds:.0f} s, {path}", highlight=False, soft_wrap=True, markup=False)
    return result


def _summarize(subject: Subject, results: dict[str, Any], folder: Path, console: Console) -> None:
    """One table of these results and those from before, on the terminal and as JSON and Markdown."""
    rows = [
        (name, printable(metric, 100), value)
        for name, result in results.items()
        for metric, value in result["eval_result_unstructured"]["headline"].items()
    ]
    table = Table("evaluation", "metric", "value", title=Text(subject.name))
    for name, metric, value in rows:
        table.add_row(name, Text(metric), "-" if value is None else f"{value:.4f}")
    console.print(table)
    stem = f"{subject.name}_summary"
    headlines = {name: result["eval_result_unstructured"]["headline"] for name, result in results.items()}
    write_json(folder / f"{stem}.json", {"run": subject.name, **headlines})
    shown = [(name, metric.replace("|", r"\|"), value) for name, metric, value in rows]
    lines = [f"| {name} | {metric} | {'-' if value is None else f'{value:.4f}'} |" for name, metric, value in shown]
    with replacing(folder / f"{stem}.md") as temporary:
        header = ["| evaluation | metric | value |", "|---|---|---|"]
        temporary.write_text("\n".join([*header, *lines]) + "\n", encoding="utf-8")
    console.print(f"results: {folder}", highlight=False, soft_wrap=True, markup=False)
