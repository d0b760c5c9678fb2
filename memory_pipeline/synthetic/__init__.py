"""Conversations to try the pipeline with: a bundled sample written by hand, and a seeded generator for any amount."""

from memory_pipeline.synthetic.generate import GenerateSpec, generate
from memory_pipeline.synthetic.jsonl import GeneratedMessage, tenant_file_in, write_jsonl
from memory_pipeline.synthetic.sample import sample_messages

__all__ = ["GenerateSpec", "GeneratedMessage", "generate", "sample_messages", "tenant_file_in", "write_jsonl"]
