"""Start of the command `train`, also as `python -m train`."""

from data_cards.core.startup import run_command


def main() -> None:
    """Run the `train` command."""
    run_command("train.cli", "main")


if __name__ == "__main__":
    main()
