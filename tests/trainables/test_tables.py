from dftune.trainables.tables import html_table


def test_a_table_for_notebooks_is_escaped_and_names_its_units():
    table = html_table([{"id": "<b>", "energy": 1.23456789}, {"id": None}], units={"energy": "eV"}, caption="a & b")
    assert "<caption>a &amp; b</caption>" in table
    assert "<tr><th>id</th><th>energy [eV]</th></tr>" in table
    assert "<tr><td>&lt;b&gt;</td><td>1.2346</td></tr><tr><td>-</td><td>-</td></tr>" in table


def test_a_long_table_says_how_many_rows_are_left_out():
    table = html_table([{"n": n} for n in range(25)], units={}, caption="")
    assert "<td>19</td>" in table
    assert "<td>20</td>" not in table
    assert "and 5 more" in table
