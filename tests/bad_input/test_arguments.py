"""Bad arguments of the four commands, as tired users type them."""

from pathlib import Path

import pytest

from refusals import Refusal

COMMANDS = {
    "command with a typo": (
        ["tets"],
        "unknown command 'tets'; commands: tokenize, fit, validate, test, predict, evaluate, analyze, compare, "
        "export. Did you mean test",
    ),
    "command in capitals": (["FIT"], "unknown command 'FIT'"),
    "command of spaces": (["  "], "unknown command"),
    "option before the command": (["--config", "x.yaml", "fit"], "unknown command '--config'"),
    "run that is a file": (["test", "base.yaml"], "RUN: 'base.yaml' is a file in no run folder"),
    "run that does not exist": (["validate", "lightning_logs/version_7"], "'lightning_logs/version_7' does not exist"),
    "run with a NUL in its name": (["predict", "a\0b"], "does not exist"),
    "run with a very long name": (["predict", "a" * 5000], "File name too long"),
    "run that is empty": (["test", ""], "does not exist"),
    "two runs": (["test", "base.yaml", "other"], "RUN: 'base.yaml' is a file"),
    "last without a run": (["test", "last"], "there is no run in lightning_logs yet"),
    "no model and no data": (["fit"], "--data, --model is missing"),
    "evaluation of nothing": (["validate"], "is missing"),
}


@pytest.mark.parametrize(("arguments", "expected"), COMMANDS.values(), ids=COMMANDS)
def test_a_bad_command_is_refused(arguments: list[str], expected: str, base: list[str], refusal: Refusal) -> None:
    assert expected in refusal(arguments)


OPTIONS = {
    "unknown option": (["--trainer.mx_steps", "5"], "there is no option --trainer.mx_steps. Did you mean max_steps"),
    "unknown group": (["--trainr.max_steps", "5"], "there is no option --trainr.max_steps. Did you mean trainer"),
    "option without its value": (["--trainer.max_steps"], "max_steps"),
    "stray word": (["fast"], "fast"),
    "stray word after an option": (["--trainer.max_steps", "5", "6"], "6"),
    "option with one dash": (["-model.d_sae", "5"], "-model.d_sae"),
    "max_steps 0": (["--trainer.max_steps", "0"], "max_steps is 0"),
    "max_steps -5": (["--trainer.max_steps", "-5"], "max_steps is -5"),
    "max_steps 1.5": (["--trainer.max_steps", "1.5"], "trainer.max_steps is '1.5'"),
    "max_steps nan": (["--trainer.max_steps", "nan"], "max_steps"),
    "max_steps a word": (["--trainer.max_steps", "many"], "max_steps is 'many'; it must be of type int"),
    "devices 0": (["--trainer.devices", "0"], "trainer.devices is '0'; give a number of at least 1"),
    "devices -3": (["--trainer.devices", "-3"], "trainer.devices is '-3'"),
    "devices 3 with lanes 8": (["--trainer.devices", "3"], "data.lanes is 8; it must be a multiple of the 3 ranks"),
    "devices a word": (["--trainer.devices", "all"], "trainer.devices is 'all'"),
    "accelerator unknown": (
        ["--trainer.accelerator", "quantum"],
        "trainer: You selected an invalid accelerator name: `accelerator='quantum'`",
    ),
    "strategy unknown": (
        ["--trainer.strategy", "dpp"],
        "trainer: You selected an invalid strategy name: `strategy='dpp'`",
    ),
    "precision unknown": (["--trainer.precision", "8-ish"], "trainer.precision is '8-ish'; it must be one of"),
    "precision not kept": (["--trainer.precision", "16-true"], "trainer.precision is '16-true'"),
    "val_check_interval 0": (["--trainer.val_check_interval", "0"], "trainer.val_check_interval is 0"),
    "val_check_interval negative": (["--trainer.val_check_interval", "-2"], "trainer.val_check_interval is -2"),
    "gradient_clip_val negative": (
        ["--trainer.gradient_clip_val", "-1"],
        "trainer.gradient_clip_val is -1; it must be at least 0",
    ),
    "gradient_clip_val nan": (["--trainer.gradient_clip_val", ".nan"], "trainer.gradient_clip_val is nan"),
    "log_every_n_steps negative": (["--trainer.log_every_n_steps", "-1"], "trainer.log_every_n_steps is -1"),
    "accumulate_grad_batches 0": (
        ["--trainer.accumulate_grad_batches", "0"],
        "trainer.accumulate_grad_batches is 0; it must be at least 1",
    ),
    "limit_val_batches negative": (["--trainer.limit_val_batches", "-1"], "limit_val_batches"),
    "checkpoint every 0 steps": (["--checkpoint.every_n_steps", "0"], "checkpoint.every_n_steps is 0"),
    "unsafe checkpoints": (["--weights_only", "false"], "weights_only is False; a checkpoint is never read so"),
    "seed a word": (["--seed_everything", "lucky"], "seed_everything is 'lucky'; it must be one of"),
    "seed negative": (["--seed_everything", "-1"], "seed_everything is -1; it must be between 0 and 4294967295"),
    "seed huge": (["--seed_everything", str(10**30)], "it must be between 0 and 4294967295"),
    "model class with a typo": (["--model", "VASE"], "model: there is no class 'VASE'"),
    "model class of torch": (
        ["--model", "torch.nn.Linear"],
        "model: 'torch.nn.Linear' is not a MembersModule; give class_path (one of SAE",
    ),
    "model class of nowhere": (["--model", "nowhere.Model"], "model: there is no class 'nowhere'. Known: SAE"),
    "data class with a typo": (["--data", "ActivationsDataModule"], "Did you mean ActivationDataModule"),
    "sparsifier with a typo": (["--model.sparsifier", "TopKK"], "there is no class 'TopKK'. Known: BatchTopK"),
    "sparsifier a number": (["--model.sparsifier", "7"], "model.sparsifier: there is no class '7'"),
    "d_sae 0": (["--model.d_sae", "0"], "d_sae is 0; it must be at least 1"),
    "d_sae negative": (["--model.d_sae", "-8"], "d_sae is -8"),
    "d_sae huge": (
        ["--model.d_sae", str(10**12)],
        "d_sae is 1000000000000; so many rows of 32 numbers do not fit into memory",
    ),
    "d_sae beyond 64 bits": (["--model.d_sae", str(10**30)], "d_sae is 1"),
    "k 0": (["--model.sparsifier.k", "0"], "k is 0"),
    "k larger than d_sae": (["--model.sparsifier.k", "97"], "TopK: k is 97, more than the 96 latents of d_sae"),
    "kl_weight nan": (["--model.kl_weight", ".nan"], "kl_weight is nan"),
    "kl_weight inf": (["--model.kl_weight", ".inf"], "kl_weight is inf; it must be at least 0 and finite"),
    "sigma negative": (["--model.sigma", "-0.5"], "sigma is -0.5; it must be 0 (no sampling), positive"),
    "sigma nan": (["--model.sigma", "nan"], "model.sigma is 'nan'; it must be one of"),
    "learning rate negative": (
        ["--model.optimizer.lr", "-0.1"],
        "model.init_args.optimizer: Invalid learning rate: -0.1",
    ),
    "learning rate a word": (["--model.optimizer.lr", "nan"], "model.optimizer.lr is 'nan'; it must be of type float"),
    "learning rate inf": (["--model.optimizer.lr", ".inf"], "model.init_args.optimizer: lr is inf"),
    "optimizer with a typo": (
        ["--model.optimizer", "torch.optim.Adamm"],
        "there is no class 'torch.optim.Adamm'. Did you mean",
    ),
    "hook with a typo": (["--data.hook_name", "blocks.1.hook_resid_pots"], "Did you mean blocks.1.hook_resid_post"),
    "layer out of range": (["--data.hook_name", "blocks.3.hook_resid_post"], "(layers 0 to 2) has no hook"),
    "layer negative": (["--data.hook_name", "blocks.-1.hook_resid_post"], "(layers 0 to 2) has no hook"),
    "hook empty": (["--data.hook_name", ""], "has no hook ''"),
    "batch_size not in lanes": (["--data.batch_size", "63"], "batch_size is 63; it must be a multiple of lanes, 8"),
    "batch_size 0": (["--data.batch_size", "0"], "batch_size is 0; it must be at least 1"),
    "lanes 0": (["--data.lanes", "0"], "lanes is 0"),
    "context longer than the model's": (["--data.context_length", "65"], "has 64 positions"),
    "context negative": (["--data.context_length", "-16"], "context_length is -16"),
    "drop_positions negative": (["--data.drop_positions", "-1"], "drop_positions is -1"),
    "drop_positions all": (["--data.drop_positions", "16"], "context_length is 16"),
    "max_norm_ratio nan": (["--data.max_norm_ratio", ".nan"], "max_norm_ratio is nan"),
    "max_tokens negative": (["--data.max_tokens", "-1"], "max_tokens is -1"),
    "max_tokens 0": (["--data.max_tokens", "0"], "max_tokens is 0"),
    "dtype unknown": (["--data.dtype", "float8"], "data.dtype is 'float8'"),
    "scale_to unknown": (["--data.scale_to", "two"], "data.scale_to is 'two'"),
    "held_out_fraction 2": (["--data.text.held_out_fraction", "2"], "held_out_fraction is 2"),
    "held_out_fraction nan": (["--data.text.held_out_fraction", ".nan"], "held_out_fraction is nan"),
    "cache_dir a file": (["--data.cache_dir", "base.yaml"], "cache_dir: 'base.yaml' cannot be a folder"),
    "checkpoint that does not exist": (["--ckpt_path", "no.ckpt"], "ckpt_path: there is no file 'no.ckpt'"),
    "checkpoint of the hub": (["--ckpt_path", "https://example.org/a.ckpt"], "ckpt_path: there is no file"),
    "histogram every 0 steps": (
        ["--sparsity.histogram_every_n_steps", "0"],
        "sparsity.histogram_every_n_steps is 0; it must be at least 1",
    ),
}


@pytest.mark.parametrize(("options", "expected"), OPTIONS.values(), ids=OPTIONS)
def test_a_bad_option_is_refused(options: list[str], expected: str, base: list[str], refusal: Refusal) -> None:
    assert expected in refusal(["fit", *base, *options])


def test_a_working_folder_that_cannot_be_written_is_refused(base: list[str], desk: Path, refusal: Refusal) -> None:
    (desk / "lightning_logs").write_text("a file, where runs should land")
    assert "lightning_logs', which is not a folder" in refusal(["fit", *base])
