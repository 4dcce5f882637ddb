"""What a consumer's own classes make of a bundle, into a file: read.py CONSUMER DIR OUT.

Run in a process of its own, with the consumer on PYTHONPATH, as two versions of one can't be in one process.
"""

from __future__ import annotations

import sys
from pathlib import Path

from safetensors.torch import save_file

from rank_search.export import installed
from rank_search.export.manifest import Manifest
from rank_search.export.probe import load_base
from rank_search.export.rules import Refused
from tests.consumers.stand_ins import stand_in_for

consumer, folder, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
base = Manifest.read(folder).base
loaded = load_base(base.located(trust_remote_code=False), base.auto_class, base.classes)
if consumer == "sglang":
    stand_in_for("torchvision")
try:
    reading = getattr(installed, consumer)(folder, loaded)
except Refused as refusal:
    print(f"refused: {refusal}")
    sys.exit()
changes = {name: (scale * (b.float() @ a.float())).contiguous() for name, (a, b, scale) in reading.updates.items()}
save_file({**changes, **{f"whole {name}": of.contiguous() for name, of in reading.replaced.items()}}, out)
