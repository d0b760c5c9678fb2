"""The LoCoMo metric: what counts, what never counts, and how it is averaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from memory_pipeline.model.errors import MemoryPipelineError
from memory_pipeline.serving.evaluation import EvidenceRecall, LocomoReport, evaluate_locomo, evidence_recall


def _file(folder: Path, *samples: tuple[str, list[dict[str, Any]]]) -> Path:
    path = folder / "locomo.json"
    path.write_text(json.dumps([{"sample_id": name, "conversation": {}, "qa": qa} for name, qa in samples]))
    return path


def _question(evidence: list[str], category: int = 4, **more: Any) -> dict[str, Any]:
    return {"question": "What?", "answer": 3, "evidence": evidence, "category": category, **more}


@pytest.mark.parametrize(
    ("evidence", "retrieved", "share"),
    [
        (["a", "b"], ["b", "x"], 0.5),
        (["a"], ["a"], 1.0),
        (["a"], [], 0.0),
        ([], [], 1.0),
        (["D8:6; D9:17"], ["D8:6", "D9:17"], 0.0),
        (["D8:6; D9:17", "D1:1"], ["D8:6", "D9:17", "D1:1"], 0.5),
    ],
)
def test_evidence_recall_is_the_share_of_evidence_retrieved(
    evidence: list[str], retrieved: list[str], share: float
) -> None:
    assert evidence_recall(evidence, retrieved) == share


def test_only_the_best_k_turns_count(tmp_path: Path) -> None:
    path = _file(tmp_path, ("s", [_question(["D1:7"])]))
    turns = [f"s:D1:{number}" for number in range(1, 61)]
    report = evaluate_locomo(path, lambda sample, question, k: turns[:k])
    assert report.overall.recall == {"recall@5": 0.0, "recall@10": 100.0, "recall@25": 100.0, "recall@50": 100.0}


def test_turns_beyond_what_was_asked_for_do_not_count(tmp_path: Path) -> None:
    path = _file(tmp_path, ("s", [_question(["D1:60"])]))
    turns = [f"s:D1:{number}" for number in range(1, 61)]
    assert evaluate_locomo(path, lambda *_: turns).overall.recall["recall@50"] == 0.0


def test_means_are_over_questions_and_by_category(tmp_path: Path) -> None:
    path = _file(
        tmp_path,
        ("s", [_question(["D1:1"], 1), _question(["D9:9"], 1), _question([], 3)]),
        ("t", [_question(["D1:1", "D1:2"], 5), {"question": "no evidence key", "category": 9}]),
    )
    report = evaluate_locomo(path, lambda sample, question, k: ["s:D1:1"])
    assert report.samples == 2
    assert report.overall.questions == 5
    assert report.overall.recall["recall@5"] == pytest.approx(60.0)
    assert {name: (part.questions, part.recall["recall@5"]) for name, part in report.by_category.items()} == {
        "multi-hop": (2, 50.0),
        "open-domain": (1, 100.0),
        "adversarial": (1, 0.0),
        "category 9": (1, 100.0),
    }


def test_the_same_turn_number_of_another_sample_is_no_evidence(tmp_path: Path) -> None:
    path = _file(tmp_path, ("s", [_question(["D1:1"])]))
    assert evaluate_locomo(path, lambda *_: ["t:D1:1", "D1:1"]).overall.recall["recall@5"] == 0.0


def test_the_report_is_json_and_a_table(tmp_path: Path) -> None:
    path = _file(tmp_path, ("s", [_question(["D1:1"])]))
    report = evaluate_locomo(path, lambda *_: ["s:D1:1"])
    assert msgspec.json.decode(msgspec.json.encode(report), type=LocomoReport) == report
    assert str(report).splitlines()[1].split() == ["all", "1", "100.0", "100.0", "100.0", "100.0"]
    assert isinstance(report.overall, EvidenceRecall)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("[]", "no questions"), ("{}", "not LoCoMo"), ("[", "not LoCoMo"), ('[{"qa": 1}]', "not LoCoMo")],
)
def test_a_file_that_asks_nothing_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "locomo.json"
    path.write_text(text)
    with pytest.raises(MemoryPipelineError, match=reason):
        evaluate_locomo(path, lambda *_: [])


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MemoryPipelineError, match=r"missing\.json can't be read"):
        evaluate_locomo(tmp_path / "missing.json", lambda *_: [])
