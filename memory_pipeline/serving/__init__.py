"""What applications ask for: taking messages in, and answering with memories."""
