from __future__ import annotations

from meshlet.admin.tables import table


def test_columns_line_up() -> None:
    text = table([{"name": "a", "open": 10}, {"name": "longer", "open": 2}])
    assert text == "name    open\na       10\nlonger  2\n"


def test_a_list_of_objects_makes_rows_that_repeat_what_is_outside() -> None:
    rows = table([{"name": "app", "endpoints": [{"address": "x:1"}, {"address": "y:2"}], "balancer": "rr"}])
    assert [row.split() for row in rows.splitlines()] == [
        ["name", "endpoints.address", "balancer"],
        ["app", "x:1", "rr"],
        ["app", "y:2", "rr"],
    ]


def test_values_of_every_kind() -> None:
    rows = table([{"a": None, "b": True, "c": 0.25, "d": [], "e": ["x", 1], "f": {"g": 2}, "h": "x\ny", "i": ""}])
    assert [row.split() for row in rows.splitlines()] == [
        ["a", "b", "c", "d", "e", "f.g", "h", "i"],
        ["-", "true", "0.25", "-", "x,1", "2", "x\\ny", "-"],
    ]


def test_a_key_that_only_some_have() -> None:
    assert table([{"a": 1}, {"b": 2}]) == "a  b\n1  -\n-  2\n"


def test_nothing() -> None:
    assert table([]) == "none\n"
