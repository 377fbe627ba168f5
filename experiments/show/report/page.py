"""A self-contained page of HTML: elements, numbers, tables, figures, films."""

import base64
import html
from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Any


class Html(str):
    """Text that is markup already; all other text is escaped where it enters a page."""

    __slots__ = ()


# The page may fetch nothing.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:"
MINUS = "\N{MINUS SIGN}"
VOID = {"meta", "br", "img"}


def element(name: str, /, *content: Any, **attributes: Any) -> Html:
    """<name attributes>content</name>; None is left out, `class_` is class.

    >>> element("p", "a < b", class_="x")
    '<p class="x">a &lt; b</p>'
    """
    config = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = "".join(map(escaped, content))
    return Html(f"<{name}{config}>" if name in VOID else f"<{name}{config}>{inner}</{name}>")


def escaped(content: Any) -> Html:
    """Anything as markup; nothing, of None."""
    if content is None:
        return Html("")
    return content if isinstance(content, Html) else Html(html.escape(str(content)))


def joined(parts: Iterable[Any]) -> Html:
    return Html("".join(map(escaped, parts)))


def number(value: float | None, digits: int = 4) -> Html:
    """A rounded number, with all its digits as machine-readable value; a dash for None.

    >>> number(0.0123456), number(12345)
    ('<data value="0.0123456">0.01235</data>', '<data value="12345">12,345</data>')
    """
    if value is None:
        return Html("&ndash;")
    return element("data", in_words(value, digits), value=repr(value))


def in_words(value: float, digits: int = 4) -> str:
    """A rounded number in text.

    >>> in_words(123456.0), in_words(0.0123456), in_words(-2) == MINUS + "2"
    ('123,456', '0.01235', True)
    """
    whole = float(value).is_integer() or abs(value) >= 10 ** (digits - 1)
    text = f"{value:,.0f}" if whole and abs(value) < 1e15 else f"{value:.{digits}g}"
    return text.replace("-", MINUS)


def share(value: float) -> str:
    """
    >>> share(0.0312)
    '3.1 %'
    """
    return f"{100 * value:.1f} %"


def paragraph(*content: Any, **attributes: Any) -> Html:
    return element("p", *content, **attributes)


def section(title: str, *content: Any) -> Html:
    """A section of the page, which `contents` lists."""
    name = anchor(title)
    heading = element("h2", title, id=f"{name}-heading")
    return element("section", heading, *content, id=name, aria_labelledby=f"{name}-heading")


def anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def contents(titles: Iterable[str]) -> Html:
    """Links to sections."""
    links = (element("a", title, href=f"#{anchor(title)}") for title in titles)
    return element("nav", *links, aria_label="contents")


def table(caption: Any, head: Sequence[Any], rows: Iterable[Sequence[Any]]) -> Html:
    """Rows whose first cells are their names."""
    columns = element("tr", *(element("th", name, scope="col") for name in head))
    body = (
        element("tr", element("th", row[0], scope="row"), *(element("td", x) for x in row[1:]))
        for row in rows
    )
    whole = element(
        "table",
        element("caption", caption),
        element("thead", columns),
        element("tbody", *body),
    )
    return element("div", whole, class_="wide", tabindex="0", role="group", aria_label=caption)


def facts(pairs: Iterable[tuple[Any, Any]]) -> Html:
    """A list of names and values."""
    rows = (element("div", element("dt", name), element("dd", what)) for name, what in pairs)
    return element("dl", *rows)


def figure(picture: Html, caption: Any, class_: str | None = None) -> Html:
    """A picture with a caption; empty if there is no picture."""
    if not picture:
        return Html("")
    return element("figure", picture, element("figcaption", caption), class_=class_)


def side_by_side(figures: Iterable[Html]) -> Html:
    """Elements side by side, as many in a line as fit."""
    there = [one for one in figures if one]
    return element("div", *there, class_="beside") if there else Html("")


def video(film: bytes, poster: bytes, size: tuple[int, int], words: str) -> Html:
    """An .mp4 with a .png as its poster. size: width and height, pixels."""
    return element(
        "video",
        words,
        controls="",
        autoplay="",
        loop="",
        muted="",
        playsinline="",
        preload="metadata",
        width=size[0],
        height=size[1],
        aria_label=words,
        poster=_data("image/png", poster),
        src=_data("video/mp4", film),
    )


def image(content: bytes, words: str) -> Html:
    """A .png with its description."""
    return element("img", alt=words, src=_data("image/png", content))


def sound(content: bytes, words: str) -> Html:
    """A .wav with its controls."""
    return element("audio", controls="", aria_label=words, src=_data("audio/wav", content))


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def page(title: str, *body: Any) -> str:
    """A whole page."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Html(style())),
    )
    return "<!doctype html>\n" + element("html", head, element("body", *body), lang="en") + "\n"


def style() -> str:
    """The style sheet."""
    return (files("worldmodel.experiments.show.report") / "page.css").read_text(encoding="utf-8")
