"""Checks a YAML config before it is loaded: PyYAML and yacs follow whatever a file asks for."""

from pathlib import Path

import yaml

BASE = "_BASE_"  # Detectron2's key for the file that a config is based on
MAX_SIZE = 1 << 20  # bytes of a config file
MAX_VALUES = 20_000  # of a config file, with aliases written out
MAX_FILES = 100  # that a config is based on
TEXT, MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"


class UniqueKeysLoader(yaml.SafeLoader):
    """YAML in which no key occurs twice: PyYAML would drop the first."""

    def compose_mapping_node(self, anchor):
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if key.tag == MERGE:  # a key `<<` adds the keys of other mappings, below those here
                continue
            problem = self.problem_of(key)
            identity = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else key
            if identity in seen:
                problem = problem or f"'{key.value}' occurs twice: remove or rename one"
            if problem:
                raise yaml.composer.ComposerError(None, None, problem, key.start_mark)
            seen.add(identity)
        return node

    def problem_of(self, key: yaml.Node) -> str | None:
        """Says why a key is not allowed; a subclass adds rules."""
        return None


class StrictLoader(UniqueKeysLoader):
    """YAML of a config: a key must also be text."""

    def problem_of(self, key):
        if key.tag == TEXT:
            return None
        name = f"the key {key.value}" if isinstance(key, yaml.ScalarNode) else "a key"
        return f"{name} is not text: put it in quotes"


def check_yaml(path: Path, loader: type[UniqueKeysLoader] = StrictLoader) -> None:
    """Checks a config and all files that it is based on, without constructing anything.

    Args:
        path: the config.
        loader: the rules for keys.

    Raises:
        OSError, ValueError, yaml.YAMLError: if a file is missing, damaged, includes itself or
            would grow beyond the limits of this module; the message names the file if it is
            another one.
    """
    waiting: list[tuple[Path, frozenset[Path]]] = [(path, frozenset())]
    for _ in range(MAX_FILES):
        if not waiting:
            return
        file, above = waiting.pop()
        real = file.resolve()
        if real in above:
            raise ValueError(f"{BASE} leads from '{file}' to itself")
        for base in _bases(file, loader):
            if "://" in base:
                raise ValueError(f"{BASE} '{base}' is not a local file; download it")
            waiting.append((file.parent / Path(base).expanduser(), above | {real}))
    raise ValueError(f"{BASE} leads to more than {MAX_FILES} files")


def _bases(file: Path, loader: type[UniqueKeysLoader]) -> list[str]:
    """Returns the names of the files that a file is based on."""
    if not file.is_file():
        raise ValueError(f"'{file}' is not a file")
    content = file.read_bytes()
    if len(content) > MAX_SIZE:
        raise ValueError(f"'{file}' has {len(content):,} bytes; a config has at most {MAX_SIZE:,}")
    try:
        node = yaml.compose(content.decode(), loader)
    except yaml.MarkedYAMLError as error:
        problem = ", ".join(filter(None, (error.context, error.problem)))
        raise ValueError(f"'{file}', line {error.problem_mark.line + 1}: {problem}") from error
    if not isinstance(node, yaml.MappingNode):
        raise ValueError(f"'{file}' has no keys with values, such as 'KEY: value'")
    if _values(node, {}) > MAX_VALUES:
        raise ValueError(f"'{file}' has more than {MAX_VALUES:,} values, with aliases written out")
    found = [value for key, value in node.value if key.value == BASE]
    bases = [n for value in found for n in (value.value if _is_list(value) else [value])]
    if not all(isinstance(base, yaml.ScalarNode) for base in bases):
        raise ValueError(f"{BASE} in '{file}' is not the name of a file")
    return [base.value for base in bases]


def _is_list(node: yaml.Node) -> bool:
    return isinstance(node, yaml.SequenceNode)


def _values(node: yaml.Node, known: dict[int, int]) -> int:
    """Counts the values below a node; an alias is the same node once more."""
    if id(node) not in known:
        known[id(node)] = MAX_VALUES + 1  # if it contains itself
        children = [] if isinstance(node, yaml.ScalarNode) else node.value
        pairs = [child if isinstance(child, tuple) else (child,) for child in children]
        total = 1 + sum(_values(child, known) for pair in pairs for child in pair)
        known[id(node)] = min(total, MAX_VALUES + 1)
    return known[id(node)]
