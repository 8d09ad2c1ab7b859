"""What Sphinx makes of the pages that make_docs.py writes. Nothing is fetched from anywhere: no fonts, no scripts."""

import importlib
import pydoc
import sys

from sphinx.ext.napoleon import Config, NumpyDocstring
from sphinx.util.nodes import make_refnode

from colab_magics import __version__

project = "colab_magics"
version = release = __version__
html_title = f"colab_magics {__version__}"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = [".extra"]

html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["pages.css"]
html_show_sphinx = False
html_copy_source = False
html_theme_options = {"top_of_page_buttons": []}

# Markdown as GitHub reads it: headings are anchors.
myst_heading_anchors = 4
# Blocks of ours mix magics, YAML and Python.
suppress_warnings = ["misc.highlighting_failure", "myst.header"]
highlight_language = "text"

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
add_module_names = False
python_use_unqualified_type_names = True

# `Name` in a docstring is one of ours and has to be there, see `find`; types are whatever annotations say.
default_role = "py:obj"
nitpick_ignore_regex = [("py:class", ".*")]


NUMPY = Config(napoleon_use_param=False, napoleon_use_rtype=False)


def read(app, what, name, obj, options, lines):
    """Read NumPy's docstrings by Napoleon, but no property's as "type: text", for which it takes each colon."""
    lines[:] = str(NumpyDocstring(list(lines), NUMPY, what="function", name=name, obj=obj)).splitlines()


def find(app, env, node, contnode):
    """Look for a name that no page has under its module: on another page, else in the code, where it leads nowhere."""
    if node.get("refdomain") != "py" or node["reftype"] != "obj":
        return None
    target = node["reftarget"]
    if target.isidentifier() and target.islower():  # a parameter, whatever else may be called so
        return contnode
    found = env.domains.python_domain.find_obj(env, None, None, target, None, 1)
    if len(found) == 1:
        name, there = found[0]
        return make_refnode(app.builder, node["refdoc"], there.docname, there.node_id, contnode, name)
    module = importlib.import_module(node.get("py:module") or "colab_magics")
    # A docstring may be inherited from a class of another module.
    above = getattr(vars(module).get(node.get("py:class")), "__mro__", ())
    for names in map(vars, [module, *(sys.modules[base.__module__] for base in above)]):
        first, _, rest = target.partition(".")
        owner = names.get(first)
        if owner is not None and (not rest or hasattr(owner, rest) or rest in getattr(owner, "__annotations__", ())):
            return contnode
    return contnode if pydoc.locate(target) else None


def setup(app):
    """Be called by Sphinx."""
    app.connect("autodoc-process-docstring", read)
    app.connect("missing-reference", find)
