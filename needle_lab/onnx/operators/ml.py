"""Operators of the domain ai.onnx.ml: features, labels, trees."""

# ruff: noqa: N802    functions are named after ONNX operators

import functools

import numpy as np

from ... import Tensor, ops
from ..values import value_of
from .table import since

ml = functools.partial(since, domain="ai.onnx.ml")


@ml(1)
def ArrayFeatureExtractor(x, indices):
    columns = indices.numpy().reshape(-1)
    return ops.index_select(x, columns, axis=x.ndim - 1) if isinstance(x, Tensor) else x[..., columns]


@ml(1)
def Binarizer(x, *, threshold=0.0):
    return (x > threshold).astype(x.dtype)


@ml(1)
def LabelEncoder(x, *, keys_tensor=None, values_tensor=None, default_tensor=None, keys_floats=None, keys_int64s=None,
                 keys_strings=None, values_floats=None, values_int64s=None, values_strings=None, default_float=-0.0,
                 default_int64=-1, default_string="_Unused"):
    """Each key replaced by its value, others by the default."""
    keys = _first(keys_tensor, keys_floats, keys_int64s, keys_strings)
    values = _first(values_tensor, values_floats, values_int64s, values_strings)
    if values_tensor is not None:
        default, dtype = _list(default_tensor)[0], _array(values_tensor).dtype
    elif values_strings is not None:
        default, dtype = default_string, np.dtype(object)
    else:
        floats = values_floats is not None
        default, dtype = (default_float, np.dtype(np.float32)) if floats else (default_int64, np.dtype(np.int64))
    table = {_key(k): v for k, v in zip(keys, values, strict=True)}
    source = _array(x)
    found = np.empty(source.size, dtype)
    found[:] = [table.get(_key(k), default) for k in source.reshape(-1).tolist()]
    return value_of(found.reshape(source.shape))


def _key(value):
    return "nan" if value != value else value                  # nan is a key like any other


def _array(x) -> np.ndarray:
    return x.numpy() if isinstance(x, Tensor) else np.asarray(x)


def _list(x) -> list:
    return x if isinstance(x, list) else _array(x).reshape(-1).tolist()


def _first(*candidates) -> list:
    return next(_list(c) for c in candidates if c is not None)


_COMPARE = (np.less_equal, np.less, np.greater_equal, np.greater, np.equal, np.not_equal)


@ml(5)
def TreeEnsemble(x, *, leaf_targetids, leaf_weights, nodes_falseleafs, nodes_falsenodeids, nodes_featureids, nodes_modes,
                 nodes_splits, nodes_trueleafs, nodes_truenodeids, tree_roots, aggregate_function=1, post_transform=0,
                 n_targets=1, membership_values=None, nodes_hitrates=None, nodes_missing_value_tracks_true=None):
    """Each sample falls through every tree to a leaf; the leaves' weights are summed (averaged, ...) by target."""
    modes, splits = _list(nodes_modes), _list(nodes_splits)
    weights, members = _list(leaf_weights), _members(modes, membership_values)
    missing = nodes_missing_value_tracks_true or [0] * len(modes)
    values = x.numpy()
    votes: list[list[list[float]]] = [[[] for _ in range(n_targets)] for _ in values]
    for sample, row in enumerate(values):
        for root in tree_roots:
            node, leaf = root, len(modes) == 1 and nodes_trueleafs[0] and nodes_truenodeids[0] == nodes_falsenodeids[0]
            node = nodes_truenodeids[0] if leaf else node
            while not leaf:
                feature = row[nodes_featureids[node]]
                goes = feature in members[node] if modes[node] == 6 else bool(_COMPARE[modes[node]](feature, splits[node]))
                goes = goes or bool(missing[node] and np.isnan(feature))
                leaf = (nodes_trueleafs if goes else nodes_falseleafs)[node]
                node = (nodes_truenodeids if goes else nodes_falsenodeids)[node]
            votes[sample][leaf_targetids[node]].append(weights[node])
    combine = (np.mean, np.sum, np.min, np.max)[aggregate_function]
    scores = np.array([[combine(v) if v else 0.0 for v in row] for row in votes], values.dtype)
    return _transformed(Tensor(scores), post_transform)


def _members(modes: list[int], membership_values) -> dict[int, set]:
    """The sets of the nodes that ask "is it one of": one set a node, separated by nan."""
    groups: list[set] = [set()]
    for value in _list(membership_values) if membership_values is not None else []:
        if value != value:
            groups.append(set())
        else:
            groups[-1].add(value)
    return dict(zip([i for i, m in enumerate(modes) if m == 6], groups, strict=False))


def _transformed(scores, post_transform: int):
    if post_transform == 1:
        return ops.softmax(scores, axis=-1)
    if post_transform == 2:
        return ops.sigmoid(scores)
    if post_transform == 3:                                    # softmax that leaves zeros out
        e = ops.where(scores == 0.0, 0.0, ops.exp(scores))
        return e / ops.sum(e, axis=-1, keepdims=True)
    return scores
