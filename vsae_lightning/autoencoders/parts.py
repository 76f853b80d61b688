"""Parts: the small modules an autoencoder is combined from, each described by plain values."""

import inspect
from typing import Any

from torch import nn


class Part(nn.Module):
    """A module that keeps every constructor argument as an attribute of the same name."""

    def config(self) -> dict[str, Any]:
        """`{"class_name": ..., "init_args": {...}}`: plain values that rebuild this part.

        A class of another package has its import path beside the name, as `class_path`.
        """
        module, name = type(self).__module__, type(self).__name__
        path = {} if module.partition(".")[0] == "vsae_lightning" else {"class_path": f"{module}.{name}"}
        return {"class_name": name, **path, "init_args": self.init_args()}

    def init_args(self) -> dict[str, Any]:
        """The constructor's arguments; a part among them appears as its own config."""
        named = [p.name for p in inspect.signature(type(self)).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
        values = {name: getattr(self, name) for name in named}
        return {name: value.config() if isinstance(value, Part) else value for name, value in values.items()}
