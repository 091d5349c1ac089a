"""Who runs it: the command line and one entry point per job. The top floor."""
