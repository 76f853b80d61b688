"""`python -m vsae_lightning`: the command `vsae`."""

from vsae_lightning.cli import main

if __name__ == "__main__":
    main()
