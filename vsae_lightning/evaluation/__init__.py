"""Evaluations of a trained autoencoder: each takes it and its language model, and gives numbers."""
