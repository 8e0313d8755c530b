"""How well trivial properties alone separate the classes."""
