"""Files to verdicts: inputs, crops, checks, declared metadata, clips, drawings."""
