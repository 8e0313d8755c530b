"""Entry points of the commands `eval`, `report`, `predict` and `page`; `python -m eval` is `eval`."""

from data_cards.core.startup import run_command


def main() -> None:
    """Entry point of `eval`."""
    run_command("eval.cli.main", "main")


def report() -> None:
    """Entry point of `report`, the same as `eval report`."""
    run_command("eval.cli.main", "report_main")


def predict() -> None:
    """Entry point of `predict`, the same as `eval predict`."""
    run_command("eval.cli.main", "predict_main")


def page() -> None:
    """Entry point of `page`, the same as `eval page`."""
    run_command("eval.cli.main", "page_main")


if __name__ == "__main__":
    main()
