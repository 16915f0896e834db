"""One file that carries a version to another hub: written, read and verified, imported in a child."""
