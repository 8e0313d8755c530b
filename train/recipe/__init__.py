"""Fitting: the experts in closed form, and the optimiser of networks."""
