"""Where a cluster's endpoints come from: the config, DNS, or a file."""
