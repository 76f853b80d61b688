"""Names of groups: short, telling, the same whatever the seeds."""

from typing import Any

from run_folders import model
from vsae_lightning.comparison.settings import printable, settings_of, short_names


def config(spec: dict[str, Any], **data: Any) -> dict[str, Any]:
    return {
        "seed_everything": 1,
        "trainer": {"max_steps": 10},
        "model": spec,
        "data": {"class_path": "vsae_lightning.ActivationDataModule", "init_args": {"seed": 2, **data}},
    }


def names(*configs: dict[str, Any]) -> list[tuple[str, str]]:
    return short_names([settings_of(one, None)[0] for one in configs])


def test_settings_are_without_seeds_and_what_is_incidental() -> None:
    settings, seeds = settings_of(config(model(k=8, seed=3, torch_compile=True), cache_dir="x", batch_size=4), None)
    assert seeds == (1, 3, 2)
    assert settings["class"] == "SAE"
    assert settings["sparsifier"] == "TopK"
    assert settings["sparsifier.k"] == 8
    assert settings["data.batch_size"] == 4
    assert settings["trainer.max_steps"] == 10
    assert not {"seed", "data.seed", "torch_compile", "data.cache_dir"} & set(settings)


def test_classes_that_differ_need_no_more_than_sigma_and_k() -> None:
    found = names(config(model("SAE", 32)), config(model("VSAE", 32, sigma=0.25, kl_weight=0.1)))
    assert [name for name, _ in found] == ["SAE k=32", "VSAE sigma=0.25 k=32"]
    assert [family for _, family in found] == ["SAE k=32", "VSAE sigma=0.25 k=32"]  # no other k to join


def test_k_alone_makes_a_family() -> None:
    found = names(*(config(model(k=k, aux_weight=a)) for k, a in ((16, 0.0), (32, 0.0), (32, 0.5))))
    assert found == [
        ("SAE aux_weight=0 k=16", "SAE aux_weight=0"),
        ("SAE aux_weight=0 k=32", "SAE aux_weight=0"),
        ("SAE aux_weight=0.5 k=32", "SAE aux_weight=0.5 k=32"),
    ]


def test_many_differences_are_cut_to_those_that_tell_apart() -> None:
    one, two = model(a=1, b=1, c=1), model(a=2, b=2, c=2)
    assert [name for name, _ in names(config(one), config(two))] == ["SAE a=1 k=8", "SAE a=2 k=8"]


def test_an_ambiguous_last_part_is_told_with_its_place() -> None:
    found = names(config(model(), name="x/one", nested={"name": 1}), config(model(), name="two", nested={"name": 1}))
    assert [name for name, _ in found] == ["SAE data.name=one k=8", "SAE data.name=two k=8"]


def test_a_name_stays_on_its_line() -> None:
    assert printable("a\nb\x1b[31mc") == "a?b?[31mc"
