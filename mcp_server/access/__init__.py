"""Who may see what: one decision for each request, enforced between the protocol and the engine."""
