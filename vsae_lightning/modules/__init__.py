"""The LightningModules; each carries its own loss."""
