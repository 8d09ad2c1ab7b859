"""Notebooks for tests, and a quick way to run them."""

from __future__ import annotations

from pathlib import Path

import nbformat


def write_notebook(path: Path, *cells: str, kernel: str = "python3") -> Path:
    """Write a notebook with these code cells; a cell that starts with "# %% [markdown]" is text."""
    made = [
        nbformat.v4.new_markdown_cell(text.removeprefix("# %% [markdown]"))
        if text.startswith("# %% [markdown]")
        else nbformat.v4.new_code_cell(text)
        for text in cells
    ]
    metadata = {"kernelspec": {"name": kernel, "display_name": kernel, "language": "python"}}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=made, metadata=metadata), path)
    return path


def outputs(path: Path) -> str:
    """Everything that an executed notebook shows, as text."""
    texts = []
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                texts.append(output.text)
            elif output.output_type == "error":
                texts += [f"{output.ename}: {output.evalue}", *output.traceback]
            else:
                texts.append(output.data.get("text/plain", ""))
    return "\n".join(texts)
