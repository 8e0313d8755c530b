"""The simulated sample set; nothing else depends on it."""
