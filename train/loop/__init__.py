"""Training loop: fit the experts, run epochs, validate, stop, resume, end."""
