"""The page as one file, with nothing outside it."""

import json
from html import escape
from importlib.resources import files
from string import Template

from ...files import replacing

TITLE = "Forecast report"


def write_page(path, content):
    """Write ``content``, plain data without NaN, into the page at ``path``, whole or not at all."""
    parts = {kind: files(__package__).joinpath(f"page.{kind}").read_text("utf-8") for kind in ("html", "css", "js")}
    data = json.dumps(content, allow_nan=False).replace("<", "\\u003c")  # a name may hold </script>
    page = Template(parts["html"]).substitute(title=escape(TITLE), style=parts["css"], script=parts["js"], content=data)
    with replacing(path) as partial:
        partial.write_text(page, "utf-8")
