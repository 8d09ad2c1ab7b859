"""Optuna's study of a search: it proposes points and is told what came of them.

It lives in the memory of a scheduler. Another scheduler makes it anew from the runs that there are, by asking and
telling again in the same order; where that proposes the points that the runs have, its random state is the one that it
would have had, and the search goes on as if nothing had happened. Where it does not, because the space, the seed or the
library changed, the runs that fit are told to a study with another random state.
"""

from __future__ import annotations

import math
import random
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ...errors import Unavailable, did_you_mean
from .space import Distribution, Space

SAMPLERS = ("tpe", "random", "qmc", "cma", "grid")
PRUNERS = {"early": "hyperband", "median": "median", "hyperband": "hyperband"}
"""What `stop=` says, and who decides then."""
_FEW, _MANY, _ALL = 20, 400, 10_000
"""So many times a point that was there already is answered with another one; then one is drawn, so many times.
Of a space with so many points at most all are known."""

End = Literal["done", "failed", "stopped"]
Series = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Rules:
    """How a search goes.

    Parameters
    ----------
    goals : sequence of str
        ``min:loss``, ``max:accuracy``.
    sampler : str
        One of `SAMPLERS`.
    seed : int
        Of its random numbers.
    stop : str
        One of `PRUNERS`; empty: nothing is stopped early.
    parallel : bool
        Whether several runs execute at once: what is being tried counts then, too.
    """

    goals: Sequence[str]
    sampler: str = "tpe"
    seed: int = 0
    stop: str = ""
    parallel: bool = False


@dataclass
class Tried:
    """A point that a run has.

    Parameters
    ----------
    number : int
        Counts the points of a search.
    parameters : mapping
        The run's own values.
    told : sequence of int
        Points whose ends were known when it was chosen, and not when the one before was.
    end : str or None
        How the run has ended; None while it has not.
    values : sequence of float or None
        The goals' values; None where one is missing, or NaN.
    series : sequence of (float, float)
        Step by step the values of the goal, where runs are stopped early.
    """

    number: int
    parameters: Mapping[str, Any]
    told: Sequence[int] = ()
    end: End | None = None
    values: Sequence[float] | None = None
    series: Series = ()


@dataclass
class _Open:
    """A trial of Optuna, and the run that it is of."""

    trial: Any
    tried: Tried
    steps: set[int] = field(default_factory=set)
    is_told: bool = False


def library() -> Any:
    """Import Optuna, which is silent from then on.

    Raises
    ------
    Unavailable
        When it is not there.
    """
    try:
        import optuna  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise Unavailable(
            f"search= needs the package optuna, and it cannot be imported: {error}.",
            "pip install 'colab-magics[search]'",
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


class Study:
    """Proposes points.

    Parameters
    ----------
    space : Space
        What they are of.
    rules : Rules
        How they are chosen.
    before : sequence of Tried
        What there is already, by its number; all of it fits into the space.
    least : int, default 0
        No new point has a smaller number: those below may be of runs that do not fit.
    """

    def __init__(self, space: Space, rules: Rules, before: Sequence[Tried] = (), least: int = 0) -> None:
        self.space, self.rules, self._least = space, rules, least
        self._optuna = library()
        self._points = space.all(_ALL)
        self._told: list[int] = []
        with _quiet():
            if not self._replay(before):
                self._begin(zlib.crc32(f"{rules.seed}/{len(before)}".encode()))
                for one in before:
                    self._enter(one)
                    if one.end is not None:
                        self._tell(one.number, one)
            for one in before:
                if one.end is not None and not self._open[one.number].is_told:
                    self.tell(one)

    def _begin(self, seed: int) -> None:
        directions = ["minimize" if goal.startswith("min:") else "maximize" for goal in self.rules.goals]
        self._study = self._optuna.create_study(
            study_name="search",  # the same each time: Hyperband draws by it
            directions=directions,
            sampler=_sampler(self._optuna, self.rules, seed),
            pruner=_pruner(self._optuna, self.rules),
        )
        self._open: dict[int, _Open] = {}
        self._known: dict[str, int] = {}
        self._told = []
        self._firsts = iter(self.space.first)

    def _replay(self, before: Sequence[Tried]) -> bool:
        """Ask and tell again what was asked and told; return whether that gives the same points."""
        self._begin(self.rules.seed)
        by_number = {one.number: one for one in before}
        for number in range(len(before)):
            one = by_number.get(number)
            if one is None or any(t not in self._open or by_number[t].end is None for t in one.told):
                return False
            for told in one.told:
                self._tell(told, by_number[told])
            trial, parameters = self._next()
            if trial is None or _text(parameters) != _text(one.parameters):
                return False
            self._open[number] = _Open(trial, one)
            self._known[self._key(parameters)] = number
        return True

    def _enter(self, one: Tried) -> None:
        """Have a point that was not proposed here."""
        self._study.enqueue_trial(self._fixed(one.parameters), skip_if_exists=False)
        trial, parameters = self._draw()
        self._open[one.number] = _Open(trial, one)
        self._known.setdefault(self._key(parameters), one.number)
        self._known.setdefault(self._key(one.parameters), one.number)

    def _fixed(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Write a point as Optuna knows it: a choice is the number of its value."""
        fixed: dict[str, Any] = {}
        for name, one in self.space.distributions:
            if name in parameters and one.holds(parameters[name]):
                value = parameters[name]
                fixed[name] = one.place(value) if one.choices else value if one.whole else float(value)
        return fixed

    def ask(self) -> Tried | None:
        """Choose the next point; None when every point of the space has been."""
        with _quiet():
            trial, parameters = self._next()
        if trial is None:
            return None
        one = Tried(max(self._least, max(self._open, default=-1) + 1), parameters, tuple(self._told))
        self._told = []
        self._open[one.number] = _Open(trial, one)
        self._known[self._key(parameters)] = one.number
        return one

    def _next(self) -> tuple[Any, dict[str, Any]]:
        """Ask until a point comes that is new: what came of one that is known is told at once."""
        if (first := next(self._firsts, None)) is not None:
            self._study.enqueue_trial(self._fixed(first))
        if self._points is not None and len(self._known) >= len(self._points):
            return None, {}
        for _ in range(_FEW):
            trial, parameters = self._draw()
            known = self._known.get(self._key(parameters))
            if known is None:
                return trial, parameters
            of = self._open.get(known)
            if of is None or not of.is_told or of.tried.end != "done" or of.tried.values is None:
                self._finish(trial, "failed", None)
            else:
                self._finish(trial, "done", of.tried.values)
        # It insists: one of what is left is chosen, or drawn.
        chance = random.Random(self.rules.seed + len(self._open))
        if self._points is not None:
            left = [point for point in self._points if self._key(point) not in self._known]
            if not left:
                return None, {}
            self._study.enqueue_trial(self._fixed(chance.choice(left)))
            return self._draw()
        self._study.sampler, had = (
            self._optuna.samplers.RandomSampler(seed=chance.randrange(2**31)),
            self._study.sampler,
        )
        try:
            for _ in range(_MANY):
                trial, parameters = self._draw()
                if self._key(parameters) not in self._known:
                    return trial, parameters
                self._finish(trial, "failed", None)
        finally:
            self._study.sampler = had
        return None, {}

    def _key(self, parameters: Mapping[str, Any]) -> str:
        """Write a point so that the same one is the same text, however its steps were added up."""
        steps = {name: one for name, one in self.space.distributions if one.step is not None}
        return _text(
            {
                name: round((v - steps[name].low) / (steps[name].step or 1)) if name in steps else v
                for name, v in parameters.items()
            }
        )

    def _draw(self) -> tuple[Any, dict[str, Any]]:
        trial = self._study.ask()
        return trial, self.space.point(lambda name, one: _suggest(trial, name, one))

    def report(self, number: int, series: Series) -> int | None:
        """Note how a run does, step by step; return the step at which it is to be stopped."""
        one = self._open.get(number)
        if one is None or one.is_told:
            return None
        with _quiet():
            return next((step for step in self._report(one, series) if one.trial.should_prune()), None)

    def _report(self, one: _Open, series: Series) -> Iterator[int]:
        for x, value in series:
            step = int(x)
            if step >= 0 and step not in one.steps:
                one.steps.add(step)
                one.trial.report(value, step)
                yield step

    def importance(self) -> dict[str, float]:
        """Return how much the goal depends on each parameter; all together are 1."""
        with _quiet():
            how = self._optuna.importance.PedAnovaImportanceEvaluator()
            found: dict[str, float] = self._optuna.importance.get_param_importances(self._study, evaluator=how)
        return found

    def tell(self, one: Tried) -> None:
        """Note how a run has ended."""
        with _quiet():
            if one.number in self._open and not self._open[one.number].is_told:
                self._tell(one.number, one)
                self._told.append(one.number)

    def _tell(self, number: int, one: Tried) -> None:
        of = self._open[number]
        of.tried, of.is_told = one, True
        if self.rules.stop:
            for _ in self._report(of, one.series):
                of.trial.should_prune()  # Hyperband notes then with whom the others are compared
        self._finish(of.trial, one.end or "failed", one.values)

    def _finish(self, trial: Any, end: End, values: Sequence[float] | None) -> None:
        states = self._optuna.trial.TrialState
        try:
            if end == "done" and values is not None:
                self._study.tell(trial, list(values))
            else:
                self._study.tell(trial, state=states.PRUNED if end == "stopped" else states.FAIL)
        except RuntimeError as error:
            # A sampler that has tried all it can ends the loop, and there is none.
            if "stop" not in str(error):
                raise


def _suggest(trial: Any, name: str, one: Distribution) -> Any:
    if one.choices:
        return one.choices[trial.suggest_categorical(name, range(len(one.choices)))]
    if one.whole:
        return int(trial.suggest_int(name, one.low, one.high, step=int(one.step or 1), log=one.log))
    return float(trial.suggest_float(name, one.low, one.high, step=one.step, log=one.log))


def _sampler(optuna: Any, rules: Rules, seed: int) -> Any:
    kinds: dict[str, Callable[[], Any]] = {
        # What is being tried counts as bad meanwhile, or all workers would try the same corner.
        "tpe": lambda: optuna.samplers.TPESampler(seed=seed, **({"constant_liar": True} if rules.parallel else {})),
        "random": lambda: optuna.samplers.RandomSampler(seed=seed),
        "qmc": lambda: optuna.samplers.QMCSampler(seed=seed, scramble=True),
        "cma": lambda: optuna.samplers.CmaEsSampler(seed=seed),
        "grid": lambda: optuna.samplers.BruteForceSampler(seed=seed),
    }
    if rules.sampler not in kinds:
        raise did_you_mean(rules.sampler, kinds, kind="sampler")
    try:
        return kinds[rules.sampler]()
    except ImportError as error:
        raise Unavailable(
            f"sampler={rules.sampler} needs a package that is not installed: {error.name}.",
            "pip install 'colab-magics[search]'",
        ) from error


def _pruner(optuna: Any, rules: Rules) -> Any:
    if not rules.stop:
        return optuna.pruners.NopPruner()
    if PRUNERS[rules.stop] == "hyperband":
        return optuna.pruners.HyperbandPruner()
    return optuna.pruners.MedianPruner()


class _quiet(warnings.catch_warnings):
    """Leave out the library's warnings: what the user is to know is said in our words."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore")


def _text(parameters: Mapping[str, Any]) -> str:
    """Write a point so that equal ones are equal texts, to the last bit of a float."""
    return repr(sorted((name, type(value).__name__, repr(value)) for name, value in parameters.items()))


def goal_values(last: Mapping[str, Any], goals: Sequence[str]) -> list[float] | None:
    """Return what a run has reached, by its last reports; None when a goal is missing or NaN."""
    from ...records.metrics import as_number

    found = [as_number(last.get(goal.partition(":")[2])) for goal in goals]
    return None if any(one is None or math.isnan(one) for one in found) else [one for one in found if one is not None]
