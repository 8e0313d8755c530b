"""Pictures to a complete store: plan, estimate, shard tasks, metadata, resume, growth."""
