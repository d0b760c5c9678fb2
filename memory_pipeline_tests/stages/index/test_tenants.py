"""The index stage: every tenant has a collection of its own."""

from __future__ import annotations

import re
from uuid import UUID

import pytest
from typer.main import get_command

from memory_pipeline.cli import app
from memory_pipeline.model.errors import MemoryPipelineError
from memory_pipeline_tests.stages.index.support import World


def test_two_tenants_never_share_a_collection(world: World, acme: UUID) -> None:
    other = world.tenant("other")
    ours, theirs = world.remember(acme, "ours"), world.remember(other, "theirs")
    report = world.index()
    assert {tenant: one.added for tenant, one in report.tenants.items()} == {acme: 1, other: 1}
    assert world.live(acme).collection_uuid != world.live(other).collection_uuid
    assert set(world.indexed(acme)) == set(ours)
    assert set(world.indexed(other)) == set(theirs)


def test_a_run_may_be_narrowed_to_tenants(world: World, acme: UUID) -> None:
    other = world.tenant("other")
    world.remember(acme, "ours")
    world.remember(other, "theirs")
    assert set(world.index(tenants=[other]).tenants) == {other}
    assert set(world.index().tenants) == {acme, other}


def test_a_tenant_without_vectors_gets_no_collection(world: World, acme: UUID) -> None:
    assert world.index().tenants == {}
    assert list(world.chroma.collections()) == []


def test_a_vector_of_another_dimension_is_named_and_other_tenants_are_indexed(world: World, acme: UUID) -> None:
    other = world.tenant("other")
    [odd] = world.remember(acme, "odd")
    world.embed(acme, odd, "odd", dimension=4)
    world.remember(other, "even")
    with pytest.raises(MemoryPipelineError, match=rf"memory {odd} has a vector of 4 dimensions.*should have 8"):
        world.index()
    world.assert_agrees(other)


def test_the_remedy_for_another_dimension_names_commands_that_exist(world: World, acme: UUID) -> None:
    [odd] = world.remember(acme, "odd")
    world.embed(acme, odd, "odd", dimension=4)
    with pytest.raises(MemoryPipelineError) as raised:
        world.index()
    named = set(re.findall(r"`memory-pipeline ([a-z-]+)", str(raised.value)))
    assert named
    assert named <= set(get_command(app).commands)  # type: ignore[attr-defined]
