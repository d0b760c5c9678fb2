"""The HTTP face of serving: FastAPI routes, errors as JSON, OpenAPI. No SQL and no decisions of its own."""
