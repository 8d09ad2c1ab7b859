"""What a notebook's own metadata says of the runtime that Colab gives it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from ..errors import InvalidInput, did_you_mean

GPUS = ("T4", "L4", "A100", "G4", "H100")
TPUS = ("V5E1", "V6E1")
KINDS = ("GPU", "TPU", "none")


def device(gpu: str | None, accelerator: str | None) -> tuple[str | None, str | None]:
    """Read what a line asks for.

    Parameters
    ----------
    gpu : str or None
        The model, also of a TPU, in any case.
    accelerator : str or None
        ``GPU``, ``TPU`` or ``none``, in any case.

    Returns
    -------
    tuple
        The kind (of `KINDS`) and the model; None for what is not asked for.

    Raises
    ------
    InvalidInput
        For a word that is none of them, and for two that do not go together.
    """
    model = _word(gpu, (*GPUS, *TPUS), "GPU or TPU that Colab has")
    kind = _word(accelerator, KINDS, "kind of accelerator")
    if model is None:
        return kind, None
    own = "GPU" if model in GPUS else "TPU"
    if kind not in (None, own):
        raise InvalidInput(f"gpu={model} is a {own}, and accelerator={kind} is not.", "Leave accelerator= out.")
    return own, model


def with_runtime(
    content: Mapping[str, Any],
    name: str,
    *,
    kind: str | None = None,
    model: str | None = None,
    high_ram: bool = False,
    background: bool = False,
) -> dict[str, Any]:
    """Return a copy of a notebook that asks Colab for a runtime; what is not asked for stays as it was.

    Parameters
    ----------
    content : mapping
        The notebook.
    name : str
        Its new file name.
    kind, model : str, optional
        See `device`.
    high_ram, background : bool, default False
        More memory; going on when the browser is closed (Pro+ does so anyway).
    """
    made: dict[str, Any] = dict(copy.deepcopy(dict(content)))
    metadata = made.setdefault("metadata", {})
    colab = metadata.setdefault("colab", {})
    colab["name"] = name
    colab.setdefault("provenance", [])
    if kind is not None:
        colab.pop("gpuType", None)
        metadata.pop("accelerator", None)
        if kind != "none":
            metadata["accelerator"] = kind
        if model is not None:
            colab["gpuType"] = model
    if high_ram:
        colab["machine_shape"] = "hm"
    if background:
        colab["background_execution"] = "on"
    # Colab starts its own Python; without a kernelspec it does not know that this is one.
    metadata.setdefault("kernelspec", {"name": "python3", "display_name": "Python 3"})
    return made


def _word(said: str | None, known: tuple[str, ...], what: str) -> str | None:
    if said is None:
        return None
    for one in known:
        if one.lower() == str(said).lower():
            return one
    raise did_you_mean(str(said), known, kind=what)
