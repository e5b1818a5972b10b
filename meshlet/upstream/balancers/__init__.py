"""How an endpoint is chosen for a request."""
