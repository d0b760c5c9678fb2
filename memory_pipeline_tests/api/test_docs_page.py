"""The page of the API's documentation: whole without a network, true to the OpenAPI document."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

from fastapi.testclient import TestClient

from memory_pipeline.api.docs_page import docs_page, example_of
from memory_pipeline_tests.api.support import PREFIX, Person


class Page(HTMLParser):
    """What a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href", "srcset", "action", "data"}]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_loads_nothing(client: TestClient) -> None:
    answer = client.get(f"{PREFIX}/docs")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src 'unsafe-inline';")
    page = Page(answer.text)
    assert not page.tags & {"script", "img", "iframe", "object", "embed", "video", "audio"}
    assert page.addresses == ["data:,", f"{PREFIX}/openapi.json"]
    assert "url(" not in answer.text
    assert "@import" not in answer.text


def test_the_page_names_every_operation_with_its_parameters_and_fields(client: TestClient) -> None:
    document = client.get(f"{PREFIX}/openapi.json").json()
    page = Page(client.get(f"{PREFIX}/docs").text).text
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert f"{method.upper()} {path}" in page
            assert operation["description"].split("`")[0].split("\n")[0] in page
            for parameter in operation.get("parameters", []):
                assert parameter["name"] in page
    for name, schema in document["components"]["schemas"].items():
        if name not in {"ErrorAnswer", "ErrorDetail"}:  # said once, in words
            for field in schema["properties"]:
                assert field in page, (name, field)
    assert "Authorization: Bearer $TOKEN" in page
    assert "409 A message id is taken by another message." in page


def test_the_body_it_shows_is_one_the_api_takes(client: TestClient, ana: Person) -> None:
    document = client.get(f"{PREFIX}/openapi.json").json()
    schema = document["paths"][f"{PREFIX}/messages"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    page = Page(client.get(f"{PREFIX}/docs").text).text
    assert json.dumps(example_of(document, schema), indent=2) in page
    sent = page.partition("-d '")[2].partition("'")[0]
    for body in (example_of(document, schema), json.loads(sent)):
        assert client.post(f"{PREFIX}/messages", json=body, headers=ana.headers).status_code in {200, 409}
    assert f"curl -s -X POST http://testserver{PREFIX}/messages" in page


def test_whatever_a_document_says_is_text_on_the_page() -> None:
    hostile = "<script>alert(1)</script>"
    field: dict[str, Any] = {"type": "string", "description": hostile, "examples": [hostile], "title": hostile}
    schema = {"type": "object", "title": hostile, "properties": {hostile: field}}
    content = {"application/json": {"schema": schema}}
    operation = {
        "tags": [hostile],
        "description": hostile,
        "parameters": [{"name": hostile, "in": "query", "required": True, "schema": field, "description": hostile}],
        "requestBody": {"content": content},
        "responses": {"200": {"description": hostile, "content": content}, "400": {"description": hostile}},
    }
    document = {
        "info": {"title": hostile, "version": hostile, "description": hostile},
        "paths": {f"/{hostile}": {"post": operation}},
        "components": {"securitySchemes": {"one": {"description": hostile}}},
    }
    text = docs_page(document, f"http://{hostile}", f"/{hostile}")
    assert "<script" not in text
    assert Page(text).text.count(hostile) > 10
