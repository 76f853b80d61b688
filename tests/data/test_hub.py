import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from vsae_lightning.data import hub
from vsae_lightning.data.hub import require_available
from vsae_lightning.data.language_model import LanguageModel
from vsae_lightning.data.text import HuggingFaceText
from vsae_lightning.errors import InputError

KINDS = {"model": 'a local model folder or "bundled"', "dataset": "a local folder, TextFiles or BundledText"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a hub at a port where nothing listens."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    return tmp_path / "hub"


class Hub:
    """A hub that answers, once it may, and keeps the methods it was asked with."""

    def __init__(self) -> None:
        self.methods: list[str] = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                hub.methods.append(self.command)
                hub.may_answer.wait(2)
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002, the name it is called by
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)


@pytest.fixture
def reachable_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    answering = Hub()
    threading.Thread(target=answering.server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{answering.server.server_port}")
    yield answering
    answering.may_answer.set()
    answering.server.shutdown()
    answering.server.server_close()


def fill_cache(cache: Path, kind: str, name: str, source: Path) -> None:
    folder = cache / f"{kind}s--{name.replace('/', '--')}"
    shutil.copytree(source, folder / "snapshots" / ("a" * 40))
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("a" * 40)


def error_of(call: Callable[[], object]) -> str:
    with pytest.raises(InputError) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_out_of_reach_is_an_error_that_says_what_to_do(kind: str) -> None:
    message = error_of(lambda: require_available("owner/name", "some.option", kind))
    assert message.startswith("some.option: there is no folder 'owner/name' here, and a")
    assert "http://127.0.0.1:9 cannot be reached" in message
    assert f"Download it on a machine with a network, or give {KINDS[kind]}." in message
    assert constants.HF_HUB_OFFLINE is False


@pytest.mark.parametrize("kind", KINDS)
def test_a_cached_name_is_read_from_the_cache_where_the_hub_is_out_of_reach(
    cache: Path, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "files").mkdir()
    fill_cache(cache, kind, "owner/name", tmp_path / "files")
    require_available("owner/name", "some.option", kind)
    # Otherwise every file of it would be asked for over the network, with retries.
    assert constants.HF_HUB_OFFLINE is True


@pytest.mark.parametrize("cached", [("dataset", "owner/name"), ("model", "owner/other"), ("model", "other/name")])
def test_only_the_very_name_and_kind_count_as_cached(cache: Path, tmp_path: Path, cached: tuple[str, str]) -> None:
    (tmp_path / "files").mkdir()
    fill_cache(cache, *cached, tmp_path / "files")
    assert "not in the cache" in error_of(lambda: require_available("owner/name", "some.option", "model"))


def test_a_download_that_never_began_does_not_count_as_cached(cache: Path) -> None:
    (cache / "models--owner--name" / "refs").mkdir(parents=True)
    assert "not in the cache" in error_of(lambda: require_available("owner/name", "some.option", "model"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_the_hub_may_know_passes(reachable_hub: Hub, kind: str) -> None:
    require_available("owner/name", "some.option", kind)
    assert reachable_hub.methods == ["HEAD"]
    assert constants.HF_HUB_OFFLINE is False


def test_a_hub_that_is_slow_to_answer_is_out_of_reach(reachable_hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "PROBE_SECONDS", 0.1)
    reachable_hub.may_answer.clear()
    assert "cannot be reached" in error_of(lambda: require_available("owner/name", "some.option", "model"))


def test_offline_asks_nothing_and_needs_the_cache(
    cache: Path, tmp_path: Path, reachable_hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    message = error_of(lambda: require_available("owner/name", "some.option", "model"))
    assert "some.option: there is no folder 'owner/name' here" in message
    assert "not in the cache, and HF_HUB_OFFLINE forbids the hub" in message
    assert KINDS["model"] in message
    (tmp_path / "files").mkdir()
    fill_cache(cache, "model", "owner/name", tmp_path / "files")
    require_available("owner/name", "some.option", "model")
    assert reachable_hub.methods == []


@pytest.mark.parametrize(
    "name", ["", "./folder", "../folder", "a/b/c", "/absolute", "has space", "owner/", "a--b", "x" * 97]
)
def test_what_can_be_no_hub_name_is_not_looked_for(reachable_hub: Hub, name: str) -> None:
    message = error_of(lambda: require_available(name, "some.option", "model"))
    assert f"some.option: {name!r} is neither a local path nor a hub name like owner/name" in message
    assert reachable_hub.methods == []


def test_a_model_out_of_reach_is_an_error_of_its_option() -> None:
    message = error_of(lambda: LanguageModel("EleutherAI/pythia-70m-deduped", "blocks.3.hook_resid_post"))
    assert message.startswith("model_name: there is no folder 'EleutherAI/pythia-70m-deduped' here")
    assert '"bundled"' in message


def test_a_dataset_out_of_reach_is_an_error_of_its_option() -> None:
    message = error_of(lambda: list(HuggingFaceText("monology/pile-uncopyrighted").documents()))
    assert message.startswith("text.init_args.path: there is no folder 'monology/pile-uncopyrighted' here")
    assert "TextFiles" in message


def test_a_cached_model_runs_where_the_hub_is_out_of_reach(cache: Path, tiny_model: Path) -> None:
    fill_cache(cache, "model", "owner/tiny", tiny_model)
    tokens = torch.arange(12).reshape(2, 6)
    cached, local = (LanguageModel(name, "blocks.1.hook_resid_post") for name in ("owner/tiny", str(tiny_model)))
    for model in (cached, local):
        model.load("cpu")
    assert torch.equal(cached.activations(tokens), local.activations(tokens))
    assert cached.tokenizer.get_vocab() == local.tokenizer.get_vocab()
