"""The ports that people, scrapers and probes talk to: the admin port (aiohttp) and the health port.

This package knows the data plane only through `backend.AdminBackend`.
"""
