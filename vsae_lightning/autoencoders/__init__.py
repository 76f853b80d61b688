"""The mathematics: autoencoders, sparsifiers, priors. Torch only."""
