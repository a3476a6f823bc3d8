"""Kubernetes manifests: known fields only, and what an expiry worker needs of them."""

from __future__ import annotations

import shlex
from typing import Any

import yaml

from tests.docs.blocks import Block
from tests.docs.world import World

#: Fields by the place where they stand; a misspelt one would be ignored by nobody but us.
FIELDS = {
    "Deployment": {"apiVersion", "kind", "metadata", "spec"},
    "Deployment.spec": {"replicas", "selector", "strategy", "minReadySeconds", "template"},
    "Pod.metadata": {"labels", "annotations"},
    "Pod.spec": {
        "automountServiceAccountToken",
        "containers",
        "securityContext",
        "terminationGracePeriodSeconds",
        "topologySpreadConstraints",
    },
    "Pod.securityContext": {"runAsNonRoot", "runAsUser", "runAsGroup", "seccompProfile"},
    "Container": {"name", "image", "command", "envFrom", "readinessProbe", "resources", "securityContext"},
    "Container.securityContext": {"allowPrivilegeEscalation", "capabilities", "readOnlyRootFilesystem"},
    "Probe": {"exec", "initialDelaySeconds", "periodSeconds", "timeoutSeconds", "failureThreshold"},
    "PodDisruptionBudget.spec": {"maxUnavailable", "selector", "unhealthyPodEvictionPolicy"},
}


def run(block: Block, world: World) -> None:
    selectors = []
    for manifest in yaml.safe_load_all(block.code):
        kind = manifest["kind"]
        assert manifest["metadata"]["name"]
        assert kind in ("Deployment", "PodDisruptionBudget"), f"{block.place}: no rule for a {kind}"
        _known(f"{kind}.spec", manifest["spec"], block)
        if kind == "Deployment":
            _deployment(manifest, block, world)
        selectors.append(manifest["spec"]["selector"]["matchLabels"])
    assert all(selector == selectors[0] for selector in selectors), f"{block.place}: they select other pods"


def _deployment(manifest: dict[str, Any], block: Block, world: World) -> None:
    template = manifest["spec"]["template"]
    pod = template["spec"]
    _known("Deployment", manifest, block)
    _known("Pod.metadata", template["metadata"], block)
    _known("Pod.spec", pod, block)
    _known("Pod.securityContext", pod["securityContext"], block)
    assert template["metadata"]["labels"].items() >= manifest["spec"]["selector"]["matchLabels"].items()
    assert manifest["spec"]["replicas"] >= 2
    assert pod["terminationGracePeriodSeconds"] >= 60
    assert pod["securityContext"]["runAsNonRoot"] is True
    [container] = pod["containers"]
    _known("Container", container, block)
    _known("Container.securityContext", container["securityContext"], block)
    assert set(container["resources"]) == {"requests", "limits"}
    assert "livenessProbe" not in container, (
        "one that asks the broker kills every worker when the broker is away"
    )
    _known("Probe", container["readinessProbe"], block)
    world.type(block, shlex.join(container["command"]))
    world.type(block, container["readinessProbe"]["exec"]["command"][-1])


def _known(place: str, found: dict[str, Any], block: Block) -> None:
    assert set(found) <= FIELDS[place], f"{block.place}: {place} has no {set(found) - FIELDS[place]}"
