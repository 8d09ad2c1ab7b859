"""``%jobs plot``: what is drawn of runs, its text, and the figures of the plotting libraries."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import pytest

from colab_magics import jobs
from colab_magics.checkout.project import Project
from colab_magics.errors import InvalidInput, NotFound, Unavailable
from colab_magics.runs import plots
from colab_magics.runs.plots import LIBRARIES
from colab_magics.runs.plots.drawings import Lines, Parallel, Series, thin

from .folders import leave_run

HOSTILE = ["<b>$x_1$</b>", "_hidden", "a$b", "\\frac", "ünï-日本", "x.y[0]", "&#36;"]


@pytest.fixture
def sweep(project: Project) -> Project:
    """Three rates, two seeds and two sizes; the last values are 1.05, 1.15 and 2.05 times the rate's, by seed."""
    index = 0
    for lr in (0.001, 0.01, 0.1):
        for seed in (0, 1):
            for size in ("big", "small"):
                reports = [{"loss": (1 + 10 * lr + seed / 10) / (1 + step), "step": step} for step in range(4)]
                parameters = {"lr": lr, "seed": seed, "size": size}
                leave_run(project.data_job, index, parameters=parameters, reports=reports)
                index += 1
    return project


def drawing(*args: Any, **options: Any) -> Any:
    (found,) = jobs.plot(*args, **options).drawings
    return found


def test_a_metric_by_step_is_a_line_for_each_run(project: Project) -> None:
    for index in range(3):
        reports = [{"loss": 2 / (1 + step + index), "step": step} for step in range(50)] if index < 2 else None
        leave_run(project.data_job, index, parameters={"lr": index}, reports=reports)
    found = drawing("loss")
    assert [(one.name, len(one.x)) for one in found.series] == [("baseline/0  lr=0", 50), ("baseline/1  lr=1", 50)]
    assert (found.x, found.y, found.points) == ("step", "loss", False)
    assert found.notes == ["Nothing reported: baseline/2"]
    text = str(jobs.plot("loss"))
    assert "baseline/0  lr=0  █" in text
    assert "first 2  last 0.04 at 49  min 0.04 at 49  max 2 at 0" in text


def test_legends_write_numbers_shortly_unless_they_would_look_the_same(project: Project) -> None:
    for index, lr in enumerate((0.012345678, 0.5)):
        leave_run(project.data_job, index, parameters={"lr": lr, "n": 1}, reports=[{"loss": 1.0}])
    assert [one.name for one in drawing("loss").series] == ["baseline/0  lr=0.01235, n=1", "baseline/1  lr=0.5, n=1"]
    assert [one.name for one in drawing("loss", over="n").series] == ["lr=0.01235", "lr=0.5"]
    leave_run(project.data_job, 2, parameters={"lr": 0.012345679, "n": 1}, reports=[{"loss": 1.0}])
    assert [one.name for one in drawing("loss", over="n").series] == ["lr=0.012345678", "lr=0.5", "lr=0.012345679"]


def test_without_steps_reports_are_counted_and_nan_is_a_gap(project: Project) -> None:
    leave_run(project.data_job, 0, reports=[{"loss": 1}])
    leave_run(project.data_job, 1, reports=[{"loss": math.nan}, {"loss": math.inf}])
    assert drawing("loss").x == "report"
    assert "nan" in str(jobs.plot("loss"))


def test_several_metrics_and_one_with_a_comma_in_its_name(project: Project) -> None:
    reports = [{"loss": 3 - step, "acc": step, "a,b": 7, "step": step} for step in range(3)]
    leave_run(project.data_job, 0, reports=reports)
    drawn = jobs.plot("acc, loss")
    assert [one.y for one in drawn.drawings] == ["acc", "loss"]
    assert [line for line in str(drawn).splitlines() if "baseline" not in line] == ["acc", "", "loss"]
    assert drawing("a,b").y == "a,b"
    with pytest.raises(InvalidInput, match="did you mean loss"):
        jobs.plot("acc,los")


def test_over_a_parameter_is_mean_and_standard_deviation(sweep: Project) -> None:
    found = drawing("loss", over="seed")
    assert [one.name for one in found.series][:2] == ["lr=0.001, size=big (2 runs)", "lr=0.001, size=small (2 runs)"]
    first = found.series[0]
    assert first.counts == [2, 2, 2, 2]
    assert first.y[0] == pytest.approx((1.01 + 1.11) / 2)
    assert first.spread[0] == pytest.approx(0.1 / math.sqrt(2))
    assert "± 0.018 (2) at 3" in str(jobs.plot("loss", over="seed"))
    with pytest.raises(InvalidInput, match=r"did you mean seed\? Known: lr, repeat, seed, size"):
        jobs.plot("loss", over="sed")


def test_over_repeats_is_what_n_of_a_grid_made(project: Project) -> None:
    for index in range(4):
        reports = [{"loss": index}]
        leave_run(project.data_job, index, parameters={"lr": index // 2}, repeat=index % 2, reports=reports)
    assert [(one.name, list(one.y)) for one in drawing("loss", over="repeat").series] == [
        ("lr=0 (2 runs)", [0.5]),
        ("lr=1 (2 runs)", [2.5]),
    ]


def test_runs_of_a_mean_that_end_at_different_steps_are_told(project: Project) -> None:
    for index, steps in enumerate((2, 4)):
        reports = [{"loss": index, "step": step} for step in range(steps)]
        leave_run(project.data_job, index, parameters={"seed": index}, reports=reports)
    found = drawing("loss", over="seed")
    assert list(found.series[0].counts) == [2, 2, 1, 1]
    assert "do not have the same steps" in found.notes[0]


def test_by_a_parameter_each_run_is_a_point_and_the_others_make_the_lines(sweep: Project) -> None:
    found = drawing("loss", x="lr", over="seed", log="xy")
    assert [one.name for one in found.series] == ["size=big (6 runs)", "size=small (6 runs)"]
    assert list(found.series[0].x) == [0.001, 0.01, 0.1]
    assert found.series[0].y[2] == pytest.approx((2.0 + 2.1) / 2 / 4)
    assert (found.points, found.joined, found.log) == (True, True, "xy")
    assert len(drawing("loss", x="lr").series) == 4
    assert drawing("loss", x="size").categories == ["big", "small"]
    with pytest.raises(InvalidInput, match="size has values that are no numbers"):
        jobs.plot("loss", x="size", log="x")
    with pytest.raises(InvalidInput, match="did you mean lr"):
        jobs.plot("loss", x="lrr")


def test_by_another_metric_it_is_a_cloud_of_points(project: Project) -> None:
    for index in range(3):
        leave_run(project.data_job, index, parameters={"lr": index}, reports=[{"loss": index, "size": 10 * index}])
    found = drawing("loss", x="size")
    assert [list(zip(one.x, one.y, strict=True)) for one in found.series] == [[(0, 0), (10, 1), (20, 2)]]
    assert not found.joined


def test_a_logarithmic_axis_says_what_it_cannot_show(project: Project) -> None:
    leave_run(project.data_job, 0, reports=[{"loss": value, "step": step} for step, value in enumerate((1, 0, -1, 2))])
    found = drawing("loss", log="y")
    assert list(found.series[0].y) == [1, 2]
    assert found.notes == ["Not on a logarithmic axis: 2 values of 0 or less."]
    assert list(drawing("loss", log="x").series[0].x) == [1, 2, 3]


def test_parallel_coordinates_have_an_axis_for_what_differs(sweep: Project) -> None:
    found = drawing("loss", parallel=True)
    assert found.axes == ["lr", "seed", "size", "loss"]
    assert found.rows[0]["run"] == "baseline/0"
    places, marks = found.places("lr")  # it spans powers of ten
    assert sorted(set(places)) == pytest.approx([0, 0.5, 1])
    assert [word for _, word in marks] == ["0.001", "0.01", "0.1"]
    assert [word for _, word in found.places("size")[1]] == ["big", "small"]
    assert str(jobs.plot("loss", parallel=True)).splitlines()[1].split() == [
        "baseline/0",
        "0.001",
        "0",
        "big",
        "0.2525",
    ]
    with pytest.raises(InvalidInput, match="differ in no parameter"):
        jobs.plot("loss", "0", parallel=True)
    with pytest.raises(InvalidInput, match="x= and over= mean nothing"):
        jobs.plot("loss", parallel=True, x="lr")


def test_a_parameter_that_is_named_as_the_metric_has_an_axis_of_its_own(project: Project) -> None:
    for index in range(2):
        leave_run(project.data_job, index, parameters={"loss": ["a", "b"][index]}, reports=[{"loss": index}])
    found = drawing("loss", parallel=True)
    assert found.axes == ["loss", "metric.loss"]
    assert [row["metric.loss"] for row in found.rows] == [0, 1]
    assert drawing("loss", x="loss").categories == ["a", "b"]


@pytest.mark.parametrize(
    "values", [[0.0], [5, 5], [-1e308, 1e308], [1e-310, 2e-310], [1e9, 1e9 + 1], [10**400, 1], [math.nan]]
)
def test_any_number_has_a_place_on_an_axis(values: list[float]) -> None:
    rows = [{"run": str(i), "x": value, "m": i} for i, value in enumerate(values)]
    places, marks = Parallel("m", ["x", "m"], rows).places("x")
    assert all(0 <= place <= 1 for place in [*places, *(place for place, _ in marks)])


def test_many_points_are_thinned_and_no_extreme_is_lost() -> None:
    ys = [math.sin(i / 1000) for i in range(50_000)]
    ys[30_000], ys[20_000] = math.nan, 9
    found = thin(Series("r", [float(i) for i in range(50_000)], ys), 600)
    assert len(found.y) <= 610
    assert max(y for y in found.y if y == y) == 9
    assert any(math.isnan(y) for y in found.y)
    assert list(found.x) == sorted(found.x)  # type: ignore[type-var]


def test_plot_of_an_unknown_metric(project: Project) -> None:
    leave_run(project.data_job, 0, reports=[{"val_loss": 1, "loss": 2}])
    with pytest.raises(InvalidInput, match=r"did you mean val_loss\? Known: loss, val_loss"):
        jobs.plot("val_los")
    with pytest.raises(InvalidInput, match=r"Which metric\?\n→ %jobs plot val_loss; known: val_loss, loss"):
        jobs.plot()
    leave_run(project.data_job, 1)
    with pytest.raises(NotFound, match="reported nothing"):
        jobs.plot("loss", "1")


# libraries


def test_the_first_library_that_is_there_draws_and_text_is_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"altair", "plotly"}
    monkeypatch.setattr(plots.importlib.util, "find_spec", lambda name: name if name in there else None)
    assert plots.choose(None, text=False) == "altair"
    assert plots.choose(None, text=True) == "text"
    assert plots.choose("plotly", text=True) == "plotly"
    assert plots.choose("text", text=False) == "text"
    with pytest.raises(Unavailable, match=r"matplotlib is not installed.\n→ Install it: pip install matplotlib"):
        plots.choose("matplotlib", text=False)
    there.clear()
    assert plots.choose(None, text=False) == "text"


def everything(series: int = 3) -> list[Lines | Parallel]:
    """Drawings of all kinds, with names that mean something to one of the libraries."""
    lines = [Series(HOSTILE[i % len(HOSTILE)], [0.0, 1.0, 2.0], [1.0, math.nan, i + 1.0]) for i in range(series)]
    means = [Series("mean", [1.0, 10.0], [1.0, 2.0], [0.1, 0.2], [2, 2])]
    rows = [{"run": f"r/{i}", "x": 10.0**-i, HOSTILE[0]: HOSTILE[i], "m": i + 1.0} for i in range(3)]
    return [
        Lines(HOSTILE[0], HOSTILE[2], lines),
        Lines("y", "step", means, log="xy"),
        Lines("y", "x", [*means, Series("b", [1.0], [math.inf])], points=True, log="x"),
        Lines("y", "x", [Series("words", ["b", "$a$"], [1.0, 2.0], [0.1, 0.0], [2, 1])], points=True),
        Lines("y", "x", [Series("cloud", [1.0, 2.0], [1.0, 2.0])], points=True, joined=False),
        Lines("y", "x", [Series("best", [1.0, 2.0], [1.0, 2.0], steps=True)]),
        Lines("y", "x", [Series("way", [1.0, 2.0], [1.0, 2.0]), Series("dots", [1.0, 2.0], [2.0, 1.0], alone=True)]),
        Parallel("m", ["x", HOSTILE[0], "m"], rows, log="y"),
        Parallel("m", ["x", HOSTILE[0], "m"], [*rows, {**rows[0], "x": None, HOSTILE[0]: None}]),
    ]


@pytest.mark.parametrize("library", LIBRARIES)
def test_each_library_draws_everything(library: str) -> None:
    pytest.importorskip(library)
    for drawn in everything():
        shown = plots.Plot([drawn], library)._repr_mimebundle_()
        assert shown["text/plain"]
        assert len(shown) > 1, drawn
    whole = plots.Plot(everything(40), library)
    assert whole.figure is not None
    assert len(whole._repr_mimebundle_()) > 1


def test_parallel_coordinates_put_a_run_without_a_parameter_below_the_others() -> None:
    rows = [{"run": str(i), "x": x, "m": float(i)} for i, x in enumerate((1, None, 3))]
    places, marks = Parallel("m", ["x", "m"], rows).places("x")
    assert places == pytest.approx([0.15, 0, 1])
    assert [word for _, word in marks] == ["–", "1", "3"]


def test_matplotlib_draws_what_was_reported_and_leaves_pyplot_alone(sweep: Project) -> None:
    pytest.importorskip("matplotlib")
    import matplotlib.pyplot

    drawn = jobs.plot("loss", over="seed", log="y", by="matplotlib")
    (axes,) = drawn.figure.axes
    assert [len(line.get_xdata()) for line in axes.lines] == [4] * 6
    assert axes.lines[0].get_ydata()[0] == pytest.approx(1.06)
    assert len(axes.collections) == 6  # the bands
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_yscale()) == ("step", "loss", "log")
    assert base64.b64decode(drawn._repr_mimebundle_()["image/png"]).startswith(b"\x89PNG")
    assert not matplotlib.pyplot.get_fignums()


def test_altair_is_given_no_more_points_than_it_takes(project: Project) -> None:
    altair = pytest.importorskip("altair")
    for index in range(20):
        leave_run(project.data_job, index, reports=[{"loss": step, "step": step} for step in range(500)])
    chart = jobs.plot("loss", by="altair").figure
    assert isinstance(chart, altair.Chart | altair.LayerChart)
    values = json.loads(chart.to_json())
    assert "nan" not in json.dumps(values).lower()


def test_plotly_reads_no_html_in_names(project: Project) -> None:
    pytest.importorskip("plotly")
    leave_run(project.data_job, 0, parameters={"lr": "<a href=x>$y$</a>"}, reports=[{"loss": 1, "step": 1}])
    assert "<a" not in jobs.plot("loss", by="plotly").figure.to_json()
