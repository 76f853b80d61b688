"""vsae analyze: every feature of an autoencoder, and the map of them all, as one folder of static pages."""

from pathlib import Path

from vsae_lightning.analysis.contexts import Contexts
from vsae_lightning.analysis.excerpt import Excerpt
from vsae_lightning.analysis.maps import Maps
from vsae_lightning.analysis.observation import observe
from vsae_lightning.commands.progress import console_of_log, tracking
from vsae_lightning.commands.subjects import open_subject
from vsae_lightning.dashboard.map_files import write_maps
from vsae_lightning.dashboard.report import new_report
from vsae_lightning.evaluation.subject import Subject
from vsae_lightning.files import replacing_tree

FOLDER = "report"


def analyze(
    run: str,
    tokens: int = 500_000,
    member: str | None = None,
    output: str | None = None,
    device: str = "cpu",
    model_name: str | None = None,
    hook_name: str | None = None,
    cache_dir: str | None = None,
    contexts: Contexts = Contexts(),  # noqa: B008, frozen
    maps: Maps = Maps(),  # noqa: B008, frozen
) -> None:
    """Write a report of the features of an autoencoder: open its index.html in a browser.

    Args:
        run: A run folder, a checkpoint, an exported folder, or `last`.
        tokens: How many tokens to read: held-out ones first, then ones trained on.
        member: Which member of an ensemble.
        output: Where the report goes; None: `report` in the run's folder, of a member `report/MEMBER`.
        device: Where to compute.
        model_name: The language model, where it is not found under the name that the training knew it by.
        hook_name: The hook, where an exported folder does not say it.
        cache_dir: Where token stores are kept; None: as in training.
        contexts: Which contexts of a feature are shown.
        maps: Which maps are drawn.
    """
    subject = open_subject(run, member, device, model_name=model_name, hook_name=hook_name, cache_dir=cache_dir)
    folder = Path(output) if output else default_folder(subject, member)
    excerpt = Excerpt.of(subject, tokens)
    with tracking("analyze", console_of_log()) as track, replacing_tree(folder) as temporary:
        (observation,) = observe([subject], excerpt, track)
        write = new_report(temporary)
        drawn = write_maps(write, observation, maps, track)
        write("manifest", {"name": subject.name, "d_sae": len(observation.density), "has": drawn._asdict()})
    print(f"report: {folder / 'index.html'}")


def default_folder(subject: Subject, member: str | None) -> Path:
    """In the folder of the run."""
    return subject.folder / FOLDER / member if member else subject.folder / FOLDER
