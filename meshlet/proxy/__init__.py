"""Accepting connections and carrying what comes over them: exchanges and relays."""
