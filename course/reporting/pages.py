"""An executed notebook as HTML that fetches nothing and runs nothing: text, code, outputs, formulas as MathML.

The notebook is data. Whatever it shows passes `clean`, which drops scripts and everything that a browser would load, so
that a page reads the same on a phone, offline and in ten years.
"""

from __future__ import annotations

import base64
import binascii
import functools
import html
import math
import mimetypes
import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from course.notebook import tags
from course.outcome import number as shown

RESULTS = "application/vnd.course.results+json"
WIDGET = "application/vnd.jupyter.widget-view+json"
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp", "image/svg+xml")
TEXT_LIMIT = 100_000  # characters of one output that a page shows
ADDED = {
    "injected-parameters",
    "papermill-error-cell-tag",
}  # cells that papermill adds; those that mark errors are not shown


# ------------------------------------------------------------------------------------------------------------ drawings


@dataclass(frozen=True)
class Band:
    """A value beside its band on an axis from 0 to 100. `mark` is None for a value that has no place on an axis."""

    left: float
    width: float
    mark: float | None
    inside: bool


def place(value: float, low: float, high: float) -> Band:
    """The axis reaches a quarter of its span beyond the band and the value, whichever is further out."""
    finite = math.isfinite(value)
    start, end = (min(low, value), max(high, value)) if finite else (low, high)
    span = end - start or abs(high) or 1.0
    origin, length = start - 0.25 * span, (end - start) + 0.5 * span

    def at(x: float) -> float:
        return round(100 * (x - origin) / length, 2)

    return Band(at(low), round(at(high) - at(low), 2), at(value) if finite else None, finite and low <= value <= high)


def number(value: float) -> str:
    """As the terminal shows it (`0.9431`, `15,470,264,320`), with a real minus sign."""
    return shown(value).replace("-", "−")


def limits(low: float, high: float) -> str:
    """`0.91 to 0.97`, `exactly 212`."""
    return f"exactly {number(low)}" if low == high else f"{number(low)} to {number(high)}"


def verdict(value: float, low: float, high: float) -> str:
    if math.isnan(value):
        return "outside the band"
    return "in the band" if low <= value <= high else ("below the band" if value < low else "above the band")


def band_drawing(name: str, value: float, low: float, high: float) -> str:
    """The band as a bar, the value as a mark: an SVG 100 wide that its stylesheet stretches."""
    drawn = place(value, low, high)
    words = f"{name} {number(value)}, band {limits(low, high)}: {verdict(value, low, high)}"
    width = max(drawn.width, 3.0)  # a band without width is seen all the same
    left = round(drawn.left - (width - drawn.width) / 2, 2)
    parts = [
        '<line class="axis" x1="0" x2="100" y1="10" y2="10"/>',
        f'<rect class="band" x="{left:g}" y="4" width="{width:g}" height="12"/>',
        f'<line class="edge" x1="{left:g}" x2="{left:g}" y1="4" y2="16"/>',
        f'<line class="edge" x1="{left + width:g}" x2="{left + width:g}" y1="4" y2="16"/>',
    ]
    if drawn.mark is not None:
        parts.append(f'<line class="mark" x1="{drawn.mark:g}" x2="{drawn.mark:g}" y1="1" y2="19"/>')
    return _svg("metric" if drawn.inside else "metric outside", words, parts)


def usage_drawing(name: str, used: float, budget: float, shown: str) -> str:
    """What was used as a bar from 0; the budget as a mark, beyond which the bar changes its colour."""
    end = max(used, budget) or 1.0
    within, limit, total = (round(100 * x / end, 2) for x in (min(used, budget), budget, used))
    words = f"{name} {shown}" + (", over budget" if used > budget else "")
    parts = [
        '<rect class="track" x="0" y="6" width="100" height="8"/>',
        f'<rect class="used" x="0" y="6" width="{within:g}" height="8"/>',
    ]
    if used > budget:
        parts.append(f'<rect class="over" x="{limit:g}" y="6" width="{round(total - limit, 2):g}" height="8"/>')
    parts.append(f'<line class="limit" x1="{limit:g}" x2="{limit:g}" y1="2" y2="18"/>')
    return _svg("usage" if used <= budget else "usage outside", words, parts)


def quantity(value: float) -> str:
    """Minutes and gigabytes, to as many digits as matter: 0.04, 1.3, 12."""
    if value and value < 0.095:
        return f"{value:.2f}"
    return f"{value:.0f}" if value >= 99.5 or float(value).is_integer() else f"{value:.1f}"


def _svg(kind: str, words: str, parts: list[str]) -> str:
    return (
        f'<svg class="drawing {kind}" viewBox="0 0 100 20" preserveAspectRatio="none" role="img" '
        f'aria-label="{html.escape(words)}">{"".join(parts)}</svg>'
    )


# ------------------------------------------------------------------------------------------------------------ formulas


# log p needs the space that log(p) does not.
_NAMED = re.compile(
    r"(<mi>(?:log|ln|exp|sin|cos|tanh?|arg|det|dim)</mi>)(?=<m(?:i|n|row|su[bp]|subsup|frac|sqrt|over)\b)"
)


@functools.lru_cache(maxsize=4096)
def mathml(latex: str, display: bool = False) -> str:
    """MathML of a formula; the LaTeX itself, as code, where it is not understood."""
    from latex2mathml.converter import convert

    source = latex.strip()
    plain = re.sub(r"\\(?:label|notag|nonumber)(?:\{[^}]*\})?", "", source)
    plain = re.sub(r"\\(begin|end)\{(?:aligned|split|align|gathered|gather|eqnarray)\*?\}", r"\\\1{align*}", plain)
    plain = re.sub(r"\\(?:begin|end)\{equation\*?\}", "", plain)
    if "\\\\" in plain and "\\begin" not in plain:
        plain = rf"\begin{{align*}}{plain}\end{{align*}}"
    try:
        converted = convert(plain, display="block" if display else "inline")
    except Exception:  # the converter raises classes of its own as well as IndexError and the like on unfinished input
        converted = ""
    if not _is_mathml(converted) or re.search(r"<m[io]>\\", converted):
        tag = "pre" if display else "code"
        return f'<{tag} class="latex">{html.escape(source)}</{tag}>'
    converted = re.sub(r"<mo>([A-Za-z]{2,})</mo>", r"<mi>\1</mi>", converted)  # \operatorname: a name, not a sign
    converted = _NAMED.sub(r'\1<mspace width="0.167em"/>', converted)
    return converted.replace("<math ", f'<math alttext="{html.escape(source)}" ', 1)


def _is_mathml(markup: str) -> bool:
    """Whether this is MathML and nothing else: the converter lets through what stands in \\text{...} as it is."""
    from xml.etree import ElementTree

    try:
        tree = ElementTree.fromstring(markup)
    except ElementTree.ParseError:
        return False
    return all(re.fullmatch(r"(\{.*\})?m[a-z]+", element.tag) for element in tree.iter())


@functools.cache
def _markdown() -> Callable[[str], str]:
    from mistune.plugins.table import table_in_list, table_in_quote
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    class Renderer(IPythonRenderer):
        def _embed_image_or_attachment(self, src: str) -> str:
            return src  # `clean` embeds what it finds and drops the rest

        def block_math(self, body: str) -> str:
            return mathml(body, display=True)

        def inline_math(self, body: str) -> str:
            return mathml(body)

        def latex_environment(self, name: str, body: str) -> str:
            return mathml(f"\\begin{{{name}}}{body}\\end{{{name}}}", display=True)

        def block_code(self, code: str, info: str | None = None) -> str:
            language = (info or "").strip().split(maxsplit=1)
            return f'<pre class="code">{highlighted(code.rstrip(), language[0] if language else "")}</pre>'

    def render(text: str) -> str:
        renderer = Renderer(escape=False, exclude_anchor_links=True)
        markdown = MarkdownWithMath(renderer=renderer)
        table_in_quote(markdown)  # nbconvert's own has tables at the top alone
        table_in_list(markdown)
        rendered = str(markdown.render(text))
        # A line must not break between a formula and the full stop after it.
        return re.sub(
            r'(<math [^>]*display="inline"(?:(?!</math>).)*</math>)([.,:;!?)]+)',
            r'<span class="nowrap">\1\2</span>',
            rendered,
        )

    return render


def highlighted(code: str, language: str = "python") -> str:
    """Code with its tokens in spans; escaped text for a language that is not known."""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        lexer = get_lexer_by_name(language, stripnl=False) if language else None
    except ClassNotFound:
        lexer = None
    return str(highlight(code, lexer, HtmlFormatter(nowrap=True))) if lexer else html.escape(code)


# ------------------------------------------------------------------------------------------------------ terminal output


def terminal(text: str) -> str:
    """What a terminal would show: a line that is written over keeps its last state."""
    if "\r" not in text and "\b" not in text:
        return text
    lines = []
    for line in text.replace("\r\n", "\n").split("\n"):
        states = [state for state in line.split("\r") if state.strip("\b ")]
        lines.append(states[-1].replace("\b", "") if states else "")
    return "\n".join(lines)


# Control sequences that colour nothing: nbconvert takes those that end in a letter, these are links, titles and odd
# ends.
_OTHER_CONTROL = re.compile(r"\x1b(?:\][^\x07\x1b]*(?:\x07|\x1b\\)?|[()].?|(?!\[).?)", re.DOTALL)
_OWN_COLOUR = re.compile(r' style="(?:color: rgb\((\d+),(\d+),(\d+)\))?[^"]*"')


def coloured(text: str) -> str:
    """Terminal text as HTML: nbconvert's classes, and the nearest of these colours where a program asks for one of its
    own.
    """
    from nbconvert.filters.ansi import ansi2html, strip_ansi

    def near(style: re.Match[str]) -> str:
        name = nearest_colour(*(min(int(level), 255) for level in style.groups())) if style[1] else ""
        return f' class="ansi-{name}-fg"' if name else ""

    text = _OTHER_CONTROL.sub("", text)
    try:
        marked = str(ansi2html(text))
    except (IndexError, ValueError):  # a colour that breaks off
        marked = html.escape(strip_ansi(text), quote=False)
    return re.sub(r"<span[^>]*>", lambda tag: _OWN_COLOUR.sub(near, tag[0]), marked).replace("\x1b", "")


def nearest_colour(red: int, green: int, blue: int) -> str:
    """Of the terminal's six colours; empty for greys. The page's own shades of these keep their contrast by day and
    night.
    """
    levels = red, green, blue
    low, high = min(levels), max(levels)
    if high - low < 48:
        return ""
    bits = "".join("1" if level - low > (high - low) / 2 else "0" for level in levels)
    return {"100": "red", "010": "green", "001": "blue", "110": "yellow", "101": "magenta", "011": "cyan"}[bits]


def preformatted(text: str, kind: str = "") -> str:
    """Terminal text in a `pre`, with its colours, and cut where nobody would read on."""
    text = terminal(text).rstrip("\n")
    rest = ""
    if len(text) > TEXT_LIMIT:
        cut = text.rfind("\n", 0, TEXT_LIMIT)
        cut = cut if cut > 0 else TEXT_LIMIT
        left = text[cut:]
        lines = left.count("\n")
        rest = f"{lines:,} further lines" if lines > 1 else f"{len(left):,} further characters"
        text = text[:cut]
    lines = text.count("\n") + 1
    classes = " ".join(filter(None, ("text", kind, "long" if lines > 30 else "")))
    shown = f'<pre class="{classes}" tabindex="0" role="group" aria-label="Output">{coloured(text)}</pre>'
    return shown + (f'<p class="note">{rest} are in the executed notebook.</p>' if rest else "")


# ------------------------------------------------------------------------------------------------------------- cleaning

DROPPED = {"script", "link", "iframe", "frame", "frameset", "object", "embed", "applet", "base", "meta", "title"}
UNWRAPPED = {"html", "head", "body", "form", "noscript"}
LOADING = ("src", "srcset", "poster", "background", "data", "lowsrc", "dynsrc", "xlink:href", "imagesrcset")
MEDIA = {"img", "video", "audio", "source", "track", "input", "image", "use", "feimage"}
_HARMFUL_STYLE = re.compile(r"url\s*\(|@import|expression\s*\(|image-set\s*\(|\\", re.IGNORECASE)


@dataclass
class Context:
    """What the pieces of one page share: where its notebook lies, where links lead, the headings so far."""

    folder: Path  # of the built notebook, for files that it names
    root: Path
    link: Callable[[str], str] = lambda address: address
    headings: list[tuple[int, str, str]] = field(default_factory=list)  # level, id, HTML
    anchors: set[str] = field(default_factory=set)
    heading: str = ""  # the nearest heading above, as plain text
    pictures: dict[str, int] = field(default_factory=dict)  # by heading
    has_title: bool = False

    def alternative(self) -> str:
        """Alternative text of the next picture: the nearest heading, and a number from the second picture on."""
        heading = self.heading or "Notebook"
        self.pictures[heading] = count = self.pictures.get(heading, 0) + 1
        return f"Figure: {heading}" if count == 1 else f"Figure {count}: {heading}"

    def anchor(self, wanted: str) -> str:
        anchor, count = wanted, 1
        while not anchor or anchor in self.anchors:
            count += 1
            anchor = f"{wanted or 'section'}-{count}"
        self.anchors.add(anchor)
        return anchor


def clean(markup: str, context: Context, attachments: Mapping[str, Any] | None = None, prose: bool = False) -> str:
    """Well-formed HTML without scripts and without anything to load; pictures embedded, links led to the report's
    pages.

    Args:
        markup: HTML as a notebook shows it or as its Markdown says it.
        context: the page; takes up the headings if `prose`.
        attachments: of the Markdown cell.
        prose: whether this is a Markdown cell, whose headings make the table of contents.
    """
    from bs4 import BeautifulSoup, Comment

    soup = BeautifulSoup(markup, "html.parser")
    for comment in soup.find_all(string=lambda text: isinstance(text, Comment)):
        comment.extract()
    for tag in soup.find_all(True):
        if tag.decomposed:
            continue
        if tag.name in DROPPED:
            tag.decompose()
        elif tag.name in UNWRAPPED:
            tag.unwrap()
        elif tag.name == "style":
            _style(tag)
        else:
            _attributes(tag, context, attachments or {}, soup)
    if prose:
        for text in soup.find_all(
            string=re.compile(" [×·] ")
        ):  # 3 × 3 stays on one line, and no line begins with a dot
            if not text.find_parent(["code", "pre", "math"]):
                text.replace_with(text.replace(" × ", "\u00a0×\u00a0").replace(" · ", "\u00a0· "))
    for header in soup.find_all("th"):
        if not header.get_text(strip=True) and not header.find("img"):
            header.name = "td"  # the corner of a DataFrame heads nothing
    for table in soup.find_all("table"):
        if not table.find_parent("table"):
            label = f"Table: {context.heading}" if context.heading else "Table"
            around = {"class": "scroll", "tabindex": "0", "role": "group", "aria-label": label}
            table.wrap(soup.new_tag("div", attrs=around))
    for heading in soup.find_all(re.compile("^h[1-6]$")):
        _heading(heading, context, prose)
    return str(soup)


def _style(tag: Any) -> None:
    """The rules of a pandas Styler hold inside their output only; those of a plain DataFrame give way to the page's.

    They are parsed and written anew, rule by rule: what is no whole rule goes, and no brace is left open.
    """
    import tinycss2

    rules = tinycss2.parse_stylesheet(tag.get_text(), skip_comments=True, skip_whitespace=True)
    whole = (rule for rule in rules if rule.type == "qualified-rule" and tinycss2.serialize(rule.prelude).strip())
    kept = [tinycss2.serialize([rule]) for rule in whole]
    kept = [rule for rule in kept if not _HARMFUL_STYLE.search(rule) and "<" not in rule and _balanced(rule)]
    if "scoped" in tag.attrs or not kept:
        tag.decompose()
    else:
        tag.string = f"@scope {{ {' '.join(kept)} }}"


def _balanced(rule: str) -> bool:
    """One pair of braces, the second at the end: a brace in a text or in a selector would need a parser to be told
    apart.
    """
    return rule.count("{") == rule.count("}") == 1 and rule.endswith("}")


def _attributes(tag: Any, context: Context, attachments: Mapping[str, Any], soup: Any) -> None:
    for name in list(tag.attrs):
        value = tag.attrs[name]
        text = " ".join(value) if isinstance(value, list) else str(value)
        if name.startswith("on") or name in ("formaction", "action", "ping", "manifest", "srcdoc", "autofocus"):
            del tag[name]
        elif name == "style":
            _inline_style(tag, text)
        elif name == "href" and tag.name in ("a", "area"):
            tag["href"] = _href(text.strip(), context)
            if not tag["href"]:
                del tag["href"]
        elif name in LOADING or (name == "href" and tag.name != "a"):
            embedded = _embedded(text.strip(), context, attachments) if name in ("src", "href", "xlink:href") else None
            if embedded:
                tag[name] = embedded
            else:
                del tag[name]
    if tag.name == "img":
        if "src" not in tag.attrs:
            words = soup.new_tag("span", attrs={"class": "unseen"})
            words.string = tag.get("alt") or "picture not in this page"
            tag.replace_with(words)
        elif not tag.get("alt"):
            tag["alt"] = context.alternative()
    elif tag.name in ("source", "track") and "src" not in tag.attrs:
        tag.decompose()


_HEX_COLOUR = re.compile(r"(?<![-\w])color:\s*#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})", re.IGNORECASE)


def _inline_style(tag: Any, text: str) -> None:
    """Colours of terminal text become the page's own, which keep their contrast by day and night."""
    inside = tag.name == "pre" or tag.find_parent("pre") is not None
    if inside or _HARMFUL_STYLE.search(text):
        del tag["style"]
    if inside:
        colour = _HEX_COLOUR.search(text)
        name = nearest_colour(*(int(level, 16) for level in colour.groups())) if colour and tag.name != "pre" else ""
        bold = re.search(r"font-weight:\s*bold", text) and tag.name != "pre"
        classes = ["text"] if tag.name == "pre" else [f"ansi-{name}-fg"] * bool(name) + ["ansi-bold"] * bool(bold)
        tag["class"] = [*tag.get("class", []), *classes] or None


def _href(address: str, context: Context) -> str:
    scheme = urlsplit(address).scheme.lower() if ":" in address else ""
    if scheme:
        return address if scheme in ("http", "https", "mailto") else ""
    if address.startswith("//"):
        return "https:" + address
    return address if address.startswith("#") else context.link(address)


def _embedded(address: str, context: Context, attachments: Mapping[str, Any]) -> str | None:
    """The picture as a data address; None for one that lies elsewhere."""
    if address.startswith("#"):
        return address
    if re.match(r"data:(image|video|audio)/", address, re.IGNORECASE):
        return address
    if address.startswith("attachment:"):
        bundle = attachments.get(unquote(address.removeprefix("attachment:")), {})
        return next((f"data:{mime};base64,{data}" for mime, data in bundle.items() if mime in PICTURES), None)
    if "://" in address or address.startswith(("//", "data:")):
        return None
    path = (context.folder / unquote(address.split("?")[0].split("#")[0])).resolve()
    mime = mimetypes.guess_type(path.name)[0]
    if mime not in PICTURES or not path.is_relative_to(context.root.resolve()) or not path.is_file():
        return None
    return f"data:{mime};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _heading(tag: Any, context: Context, prose: bool) -> None:
    level = int(tag.name[1])
    if level == 1 and (context.has_title or not prose):
        level = 2
    tag.name = f"h{level}"
    if not prose:
        return
    context.has_title = context.has_title or level == 1
    text = " ".join(tag.get_text(" ", strip=True).split())  # split() makes plain spaces of the unbroken ones
    for formula in tag.find_all("math"):
        text = text.replace(" ".join(formula.get_text(" ", strip=True).split()), str(formula.get("alttext", "")))
    tag["id"] = context.anchor(text.replace(" ", "-"))
    context.heading = text
    if 2 <= level <= 3:
        inner = re.sub(r"</?a\b[^>]*>|\sid=\"[^\"]*\"", "", tag.decode_contents())
        context.headings.append((level, tag["id"], inner))


# --------------------------------------------------------------------------------------------------------------- pages


@dataclass
class Rendered:
    """One executed notebook: its cells as HTML, its contents, and what the overview shows of it."""

    body: str
    contents: list[tuple[int, str, str]]
    has_title: bool
    thumbnail: str | None  # data address
    thumbnail_alt: str
    failing: str | None  # id of the failing cell
    recorded: dict[str, float]


def render(
    notebook: Mapping[str, Any],
    context: Context,
    error: Mapping[str, Any] | None = None,
    bands: Mapping[str, tuple[float, float] | None] | None = None,
    profile: str = "",
) -> Rendered:
    """The executed notebook as HTML.

    Args:
        notebook: as `read_notebook` gives it.
        context: of this page.
        error: of the Result: `cell_id` or `cell` names the cell that failed.
        bands: of the notebook's metrics in this profile.
        profile: named beside the parameters it set.
    """
    page = _Page(notebook, context, bands or {}, profile)
    parts, position = [], 0
    failing = _failing(notebook["cells"], error) if error else None
    for cell in notebook["cells"]:
        given = not ADDED & set(tags(cell))
        position += given
        if "injected-parameters" in tags(cell):
            parts.append(page.cell(cell, "parameters"))
        elif given:
            parts.append(page.cell(cell, f"cell-{position}", error if position == failing else None))
    return Rendered(
        body="\n".join(part for part in parts if part),
        contents=context.headings,
        has_title=context.has_title,
        thumbnail=page.tagged[0] if page.tagged else page.last[0] if page.last else None,
        thumbnail_alt=page.tagged[1] if page.tagged else page.last[1] if page.last else "",
        failing=None if failing is None else f"cell-{failing}",
        recorded=page.recorded,
    )


def _failing(cells: list[dict[str, Any]], error: Mapping[str, Any]) -> int | None:
    """The failing cell's place in the notebook as it was given, counted from 1: by its id, its error, or its index."""
    given = [cell for cell in cells if not ADDED & set(tags(cell))]
    for index, cell in enumerate(given):
        if error.get("cell_id") and cell.get("id") == error["cell_id"]:
            return index + 1
    for index, cell in enumerate(given):
        if any(output.get("output_type") == "error" for output in cell.get("outputs", [])):
            return index + 1
    named = error.get("cell")
    return named + 1 if isinstance(named, int) and 0 <= named < len(given) else None


# In prose the marks of an answer would be headings.
_ANSWER = re.compile(
    r"^[ \t]*### BEGIN SOLUTION[ \t]*\n(.*?)\n?^[ \t]*### END SOLUTION[ \t]*$", re.MULTILINE | re.DOTALL
)


class _Page:
    def __init__(self, notebook: Mapping[str, Any], context: Context, bands: Mapping[str, Any], profile: str) -> None:
        self.context, self.bands, self.profile = context, bands, profile
        widgets = notebook.get("metadata", {}).get("widgets", {}).get(WIDGET_STATE, {})
        self.widgets = widgets.get("state", {}) if isinstance(widgets, dict) else {}
        self.recorded: dict[str, float] = {}
        self.last: tuple[str, str] | None = None  # picture and its alternative text
        self.tagged: tuple[str, str] | None = None

    def cell(self, cell: Mapping[str, Any], anchor: str, error: Mapping[str, Any] | None = None) -> str:
        self.context.anchors.add(anchor)
        if cell["cell_type"] == "markdown":
            source = _ANSWER.sub(r'\n<div class="answer">\n\n\1\n\n</div>\n', cell["source"])
            inside = clean(_markdown()(source), self.context, cell.get("attachments"), prose=True)
            return f'<div class="cell prose" id="{anchor}">{inside}</div>'
        if cell["cell_type"] != "code":
            return f'<div class="cell" id="{anchor}">{preformatted(cell["source"])}</div>'
        before = self.last
        self.last = None
        outputs = self._outputs(cell.get("outputs", []))
        if self.last and "thumbnail" in tags(cell):
            self.tagged = self.last
        self.last = self.last or before
        if not cell["source"].strip() and not outputs and not error:
            return ""
        parts = [self._input(cell), outputs]
        if error:
            parts.insert(0, self._banner(error))
            if error.get("traceback") and 'class="text error' not in outputs:
                parts.append(f'<div class="output">{preformatted(str(error["traceback"]), "error")}</div>')
        classes = "cell code failed" if error else "cell code"
        return f'<div class="{classes}" id="{anchor}">{"".join(parts)}</div>'

    def _banner(self, error: Mapping[str, Any]) -> str:
        words = f"{error.get('name') or 'Error'}: {error.get('value') or ''}".rstrip(": ")
        return f'<p class="banner"><strong>This cell failed.</strong> {html.escape(one_line(words))}</p>'

    def _input(self, cell: Mapping[str, Any]) -> str:
        if not cell["source"].strip():
            return ""
        count = cell.get("execution_count")
        counted = f'<span class="count" aria-hidden="true">{int(count)}</span>' if isinstance(count, int) else ""
        code = f'<pre class="code">{highlighted(cell["source"].strip(chr(10)))}</pre>'
        if "setup" in tags(cell):
            return f'<details class="input"><summary>Set-up cell</summary>{code}</details>'
        label = self._label(cell)
        labelled = f'<p class="label">{html.escape(label)}</p>' if label else ""
        return f'<div class="input">{labelled}{counted}{code}</div>'

    def _label(self, cell: Mapping[str, Any]) -> str:
        metadata = cell["metadata"]
        points = metadata.get("points")
        worth = f", {points} point{'' if points == 1 else 's'}" if isinstance(points, (int, float)) else ""
        if "injected-parameters" in tags(cell):
            return f"Parameters of the profile {self.profile}" if self.profile else "Parameters of this run"
        if isinstance(metadata.get("gap"), str):
            return f"Answer: {metadata['gap']}"
        return f"Check: {metadata['check']}{worth}" if isinstance(metadata.get("check"), str) else ""

    # -------------------------------------------------------------------------------------------------------- outputs

    def _outputs(self, outputs: list[Mapping[str, Any]]) -> str:
        parts: list[str] = []
        stream: list[str] = []
        name = ""

        def flush() -> None:
            text = "".join(stream)
            if text.strip():
                parts.append(_warnings(text) if name == "stderr" else preformatted(text))
            stream.clear()

        for output in outputs:
            kind = output.get("output_type")
            if kind == "stream":
                if output.get("name", "stdout") != name:
                    flush()
                    name = output.get("name", "stdout")
                stream.append(_joined(output.get("text", "")))
                continue
            flush()
            if kind == "error":
                traceback = "\n".join(map(str, output.get("traceback", []))) or f"{output.get('ename')}"
                parts.append(preformatted(traceback, "error"))
            elif kind in ("display_data", "execute_result"):
                parts.append(self._bundle(output.get("data", {}), output.get("metadata", {})))
        flush()
        inside = "".join(part for part in parts if part)
        return f'<div class="output">{inside}</div>' if inside else ""

    def _bundle(self, data: Mapping[str, Any], metadata: Mapping[str, Any]) -> str:
        if isinstance(data.get(RESULTS), dict):
            return self._results(data[RESULTS])
        if WIDGET in data:
            return self._widget(data, metadata)
        if "text/html" in data:
            shown = clean(_joined(data["text/html"]), self.context)
            own = " paper" if re.search(r"<style|style=\"[^\"]*(color|background)|<svg", shown) else ""
            if re.search(r"<(img|svg|table|video|audio|hr|math)\b", shown) or re.sub(r"<[^>]*>", "", shown).strip():
                return f'<div class="html{own}">{shown}</div>'
        picture = self._picture(data, metadata)
        if picture:
            return picture
        if "text/markdown" in data:
            return f'<div class="prose">{clean(_markdown()(_joined(data["text/markdown"])), self.context)}</div>'
        if "text/latex" in data:
            return mathml(_joined(data["text/latex"]).strip().strip("$"), display=True)
        if "text/plain" in data and "text/html" not in data:
            return preformatted(_joined(data["text/plain"]))
        return ""

    def _picture(self, data: Mapping[str, Any], metadata: Mapping[str, Any]) -> str:
        mime = next((mime for mime in ("image/svg+xml", *PICTURES) if mime in data), None)
        if mime is None:
            return ""
        content = _joined(data[mime])
        size: tuple[int, int] | None = None
        if mime == "image/svg+xml":
            content = base64.b64encode(content.encode()).decode()
        else:
            content = "".join(content.split())
            size = _size(content)
        about = metadata.get(mime, {}) if isinstance(metadata.get(mime, {}), dict) else {}
        alternative = str(about.get("alt") or metadata.get("alt") or self.context.alternative())
        source = f"data:{mime};base64,{content}"
        self.last = source, alternative
        width, height = about.get("width"), about.get("height")
        if size and size[0] and isinstance(width, int) and not isinstance(height, int):
            height = round(width * size[1] / size[0])
        if size and not isinstance(width, int):
            width, height = size
        measured = f' width="{width}"' if isinstance(width, int) else ""
        measured += f' height="{height}"' if isinstance(height, int) else ""
        return f'<figure><img src="{html.escape(source)}" alt="{html.escape(alternative)}"{measured}></figure>'

    def _results(self, values: Mapping[str, Any]) -> str:
        rows = []
        for name, value in values.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                continue
            self.recorded[str(name)] = float(value)
            band = self.bands.get(name)
            drawn, words = "", "no band"
            if band:
                drawn = band_drawing(str(name), value, *band)
                judged = verdict(value, *band)
                words = limits(*band)
                if judged != "in the band":
                    words = f'<strong class="bad">{judged}</strong> {words}'
            rows.append(
                f'<tr><th scope="row">{html.escape(words_of(str(name)))}</th><td class="value">{number(value)}</td>'
                f'<td class="drawn">{drawn}</td><td class="band">{words}</td></tr>'
            )
        head = (
            '<thead><tr><th scope="col">Metric</th><th scope="col">Value</th>'
            '<th scope="col" colspan="2">Band</th></tr></thead>'
        )
        table = f'<table class="results">{head}<tbody>{"".join(rows)}</tbody></table>'
        return f'<div class="scroll" tabindex="0" role="group" aria-label="Metrics">{table}</div>' if rows else ""

    def _widget(self, data: Mapping[str, Any], metadata: Mapping[str, Any]) -> str:
        """The picture that a control had drawn, or its text: a page without scripts has no controls."""
        note = '<p class="note">An interactive control: run the notebook to use it.</p>'
        picture = self._picture(data, metadata)
        if picture:
            return picture + note
        view = data[WIDGET] if isinstance(data[WIDGET], dict) else {}
        held = "".join(self._held(str(view.get("model_id", "")), set()))
        if held:
            return held + note
        text = _joined(data.get("text/plain", ""))
        told = text and not re.fullmatch(r"\w+\(.*\)?", text, re.DOTALL)  # HBox(children=(...)) tells a reader nothing
        return (preformatted(text) if told else "") + note

    def _held(self, model: str, seen: set[str]) -> list[str]:
        """What the Output widgets below this one hold."""
        state = self.widgets.get(model, {}).get("state", {}) if model not in seen else {}
        seen.add(model)
        shown = [self._outputs(state["outputs"])] if isinstance(state.get("outputs"), list) else []
        for child in state.get("children", []):
            shown += self._held(str(child).removeprefix("IPY_MODEL_"), seen)
        return [part for part in shown if part]


def _warnings(text: str) -> str:
    """What a cell wrote on its error stream, folded when it is more than a warning or two."""
    shown, lines = preformatted(text, "stderr"), terminal(text).strip().count("\n") + 1
    return shown if lines <= 4 else f"<details><summary>{lines:,} lines on the error stream</summary>{shown}</details>"


def words_of(name: str) -> str:
    """`top_1_accuracy` -> `top 1 accuracy`."""
    return name.replace("_", " ")


def one_line(text: str, limit: int = 200) -> str:
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", text).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _joined(text: Any) -> str:
    return "".join(map(str, text)) if isinstance(text, list) else str(text)


def _size(encoded: str) -> tuple[int, int] | None:
    """Width and height of a PNG, from its first bytes."""
    try:
        head = base64.b64decode(encoded[:64])
    except (binascii.Error, ValueError):
        return None
    if head[:8] != b"\x89PNG\r\n\x1a\n" or len(head) < 24:
        return None
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


def resolved(address: str, folder: str) -> tuple[str, str]:
    """A relative address in a notebook of `folder`, as a path below the root, and its fragment."""
    path, _, fragment = address.partition("#")
    return posixpath.normpath(posixpath.join(folder, unquote(path.split("?")[0]))), fragment
