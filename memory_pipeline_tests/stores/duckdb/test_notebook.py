"""The notebook of docs/ on the published sample: every code cell runs, in order, and draws what the file says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest

from memory_pipeline_tests.stores.duckdb.conftest import SampleExport

pytestmark = pytest.mark.xdist_group("sample_export")

NOTEBOOK = Path(__file__).parents[3] / "docs" / "analytics.ipynb"


def code_cells() -> list[dict[str, Any]]:
    return [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


# DuckDB's own conversion still says what pandas 3.1 deprecates.
@pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame.drop")
def test_the_notebook_opens_the_published_file_and_plots_three_things(
    sample_export: SampleExport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    (tmp_path / ".memory").mkdir()
    (tmp_path / ".memory/data").symlink_to(sample_export.data)
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path / "docs")
    namespace: dict[str, Any] = {}
    try:
        for cell in code_cells():
            exec(compile("".join(cell["source"]), f"cell {cell['id']}", "exec"), namespace)
        plots = {axes.get_title(): axes for number in plt.get_fignums() for axes in plt.figure(number).axes}
        assert list(plots) == ["Messages a day", "Memories so far", "Facts by predicate"]
        assert namespace["by_tenant"].to_numpy().sum() == 1710
        assert len(plots["Messages a day"].collections) == 3
        lines = {str(line.get_label()): line for line in plots["Memories so far"].lines}
        assert float(lines["episode"].get_ydata()[-1]) == 1710  # type: ignore[index, arg-type]
        assert len(plots["Facts by predicate"].patches) == 10
    finally:
        plt.close("all")


def test_the_notebook_is_kept_without_outputs() -> None:
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code_cells())
