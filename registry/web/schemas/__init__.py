"""What clients of the registry's API send, and what they get back: one module for each subject."""

from __future__ import annotations

from registry.web.schemas.aliases import AliasIn, AliasMoveOut, RollbackIn, RuleIn, RuleOut
from registry.web.schemas.bases import (
    BaseImportIn,
    BaseImportOut,
    BaseIn,
    BaseOut,
    BaseUploadIn,
    BaseUploadOut,
    FuseIn,
    PieceSentOut,
    QuantizeIn,
)
from registry.web.schemas.datasets import (
    ChangesOut,
    DatasetIn,
    DatasetOut,
    DatasetTaskOut,
    ExamplesOut,
    HubDatasetIn,
    ReportIn,
    ReportOut,
    UploadIn,
)
from registry.web.schemas.models import ModelChanges, ModelDetail, ModelIn, ModelOut, RemovalOut
from registry.web.schemas.previews import (
    PreviewIn,
    PreviewOut,
    PreviewUploadIn,
    StagedDatasetIn,
)
from registry.web.schemas.storage import DiskUseOut, LeftoverOut, StorageOut, VerifiedOut
from registry.web.schemas.versions import (
    BundleImportOut,
    EvaluationIn,
    ExportIn,
    ExportOut,
    LineageOut,
    NotesIn,
    RunOut,
    VersionOut,
)

__all__ = [
    "AliasIn",
    "AliasMoveOut",
    "BaseImportIn",
    "BaseImportOut",
    "BaseIn",
    "BaseOut",
    "BaseUploadIn",
    "BaseUploadOut",
    "BundleImportOut",
    "ChangesOut",
    "DatasetIn",
    "DatasetOut",
    "DatasetTaskOut",
    "DiskUseOut",
    "EvaluationIn",
    "ExamplesOut",
    "ExportIn",
    "ExportOut",
    "FuseIn",
    "HubDatasetIn",
    "LeftoverOut",
    "LineageOut",
    "ModelChanges",
    "ModelDetail",
    "ModelIn",
    "ModelOut",
    "NotesIn",
    "PieceSentOut",
    "PreviewIn",
    "PreviewOut",
    "PreviewUploadIn",
    "QuantizeIn",
    "RemovalOut",
    "ReportIn",
    "ReportOut",
    "RollbackIn",
    "RuleIn",
    "RuleOut",
    "RunOut",
    "StagedDatasetIn",
    "StorageOut",
    "UploadIn",
    "VerifiedOut",
    "VersionOut",
]
