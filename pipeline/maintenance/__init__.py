"""Look after a store: inspect, plot, verify, repair."""
