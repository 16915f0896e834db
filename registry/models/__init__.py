"""Base models, models, versions, aliases and data sets: what exists and where it came from."""

from __future__ import annotations

from registry.models.aliases import Alias, AliasMove, PromotionRule
from registry.models.audit import AuditEntry
from registry.models.bases import BaseImport, BaseModel
from registry.models.bundle_imports import BundleImport
from registry.models.constraints import SHA256_PATTERN
from registry.models.dataset_tasks import DatasetTask
from registry.models.datasets import Dataset, DatasetReport
from registry.models.export_tasks import ExportTask
from registry.models.models import Model
from registry.models.outbox import MLflowOutbox
from registry.models.versions import ModelVersion, ModelVersionQuerySet

__all__ = [
    "SHA256_PATTERN",
    "Alias",
    "AliasMove",
    "AuditEntry",
    "BaseImport",
    "BaseModel",
    "BundleImport",
    "Dataset",
    "DatasetReport",
    "DatasetTask",
    "ExportTask",
    "MLflowOutbox",
    "Model",
    "ModelVersion",
    "ModelVersionQuerySet",
    "PromotionRule",
]
