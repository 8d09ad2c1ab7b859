"""A run that the user executes by hand: ``here=3`` of ``%fork``."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checkout.project import real_folder
from ..errors import Busy, InvalidInput
from ..records.names import folder_name
from . import attempts, plan
from .order import Order, make_folder
from .plan import Plan


@dataclass(frozen=True)
class Claimed:
    """A run that is executed by hand.

    Parameters
    ----------
    folder : Path
        Its ``data_job``.
    parameters : dict
        Its own values.
    name : str
        The run's id.
    beside : Path or None
        The folder of the finished run that is left alone.
    """

    folder: Path
    parameters: dict[str, Any]
    name: str
    beside: Path | None = None


def claim(order: Order, label: int) -> Claimed:
    """Make the folder of one run and its record, and start nothing: somebody executes it by hand.

    The folder of a run that is done stays as it is: its results count. Another one is made, unless ``resume=keep`` was
    said.

    Parameters
    ----------
    order : Order
        The call.
    label : int
        The run's ``i_sub_job``.

    Raises
    ------
    InvalidInput
        When the order has no such run.
    Busy
        When it is being executed.
    """
    whole = dataclasses.replace(order, only=None, first=0, done_file=None)
    made = whole.plan(resume=order.resume or "keep")
    numbers = {point.i_sub_job(index): (index, point) for index, point in zip(made.order, order.points, strict=True)}
    if label not in numbers:
        raise InvalidInput(f"here={label}: there is no such run.", plan.these(list(numbers)))
    index, point = numbers[label]
    name = f"{order.job_folder.name}/{index}"
    folder, parameters = order.job_folder / folder_name(index), dict(point.parameters)
    for run in made.adopt:
        if run.index == index:
            raise Busy(f"{run.id} is being executed.", f"End it first: %jobs kill {run.id}")
    make_folder(order.job_folder)
    if index in [run.index for run in made.keep]:
        if order.resume == "keep":
            return Claimed(folder, parameters, name)
        beside = real_folder(order.job_folder, f"here_{folder.name}")
        make_folder(beside)
        return Claimed(beside, parameters, name, beside=folder)
    aside = [run for run in made.aside if run.index == index]
    chosen = Plan(execute=[(index, point)], aside=aside, taken=[run for run in made.taken if run.index == index])
    attempts.write(chosen, order.job_folder, order.draft, order.record())
    return Claimed(folder, parameters, name)
