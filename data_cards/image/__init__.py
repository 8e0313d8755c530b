"""One picture file: decode it safely, read its facts, hash it."""
