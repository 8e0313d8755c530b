"""Start of the command `train`, which `python -m train` is too."""

from data_cards.core.startup import run_command


def main() -> None:
    """Entry point of `train`."""
    run_command("train.cli", "main")


if __name__ == "__main__":
    main()
