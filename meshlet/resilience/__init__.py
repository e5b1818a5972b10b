"""What keeps one failing app from taking others with it: limits, retries, ejections. Pure: time and chance come in."""
