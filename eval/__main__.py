"""`python -m eval`: the same as the `eval` command."""

from eval.cli.main import main

main()
