"""
What routes requests to replicas.

`routes` says who gets which request and why, `envoy` writes that down as Envoy's
documents, `runner` keeps an Envoy running on them. The first two do no I/O.
"""
