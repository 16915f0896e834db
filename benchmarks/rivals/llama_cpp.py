"""llama.cpp's own server, which xllamacpp has as a library: `python llama_cpp.py GGUF PORT CHATS`.

The interpreter is xllamacpp's. It answers so many chats at once, each of up to 2,048 tokens.
"""

import os
import sys
import threading
from importlib import import_module
from typing import Any

launch: Any = import_module("launch")  # beside this program


def main() -> None:
    launch.end_with_parent()
    sys.path.pop(0)  # this folder
    xllamacpp: Any = import_module("xllamacpp")
    file, port, chats = sys.argv[1:]
    told = xllamacpp.CommonParams()
    told.model.path = file
    told.model_alias = {"m"}
    told.hostnames, told.port = ["127.0.0.1"], int(port)
    told.n_parallel = int(chats)
    told.n_ctx = 2048 * int(chats)
    told.ui = False
    told.cpuparams.n_threads = told.cpuparams_batch.n_threads = os.cpu_count()
    server = xllamacpp.Server(told)
    print(server.listening_address, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
