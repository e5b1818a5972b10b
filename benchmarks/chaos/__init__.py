"""The chaos run: five apps that fail in all ways, behind meshlet and behind Envoy; see docs/resilience.md."""
