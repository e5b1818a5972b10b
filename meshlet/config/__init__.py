"""The config: `schema` says what may be written, `load` reads a file and names every mistake in it."""
