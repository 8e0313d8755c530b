"""Pictures to feature store: fit, variants, spectra, the build on Dask, and the store's reader."""
