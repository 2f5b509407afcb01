"""A result as HTML: a page, one file that opens offline with charts and their numbers, and a piece for notebooks.

Vega is inside the page. Its scripts run by their hashes only, and its expressions are interpreted, not compiled, so
that the content security policy allows nothing else.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from provisioner.report import chart_text
from provisioner.report.chart import Chart
from provisioner.report.document import Boxes, Document, KeyNumbers
from provisioner.report.theme import DARK, LIGHT
from provisioner.results.cluster import Pool
from provisioner.version import version_of

if TYPE_CHECKING:
    from jinja2 import Template

MOST_BOXES: Final = 48  # machines of a pool that are drawn one by one

# Evidence comes after the charts, in the reverse of this order; all other blocks before them.
_LAST: Final = ("To repeat", "How this", "Sources", "Inputs")


def page(document: Document, charts: Sequence[Chart] = (), *, version: str = "") -> str:
    """Return the page: one file with its style and scripts inside, which loads nothing.

    It begins with the answer: key numbers as a row of cards, the cluster drawn, the charts. The other blocks follow in
    their order, with inputs, sources, method and the command last. ``version`` is the program that made it.
    """
    blocks = sorted(document.blocks, key=lambda block: [block.title.startswith(title) for title in _LAST])
    answer = [block for k, block in enumerate(blocks) if isinstance(block, (KeyNumbers, Boxes)) or k == 0]
    scripts = _scripts() if charts else []
    return _template("page").render(
        document=document,
        answer=answer,
        details=[block for block in blocks if block not in answer],
        machines=_machines,
        most=MOST_BOXES,
        charts=charts,
        texts=chart_text,
        specification=_specification,
        scripts=scripts,
        policy=_policy(scripts),
        version=f"provisioner {version or version_of()}",
        light=LIGHT,
        dark=DARK,
    )


def html(document: Document) -> str:
    """Return the report as one ``div`` with its own style, for notebooks; every text is escaped."""
    return _template("notebook").render(document=document)


def _template(name: str) -> "Template":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("provisioner", "report")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template(f"{name}.html.jinja")


def _machines(pool: Pool) -> list[int]:
    """Replicas in each machine of a pool that is drawn.

    >>> _machines(Pool("token", "dgx-h100", tensor_parallel=4, gpus_per_machine=8, replicas=5))
    [2, 2, 1]
    """
    full = max(pool.gpus_per_machine // pool.tensor_parallel, 1)
    return [min(full, pool.replicas - k * full) for k in range(min(pool.machines, MOST_BOXES))]


def _scripts() -> list[str]:
    """Vega with its interpreter, and the script that draws the charts of the page."""
    import altair
    import vl_convert

    release = ".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])  # of Vega-Lite, which Altair writes for
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=release)
    own = files("provisioner.report").joinpath("page.js").read_text(encoding="utf-8")
    # what would end a script element or begin a comment in it is written otherwise in its strings
    return [text.replace("</script", "<\\/script").replace("<!--", "<\\!--") for text in (bundle, own)]


def _policy(scripts: Sequence[str]) -> str:
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    sources = " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
    return f"default-src 'none'; script-src {sources}; style-src 'unsafe-inline'; img-src data:"


def _specification(chart: Chart) -> str:
    from provisioner.report.charts import page_spec

    return json.dumps(page_spec(chart), separators=(",", ":")).replace("<", "\\u003c")
