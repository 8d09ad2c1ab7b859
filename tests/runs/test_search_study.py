"""Which points a search chooses: Optuna's own, none twice, the same ones after its scheduler has died."""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from colab_magics.errors import InvalidInput
from colab_magics.faces.bodies import read_body
from colab_magics.runs.search import space as spaces
from colab_magics.runs.search.study import Rules, Study, Tried

optuna = pytest.importorskip("optuna", reason="extra [search]")
optuna.logging.set_verbosity(optuna.logging.ERROR)

MIXED = {
    "lr": "loguniform(1e-5, 1e-1)",
    "size": "choice(small, large)",
    "depth": "int(2, 12)",
    "batch": 32,
    "when": {"size": "large", "dropout": "uniform(0, 0.5)"},
}
FIRST = {"first": [{"lr": 1e-3, "size": "large", "dropout": 0.25}, {"depth": 4}]}


def loss(point: Mapping[str, Any]) -> float:
    return abs(math.log10(point["lr"]) + 3) + abs(point["depth"] - 7) / 5 + point.get("dropout", 0.4)


def of_optuna(trial: Any) -> dict[str, Any]:
    """The same space, as a user of Optuna writes it."""
    point = {
        "lr": trial.suggest_float("lr", 1e-5, 1e-1, log=True),
        "size": trial.suggest_categorical("size", ["small", "large"]),
        "depth": trial.suggest_int("depth", 2, 12),
        "batch": 32,
    }
    if point["size"] == "large":
        point["dropout"] = trial.suggest_float("dropout", 0, 0.5)
    return point


def go_on(study: Study, runs: int, value: Callable[[Mapping[str, Any]], float], at_once: int = 1) -> list[Tried]:
    """Choose and execute so many runs, so many at once."""
    live: list[Tried] = []
    done: list[Tried] = []
    while len(done) < runs:
        while len(live) < at_once and len(live) + len(done) < runs and (one := study.ask()) is not None:
            live.append(one)
        if not live:
            break
        one = live.pop(0)
        ended = Tried(one.number, one.parameters, one.told, "done", [value(one.parameters)])
        study.tell(ended)
        done.append(ended)
    return done


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("first", [{}, FIRST], ids=["", "first"])
@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "cma"])
def test_with_one_worker_and_the_same_seed_the_points_are_optunas_own(sampler: str, first: dict[str, Any]) -> None:
    study = Study(spaces.read(MIXED | first), Rules(["min:loss"], sampler, 5))
    mine = [one.parameters for one in go_on(study, 40, loss)]
    theirs: list[dict[str, Any]] = []

    def objective(trial: Any) -> float:
        theirs.append(of_optuna(trial))
        return loss(theirs[-1])

    kinds = {
        "tpe": lambda: optuna.samplers.TPESampler(seed=5),
        "random": lambda: optuna.samplers.RandomSampler(seed=5),
        "qmc": lambda: optuna.samplers.QMCSampler(seed=5, scramble=True),
        "cma": lambda: optuna.samplers.CmaEsSampler(seed=5),
    }
    alone = optuna.create_study(sampler=kinds[sampler]())
    if first:
        alone.enqueue_trial({"lr": 1e-3, "size": "large", "dropout": 0.25})
        alone.enqueue_trial({"depth": 4})
    alone.optimize(objective, 40)
    assert mine == theirs, "to the last bit"


def test_a_study_that_is_made_anew_from_its_runs_goes_on_with_the_same_points() -> None:
    rules, space = Rules(["min:loss"], "tpe", 5), spaces.read(MIXED | FIRST)
    whole = go_on(Study(space, rules), 30, loss)
    for cut in (0, 1, 2, 3, 11, 12, 29):
        rest = go_on(Study(space, rules, whole[:cut]), 30 - cut, loss)
        assert [one.parameters for one in rest] == [one.parameters for one in whole[cut:]], cut


def test_a_study_of_several_workers_is_made_anew_while_runs_go_on() -> None:
    rules, space = Rules(["min:loss"], "tpe", 5, parallel=True), spaces.read(MIXED)
    study, live, known = Study(space, rules), [], {}
    chance = random.Random(1)
    for _ in range(40):
        while len(live) < 4 and (one := study.ask()) is not None:
            live.append(one)
            known[one.number] = one
        one = live.pop(chance.randrange(4))
        known[one.number] = Tried(one.number, one.parameters, one.told, "done", [loss(one.parameters)])
        study.tell(known[one.number])
    anew = Study(space, rules, list(known.values()))
    following, other = study.ask(), anew.ask()
    assert following is not None
    assert other is not None
    assert following.parameters == other.parameters


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_with_eight_workers_no_point_comes_twice(sampler: str) -> None:
    space = spaces.read({"a": "int(1, 5)", "b": "choice(x, y, z)", "c": [True, False]})
    rules = Rules(["min:loss"], sampler, 1, parallel=True)
    points = [one.parameters for one in go_on(Study(space, rules), 100, lambda p: p["a"], at_once=8)]
    assert len(points) == len({repr(sorted(p.items())) for p in points})
    assert len(points) == 30, "then every one was there, and the search says so"
    mixed = go_on(Study(spaces.read(MIXED), rules if sampler != "grid" else Rules(["min:loss"])), 60, loss, at_once=8)
    assert len({repr(one.parameters) for one in mixed}) == 60


def test_a_changed_space_keeps_the_runs_that_fit_and_repeats_none() -> None:
    had = go_on(Study(spaces.read(MIXED), Rules(["min:loss"], seed=5)), 20, loss)
    space = spaces.read(MIXED | {"lr": "loguniform(1e-4, 1e-1)"})
    fit = [one for one in had if space.holds(one.parameters)]
    assert 0 < len(fit) < 20
    assert all(one.parameters["lr"] >= 1e-4 for one in fit)
    new = go_on(Study(space, Rules(["min:loss"], seed=5), fit), 20, loss)
    assert not {repr(one.parameters) for one in fit} & {repr(one.parameters) for one in new}
    assert not {one.number for one in fit} & {one.number for one in new}


def test_what_failed_or_reported_no_number_is_not_taken_for_good() -> None:
    study = Study(spaces.read({"x": "uniform(0, 1)"}), Rules(["max:score"], seed=3))
    for number in range(30):
        one = study.ask()
        assert one is not None
        good = one.parameters["x"] > 0.5
        end = "done" if good or number % 2 else "failed"
        study.tell(Tried(one.number, one.parameters, one.told, end, [one.parameters["x"]] if good else None))  # type: ignore[arg-type]
    later = [one.parameters["x"] for one in go_on(study, 10, lambda p: p["x"])]
    assert statistics.median(later) > 0.8


@pytest.mark.long
@pytest.mark.parametrize("name", ["sphere", "branin", "hartmann"])
def test_the_best_of_60_runs_of_4_workers_is_as_good_as_optunas(name: str) -> None:
    made: dict[str, tuple[dict[str, str], Callable[[Mapping[str, Any]], float]]] = {
        "sphere": ({f"x{i}": "uniform(-5, 5)" for i in range(3)}, lambda p: sum(v * v for v in p.values())),
        "branin": (
            {"x": "uniform(-5, 10)", "y": "uniform(0, 15)"},
            lambda p: (
                (p["y"] - 5.1 / (4 * math.pi**2) * p["x"] ** 2 + 5 / math.pi * p["x"] - 6) ** 2
                + 10 * (1 - 1 / (8 * math.pi)) * math.cos(p["x"])
                + 10
            ),
        ),
        "hartmann": ({f"x{i}": "uniform(0, 1)" for i in range(3)}, hartmann),
    }
    written, function = made[name]
    space, mine, theirs = spaces.read(written), [], []
    for seed in range(10):
        runs = go_on(Study(space, Rules(["min:loss"], seed=seed, parallel=True)), 60, function, at_once=4)
        mine.append(min(one.values[0] for one in runs if one.values))
        alone = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
        alone.optimize(lambda t: function({n: t.suggest_float(n, d.low, d.high) for n, d in space.distributions}), 60)
        theirs.append(alone.best_value)
    spread = statistics.pstdev(theirs) / math.sqrt(len(theirs))
    assert statistics.median(mine) <= statistics.median(theirs) + 2 * spread


def hartmann(point: Mapping[str, float]) -> float:
    a = [[3, 10, 30], [0.1, 10, 35], [3, 10, 30], [0.1, 10, 35]]
    p = [[3689, 1170, 2673], [4699, 4387, 7470], [1091, 8732, 5547], [381, 5743, 8828]]
    x = list(point.values())
    inner = [sum(a[i][j] * (x[j] - p[i][j] * 1e-4) ** 2 for j in range(3)) for i in range(4)]
    return -sum(c * math.exp(-one) for c, one in zip((1.0, 1.2, 3.0, 3.2), inner, strict=True))


@pytest.mark.long
def test_a_small_real_training_gets_as_good_as_by_optuna() -> None:
    datasets = pytest.importorskip("sklearn.datasets", reason="extra [libraries]")
    svm = pytest.importorskip("sklearn.svm")
    data = datasets.load_digits()
    train, test = slice(0, 300), slice(300, 800)

    def error(point: Mapping[str, Any]) -> float:
        model = svm.SVC(C=point["C"], gamma=point["gamma"]).fit(data.data[train], data.target[train])
        return 1 - float(model.score(data.data[test], data.target[test]))

    space, mine, theirs = spaces.read({"C": "loguniform(1e-2, 1e3)", "gamma": "loguniform(1e-6, 1)"}), [], []
    for seed in range(10):
        runs = go_on(Study(space, Rules(["min:error"], seed=seed, parallel=True)), 60, error, at_once=4)
        mine.append(min(one.values[0] for one in runs if one.values))
        alone = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
        alone.optimize(
            lambda t: error({n: t.suggest_float(n, d.low, d.high, log=True) for n, d in space.distributions}), 60
        )
        theirs.append(alone.best_value)
    assert statistics.median(mine) <= statistics.median(theirs) + 0.002


CURVES = {"lr": "loguniform(1e-5, 1)", "width": "int(1, 64)"}


def trained(study: Study, runs: int) -> list[Tried]:
    """Execute runs that report a loss 50 times, one at a time; the study may stop them."""
    done = []
    for _ in range(runs):
        one = study.ask()
        assert one is not None
        series, stopped = [], False
        floor = 1 + 0.2 * abs(math.log10(one.parameters["lr"]) + 2) + 0.1 * abs(math.log2(one.parameters["width"]) - 4)
        while len(series) < 50 and not stopped:
            series.append((float(len(series)), floor + 2 * math.exp(-len(series) / 8)))
            stopped = study.report(one.number, series[-1:]) is not None
        values = None if stopped else [series[-1][1]]
        end: Any = "stopped" if stopped else "done"
        done.append(Tried(one.number, one.parameters, one.told, end, values, series))
        study.tell(done[-1])
    return done


def test_early_stopping_spends_half_of_the_steps_for_a_best_within_two_percent() -> None:
    ratios, spent = [], []
    for seed in range(3):
        bests = []
        for stop in ("", "early"):
            runs = trained(Study(spaces.read(CURVES), Rules(["min:loss"], seed=seed, stop=stop)), 60)
            bests.append(min(one.values[0] for one in runs if one.values))
            spent.append(sum(len(one.series) for one in runs))
        ratios.append(bests[1] / bests[0])
    assert statistics.median(ratios) <= 1.02
    assert sum(spent[1::2]) <= sum(spent[::2]) / 2


@pytest.mark.parametrize("stop", ["early", "median"])
def test_a_study_that_is_made_anew_stops_the_same_runs_early(stop: str) -> None:
    rules = Rules(["min:loss"], seed=4, stop=stop)
    whole = trained(Study(spaces.read(CURVES), rules), 30)
    rest = trained(Study(spaces.read(CURVES), rules, whole[:15]), 15)
    assert sum(one.end == "stopped" for one in rest) >= 3
    assert [(one.parameters, len(one.series)) for one in rest] == [(o.parameters, len(o.series)) for o in whole[15:]]


def test_choosing_a_point_takes_less_than_20_ms() -> None:
    study = Study(spaces.read(MIXED), Rules(["min:loss"], seed=1, parallel=True))
    go_on(study, 60, loss, at_once=4)
    took = []
    for _ in range(10):
        began = time.process_time()
        go_on(study, 1, loss)
        took.append(time.process_time() - began)
    assert statistics.median(took) < 0.02


BAD = [
    ({}, "nothing to choose"),
    ({"a": 1}, "nothing to choose"),
    ({"lr": "loguniform(0, 1)"}, "begins at 0"),
    ({"lr": "loguniforn(1, 2)"}, "did you mean loguniform"),
    ({"lr": "uniform(1)"}, "no range of two numbers"),
    ({"lr": "uniform(2, 1)"}, "from 2 to 1"),
    ({"lr": "uniform(0, .inf)"}, "no range of two numbers"),
    ({"a": "int(0.5, 2)"}, "whole numbers"),
    ({"a": "choice(1, 1)"}, "twice"),
    ({"a": "choice()"}, "no values"),
    ({"a": "uniform(0, 1, step=0)"}, "step"),
    ({"a": [1, 2], "zip": {}}, "word of grids"),
    ({"a": [1, 2], "when": {"a": 3, "b": [1, 2]}}, "never 3"),
    ({"a": [1, 2], "when": {"b": [1, 2]}}, "condition"),
    ({"a": [1, 2], "when": {"a": 1}}, "parameter"),
    ({"a": [1, 2], "when": {"a": 1, "b": 1}, "first": [{"b": 2}]}, "first: b=2"),
    ({"a": [1, 2], "first": [{"c": 2}]}, "'c'"),
    ({"lambda": [1, 2]}, "no Python name"),
    ({"i_sub_job": [1, 2]}, "i_sub_job"),
]


@pytest.mark.parametrize(("written", "says"), BAD, ids=[str(i) for i in range(len(BAD))])
def test_a_space_that_cannot_be_says_why_and_what_to_write(written: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput, match=says.replace("(", r"\(")):
        spaces.read(written)


def test_steps_and_choices_keep_their_types() -> None:
    written = {
        "a": "uniform(0, 1, step=0.25)",
        "b": "logint(1, 1000)",
        "c": [[64, 64], [128]],
        "d": "choice(1, 1.0, true, no)",
    }
    study = Study(spaces.read(written), Rules(["min:loss"], seed=0))
    points = [one.parameters for one in go_on(study, 40, lambda p: p["a"])]
    assert {p["a"] for p in points} <= {0.0, 0.25, 0.5, 0.75, 1.0}
    assert all(type(p["b"]) is int for p in points)
    assert {repr(p["c"]) for p in points} == {"[64, 64]", "[128]"}
    assert {repr(p["d"]) for p in points} == {"1", "1.0", "True", "'no'"}


def test_a_distribution_stands_in_a_mapping_on_one_line_and_texts_stay_as_they_are() -> None:
    lines = ['size: choice(small, "very large")  # two', "when: {size: small, dropout: uniform(0, 0.5)}"]
    body = "\n".join([*lines, 'note: "x: uniform(0, 1)"'])
    assert read_body("fork", None, body) == {
        "size": 'choice(small, "very large")',
        "when": {"size": "small", "dropout": "uniform(0, 0.5)"},
        "note": "x: uniform(0, 1)",
    }
