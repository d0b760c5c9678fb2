"""The routes, a module per kind of thing."""
