"""Folders of language models that a stranger made: nothing of them is executed, waited for, or grows without bounds."""

import base64
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, normalizers

from vsae_lightning.data.language_model import LanguageModel
from vsae_lightning.data.text import TextFiles
from vsae_lightning.data.tokenizer_limits import require_modest
from vsae_lightning.data.tokens import TokenStore
from vsae_lightning.errors import InputError

HOOK = "blocks.1.hook_resid_post"
Spoil = Callable[[Path], Any]
# A package that counts as installed, and leaves a marker when a kernel is asked of it.
KERNELS = """
def __getattr__(name):
    class Anything:
        def __init__(self, *_, **__): pass
        def __call__(self, *_, **__): return lambda given: given
        def __class_getitem__(cls, _): return cls
        ALL = INFERENCE = TRAINING = None
    if name.startswith("__"):
        raise AttributeError(name)
    if name.startswith("use_kernel"):
        return lambda *_, **__: lambda given: given
    return Anything
def get_kernel(*names, **_):
    from pathlib import Path
    Path("executed").write_text(str(names))
    raise RuntimeError("no kernel")
"""
LOAD = """
import sys
from vsae_lightning.data.language_model import LanguageModel
model = LanguageModel(sys.argv[1], "blocks.1.hook_resid_post")
model.require_weights()
model.tokenizer
model.load("cpu")
print(tuple(model.activations(__import__("torch").tensor([[1, 2, 3]])).shape))
"""


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of a good model."""
    return Path(shutil.copytree(tiny_model, tmp_path / "lm"))


def use(folder: Path) -> None:
    """Everything of a model that is read before text is: as `vsae fit` does."""
    model = LanguageModel(str(folder), HOOK)
    model.require_weights()
    assert model.tokenizer("the fox")["input_ids"]
    model.load("cpu")


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        use(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit(name: str, **changes: Any) -> Spoil:
    def spoil(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return spoil


def config(**changes: Any) -> Spoil:
    return edit("config.json", **changes)


# ------------------------------------------------------------------- kernels


@pytest.fixture
def kernels(tmp_path: Path) -> Path:
    """The folder of the stand-in."""
    package = tmp_path / "site"
    (package / "kernels").mkdir(parents=True)
    (package / "kernels" / "__init__.py").write_text(KERNELS)
    (package / "kernels-0.18.5.dist-info").mkdir()
    (package / "kernels-0.18.5.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: kernels\nVersion: 0.18.5\n"
    )
    return package


def load_beside(kernels: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(kernels), str(Path(__file__).parents[2])])
    return subprocess.run(
        [sys.executable, "-c", LOAD, str(folder)],
        env={**os.environ, "PYTHONPATH": paths, "HF_HUB_OFFLINE": "1"},
        cwd=kernels.parent,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_kernel_that_a_config_names_is_not_loaded(kernels: Path, folder: Path, tmp_path: Path) -> None:
    config(_attn_implementation="kernels-community/flash-attn")(folder)
    done = load_beside(kernels, folder)
    assert "its _attn_implementation is 'kernels-community/flash-attn', which would load a kernel" in done.stderr
    assert not (tmp_path / "executed").exists()


def test_a_kernel_in_place_of_flash_attention_is_not_loaded(kernels: Path, folder: Path, tmp_path: Path) -> None:
    """A name that old models have; transformers takes a kernel of the hub where the package is missing."""
    config(attn_implementation="flash_attention_2")(folder)
    done = load_beside(kernels, folder)
    assert done.stdout.strip().endswith("(1, 3, 32)"), done.stderr
    assert not (tmp_path / "executed").exists()


CONFIGS = {
    "attention": ({"attn_implementation": "owner/kernel"}, "its attn_implementation is 'owner/kernel'"),
    "with a revision": ({"attn_implementation": "owner/kernel@main:f"}, "'owner/kernel@main:f'"),
    "paged": ({"_attn_implementation": "paged|owner/kernel"}, "'paged|owner/kernel'"),
    "internal": ({"_attn_implementation_internal": "owner/kernel"}, "its _attn_implementation_internal"),
    "one per part": ({"attn_implementation": {"": "sdpa", "text_config": "o/k"}}, "its attn_implementation is 'o/k'"),
    "no text": ({"attn_implementation": [1]}, "its attn_implementation is [1]"),
    "nested": ({"text_config": {"attn_implementation": "owner/kernel"}}, "its attn_implementation is 'owner/kernel'"),
    "in a list": ({"parts": [{"a": [{"_attn_implementation": "owner/kernel"}]}]}, "its _attn_implementation"),
    "experts": ({"experts_implementation": "sonicmoe"}, "its experts_implementation is 'sonicmoe'"),
    "use_kernels": ({"use_kernels": True}, "its use_kernels is True"),
    "kernel_config": ({"kernel_config": {"kernel_mapping": {"RMSNorm": "owner/kernel"}}}, "its kernel_config is"),
    "fusions": ({"fusion_config": {"patch": True}}, "its fusion_config is"),
    "other weights": ({"transformers_weights": "other.safetensors"}, "its transformers_weights is"),
    "mxfp4": ({"quantization_config": {"quant_method": "mxfp4"}}, "its quantization_config is for 'mxfp4'"),
    "fp8": ({"quantization_config": {"quant_method": "fp8"}}, "save the model unquantized"),
    "quantized by any means": ({"quantization_config": {"quant_method": 7}}, "its quantization_config is for 7"),
    "a million layers": ({"num_hidden_layers": 1_000_000}, "its num_hidden_layers is 1000000"),
}


@pytest.mark.parametrize(("changes", "expected"), CONFIGS.values(), ids=CONFIGS)
def test_a_config_that_asks_for_code_is_refused(folder: Path, changes: dict[str, Any], expected: str) -> None:
    config(**changes)(folder)
    assert expected in refusal(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"_attn_implementation": "eager", "_attn_implementation_autoset": True},
        {"attn_implementation": "flash_attention_2", "experts_implementation": None},
        {"use_kernels": False, "quantization_config": None},
        {"auto_map": {"AutoModelForCausalLM": "modeling_stranger.Model"}},
    ],
)
def test_a_config_of_plain_names_is_used(
    folder: Path, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question on the terminal"))
    (folder / "modeling_stranger.py").write_text("raise SystemExit('executed')")
    config(**changes)(folder)
    use(folder)


# --------------------------------------------------------------------- files


@pytest.mark.parametrize(
    "name",
    [
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
        "special_tokens_map.json",
        "chat_template.jinja",
    ],
)
def test_a_pipe_or_device_in_a_folder_is_refused(folder: Path, name: str) -> None:
    """A pipe would be waited for, a device read for ever."""
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    assert f"{name}' is a pipe or a device" in refusal(folder)
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")
    assert f"{name}' is a pipe or a device" in refusal(folder)


def test_a_config_that_is_a_pipe_is_refused(folder: Path) -> None:
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    assert "without config.json" in refusal(folder)


def test_a_folder_of_links_to_files_is_used(folder: Path, tmp_path: Path) -> None:
    """As the cache of the hub is; a link to nothing does no harm."""
    links = tmp_path / "links"
    links.mkdir()
    for path in folder.iterdir():
        (links / path.name).symlink_to(path)
    (links / "README.md").symlink_to(tmp_path / "nothing")
    use(links)


@pytest.mark.parametrize(("name", "size"), [("config.json", 10**7 + 1), ("tokenizer.json", 2 * 10**8 + 1)])
def test_a_huge_file_is_refused(folder: Path, name: str, size: int) -> None:
    os.truncate(folder / name, size)
    assert "more than the" in refusal(folder)


@pytest.mark.parametrize("name", ["adapter_config.json", "shard-00000-model-00001-of-00001.safetensors"])
def test_weights_that_are_not_looked_at_are_refused(folder: Path, name: str) -> None:
    (folder / name).write_text("{}")
    assert "adapter; merge it" in refusal(folder) or "distributed checkpoint" in refusal(folder)


def test_masks_of_gigabytes_are_refused(folder: Path) -> None:
    """GPT-Neo makes a mask of positions by positions in every layer, which no weights on the disk stand for."""
    from transformers import GPTNeoConfig, GPTNeoForCausalLM

    small = GPTNeoConfig(
        hidden_size=8,
        num_layers=2,
        num_heads=1,
        attention_types=[[["global"], 2]],
        max_position_embeddings=64,
        vocab_size=300,
    )
    GPTNeoForCausalLM(small).save_pretrained(folder)
    use(folder)
    config(max_position_embeddings=40_000)(folder)
    assert "masks of 3,200,000,000 bytes; lower max_position_embeddings" in refusal(folder)


# ---------------------------------------------------------------- tokenizers


def replace(pattern: str, content: str, kind: str = "String") -> dict[str, Any]:
    return {"type": "Replace", "pattern": {kind: pattern}, "content": content}


def sequence(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "normalizers": list(steps)}


MEGABYTE = "x" * 2**20
BOMBS: dict[str, dict[str, Any]] = {
    "a space to a megabyte": {"normalizer": replace(" ", MEGABYTE)},
    "nothing to a megabyte": {"normalizer": replace("", MEGABYTE, "Regex")},
    "thirty doublings": {"normalizer": sequence(*[replace("a", "aa")] * 30)},
    "nested doublings": {"normalizer": sequence(*[sequence(replace("a", "aaa"), replace("a", "aaa"))] * 3)},
    "seven insertions": {"normalizer": sequence(*[replace("b*", "b", "Regex")] * 7)},
    "before every text": {"normalizer": {"type": "Prepend", "prepend": MEGABYTE}},
    "in a table": {
        "normalizer": {
            "type": "Precompiled",
            "precompiled_charsmap": base64.b64encode(bytes(4) + MEGABYTE.encode() + b"\0").decode(),
        }
    },
    "when it is decoded": {"decoder": {"type": "Sequence", "decoders": [replace("a", MEGABYTE)]}},
}


@pytest.mark.parametrize("changes", BOMBS.values(), ids=BOMBS)
def test_a_tokenizer_that_multiplies_text_is_refused(folder: Path, changes: dict[str, Any]) -> None:
    edit("tokenizer.json", **changes)(folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "times as long; 64 is the limit" in refusal(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB


def test_an_unknown_token_of_a_megabyte_is_refused(folder: Path) -> None:
    """It is copied for every character that is unknown."""
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    edit("tokenizer.json", model={**model, "unk_token": MEGABYTE})(folder)
    assert "the unk_token of tokenizer.json has more than 100 characters" in refusal(folder)


def test_a_tokenizer_that_panics_as_it_is_loaded_is_refused(folder: Path) -> None:
    edit("tokenizer.json", normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"})(folder)
    assert "its tokenizer.json is broken" in refusal(folder)


def test_an_id_without_an_embedding_is_harmless_till_a_text_has_it(folder: Path, tmp_path: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    last = max(content["model"]["vocab"], key=content["model"]["vocab"].get)
    content["model"]["vocab"][last] = 70_000
    (folder / "tokenizer.json").write_text(json.dumps(content))
    use(folder)
    model = LanguageModel(str(folder), HOOK)
    word = model.tokenizer.decode([70_000])
    for text, message in (("fox over " * 99, None), (word * 99, f"the token {last!r} (id 70000)")):
        (tmp_path / "text.txt").write_text(text)
        source = TextFiles(str(tmp_path / "text.txt"))
        prepare = partial(TokenStore.prepare, source, model.tokenizer, 8, cache_dir=tmp_path)
        if message is None:
            assert prepare(embeddings=model.embeddings).train.max() < 300
        else:
            with pytest.raises(InputError, match=re.escape(message)):
                prepare(embeddings=model.embeddings)


REAL = {
    "Llama": sequence({"type": "Prepend", "prepend": "▁"}, replace(" ", "▁")),
    "Gemma": replace(" ", "▁"),
    "ALBERT": sequence(
        replace("``", '"'),
        replace("''", '"'),
        {"type": "NFKD"},
        {"type": "StripAccents"},
        {"type": "Lowercase"},
        replace(" {2,}", "▁", "Regex"),
    ),
    "CLIP": sequence({"type": "NFC"}, replace("\\s+", " ", "Regex"), {"type": "Lowercase"}),
    "BERT": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "lowercase": True},
    "none": None,
}


@pytest.mark.parametrize("normalizer", REAL.values(), ids=REAL)
def test_normalizers_of_real_models_are_used(folder: Path, normalizer: Any) -> None:
    edit("tokenizer.json", normalizer=normalizer)(folder)
    use(folder)


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD", "Nmt", "Lowercase", "StripAccents", "ByteLevel"])
def test_a_form_of_unicode_is_modest(form: str) -> None:
    tokenizer = Tokenizer.from_str(
        (Path(__file__).parents[2] / "vsae_lightning/data/bundled/model/tokenizer.json").read_text()
    )
    tokenizer.normalizer = getattr(normalizers, form)()
    require_modest(json.loads(tokenizer.to_str()))
