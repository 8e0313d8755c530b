"""Run epochs, validate, stop, resume, end."""
