"""The Zarr format of a feature store: settings, reading, writing, codec, digests, manifest, lock."""
