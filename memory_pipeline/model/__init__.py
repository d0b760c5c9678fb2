"""The vocabulary: records, ids, content hashes, errors. No I/O; imports nothing else of this package."""
