"""One summary per user and week."""
