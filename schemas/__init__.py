"""What flows through Zoomtrail: frozen, typed records, their Arrow schemas, and the run's configuration.

The lowest floor: imports nothing of ours.
"""
