"""Distributed tracing: trace context on the way through, and spans for an OpenTelemetry collector.

The context costs a few hundred nanoseconds of a request; spans are made and sent in a thread of their own.
"""
