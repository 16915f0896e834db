"""Large bundles, imported by a child of the web process.

What is small is imported at once. Anything else is a row of `BundleImport`, which is completed in
the transaction that makes the version: whatever is killed and retried, a bundle becomes one
version or none.
"""

from __future__ import annotations

import shutil

from django.core.files.uploadedfile import UploadedFile

from registry.background import work
from registry.bundles import reader, uploads
from registry.models import BundleImport, ModelVersion
from registry.storage import paths

AT_ONCE = 32 << 20
"""Bytes that are verified and written while a person waits: a second."""


def start_upload(
    file: UploadedFile[bytes], model_name: str = "", base_name: str = "", number: str = ""
) -> ModelVersion | BundleImport:
    """Import an uploaded bundle: at once when it is small, else the task that does.

    Raises what `import_bundle_upload` raises, as far as the start of the bundle shows, and Conflict
    when the same version is on its way to the same model already.
    """
    if (file.size or 0) <= AT_ONCE:
        return uploads.import_bundle_upload(file, model_name, base_name, number)
    with uploads.blaming_the_client(), uploads.from_its_beginning(file) as content:
        model, own = reader.foresee(content, model_name, base_name, number)
    folder = uploads.save_bundle(file)
    task = BundleImport(
        name=f"{model}@{own}",
        source=(file.name or "")[:500],
        options={"upload": folder.name, "model": model_name, "base": base_name, "number": number},
    )
    try:
        work.add(task)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return work.launch(task)


def run(task: BundleImport) -> ModelVersion:
    """Do the work of a running task. Raises what went wrong after the row says it, too."""
    options = task.options
    with (
        work.doing(task) as progress,
        uploads.blaming_the_client(),
        (paths.upload_dir(task.upload) / uploads.BUNDLE).open("rb") as file,
    ):
        return reader.take_bundle(
            file,
            options["model"],
            options["base"],
            options["number"],
            progress=progress,
            purpose=work.staging(task),
            kept=lambda version: task.complete(version=version),
        )
