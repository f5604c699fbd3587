"""ComfyUI's graph in a picture, walked from the picture back to its noise.

A picture carries the graph that was run as JSON: nodes by id, each with its class and its inputs,
where an input `[id, output]` is another node's output. Anybody may write nodes, so that what is not
one of ComfyUI's own is named, never guessed. Names and meanings are those of its code (`nodes.py`,
`comfy/samplers.py`, `comfy/sample.py`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SAMPLERS = ("KSampler", "KSamplerAdvanced")
_TEXTS = ("text", "text_g", "string", "value", "prompt")
"""Inputs that hold a text, in nodes that hold one."""
_NUMBERS = ("seed", "noise_seed", "value", "int", "float", "number")
_SAVES = ("SaveImage", "PreviewImage")
_CONDITIONS = ("conditioning", "conditioning_1", "conditioning_2", "conditioning_to")


@dataclass(frozen=True, kw_only=True)
class Node:
    kind: str
    inputs: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """What one sampler node was given."""

    values: Mapping[str, Any]
    """Its numbers and names, by the node's own names for them."""
    prompt: str = ""
    negative_prompt: str = ""
    width: Any = None
    height: Any = None
    pictures: Any = 1
    """In its batch."""
    checkpoint: str = ""
    last_layer: Any = None
    """-1 for the text encoder's last one."""
    others: tuple[tuple[str, str], ...] = field(default=())
    """Further nodes that the picture came through, by class, with their own words."""


def nodes_of(plain: Any) -> dict[str, Node]:
    """The graph's nodes by id. Raises ValueError where it is no graph."""
    found = {}
    for name, node in plain.items() if isinstance(plain, Mapping) else ():
        if isinstance(node, Mapping) and isinstance(node.get("inputs"), Mapping):
            found[str(name)] = Node(kind=str(node.get("class_type", "")), inputs=node["inputs"])
    if not found:
        raise ValueError("The picture's ComfyUI graph is damaged: it holds no nodes.")
    return found


def sampling(nodes: Mapping[str, Node]) -> Sampling:
    """The sampler that began from empty latents, and what leads to it and from it.

    Raises ValueError with one sentence where the picture came from none that is understood.
    """
    graph = _Graph(nodes)
    reached = graph.before(graph.ends())
    samplers = [name for name in reached if nodes[name].kind in SAMPLERS]
    if not samplers:
        kinds = ", ".join(sorted({nodes[name].kind[:40] for name in reached})[:8])
        raise ValueError(
            f"The picture's ComfyUI graph has no {' or '.join(SAMPLERS)} that leads to a picture, "
            f"and other samplers are not read here (it has {kinds})."
        )
    # From the picture backwards, the last sampler is the one that began.
    first = samplers[-1]
    inputs = nodes[first].inputs
    used = {first}
    prompt = graph.text(inputs.get("positive"), used)
    negative = graph.text(inputs.get("negative"), used)
    latents = graph.nearest(inputs.get("latent_image"), "EmptyLatentImage", used)
    checkpoint = graph.nearest(inputs.get("model"), "CheckpointLoaderSimple", used)
    layer = graph.nearest(inputs.get("positive"), "CLIPSetLastLayer", used)
    decoding = {name for name in reached if nodes[name].kind in (*_SAVES, "VAEDecode")}
    seen = {**_scalars(inputs), "seed": graph.scalar(inputs, "seed", "noise_seed")}
    for key in ("steps", "cfg", "denoise", "sampler_name", "scheduler"):
        seen[key] = graph.scalar(inputs, key)
    return Sampling(
        values=seen,
        prompt=prompt,
        negative_prompt=negative,
        width=latents and graph.scalar(latents, "width"),
        height=latents and graph.scalar(latents, "height"),
        pictures=latents and graph.scalar(latents, "batch_size"),
        checkpoint=str((checkpoint or {}).get("ckpt_name", "")),
        last_layer=layer and graph.scalar(layer, "stop_at_clip_layer"),
        others=tuple(
            (nodes[name].kind, _told(nodes[name]))
            for name in reached
            if name not in used | decoding | graph.primitives
        ),
    )


class _Graph:
    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self._nodes = nodes
        self.primitives: set[str] = set()
        """Nodes that gave one number or text to another."""

    def ends(self) -> list[str]:
        """Where pictures leave the graph; every last node where none of ComfyUI's own saves."""
        saves = [name for name, node in self._nodes.items() if node.kind in _SAVES]
        if saves:
            return saves
        linked = {to for node in self._nodes.values() for to in _links(node.inputs)}
        return [name for name in self._nodes if name not in linked]

    def before(self, names: Sequence[str]) -> list[str]:
        """These nodes and all that lead to them, the nearest first; a circle ends."""
        found = dict.fromkeys(name for name in names if name in self._nodes)
        waiting = list(found)
        while waiting:
            for to in _links(self._nodes[waiting.pop(0)].inputs):
                if to in self._nodes and to not in found:
                    found[to] = None
                    waiting.append(to)
        return list(found)

    def nearest(self, link: Any, kind: str, used: set[str]) -> Mapping[str, Any] | None:
        """Inputs of the nearest node of a class behind a link."""
        for name in self.before([*_links({"": link})]):
            if self._nodes[name].kind == kind:
                used.add(name)
                return self._nodes[name].inputs
        return None

    def text(self, link: Any, used: set[str]) -> str:
        """The nearest text behind a conditioning, by way of conditionings only."""
        waiting, seen = [*_links({"": link})], set[str]()
        while waiting:
            name = waiting.pop(0)
            if name in seen or name not in self._nodes:
                continue
            seen.add(name)
            inputs = self._nodes[name].inputs
            text = self.scalar(inputs, *_TEXTS)
            if isinstance(text, str):
                used.add(name)
                return text
            along = {key: inputs[key] for key in _CONDITIONS if key in inputs}
            waiting += _links(along or inputs)
        return ""

    def scalar(self, inputs: Mapping[str, Any], *keys: str) -> Any:
        """The first of these inputs that is there; one node further where it is a link."""
        for key in keys:
            value = inputs.get(key)
            if isinstance(value, list):
                for name in _links({"": value}):
                    behind = self._nodes[name].inputs if name in self._nodes else {}
                    for known in (key, *(_TEXTS if key in _TEXTS else _NUMBERS)):
                        if isinstance(behind.get(known), str | int | float):
                            self.primitives.add(name)
                            return behind[known]
            elif value is not None:
                return value
        return None


def _links(inputs: Mapping[str, Any]) -> Iterator[str]:
    """Ids of the nodes that inputs come from."""
    for value in inputs.values():
        if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str | int):
            yield str(value[0])


def _scalars(inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {key: v for key, v in inputs.items() if isinstance(v, str | int | float)}


def _told(node: Node) -> str:
    return ", ".join(f"{key} {value}" for key, value in _scalars(node.inputs).items())
