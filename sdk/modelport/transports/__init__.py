"""How a request reaches a control plane: over HTTP (`rest`), or by a call in this process (`local`)."""
