"""The API's documentation as one page of HTML, made from its OpenAPI document on the server.

It loads nothing, no script, style, font or image, so it is whole without a network too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import escape
from typing import Any, cast

Schema = dict[str, Any]

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""Content-Security-Policy of the page: a browser would refuse to load what it should not name."""
_UNTOLD = "Successful Response"
"""What FastAPI says of an answer of which nothing is said."""
_METHODS = ("get", "post", "put", "patch", "delete")
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --key: light-dark(#0b57d0, #8ab4f8) }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
code, pre { font: 14px/1.45 ui-monospace, monospace }
pre { background: var(--soft); padding: .7rem 1rem; overflow-x: auto; border-radius: 6px }
a { color: var(--key) } h2 { margin-top: 2.5rem } h2::first-letter { text-transform: uppercase }
h4 { margin: 1rem 0 .3rem }
details { border: 1px solid var(--line); border-radius: 6px; margin: .6rem 0; padding: .5rem 1rem }
summary { cursor: pointer } summary b { display: inline-block; min-width: 4.2rem; color: var(--key) }
summary span { opacity: .75; float: right; font-size: .9rem }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; vertical-align: top; padding: .25rem .6rem }
th { font-size: .85rem; opacity: .75 } tr + tr { border-top: 1px solid var(--line) }
.needed { font-size: .85rem; opacity: .75 }
"""


def docs_page(document: Schema, server: str, document_url: str) -> str:
    """Return the page; `server` is where requests go, such as http://127.0.0.1:8000."""
    info = document["info"]
    parts = [
        f"<h1>{escape(info['title'])} <small>{escape(info['version'])}</small></h1>",
        _text(info.get("description", "")),
        f'<p>For programs: <a href="{escape(document_url)}">the OpenAPI document</a>.</p>',
        *_authentication(document),
    ]
    tags: dict[str, list[str]] = {}
    for path, item in document["paths"].items():
        for method in _METHODS:
            if method in item:
                operation = item[method]
                shown = _operation(document, method, path, operation, server)
                tags.setdefault(operation.get("tags", ["other"])[0], []).append(shown)
    for tag, operations in tags.items():
        parts += [f"<h2>{escape(tag)}</h2>", *operations]
    title = escape(info["title"])
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>"
    )


def example_of(document: Schema, schema: Schema) -> Any:
    """Return a value that fits a schema: of its examples, its default or its limits."""
    schema = _resolved(document, schema)
    if "examples" in schema:
        return schema["examples"][0]
    if "const" in schema or schema.get("default") is not None:
        return schema.get("const", schema.get("default"))
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return example_of(document, schema["anyOf"][0])
    match schema.get("type"):
        case "object":
            return {name: example_of(document, one) for name, one in schema.get("properties", {}).items()}
        case "array":
            return [example_of(document, schema["items"])] if "items" in schema else []
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case "string":
            return _TEXTS.get(schema.get("format", ""), "text")
    return None


_TEXTS = {
    "uuid": "019e849a-4010-7cc2-8a5e-6a3c1e0d9b11",
    "date-time": "2026-06-01T19:12:00Z",
    "date": "2026-06-01",
}


def _authentication(document: Schema) -> Iterator[str]:
    for scheme in document.get("components", {}).get("securitySchemes", {}).values():
        yield "<h2>Who is asking</h2>"
        yield _text(scheme.get("description", ""))
        yield "<pre>Authorization: Bearer $TOKEN</pre>"


def _operation(document: Schema, method: str, path: str, operation: Schema, server: str) -> str:
    token = "token" if operation.get("security") else "no token"
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    parts = [_text(operation.get("description", ""))]
    parameters = [
        (
            one["name"],
            one["schema"] | {"description": one.get("description", "")},
            one["required"],
            f"in the {one['in']}",
        )
        for one in operation.get("parameters", [])
    ]
    if parameters:
        parts += ["<h4>Parameters</h4>", _fields(document, parameters)]
    if body is not None:
        parts += ["<h4>Body</h4>", _form(document, body)]
    parts += ["<h4>Example</h4>", f"<pre>{escape(_curl(document, method, path, operation, body, server))}</pre>"]
    shown: list[Schema] = []
    for status, response in sorted(operation["responses"].items()):
        forms: list[Schema] = [one["schema"] for one in response.get("content", {}).values() if "schema" in one]
        if status < "300":
            said = response["description"]
            parts.append(f"<h4>Answer {status}</h4>{'' if said == _UNTOLD else _text(said)}")
            parts += ["<p>In the same form.</p>" if form in shown else _form(document, form) for form in forms]
            shown += forms
    refusals = {status: one["description"] for status, one in sorted(operation["responses"].items()) if status >= "300"}
    told = "; ".join(f"<code>{status}</code> {escape(text)}" for status, text in refusals.items())
    parts.append(f"<h4>Refusals</h4><p>{told}</p>")
    heading = f"<b>{method.upper()}</b> <code>{escape(path)}</code><span>{token}</span>"
    return f"<details open><summary>{heading}</summary>{''.join(parts)}</details>"


def _form(document: Schema, schema: Schema) -> str:
    """What a body looks like: the fields of its objects, and an example."""
    tables = []
    for title, one in _objects(document, schema).items():
        required = one.get("required", [])
        rows = [(name, field, name in required, "") for name, field in one["properties"].items()]
        tables.append(
            f"<h4><code>{escape(title)}</code></h4>{_text(one.get('description', ''))}{_fields(document, rows)}"
        )
    example = json.dumps(example_of(document, schema), indent=2, ensure_ascii=False)
    return f"<pre>{escape(example)}</pre><details><summary>Fields</summary>{''.join(tables)}</details>"


def _objects(document: Schema, schema: Schema) -> dict[str, Schema]:
    """The objects with named fields within a schema, the outer ones first, by their titles."""
    found: dict[str, Schema] = {}
    waiting = [schema]
    while waiting:
        one = _resolved(document, waiting.pop(0))
        inner = [*one.get("properties", {}).values(), *one.get("anyOf", [])]
        waiting += inner + ([one["items"]] if "items" in one else [])
        if "properties" in one:
            if one["title"] in found:
                continue
            found[one["title"]] = one
    return found


def _fields(document: Schema, fields: list[tuple[str, Schema, bool, str]]) -> str:
    rows = [
        f"<tr><td><code>{escape(name)}</code> <span class=needed>{'' if needed else 'optional'} {where}</span></td>"
        f"<td>{escape(_kind(document, schema))}</td><td>{_inline(schema.get('description', ''))}</td></tr>"
        for name, schema, needed, where in fields
    ]
    return f"<table><tr><th>name</th><th>type</th><th>meaning</th></tr>{''.join(rows)}</table>"


def _kind(document: Schema, schema: Schema) -> str:
    """A type in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " or ".join(_kind(document, one) for one in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"list of {_kind(document, schema['items'])}" if "items" in schema else "list"
    limits = [
        f"{word} {schema[name]:,}"
        for name, word in (("minimum", "from"), ("maximum", "to"), ("maxLength", "at most"))
        if name in schema
    ]
    default = [f"default {schema['default']}"] if schema.get("default") is not None else []
    return ", ".join([schema.get("format") or schema.get("type", "any"), *limits, *default])


def _curl(document: Schema, method: str, path: str, operation: Schema, body: Schema | None, server: str) -> str:
    for one in operation.get("parameters", []):
        if one["in"] == "path":
            path = path.replace(f"{{{one['name']}}}", str(example_of(document, one["schema"])))
    lines = [f"curl -s{'' if method == 'get' else f' -X {method.upper()}'} {server}{path}"]
    if operation.get("security"):
        lines.append('-H "Authorization: Bearer $TOKEN"')
    if body is not None:
        sent = json.dumps(_least(document, body), ensure_ascii=False, indent=2).replace("'", "'\\''")
        lines += ['-H "Content-Type: application/json"', f"-d '{sent}'"]
    return " \\\n  ".join(lines)


def _least(document: Schema, schema: Schema) -> Any:
    """An example with nothing but what has to be there, and what has an example of its own."""
    schema = _resolved(document, schema)
    if schema.get("type") == "array" and "items" in schema:
        return [_least(document, schema["items"])]
    if "properties" not in schema:
        return example_of(document, schema)
    needed = schema.get("required", [])
    return {
        name: _least(document, one) for name, one in schema["properties"].items() if name in needed or "examples" in one
    }


def _resolved(document: Schema, schema: Schema) -> Schema:
    if "$ref" not in schema:
        return schema
    found: Any = document
    for part in schema["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return cast("Schema", found)


def _text(text: str) -> str:
    return "".join(f"<p>{_inline(part)}</p>" for part in text.split("\n\n") if part.strip())


def _inline(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))
