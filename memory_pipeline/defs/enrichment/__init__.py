"""Facts found in messages, and how facts bear on each other."""
