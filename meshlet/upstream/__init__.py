"""Clusters and their endpoints: choosing one, connecting to it, keeping its connections."""
