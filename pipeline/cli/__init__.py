"""The `pipeline` command: options in, text out."""
