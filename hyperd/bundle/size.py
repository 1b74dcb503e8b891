"""How large the machine of a pod has to be for its containers. runv adds what the guest itself takes."""

import math

from hyperd.spec import Container, EmptyDir, Pod, Resources

# For a container that says nothing.
_UNSAID = 64 << 20


def memory_of(pod: Pod) -> int:
    """Bytes: what runs at the same time, and the tmpfs volumes with a size."""
    sidecars = steps = 0
    for each in pod.init_containers:
        if each.restart == "always":
            sidecars += _memory(each.resources)
        else:
            steps = max(steps, sidecars + _memory(each.resources))
    together = sidecars + sum(_memory(each.resources) for each in pod.containers)
    volumes = sum(v.source.size for v in pod.volumes if isinstance(v.source, EmptyDir) and v.source.medium == "memory")
    return max(together, steps) + volumes


def cpus_of(pod: Pod) -> int:
    """Virtual CPUs; 0 when nobody says how many."""
    beside = [each for each in pod.init_containers if each.restart == "always"]
    together = sum(_cpus(each) for each in [*pod.containers, *beside])
    return math.ceil(max([together, *(_cpus(each) for each in pod.init_containers)]))


def _memory(resources: Resources) -> int:
    return resources.memory or resources.request_memory or _UNSAID


def _cpus(container: Container) -> float:
    return container.resources.cpus or container.resources.request_cpus
