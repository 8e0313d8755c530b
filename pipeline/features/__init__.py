"""One picture, and its variants, to planes: a pure function of pixels and settings."""
