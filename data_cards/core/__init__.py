"""Core that all four packages share: console, options, errors, text, whole files, seeded draws, labels."""
