"""Reading a CSV: one bad record costs that record, and every record knows its line."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import UsageError
from app.lists.reading import RECORD_LIMIT, TOO_LONG, UNCLOSED, UNDOUBLED, CsvReader, Record, visible


def read(data: bytes | str, encoding: str | None = None) -> tuple[list[str], list[Record]]:
    source = io.BytesIO(data if isinstance(data, bytes) else data.encode())
    reader = CsvReader(source, encoding)
    return reader.header(), list(reader.records())


def lines_and_cells(records: list[Record]) -> list[tuple[int, list[str]]]:
    return [(record.line, record.cells) for record in records]


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), max_size=20)


@settings(deadline=None)
@given(
    st.lists(st.lists(CELL, min_size=3, max_size=3), max_size=8),
    st.sampled_from(",;\t"),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "gb18030"]),
)
def test_what_pythons_csv_module_writes_is_read_back(
    rows: list[list[str]], delimiter: str, end: str, encoding: str
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([["a", "b", "c"], *rows])
    header, records = read(text.getvalue().encode(encoding), encoding)
    assert header == ["a", "b", "c"]
    assert [record.cells for record in records] == rows
    starts = [2 + sum("".join(row).count("\n") + 1 for row in rows[:n]) for n in range(len(rows))]
    assert [record.line for record in records] == starts


@settings(deadline=None)
@given(st.binary(max_size=300), st.sampled_from([None, "utf-8", "gb18030", "windows-1252", "utf-16-le", "utf-7"]))
def test_any_bytes_at_all_give_records_that_can_be_written_down(data: bytes, encoding: str | None) -> None:
    head = "email,b\n".encode(encoding or "utf-8")
    _, records = read(head + data, encoding)
    for record in records:
        assert record.line >= 2
        assert not (record.problem and record.cells)
        "".join(record.cells).encode()
        visible(record.raw).encode()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_are_counted_whatever_ends_them_and_blank_ones_are_left_out(end: str) -> None:
    _, records = read(end.join(["", "a,b", "1,2", "", '3,"x', 'y"', "5,6"]))
    assert [(record.line, record.cells[0]) for record in records] == [(3, "1"), (5, "3"), (7, "5")]


def test_a_lone_carriage_return_in_a_cell_is_no_line_of_its_own() -> None:
    _, records = read('a,b\n1,"x\ry"\n2,z\n')
    assert lines_and_cells(records) == [(2, ["1", "x\ry"]), (3, ["2", "z"])]


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("a,b;c,d\n", ["a", "b;c", "d"]),
        ("a;b,c;d\n", ["a", "b,c", "d"]),
        ("a\tb\n", ["a", "b"]),
        ('"a,b,c";d;e\n', ["a,b,c", "d", "e"]),
        ("sep=;\na;b,c,d\n", ["a", "b,c,d"]),
        ("\ufeffa,b\n", ["a", "b"]),
        ('\ufeff"a",b', ["a", "b"]),
        ("a", ["a"]),
    ],
)
def test_the_header_tells_the_delimiter(text: str, header: list[str]) -> None:
    assert read(text)[0] == header


def test_a_file_that_begins_like_utf_16_is_read_as_such() -> None:
    header, records = read("email\tname\r\na@x.test\t李雷\r\n".encode("utf-16"))
    assert header == ["email", "name"]
    assert lines_and_cells(records) == [(2, ["a@x.test", "李雷"])]


def test_bytes_that_cannot_be_decoded_cost_their_own_row() -> None:
    _, records = read(b"a,b\n1,x\n2,M\xfcller\n3,\xc3\n4,y\n5,\x00\n6,z")
    assert [record.line for record in records if not record.problem] == [2, 5, 7]
    bad = [record for record in records if record.problem]
    assert [record.line for record in bad] == [3, 4, 6]
    assert r"\xfc is not utf-8" in bad[0].problem
    assert visible(bad[0].raw) == "2,M\\xfcller\n"
    assert "NUL" in bad[2].problem


def test_a_quote_that_is_never_closed_costs_its_own_line() -> None:
    rows = [f"{n},x\n" for n in range(3, 40_000)]
    _, records = read("".join(["a,b\n", '2,"oops\n', *rows]))
    assert (records[0].line, records[0].problem) == (2, UNCLOSED)
    assert [record.line for record in records[1:]] == list(range(3, 40_000))
    assert [record.cells[0] for record in records[1:]] == [str(n) for n in range(3, 40_000)]


def test_an_unclosed_quote_does_not_swallow_the_rows_up_to_the_next_quoted_cell() -> None:
    _, records = read('a,b\n2,"oops\n3,x\n4,"Doe, J"\n5,"y"\n6,"end')
    assert [record.line for record in records] == [2, 3, 4, 5, 6]
    assert [record.problem for record in records] == [UNCLOSED, "", "", "", UNCLOSED]
    assert records[2].cells == ["4", "Doe, J"]


def test_a_quote_that_is_not_doubled_is_said_so() -> None:
    _, records = read('a,b\n2,"Ann "The" Lee"\n3,x\n')
    assert [(record.line, record.problem) for record in records] == [(2, UNDOUBLED), (3, "")]


def test_a_row_past_the_limit_is_cut_and_the_next_one_is_read() -> None:
    _, records = read("a,b\n2," + "x" * 5 * RECORD_LIMIT + "\r\n3,y\r\n")
    assert [(record.line, record.problem) for record in records] == [(2, TOO_LONG), (3, "")]
    assert len(records[0].raw) <= RECORD_LIMIT + 1


@pytest.mark.parametrize("encoding", ["klingon", "base64", "idna", "undefined", "", "utf-8\0"])
def test_an_unknown_encoding_is_refused(encoding: str) -> None:
    with pytest.raises(UsageError, match="--encoding"):
        read("a,b\n", encoding)


@pytest.mark.parametrize("data", [b"", b"\n\n", b"\xef\xbb\xbf", b"PK\x03\x04...", b'"a', b"\xff,a\n", b"a\0b\n"])
def test_a_file_without_a_usable_header_is_refused(data: bytes) -> None:
    with pytest.raises(UsageError):
        read(data)
