"""Run independent tasks, in this process or on Dask, with retries."""
