"""Small real documents made by hand: zips of XML and a PDF with a text layer, as their programs write them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

_W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_S = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_P = "http://schemas.openxmlformats.org/presentationml/2006/main"
_A = "http://schemas.openxmlformats.org/drawingml/2006/main"
_R = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_O = "urn:oasis:names:tc:opendocument:xmlns"


def zipped(parts: dict[str, str], first: str = "") -> bytes:
    """A zip of texts; ``first`` is stored uncompressed before the others, as ``mimetype`` must be."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        if first:
            archive.writestr("mimetype", first, zipfile.ZIP_STORED)
        for name, text in parts.items():
            archive.writestr(name, text)
    return out.getvalue()


def _package(parts: dict[str, str], main: str, kinds: dict[str, str]) -> bytes:
    overrides = "".join(f'<Override PartName="/{n}" ContentType="{k}"/>' for n, k in kinds.items())
    types = (
        f'<Types xmlns="{_PACKAGE}/content-types"><Default Extension="rels" '
        'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Default Extension="xml" ContentType="application/xml"/>{overrides}</Types>'
    )
    return zipped(
        {"[Content_Types].xml": types, "_rels/.rels": _relations({"rId1": ("officeDocument", main)}), **parts}
    )


def _relations(targets: dict[str, tuple[str, str]]) -> str:
    rows = "".join(f'<Relationship Id="{i}" Type="{_R}/{kind}" Target="{to}"/>' for i, (kind, to) in targets.items())
    return f'<Relationships xmlns="{_PACKAGE}/relationships">{rows}</Relationships>'


def docx(paragraphs: Sequence[tuple[int, str]]) -> bytes:
    """A Word document: (heading level or 0, text) for each paragraph."""
    body = "".join(
        "<w:p>" + (f'<w:pPr><w:pStyle w:val="Heading{level}"/></w:pPr>' if level else "")
        + f"<w:r><w:t>{escape(text)}</w:t></w:r></w:p>"
        for level, text in paragraphs
    )  # fmt: skip
    styles = "".join(
        f'<w:style w:type="paragraph" w:styleId="Heading{n}"><w:name w:val="heading {n}"/><w:pPr>'
        f'<w:outlineLvl w:val="{n - 1}"/></w:pPr></w:style>'
        for n in (1, 2, 3)
    )
    word = "application/vnd.openxmlformats-officedocument.wordprocessingml"
    return _package(
        {
            "word/document.xml": f'<w:document xmlns:w="{_W}"><w:body>{body}</w:body></w:document>',
            "word/styles.xml": f'<w:styles xmlns:w="{_W}">{styles}</w:styles>',
            "word/_rels/document.xml.rels": _relations({"rId1": ("styles", "styles.xml")}),
        },
        "word/document.xml",
        {"word/document.xml": f"{word}.document.main+xml", "word/styles.xml": f"{word}.styles+xml"},
    )


def xlsx(sheets: dict[str, Sequence[Sequence[str]]], first_row: int = 1) -> bytes:
    """A workbook of text cells; the first row of each sheet stands at ``first_row``."""
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    parts, names, targets = {}, "", {}
    for n, (name, rows) in enumerate(sheets.items(), 1):
        cells = "".join(
            f'<row r="{r}">'
            + "".join(
                f'<c r="{chr(65 + c)}{r}" t="inlineStr"><is><t>{escape(v)}</t></is></c>' for c, v in enumerate(row)
            )
            + "</row>"
            for r, row in enumerate(rows, first_row)
        )
        parts[f"xl/worksheets/sheet{n}.xml"] = f'<worksheet xmlns="{_S}"><sheetData>{cells}</sheetData></worksheet>'
        names += f'<sheet name={quoteattr(name)} sheetId="{n}" r:id="rId{n}"/>'
        targets[f"rId{n}"] = ("worksheet", f"worksheets/sheet{n}.xml")
    parts["xl/workbook.xml"] = f'<workbook xmlns="{_S}" xmlns:r="{_R}"><sheets>{names}</sheets></workbook>'
    parts["xl/_rels/workbook.xml.rels"] = _relations(targets)
    kinds = {f"xl/worksheets/sheet{n}.xml": f"{kind}.worksheet+xml" for n in range(1, len(sheets) + 1)}
    return _package(parts, "xl/workbook.xml", kinds | {"xl/workbook.xml": f"{kind}.sheet.main+xml"})


def pptx(slides: Sequence[tuple[str, str]]) -> bytes:
    """A presentation: (title, body) for each slide."""
    kind = "application/vnd.openxmlformats-officedocument.presentationml"
    parts, ids, targets = {}, "", {}
    for n, slide in enumerate(slides, 1):
        shapes = "".join(
            f'<p:sp><p:nvSpPr><p:cNvPr id="{k + 2}" name="s{k}"/><p:cNvSpPr/><p:nvPr><p:ph type="{place}"/></p:nvPr>'
            f"</p:nvSpPr><p:spPr/><p:txBody><a:bodyPr/><a:p><a:r><a:t>{escape(text)}</a:t></a:r></a:p></p:txBody></p:sp>"
            for k, (place, text) in enumerate(zip(("title", "body"), slide, strict=True))
        )
        tree = f"<p:nvGrpSpPr><p:cNvPr id='1' name=''/><p:cNvGrpSpPr/><p:nvPr/></p:nvGrpSpPr><p:grpSpPr/>{shapes}"
        parts[f"ppt/slides/slide{n}.xml"] = (
            f'<p:sld xmlns:p="{_P}" xmlns:a="{_A}" xmlns:r="{_R}"><p:cSld><p:spTree>{tree}</p:spTree></p:cSld></p:sld>'
        )
        ids += f'<p:sldId id="{255 + n}" r:id="rId{n}"/>'
        targets[f"rId{n}"] = ("slide", f"slides/slide{n}.xml")
    parts["ppt/presentation.xml"] = (
        f'<p:presentation xmlns:p="{_P}" xmlns:r="{_R}"><p:sldIdLst>{ids}</p:sldIdLst></p:presentation>'
    )
    parts["ppt/_rels/presentation.xml.rels"] = _relations(targets)
    kinds = {f"ppt/slides/slide{n}.xml": f"{kind}.slide+xml" for n in range(1, len(slides) + 1)}
    return _package(parts, "ppt/presentation.xml", kinds | {"ppt/presentation.xml": f"{kind}.presentation.main+xml"})


def odt(paragraphs: Sequence[tuple[int, str]]) -> bytes:
    """An OpenDocument text: (heading level or 0, text) for each paragraph."""
    body = "".join(
        f'<text:h text:outline-level="{level}">{escape(text)}</text:h>'
        if level
        else f"<text:p>{escape(text)}</text:p>"
        for level, text in paragraphs
    )
    return opendocument("text", body)


def opendocument(kind: str, body: str, *, styles: str = "", before: str = "", sealed: bool = False) -> bytes:
    """An OpenDocument ``text`` or ``presentation`` with this XML as its body; ``sealed`` as an encrypted one says."""
    spaces = "".join(f' xmlns:{n}="{_O}:{n}:1.0"' for n in ("office", "text", "presentation", "table", "style"))
    spaces += f' xmlns:draw="{_O}:drawing:1.0"'
    content = (
        f"{before}<office:document-content{spaces}><office:automatic-styles>{styles}</office:automatic-styles>"
        f"<office:body><office:{kind}>{body}</office:{kind}></office:body></office:document-content>"
    )
    key = '<manifest:encryption-data manifest:checksum="x"/>' if sealed else ""
    media = f"application/vnd.oasis.opendocument.{kind}"
    manifest = (
        f'<manifest:manifest xmlns:manifest="{_O}:manifest:1.0"><manifest:file-entry manifest:full-path="/" '
        f'manifest:media-type="{media}"/><manifest:file-entry manifest:full-path="content.xml">{key}'
        "</manifest:file-entry></manifest:manifest>"
    )
    return zipped({"content.xml": content, "META-INF/manifest.xml": manifest}, first=media)


def epub(chapters: Sequence[tuple[str, str]]) -> bytes:
    """An e-book: (heading, text) for each chapter."""
    items = "".join(
        f'<item id="c{n}" href="c{n}.xhtml" media-type="application/xhtml+xml"/>' for n in range(len(chapters))
    )
    spine = "".join(f'<itemref idref="c{n}"/>' for n in range(len(chapters)))
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="i"><metadata '
        'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>The Book</dc:title><dc:identifier id="i">1'
        f"</dc:identifier></metadata><manifest>{items}</manifest><spine>{spine}</spine></package>"
    )
    container = (
        '<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles><rootfile '
        'full-path="book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
    )
    parts = {"META-INF/container.xml": container, "book.opf": package}
    for n, (heading, text) in enumerate(chapters):
        parts[f"c{n}.xhtml"] = (
            f'<html xmlns="http://www.w3.org/1999/xhtml"><body><h1>{escape(heading)}</h1>'
            f"<p>{escape(text)}</p></body></html>"
        )
    return zipped(parts, first="application/epub+zip")


def pdf(pages: Sequence[str], *, picture: bool = False) -> bytes:
    """A PDF with a line of Helvetica a page, or with a one-pixel picture on each."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", "", "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    objects.append(
        "<< /Type /XObject /Subtype /Image /Width 1 /Height 1 /ColorSpace /DeviceGray /BitsPerComponent 8 /Length 1 "
        ">>\nstream\nx\nendstream"
    )
    kids = []
    for text in pages:
        shown = "\\".join(text.split("\\"))
        stream = f"BT /F1 12 Tf 72 720 Td ({shown}) Tj ET" + (" 99 0 0 99 0 0 cm /Im Do" if picture else "")
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
        objects.append(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F1 3 0 R >> "
            f"/XObject << /Im 4 0 R >> >> /Contents {len(objects)} 0 R >>"
        )
        kids.append(f"{len(objects)} 0 R")
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>"
    out, offsets = "%PDF-1.4\n", []
    for n, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{n} 0 obj\n{body}\nendobj\n"
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    size = len(objects) + 1
    out += f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer\n<< /Size {size} /Root 1 0 R >>\n"
    return (out + f"startxref\n{out.index('xref')}\n%%EOF\n").encode("latin-1")
