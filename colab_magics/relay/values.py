"""Variables on their way to and from a kernel elsewhere: JSON, numpy's own format, Arrow; pickle only when told to.

Reading a pickle executes what its writer put there, and its writer is another machine.
"""

from __future__ import annotations

import base64
import inspect
import io
import json
import sys
from typing import Any

from ..errors import InvalidInput, NotFound

MESSAGE = "colab_magics_value"
"""Type of the message by which a value comes back."""


def pack(name: str, value: Any, *, pickle: bool = False) -> tuple[str, bytes]:
    """Write a value; returns the format and the bytes.

    Raises
    ------
    InvalidInput
        When no safe format holds it.
    """
    numpy, pandas, arrow = (sys.modules.get(module) for module in ("numpy", "pandas", "pyarrow"))
    if pickle:
        import pickle as pickles

        return "pickle", pickles.dumps(value)
    if numpy is not None and isinstance(value, numpy.ndarray | numpy.generic) and not value.dtype.hasobject:
        stream = io.BytesIO()
        numpy.save(stream, value, allow_pickle=False)
        return "npy", stream.getvalue()
    if pandas is not None and isinstance(value, pandas.DataFrame):
        return "arrow", _arrow_of_frame(name, value)
    if arrow is not None and isinstance(value, arrow.Table):
        return "table", _arrow_bytes(value)
    try:
        return "json", to_json(value).encode()
    except TypeError as odd:
        raise _refused(name, str(odd)) from None


def to_json(value: Any) -> str:
    """Write a value as JSON that brings it back as it was; NaN and infinity are fine, Python reads what Python writes.

    Raises
    ------
    TypeError
        With the name of the type that JSON does not keep, the value's own or that of a part.
    """
    waiting, seen = [value], set()
    while waiting:
        one = waiting.pop()
        if type(one) in (dict, list) and id(one) in seen:
            continue
        if type(one) is dict and all(type(key) is str for key in one):
            waiting += one.values()
        elif type(one) is list:
            waiting += one
        elif type(one) not in (str, int, float, bool, type(None)):
            raise TypeError(type(one).__name__)
        seen.add(id(one))
    try:
        return json.dumps(value)
    except ValueError:
        raise TypeError("circle of references") from None


def _refused(name: str, kind: str) -> InvalidInput:
    return InvalidInput(
        f"{name} does not go over as it is: {kind} is neither JSON, nor a numpy array, nor a table.",
        "Convert it first, or say --pickle when you trust the other side.",
    )


def _arrow_of_frame(name: str, frame: Any) -> bytes:
    try:
        import pyarrow
    except ImportError:
        raise InvalidInput(
            f"{name} is a DataFrame, which goes as Arrow, and pyarrow is not installed here.",
            "pip install pyarrow, or say --pickle.",
        ) from None
    return _arrow_bytes(pyarrow.Table.from_pandas(frame))


def _arrow_bytes(table: Any) -> bytes:
    import pyarrow

    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def unpack(name: str, kind: str, data: bytes, *, pickle: bool = False) -> Any:
    """Read what `pack` wrote, or what the code of `pull_code` sent; `name` is the variable's.

    Raises
    ------
    NotFound
        When there is no such variable there.
    InvalidInput
        When no safe format holds it; for a pickle that nobody asked for.
    """
    if kind == "missing":
        raise NotFound(f"There is no variable {name} there.", "Assign it there first.")
    if kind == "refused":
        raise _refused(name, data.decode())
    if kind == "no pyarrow":
        raise InvalidInput(
            f"{name} is a DataFrame, which comes as Arrow, and pyarrow is not installed there.",
            "Install it there (%pip install pyarrow), or say --pickle.",
        )
    if kind == "json":
        return json.loads(data)
    if kind == "npy":
        import numpy

        array = numpy.load(io.BytesIO(data), allow_pickle=False)
        return array[()] if array.ndim == 0 else array
    if kind in ("arrow", "table"):
        import pyarrow

        table = pyarrow.ipc.open_stream(data).read_all()
        return table.to_pandas() if kind == "arrow" else table
    if kind == "pickle" and pickle:
        import pickle as pickles

        return pickles.loads(data)
    raise InvalidInput(f"{name} came as {kind!r}, which is not read here.", "Say --pickle for pickles.")


def push_code(name: str, kind: str, data: bytes) -> str:
    """Return code that assigns a value there, without a name of ours left behind."""
    raw = f"__import__('base64').b64decode({base64.b64encode(data).decode()!r})"
    read = {
        "json": f"__import__('json').loads({raw})",
        "npy": f"(lambda a: a[()] if a.ndim == 0 else a)(__import__('numpy').load(__import__('io').BytesIO({raw})))",
        "arrow": f"__import__('pyarrow').ipc.open_stream({raw}).read_all().to_pandas()",
        "table": f"__import__('pyarrow').ipc.open_stream({raw}).read_all()",
        "pickle": f"__import__('pickle').loads({raw})",
    }
    return f"{name} = {read[kind]}"


_PULL = """
def _colab_magics_pull(shell, name, pickle):
    import io, json, sys
    kernel = shell.kernel
    def send(kind, data):
        kernel.send_response(kernel.iopub_socket, "MESSAGE", {"name": name, "kind": kind}, buffers=[data])
    if name not in shell.user_ns:
        return send("missing", b"")
    value = shell.user_ns[name]
    numpy, pandas, arrow = (sys.modules.get(module) for module in ("numpy", "pandas", "pyarrow"))
    if pickle:
        import pickle as pickles
        return send("pickle", pickles.dumps(value))
    if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)) and not value.dtype.hasobject:
        stream = io.BytesIO()
        numpy.save(stream, value, allow_pickle=False)
        return send("npy", stream.getvalue())
    kind = "table" if arrow is not None and isinstance(value, arrow.Table) else None
    if pandas is not None and isinstance(value, pandas.DataFrame):
        try:
            import pyarrow as arrow
        except ImportError:
            return send("no pyarrow", b"")
        kind, value = "arrow", arrow.Table.from_pandas(value)
    if kind is not None:
        sink = arrow.BufferOutputStream()
        with arrow.ipc.new_stream(sink, value.schema) as writer:
            writer.write_table(value)
        return send(kind, bytes(sink.getvalue()))
    try:
        send("json", _colab_magics_to_json(value).encode())
    except TypeError as odd:
        send("refused", str(odd).encode())
try:
    _colab_magics_pull(get_ipython(), NAME, PICKLE)
finally:
    del _colab_magics_pull, _colab_magics_to_json
"""
# Python there may be older than these annotations.
_TO_JSON = inspect.getsource(to_json).replace(
    "to_json(value: Any) -> str:", "_colab_magics_to_json(value):\n    import json"
)


def pull_code(name: str, *, pickle: bool) -> str:
    """Return code that sends a variable back, as a message `MESSAGE` for `unpack`."""
    code = _PULL.replace("MESSAGE", MESSAGE).replace("NAME", repr(name)).replace("PICKLE", repr(pickle))
    return _TO_JSON + code
