"""Upload of an export to the Hugging Face hub."""

from pathlib import Path

from vsae_lightning.errors import InputError
from vsae_lightning.redaction import redacted_text


def require_ready(repo: str) -> None:
    """Refuse what would fail after the work is done: a name that is none, or no token.

    Raises:
        InputError: The name is not owner/name, or huggingface_hub knows no token.
    """
    import huggingface_hub
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(repo)
        has_owner = "/" in repo
    except HFValidationError:
        has_owner = False
    if not has_owner:
        raise InputError(f"push_to_hub: {repo!r} is no name on the hub; give owner/name.")
    if huggingface_hub.get_token() is None:
        raise InputError("push_to_hub: there is no token for the hub; set HF_TOKEN, or log in with `hf auth login`.")


def push(folder: Path, files: list[str], repo: str) -> str:
    """Upload files of a folder in one commit, into a repository that is made if there is none; gives its address.

    What is made is public, unless the settings of its owner on the hub say otherwise.

    Raises:
        InputError: The hub cannot be reached, or refuses.
    """
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        url = api.create_repo(repo, exist_ok=True)
        api.upload_folder(
            repo_id=url.repo_id, folder_path=folder, allow_patterns=files, commit_message="Export of vsae_lightning"
        )
    except Exception as error:  # of the hub, its transport or its token, whose classes differ between versions
        said = redacted_text(" ".join(str(error).split())[:300]) or type(error).__name__
        raise InputError(f"push_to_hub: {repo!r} was not uploaded ({said}); the export is whole in {folder}.") from None
    return str(url)
