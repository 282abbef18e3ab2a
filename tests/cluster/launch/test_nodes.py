import yaml

from dftune.cluster.launch.nodes import to_yaml


def test_what_is_written_as_yaml_is_what_yaml_reads():
    value = {
        "plain": "RayJob",
        "looks like others": [
            "yes",
            "null",
            "1",
            "1.5",
            "0x1f",
            "1e3",
            "12:30:45",
            "~",
            "",
            "-",
            "a: b",
            "#x",
            "é\n\u2028",
        ],
        "true": True,
        "numbers": [0, -1, 1.5, None],
        "empty": [{}, [], {"x": {}, "y": []}],
        "lines": ["a\nb\n", {"text": "a\n  b\n\nc: d\n", "indented": "  a\nb\n", "two ends": "a\n\n"}],
        "nested": [[1, [2, {"a": [3]}]], {"b": {"c": ["d", {"e": "f"}]}}],
    }
    assert yaml.safe_load(to_yaml(value)) == value
