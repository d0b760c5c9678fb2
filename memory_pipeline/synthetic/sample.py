"""The bundled sample: thirteen weeks of conversations between ten people and the assistants of three products.

All of it was written for this project (see `sample_source`); nobody in it exists.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources

import msgspec

from memory_pipeline.model.records import IncomingMessage
from memory_pipeline.synthetic.jsonl import GeneratedMessage, JsonlLine

SOURCE = "sample"
_FILE = "sample.jsonl"


def sample_messages() -> Iterator[GeneratedMessage]:
    """Yield the bundled messages in the order they were sent, each with its tenant."""
    decoder = msgspec.json.Decoder(JsonlLine)
    text = resources.files("memory_pipeline.synthetic").joinpath(_FILE)
    with text.open("rb") as file:
        for number, encoded in enumerate(file, start=1):
            line = decoder.decode(encoded)
            if line.tenant is None:
                raise ValueError(f"{_FILE}:{number} names no tenant; make the file again from sample_source")
            yield GeneratedMessage(
                line.tenant,
                IncomingMessage(
                    source=SOURCE,
                    source_message_id=line.id,
                    source_conversation_id=line.conversation_id,
                    role=line.role,
                    content=line.content,
                    sent_at=line.sent_at,
                    position=line.position,
                    speaker=line.speaker,
                    user_email=line.user,
                    conversation_title=line.title,
                    project=line.project,
                    origin=f"{_FILE}:{number}",
                ),
            )
