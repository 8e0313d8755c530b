"""Feature planes of one picture and its variants: a pure function of pixels and settings."""
