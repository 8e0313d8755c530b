"""The `eval` commands: options in, text out."""
