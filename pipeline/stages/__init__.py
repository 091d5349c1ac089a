"""The stages: one shard in, one shard out. A stage knows nothing of Ray, of files or of other stages."""
