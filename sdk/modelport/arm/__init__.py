"""The protocol's words, for client and server alike: ids, messages, faults, long-running operations. No I/O."""
