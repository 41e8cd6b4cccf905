"""A model as a list of layers with compressed tensors: what every mapper and estimator reads."""

from .graph import OPS, Graph, Layer
from .grouped import GroupedForm, GroupedWeight
from .nodes import Node, Nodes, Value
from .weights import StoredWeight, TernaryWeight

__all__ = ["OPS", "Graph", "GroupedForm", "GroupedWeight", "Layer", "Node", "Nodes", "StoredWeight", "TernaryWeight", "Value"]
