"""Plots that Dagster shows: they say what the published file does, and name no user and no text."""

from __future__ import annotations

import base64
import io
import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from statistics import median_low
from typing import TYPE_CHECKING, Any

import dagster as dg
import duckdb
import msgspec
import numpy as np
import psycopg
import pytest
from PIL import Image

from memory_pipeline.defs.analytics import charts, plots
from memory_pipeline.defs.launch import Observer, materialize
from memory_pipeline.model.records import IncomingMessage
from memory_pipeline.model.window import DayWindow
from memory_pipeline.providers.local_enricher import LocalEnricher
from memory_pipeline.stages.enrich import enrich
from memory_pipeline.stages.export import export_lake
from memory_pipeline.stages.relate import relate
from memory_pipeline.stores.duckdb import plots as numbers
from memory_pipeline.stores.duckdb.generations import manifest_of
from memory_pipeline.stores.duckdb.marts import marts
from memory_pipeline.stores.duckdb.publish import publish_duckdb
from memory_pipeline.stores.lake import DAILY_TABLES
from memory_pipeline.stores.lake.manifest import read_manifest
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline_tests.conftest import fresh_database
from memory_pipeline_tests.defs.conftest import Deployment
from memory_pipeline_tests.defs.sample import TEXTS, WINDOW, add_sample
from memory_pipeline_tests.local.host import Servers
from memory_pipeline_tests.stores.export_sample import add_messages, message

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIRST_DAY = date(2025, 1, 6)
"""A Monday."""
DAYS = 70
MANY = DayWindow(FIRST_DAY, FIRST_DAY + timedelta(days=DAYS))
BUSY_TENANTS = len(charts.COLOURS) + 2
SAYINGS = ("I live in Porto.", "I moved to Lisbon.", "I love hiking.", "My favourite colour is green.", "Hello there.")
FIGURES: tuple[Callable[[Path], Figure], ...] = (
    plots.activity_figure,
    plots.growth_figure,
    plots.retention_figure,
    plots.response_figure,
    plots.churn_figure,
    plots.quality_figure,
    plots.cost_figure,
    plots.recall_figure,
    plots.catalogue_figure,
    plots.users_figure,
    plots.topics_figure,
    plots.hours_figure,
    plots.calendar_figure,
)
_MOST_BYTES = 22_000
_MOST_IN_AN_EVENT = 36_000
_IMAGE = re.compile(r"!\[[a-z_ ]+\]\(data:image/png;base64,([A-Za-z0-9+/=]+)\)")
_JOBS = """
INSERT INTO memory_jobs (tenant_id, job_type, state, day, created_at, finished_at, attempts, correlation_id)
SELECT tenant_id, type, 'completed', day::date, day,
       day + make_interval(secs => seconds * (1 + n * n / 40.0 + substr(slug, 8)::int)), 1, gen_random_uuid()
FROM tenants, generate_series(%(first)s::timestamptz, %(last)s::timestamptz, '1 day') day, generate_series(1, 7) n,
     (VALUES ('enrich_and_embed', 2.5), ('index', 0.2), ('summarize', 40)) types (type, seconds)
"""
_FINDINGS = """
WITH audits AS (
    INSERT INTO audit_runs (started_at, finished_at, findings)
    SELECT clock_timestamp() - n * interval '3 days', clock_timestamp(), 0 FROM generate_series(0, 9) n
    RETURNING audit_id, started_at
)
INSERT INTO audit_findings (tenant_id, audit_id, store, problem, repaired)
SELECT tenant_id, audit_id, store, problem, problem = 'vector_missing'
FROM tenants, audits, (VALUES ('chroma', 'vector_missing'), ('chroma', 'vector_stale'), ('postgres', 'no_source')) p
     (store, problem)
WHERE hashtext(slug || problem || started_at::date) % 3 = 0
"""


# Ten models, of which the ninth and tenth are others; every third day's calls have no price.
_COSTS = """
INSERT INTO llm_usage (tenant_id, usage_id, used_at, correlation_id, plugin, model, what, requests, texts,
                       prompt_tokens, cost_usd)
SELECT tenant_id, gen_random_uuid(), day, gen_random_uuid(), 'embedder:openai', 'model-' || n, 'embedding', 1, 10,
       1000 * (11 - n), CASE WHEN extract(day FROM day)::int %% 3 > 0 THEN 0.001 * n END
FROM tenants, generate_series(%(first)s::timestamptz, %(last)s::timestamptz, '1 day') day, generate_series(1, 10) n
WHERE slug IN ('tenant-0', 'tenant-1')
"""
_RECALLS = """
INSERT INTO memory_access_log (tenant_id, access_id, user_id, accessed_at, correlation_id, what, channel, query_hash,
                               memory_ids, turns, degraded_parts, from_cache, milliseconds)
SELECT tenant_id, gen_random_uuid(), user_id, day, gen_random_uuid(), 'recall', 'api', sha256('a question'),
       CASE WHEN extract(day FROM day)::int %% 4 > 0 THEN ARRAY[user_id] ELSE ARRAY[]::uuid[] END, 2,
       CASE WHEN extract(day FROM day)::int %% 5 > 0 THEN ARRAY[]::text[] ELSE ARRAY['chroma'] END, false, 12.5
FROM users, generate_series(%(first)s::timestamptz, %(last)s::timestamptz, '1 day') day
"""
_FACTS_AT_THE_END = """
SELECT count(*) FILTER (valid_from < moment AND (valid_to IS NULL OR valid_to >= moment)),
       count(*) FILTER (valid_from < moment), count(*) FILTER (valid_to < moment)
FROM facts, (SELECT TIMESTAMPTZ '2025-03-17 00:00:00+00' AS moment)
"""


@pytest.fixture(scope="module")
def busy(servers: Servers, migrated_template: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published file of ten tenants over ten weeks, of whom the first says most, with jobs and findings."""
    root = tmp_path_factory.mktemp("busy")
    with fresh_database(servers, migrated_template) as fresh:
        for number in range(BUSY_TENANTS):
            add_messages(fresh.pipeline_url, f"tenant-{number}", _talk(number))
        with Database(fresh.pipeline_url) as database:
            enrich(database, LocalEnricher(), MANY, plugin="enricher:local")
            relate(database, MANY)
        with psycopg.connect(fresh.admin_url, options="-c search_path=memory,public") as connection:
            moments = {"first": datetime(2025, 1, 6, 9, tzinfo=UTC), "last": datetime(2025, 3, 16, 9, tzinfo=UTC)}
            connection.execute(_JOBS, moments)
            connection.execute(_FINDINGS)
            connection.execute(_COSTS, moments)
            connection.execute(_RECALLS, moments)
        export_lake(fresh.pipeline_url, MANY, root / "lake")
    return publish_duckdb(root / "lake", root / "exports", 3).path


def _talk(tenant: int) -> list[IncomingMessage]:
    """A new user every week, who comes back in every second week, or third, …; fewer messages the later the tenant."""
    talk = []
    for day in range(DAYS):
        moment = datetime.combine(FIRST_DAY + timedelta(days=day), time(9), tzinfo=UTC)
        for number in range(1 + 2 * (BUSY_TENANTS - tenant) // (2 + day % 3)):
            user = (day // 7) - (number * (1 + tenant % 3)) % (day // 7 + 1)
            user = 5 if (user, day // 7) == (3, 5) else user  # a week in which nobody of the fourth comes back
            said = message("t", f"{day}-{number}", moment + timedelta(minutes=number), SAYINGS[(day + number) % 5])
            talk.append(msgspec.structs.replace(said, user_email=f"user{user}@t{tenant}.example"))
    return talk


def rows_of(path: Path, statement: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute(statement).fetchall()


def words_of(figure: Figure) -> str:
    """Everything that is written in a chart."""
    from matplotlib.text import Text

    texts = figure.findobj(Text)
    return "\n".join(text.get_text() for text in texts if isinstance(text, Text))


def assert_readable(png: bytes) -> None:
    """A small PNG in its proper size, of several colours, none of which fills it."""
    assert len(png) < _MOST_BYTES
    with Image.open(io.BytesIO(png)) as image:
        assert (image.format, image.size) == ("PNG", (charts.WIDTH, charts.HEIGHT))
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    _, counts = np.unique(pixels, axis=0, return_counts=True)
    assert len(counts) >= 8
    assert counts.max() < 0.998 * counts.sum()


# -- what Dagster keeps --


@pytest.mark.nightly
def test_each_export_shows_plots_and_previews_that_name_nobody(
    deployment: Deployment, instance: dg.DagsterInstance
) -> None:
    add_sample(deployment.settings)
    lake = [f"lake_{table}" for table in DAILY_TABLES]
    made = [mart.name for mart in marts()]
    unwatched = Observer(lambda name: None, lambda total, unit: None, lambda step: None)
    for report in materialize(["facts", *lake, "lake_dimensions", "duckdb_analytics", *made], WINDOW, unwatched):
        assert [step.error for step in report.steps if not step.succeeded] == []
    days = [day.isoformat() for day in WINDOW.days()]
    for asset in (*lake, "duckdb_analytics", *made):
        records = instance.fetch_materializations(dg.AssetKey(asset), limit=100).records
        assert [record.partition_key for record in records] == (days[::-1] if asset in lake else [None])
        metadata = [dict(one.asset_materialization.metadata) for one in records if one.asset_materialization]
        # Of a range of days only the newest event, which the UI opens with, holds the plot.
        for part in ("plot", "preview"):
            assert [part in one for one in metadata] == [True, *[False] * (len(records) - 1)]
        image = _IMAGE.fullmatch(str(metadata[0]["plot"].value))
        assert image is not None
        assert_readable(base64.b64decode(image[1]))
        for record in records:
            entry = dg.serialize_value(record.event_log_entry)
            assert len(entry) < _MOST_IN_AN_EVENT
            for canary in (*TEXTS, "ana@", ".example", "Lisbon", "Porto", "hiking"):
                assert canary not in entry


def test_no_plot_has_a_word_of_users_or_of_what_they_said(busy: Path) -> None:
    for figure in FIGURES:
        words = words_of(figure(busy))
        assert len(words) > 50
        assert [
            word for word in ("@", "user0", "user1", "ana", "Porto", "Lisbon", "Hello", "talk") if word in words
        ] == []


# -- what they show --


def test_tenants_beyond_the_eight_with_most_messages_are_one_series(busy: Path) -> None:
    found = numbers.activity(busy)
    shown: Counter[str] = Counter()
    for one in found:
        shown[one.series] += one.number
    said = dict(rows_of(busy, "SELECT slug, count(*) FROM messages JOIN tenants USING (tenant_id) GROUP BY slug"))
    ranked = sorted(said, key=lambda slug: -said[slug])
    assert len(ranked) == BUSY_TENANTS
    expected = {slug: said[slug] for slug in ranked[:8]} | {"2 others": sum(said[slug] for slug in ranked[8:])}
    assert dict(shown) == expected
    assert next(iter(shown)) == ranked[0]
    legend = charts.legend_of(plots.activity_figure(busy))
    assert legend[0] == "2 others"
    assert sorted(legend) == sorted(expected)


def test_growth_ends_at_all_memories_and_never_falls(busy: Path) -> None:
    kinds: dict[str, list[int]] = {}
    for one in numbers.growth(busy):
        kinds.setdefault(one.series, []).append(one.number)
    assert {kind: values[-1] for kind, values in kinds.items()} == dict(
        rows_of(busy, "SELECT kind, count(*) FROM memories GROUP BY kind")
    )
    for values in kinds.values():
        assert len(values) == DAYS
        assert values == sorted(values)


def test_churn_ends_at_the_facts_that_hold_on_the_last_day(busy: Path) -> None:
    found = numbers.churn(busy)
    ((holding, began, ended),) = rows_of(busy, _FACTS_AT_THE_END)
    assert ended > 100
    assert [one.day for one in found] == list(MANY.days())
    assert (found[-1].holding, sum(one.began for one in found), sum(one.ended for one in found)) == (
        holding,
        began,
        ended,
    )


def test_retention_is_of_all_tenants_and_has_a_cell_for_weeks_in_which_nobody_came_back(busy: Path) -> None:
    found = {(one.week, one.weeks_later): one for one in numbers.retention(busy)}
    active: dict[Any, set[date]] = {}
    for user, day in rows_of(busy, "SELECT DISTINCT user_id, day FROM messages WHERE role = 'user'"):
        active.setdefault(user, set()).add(day - timedelta(days=day.weekday()))
    weeks = [FIRST_DAY + timedelta(weeks=n) for n in range(DAYS // 7)]
    returning: set[int] = set()
    for first in weeks:
        cohort = [seen for seen in active.values() if min(seen) == first]
        for later in range((weeks[-1] - first).days // 7 + 1):
            back = sum(first + timedelta(weeks=later) in seen for seen in cohort)
            cell = found.pop((first, later))
            returning.add(back)
            assert (cell.users, round(cell.retention * cell.users, 6)) == (len(cohort), back)
    assert found == {}
    assert 0 in returning


def test_response_is_of_all_jobs_of_a_day_and_type(busy: Path) -> None:
    found = numbers.response(busy)
    assert len(found) == 3 * DAYS
    lags = [
        (finished - created).total_seconds()
        for created, finished in rows_of(
            busy, "SELECT created_at, finished_at FROM jobs WHERE job_type = 'summarize' AND day = '2025-02-01'"
        )
    ]
    (one,) = (lag for lag in found if (lag.job_type, lag.day) == ("summarize", date(2025, 2, 1)))
    assert len(lags) == 7 * BUSY_TENANTS
    assert one.p50 == pytest.approx(median_low(lags))
    assert one.p95 == pytest.approx(sorted(lags)[66])  # the 67th of 70 is the first that 95 of 100 do not exceed


def test_quality_counts_every_finding_and_repair(busy: Path) -> None:
    found = numbers.quality(busy)
    ((findings, repaired),) = rows_of(busy, "SELECT count(*), count(*) FILTER (repaired) FROM audit_findings")
    assert repaired > 0
    assert (sum(one.findings for one in found), sum(one.repaired for one in found)) == (findings, repaired)
    assert {one.series for one in found} == {"chroma: vector_missing", "chroma: vector_stale", "postgres: no_source"}
    ((newest,),) = rows_of(busy, "SELECT greatest(max(e.day), max(a.day)) FROM events e, audit_findings a")
    assert {max(one.day for one in found if one.series == name) for name in {one.series for one in found}} == {newest}


def test_cost_is_of_all_tenants_with_the_models_beyond_the_eight_as_one_series(busy: Path) -> None:
    found = numbers.cost(busy)
    tokens: Counter[str] = Counter()
    for one in found:
        tokens[one.series] += one.tokens
    assert dict(tokens) == {f"model-{n}": 2 * DAYS * 1000 * (11 - n) for n in range(1, 9)} | {
        "2 others": 2 * DAYS * 3000
    }
    dollars: dict[date, float] = {}
    for one in found:
        if one.cost_usd is not None:
            dollars[one.day] = dollars.get(one.day, 0) + one.cost_usd
    assert sorted(dollars) == [day for day in MANY.days() if day.day % 3]
    assert dollars[date(2025, 2, 1)] == pytest.approx(2 * 0.055)
    assert charts.legend_of(plots.cost_figure(busy))[0] == "US dollars"


def test_recall_counts_every_answer_once(busy: Path) -> None:
    ((users,),) = rows_of(busy, "SELECT count(*) FROM users")
    assert numbers.recall(busy) == [
        (day, users * bool(day.day % 4), users * (day.day % 4 == 0), users * (day.day % 5 == 0)) for day in MANY.days()
    ]


def test_facts_of_tenants_beyond_the_eight_with_most_are_one_bar(busy: Path) -> None:
    found = {one.series: (one.holding, one.ended) for one in numbers.catalogue(busy)}
    said = dict(rows_of(busy, "SELECT slug, count(*) FROM facts JOIN tenants USING (tenant_id) GROUP BY slug"))
    assert {name: sum(counts) for name, counts in found.items() if name != "2 others"} == dict(
        sorted(said.items(), key=lambda one: -one[1])[:8]
    )
    ((holding, ended),) = rows_of(busy, "SELECT count(*) FILTER (valid_to IS NULL), count(valid_to) FROM facts")
    assert [sum(counts) for counts in zip(*found.values(), strict=True)] == [holding, ended]
    assert ended > 100


def test_users_are_counted_once_a_day_in_the_band_of_their_messages(busy: Path) -> None:
    bands = {"no message": (0, 0), "1 message": (1, 1), "2 to 5": (2, 5), "6 to 20": (6, 20)}
    said = Counter(rows_of(busy, "SELECT user_id, day FROM messages"))
    expected: Counter[tuple[str, date]] = Counter()
    for (_user, day), messages in said.items():
        (band,) = [name for name, (least, most) in bands.items() if least <= messages <= most]
        expected[band, day] += 1
    assert {(one.series, one.day): one.number for one in numbers.users(busy)} == dict(expected)
    assert {band for band, _day in expected} >= {"1 message", "2 to 5"}


def test_topics_and_weeks_are_of_all_tenants(busy: Path) -> None:
    mondays = [day for day in MANY.days() if day.weekday() == 0]
    predicates = dict(rows_of(busy, "SELECT date_trunc('week', day)::DATE, count(*) FROM facts GROUP BY 1"))
    found = numbers.topics(busy)
    # A tenant has fewer than twenty predicates, so that every fact is counted once.
    assert {one.day: one.number for one in found if one.series == "topics"} == predicates
    assert sorted(one.day for one in found if one.series == "entities") == mondays
    assert numbers.calendar(busy) == [(monday, 7, 0) for monday in mondays]
    assert len(bars_of(plots.calendar_figure(busy))) == len(mondays)


def test_lake_plots_show_the_last_ninety_days_with_rows(busy: Path) -> None:
    manifest = read_manifest(busy.parents[1] / "lake")
    assert manifest is not None
    messages = manifest.tables["messages"]
    assert sum(file.rows for file in messages.files.values()) == sum(bars_of(plots.lake_figure(manifest, "messages")))
    old = {f"day=2024-{month:02}-01/part-0.parquet": next(iter(messages.files.values())) for month in range(1, 13)}
    tables = {"messages": msgspec.structs.replace(messages, files=messages.files | old)}
    longer = plots.lake_figure(msgspec.structs.replace(manifest, tables=tables), "messages")
    # 16 March 2025 and the 89 days before it; the first of December 2024 is longer ago.
    assert bars_of(longer) == bars_of(plots.lake_figure(manifest, "messages"))
    assert "No day with rows" in words_of(plots.lake_figure(manifest, "profiles"))
    assert "No day with rows" in words_of(plots.lake_figure(manifest, "a table that was never exported"))


def test_the_overview_names_every_table_with_its_rows(busy: Path) -> None:
    rows = {name: table.rows for name, table in manifest_of(busy).tables.items()}
    figure = plots.overview_figure(rows)
    words = words_of(figure).splitlines()
    for name, count in rows.items():
        assert name in words
        assert f"{count:,}" in words
    assert_readable(charts.png_of(figure))


@pytest.mark.nightly
def test_every_plot_is_small_and_readable(busy: Path) -> None:
    for figure in FIGURES:
        assert_readable(charts.png_of(figure(busy)))


@pytest.mark.nightly
def test_an_export_of_nothing_has_plots_that_say_so(servers: Servers, migrated_template: str, tmp_path: Path) -> None:
    with fresh_database(servers, migrated_template) as fresh:
        export_lake(fresh.pipeline_url, MANY, tmp_path / "lake")
    report = publish_duckdb(tmp_path / "lake", tmp_path / "exports", 3)
    for figure in FIGURES:
        drawn = figure(report.path)
        assert re.search(r"\b(No|nobody)\b", words_of(drawn))
        assert_readable(charts.png_of(drawn))
    assert_readable(charts.png_of(plots.overview_figure(report.rows)))


# -- drawing --


def test_the_same_numbers_give_the_same_bytes_in_several_threads_at_once(busy: Path) -> None:
    def draw(figure: Callable[[Path], Figure]) -> bytes:
        return charts.png_of(figure(busy))

    alone = [draw(figure) for figure in FIGURES[:3]]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(draw, FIGURES[:3] * 2)) == alone * 2


@pytest.mark.parametrize(
    "series",
    [
        {"one": {date(2025, 3, 1): 1}},
        {"$x^{2": {date(2025, 3, 1): 0}, "a" * 63: {date(2025, 2, 1): 10**15}},
        {"two years": {date(2023, 12, 31): 3, date(2024, 2, 29): 4}},
        {f"tenant {n}": {date(2025, 3, n + 1): n} for n in range(12)},
    ],
    ids=["one day", "labels and numbers", "two years", "twelve"],
)
def test_extreme_numbers_and_labels_are_drawn(series: dict[str, dict[date, float]]) -> None:
    drawn = charts.stacked_days("Title with $ and _", "unit", series, ("$marks$", {date(2025, 3, 1): 1}))
    assert_readable(charts.png_of(drawn))
    assert len(charts.legend_of(drawn)) == len(series) + 1
    assert max(len(label) for label in charts.legend_of(drawn)) <= 26


def test_times_from_nothing_to_months_have_ticks_between_them() -> None:
    day = date(2025, 3, 1)
    series = {"fast": ({day: 0.0}, {day: 0.0004}), "slow": ({day: 9e6}, {day: 2e7})}
    drawn = charts.percentile_days("Times", series, ("p50", "p95"))
    assert_readable(charts.png_of(drawn))
    assert {"1 ms", "1 min", "1 day", "100 days"} <= set(words_of(drawn).splitlines())


def bars_of(figure: Figure) -> list[float]:
    """The heights of the bars that are seen."""
    from matplotlib.patches import Rectangle

    (axes,) = figure.axes
    return [bar.get_height() for bar in axes.patches if isinstance(bar, Rectangle) and bar.get_height()]
