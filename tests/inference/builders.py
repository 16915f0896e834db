"""A base model and versions with real files, made with the fake backend."""

from pathlib import Path

from backends.fake import FakeBackend
from inference.protocol import Folder
from registry.bases import registration
from registry.models import BaseModel, Model, ModelVersion
from registry.storage import artifacts, paths


def make_base(name: str = "tiny") -> BaseModel:
    source = paths.staging_dir("gguf") / "tiny.gguf"
    source.write_bytes(b"GGUF" + name.encode())
    return registration.register_base(name, BaseModel.Source.GGUF, str(source))


def make_version(
    base: BaseModel, name: str = "calendar", version: str = "0.1.0", weights: bytes = b"one"
) -> ModelVersion:
    """A ready version whose adapter the fake backend can read."""
    model, _ = Model.objects.get_or_create(name=name, defaults={"base_model": base})
    target = paths.version_dir(name, version)
    manifest = artifacts.publish(make_adapter(weights), target)
    return ModelVersion.objects.create(
        model=model,
        version=version,
        base_model=base,
        status=ModelVersion.Status.READY,
        artifact_path=paths.relative(target),
        manifest_sha256=manifest.sha256,
    )


def make_adapter(weights: bytes) -> Path:
    staging = paths.staging_dir("adapter")
    (staging / "adapters.safetensors").write_bytes(weights)
    (staging / "adapter_config.json").write_text("{}")
    return staging


def make_base_folder(name: str = "tiny", weights: bytes = b"") -> Folder:
    """A base model's folder alone, without a row."""
    source = paths.staging_dir("gguf") / "tiny.gguf"
    source.write_bytes(b"GGUF" + name.encode() + weights)
    staging = paths.staging_dir("base")
    FakeBackend().import_gguf(source, staging)
    manifest = artifacts.publish(staging, paths.base_dir(name))
    return Folder(path=paths.relative(paths.base_dir(name)), manifest_sha256=manifest.sha256)


def make_adapter_folder(weights: bytes = b"one", version: str = "0.1.0") -> Folder:
    target = paths.version_dir("calendar", version)
    manifest = artifacts.publish(make_adapter(weights), target)
    return Folder(path=paths.relative(target), manifest_sha256=manifest.sha256)
