"""What models are told and how they talk back: one protocol a file, one template a file.

The second floor: imports only `schemas`.
"""
