"""Putting the parts together: from a config to a running process."""
