"""What changes how weights are learned: optimiser, augmentation, V-REx penalty."""
