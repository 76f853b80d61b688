"""vsae analyze: every feature of an autoencoder, and the map of them all, as one folder of static pages."""

from pathlib import Path

from vsae_lightning.analysis.contexts import Contexts
from vsae_lightning.analysis.excerpt import Excerpt
from vsae_lightning.analysis.features import describe
from vsae_lightning.analysis.maps import Maps
from vsae_lightning.analysis.matching import Comparison, compare
from vsae_lightning.analysis.observation import observe
from vsae_lightning.analysis.predicates import f1_column, mean_f1, predicates
from vsae_lightning.analysis.training_usage import TrainingUsage
from vsae_lightning.commands.options import command_line
from vsae_lightning.commands.progress import console_of_log, tracking
from vsae_lightning.commands.subjects import open_subject, path_of
from vsae_lightning.dashboard.comparison_files import write_comparison
from vsae_lightning.dashboard.feature_files import write_features
from vsae_lightning.dashboard.map_files import write_maps
from vsae_lightning.dashboard.overview import manifest, overview
from vsae_lightning.dashboard.report import new_report
from vsae_lightning.dashboard.selection import selected
from vsae_lightning.dashboard.vocabulary import vocabulary
from vsae_lightning.errors import InputError
from vsae_lightning.evaluation.subject import Subject
from vsae_lightning.files import replacing_tree
from vsae_lightning.runs import place_of

FOLDER = "report"


def analyze(
    run: str,
    tokens: int = 500_000,
    features: str | None = None,
    member: str | None = None,
    output: str | None = None,
    device: str = "cpu",
    model_name: str | None = None,
    hook_name: str | None = None,
    cache_dir: str | None = None,
    against: str | None = None,
    comparison: Comparison = Comparison(),  # noqa: B008, frozen
    contexts: Contexts = Contexts(),  # noqa: B008
    maps: Maps = Maps(),  # noqa: B008
) -> None:
    """Write a report of the features of an autoencoder: open its index.html in a browser.

    Args:
        run: A run folder, a checkpoint, an exported folder, or `last`.
        tokens: How many tokens to read: held-out ones first, then ones trained on.
        features: Those that have pages of their own, as 0-99,512; None: all. The table and the map are of all.
        member: Which member of an ensemble.
        output: Where the report goes; None: `report` in the run's folder, of a member `report/MEMBER`.
        device: Where to compute.
        model_name: The language model, where it is not found under the name that the training knew it by.
        hook_name: The hook, where an exported folder does not say it.
        cache_dir: Where token stores are kept; None: as in training.
        against: Another run, or RUN:MEMBER of an ensemble, to compare with: of the same model and hook.
        comparison: How.
        contexts: Which contexts of a feature are shown.
        maps: Which maps are drawn.
    """
    command = command_line(analyze, "analyze", locals())
    changes = {"model_name": model_name, "hook_name": hook_name, "cache_dir": cache_dir}
    subject = open_subject(run, member, device, **changes)
    others = [_open_other(against, device, **changes)] if against else []
    folder = Path(output) if output else default_folder(subject, member)
    only = selected(features, subject.autoencoder.d_sae)
    excerpt = Excerpt.of(subject, tokens)
    with tracking("analyze", console_of_log()) as track, replacing_tree(folder) as temporary:
        observation, *observed = observe([subject, *others], excerpt, track)
        write = new_report(temporary)
        drawn = write_maps(write, observation, maps, track)
        texts = vocabulary(subject.model.tokenizer)
        write("vocabulary", {"tokens": texts})
        found = predicates(observation.firings, excerpt, texts, track)
        usage = TrainingUsage.of(path_of(run), member)
        extra = [*(usage.columns() if usage else []), f1_column(found)]
        write_features(write, describe(observation, track, extra), contexts, track, only, found)
        for other in observed:
            theirs = predicates(other.firings, excerpt, texts, track)
            f1_scores = f1_column(found).values, f1_column(theirs).values
            write_comparison(write, compare(observation, other, comparison), f1_scores)
        write("overview", overview(observation, path_of(run), member, usage, mean_f1(found), command))
        write("manifest", manifest(observation, only, **drawn._asdict(), compare=bool(observed)))
    print(f"report: {folder / 'index.html'}")


def default_folder(subject: Subject, member: str | None) -> Path:
    """In the folder of the run."""
    return subject.folder / FOLDER / member if member else subject.folder / FOLDER


def _open_other(against: str, device: str, **changes: str | None) -> Subject:
    place, member = place_of(against)
    try:
        return open_subject(str(place), member, device, **changes)
    except InputError as error:
        raise InputError(f"against is {against!r}: {error}") from None
