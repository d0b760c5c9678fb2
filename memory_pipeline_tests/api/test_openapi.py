"""The OpenAPI document against the API: whatever is sent, the answer is one it names, in the form it names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from memory_pipeline.stores.duckdb.publish import publish_duckdb
from memory_pipeline_tests.api.stack import ApiStack, api_stack
from memory_pipeline_tests.api.support import PREFIX, Json
from memory_pipeline_tests.local.host import Servers

pytestmark = pytest.mark.xdist_group("api_openapi")

_DOCUMENT = f"{PREFIX}/openapi.json"
_METHODS = ("get", "post", "put", "patch", "delete", "head", "options", "trace")
# What the document can't say in a schema (no blank content, no time in the far future) is refused with 422.
_TAKEN_OR_REFUSED = ["2xx", "401", "403", "404", "409", "422"]


@pytest.fixture(scope="module")
def stack(servers: Servers, migrated_template: str) -> Iterator[ApiStack]:
    with api_stack(servers, migrated_template) as stack:
        stack.person(role="admin")  # may do whatever there is to be done
        publish_duckdb(stack.settings.data / "lake", stack.settings.data / "exports", 1)
        yield stack


@pytest.fixture(scope="module")
def document(stack: ApiStack) -> Json:
    answer: Json = stack.client.get(_DOCUMENT).json()
    return answer


def operations(document: Json) -> list[tuple[str, str, Json]]:
    return [
        (method, path, item[method])
        for path, item in document["paths"].items()
        for method in _METHODS
        if method in item
    ]


def url_of(stack: ApiStack, path: str) -> str:
    """A path with something in the place of its parameters."""
    return path.format(conversation_id=stack.person().user_id, report="retention")


def fuzz(stack: ApiStack, examples: int, *, seed: int | None = None) -> tuple[Counter[tuple[str, int]], list[str]]:
    """Let schemathesis make examples, boundary cases, random and invalid requests, and sequences of requests.

    Returns how often each operation gave each status, and what was wrong.
    """
    import schemathesis
    from schemathesis.config import SchemathesisConfig
    from schemathesis.engine import events, from_schema

    schema = schemathesis.openapi.from_asgi(
        _DOCUMENT,
        stack.client.app,
        config=SchemathesisConfig.from_dict(
            {
                "headers": {"Authorization": f"Bearer {stack.person().token}"},
                "workers": 1,
                "continue-on-failure": True,
                "generation": {
                    "max-examples": examples,
                    "deterministic": seed is not None,
                    "database": "none",
                },
                "checks": {"positive_data_acceptance": {"expected-statuses": _TAKEN_OR_REFUSED}},
                **({} if seed is None else {"seed": seed}),
            }
        ),
    )
    answers = Counter[tuple[str, int]]()
    problems: list[str] = []
    for event in from_schema(schema).execute():
        if isinstance(event, events.FatalError):
            raise event.exception
        if isinstance(event, events.NonFatalError):
            problems.append(f"{event.label}: {event.value!r}")
        if isinstance(event, events.ScenarioFinished):
            recorded: Any = event.recorder
            for case_id, node in recorded.cases.items():
                interaction = recorded.interactions.get(case_id)
                if interaction is not None and interaction.response is not None:
                    answers[node.value.operation.label, interaction.response.status_code] += 1
            problems += [
                f"{check.failure_info.failure.operation}: {check.failure_info.failure.title}: "
                f"{check.failure_info.failure.message}\n{check.failure_info.code_sample}"
                for checks in recorded.checks.values()
                for check in checks
                if check.failure_info is not None
            ]
    return answers, problems


def test_answers_are_as_documented_whatever_is_sent(stack: ApiStack, document: Json) -> None:
    answers, problems = fuzz(stack, 5, seed=1)
    assert problems == []
    # It got through to what the operations do, not only to their refusals.
    for method, path, _operation in operations(document):
        assert answers[f"{method.upper()} {path}", 200] > 0, path
    assert sum(answers.values()) > 200


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_answers_are_as_documented_whatever_is_sent_for_long(stack: ApiStack) -> None:
    answers, problems = fuzz(stack, 1000)
    assert problems == []
    assert sum(answers.values()) > 1000


def test_every_operation_says_what_it_does_and_which_errors_it_answers(document: Json) -> None:
    for method, path, operation in operations(document):
        assert operation["description"], path
        assert operation["summary"], path
        responses = operation["responses"]
        expected = {"413", "500"}
        if "security" in operation:
            expected |= {"401", "403", "422", "503"}
        if "{" in path:
            expected |= {"404"}
        if method == "post":
            expected |= {"400", "409"}
        assert expected <= set(responses), path
        for status, response in responses.items():
            if status >= "400" and (path, status) != (f"{PREFIX}/health", "503"):
                schema = response["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/ErrorAnswer"}, (path, status)


def test_all_but_what_operators_look_at_asks_for_a_token(stack: ApiStack, document: Json) -> None:
    open_paths = {path for _method, path, operation in operations(document) if "security" not in operation}
    assert open_paths == {f"{PREFIX}/health", f"{PREFIX}/cache/stats", "/metrics"}
    for method, path, operation in operations(document):
        if "security" in operation:
            answer = stack.client.request(method, url_of(stack, path))
            assert answer.status_code == 401, path


def test_unknown_paths_and_methods_are_answered_in_the_form_of_errors(stack: ApiStack) -> None:
    unknown = stack.client.get(f"{PREFIX}/nothing")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "not_found")
    for path in (f"{PREFIX}/messages", f"{PREFIX}/conversations/{stack.person().user_id}"):
        other = stack.client.patch(path)
        assert (other.status_code, other.json()["error"]["code"]) == (405, "method_not_allowed")
        assert other.json()["error"]["message"]


def test_a_refused_method_is_told_every_method_of_the_path(stack: ApiStack, document: Json) -> None:
    for path, item in document["paths"].items():
        answer = stack.client.patch(url_of(stack, path))
        allowed = {method.strip().lower() for method in answer.headers["allow"].split(",")}
        assert allowed == item.keys() & set(_METHODS), path


def test_every_operation_refuses_a_body_over_the_limit_as_documented(stack: ApiStack, document: Json) -> None:
    body = b" " * (stack.settings.api_max_request_bytes + 1)
    for method, path, operation in operations(document):
        url = url_of(stack, path)
        answer = stack.client.request(method, url, content=body, headers=stack.person().headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large"), path
        assert "413" in operation["responses"]
