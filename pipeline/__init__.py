"""How it is done: video decoding, model calls, the stages, the checks, the store, the cluster.

The third floor: imports `schemas` and `prompts`.
"""
