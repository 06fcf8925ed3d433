"""Which units of a model can be left out together, found by following its forward pass with torch.fx.

::

    graph of operations ─► which tensor axes carry the same units (bundles.py) ─► groups

An operation that needs two axes to agree (a weight reads what another one made, a residual connection adds two) joins
their bundles. What comes in, what goes out and whatever
goes through an unknown operation is *pinned*: none of it is ever left out. So a model that can be followed
only half is made smaller in the half that can, and what is found is right whatever else the model does.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import fx, nn
from torch.nn import functional as F  # noqa: N812 -- as torch's own pages call it

from muster.bundles import Bundle, Bundles
from muster.errors import TaskError
from muster_wire.groups import Groups

REMEDY: Final = (
    "write forward without branches on values, or have the task say itself which units go together (Task.droppable), "
    "or remove spec.compression.federatedDropout"
)

_ELEMENTWISE_MODULES: Final = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh, nn.Sigmoid,
    nn.Softplus, nn.Softsign, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Identity, nn.Dropout, nn.Dropout1d,
    nn.Dropout2d, nn.Dropout3d,
)  # fmt: skip
_POOLING_MODULES: Final = (
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d,
)  # fmt: skip
_CONVOLUTIONS: Final = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS: Final = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_ELEMENTWISE: Final = frozenset(
    {torch.relu, F.relu, F.relu6, F.leaky_relu, F.elu, F.gelu, F.silu, F.mish, torch.tanh, torch.sigmoid, F.tanh,
     F.sigmoid, F.softplus, F.hardswish, F.hardsigmoid, F.dropout, F.dropout2d, "relu", "relu_", "tanh", "sigmoid",
     "contiguous", "clone"}
)  # fmt: skip
_POOLING: Final = frozenset(
    {F.max_pool1d, F.max_pool2d, F.max_pool3d, F.avg_pool1d, F.avg_pool2d, F.avg_pool3d, F.adaptive_avg_pool1d,
     F.adaptive_avg_pool2d, F.adaptive_max_pool2d}
)  # fmt: skip
_COMBINING: Final = frozenset(
    {operator.add, operator.iadd, operator.sub, operator.mul, operator.truediv, torch.add, torch.sub, torch.mul,
     "add", "add_", "sub", "mul"}
)  # fmt: skip
_FLATTENING: Final = frozenset({torch.flatten, "flatten"})
_MEANS: Final = frozenset({torch.mean, "mean"})
_RESHAPING: Final = frozenset({torch.reshape, "view", "reshape"})
_NUMBERS: Final = frozenset({"shape", "device", "dtype", "ndim"})  # attributes that are no tensors


@dataclass(frozen=True, slots=True)
class _Flow:
    """A tensor on its way: what its units are, and where: the second of `rank` axes, or (`last`) the last one."""

    bundle: Bundle
    last: bool
    rank: int | None

    @property
    def is_pinned(self) -> bool:
        return self.bundle.root().pinned

    @property
    def has_channels(self) -> bool:
        """Whether the units are where a convolution looks for them. Where all of them stay, it doesn't matter."""
        return not self.last or self.is_pinned

    @property
    def has_features(self) -> bool:
        return self.last or self.is_pinned


@dataclass(frozen=True, slots=True)
class Traced:
    """What was found, and where the trail was lost, as `encoder.norm (LayerNorm)`."""

    groups: Groups
    lost: tuple[str, ...]


def trace(model: nn.Module) -> Traced:
    """The groups of a model, in the order of its tensors. TaskError if its forward pass can't be followed at all."""
    tracer, graph = _graph_of(model)
    walk = _Walk(model, tracer)
    for node in graph.nodes:
        walk.visit(node)
    return Traced(walk.bundles.groups(), tuple(dict.fromkeys(walk.lost)))


class _Tracer(fx.Tracer):
    """Follows into every module but torch's own, and those that have proved to be opaque."""

    def __init__(self, opaque: frozenset[str]) -> None:
        super().__init__()
        self.opaque = opaque
        self.inside: list[str] = []

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name in self.opaque or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        self.inside.append(self.path_of_module(m))
        answer = super().call_module(m, forward, args, kwargs)
        self.inside.pop()
        return answer


def _graph_of(model: nn.Module) -> tuple[_Tracer, fx.Graph]:
    """A module in which following fails is taken as a whole; if that is the model itself, there is no graph."""
    opaque: frozenset[str] = frozenset()
    while True:
        tracer = _Tracer(opaque)
        try:
            return tracer, tracer.trace(model)
        except Exception as error:  # whatever a user's forward raises when it is given a placeholder
            if not tracer.inside:
                what = f"{type(model).__name__}.forward can't be followed ({str(error).splitlines()[0]})"
                raise TaskError(f"federated dropout: {what}: {REMEDY}") from error
            opaque |= {tracer.inside[-1]}


class _Walk:
    """Goes through the graph once, in its order."""

    def __init__(self, model: nn.Module, tracer: _Tracer) -> None:
        self._modules = dict(model.named_modules())
        self._opaque = tracer.opaque
        self.bundles = Bundles(model)
        self._flows: dict[fx.Node, _Flow | None] = {}
        self.lost: list[str] = []

    def visit(self, node: fx.Node) -> None:
        """Find out what this node gives."""
        match node.op:
            case "call_module":
                self._flows[node] = self._through_module(node, self._modules[str(node.target)])
            case "call_function" | "call_method":
                self._flows[node] = self._through(node, node.target)
            case "output":
                self._pin_inputs(node)
            case "get_attr":  # a parameter that is used without a module
                self.bundles.pin([operator.attrgetter(str(node.target))(self._modules[""])])
                self._flows[node] = _unknown()
            case _:  # what comes in
                self._flows[node] = _unknown()

    # --- modules ------------------------------------------------------------------------------------------------------

    def _through_module(self, node: fx.Node, module: nn.Module) -> _Flow | None:
        flow = self._input(node)
        kind = type(module)  # exactly: a subclass may do anything
        if flow is None or str(node.target) in self._opaque:
            return self._give_up(node, module)
        if kind in _ELEMENTWISE_MODULES:
            return flow
        if kind in _POOLING_MODULES and flow.has_channels:
            return flow
        if kind is nn.Flatten:
            return self._flattened(node, flow, module.start_dim, module.end_dim)
        if kind in (nn.Linear, *_CONVOLUTIONS, *_NORMS):
            return self._through_weights(node, flow, module)
        return self._give_up(node, module)

    def _through_weights(self, node: fx.Node, flow: _Flow, module: Any) -> _Flow | None:
        if isinstance(module, nn.Linear):
            made = flow.has_features
            return self._made(flow, module, last=True, rank=flow.rank) if made else self._give_up(node, module)
        if isinstance(module, _CONVOLUTIONS):
            return self._convolved(node, flow, module)
        if flow.last and flow.rank not in (None, 2) and not flow.is_pinned:
            return self._give_up(node, module)
        for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
            self.bundles.attach(tensor, 0, flow.bundle)
        return flow

    def _convolved(self, node: fx.Node, flow: _Flow, module: Any) -> _Flow | None:
        rank = module.weight.dim()
        if module.groups == 1 and flow.has_channels:
            return self._made(flow, module, last=False, rank=rank)
        if module.groups == module.in_channels == module.out_channels and flow.has_channels:
            self.bundles.attach(module.weight, 0, flow.bundle)
            self.bundles.attach(module.bias, 0, flow.bundle)
            return _Flow(flow.bundle, last=False, rank=rank)
        return self._give_up(node, module)

    def _made(self, flow: _Flow, module: Any, *, last: bool, rank: int | None) -> _Flow:
        """New units out of others: the weight's rows make them, its columns read."""
        self.bundles.attach(module.weight, 1, flow.bundle)
        made = Bundle(module.weight.shape[0])
        self.bundles.attach(module.weight, 0, made)
        self.bundles.attach(module.bias, 0, made)
        return _Flow(made, last, rank)

    # --- functions and methods ----------------------------------------------------------------------------------------

    def _through(self, node: fx.Node, target: Any) -> _Flow | None:
        flow = self._input(node)
        if target in _COMBINING:
            return self._combined(node)
        if _is_number(node, flow):
            return None
        if flow is None:
            return self._give_up(node)
        if target in _ELEMENTWISE or (target in _POOLING and flow.has_channels):
            return flow
        return self._reshaped(node, flow, target)

    def _reshaped(self, node: fx.Node, flow: _Flow, target: Any) -> _Flow | None:
        if target in _FLATTENING:
            dims = {"start_dim": 0, "end_dim": -1, **_named(node, "start_dim", "end_dim")}
            return self._flattened(node, flow, dims["start_dim"], dims["end_dim"])
        if target in _RESHAPING and _keeps_batch(node):
            return self._flattened(node, flow, 1, -1)
        if target in _MEANS and not flow.last and flow.rank and _is_spatial(node, flow.rank):
            return _Flow(flow.bundle, last=True, rank=2)
        return self._give_up(node)

    def _flattened(self, node: fx.Node, flow: _Flow, start: Any, end: Any) -> _Flow | None:
        """Each channel becomes as many neighbours as it had places. Of features in more than two axes it wouldn't."""
        if (start, end) == (1, -1) and (flow.has_channels or flow.rank == 2):
            return _Flow(flow.bundle, last=True, rank=2)
        return self._give_up(node)

    def _combined(self, node: fx.Node) -> _Flow | None:
        """Element by element: the same units on both sides, or a number."""
        nodes = [each for each in node.args if isinstance(each, fx.Node)]
        flows = [flow for flow in map(self._flows.get, nodes) if flow is not None]
        if not flows or len(flows) < len(nodes) or len({(flow.last, flow.rank) for flow in flows}) > 1:
            return self._give_up(node)
        for other in flows[1:]:
            self.bundles.join(flows[0].bundle, other.bundle)
        return flows[0]

    # --- where the trail ends -----------------------------------------------------------------------------------------

    def _input(self, node: fx.Node) -> _Flow | None:
        first = node.args[0] if node.args else None
        return self._flows.get(first) if isinstance(first, fx.Node) else None

    def _give_up(self, node: fx.Node, module: nn.Module | None = None) -> _Flow:
        """Nothing is known of this operation: all that goes in stays whole, and so does what it works with."""
        name = getattr(node.target, "__name__", str(node.target))
        self.lost.append(f"{name} ({type(module).__name__})" if module is not None else name)
        self._pin_inputs(node)
        self.bundles.pin(module.state_dict(keep_vars=True).values() if module is not None else ())
        return _unknown()

    def _pin_inputs(self, node: fx.Node) -> None:
        for each in node.all_input_nodes:
            flow = self._flows.get(each)
            if flow is not None:
                flow.bundle.root().pinned = True


def _unknown() -> _Flow:
    """A tensor of which nothing is known, so that nothing of it is left out."""
    return _Flow(Bundle(None, pinned=True), last=True, rank=None)


def _is_number(node: fx.Node, flow: _Flow | None) -> bool:
    """Whether this is a tensor's size or kind, or taken from one, and no tensor."""
    if node.target is getattr:
        return node.args[1] in _NUMBERS
    return node.target in ("size", "dim") or (node.target is operator.getitem and flow is None)


def _named(node: fx.Node, *names: str) -> dict[str, Any]:
    """The arguments after the first, by these names."""
    return dict(zip(names, node.args[1:], strict=False)) | dict(node.kwargs)


def _keeps_batch(node: fx.Node) -> bool:
    """Whether a reshaping is to (the number of examples, all the rest)."""
    wanted = node.args[1] if len(node.args) == 2 else node.args[1:]
    if not isinstance(wanted, list | tuple) or len(wanted) != 2 or wanted[1] != -1:
        return False
    batch = wanted[0]
    return isinstance(batch, fx.Node) and batch.target in ("size", operator.getitem) and batch.args[1:] == (0,)


def _is_spatial(node: fx.Node, rank: int) -> bool:
    """Whether a mean is over all axes but the first two, which then are all that is left."""
    named = _named(node, "dim", "keepdim")
    dims = named.get("dim")
    axes = (dims,) if isinstance(dims, int) else dims
    if not isinstance(axes, list | tuple) or named.get("keepdim"):
        return False
    return {axis % rank for axis in axes} == set(range(2, rank))
