"""Files below `storage/`: the only paths, sealed folders with manifests, tar files, sizes."""
