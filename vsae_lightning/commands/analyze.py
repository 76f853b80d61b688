"""vsae analyze: every feature of an autoencoder, and the map of them all, as one folder of static pages."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vsae_lightning import __version__
from vsae_lightning.analysis.contexts import Contexts
from vsae_lightning.analysis.excerpt import Excerpt
from vsae_lightning.analysis.maps import Maps
from vsae_lightning.analysis.matching import Comparison
from vsae_lightning.analysis.observation import observe
from vsae_lightning.commands.options import command_line
from vsae_lightning.commands.progress import console_of_log, tracking
from vsae_lightning.commands.subjects import open_subject, path_of
from vsae_lightning.dashboard.report import (
    Analysed,
    Shown,
    default_folder,
    key_of_report,
    replacing_report,
    write_report,
)
from vsae_lightning.dashboard.selection import selected
from vsae_lightning.errors import InputError
from vsae_lightning.evaluation.results import weights_digest
from vsae_lightning.evaluation.subject import Subject
from vsae_lightning.explanation.report_scores import score_report
from vsae_lightning.explanation.settings import Scoring
from vsae_lightning.interop.public import public_place, public_value
from vsae_lightning.runs import place_of


def analyze(
    run: str,
    tokens: int = 500_000,
    features: str | None = None,
    member: str | None = None,
    against: str | None = None,
    score: bool = False,
    output: str | None = None,
    force: bool = False,
    device: str = "auto",
    model_name: str | None = None,
    hook_name: str | None = None,
    cache_dir: str | None = None,
    trust: str | None = None,
    trust_text: bool = False,
    contexts: Contexts = Contexts(),  # noqa: B008, frozen
    maps: Maps = Maps(),  # noqa: B008
    comparison: Comparison = Comparison(),  # noqa: B008
    scoring: Scoring = Scoring(),  # noqa: B008
) -> None:
    """Write a report of the features of an autoencoder: open its index.html in a browser.

    What is there already for its weights and these settings is not computed again.

    Args:
        run: A run folder, a checkpoint, an exported folder, or `last`.
        tokens: How many tokens to read: held-out ones first, then ones trained on.
        features: Those that have pages of their own, as 0-99,512; None: all. The table and the map are of all.
        member: Which member of an ensemble.
        against: Another run, or RUN:MEMBER of an ensemble, to compare with: of the same model and hook.
        score: Have a language model explain and score features, as `scoring` says.
        output: Where the report goes, in place of another report only; None: `report` in the run's folder, of a
            member `report/MEMBER`.
        force: Compute anew what is there already.
        device: Where to compute: cpu, cuda, cuda:1, mps; auto is the GPU where there is one.
        model_name: The language model, where it is not found under the name that the training knew it by.
        hook_name: The hook, where an exported folder does not say it.
        cache_dir: Where token stores are kept; None: ~/.cache/vsae_lightning/tokens.
        trust: Packages of yours whose classes RUN may name, separated by commas: their code runs.
        trust_text: Read any text that RUN names: other local files than those of its training, and any address.
        contexts: Which contexts of a feature are shown.
        maps: Which maps are drawn.
        comparison: How two runs are compared.
        scoring: Which features are explained and scored, and by which language model.
    """
    if score:
        scoring.endpoint()  # what is missing is told before the text is read
    # Scores are added to a report, and a key must not be in one.
    of_report = {**locals(), "score": False, "scoring": Scoring(), "force": False}
    changes: dict[str, Any] = {"model_name": model_name, "hook_name": hook_name, "cache_dir": cache_dir}
    subject = open_subject(run, member, device, trust, trust_text, **changes)
    places, subjects = [(path_of(run), member)], [subject]
    if against:
        (place, its), other = _open_other(against, device, trust, **changes)
        places.append((place, its))
        subjects.append(other)
        of_report["against"] = (
            f"{public_place(place)}:{its}" if its else public_place(place)
        )  # `last` is another one later
    command = command_line(analyze, "analyze", of_report | _published(path_of(run), output, model_name))
    folder = Path(output).resolve() if output else default_folder(subject.folder, member)
    shown = Shown(selected(features, subject.autoencoder.d_sae), contexts, maps, comparison)
    key = _key(subjects, tokens, shown)
    console = console_of_log()
    if not force and key_of_report(folder) == key:
        print(f"done before: {folder / 'index.html'}")
    else:
        with tracking("analyze", console) as track, replacing_report(folder) as temporary:
            observed = observe(subjects, Excerpt.of(subject, tokens), track)
            mine, *others = (Analysed(*place, observation) for place, observation in zip(places, observed, strict=True))
            write_report(temporary, mine, others[0] if others else None, shown, command, key, track)
        print(f"report: {folder / 'index.html'}")
    if score:
        score_report(folder, scoring, console)


def _published(run: Path, output: str | None, model_name: str | None) -> dict[str, str | None]:
    """The arguments that can be of this machine, as the report tells them."""
    return {
        "run": public_place(run),
        "output": output and public_place(Path(output)),
        "model_name": public_value(model_name, "model_name"),
        "cache_dir": None,
    }


def _key(subjects: list[Subject], tokens: int, shown: Shown) -> str:
    """A hash of what decides a report."""
    decides: list[Any] = [__version__, tokens, asdict(shown)]
    decides += [
        [subject.name, weights_digest(subject.autoencoder), subject.provenance.options()] for subject in subjects
    ]
    return hashlib.sha256(json.dumps([*decides, subjects[0].tokens.key], default=str).encode()).hexdigest()


def _open_other(
    against: str, device: str, trust: str | None, **changes: Any
) -> tuple[tuple[Path, str | None], Subject]:
    """Where it is and which member, and the autoencoder."""
    try:
        place, member = place_of(against)
        return (place, member), open_subject(str(place), member, device, trust, **changes)  # its text is not read
    except InputError as error:
        raise InputError(f"against is {against!r}: {error}") from None
