"""Recipe of learning: optimiser, augmentation, V-REx penalty."""
