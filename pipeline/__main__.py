"""Start of the command `pipeline`, which `python -m pipeline` is too."""

from data_cards.core.startup import run_command


def main() -> None:
    """Entry point of `pipeline`."""
    run_command("pipeline.cli.main", "run")


if __name__ == "__main__":
    main()
