"""Which frequencies and planes a score rests on."""
