"""The README.md of an export: what it is, how good, and how three libraries load it."""

from typing import Any

import yaml

from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.origin import Origin
from vsae_lightning.provenance import is_on_hub

LIBRARIES = {"saelens": "saelens", "dictionary_learning": "dictionary_learning", "safetensors": "vsae_lightning"}
OWN_LOADING = """\
import vsae_lightning as vl

ae = vl.load("FOLDER")"""
LOADING = {
    "saelens": """\
import sae_lens

sae = sae_lens.SAE.load_from_disk("FOLDER")""",
    "dictionary_learning": """\
from dictionary_learning.utils import load_dictionary

ae, config = load_dictionary("FOLDER", device="cpu")""",
}
# Within a word these are markup: a stranger's export chooses names. An underscore there is none.
MARKDOWN = str.maketrans({character: f"\\{character}" for character in "\\`*[]<>|~$&!"})
TITLES = {"saelens": "SAELens", "dictionary_learning": "dictionary_learning"}


def model_card(
    autoencoder: SparseAutoencoder, origin: Origin, written_as: str, repo: str | None = None, member: str | None = None
) -> str:
    """Markdown, with the front matter that the hub reads.

    Args:
        autoencoder: What was exported, as it was before the export.
        origin: What is known of it.
        written_as: The format of the folder that the card is for.
        repo: Where on the hub it goes, if there.
        member: Which member of an ensemble it was.
    """
    return (
        "\n\n".join(
            [
                f"---\n{yaml.safe_dump(_front_matter(origin, written_as), sort_keys=False)}---",
                f"# {_title(autoencoder, origin)}",
                _description(autoencoder, origin),
                _table("setting", _settings(autoencoder, origin) | _training(autoencoder, origin, member)),
                *(["## Metrics", _table("metric", _metrics(origin))] if _metrics(origin) else []),
                "## Loading",
                _loading(written_as, repo),
            ]
        )
        + "\n"
    )


def _front_matter(origin: Origin, written_as: str) -> dict[str, Any]:
    model = str(origin.provenance.get("model_name"))
    base = {"base_model": model} if is_on_hub(model) else {}
    tags = ("sparse-autoencoder", "mechanistic-interpretability", LIBRARIES[written_as], LIBRARIES["safetensors"])
    return {
        "library_name": LIBRARIES[written_as],
        "tags": list(dict.fromkeys(tags)),
        **base,
    }


def _title(autoencoder: SparseAutoencoder, origin: Origin) -> str:
    sparsifier, kind = _described(autoencoder, origin)
    where = origin.provenance.get("hook_name")
    of = f" of {origin.provenance.get('model_name')}, {where}" if where else ""
    return _cell(f"{sparsifier} {kind}{of}")


def _described(autoencoder: SparseAutoencoder, origin: Origin) -> tuple[str, str]:
    described = origin.autoencoder or autoencoder.config()
    arguments = described.get("init_args") or {}
    sparsifier = (arguments.get("sparsifier") or {}).get("class_name", "sparse")
    variational = described.get("class_name") == "VariationalAutoencoder"
    return str(sparsifier), "variational sparse autoencoder" if variational else "sparse autoencoder"


def _description(autoencoder: SparseAutoencoder, origin: Origin) -> str:
    kind = _described(autoencoder, origin)[1]
    text = (
        f"A {kind} of {autoencoder.d_sae:,} latents on activations of width {autoencoder.d_in:,}, trained with "
        "vsae_lightning. It takes raw activations: the scaling of training is folded into the weights."
    )
    if kind.startswith("variational"):
        text += " Latents are those of the posterior mean; what else the posterior has is in the metadata."
    return text


def _settings(autoencoder: SparseAutoencoder, origin: Origin) -> dict[str, Any]:
    described = origin.autoencoder or autoencoder.config()
    arguments = dict(described.get("init_args") or {})
    sparsifier = arguments.pop("sparsifier", None) or {}
    known = dict(origin.provenance)
    text = known.pop("text", None)
    named = {"text": text.get("class_path")} if isinstance(text, dict) else {}
    trainer = origin.training.get("trainer")
    steps = {"max_steps": trainer.get("max_steps")} if isinstance(trainer, dict) else {}
    chosen = {"sparsifier": sparsifier.get("class_name"), **(sparsifier.get("init_args") or {}), **arguments}
    return {name: value for name, value in {**known, **named, **chosen, **steps}.items() if value is not None}


def _training(autoencoder: SparseAutoencoder, origin: Origin, member: str | None) -> dict[str, Any]:
    """How long it was trained, and by which steps, as far as the configuration of the run says it."""
    batch = _at(origin.training, "data", "init_args", "batch_size")
    accumulated = _at(origin.training, "trainer", "accumulate_grad_batches") or 1
    steps = _at(origin.training, "trainer", "max_steps")
    tokens = origin.metrics.get("train/tokens")
    if tokens is None and all(type(value) is int for value in (steps, batch, accumulated)):
        tokens = steps * batch * accumulated
    if batch is None:
        return {}
    known = {"tokens trained": tokens, "batch size": batch, "learning rate": _rate(autoencoder, origin, member)}
    shown = {name: f"{value:,.0f}" if isinstance(value, int | float) else value for name, value in known.items()}
    return {name: value for name, value in shown.items() if value is not None}


def _rate(autoencoder: SparseAutoencoder, origin: Origin, member: str | None) -> str:
    """The learning rate before any schedule; that of `modules.optimizers` where the run chose no optimizer."""
    members = ("init_args", "members", member) if member is not None else ()
    optimizer = _at(origin.training, "model", *members, "init_args", "optimizer")
    if optimizer is None:
        return f"{2e-4 * (2**14 / autoencoder.d_sae) ** 0.5:.4g} (Adam, the default)"
    rate, kind = _at(optimizer, "init_args", "lr"), str(_at(optimizer, "class_path")).rpartition(".")[2]
    return f"{rate:g} ({kind})" if isinstance(rate, int | float) else f"the default of {kind}"


def _at(value: Any, *names: str) -> Any:
    """What lies below some names in nested settings; None where there is nothing."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _metrics(origin: Origin) -> dict[str, Any]:
    """Those of the test, or where there are none, of the validation."""
    for stage in ("test", "val"):
        found = {name: value for name, value in origin.metrics.items() if name.startswith(f"{stage}/")}
        if found:
            return {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in found.items()}
    return {}


def _table(what: str, rows: dict[str, Any]) -> str:
    lines = [f"| {_cell(name)} | {_cell(value)} |" for name, value in rows.items()]
    return "\n".join([f"| {what} | value |", "|---|---|", *lines])


def _cell(value: Any) -> str:
    """On one line, and nothing in it is read as markup."""
    return " ".join(str(value).split()).translate(MARKDOWN)


def _loading(written_as: str, repo: str | None) -> str:
    parts = [] if repo is None else [f"`hf download {repo} --local-dir FOLDER`, then:"]
    parts.append(f"With vsae_lightning:\n\n{_code(OWN_LOADING)}")
    for name, code in LOADING.items():
        after = "" if name == written_as else f", after `vsae export FOLDER OTHER --format {name}`"
        code = code if name == written_as else code.replace("FOLDER", "OTHER")
        parts.append(f"With {TITLES[name]}{after}:\n\n{_code(code)}")
    return "\n\n".join(parts)


def _code(text: str) -> str:
    return f"```python\n{text}\n```"
