"""Taking messages in: whatever characters they hold."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from memory_pipeline.model import ids
from memory_pipeline.model.records import Role
from memory_pipeline_tests.serving.ingest.support import Intake, said, talk, tenant_numbers

TEXTS = {
    "combining": "e\u0301 is not é",
    "right to left": "שלום \u202eabc\u202c مرحبا",
    "joined": "👩‍👩‍👧‍👦 🏳️‍🌈 🇵🇹",
    "astral": "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 \U0010ffff",
    "control": "tab\tnewline\nreturn\rbell\x07escape\x1b\x7f\x85\u2028",
    "copy": "\\N \\. \\\\ \\t \\x41\n\\.\n",
    "spaces": "  leading and trailing \u00a0\u3000\ufeff ",
    "injection": "'); DROP TABLE memory.messages; -- ${x} %s %(name)s $1 {0}",
    "hidden": "\u200b\ufffe\uffff",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_texts_come_back_byte_for_byte(intake: Intake, text: str) -> None:
    name = f"id {text}".strip()
    intake.take(
        [
            said(
                name,
                text,
                speaker=text,
                source="source " + text[:40],
                source_conversation_id=text,
                conversation_title=text,
                project=text,
                raw_data={text: [text, {"a": text}], "n": [1, 1.5, None, True]},
            )
        ]
    )
    query = (
        "SELECT m.source_message_id, m.source, m.content, m.speaker, c.source_conversation_id, c.title, c.project,"
        " e.content, e.project, m.raw_data, m.content_hash FROM messages m JOIN conversations c USING (conversation_id)"
        " JOIN memories e ON e.source_message_ids[1] = m.message_id"
    )
    assert intake.read(query) == [
        (
            name,
            "source " + text[:40],
            *[text] * 5,
            f"{text}: {text}",
            text,
            {text: [text, {"a": text}], "n": [1, 1.5, None, True]},
            ids.message_hash("user", text, text),
        ),
    ]


@hypothesis_settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=50),
            st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
            st.sampled_from(Role),
        ),
        min_size=1,
        max_size=10,
    )
)
def test_any_text_is_stored_as_it_is_with_the_hash_that_python_computes(
    intake: Intake, texts: Sequence[tuple[str, str | None, Role]]
) -> None:
    tenant_id = intake.tenant(f"example-{next(tenant_numbers)}")
    intake.take(
        [said(str(n), text, speaker=speaker, role=role) for n, (text, speaker, role) in enumerate(texts)], tenant_id
    )
    rows = intake.read(
        "SELECT content, speaker, role, content_hash FROM messages ORDER BY source_message_id::int",
        tenant_id,
    )
    assert rows == [(text, speaker, role, ids.message_hash(role, speaker, text)) for text, speaker, role in texts]


def test_a_message_of_a_megabyte_is_stored_whole(intake: Intake) -> None:
    text = "".join(chr(0x4E00 + n % 20_000) for n in range(333_333))
    assert len(text.encode()) == 999_999
    intake.take([said("m1", text), *talk(3, "c2")])
    assert intake.contents()["m1"] == text
    assert intake.read("SELECT octet_length(content) FROM memories ORDER BY 1 DESC LIMIT 1") == [(1_000_004,)]
