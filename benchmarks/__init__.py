"""meshlet side by side with Envoy, nginx and HAProxy; see README.md for how it measures and why."""
