"""
What replicas run in: an isolated environment for each set of requirements, as a folder or in an image.

An environment is named by the hash of all that goes into it, so two deployments
that ask for the same thing share one, and one that exists is never changed.
"""
