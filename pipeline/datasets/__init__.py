"""Work on sets of pictures, before any store: audit, subset, card."""
