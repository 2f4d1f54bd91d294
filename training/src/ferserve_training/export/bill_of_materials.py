"""Describes a version as a CycloneDX bill of materials with a model card (ML-BOM), from its manifest.

Specification: CycloneDX 1.6, https://cyclonedx.org/docs/1.6/json/, `components[].modelCard`. The library for
CycloneDX knows no model cards, so that the document is put together here; a test validates it by its schema.
"""

import hashlib
import uuid
from pathlib import Path
from typing import Any

from ferserve_training.export.manifest import MANIFEST_PATH, read_manifest

_INTERVALS = ("_low_95", "_high_95")
"""Suffixes of the metrics that bound another one."""


def bill_of_materials_of(folder: Path) -> dict[str, Any]:
    """Put a version's bill of materials together, ready for JSON. The same version gives the same document.

    Args:
        folder: Of the version.

    Raises:
        RunError: The folder holds no exported version.
    """
    manifest = read_manifest(folder)
    manifest_sum = hashlib.sha256((folder / MANIFEST_PATH).read_bytes()).hexdigest()
    reference = f"{manifest['name']}@{manifest['version']}"
    training = manifest["training"]
    dataset = f"data of {reference}"
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, manifest_sum)}",
        "version": 1,
        "metadata": {
            **({"timestamp": manifest["created_time"]} if "created_time" in manifest else {}),
            "component": {
                "type": "machine-learning-model",
                "bom-ref": reference,
                "name": manifest["name"],
                "version": str(manifest["version"]),
                "description": "Classifies the apparent expression of a face.",
                "modelCard": _model_card(manifest, dataset),
                "properties": _properties(manifest),
            },
        },
        "components": [
            {
                "type": "data",
                "bom-ref": dataset,
                "name": "training data",
                "hashes": [{"alg": "SHA-256", "content": training["data_sha256"]}],
                "data": [{"type": "dataset", "name": "training data"}],
            },
            *_sources(manifest),
            *(
                {
                    "type": "file",
                    "bom-ref": f"{reference}/{name}",
                    "name": name,
                    "hashes": [{"alg": "SHA-256", "content": digest}],
                }
                for name, digest in sorted({**manifest["files"], MANIFEST_PATH: manifest_sum}.items())
            ),
        ],
        "dependencies": [
            {"ref": reference, "dependsOn": [dataset, *(each["bom-ref"] for each in _sources(manifest))]}
        ],
    }


def _model_card(manifest: dict[str, Any], dataset: str) -> dict[str, Any]:
    metrics: dict[str, float] = manifest.get("metrics", {})
    return {
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": "classification",
            "architectureFamily": "convolutional neural network",
            "modelArchitecture": manifest["training"]["recipe"],
            "datasets": [{"ref": dataset}],
            "inputs": [{"format": _input_format(manifest["input"])}],
            "outputs": [{"format": f"float32 [N, {len(manifest['labels'])}]: {', '.join(manifest['labels'])}"}],
        },
        "quantitativeAnalysis": {
            "performanceMetrics": [
                _performance_metric(name, value, metrics)
                for name, value in metrics.items()
                if not name.endswith(_INTERVALS)
            ]
        },
        "considerations": {
            "technicalLimitations": [
                "Labels are apparent expressions, not felt emotions.",
                f"The figures were measured so: {manifest['training']['evaluation']}.",
            ],
            "ethicalConsiderations": [
                {
                    "name": "Decisions about people, such as at work and in education",
                    "mitigationStrategy": "Do not use it for these; Art. 5(1)(f) of the EU's AI Act forbids them.",
                }
            ],
        },
    }


def _performance_metric(name: str, value: float, metrics: dict[str, float]) -> dict[str, Any]:
    low, high = (metrics.get(name + suffix) for suffix in _INTERVALS)
    if low is None or high is None:
        return {"type": name, "value": repr(value)}
    bounds = {"lowerBound": repr(low), "upperBound": repr(high)}
    return {"type": name, "value": repr(value), "confidenceInterval": bounds}


def _input_format(taken: dict[str, Any]) -> str:
    return f"{taken['dtype']} [N, {taken['height']}, {taken['width']}, {taken['channels']}], grey levels 0-255"


def _properties(manifest: dict[str, Any]) -> list[dict[str, str]]:
    """List the facts that the schema has no fields for."""
    training = manifest["training"]
    facts = {
        "mac_count": manifest["mac_count"],
        "parameter_count": manifest["parameter_count"],
        "temperature": manifest["temperature"],
        "precision": manifest.get("precision", "float32"),
        "framework": training["framework"],
        "seed": training["seed"],
        "epochs": training["epochs"],
        "train_count": training["train_count"],
    }
    return [{"name": f"ferserve:{name}", "value": str(value)} for name, value in facts.items()]


def _sources(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """List the versions that a merged or quantized one was made of."""
    quantized = manifest.get("quantized")
    sources = [*manifest.get("merged", []), *([quantized] if quantized else [])]
    return [
        {
            "type": "machine-learning-model",
            "bom-ref": f"{source['name']}@{source['version']}",
            "name": source["name"],
            "version": str(source["version"]),
            "hashes": [{"alg": "SHA-256", "content": source["manifest_sha256"]}],
        }
        for source in sources
    ]
