"""The benchmarks' own arithmetic and command; what they time is checked by themselves: ours and the twin must agree."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from peers import needs_torch

from benchmarks import report
from benchmarks.timing import Timing, interleave
from needle_lab import cli

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def test_a_ratio_is_the_median_of_ratios_within_rounds():
    ours, theirs = Timing([1.0, 4.0, 3.0, 2.0, 10.0]), Timing([2.0, 4.0, 6.0, 4.0, 5.0])
    assert ours.ratio(theirs) == (0.5, 0.5, 1.0) and ours.median == 3.0


def test_every_contender_runs_in_every_round():
    calls = {"a": 0, "b": 0}

    def count(name):
        def run():
            calls[name] += 1
        return run
    timings = interleave({name: count(name) for name in calls}, threads=1, seconds=0.0, rounds=9, least_rounds=4)
    assert [len(t.seconds) for t in timings.values()] == [4, 4]
    assert min(calls.values()) > 4 and all(t.median > 0 for t in timings.values())


def test_the_table_shows_ratios_aims_and_other_peers():
    row = {"title": "a step", "threads": 1, "aim": [0.8, None], "contenders": {
        "torch": {"median_seconds": 0.0021, "ratio": [1, 1, 1]},
        "numpy": {"median_seconds": 0.001, "ratio": [0.5, 0.4, 0.6]},
        "onnxruntime": {"median_seconds": 0.001, "ratio": [0.7, 0.7, 0.7]}}}
    text = report.markdown({"machine": report.machine(), "date": "2026-01-01", "rows": [row]})
    assert text.splitlines()[-1] == "| a step | 1 | 2.1 ms | 0.50 (0.40-0.60) | - | 0.80, - | onnxruntime 0.70 |"
    assert [report.seconds(t) for t in (2.5, 0.0123, 0.000045)] == ["2.50 s", "12.3 ms", "45 us"]


@needs_torch
def test_the_committed_figures_are_of_all_workloads_of_the_table():
    """So that the lecture's picture does not show a table that has moved on."""
    from benchmarks.workloads import WORKLOADS
    run = json.loads((RESULTS / "results.json").read_text(encoding="utf-8"))
    for threads in {row["threads"] for row in run["rows"]}:
        assert {row["name"] for row in run["rows"] if row["threads"] == threads} == {
            name for name, work in WORKLOADS.items() if not work.full}
    assert (RESULTS / "results.md").read_text(encoding="utf-8") == report.markdown(run)


@needs_torch
@pytest.mark.parametrize("name", ["mlp_step", "small_convolution_backward", "resnet9_step", "gru_step",
                                  "encoder_inference", "depthwise_step"])
def test_ours_and_the_twin_agree(name):
    from benchmarks.workloads import WORKLOADS
    for call in WORKLOADS[name].make().values():
        call()


@needs_torch
def test_the_command_lists_workloads_and_refuses_unknown_ones():
    done = [subprocess.run([sys.executable, "-m", "benchmarks", word], cwd=ROOT, capture_output=True, text=True)
            for word in ("--list", "mlp_stp")]
    assert done[0].returncode == 0 and "gpt_step" in done[0].stdout
    assert done[1].returncode == 2 and "no workload 'mlp_stp'" in done[1].stderr


def test_bench_belongs_to_a_clone(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(cli, "__file__", str(tmp_path / "site-packages" / "needle_lab" / "cli.py"))
    assert cli.main(["bench"]) == 2
    assert "make bench" in capsys.readouterr().err
