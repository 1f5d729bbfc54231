"""The HTTP server: connections and requests, within limits."""
