"""Inference copies of frozen networks: their BatchNorms become part of the convolutions before them."""

import copy
from collections import Counter
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.fx import Graph, Node
from torch.fx.node import Argument
from torch.fx.proxy import GraphAppendingTracer
from torch.nn.utils.fusion import fuse_conv_bn_eval

from kdlib.models.base import Backbone


def folded(backbone: Backbone, dtype: torch.dtype = torch.float32) -> Backbone:
    """A copy in eval mode that computes the same with fewer passes over memory. The original is left as it is.

    A BatchNorm that alone reads a convolution is folded into its weights, in float32, where the network's trace
    shows such a pair; a BatchNorm of a sum, as before the blocks of a wide residual network, stays. The weights of
    convolutions and linear layers are then stored in `dtype`: what autocast would cast them to at every call.
    """
    backbone = copy.deepcopy(backbone).eval().requires_grad_(False)
    for conv, norm in _pairs(backbone):
        pair = cast(nn.Conv2d, backbone.get_submodule(conv)), cast(nn.BatchNorm2d, backbone.get_submodule(norm))
        _replace(backbone, conv, fuse_conv_bn_eval(*pair))
        _replace(backbone, norm, nn.Identity())
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.to(dtype)
    return backbone.eval().to(memory_format=torch.channels_last)


def _pairs(backbone: Backbone) -> list[tuple[str, str]]:
    """Names of each convolution whose output is read by one BatchNorm and by nothing else, and of that BatchNorm.

    None of a network that cannot be traced: one of one's own may branch on what it sees.
    """
    try:
        nodes = _trace(backbone).nodes
    except Exception:  # whatever its forward does with a tensor that has no values
        return []
    everything = list(backbone.named_modules(remove_duplicate=False))
    modules, names = dict(everything), Counter(id(module) for _, module in everything)
    calls = Counter(node.target for node in nodes if node.op == "call_module")

    def only(node: Node, kind: type) -> bool:
        """Whether it is the one call of a module of this kind, which has one name."""
        if node.op != "call_module" or not isinstance(modules[node.target], kind):
            return False
        return calls[node.target] == names[id(modules[node.target])] == 1

    found = []
    for node in nodes:
        if only(node, nn.BatchNorm2d) and modules[node.target].track_running_stats:
            (source,) = node.all_input_nodes
            if only(source, nn.Conv2d) and len(source.users) == 1:
                found.append((source.target, node.target))
    return found


class _Tracer(GraphAppendingTracer):
    """Writes down what is done with values; a weight that meets one is a constant."""

    def create_arg(self, a: Any) -> Argument:
        return None if isinstance(a, Tensor) else super().create_arg(a)


def _trace(backbone: Backbone) -> Graph:
    """The calls of PyTorch's layers, by name, and all that is done with their outputs.

    torch.fx.symbolic_trace patches nn.Module for every thread of the process, so a network that another thread runs
    would be drawn into the trace. Here a copy is called whose layers write themselves down. They hold no weights: a
    network that reads some outside of the layer's call, where a fold would change them, cannot be traced.
    """
    tracer = _Tracer(Graph())
    stand_ins = {id(m): _recording(m, name, tracer) for name, m in backbone.named_modules() if _is_layer(m)}
    traced = copy.deepcopy(backbone, stand_ins)  # its second argument: what to take instead of copying
    outputs = traced(tracer.create_proxy("placeholder", "images", (), {}))
    tracer.create_node("output", "output", (tracer.create_arg(outputs),), {})
    return tracer.graph


def _is_layer(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.nn.") and not list(module.children())


def _recording(layer: nn.Module, name: str, tracer: _Tracer) -> nn.Module:
    """A stand-in for a layer: its class and settings, without weights; a call becomes a node of the trace."""
    layer = copy.copy(layer)
    layer._parameters, layer._buffers = {}, {}
    layer.forward = lambda *args, **kwargs: tracer.create_proxy("call_module", name, args, kwargs)
    return layer


def _replace(root: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(root.get_submodule(parent), child, module)
