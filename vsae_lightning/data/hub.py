"""Names that may live on the Hugging Face hub: checked before anything waits for a network."""

from pathlib import Path

from vsae_lightning.errors import InputError

PROBE_SECONDS = 3.0


def require_available(name: str, option: str, kind: str) -> None:
    """Raise `InputError` at once when a hub name is neither cached nor reachable.

    Without a network, huggingface_hub retries for some twenty seconds and then fails with a traceback.
    A name found in the cache while the hub is out of reach is read from the cache.
    """
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        raise InputError(f"{option}: {name!r} is neither a local path nor a hub name like owner/name.") from None
    cached = _is_cached(name, kind)
    if constants.HF_HUB_OFFLINE:
        if not cached:
            raise _out_of_reach(option, name, kind, "HF_HUB_OFFLINE forbids the hub")
        return
    try:
        huggingface_hub.utils.get_session().head(constants.ENDPOINT, timeout=PROBE_SECONDS)
    except Exception:  # any failure of the transport, whose classes differ between hub versions
        if not cached:
            raise _out_of_reach(option, name, kind, f"{constants.ENDPOINT} cannot be reached") from None
        _stay_offline(kind)


def _out_of_reach(option: str, name: str, kind: str, why: str) -> InputError:
    return InputError(
        f"{option}: there is no folder {name!r} here, and a {kind} of the hub cannot be read: it is not in the cache, "
        f"and {why}. {_advice(kind)}"
    )


def _stay_offline(kind: str) -> None:
    from huggingface_hub import constants

    constants.HF_HUB_OFFLINE = True
    if kind == "dataset":  # datasets keeps a copy of its own
        import datasets

        datasets.config.HF_HUB_OFFLINE = True


def _is_cached(name: str, kind: str) -> bool:
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type=kind)
    return (folder / "snapshots").is_dir()


def _advice(kind: str) -> str:
    local = {"model": 'a local model folder or "bundled"', "dataset": "a local folder, TextFiles or BundledText"}[kind]
    return f"Download it on a machine with a network, or give {local}."
