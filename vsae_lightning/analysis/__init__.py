"""What each feature is, and how features lie to each other; takes an autoencoder and a language model, no Trainer."""
