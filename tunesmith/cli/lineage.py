"""`tunesmith lineage`: the origin of a model as a tree, and whether each digest in it verifies."""

import json
from pathlib import Path

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from tunesmith.core import params
from tunesmith.core.errors import IntegrityError
from tunesmith.core.formatting import printable
from tunesmith.registry.provenance import lineage_tree
from tunesmith.registry.provenance.lineage_tree import Node
from tunesmith.registry.provenance.records import Records
from tunesmith.registry.registered_models import Registry
from tunesmith.registry.signing import Settings
from tunesmith.registry.tracker import Names, download_folder

SHORT = 12
"""Characters of a digest that the tree shows."""
WIDTH = 160
"""Characters a line in a file or a pipe."""
MARKS = {"verified": ("✓", "green"), "differs": ("✗", "bold red"), "unreachable": ("?", "yellow")}


def run(which: str, *, verify: bool, as_json: bool) -> bool:
    """Print the lineage of a model, a version or an alias; return whether nothing in it differs from its record."""
    names, signing, root = params.load(Names, "registry"), params.load(Settings, "signing").root, Path.cwd()
    with download_folder() as scratch:
        records = Records(Registry(), names.model, signing, root, Path(scratch))
        node = tree(records, which)
        if verify:
            from tunesmith.registry.provenance import verification  # imports DVC, which is slow

            reach = verification.Reach(root, records.fetch, records.fetch_claims, find_image)
            node = verification.verified(node, reach)
    show(node, as_json=as_json)
    return all(part.proof is None or part.proof.mark != "differs" for part in node.walk())


def tree(records: Records, which: str) -> Node:
    """Build the lineage tree. Raises as `Records.record` does, and IntegrityError for a record that is no lineage."""
    try:
        return lineage_tree.tree(records.record(which))
    except (LookupError, TypeError, AttributeError, ValueError) as error:  # the record is not verified yet
        raise IntegrityError(
            f"{which}: its lineage or its statement is incomplete or malformed: {error!r}",
            fix="find out who changed it; register the model again from models/",
        ) from None


def find_image(digest: str) -> None:
    """Raise ContainerError where this machine's Docker engine does not answer or lacks the image.

    Raises IntegrityError where ``digest`` is not an image digest.
    """
    from tunesmith.runtime import docker, image  # slow to import; few models are made in containers

    if not image.is_digest(digest):
        raise IntegrityError(
            f"{digest} is not a digest", fix="find out who changed it; register the model again from models/"
        )
    docker.resolve(docker.connect(), digest)


def show(node: Node, *, as_json: bool) -> None:
    """Print a tree: digests short, or as JSON with all of them whole."""
    if as_json:
        print(json.dumps(to_json(node), indent=2, ensure_ascii=False))
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    console.print(rich_tree(node))


def to_json(node: Node) -> dict[str, object]:
    """A node as {name, what, digest, check: {mark, says} or null, children}."""
    return {
        "name": node.name,
        "what": node.what,
        "digest": node.digest,
        "check": None if node.proof is None else {"mark": node.proof.mark, "says": node.proof.says},
        "children": [to_json(child) for child in node.children],
    }


def rich_tree(node: Node, onto: Tree | None = None) -> Tree:
    """A node and its children as a tree to print."""
    branch = Tree(line(node)) if onto is None else onto.add(line(node))
    for child in node.children:
        rich_tree(child, branch)
    return branch


def line(node: Node) -> Text:
    """A node in one line: its name, digest, description and check."""
    parts = [Text(printable(node.name), style="bold")]
    if node.digest:
        parts.append(Text(printable(node.digest[:SHORT]), style="cyan"))
    if node.what:
        parts.append(Text(printable(node.what)))
    if node.proof is not None:
        mark, style = MARKS[node.proof.mark]
        parts.append(Text(f"{mark} {printable(node.proof.says)}", style=style))
    return Text("  ").join(parts)
