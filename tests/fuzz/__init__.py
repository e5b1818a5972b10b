"""Mutated HTTP/1.1 against the codec: `make fuzz`, and for a few seconds in every test run."""
