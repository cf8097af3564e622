"""Relabellings of the leaves that map a tree onto itself: its branches of one shape change places."""

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from itertools import product
from typing import NamedTuple

from mixpyro.numerics.trees import Node, Tree, leaves_of, nodes_of


class Automorphism(NamedTuple):
    """A relabelling of the leaves that maps the tree onto itself: leaf k becomes what leaf ``order[k]`` was."""

    order: tuple[int, ...]  # [K]
    nodes: tuple[int, ...]  # node v becomes what node ``nodes[v]`` was [V]
    signs: tuple[int, ...]  # times 1, or −1 where its branches change places [V]


def automorphisms(tree: Tree, labels: Sequence[Hashable] | None = None) -> list[Automorphism]:
    """Return all relabellings of the leaves that map the tree onto itself, the identity first.

    The branches of a node change places where the two subtrees have one shape. There are two to the power of
    :func:`n_swaps` relabellings.

    Args:
        tree: of K leaves.
        labels: of the leaves [K]; leaves of different labels do not change places. All are alike by default.
    """
    labels = labels or [()] * len(leaves_of(tree))
    return [automorphism(tree, order) for order in _orders(tree, labels)]


def automorphism(tree: Tree, order: Sequence[int]) -> Automorphism:
    """Return what a relabelling of the leaves does to the nodes.

    Args:
        tree: of K leaves.
        order: leaf k becomes what leaf ``order[k]`` was.

    Raises:
        ValueError: if it does not map the tree onto itself.
    """
    nodes = nodes_of(tree)
    numbers = {_leaf_set(node): number for number, node in enumerate(nodes)}
    of_nodes = [numbers.get(frozenset(order[leaf] for leaf in _leaf_set(node))) for node in nodes]
    if None in of_nodes:
        raise ValueError(
            f"`order` must map the tree {tree} onto itself; got {list(order)}. Components that share a branch must "
            "do so in any other order, or it is another tree."
        )
    own = tuple(int(number) for number in of_nodes if number is not None)
    signs = tuple(
        1 if order[leaves_of(node.left)[0]] in leaves_of(nodes[number].left) else -1
        for node, number in zip(nodes, own, strict=True)
    )
    return Automorphism(tuple(int(leaf) for leaf in order), own, signs)


def n_swaps(tree: Tree, labels: Sequence[Hashable]) -> int:
    """Return the number of nodes whose branches may change places, as they have one shape and the same labels.

    Args:
        tree: of K leaves.
        labels: of the leaves [K].
    """
    return sum(_shape(node.left, labels) == _shape(node.right, labels) for node in nodes_of(tree))


def without_sides(tree: Tree) -> Hashable:
    """Return the tree as nested sets, the same for trees that differ in left and right alone.

    Args:
        tree: any.
    """
    return _shape(tree, range(len(leaves_of(tree))))


def _leaf_set(node: Node) -> frozenset[int]:
    """Return the leaves under a node."""
    return frozenset((*leaves_of(node.left), *leaves_of(node.right)))


def _orders(tree: Tree, labels: Sequence[Hashable]) -> Iterator[tuple[int, ...]]:
    """Yield the orders of all leaves in which branches of one shape have changed places, the present order first."""
    own = leaves_of(tree)
    for image in _images(tree, labels):
        places = dict(zip(own, image, strict=True))
        yield tuple(places[leaf] for leaf in range(len(own)))


def _images(tree: Tree, labels: Sequence[Hashable]) -> Iterator[list[int]]:
    """Yield what may be at each leaf, from left to right."""
    if isinstance(tree, int) or len(tree) == 1:
        yield leaves_of(tree)
        return
    left, right = (list(_images(branch, labels)) for branch in tree)
    yield from (a + b for a, b in product(left, right))
    if _shape(tree[0], labels) == _shape(tree[1], labels):
        for a, b in product(left, right):
            yield _aligned(tree[0], tree[1], b, labels) + _aligned(tree[1], tree[0], a, labels)


def _aligned(place: Tree, tree: Tree, image: list[int], labels: Sequence[Hashable]) -> list[int]:
    """Return an image of a subtree's leaves in the order that another subtree of the same shape has its own."""
    if isinstance(place, int) or isinstance(tree, int):
        return image
    n_left = len(leaves_of(tree[0]))
    left, right = image[:n_left], image[n_left:]
    if _shape(place[0], labels) == _shape(tree[0], labels):
        return _aligned(place[0], tree[0], left, labels) + _aligned(place[1], tree[1], right, labels)
    return _aligned(place[0], tree[1], right, labels) + _aligned(place[1], tree[0], left, labels)


def _shape(tree: Tree, labels: Sequence[Hashable]) -> Hashable:
    """Return the tree with labels for leaves, the same for trees that differ in left and right alone."""
    if isinstance(tree, int):
        return labels[tree]
    return frozenset(Counter(_shape(branch, labels) for branch in tree).items())
